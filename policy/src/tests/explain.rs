//! Explanations of a unit's state.

use super::*;

#[test]
fn the_chain_to_the_root_cause() {
    let (mut web, mut app) = (unit("web"), unit("app"));
    web.requires = vec!["app".into()];
    app.requires = vec!["db".into(), "ghost".into()];
    app.wait_for = vec![Condition::Volume("data".into())];
    let mut bench = Bench::booted([web, app, unit("db")]);
    for _ in 0..7 {
        bench.up("db");
        bench.end("db", ExitStatus::Code(1));
        if bench.status("db").attempts < 7 {
            bench.secs(8);
        }
    }
    let lines = bench.core.explain("web", bench.now).unwrap();
    let next = bench.status("db").next_retry_ms.unwrap() - bench.now.as_millis();
    let next = human(Duration::from_millis(next));
    assert_eq!(
        lines,
        [
            "web has been waiting for 48 s: wanted since boot".to_string(),
            "  it requires app, which is not ready yet (waiting)".into(),
            "    app has been waiting for 48 s: wanted since boot".into(),
            "      it requires ghost, which does not exist on this host".into(),
            "      it requires db, which is not ready yet (backoff)".into(),
            format!("        db starts again in {next} (7 unstable runs in a row)"),
            "          its last attempt ended 0 ms ago: exit code 1 (7 failures so far)".into(),
            "      it waits for the host's condition volume:data".into(),
        ]
    );
}

#[test]
fn every_state_has_an_explanation_also_in_a_dependency_cycle() {
    let (mut a, mut b) = (unit("a"), unit("b"));
    a.requires = vec!["b".into()];
    b.requires = vec!["a".into()];
    let bench = Bench::booted([a, b]);
    let lines = bench.core.explain("a", bench.now).unwrap();
    assert_eq!(lines.last().unwrap().trim(), "a: see above");
    assert_eq!(bench.core.explain("nobody", bench.now), None);
}

#[test]
fn units_with_invalid_files_are_failed_with_the_error() {
    let mut web = unit("web");
    web.requires = vec!["bad".into()];
    let now = Instant::from_millis(0);
    let problems = BTreeMap::from([("bad".to_string(), "line 3: unknown key".to_string())]);
    let mut core = Core::new([("web".into(), web)].into(), problems, 1, now);
    core.handle(now, Event::Boot);
    let status = core.status("bad", now).unwrap();
    assert_eq!(status.state, State::Failed);
    assert_eq!(status.reason.unwrap(), "invalid unit file: line 3: unknown key");
    assert_eq!(core.explain("web", now).unwrap()[2], "    invalid unit file: line 3: unknown key");
    let command = Command::Start { unit: "bad".into() };
    assert!(matches!(core.check(&command), Err(Refusal::Broken(_))));
    assert_eq!(core.names(), ["bad", "web"]);
    // The status of every unit can be written as JSON.
    for status in core.statuses(now) {
        serde_json::to_string(&status).unwrap();
    }
}
