//! The invariants hold for any order of events in any simulated world.

use super::world::World;
use super::*;
use proptest::prelude::*;

/// What people and the host do.
#[derive(Debug, Clone)]
enum Op {
    Pass(u64),
    Start(usize),
    Stop(usize),
    Restart(usize),
    Condition(Condition, bool),
    KillSupervisor,
    KillAmid(u64),
    Shutdown,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let condition = prop_oneof![Just(Condition::Dns), Just(Condition::NetAddr)];
    let op = prop_oneof![
        10 => (0_u64..200).prop_map(Op::Pass),
        6 => (0_u64..30_000).prop_map(Op::Pass),
        2 => (0_usize..5).prop_map(Op::Start),
        3 => (0_usize..5).prop_map(Op::Stop),
        2 => (0_usize..5).prop_map(Op::Restart),
        3 => (condition, any::<bool>()).prop_map(|(c, holds)| Op::Condition(c, holds)),
        2 => Just(Op::KillSupervisor),
        2 => (1_u64..12).prop_map(Op::KillAmid),
        1 => Just(Op::Shutdown),
    ];
    prop::collection::vec(op, 1..40)
}

fn span(max: u64) -> impl Strategy<Value = Option<Duration>> {
    prop::option::of((0..max).prop_map(Duration::from_millis))
}

/// Any unit that may depend on those with lower numbers.
fn any_unit(n: usize) -> impl Strategy<Value = Unit> {
    let names = |weight| {
        let each = (0..n).map(move |_| prop::bool::weighted(weight)).collect::<Vec<_>>();
        each.prop_map(|picked| {
            let numbered = picked.into_iter().enumerate().filter(|(_, yes)| *yes);
            numbered.map(|(n, _)| format!("u{n}")).collect::<Vec<String>>()
        })
    };
    let edges = (names(0.25), names(0.25), names(0.15));
    let policy = prop_oneof![
        3 => Just(RestartPolicy::Always),
        2 => Just(RestartPolicy::OnFailure),
        1 => Just(RestartPolicy::Never),
    ];
    let ready = prop_oneof![Just(Ready::Started), Just(Ready::Notify), Just(Ready::Healthy)];
    let waits = prop_oneof![
        3 => Just(vec![]),
        1 => Just(vec![Condition::Dns]),
        1 => Just(vec![Condition::Dns, Condition::NetAddr]),
    ];
    let health = prop::option::weighted(0.4, (0_u64..10, 0_u32..4, 0_u64..20));
    let reaction = prop_oneof![9 => Just(OnFailure::Continue), 1 => Just(OnFailure::Reboot)];
    let limits = (prop::option::weighted(0.3, 0_u32..5), span(60_000));
    (
        (edges, policy, ready, waits, health, reaction, limits),
        (any::<bool>(), prop::bool::weighted(0.8), span(20_000), span(20_000), 0_u64..12_000),
    )
        .prop_map(move |(what, (service, enabled, wait, start, stop))| {
            let ((requires, after, wants), policy, ready, wait_for, health, reaction, limits) =
                what;
            let mut unit = unit(&format!("u{n}"));
            unit.requires = requires;
            unit.after = after;
            unit.wants = wants;
            unit.restart.policy = policy;
            unit.restart.max_attempts = limits.0;
            unit.restart.window = limits.1;
            unit.ready = ready;
            unit.wait_for = wait_for;
            unit.healthcheck = health.map(|(every, retries, grace)| check(every, retries, grace));
            unit.kind = if service { Kind::Service } else { Kind::Oneshot };
            unit.enabled = enabled;
            unit.wait_timeout = wait;
            unit.start_timeout = start;
            unit.stop_timeout = Duration::from_millis(stop);
            unit.on_failure = reaction;
            unit
        })
}

fn any_config() -> impl Strategy<Value = BTreeMap<String, Unit>> {
    (1_usize..6).prop_flat_map(|count| {
        let units = (0..count).map(any_unit).collect::<Vec<_>>();
        units.prop_map(|units| units.into_iter().map(|u| (u.name.clone(), u)).collect())
    })
}

proptest! {
    /// The world checks each action and each state. At the end everything is shut down, which must
    /// take no longer than the longest chain of stops and kills.
    #[test]
    fn invariants_hold_in_any_world(config in any_config(), ops in ops(), seed: u64) {
        let names: Vec<String> = config.keys().cloned().collect();
        let name = |n: usize| names[n % names.len()].clone();
        let mut world = World::new(config.clone(), seed);
        for op in ops {
            match op {
                Op::Pass(ms) => world.pass(ms),
                Op::Start(n) => world.handle(Event::Command(Command::Start { unit: name(n) })),
                Op::Stop(n) => world.handle(Event::Command(Command::Stop { unit: name(n) })),
                Op::Restart(n) => world.handle(Event::Command(Command::Restart { unit: name(n) })),
                Op::Condition(condition, holds) => {
                    world.handle(Event::ConditionChanged { condition, holds });
                }
                Op::KillSupervisor => world.kill_supervisor(false),
                Op::KillAmid(orders) => world.fuse = Some(orders),
                Op::Shutdown => world.handle(Event::ShutdownRequested),
            }
        }
        world.handle(Event::ShutdownRequested);
        let stops: u64 = config.values().map(|u| u.stop_timeout.as_millis() as u64).sum();
        // For each unit its stop timeout, the waits for a kill and a lost report, and late events.
        world.pass(stops + names.len() as u64 * 21_000);
        prop_assert!(world.units_stopped, "the shutdown does not end");
        for status in world.core.statuses(world.now) {
            prop_assert!(status.stuck || status.pid.is_none(), "{:?} is left", status);
        }
    }

    /// Without commands and in a world without faults, every unit that is wanted and can run does run.
    #[test]
    fn nothing_is_forgotten(config in any_config(), seed: u64) {
        let mut world = World::new(config, seed);
        for condition in [Condition::Dns, Condition::NetAddr] {
            world.handle(Event::ConditionChanged { condition, holds: true });
        }
        world.pass(60_000);
        for status in world.core.statuses(world.now) {
            // In each state there is a deadline, a process, or a reported reason.
            match status.state {
                State::Waiting => prop_assert!(!status.waiting_for.is_empty()),
                State::Backoff => prop_assert!(status.next_retry_ms >= Some(world.now.as_millis())),
                State::Stopping => prop_assert!(world.core.next_deadline().is_some()),
                State::Failed => prop_assert!(status.reason.is_some()),
                _ => {}
            }
        }
    }
}
