//! Faults that other supervisors had, each as the events that brought it about.

use super::*;

/// OpenRC#375, #400: a stop during the delay before a respawn did not keep the unit from starting.
#[test]
fn stop_during_the_respawn_delay_does_not_start_it_anyway() {
    let mut bench = Bench::booted([unit("web")]);
    bench.up("web");
    bench.end("web", ExitStatus::Code(1));
    assert_eq!(bench.state("web"), State::Backoff);
    bench.stop("web");
    assert_eq!(bench.state("web"), State::Stopped);
    bench.secs(3600);
    assert_eq!(bench.starts("web"), 1);
    assert_eq!(bench.core.next_deadline(), None);
}

/// finit#313: a dependency vanished while a retry timer was pending, and the retry ran without it.
#[test]
fn dependency_gone_while_a_retry_timer_is_pending() {
    let mut web = unit("web");
    web.requires = vec!["db".into()];
    let mut bench = Bench::booted([web, unit("db")]);
    bench.up("db");
    bench.up("web");
    bench.end("web", ExitStatus::Code(1));
    bench.stop("db");
    bench.end("db", ExitStatus::Signal(15));
    bench.secs(60);
    assert_eq!(bench.starts("web"), 1);
    let status = bench.status("web");
    assert_eq!(status.state, State::Waiting);
    let reason = WaitReason::Requires { unit: "db".into(), unmet: Unmet::StoppedByHand };
    assert_eq!(status.waiting_for, [reason]);
    bench.start("db");
    bench.up("db");
    assert_eq!(bench.starts("web"), 2);
}

/// dinit#225: a shutdown waited for a unit that was still starting.
#[test]
fn shutdown_does_not_wait_for_a_unit_that_is_still_starting() {
    let mut notify = unit("slow");
    notify.ready = Ready::Notify;
    let mut bench = Bench::booted([notify, unit("launching"), unit("setup")]);
    bench.up("slow");
    bench.run("setup", RunEvent::Started { pid: 7 });
    let actions = bench.handle(Event::ShutdownRequested);
    assert!(signals(&actions, "slow"));
    assert!(kills(&actions, "setup"));
    assert!(kills(&actions, "launching"));
    bench.end("slow", ExitStatus::Signal(15));
    bench.end("setup", ExitStatus::Signal(9));
    let last = bench.run("launching", RunEvent::StartFailed { reason: "aborted".into() });
    assert_eq!(last.last(), Some(&Action::UnitsStopped));
}

/// rstudio#18630: a child ended before it was registered, and its end was lost.
#[test]
fn exited_before_it_was_registered() {
    let mut bench = Bench::booted([oneshot("job")]);
    bench.run("job", RunEvent::Exited { status: ExitStatus::Code(0), oom: false });
    bench.run("job", RunEvent::Started { pid: 7 });
    bench.run("job", RunEvent::ExecSucceeded);
    bench.run("job", RunEvent::GroupEmpty);
    assert_eq!(bench.state("job"), State::Done);
    assert_eq!(bench.status("job").pid, None);
}

/// The empty group is seen before PID 1 has passed the exit on.
#[test]
fn group_empty_before_the_exit_status() {
    let mut bench = Bench::booted([oneshot("job")]);
    bench.up("job");
    bench.run("job", RunEvent::GroupEmpty);
    assert_eq!(bench.state("job"), State::Stopping);
    bench.run("job", RunEvent::Exited { status: ExitStatus::Code(3), oom: false });
    assert_eq!(bench.state("job"), State::Failed);
    assert_eq!(bench.status("job").last_exit.unwrap().cause, ExitCause::Code(3));
}

/// containerd#10651: exit events were lost. A run whose end is never reported ends all the same.
#[test]
fn exit_status_that_never_comes() {
    let mut bench = Bench::booted([unit("web")]);
    bench.up("web");
    bench.run("web", RunEvent::GroupEmpty);
    bench.secs(11);
    let status = bench.status("web");
    assert_eq!(status.last_exit.unwrap().cause, ExitCause::Lost);
    assert_eq!(status.failures, 1);
    assert_eq!(status.generation, 2);
}

