//! Checks the compiled program against an interpretation of its profile.

use super::*;
use bpf::{ALWAYS, RETURN};
use proptest::prelude::*;

fn run(program: &[sock_filter], data: &libc::seccomp_data) -> u32 {
    // SAFETY: the structure is plain data without padding.
    let bytes: [u8; 64] = unsafe { std::mem::transmute_copy(data) };
    bpf::run(program, &bytes).unwrap()
}

fn agree(profile: &Profile, program: &[sock_filter], nr: u32, args: [u64; 6]) {
    let data =
        libc::seccomp_data { nr: nr as i32, arch: X86_64, instruction_pointer: u64::MAX, args };
    let expected = encode(profile.evaluate(nr, &args)).unwrap();
    assert_eq!(run(program, &data), expected, "call {nr:#x} with {args:x?} under {profile:?}");
    for arch in [0x4000_0003, 0, u32::MAX, X86_64 ^ 1 << 30] {
        let data = libc::seccomp_data { arch, ..data };
        assert_eq!(run(program, &data), libc::SECCOMP_RET_KILL_PROCESS);
    }
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => Just(Action::Allow),
        2 => Just(Action::DENY),
        1 => Just(Action::Log),
        1 => (0u16..=4095).prop_map(Action::Errno),
        1 => any::<u16>().prop_map(Action::Trace),
        1 => Just(Action::Trap),
        1 => Just(Action::KillThread),
        1 => Just(Action::KillProcess),
    ]
}

/// Values around the boundaries of the two halves.
fn value() -> impl Strategy<Value = u64> {
    let half = prop_oneof![
        Just(0u32),
        Just(1),
        Just(u32::MAX),
        Just(u32::MAX - 1),
        Just(1 << 31),
        any::<u32>()
    ];
    (half.clone(), half).prop_map(|(high, low)| u64::from(high) << 32 | u64::from(low))
}

fn condition() -> impl Strategy<Value = Condition> {
    let compare = prop_oneof![
        Just(Compare::Ne),
        Just(Compare::Lt),
        Just(Compare::Le),
        Just(Compare::Eq),
        Just(Compare::Ge),
        Just(Compare::Gt),
        value().prop_map(Compare::MaskedEq),
    ];
    (0u8..6, compare, value()).prop_map(|(argument, compare, value)| Condition {
        argument,
        compare,
        value,
    })
}

fn call() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0u32..500, 1 => 0u32..X32, 1 => X32 - 2..X32]
}

fn profile() -> impl Strategy<Value = Profile> {
    let conditions = prop_oneof![
        3 => Just(Vec::new()),
        2 => prop::collection::vec(condition(), 0..4),
        1 => prop::collection::vec(condition(), 20..60),
    ];
    let rule = (prop::collection::vec(call(), 0..6), action(), conditions)
        .prop_map(|(calls, action, conditions)| Rule { calls, action, conditions });
    let newest = prop_oneof![Just(None), Just(Some(u32::MAX)), call().prop_map(Some)];
    (action(), newest, prop::collection::vec(rule, 0..16))
        .prop_map(|(default, newest, rules)| Profile { default, newest, rules, flags: 0 })
}

/// Arguments that meet the conditions, miss them by one, or are arbitrary.
fn arguments(profile: &Profile, call: u32, noise: &[u64; 6], pick: usize) -> [u64; 6] {
    let mut arguments = *noise;
    let rules = profile.rules.iter().filter(|rule| rule.calls.contains(&call));
    for condition in rules.flat_map(|rule| &rule.conditions).cycle().skip(pick).take(3 + pick % 9) {
        let argument = &mut arguments[usize::from(condition.argument)];
        *argument = match pick % 4 {
            0 => condition.value,
            1 => condition.value.wrapping_add(1),
            2 => condition.value.wrapping_sub(1),
            _ => condition.value ^ 1 << 32,
        };
        if let Compare::MaskedEq(mask) = condition.compare {
            *argument = *argument & mask | noise[0] & !mask;
        }
    }
    arguments
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_program_agrees_with_the_profile(
        profile in profile(),
        noise in prop::array::uniform6(value()),
        other in any::<u32>(),
        picks in prop::collection::vec(0usize..200, 6),
    ) {
        let program = match assemble(&profile) {
            Ok(program) => program,
            Err(CompileError::TooLong(length)) => {
                prop_assert!(length > MAX_INSTRUCTIONS);
                return Ok(());
            }
            Err(error) => panic!("{error}"),
        };
        prop_assert!(program.len() <= MAX_INSTRUCTIONS);
        let named = profile.rules.iter().flat_map(|rule| rule.calls.iter().copied());
        let boundaries = [0, 1, X32 - 1, X32, X32 + 1, i32::MAX as u32, 1 << 31, u32::MAX, other];
        let newest = profile.newest.into_iter().flat_map(|n| [n, n.saturating_add(1)]);
        for call in named.flat_map(|call| [call, call.wrapping_sub(1), call + 1]).chain(boundaries).chain(newest) {
            agree(&profile, &program, call, noise);
            for pick in &picks {
                agree(&profile, &program, call, arguments(&profile, call, &noise, *pick));
            }
        }
    }
}

