//! The table of commands in the module documentation, and dependencies, cell by cell.

use super::*;

/// A way to bring a unit into a state, by the state's name.
fn brought_into(state: &str) -> Bench {
    let mut web = unit("web");
    match state {
        "waiting" => web.wait_for = vec![Condition::Dns],
        "done" => web.kind = Kind::Oneshot,
        "failed" => web.restart.policy = RestartPolicy::Never,
        "starting" => web.ready = Ready::Notify,
        _ => {}
    }
    if state == "stopped" {
        web.enabled = false;
    }
    let mut bench = Bench::booted([web]);
    match state {
        "stopped" | "waiting" | "launching" => {}
        "setup" => drop(bench.run("web", RunEvent::Started { pid: 1 })),
        _ => bench.up("web"),
    }
    match state {
        "backoff" | "failed" => bench.end("web", ExitStatus::Code(1)),
        "done" => bench.end("web", ExitStatus::Code(0)),
        "stopping" => drop(bench.stop("web")),
        "draining" => {
            drop(bench.run("web", RunEvent::Exited { status: ExitStatus::Code(1), oom: false }))
        }
        "unreported" => drop(bench.run("web", RunEvent::GroupEmpty)),
        _ => {}
    }
    bench
}

const STATES: [&str; 12] = [
    "stopped",
    "done",
    "failed",
    "waiting",
    "backoff",
    "launching",
    "setup",
    "starting",
    "running",
    "stopping",
    "draining",
    "unreported",
];

/// Ends every process that has been asked to end.
fn let_it_end(bench: &mut Bench) {
    while bench.state("web") == State::Stopping {
        bench.run("web", RunEvent::Exited { status: ExitStatus::Signal(15), oom: false });
        if bench.state("web") == State::Stopping {
            bench.run("web", RunEvent::GroupEmpty);
        }
    }
}

#[test]
fn restart_works_from_every_state() {
    for state in STATES {
        let mut bench = brought_into(state);
        let before = bench.starts("web");
        bench.restart("web");
        let_it_end(&mut bench);
        if state == "waiting" {
            assert_eq!(bench.state("web"), State::Waiting);
            bench.handle(Event::ConditionChanged { condition: Condition::Dns, holds: true });
        }
        assert_eq!(bench.starts("web"), before + 1, "from {state}");
        assert_eq!(bench.state("web"), State::Starting, "from {state}");
        assert_eq!(bench.status("web").restarts, 0, "{state}: no restart of the policy's");
        assert_eq!(bench.status("web").attempts, 0, "from {state}");
    }
}

#[test]
fn stop_works_from_every_state() {
    for state in STATES {
        let mut bench = brought_into(state);
        let before = bench.starts("web");
        bench.stop("web");
        let_it_end(&mut bench);
        bench.handle(Event::ConditionChanged { condition: Condition::Dns, holds: true });
        bench.secs(3600);
        assert_eq!(bench.state("web"), State::Stopped, "from {state}");
        assert_eq!(bench.starts("web"), before, "from {state}");
        assert_eq!(bench.decided("web"), (Desired::Down, By::Person));
    }
}

#[test]
fn start_works_from_every_state() {
    for state in STATES {
        let mut bench = brought_into(state);
        let before = bench.starts("web");
        bench.start("web");
        let_it_end(&mut bench);
        bench.handle(Event::ConditionChanged { condition: Condition::Dns, holds: true });
        let goes_on = ["launching", "setup", "starting", "running"].contains(&state);
        assert_eq!(bench.starts("web"), before + usize::from(!goes_on), "from {state}");
        assert_eq!(bench.decided("web"), (Desired::Up, By::Person));
    }
}