/// Horust#58: a stop during a start that hangs hung as well.
#[test]
fn term_during_a_start_that_hangs() {
    for hangs_before_exec in [true, false] {
        let mut web = unit("web");
        web.ready = Ready::Notify;
        let mut bench = Bench::booted([web]);
        bench.run("web", RunEvent::Started { pid: 7 });
        if !hangs_before_exec {
            bench.run("web", RunEvent::ExecSucceeded);
        }
        let actions = bench.stop("web");
        assert_eq!(kills(&actions, "web"), hangs_before_exec);
        assert_eq!(signals(&actions, "web"), !hangs_before_exec);
        bench.secs(10);
        assert!(kills(&bench.all, "web"));
        bench.end("web", ExitStatus::Signal(9));
        assert_eq!(bench.state("web"), State::Stopped);
        assert_eq!(bench.status("web").failures, 0);
    }
}

/// A start that hangs by itself is ended by `start_timeout`, in each of its stages.
#[test]
fn start_that_hangs_runs_into_its_timeout() {
    for stage in 0..3 {
        let mut web = unit("web");
        web.ready = Ready::Notify;
        web.start_timeout = Some(Duration::from_secs(30));
        let mut bench = Bench::booted([web]);
        if stage > 0 {
            bench.run("web", RunEvent::Started { pid: 7 });
        }
        if stage > 1 {
            bench.run("web", RunEvent::ExecSucceeded);
        }
        bench.secs(30);
        assert!(kills(&bench.all, "web"));
        assert!(!signals(&bench.all, "web"));
        if stage > 0 {
            bench.end("web", ExitStatus::Signal(9));
        } else {
            bench.run("web", RunEvent::StartFailed { reason: "aborted".into() });
        }
        let status = bench.status("web");
        assert_eq!(status.state, State::Backoff);
        assert_eq!(status.last_exit.unwrap().cause, ExitCause::StartTimeout);
        assert_eq!(status.failures, 1);
    }
}

/// rustysd stopped permanently after 160 starts; dinit and systemd restart 1,035 and 207 times a
/// second. A unit that exits immediately 1,000 times is restarted exactly 1,000 times, slowly.
#[test]
fn a_thousand_instant_exits_are_a_thousand_restarts_without_a_storm() {
    let mut bench = Bench::booted([unit("web")]);
    let begin = bench.now;
    let mut in_first_minute = 0;
    for n in 1..=1000 {
        bench.up("web");
        bench.end("web", ExitStatus::Code(1));
        assert_eq!(bench.state("web"), State::Backoff);
        assert_eq!(bench.status("web").attempts, n);
        let next = Instant::from_millis(bench.status("web").next_retry_ms.unwrap());
        bench.pass(next.since(bench.now));
        in_first_minute += usize::from(bench.now.since(begin) <= Duration::from_secs(60));
        assert_eq!(bench.status("web").restarts, u64::from(n));
    }
    assert_eq!(bench.starts("web"), 1001);
    assert_eq!(bench.status("web").failures, 1000);
    assert!(in_first_minute <= 11, "{in_first_minute} restarts in the first minute");
    let hours = bench.now.since(begin).as_secs() / 3600;
    assert!((14..=18).contains(&hours), "1,000 restarts took {hours} h");
}

/// A `delay` of zero in the unit file must not turn into a storm either.
#[test]
fn zero_delay_is_not_a_storm() {
    let mut web = unit("web");
    web.restart.delay = Duration::ZERO;
    web.restart.max_delay = Duration::ZERO;
    let mut bench = Bench::booted([web]);
    for _ in 0..100 {
        bench.up("web");
        bench.end("web", ExitStatus::Code(1));
        assert_eq!(bench.state("web"), State::Backoff);
        bench.pass(units::model::MIN_RESTART_DELAY * 2);
    }
}

/// podman#17077, moby#11008: a stop by hand lost against the restart policy, or was forgotten when
/// the daemon died after the signal.
#[test]
fn stop_by_hand_wins_and_is_recorded_before_the_signal() {
    let mut bench = Bench::booted([unit("web")]);
    bench.up("web");
    let actions = bench.stop("web");
    let persist = position(&actions, |a| matches!(a, Action::Persist { .. }));
    let signal = position(&actions, |a| matches!(a, Action::Signal { .. }));
    assert!(persist < signal);
    // The supervisor dies here, and its successor knows about the stop.
    let saved = BTreeMap::from([("web".to_string(), bench.core.saved("web").unwrap())]);
    let config = BTreeMap::from([("web".to_string(), unit("web"))]);
    let (core, actions) = Core::restore(config, BTreeMap::new(), 1, saved, bench.now);
    assert!(signals(&actions, "web"), "the signal may not have been sent");
    bench.core = core;
    bench.handle(Event::Boot);
    bench.end("web", ExitStatus::Code(1));
    bench.secs(3600);
    assert_eq!(bench.state("web"), State::Stopped);
    assert_eq!(bench.decided("web"), (Desired::Down, By::Person));
    assert_eq!(bench.starts("web"), 1);
}