/// Hundreds of calls with different conditions need jumps across thousands of instructions.
#[test]
fn a_program_of_maximum_length_is_correct() {
    let conditions =
        |value| vec![Condition { argument: 2, compare: Compare::Gt, value: u64::from(value) }];
    let rule =
        |call| Rule { calls: vec![call], action: Action::Allow, conditions: conditions(call) };
    let profile = |count: u32| Profile {
        default: Action::DENY,
        newest: Some(10_000),
        rules: (0..count).map(|n| rule(2 * n)).collect(),
        flags: 0,
    };
    let fits = (1..600).rev().find(|count| assemble(&profile(*count)).is_ok()).unwrap();
    let (profile, long) = (profile(fits), profile(fits + 1));
    assert!(matches!(assemble(&long), Err(CompileError::TooLong(4097..))));
    let program = assemble(&profile).unwrap();
    assert!(program.len() > 4080, "{}", program.len());
    for call in 0..2 * fits + 3 {
        for argument in [u64::from(call), u64::from(call) + 1, u64::MAX] {
            agree(&profile, &program, call, [0, 0, argument, 0, 0, 0]);
        }
    }
    let steps = (0..10_000).map(|nr| walk(&program, nr)).max().unwrap();
    assert!(steps < 40, "{steps} instructions for one call");
}

/// The number of instructions executed for a call without arguments.
fn walk(program: &[sock_filter], nr: u32) -> usize {
    let (mut at, mut steps) = (0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        (at, steps) = (at + 1, steps + 1);
        match code {
            RETURN => return steps,
            ALWAYS => at += k as usize,
            AT_LEAST => at += usize::from(if nr >= k { jt } else { jf }),
            // The architecture, or a test of an argument: either branch will do.
            EQUAL => at += usize::from(jt),
            GREATER => at += usize::from(jf),
            _ => {}
        }
    }
}

#[test]
fn values_that_the_kernel_would_change_or_refuse_are_refused() {
    let with =
        |rule: Rule| Profile { default: Action::Allow, newest: None, rules: vec![rule], flags: 0 };
    let condition = |argument| Condition { argument, compare: Compare::Eq, value: 0 };
    let refused = |calls: Vec<u32>, action, conditions| {
        assemble(&with(Rule { calls, action, conditions })).unwrap_err()
    };
    assert_eq!(refused(vec![X32], Action::Allow, vec![]), CompileError::Call(X32));
    assert_eq!(refused(vec![1], Action::Errno(4096), vec![]), CompileError::Errno(4096));
    let error = refused(vec![0], Action::DENY, vec![condition(6)]);
    assert_eq!(error, CompileError::Argument { call: "read".into(), argument: 6 });
}

#[test]
fn a_profile_under_which_nothing_could_start_is_refused() {
    let rule = |call, action| Rule {
        calls: vec![names::number(call).unwrap()],
        action,
        conditions: vec![],
    };
    let profile = |default, rules| Profile { default, newest: None, rules, flags: 0 };
    let error = check_start(&profile(Action::Allow, vec![rule("execve", Action::DENY)]));
    let text = "forbids execve, which is needed to start the program";
    assert_eq!(error.unwrap_err().to_string(), text);
    let few = vec![rule("execve", Action::Allow), rule("write", Action::Allow)];
    let error = check_start(&profile(Action::DENY, few));
    let text = "forbids exit_group, which is needed to end a failed start";
    assert_eq!(error.unwrap_err().to_string(), text);
    assert!(check_start(&profile(Action::Allow, vec![])).is_ok());
}
