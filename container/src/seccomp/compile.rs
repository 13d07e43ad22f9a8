//! From a profile to a program of classic BPF (kernel `Documentation/networking/filter.rst`).
//!
//! The program loads the call's number and finds its range by halving. A range is a run of calls with
//! which the same happens; its leaf is a single `return`, or tests of arguments and several. Both
//! halves of a search follow each other in memory, so a jump over the first may be longer than the
//! 255 instructions that a conditional one reaches: it then goes by an unconditional one.

use super::names;
use super::profile::{Action, Compare, Condition, Profile, Rule, X32};
use libc::sock_filter;
use std::collections::BTreeMap;
use std::mem::offset_of;

/// The kernel's `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;
/// Conditions of one rule. Its failing tests jump behind it: 32 times 6 is in reach.
const MAX_CONDITIONS: usize = 32;
/// The kernel's `MAX_ERRNO`: it cuts larger numbers down to this.
const MAX_ERRNO: u16 = 4095;

/// `AUDIT_ARCH_X86_64` (linux/audit.h).
pub(super) const X86_64: u32 = 0xc000_003e;

/// What the set-up itself still does under the filter, and for what.
const NEEDED: [(&str, &str); 3] = [
    ("execve", "which starts the program"),
    ("write", "which says why a program cannot be started"),
    ("exit_group", "which ends a start that has failed"),
];

/// Why a profile cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// It forbids what every start takes.
    #[error("it forbids {call}, {purpose}")]
    Forbids {
        /// The call.
        call: &'static str,
        /// What it is for.
        purpose: &'static str,
    },
    /// It has too many conditions.
    #[error("it takes {0} instructions, and the kernel takes 4096: it has too many conditions")]
    TooLong(usize),
    /// A rule has too many conditions.
    #[error("a rule for {0} has more than 32 conditions")]
    Conditions(String),
    /// There are six arguments.
    #[error("a rule for {call} has a condition on argument {argument}, and they are 0 to 5")]
    Argument {
        /// The call.
        call: String,
        /// The number.
        argument: u8,
    },
    /// An errno that the kernel would change.
    #[error("errno {0} is not from 0 to 4095")]
    Errno(u16),
    /// A call of another interface.
    #[error("{0:#x} is no call of x86-64")]
    Call(u32),
}

/// Finds out whether anything can be started under a profile.
pub(super) fn check_start(profile: &Profile) -> Result<(), CompileError> {
    for (call, purpose) in NEEDED {
        if names::number(call).is_some_and(|number| !profile.may_allow(number)) {
            return Err(CompileError::Forbids { call, purpose });
        }
    }
    Ok(())
}

/// What happens with the calls of a range: the rules with conditions, in order, and what happens when
/// none of them holds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Leaf<'p> {
    tests: Vec<(&'p [Condition], Action)>,
    otherwise: Action,
}

impl Leaf<'_> {
    fn plain(otherwise: Action) -> Self {
        Leaf { tests: Vec::new(), otherwise }
    }
}

/// A range ends where the next one begins.
type Ranges<'p> = Vec<(u32, Leaf<'p>)>;

/// Compiles a profile.
pub(super) fn assemble(profile: &Profile) -> Result<Vec<sock_filter>, CompileError> {
    let ranges = ranges(profile)?;
    let mut steps = vec![
        step(LOAD, offset_of!(libc::seccomp_data, arch) as u32),
        jump(EQUAL, X86_64, 1, 0),
        // The numbers of another architecture mean other calls.
        step(RETURN, encode(Action::KillProcess)?),
        step(LOAD, offset_of!(libc::seccomp_data, nr) as u32),
    ];
    steps.extend(search(&ranges)?);
    match steps.len() {
        ..=MAX_INSTRUCTIONS => Ok(steps),
        length => Err(CompileError::TooLong(length)),
    }
}

