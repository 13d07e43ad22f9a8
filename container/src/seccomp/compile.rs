//! Compiles a profile to a classic BPF program (kernel `Documentation/networking/filter.rst`).
//!
//! The program loads the call number and finds its range by binary search. A range is a run of
//! calls that are treated the same; its leaf is a single `return`, or tests of arguments with
//! several.
//!
//! The program is generated backwards (see [`bpf`]).

use super::names;
use super::profile::{Action, Compare, Condition, Profile, Rule, X32};
use bpf::{AT_LEAST, EQUAL, GREATER, Label, Program};
use libc::sock_filter;
use std::collections::BTreeMap;
use std::mem::offset_of;

/// The kernel's `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;
/// The kernel's `MAX_ERRNO`: it reduces larger numbers to this.
const MAX_ERRNO: u16 = 4095;

/// `AUDIT_ARCH_X86_64` (linux/audit.h).
const X86_64: u32 = 0xc000_003e;

/// The calls that setup itself makes under the filter, and their purpose.
const NEEDED: [(&str, &str); 3] = [
    ("execve", "to start the program"),
    ("write", "to report why a start failed"),
    ("exit_group", "to end a failed start"),
];

/// Why a profile cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The profile forbids a call that every start needs.
    #[error("forbids {call}, which is needed {purpose}")]
    Forbids {
        /// The call.
        call: &'static str,
        /// Its purpose.
        purpose: &'static str,
    },
    /// The profile has too many conditions.
    #[error("too many conditions: {0} instructions, and the kernel's limit is 4096")]
    TooLong(usize),
    /// An argument number out of range.
    #[error("a rule for {call} has a condition on argument {argument}, which must be 0 to 5")]
    Argument {
        /// The call.
        call: String,
        /// The number.
        argument: u8,
    },
    /// An errno that the kernel would change.
    #[error("invalid errno {0}: must be 0 to 4095")]
    Errno(u16),
    /// A call number of another ABI.
    #[error("{0:#x} is not an x86-64 system call")]
    Call(u32),
}

/// Checks whether a program can be started under a profile.
pub(super) fn check_start(profile: &Profile) -> Result<(), CompileError> {
    for (call, purpose) in NEEDED {
        if names::number(call).is_some_and(|number| !profile.may_allow(number)) {
            return Err(CompileError::Forbids { call, purpose });
        }
    }
    Ok(())
}

/// The treatment of the calls of a range: the rules with conditions, in order, and the action if
/// none of them applies.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Leaf<'p> {
    tests: Vec<(&'p [Condition], Action)>,
    otherwise: Action,
}

impl Leaf<'_> {
    fn unconditional(otherwise: Action) -> Self {
        Leaf { tests: Vec::new(), otherwise }
    }
}

/// A range ends where the next one begins.
type Ranges<'p> = Vec<(u32, Leaf<'p>)>;

/// Compiles a profile.
pub(super) fn assemble(profile: &Profile) -> Result<Vec<sock_filter>, CompileError> {
    let ranges = ranges(profile)?;
    let mut program = Program::default();
    let ours = search(&mut program, &ranges)?;
    let ours = program.load(offset_of!(libc::seccomp_data, nr) as u32, ours);
    // The numbers of another architecture mean other calls.
    let others = program.ret(encode(Action::KillProcess)?);
    let begin = program.branch(EQUAL, X86_64, ours, others);
    let begin = program.load(offset_of!(libc::seccomp_data, arch) as u32, begin);
    let steps = program.finish(begin);
    match steps.len() {
        ..=MAX_INSTRUCTIONS => Ok(steps),
        length => Err(CompileError::TooLong(length)),
    }
}