/// A stop that arrives between the crash and the end of the clean-up wins as well.
#[test]
fn stop_by_hand_during_the_clean_up_after_a_crash() {
    let mut bench = Bench::booted([unit("web")]);
    bench.up("web");
    bench.secs(60);
    bench.run("web", RunEvent::Exited { status: ExitStatus::Code(1), oom: false });
    bench.stop("web");
    bench.run("web", RunEvent::GroupEmpty);
    bench.secs(3600);
    assert_eq!(bench.state("web"), State::Stopped);
    assert_eq!((bench.starts("web"), bench.status("web").failures), (1, 1));
}

/// Late events of an old run are not taken for events of the new one.
#[test]
fn events_of_an_older_run_change_nothing() {
    let mut bench = Bench::booted([unit("web")]);
    bench.up("web");
    bench.secs(10);
    bench.end("web", ExitStatus::Code(1));
    bench.up("web");
    let before = bench.status("web");
    let status = ExitStatus::Code(9);
    for event in [
        RunEvent::Exited { status, oom: true },
        RunEvent::GroupEmpty,
        RunEvent::StartFailed { reason: "late".into() },
        RunEvent::Started { pid: 1 },
    ] {
        let event = Event::Run { unit: "web".into(), generation: 1, event };
        assert_eq!(bench.handle(event), []);
    }
    assert_eq!(bench.status("web"), before);
}

/// A group that does not become empty prevents the next start, is reported, and is killed again.
#[test]
fn no_start_before_the_old_group_is_empty() {
    let mut bench = Bench::booted([unit("web")]);
    bench.up("web");
    bench.run("web", RunEvent::Exited { status: ExitStatus::Code(1), oom: false });
    bench.secs(3600);
    assert_eq!(bench.starts("web"), 1);
    assert_eq!(bench.state("web"), State::Stopping);
    assert!(bench.status("web").stuck);
    let stuck = |a: &&Action| matches!(a, Action::Report { report: EventKind::Stuck, .. });
    assert_eq!(bench.all.iter().filter(stuck).count(), 1);
    bench.run("web", RunEvent::GroupEmpty);
    assert_eq!(bench.starts("web"), 2);
}

/// containerd#6323: an OOM kill looked like any SIGKILL.
#[test]
fn out_of_memory_is_distinguished_from_a_signal() {
    for (status, oom, what) in [
        (ExitStatus::Signal(9), false, ExitCause::Signal(9)),
        (ExitStatus::Signal(9), true, ExitCause::Oom),
        (ExitStatus::Code(1), true, ExitCause::Oom),
        (ExitStatus::Code(0), true, ExitCause::Code(0)),
    ] {
        let mut bench = Bench::booted([unit("web")]);
        bench.up("web");
        bench.run("web", RunEvent::Exited { status, oom });
        assert_eq!(bench.status("web").last_exit.unwrap().cause, what);
    }
}

/// A setup error and the exit that follows it are one failure, in either order.
#[test]
fn setup_error_and_exit_are_one_failure() {
    let reason = "mount /data: ENOENT".to_string();
    let error = || RunEvent::StartFailed { reason: reason.clone() };
    let exit = || RunEvent::Exited { status: ExitStatus::Code(1), oom: false };
    for events in [[error(), exit(), RunEvent::GroupEmpty], [exit(), error(), RunEvent::GroupEmpty]]
    {
        let mut bench = Bench::booted([unit("web")]);
        bench.run("web", RunEvent::Started { pid: 7 });
        for event in events {
            bench.run("web", event);
        }
        let status = bench.status("web");
        assert_eq!(status.failures, 1);
        assert_eq!(status.last_exit.unwrap().cause, ExitCause::SetupFailed(reason.clone()));
        assert_eq!(status.state, State::Backoff);
    }
}