/// Neighbouring calls with which the same happens, from 0 up without a gap.
fn ranges(profile: &Profile) -> Result<Ranges<'_>, CompileError> {
    let mut named: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in &profile.rules {
        for call in &rule.calls {
            if *call >= X32 {
                return Err(CompileError::Call(*call));
            }
            named.entry(*call).or_default().push(rule);
        }
        check(rule)?;
    }
    let ends = [profile.newest.map(|newest| newest.saturating_add(1)), Some(X32)];
    for end in ends.into_iter().flatten() {
        named.entry(end.min(X32)).or_default();
    }
    let mut ranges: Ranges<'_> = vec![(0, Leaf::plain(profile.unnamed(0)))];
    for (call, rules) in &named {
        begin(&mut ranges, *call, leaf(rules, profile.unnamed(*call)));
        if *call < X32 {
            begin(&mut ranges, *call + 1, Leaf::plain(profile.unnamed(*call + 1)));
        }
    }
    Ok(ranges)
}

/// Begins a range, unless the one before goes on. Of two that begin at the same call the later counts.
fn begin<'p>(ranges: &mut Ranges<'p>, start: u32, leaf: Leaf<'p>) {
    if ranges.last().is_some_and(|(at, _)| *at == start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|(_, last)| *last != leaf) {
        ranges.push((start, leaf));
    }
}

fn call_name(rule: &Rule) -> String {
    let call = rule.calls.first().copied().unwrap_or_default();
    names::name(call).map_or_else(|| call.to_string(), str::to_owned)
}

fn check(rule: &Rule) -> Result<(), CompileError> {
    if rule.conditions.len() > MAX_CONDITIONS {
        return Err(CompileError::Conditions(call_name(rule)));
    }
    match rule.conditions.iter().find(|condition| condition.argument > 5) {
        Some(Condition { argument, .. }) => {
            Err(CompileError::Argument { call: call_name(rule), argument: *argument })
        }
        None => Ok(()),
    }
}

/// The rules of one call, as far as they can matter.
fn leaf<'p>(rules: &[&'p Rule], unnamed: Action) -> Leaf<'p> {
    let always = rules.iter().position(|rule| rule.conditions.is_empty());
    let conditional = rules.get(..always.unwrap_or(rules.len())).unwrap_or_default();
    let otherwise = always.and_then(|at| rules.get(at)).map_or(unnamed, |rule| rule.action);
    let mut tests: Vec<(&[Condition], Action)> =
        conditional.iter().map(|rule| (rule.conditions.as_slice(), rule.action)).collect();
    while tests.last().is_some_and(|(_, action)| *action == otherwise) {
        tests.pop();
    }
    Leaf { tests, otherwise }
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const ALWAYS: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

