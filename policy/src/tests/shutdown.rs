//! The order and the time limits of a shutdown.

use super::*;

fn chain() -> Bench {
    let (mut web, mut app) = (unit("web"), unit("app"));
    web.requires = vec!["app".into()];
    app.after = vec!["db".into()];
    let mut bench = Bench::booted([web, app, unit("db"), unit("other")]);
    for name in ["db", "app", "web", "other"] {
        bench.up(name);
    }
    bench
}

#[test]
fn units_stop_in_reverse_order() {
    let mut bench = chain();
    let actions = bench.handle(Event::ShutdownRequested);
    assert!(signals(&actions, "web") && signals(&actions, "other"));
    assert!(!signals(&actions, "app") && !signals(&actions, "db"));
    bench.run("web", RunEvent::Exited { status: ExitStatus::Code(0), oom: false });
    assert!(!signals(&bench.all, "app"), "web's group is not empty yet");
    assert!(signals(&bench.run("web", RunEvent::GroupEmpty), "app"));
    bench.end("app", ExitStatus::Code(0));
    assert!(signals(&bench.all, "db"));
    bench.end("db", ExitStatus::Code(0));
    assert!(!bench.all.contains(&Action::UnitsStopped));
    bench.end("other", ExitStatus::Code(0));
    assert_eq!(bench.all.last(), Some(&Action::UnitsStopped));
    assert!(bench.all.iter().filter(|a| **a == Action::UnitsStopped).count() == 1);
    assert_eq!(bench.handle(Event::ShutdownRequested), [Action::UnitsStopped]);
}

#[test]
fn processes_that_never_die_do_not_block_it() {
    let mut bench = chain();
    bench.handle(Event::ShutdownRequested);
    // Three units in a chain, each with a stop timeout of ten seconds and a wait of ten after the kill.
    bench.secs(3 * 20);
    assert_eq!(bench.all.last(), Some(&Action::UnitsStopped));
    let stuck = |a: &&Action| matches!(a, Action::Report { report: EventKind::Stuck, .. });
    assert_eq!(bench.all.iter().filter(stuck).count(), 4);
}

#[test]
fn nothing_starts_any_more() {
    let mut bench = chain();
    bench.end("other", ExitStatus::Code(1));
    bench.handle(Event::ShutdownRequested);
    assert_eq!(bench.state("other"), State::Stopped);
    let command = Command::Start { unit: "other".into() };
    assert_eq!(bench.core.check(&command), Err(Refusal::ShuttingDown));
    bench.handle(Event::Command(command));
    bench.handle(Event::Boot);
    bench.secs(3600);
    assert_eq!(bench.starts("other"), 1);
}

#[test]
fn units_in_a_dependency_cycle_do_not_block_it() {
    let (mut a, mut b) = (unit("a"), unit("b"));
    (a.enabled, b.enabled) = (false, false);
    a.after = vec!["b".into()];
    b.after = vec!["a".into()];
    let mut bench = Bench::booted([a, b]);
    for name in ["a", "b"] {
        bench.start(name);
        bench.up(name);
    }
    let actions = bench.handle(Event::ShutdownRequested);
    assert!(signals(&actions, "a") && signals(&actions, "b"));
}

#[test]
fn a_host_without_units_shuts_down_at_once() {
    let mut bench = Bench::booted([]);
    assert_eq!(bench.handle(Event::ShutdownRequested), [Action::UnitsStopped]);
}

#[test]
fn it_continues_after_the_supervisor_was_killed() {
    let mut bench = chain();
    bench.handle(Event::ShutdownRequested);
    let names = ["app", "db", "other", "web"].map(String::from);
    let saved = names.map(|name| (name.clone(), bench.core.saved(&name).unwrap()));
    let config = bench.core.entries.iter().map(|e| (e.unit.name.clone(), e.unit.clone()));
    let config = config.collect();
    let (core, actions) = Core::restore(config, BTreeMap::new(), 1, saved.into(), bench.now);
    assert!(signals(&actions, "web") && !signals(&actions, "app"));
    bench.core = core;
    for name in ["other", "web", "app", "db"] {
        bench.end(name, ExitStatus::Code(0));
    }
    assert_eq!(bench.all.last(), Some(&Action::UnitsStopped));
}
