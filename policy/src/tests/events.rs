//! Events: what programs read in their fields.

use super::*;
use api_types::{ErrorCode, Failure, Problem};

/// What was reported of a unit, in order.
fn reported<'a>(bench: &'a Bench, name: &str) -> Vec<&'a EventKind> {
    let of = |action: &'a Action| match action {
        Action::Report { unit, report } if unit == name => Some(report),
        _ => None,
    };
    bench.all.iter().filter_map(of).collect()
}

/// The last reported end of `web`, which must also be what its status shows.
fn last_end(bench: &Bench) -> LastExit {
    let mut ends = reported(bench, "web").into_iter().filter_map(|kind| match kind {
        EventKind::Ended(end) => Some(end.clone()),
        _ => None,
    });
    let end = ends.next_back().unwrap();
    assert_eq!(bench.status("web").last_exit.as_ref(), Some(&end));
    end
}

fn running() -> Bench {
    let mut bench = Bench::booted([unit("web")]);
    bench.up("web");
    bench
}

#[test]
fn an_exit_has_its_code_or_signal_or_the_memory_killer() {
    for (status, oom, cause) in [
        (ExitStatus::Code(0), false, ExitCause::Code(0)),
        (ExitStatus::Code(3), false, ExitCause::Code(3)),
        (ExitStatus::Signal(11), false, ExitCause::Signal(11)),
        (ExitStatus::Signal(9), true, ExitCause::Oom),
    ] {
        let mut bench = running();
        bench.secs(2);
        let at = bench.now.as_millis();
        bench.run("web", RunEvent::Exited { status, oom });
        assert_eq!(last_end(&bench), LastExit { cause, at, asked: false, ran_ms: 2000 });
    }
}

#[test]
fn a_requested_end_is_marked_as_such() {
    let mut bench = running();
    bench.stop("web");
    bench.end("web", ExitStatus::Signal(15));
    let end = last_end(&bench);
    assert_eq!((end.cause, end.asked), (ExitCause::Signal(15), true));
}

#[test]
fn failed_health_checks_end_a_run_with_the_last_error() {
    let mut web = unit("web");
    web.healthcheck = Some(check(5, 1, 0));
    let mut bench = Bench::booted([web]);
    bench.up("web");
    for result in [Ok(()), Err("status 500".to_owned())] {
        bench.secs(6);
        bench.run("web", RunEvent::Health { result });
    }
    bench.secs(20);
    let unhealthy = |kind: &&EventKind| matches!(kind, EventKind::Unhealthy { .. });
    let events = reported(&bench, "web");
    let Some(EventKind::Unhealthy { error, restarts: true }) = events.into_iter().find(unhealthy)
    else {
        panic!("{:?}", bench.all)
    };
    let error = error.clone();
    bench.end("web", ExitStatus::Code(0));
    assert_eq!(last_end(&bench).cause, ExitCause::Health(error));
}

#[test]
fn timeouts_and_failed_starts_are_causes_of_their_own() {
    let mut web = unit("web");
    (web.ready, web.start_timeout) = (Ready::Notify, Some(Duration::from_secs(30)));
    let mut bench = Bench::booted([web]);
    bench.up("web");
    bench.secs(30);
    bench.end("web", ExitStatus::Signal(9));
    assert_eq!(last_end(&bench).cause, ExitCause::StartTimeout);

    let mut web = unit("web");
    (web.wait_for, web.wait_timeout) = (vec![Condition::Dns], Some(Duration::from_secs(5)));
    let mut bench = Bench::booted([web]);
    let waiting =
        EventKind::Waiting { reasons: vec![WaitReason::Condition { condition: "dns".into() }] };
    assert!(reported(&bench, "web").contains(&&waiting));
    bench.secs(5);
    let end = last_end(&bench);
    let expected = ExitCause::WaitTimeout("the host's condition dns".into());
    assert_eq!((end.cause, end.ran_ms), (expected, 5000));

    let mut bench = Bench::booted([unit("web")]);
    bench.run("web", RunEvent::StartFailed { reason: "mount /data: ENOENT".into() });
    assert_eq!(last_end(&bench).cause, ExitCause::SetupFailed("mount /data: ENOENT".into()));

    let mut bench = running();
    bench.run("web", RunEvent::GroupEmpty);
    bench.secs(11);
    assert_eq!(last_end(&bench).cause, ExitCause::Lost);

    let mut bench = Bench::booted([unit("web")]);
    bench.run("web", RunEvent::GroupEmpty);
    assert_eq!(last_end(&bench).cause, ExitCause::Interrupted);

    let mut bench = running();
    bench.stop("web");
    bench.secs(10);
    assert!(reported(&bench, "web").contains(&&EventKind::StopTimeout));
}

#[test]
fn a_back_off_has_its_delay_and_a_failure_its_reason() {
    let mut web = unit("web");
    web.restart.max_attempts = Some(2);
    web.restart.window = Some(Duration::from_secs(60));
    let mut bench = Bench::booted([web]);
    bench.up("web");
    bench.end("web", ExitStatus::Code(1));
    let events = reported(&bench, "web");
    let Some(EventKind::Backoff { delay_ms, attempts: 1 }) = events.last() else {
        panic!("{events:?}")
    };
    assert_eq!(bench.status("web").next_retry_ms, Some(bench.now.as_millis() + delay_ms));
    while bench.state("web") != State::Failed {
        bench.secs(1);
        bench.up("web");
        bench.end("web", ExitStatus::Signal(6));
    }
    let last = ExitCause::Signal(6);
    let limit = Failure::StartLimit { attempts: 2, window_ms: Some(60_000), last };
    assert_eq!(reported(&bench, "web").last(), Some(&&EventKind::Failed(limit)));

    let mut bench = Bench::booted([oneshot("web")]);
    bench.up("web");
    bench.end("web", ExitStatus::Code(4));
    let failure = Failure::NotRestarted { last: ExitCause::Code(4) };
    assert_eq!(reported(&bench, "web").last(), Some(&&EventKind::Failed(failure)));
}

#[test]
fn a_refusal_has_the_code_that_a_client_gets() {
    let mut bench = Bench::booted([unit("web")]);
    for (name, code, message) in [
        ("db", ErrorCode::NotFound, "unit db not found"),
        ("web", ErrorCode::Conflict, "the host is shutting down"),
    ] {
        if code == ErrorCode::Conflict {
            bench.handle(Event::ShutdownRequested);
        }
        bench.start(name);
        let problem = Problem::new(code, message);
        assert_eq!(reported(&bench, name).last(), Some(&&EventKind::Refused(problem.clone())));
        let checked = bench.core.check(&Command::Start { unit: name.into() });
        assert_eq!(checked.map_err(Problem::from), Err(problem));
    }
}