fn step(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// Skips `jt` instructions if the comparison holds, else `jf`.
fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn encode(action: Action) -> Result<u32, CompileError> {
    Ok(match action {
        Action::Allow => libc::SECCOMP_RET_ALLOW,
        Action::Log => libc::SECCOMP_RET_LOG,
        Action::Errno(errno) if errno > MAX_ERRNO => return Err(CompileError::Errno(errno)),
        Action::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
        Action::Trace(number) => libc::SECCOMP_RET_TRACE | u32::from(number),
        Action::Trap => libc::SECCOMP_RET_TRAP,
        Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
    })
}

/// Finds the range of the number that is loaded.
fn search(ranges: &[(u32, Leaf<'_>)]) -> Result<Vec<sock_filter>, CompileError> {
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (false, Some((start, _))) = (low.is_empty(), high.first()) else {
        return match high.first() {
            Some((_, leaf)) => tests(leaf),
            None => Ok(Vec::new()),
        };
    };
    let (low, high) = (search(low)?, search(high)?);
    let mut steps = Vec::with_capacity(low.len() + high.len() + 2);
    match u8::try_from(low.len()) {
        Ok(over) => steps.push(jump(AT_LEAST, *start, over, 0)),
        Err(_) => {
            steps.push(jump(AT_LEAST, *start, 0, 1));
            steps.push(step(ALWAYS, low.len() as u32));
        }
    }
    steps.extend(low);
    steps.extend(high);
    Ok(steps)
}

fn tests(leaf: &Leaf<'_>) -> Result<Vec<sock_filter>, CompileError> {
    let mut steps = Vec::new();
    for (conditions, action) in &leaf.tests {
        let mut rule = Vec::new();
        for condition in *conditions {
            compare(condition, &mut rule);
        }
        let behind = rule.len() + 1;
        for (at, test) in rule.into_iter().enumerate() {
            steps.push(test.resolve(behind - at - 1));
        }
        steps.push(step(RETURN, encode(*action)?));
    }
    steps.push(step(RETURN, encode(leaf.otherwise)?));
    Ok(steps)
}

/// Where a test goes on.
#[derive(Clone, Copy)]
enum To {
    /// So many instructions further on, within the condition or just behind it.
    Skip(u8),
    /// Behind the rule.
    Fail,
}

/// An instruction of a condition, with its jumps open.
enum Test {
    Step(sock_filter),
    Jump(u16, u32, To, To),
}

impl Test {
    /// `behind`: how many instructions are to be skipped to get behind the rule.
    fn resolve(self, behind: usize) -> sock_filter {
        let far = |to| match to {
            To::Skip(count) => count,
            // In reach, by MAX_CONDITIONS.
            To::Fail => u8::try_from(behind).unwrap_or(u8::MAX),
        };
        match self {
            Test::Step(step) => step,
            Test::Jump(code, k, then, otherwise) => jump(code, k, far(then), far(otherwise)),
        }
    }
}

/// Goes on behind itself if the condition holds. The machine has 32 bits: the upper half decides
/// unless it is equal.
fn compare(condition: &Condition, out: &mut Vec<Test>) {
    use To::{Fail, Skip};
    let at = offset_of!(libc::seccomp_data, args) as u32 + u32::from(condition.argument) * 8;
    let lower = Test::Step(step(LOAD, at));
    let upper = Test::Step(step(LOAD, at + 4));
    let (low, high) = (condition.value as u32, (condition.value >> 32) as u32);
    match condition.compare {
        Compare::Eq => out.extend([
            upper,
            Test::Jump(EQUAL, high, Skip(0), Fail),
            lower,
            Test::Jump(EQUAL, low, Skip(0), Fail),
        ]),
        Compare::Ne => out.extend([
            upper,
            Test::Jump(EQUAL, high, Skip(0), Skip(2)),
            lower,
            Test::Jump(EQUAL, low, Fail, Skip(0)),
        ]),
        Compare::Gt | Compare::Ge => out.extend([
            upper,
            Test::Jump(GREATER, high, Skip(3), Skip(0)),
            Test::Jump(EQUAL, high, Skip(0), Fail),
            lower,
            Test::Jump(
                if condition.compare == Compare::Gt { GREATER } else { AT_LEAST },
                low,
                Skip(0),
                Fail,
            ),
        ]),
        Compare::Lt | Compare::Le => out.extend([
            upper,
            Test::Jump(GREATER, high, Fail, Skip(0)),
            Test::Jump(EQUAL, high, Skip(0), Skip(2)),
            lower,
            Test::Jump(
                if condition.compare == Compare::Lt { AT_LEAST } else { GREATER },
                low,
                Fail,
                Skip(0),
            ),
        ]),
        Compare::MaskedEq(mask) => {
            let halves = [(upper, (mask >> 32) as u32, high), (lower, mask as u32, low)];
            for (load, mask, value) in halves.into_iter().filter(|(_, mask, _)| *mask != 0) {
                out.push(load);
                if mask != u32::MAX {
                    out.push(Test::Step(step(AND, mask)));
                }
                out.push(Test::Jump(EQUAL, value & mask, Skip(0), Fail));
            }
        }
    }
}

#[cfg(test)]
mod tests;
