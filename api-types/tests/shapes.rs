//! The JSON is as the supervisor writes it.

use api_types::{By, Did, ExitStatus, LastExitDetail, State, Unit};

#[test]
fn a_unit_of_a_newer_host_can_be_read() {
    let text = r#"{"name":"web","state":"backoff","desired":"up","by":{"unit":"app"},
        "last_exit":{"cause":"signal","detail":11,"at":5,"asked":false,"ran_ms":2},
        "waiting_for":[{"kind":"condition","condition":"dns"}],"colour":"blue"}"#;
    let unit: Unit = serde_json::from_str(text).unwrap();
    assert_eq!(unit.state, State::Backoff);
    assert_eq!(unit.by, Some(By::Unit("app".into())));
    assert_eq!(unit.last_exit.unwrap().detail, Some(LastExitDetail::Number(11)));
}

#[test]
fn an_end_has_a_cause_and_perhaps_a_detail() {
    for (json, detail) in [
        (r#"{"cause":"oom"}"#, None),
        (
            r#"{"cause":"health","detail":"no answer"}"#,
            Some(LastExitDetail::Text("no answer".into())),
        ),
    ] {
        let exit: api_types::LastExit = serde_json::from_str(json).unwrap();
        assert_eq!(exit.detail, detail);
    }
}

#[test]
fn the_exit_of_an_exec() {
    assert_eq!(serde_json::to_string(&ExitStatus::Code(3)).unwrap(), r#"{"code":3}"#);
    assert_eq!(serde_json::to_string(&ExitStatus::Signal(9)).unwrap(), r#"{"signal":9}"#);
}

#[test]
fn what_was_done_needs_no_unit() {
    let did = Did { did: "the host restarts".into(), unit: None };
    assert_eq!(serde_json::to_string(&did).unwrap(), r#"{"did":"the host restarts"}"#);
}
