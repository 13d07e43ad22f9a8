//! What a profile is.

/// What happens with a call (seccomp(2), `SECCOMP_RET_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It is made.
    Allow,
    /// It is made, and the kernel's log says so.
    Log,
    /// It is not made and fails with this errno, at most 4095.
    Errno(u16),
    /// A tracer decides; without one it fails with ENOSYS. The number is for the tracer.
    Trace(u16),
    /// It is not made and the thread gets SIGSYS.
    Trap,
    /// The thread ends.
    KillThread,
    /// The process ends, as by SIGSYS.
    KillProcess,
}

impl Action {
    /// `EPERM`.
    pub const DENY: Action = Action::Errno(libc::EPERM as u16);
    /// `ENOSYS`, as a kernel answers that does not have the call; C libraries then try an older one.
    pub const UNKNOWN: Action = Action::Errno(libc::ENOSYS as u16);

    /// Whether the call may be made.
    pub fn allows(self) -> bool {
        matches!(self, Action::Allow | Action::Log | Action::Trace(_))
    }
}

/// How an argument is compared; all 64 bits count, without a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Equal.
    Eq,
    /// Greater or equal.
    Ge,
    /// Greater.
    Gt,
    /// Equal in the bits of this mask.
    MaskedEq(u64),
}

/// One condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub argument: u8,
    /// How it is compared.
    pub compare: Compare,
    /// With what.
    pub value: u64,
}

impl Condition {
    /// The lower half of an argument is `value`. Most arguments are of 32 bits, and the kernel drops
    /// what stands above them: a condition on all 64 could be got round.
    pub const fn lower_half(argument: u8, value: u32) -> Condition {
        Condition { argument, compare: Compare::MaskedEq(u32::MAX as u64), value: value as u64 }
    }

    /// Whether the arguments meet it. An argument beyond the sixth never does.
    pub fn holds(&self, arguments: &[u64; 6]) -> bool {
        let Some(&argument) = arguments.get(usize::from(self.argument)) else { return false };
        match self.compare {
            Compare::Ne => argument != self.value,
            Compare::Lt => argument < self.value,
            Compare::Le => argument <= self.value,
            Compare::Eq => argument == self.value,
            Compare::Ge => argument >= self.value,
            Compare::Gt => argument > self.value,
            Compare::MaskedEq(mask) => argument & mask == self.value & mask,
        }
    }
}

/// What happens with some calls, on some conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The calls, by number.
    pub calls: Vec<u32>,
    /// What happens with them.
    pub action: Action,
    /// All of these must hold; none: always.
    pub conditions: Vec<Condition>,
}

/// What happens with every call of x86-64. Calls of other architectures end the process, those of
/// the x32 interface are unknown (`ENOSYS`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// What happens where no rule says anything.
    pub default: Action,
    /// Calls above this one that no rule names are unknown (`ENOSYS`): the profile is older than
    /// they are, and a C library that tries them has another way. `None`: they get the default.
    pub newest: Option<u32>,
    /// The first rule that names the call and whose conditions hold counts.
    pub rules: Vec<Rule>,
    /// For `seccomp(2)`: `SECCOMP_FILTER_FLAG_LOG` and `_SPEC_ALLOW`.
    pub flags: u32,
}

/// Call numbers from here on are those of x32 (`__X32_SYSCALL_BIT`), or negative.
pub(super) const X32: u32 = 0x4000_0000;

impl Profile {
    /// What happens with a call that no rule names.
    pub(super) fn unnamed(&self, call: u32) -> Action {
        if call >= X32 || self.newest.is_some_and(|newest| call > newest) {
            Action::UNKNOWN
        } else {
            self.default
        }
    }

    /// What happens with a call of x86-64.
    pub fn judge(&self, call: u32, arguments: &[u64; 6]) -> Action {
        let rule = self.rules.iter().filter(|_| call < X32).find(|rule| {
            rule.calls.contains(&call) && rule.conditions.iter().all(|c| c.holds(arguments))
        });
        rule.map_or_else(|| self.unnamed(call), |rule| rule.action)
    }

    /// Whether there are arguments with which the call may be made. (It takes each condition for one
    /// that can be met.)
    pub fn may_allow(&self, call: u32) -> bool {
        for rule in self.rules.iter().filter(|rule| rule.calls.contains(&call)) {
            if rule.action.allows() {
                return true;
            }
            if rule.conditions.is_empty() {
                return false;
            }
        }
        self.unnamed(call).allows()
    }
}