#[test]
fn policies_by_exit_code() {
    use RestartPolicy::{Always, Never, OnFailure};
    use State::{Backoff, Done, Failed};
    for (kind, policy, code, state) in [
        (Kind::Service, Always, 0, Backoff),
        (Kind::Service, Always, 1, Backoff),
        (Kind::Service, OnFailure, 0, Done),
        (Kind::Service, OnFailure, 1, Backoff),
        (Kind::Service, Never, 0, Done),
        (Kind::Service, Never, 1, Failed),
        (Kind::Oneshot, Always, 0, Done),
        (Kind::Oneshot, Always, 1, Backoff),
        (Kind::Oneshot, OnFailure, 1, Backoff),
        (Kind::Oneshot, Never, 0, Done),
        (Kind::Oneshot, Never, 1, Failed),
    ] {
        let mut web = unit("web");
        web.kind = kind;
        web.restart.policy = policy;
        let mut bench = Bench::booted([web]);
        bench.up("web");
        bench.end("web", ExitStatus::Code(code));
        assert_eq!(bench.state("web"), state, "{kind:?} {policy:?} {code}");
    }
}

#[test]
fn requires_waits_for_readiness_of_services_and_the_end_of_one_shots() {
    let (mut web, mut db) = (unit("web"), unit("db"));
    web.requires = vec!["db".into(), "job".into()];
    db.enabled = false;
    db.ready = Ready::Notify;
    let mut bench = Bench::booted([web, db, oneshot("job")]);
    assert_eq!(bench.decided("db"), (Desired::Up, By::Unit("web".into())));
    bench.up("db");
    bench.up("job");
    assert_eq!(bench.state("job"), State::Running);
    bench.end("job", ExitStatus::Code(0));
    assert_eq!(bench.starts("web"), 0);
    bench.run("db", RunEvent::Notified(Notice::Ready));
    assert_eq!(bench.starts("web"), 1);
}

#[test]
fn a_dependency_that_crashes_or_is_stopped_leaves_its_dependents_running() {
    let mut web = unit("web");
    web.requires = vec!["db".into()];
    let mut bench = Bench::booted([web, unit("db")]);
    bench.up("db");
    bench.up("web");
    bench.end("db", ExitStatus::Code(1));
    assert_eq!(bench.state("web"), State::Running);
    bench.secs(1);
    bench.up("db");
    let actions = bench.stop("db");
    assert!(actions.iter().any(|action| matches!(action, Action::Report {
        report: EventKind::StopRequested { left_running, .. }, ..
    } if *left_running == ["web"])));
    bench.end("db", ExitStatus::Code(0));
    assert_eq!(bench.state("web"), State::Running);
}

#[test]
fn a_start_by_hand_pulls_up_what_it_requires_even_if_that_was_stopped_by_hand() {
    let mut web = unit("web");
    web.requires = vec!["db".into()];
    web.wants = vec!["cache".into()];
    let mut bench = Bench::booted([web, unit("db"), unit("cache")]);
    for name in ["db", "cache"] {
        bench.up(name);
        bench.stop(name);
        bench.end(name, ExitStatus::Code(0));
    }
    bench.start("web");
    assert_eq!(bench.state("db"), State::Starting);
    assert_eq!(bench.state("cache"), State::Stopped, "`wants` does not overrule a stop by hand");
}

#[test]
fn after_waits_only_for_units_that_are_starting() {
    let mut web = unit("web");
    web.after = vec!["db".into(), "idle".into(), "ghost".into()];
    let (mut db, mut idle) = (unit("db"), unit("idle"));
    db.ready = Ready::Notify;
    idle.enabled = false;
    let mut bench = Bench::booted([web, db, idle]);
    bench.up("db");
    let reason = WaitReason::After { unit: "db".into(), state: State::Starting };
    assert_eq!(bench.status("web").waiting_for, [reason]);
    // An attempt of db fails: ordering is not a requirement.
    bench.end("db", ExitStatus::Code(1));
    assert_eq!(bench.starts("web"), 1);
}

#[test]
fn a_required_unit_that_failed_is_a_visible_reason() {
    let mut web = unit("web");
    web.requires = vec!["job".into()];
    let mut bench = Bench::booted([web, oneshot("job")]);
    bench.up("job");
    bench.end("job", ExitStatus::Code(2));
    bench.secs(3600);
    let status = bench.status("web");
    assert_eq!(status.state, State::Waiting);
    let text = status.waiting_for[0].to_string();
    assert_eq!(text, "requires job, which has failed (exit code 2)");
    // A person starts it again: the job runs again too.
    bench.start("web");
    bench.up("job");
    bench.end("job", ExitStatus::Code(0));
    assert_eq!(bench.starts("web"), 1);
}