/// The supervisor was killed in the middle of a start: the start is repeated and not counted.
#[test]
fn start_interrupted_by_the_supervisors_own_end() {
    let mut job = oneshot("job");
    job.restart.policy = RestartPolicy::Never;
    let mut bench = Bench::booted([job.clone()]);
    let saved = BTreeMap::from([("job".to_string(), bench.core.saved("job").unwrap())]);
    assert!(saved["job"].launching());
    let config = BTreeMap::from([("job".to_string(), job)]);
    bench.core = Core::restore(config, BTreeMap::new(), 1, saved, bench.now).0;
    bench.run("job", RunEvent::GroupEmpty);
    bench.secs(1);
    let status = bench.status("job");
    assert_eq!((status.generation, status.failures), (2, 0));
    bench.up("job");
    bench.end("job", ExitStatus::Code(0));
    assert_eq!(bench.state("job"), State::Done);
}

/// `wait_timeout` makes a failed attempt, never a silent end.
#[test]
fn wait_timeout_goes_through_backoff_and_waits_again() {
    let mut web = unit("web");
    web.wait_for = vec![Condition::NetRoute];
    web.wait_timeout = Some(Duration::from_secs(5));
    let mut bench = Bench::booted([web]);
    bench.secs(5);
    let status = bench.status("web");
    assert_eq!(status.state, State::Backoff);
    let text = "wait_timeout expired: the host's condition net.route";
    assert_eq!(status.last_exit.unwrap().cause.to_string(), text);
    bench.secs(1);
    assert_eq!(bench.state("web"), State::Waiting);
    bench.handle(Event::ConditionChanged { condition: Condition::NetRoute, holds: true });
    assert_eq!(bench.starts("web"), 1);
}

/// Flatcar#1367: the reaction to a failure must happen exactly once, even if the supervisor dies.
#[test]
fn reaction_of_the_host_to_a_unit_that_has_failed() {
    let mut job = oneshot("job");
    job.on_failure = OnFailure::Reboot;
    let mut bench = Bench::booted([job.clone()]);
    bench.up("job");
    bench.end("job", ExitStatus::Code(1));
    let down = |a: &&Action| matches!(a, Action::HostDown { kind, .. } if *kind == api_types::ShutdownKind::Reboot);
    assert_eq!(bench.all.iter().filter(down).count(), 1);
    bench.secs(3600);
    assert_eq!(bench.all.iter().filter(down).count(), 1);
    let saved = BTreeMap::from([("job".to_string(), bench.core.saved("job").unwrap())]);
    let config = BTreeMap::from([("job".to_string(), job)]);
    let (_, actions) = Core::restore(config, BTreeMap::new(), 1, saved, bench.now);
    assert_eq!(actions.iter().filter(down).count(), 1);
}

/// A second stop neither repeats the signal nor extends the time, and one after the end has no effect.
#[test]
fn stop_is_not_begun_twice() {
    let mut bench = Bench::booted([unit("web")]);
    bench.up("web");
    assert!(signals(&bench.stop("web"), "web"));
    bench.secs(9);
    assert!(!signals(&bench.stop("web"), "web"));
    bench.secs(1);
    assert!(kills(&bench.all, "web"));
    bench.run("web", RunEvent::Exited { status: ExitStatus::Signal(9), oom: false });
    let before = bench.status("web").last_exit;
    assert!(!kills(&bench.stop("web"), "web"));
    bench.run("web", RunEvent::GroupEmpty);
    assert_eq!(bench.status("web").last_exit, before);
    assert_eq!(bench.state("web"), State::Stopped);
}

/// A unit that came after another went on waiting for it when that was stopped by hand while its
/// failed start was already being ended.
#[test]
fn order_is_not_kept_for_a_unit_that_is_no_longer_wanted() {
    let (mut slow, mut web) = (unit("slow"), unit("web"));
    slow.start_timeout = Some(Duration::from_secs(5));
    web.after = vec!["slow".into()];
    let mut bench = Bench::booted([slow, web]);
    bench.run("slow", RunEvent::Started { pid: 7 });
    bench.secs(5);
    assert_eq!((bench.state("slow"), bench.state("web")), (State::Stopping, State::Waiting));
    bench.stop("slow");
    assert_eq!(bench.state("web"), State::Starting);
}

/// The stop request comes before the event that the process exists: the process is killed at once.
#[test]
fn process_that_appears_after_the_order_to_stop() {
    let mut bench = Bench::booted([unit("web")]);
    assert!(kills(&bench.stop("web"), "web"));
    assert!(kills(&bench.run("web", RunEvent::Started { pid: 7 }), "web"));
    bench.run("web", RunEvent::ExecSucceeded);
    assert_eq!(bench.state("web"), State::Stopping);
    bench.end("web", ExitStatus::Signal(9));
    assert_eq!(bench.state("web"), State::Stopped);
}
