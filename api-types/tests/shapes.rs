//! The JSON of the types.

use api_types::{
    Action, By, Desired, ErrorCode, Event, EventKind, ExitCause, ExitStatus, Failure, LastExit,
    Outcome, Problem, ShutdownKind, State, Unit, WaitReason,
};
use serde_json::{Value, json};

#[test]
fn a_unit_of_a_newer_host_can_be_read() {
    let text = r#"{"name":"web","state":"backoff","desired":"up","by":{"unit":"app"},
        "last_exit":{"cause":"signal","detail":11,"at":5,"asked":false,"ran_ms":2},
        "waiting_for":[{"kind":"condition","condition":"dns"}],"colour":"blue"}"#;
    let unit: Unit = serde_json::from_str(text).unwrap();
    assert_eq!((unit.state, unit.desired), (State::Backoff, Desired::Up));
    assert_eq!(unit.by, Some(By::Unit("app".into())));
    assert_eq!(unit.last_exit.unwrap().cause, ExitCause::Signal(11));
    assert_eq!(unit.waiting_for, [WaitReason::Condition { condition: "dns".into() }]);
}

#[test]
fn a_unit_survives_the_way_to_a_client() {
    let unit = Unit {
        last_exit: Some(end(ExitCause::Oom)),
        waiting_for: vec![WaitReason::After { unit: "db".into(), state: State::Starting }],
        ..Unit::new("web")
    };
    let text = serde_json::to_string(&unit).unwrap();
    assert_eq!(serde_json::from_str::<Unit>(&text).unwrap(), unit);
}

fn end(cause: ExitCause) -> LastExit {
    LastExit { cause, at: 7, asked: false, ran_ms: 1500 }
}