/// Ranges of neighbouring calls that are treated the same, from 0 up without a gap.
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
    let mut ranges: Ranges<'_> = vec![(0, Leaf::unconditional(profile.unnamed(0)))];
    for (call, rules) in &named {
        begin(&mut ranges, *call, leaf(rules, profile.unnamed(*call)));
        if *call < X32 {
            begin(&mut ranges, *call + 1, Leaf::unconditional(profile.unnamed(*call + 1)));
        }
    }
    Ok(ranges)
}

/// Begins a range unless the previous one continues. Of two ranges that begin at the same call, the
/// later one applies.
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
    match rule.conditions.iter().find(|condition| condition.argument > 5) {
        Some(Condition { argument, .. }) => {
            Err(CompileError::Argument { call: call_name(rule), argument: *argument })
        }
        None => Ok(()),
    }
}

/// The rules of a call, without those that can have no effect.
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

/// Searches the range of the call number in the accumulator.
fn search(program: &mut Program, ranges: &[(u32, Leaf<'_>)]) -> Result<Label, CompileError> {
    match ranges {
        [(_, leaf)] => tests(program, leaf),
        // A single call inside a range that is treated differently.
        [(_, around), (call, leaf), (behind, other)] if around == other && behind - call == 1 => {
            let (around, leaf) = (tests(program, around)?, tests(program, leaf)?);
            Ok(program.branch(EQUAL, *call, leaf, around))
        }
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let start = high.first().map_or(X32, |(start, _)| *start);
            let (high, low) = (search(program, high)?, search(program, low)?);
            Ok(program.branch(AT_LEAST, start, high, low))
        }
    }
}

fn tests(program: &mut Program, leaf: &Leaf<'_>) -> Result<Label, CompileError> {
    let mut next = program.ret(encode(leaf.otherwise)?);
    for (conditions, action) in leaf.tests.iter().rev() {
        let met = program.ret(encode(*action)?);
        next = conditions
            .iter()
            .rev()
            .fold(met, |met, condition| compare(program, condition, met, next));
    }
    Ok(next)
}

/// Continues at `met` if the condition holds, otherwise at `next`. The BPF machine has 32 bits: the
/// upper half decides unless it is equal.
fn compare(program: &mut Program, condition: &Condition, met: Label, next: Label) -> Label {
    let lower = offset_of!(libc::seccomp_data, args) as u32 + u32::from(condition.argument) * 8;
    let upper = lower + 4;
    let (low, high) = (condition.value as u32, (condition.value >> 32) as u32);
    // The test of the lower half, and the targets for a greater and for a smaller upper half.
    let (code, if_so, if_not, greater, less) = match condition.compare {
        Compare::Eq => (EQUAL, met, next, next, next),
        Compare::Ne => (EQUAL, next, met, met, met),
        Compare::Gt => (GREATER, met, next, met, next),
        Compare::Ge => (AT_LEAST, met, next, met, next),
        Compare::Lt => (AT_LEAST, next, met, next, met),
        Compare::Le => (GREATER, next, met, next, met),
        Compare::MaskedEq(mask) => {
            let met = masked(program, lower, mask as u32, low, met, next);
            return masked(program, upper, (mask >> 32) as u32, high, met, next);
        }
    };
    let equal = program.branch_on(lower, code, low, if_so, if_not);
    let equal = program.load(lower, equal);
    let unequal = match greater == less {
        true => less,
        false => program.branch(GREATER, high, greater, less),
    };
    let test = program.branch_on(upper, EQUAL, high, equal, unequal);
    program.load(upper, test)
}

/// Compares one half under a mask.
fn masked(
    program: &mut Program,
    word: u32,
    mask: u32,
    value: u32,
    met: Label,
    next: Label,
) -> Label {
    match mask {
        0 => met,
        u32::MAX => {
            let test = program.branch_on(word, EQUAL, value, met, next);
            program.load(word, test)
        }
        mask => {
            let test = program.branch(EQUAL, value & mask, met, next);
            let test = program.and(mask, test);
            program.load(word, test)
        }
    }
}

#[cfg(test)]
mod tests;
