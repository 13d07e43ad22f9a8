//! Health checks.

use super::*;

fn probes(bench: &Bench) -> usize {
    bench.all.iter().filter(|a| matches!(a, Action::ProbeNow { .. })).count()
}

/// Answers each probe for this long.
fn answer(bench: &mut Bench, seconds: u64, result: Result<(), &str>) {
    let end = bench.now.plus(Duration::from_secs(seconds));
    while let Some(at) = bench.core.next_deadline().filter(|at| *at <= end) {
        bench.now = bench.now.max(at);
        let actions = bench.handle(Event::Tick);
        if actions.iter().any(|a| matches!(a, Action::ProbeNow { .. })) {
            bench.run("web", RunEvent::Health { result: result.map_err(str::to_string) });
        }
    }
    bench.now = end;
}

fn web(check: Healthcheck, ready: Ready) -> Bench {
    let mut web = unit("web");
    web.healthcheck = Some(check);
    web.ready = ready;
    let mut bench = Bench::booted([web]);
    bench.up("web");
    bench
}

#[test]
fn ready_healthy_waits_for_the_first_success_and_no_longer() {
    let mut bench = web(check(60, 3, 0), Ready::Healthy);
    assert_eq!(bench.state("web"), State::Starting);
    answer(&mut bench, 1, Err("connection refused"));
    assert_eq!(bench.state("web"), State::Starting);
    answer(&mut bench, 2, Ok(()));
    assert_eq!(bench.state("web"), State::Running);
    assert!(bench.status("web").ready);
    let so_far = probes(&bench);
    answer(&mut bench, 60, Ok(()));
    assert_eq!(probes(&bench), so_far + 1);
}

#[test]
fn failures_in_a_row_restart_it_and_count_once() {
    let mut bench = web(check(5, 3, 0), Ready::Started);
    answer(&mut bench, 60, Ok(()));
    let before = bench.now;
    answer(&mut bench, 60, Err("status 500"));
    let signal = bench.all.iter().any(|a| matches!(a, Action::Signal { .. }));
    assert!(signal && bench.now.since(before) <= Duration::from_secs(60));
    bench.end("web", ExitStatus::Code(0));
    let status = bench.status("web");
    assert_eq!(status.last_exit.unwrap().cause, ExitCause::Health("status 500".into()));
    assert_eq!((status.failures, status.generation), (1, 2));
    assert_eq!(status.state, State::Starting, "it was stable, so it restarts at once");
}

#[test]
fn quick_probes_of_a_young_program_do_not_use_up_its_retries() {
    let mut bench = web(check(5, 3, 0), Ready::Started);
    answer(&mut bench, 14, Err("connection refused"));
    assert!(probes(&bench) > 4);
    assert_eq!(bench.state("web"), State::Running);
    answer(&mut bench, 12, Err("connection refused"));
    assert_eq!(bench.state("web"), State::Stopping);
    bench.end("web", ExitStatus::Code(0));
    assert_eq!(bench.state("web"), State::Backoff, "it was never healthy: no restart at once");
}

#[test]
fn failures_within_the_start_period_do_not_count() {
    let mut bench = web(check(1, 2, 30), Ready::Started);
    answer(&mut bench, 29, Err("connection refused"));
    assert_eq!(bench.status("web").health.unwrap().failures, 0);
    answer(&mut bench, 4, Err("connection refused"));
    assert_eq!(bench.state("web"), State::Stopping);
}

#[test]
fn a_probe_that_never_answers_is_a_failure() {
    let mut bench = web(check(5, 2, 0), Ready::Started);
    bench.secs(60);
    let status = bench.status("web");
    assert_eq!(status.state, State::Stopping);
    bench.end("web", ExitStatus::Signal(15));
    let what = bench.status("web").last_exit.unwrap().cause;
    assert_eq!(what, ExitCause::Health("the probe gave no answer".into()));
}

#[test]
fn an_unexpected_answer_changes_nothing() {
    let mut bench = web(check(5, 1, 0), Ready::Healthy);
    bench.run("web", RunEvent::Health { result: Ok(()) });
    assert!(!bench.status("web").ready);
    bench.stop("web");
    bench.run("web", RunEvent::Health { result: Err("late".into()) });
    assert_eq!(bench.state("web"), State::Stopping);
    assert_eq!(bench.status("web").failures, 0);
}

#[test]
fn without_a_restart_policy_an_unhealthy_unit_keeps_running() {
    let mut web = unit("web");
    web.healthcheck = Some(check(1, 1, 0));
    web.restart.policy = RestartPolicy::Never;
    let mut bench = Bench::booted([web]);
    bench.up("web");
    answer(&mut bench, 30, Err("down"));
    assert_eq!(bench.state("web"), State::Running);
    assert_eq!(bench.status("web").health.unwrap().state, HealthState::Unhealthy);
    answer(&mut bench, 3, Ok(()));
    assert_eq!(bench.status("web").health.unwrap().state, HealthState::Healthy);
}

#[test]
fn a_streak_of_failures_survives_the_supervisor() {
    let mut bench = web(check(5, 3, 0), Ready::Started);
    answer(&mut bench, 20, Ok(()));
    answer(&mut bench, 10, Err("down"));
    assert_eq!(bench.status("web").health.unwrap().failures, 2);
    let text = bench.core.saved("web").unwrap().to_json().unwrap();
    let saved = BTreeMap::from([("web".into(), SavedState::from_json(&text).unwrap())]);
    let config = bench.core.entries.iter().map(|e| (e.unit.name.clone(), e.unit.clone()));
    let config = config.collect();
    bench.core = Core::restore(config, BTreeMap::new(), 1, saved, bench.now).0;
    answer(&mut bench, 5, Err("down"));
    assert_eq!(bench.state("web"), State::Stopping);
}
