//! Profiles: the action for each system call.

/// The action for a call (seccomp(2), `SECCOMP_RET_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The call is executed.
    Allow,
    /// The call is executed and logged by the kernel.
    Log,
    /// The call fails with this errno, at most 4095.
    Errno(u16),
    /// A tracer decides; without one the call fails with ENOSYS. The number is passed to the
    /// tracer.
    Trace(u16),
    /// The thread receives SIGSYS instead.
    Trap,
    /// The thread is killed.
    KillThread,
    /// The process is killed, as by SIGSYS.
    KillProcess,
}

impl Action {
    /// `EPERM`.
    pub const DENY: Action = Action::Errno(libc::EPERM as u16);
    /// `ENOSYS`, as on a kernel that does not have the call; C libraries then try an older one.
    pub const UNKNOWN: Action = Action::Errno(libc::ENOSYS as u16);

    /// Whether the call can be executed.
    pub fn allows(self) -> bool {
        matches!(self, Action::Allow | Action::Log | Action::Trace(_))
    }
}

/// How an argument is compared: all 64 bits, unsigned.
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
    /// Equal under this mask.
    MaskedEq(u64),
}

/// A condition on an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// The argument, 0 to 5.
    pub argument: u8,
    /// The comparison.
    pub compare: Compare,
    /// The value to compare with.
    pub value: u64,
}

impl Condition {
    /// The lower half of an argument equals `value`. The kernel ignores the upper half of most
    /// arguments, so a condition on all 64 bits could be bypassed.
    pub const fn lower_half(argument: u8, value: u32) -> Condition {
        Condition { argument, compare: Compare::MaskedEq(u32::MAX as u64), value: value as u64 }
    }

    /// Whether the arguments meet the condition; always false for an argument beyond the sixth.
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

/// An action for some calls, under some conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The calls, by number.
    pub calls: Vec<u32>,
    /// The action.
    pub action: Action,
    /// All of these must hold; empty: always.
    pub conditions: Vec<Condition>,
}

/// The action for every x86-64 system call. Calls of other architectures kill the process; those of
/// the x32 ABI fail with `ENOSYS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The action if no rule applies.
    pub default: Action,
    /// Calls above this number that no rule names fail with `ENOSYS`: they are newer than the
    /// profile, and C libraries have a fallback for them. `None`: they get the default action.
    pub newest: Option<u32>,
    /// The first rule that names the call and whose conditions hold applies.
    pub rules: Vec<Rule>,
    /// Flags for `seccomp(2)`: `SECCOMP_FILTER_FLAG_LOG` and `_SPEC_ALLOW`.
    pub flags: u32,
}

/// Call numbers from here on belong to x32 (`__X32_SYSCALL_BIT`), or are negative.
pub(super) const X32: u32 = 0x4000_0000;

impl Profile {
    /// The action for a call that no rule names.
    pub(super) fn unnamed(&self, call: u32) -> Action {
        if call >= X32 || self.newest.is_some_and(|newest| call > newest) {
            Action::UNKNOWN
        } else {
            self.default
        }
    }

    /// The action for an x86-64 call with these arguments.
    pub fn evaluate(&self, call: u32, arguments: &[u64; 6]) -> Action {
        let rule = self.rules.iter().filter(|_| call < X32).find(|rule| {
            rule.calls.contains(&call) && rule.conditions.iter().all(|c| c.holds(arguments))
        });
        rule.map_or_else(|| self.unnamed(call), |rule| rule.action)
    }

    /// Whether some arguments may allow the call, assuming that each condition can be met.
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
