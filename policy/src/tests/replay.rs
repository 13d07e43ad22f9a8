//! A core that is saved and restored after each event behaves like one that is not.

use super::*;
use proptest::prelude::*;

/// One event, of the unit with this number where it is about one.
#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Run(usize, RunEvent),
    Command(usize, u8),
    Condition(bool),
    Shutdown,
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![(0_i32..3).prop_map(ExitStatus::Code), Just(ExitStatus::Signal(9))];
    let run = prop_oneof![
        4 => (2_i32..99).prop_map(|pid| RunEvent::Started { pid }),
        4 => Just(RunEvent::ExecSucceeded),
        4 => Just(RunEvent::GroupEmpty),
        4 => (status, any::<bool>()).prop_map(|(status, oom)| RunEvent::Exited { status, oom }),
        1 => Just(RunEvent::StartFailed { reason: "step: errno".into() }),
        2 => Just(RunEvent::Notified(Notice::Ready)),
        1 => Just(RunEvent::Notified(Notice::Stopping)),
    ];
    prop_oneof![
        4 => (0_u64..15_000).prop_map(Step::Pass),
        12 => (0_usize..4, run).prop_map(|(n, event)| Step::Run(n, event)),
        3 => (0_usize..4, 0_u8..3).prop_map(|(n, what)| Step::Command(n, what)),
        2 => any::<bool>().prop_map(Step::Condition),
        1 => prop::bool::weighted(0.1).prop_map(|yes| {
            if yes { Step::Shutdown } else { Step::Pass(1) }
        }),
    ]
}

fn config() -> BTreeMap<String, Unit> {
    let mut units = [unit("a"), oneshot("b"), unit("c"), unit("d")];
    units[0].wait_for = vec![Condition::Dns];
    units[0].wait_timeout = Some(Duration::from_secs(8));
    units[1].restart.policy = RestartPolicy::OnFailure;
    units[2].requires = vec!["b".into()];
    units[2].ready = Ready::Notify;
    units[2].start_timeout = Some(Duration::from_secs(5));
    units[2].restart.max_attempts = Some(4);
    units[3].after = vec!["c".into()];
    units[3].requires = vec!["a".into()];
    units.into_iter().map(|unit| (unit.name.clone(), unit)).collect()
}

/// The same core, restored from its records, with the events that a new supervisor sends it.
fn restored(core: &Core, now: Instant, dns: bool) -> Core {
    let names = core.names();
    let saved = names.into_iter().map(|name| {
        let text = core.saved(name).unwrap().to_json().unwrap();
        (name.to_string(), SavedState::from_json(&text).unwrap())
    });
    let (mut new, _) = Core::restore(config(), BTreeMap::new(), 99, saved.collect(), now);
    if core.shutting_down() {
        new.handle(now, Event::ShutdownRequested);
    }
    let actions =
        new.handle(now, Event::ConditionChanged { condition: Condition::Dns, holds: dns });
    assert!(actions.iter().all(|a| !matches!(a, Action::Start { .. })), "{actions:?}");
    new
}

proptest! {
    #[test]
    fn restored_after_each_event_it_behaves_the_same(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut now = Instant::from_millis(1);
        let mut one = Core::new(config(), BTreeMap::new(), 7, now);
        prop_assert!(!one.handle(now, Event::Boot).is_empty());
        let mut other = restored(&one, now, false);
        let mut dns = false;
        for step in steps {
            let names = ["a", "b", "c", "d"];
            let mut events = vec![];
            match step {
                Step::Pass(ms) => {
                    now = now.plus(Duration::from_millis(ms));
                    events.push(Event::Tick);
                }
                Step::Run(n, event) => {
                    let unit = names[n].to_string();
                    let generation = one.status(&unit, now).unwrap().generation;
                    events.push(Event::Run { unit, generation, event });
                }
                Step::Command(n, what) => {
                    let unit = names[n].to_string();
                    events.push(Event::Command(match what {
                        0 => Command::Start { unit },
                        1 => Command::Stop { unit },
                        _ => Command::Restart { unit },
                    }));
                }
                Step::Condition(holds) => {
                    dns = holds;
                    events.push(Event::ConditionChanged { condition: Condition::Dns, holds });
                }
                Step::Shutdown => events.push(Event::ShutdownRequested),
            }
            for event in events {
                // A new supervisor in a shutdown says a second time that it is complete.
                let orders = |actions: Vec<Action>| -> Vec<Action> {
                    actions.into_iter().filter(|a| *a != Action::UnitsStopped).collect()
                };
                let expected = orders(one.handle(now, event.clone()));
                let actual = orders(other.handle(now, event.clone()));
                prop_assert_eq!(&expected, &actual, "after {:?}", event);
            }
            prop_assert_eq!(one.statuses(now), other.statuses(now));
            prop_assert_eq!(one.next_deadline(), other.next_deadline());
            other = restored(&other, now, dns);
        }
    }

    /// Text that is not a saved state is rejected without a panic.
    #[test]
    fn any_text_is_refused_or_read(text in ".{0,200}") {
        prop_assert!(SavedState::from_json(&text).is_err());
    }
}

#[test]
fn another_version_is_distinguished_from_invalid_text() {
    let newer = r#"{"version": 2, "record": {"of": "the future"}}"#;
    assert!(matches!(SavedState::from_json(newer), Err(SavedError::Version { found: 2 })));
    let cut = r#"{"version": 1, "rec"#;
    assert!(matches!(SavedState::from_json(cut), Err(SavedError::Decode(_))));
}