#[test]
fn an_end_has_a_cause_and_perhaps_a_detail() {
    let text = String::from;
    for (cause, json) in [
        (ExitCause::Code(3), json!({"cause": "code", "detail": 3})),
        (ExitCause::Signal(9), json!({"cause": "signal", "detail": 9})),
        (ExitCause::Oom, json!({"cause": "oom"})),
        (ExitCause::Health(text("no answer")), json!({"cause": "health", "detail": "no answer"})),
        (ExitCause::StartTimeout, json!({"cause": "start_timeout"})),
        (ExitCause::WaitTimeout(text("db")), json!({"cause": "wait_timeout", "detail": "db"})),
        (ExitCause::SetupFailed(text("x")), json!({"cause": "setup_failed", "detail": "x"})),
        (ExitCause::Lost, json!({"cause": "lost"})),
        (ExitCause::Interrupted, json!({"cause": "interrupted"})),
    ] {
        let mut json = json;
        json["at"] = json!(7);
        json["asked"] = json!(false);
        json["ran_ms"] = json!(1500);
        assert_eq!(serde_json::to_value(end(cause.clone())).unwrap(), json);
        assert_eq!(serde_json::from_value::<LastExit>(json).unwrap(), end(cause));
    }
    // From a host that sends fewer fields.
    let short: LastExit = serde_json::from_str(r#"{"cause":"oom"}"#).unwrap();
    assert_eq!((short.cause, short.at), (ExitCause::Oom, 0));
}

/// Every kind of event: its details as JSON and its text.
fn kinds() -> Vec<(EventKind, Value, &'static str)> {
    let client = || "anna".to_owned();
    let start_limit =
        Failure::StartLimit { attempts: 3, window_ms: Some(60_000), last: ExitCause::Signal(9) };
    let asked = |action, signal| EventKind::Asked { client: client(), action, signal };
    vec![
        (
            EventKind::Waiting { reasons: vec![WaitReason::Condition { condition: "dns".into() }] },
            json!({"reasons": [{"kind": "condition", "condition": "dns"}]}),
            "waiting: the host's condition dns",
        ),
        (EventKind::Starting { generation: 2 }, json!({"generation": 2}), "starting (run 2)"),
        (EventKind::Ready { took_ms: 40 }, json!({"took_ms": 40}), "ready after 40 ms"),
        (EventKind::Healthy, Value::Null, "healthy"),
        (
            EventKind::Unhealthy { error: "status 500".into(), restarts: true },
            json!({"error": "status 500", "restarts": true}),
            "unhealthy, restarting: status 500",
        ),
        (
            EventKind::Ended(end(ExitCause::Code(1))),
            json!({"cause": "code", "detail": 1, "at": 7, "asked": false, "ran_ms": 1500}),
            "ended after 1.5 s: exit code 1",
        ),
        (
            EventKind::Ended(LastExit { asked: true, ..end(ExitCause::Signal(15)) }),
            json!({"cause": "signal", "detail": 15, "at": 7, "asked": true, "ran_ms": 1500}),
            "ended as requested after 1.5 s: killed by SIGTERM",
        ),
        (
            EventKind::Ended(end(ExitCause::Oom)),
            json!({"cause": "oom", "at": 7, "asked": false, "ran_ms": 1500}),
            "ended after 1.5 s: out of memory (OOM kill)",
        ),
        (
            EventKind::Ended(end(ExitCause::WaitTimeout("requires db".into()))),
            json!({"cause": "wait_timeout", "detail": "requires db", "at": 7, "asked": false,
                "ran_ms": 1500}),
            "not started, after 1.5 s (wait_timeout): requires db",
        ),
        (
            EventKind::Backoff { delay_ms: 2000, attempts: 4 },
            json!({"delay_ms": 2000, "attempts": 4}),
            "next attempt in 2 s (4 unstable runs in a row)",
        ),
        (
            EventKind::Failed(start_limit),
            json!({"why": "start_limit", "attempts": 3, "window_ms": 60_000,
                "last": {"cause": "signal", "detail": 9}}),
            "failed: start limit: 3 failed attempts in 1 min, the last: killed by SIGKILL",
        ),
        (
            EventKind::Failed(Failure::NotRestarted { last: ExitCause::StartTimeout }),
            json!({"why": "not_restarted", "last": {"cause": "start_timeout"}}),
            "failed: not ready within its start_timeout",
        ),
        (EventKind::Done, Value::Null, "done"),
        (
            EventKind::StartRequested { by: By::Unit("app".into()) },
            json!({"by": {"unit": "app"}}),
            "start requested for app",
        ),
        (
            EventKind::StopRequested { by: By::Person, left_running: vec!["app".into()] },
            json!({"by": "person", "left_running": ["app"]}),
            "stop requested by hand; still running although they require it: app",
        ),
        (EventKind::RestartRequested, Value::Null, "restart requested by hand"),
        (EventKind::StopTimeout, Value::Null, "did not stop within its stop_timeout; killing it"),
        (EventKind::Stuck, Value::Null, "was killed but has not ended (stuck in the kernel)"),
        (EventKind::Stopped, Value::Null, "stopped"),
        (
            EventKind::Refused(Problem::new(ErrorCode::Conflict, "the host is shutting down")),
            json!({"code": "conflict", "message": "the host is shutting down", "details": []}),
            "refused: the host is shutting down",
        ),
        (
            asked(Action::Restart, None),
            json!({"client": "anna", "action": "restart"}),
            "restart requested by anna",
        ),
        (
            asked(Action::Signal, Some(1)),
            json!({"client": "anna", "action": "signal", "signal": 1}),
            "signal 1 requested by anna",
        ),
        (
            EventKind::Exec { client: client(), command: vec!["ls".into(), "/".into()] },
            json!({"client": "anna", "command": ["ls", "/"]}),
            "anna runs ls /",
        ),
        (
            EventKind::File { client: client(), path: "/etc/x".into(), write: true },
            json!({"client": "anna", "path": "/etc/x", "write": true}),
            "anna writes /etc/x",
        ),
        (
            EventKind::Shutdown { client: client(), how: ShutdownKind::Reboot },
            json!({"client": "anna", "how": "reboot"}),
            "reboot requested by anna",
        ),
        (
            EventKind::Supervisor,
            Value::Null,
            "the supervisor was restarted; the units were not touched",
        ),
    ]
}

#[test]
fn every_kind_of_event_has_its_details_as_fields() {
    for (kind, details, text) in kinds() {
        assert_eq!(kind.to_string(), text);
        let event = Event {
            seq: 1,
            time_us: 2,
            unit: Some("web".into()),
            text: kind.to_string(),
            kind: kind.clone(),
        };
        let mut json =
            json!({"seq": 1, "time_us": 2, "unit": "web", "kind": kind.name(), "text": text});
        if !details.is_null() {
            json["details"] = details;
        }
        assert_eq!(serde_json::to_value(&event).unwrap(), json);
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }
}

#[test]
fn an_event_of_a_kind_that_is_not_known_can_be_read() {
    for text in [
        r#"{"seq":1,"time_us":2,"kind":"melted","details":{"degrees":1085},"text":"melted"}"#,
        r#"{"seq":1,"time_us":2,"unit":"web","kind":"melted","text":"melted"}"#,
    ] {
        let event: Event = serde_json::from_str(text).unwrap();
        assert_eq!(event.kind, EventKind::Unknown { kind: "melted".into() });
        assert_eq!((event.kind.name(), event.text.as_str()), ("melted", "melted"));
    }
    // From a host before events had details.
    let old = r#"{"seq":1,"time_us":2,"unit":"web","kind":"ready","text":"ready after 40 ms"}"#;
    assert_eq!(serde_json::from_str::<Event>(old).unwrap().kind.name(), "ready");
}

#[test]
fn the_exit_of_an_exec() {
    assert_eq!(serde_json::to_string(&ExitStatus::Code(3)).unwrap(), r#"{"code":3}"#);
    assert_eq!(serde_json::to_string(&ExitStatus::Signal(9)).unwrap(), r#"{"signal":9}"#);
}

#[test]
fn an_outcome_needs_no_unit() {
    let outcome = Outcome { message: "the host restarts".into(), unit: None };
    assert_eq!(serde_json::to_string(&outcome).unwrap(), r#"{"did":"the host restarts"}"#);
}
