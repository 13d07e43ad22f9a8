//! HTTP: valid requests, invalid requests, and slow clients.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use api::Limits;
use api_types::{ErrorBody, Problem};
use common::{Host, until};
use ipc::api::ApiRequest;
use serde_json::json;
use std::time::Duration;

/// The time limit for idle peers. The tests themselves must stay below it, also on a busy machine.
const SHORT: Duration = Duration::from_secs(3);

fn short_limits() -> Limits {
    Limits { handshake: SHORT, head: SHORT, piece: SHORT, answer: SHORT, ..Limits::default() }
}

#[test]
fn what_the_supervisor_reports_is_passed_on() {
    let host = Host::new();
    let mut connection = host.connect(&host.admin);
    let mut get = |path: &str| connection.ask("GET", path, &[], b"");
    let units: Vec<api_types::Unit> = serde_json::from_value(get("/v1/units").json()).unwrap();
    assert_eq!(units, [common::supervisor::unit(api_types::State::Running, true, 1)]);
    assert_eq!(get("/v1/units/web").json()["memory"], 4096);
    assert_eq!(get("/v1/units/web/explain").json()["lines"][1], "because");
    assert_eq!(get("/v1/host/network").json()["gateway"], "10.0.0.1");
    assert_eq!(get("/v1/host/dmesg").text(), "the kernel says\n");
    assert_eq!(get("/v1/host/processes").json()[1]["unit"], "web");
    assert_eq!(get("/v1/host/config").json()[0]["origin"], "host.toml:1");
    assert_eq!(get("/v1/openapi.json").json()["openapi"], "3.1.0");
    let metrics = get("/metrics");
    assert!(metrics.text().contains("keel_unit_memory_bytes{unit=\"web\"} 4096\n"));
    assert!(metrics.text().ends_with("# EOF\n"));
}

#[test]
fn a_refusal_keeps_its_code_and_its_message() {
    use api_types::ErrorCode::*;
    let host = Host::new();
    let mut connection = host.connect(&host.admin);
    for (code, status) in [
        (Invalid, 400),
        (UnknownKey, 403),
        (Forbidden, 403),
        (NotFound, 404),
        (Conflict, 409),
        (NoProgram, 404),
        (NotExecutable, 400),
        (Failed, 500),
    ] {
        let refusal = Problem::new(code, format!("{code:?} it is"));
        host.supervisor.state().refusal = Some(refusal.clone());
        for (method, path) in [("GET", "/v1/units/web"), ("POST", "/v1/units/web/restart")] {
            let response = connection.ask(method, path, &[], b"");
            let body: ErrorBody = serde_json::from_value(response.json()).unwrap();
            assert_eq!((response.status, &body.error), (status, &refusal), "{method} {path}");
        }
    }
}

#[test]
fn a_long_answer_is_sent_in_a_file() {
    let host = Host::new();
    host.supervisor.state().by_file = true;
    assert_eq!(host.get("/v1/units/web").json()["name"], "web");
}

#[test]
fn a_signal_has_a_name_or_a_number() {
    let host = Host::new();
    for text in ["HUP", "SIGHUP", "1"] {
        let mut connection = host.connect(&host.admin);
        let body = json!({ "signal": text }).to_string();
        let response = connection.ask("POST", "/v1/units/web/signal", &[], body.as_bytes());
        assert_eq!(response.json()["did"], "sent SIGHUP to web");
    }
    let request = ipc::control::Request::SignalUnit { name: "web".into(), signal: 1 };
    let asked = ApiRequest::Plain { request };
    let asks = host.supervisor.state();
    assert_eq!(asks.asks.iter().filter(|(_, request)| *request == asked).count(), 3);
}

#[test]
fn every_error_has_an_answer_of_the_same_form() {
    let host = Host::new();
    let long = format!("{{\"signal\": \"{}\"}}", "x".repeat(70_000));
    let far = format!("/v1/units/web/files?path=/{}", "x".repeat(4095));
    let cases: &[(&str, &str, &str, &str)] = &[
        ("GET", "/", "", "not_found"),
        ("GET", "/v1/units/", "", "not_found"),
        ("GET", "/v1/units/nosuch", "", "not_found"),
        ("GET", "/v1/units/..%2f..%2fetc", "", "invalid"),
        ("GET", "/v1/units/..", "", "invalid"),
        ("GET", "/v1/units/web%00/logs", "", "invalid"),
        ("GET", "/v1/units/%ff", "", "invalid"),
        ("GET", "/v1/units/%", "", "invalid"),
        ("GET", "/v1/units/WEB", "", "invalid"),
        ("GET", "/v1/units/web/start", "", "method_not_allowed"),
        ("DELETE", "/v1/units/web", "", "method_not_allowed"),
        ("BREW", "/v1/units", "", "method_not_allowed"),
        ("GET", "/v1/units?x=1", "", "invalid"),
        ("GET", "/v1/units?x=%", "", "invalid"),
        ("GET", "/v1/units/web/logs?tail=many", "", "invalid"),
        ("GET", "/v1/units/web/logs?tail=1&tail=2", "", "invalid"),
        ("GET", "/v1/units/web/logs?since_time=yesterday", "", "invalid"),
        ("GET", "/v1/units/web/logs?stream=both", "", "invalid"),
        ("GET", "/v1/units/web/logs?follow=perhaps", "", "invalid"),
        ("GET", "/v1/events?after=-1", "", "invalid"),
        ("GET", "/v1/events?after=%2b1", "", "invalid"),
        ("GET", "/v1/events?after=9223372036854775808", "", "invalid"),
        ("POST", "/v1/units/web/stop?wait=3601", "", "invalid"),
        ("GET", "/v1/units/web/files?path=etc", "", "invalid"),
        ("GET", "/v1/units/web/files", "", "invalid"),
        ("GET", "/v1/units/web/files?path=/%00", "", "invalid"),
        ("GET", &far, "", "invalid"),
        ("PUT", "/v1/units/web/files?path=/x&mode=999", "", "invalid"),
        ("POST", "/v1/units/web/start?wait=soon", "", "invalid"),
        ("POST", "/v1/units/web/exec", "", "invalid"),
        ("POST", "/v1/units/web/signal", "", "invalid"),
        ("POST", "/v1/units/web/signal", "this is not JSON", "invalid"),
        ("POST", "/v1/units/web/signal", "{\"signal\": 1}", "invalid"),
        ("POST", "/v1/units/web/signal", "{\"signal\": \"HUP\", \"x\": 1}", "invalid"),
        ("POST", "/v1/units/web/signal", "{\"signal\": \"SIGHAPPY\"}", "invalid"),
        ("POST", "/v1/units/web/signal", &long, "too_large"),
    ];
    for (method, path, body, code) in cases {
        let mut connection = host.connect(&host.admin);
        let response = connection.ask(method, path, &[], body.as_bytes());
        assert_eq!(response.error(), *code, "{method} {path} {body:.40}");
        assert_eq!(response.headers.contains_key("allow"), *code == "method_not_allowed");
    }
}

#[test]
fn an_endless_head_is_cut_off() {
    let host = Host::new();
    let mut connection = host.connect(&host.admin);
    let mut text = String::from("GET /v1/units HTTP/1.1\r\n");
    for number in 0..2000 {
        text += &format!("x-{number}: {}\r\n", "y".repeat(50));
    }
    // The host may have closed the connection before all of it was sent.
    let _ = connection.send(text.as_bytes());
    if let Ok(response) = connection.response() {
        assert_eq!(response.error(), "head_too_large");
    }
    assert!(connection.ended());
}

#[test]
fn input_that_is_not_http_is_answered_too() {
    let host = Host::new();
    for head in [
        "this is no HTTP\r\n\r\n",
        "GET /v1/units HTTP/9.9\r\n\r\n",
        "GET /v1/units HTTP/1.1\r\nno colon\r\n\r\n",
        "GET http:/// HTTP/1.1\r\n\r\n",
        "POST /v1/units HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut connection = host.connect(&host.admin);
        // Also as the second request of a connection.
        for _ in 0..head.len() % 3 {
            assert_eq!(connection.ask("GET", "/v1/units", &[], b"").status, 200);
        }
        connection.send(head.as_bytes()).unwrap();
        let response = connection.response().unwrap();
        assert_eq!(response.error(), "invalid", "{head}");
        assert_eq!(response.headers["connection"], "close");
        assert!(connection.ended());
    }
}

#[test]
fn an_answer_is_complete_whatever_follows_its_request() {
    let host = Host::new();
    let content = vec![7; 3_000_000];
    common::write(&host.directory.path("large"), &content);
    let mut connection = host.connect(&host.admin);
    let request = "GET /v1/units/web/files?path=/large HTTP/1.1\r\n\r\nthis is no HTTP\r\n\r\n";
    connection.send(request.as_bytes()).unwrap();
    assert!(connection.response().unwrap().body == content);
    assert_eq!(connection.response().unwrap().status, 400);
    assert!(connection.ended());
}

#[test]
fn a_head_of_16_kib_is_read_and_a_larger_one_is_an_error() {
    let host = Host::new();
    let mut connection = host.connect(&host.admin);
    let mut ask = |len: usize| {
        connection.ask("GET", "/v1/whoami", &[&format!("x-long: {}", "y".repeat(len))], b"")
    };
    assert_eq!(ask(15_000).status, 200);
    assert_eq!(ask(17_000).error(), "head_too_large");
    let mut connection = host.connect(&host.admin);
    let path = format!("/v1/units/{}", "y".repeat(17_000));
    assert_eq!(connection.ask("GET", &path, &[], b"").error(), "head_too_large");
}

#[test]
fn an_endless_body_is_cut_off() {
    let host = Host::new();
    let mut connection = host.connect(&host.admin);
    connection.request("POST", "/v1/units/web/signal", &["transfer-encoding: chunked"], b"");
    let chunk = format!("1000\r\n{}\r\n", "z".repeat(0x1000));
    let sent = (0..100).take_while(|_| connection.send(chunk.as_bytes()).is_ok()).count();
    let answered = connection.response().map(|response| response.error());
    // A reset may arrive before the answer if there is still something to send.
    assert!(answered.is_ok_and(|code| code == "too_large") || sent < 100);
}

#[test]
fn slow_clients_are_disconnected_and_delay_no_others() {
    let host = Host::with(short_limits());
    // Before TLS, in the head, in the body.
    let mut silent = std::net::TcpStream::connect(host.address).unwrap();
    let mut slow = host.connect(&host.admin);
    slow.send(b"GET /v1/units HTTP/1.1\r\nx: ").unwrap();
    let mut lazy = host.connect(&host.admin);
    lazy.request("POST", "/v1/units/web/signal", &["content-length: 20"], b"");
    assert_eq!(host.get("/v1/whoami").status, 200);
    silent.set_read_timeout(Some(common::TIMEOUT)).unwrap();
    assert!(matches!(std::io::Read::read(&mut silent, &mut [0; 10]), Ok(0) | Err(_)));
    assert!(slow.ended());
    assert_eq!(lazy.response().unwrap().error(), "timeout");
    assert_eq!(host.get("/v1/whoami").status, 200);
}

#[test]
fn a_connection_that_does_nothing_is_closed() {
    let host = Host::with(Limits { idle: SHORT, ..Limits::default() });
    let mut connection = host.connect(&host.admin);
    assert_eq!(connection.ask("GET", "/v1/whoami", &[], b"").status, 200);
    assert!(connection.ended());
}

#[test]
fn a_partial_request_before_an_idle_time_is_continued_after_it() {
    let host = Host::new();
    let mut connection = host.connect(&host.admin);
    let request = b"GET /v1/whoami HTTP/1.1\r\nhost: x\r\n\r\n";
    let (half, rest) = request.split_at(20);
    connection.send(&[request, half].concat()).unwrap();
    assert_eq!(connection.response().unwrap().status, 200);
    // Longer than the connection keeps its buffers. With too short a sleep the test would pass without
    // testing anything.
    std::thread::sleep(Duration::from_millis(1500));
    connection.send(rest).unwrap();
    assert_eq!(connection.response().unwrap().status, 200);
}

#[test]
fn unauthenticated_connections_are_evicted_for_new_ones_and_clients_are_not() {
    let host = Host::with(Limits { connections: 3, unauthenticated: 2, ..Limits::default() });
    let mut known = host.connect(&host.admin);
    assert_eq!(known.ask("GET", "/v1/whoami", &[], b"").status, 200);
    let _silent: Vec<_> =
        (0..10).map(|_| std::net::TcpStream::connect(host.address).unwrap()).collect();
    let mut second = host.connect(&host.admin);
    assert_eq!(second.ask("GET", "/v1/whoami", &[], b"").status, 200);
    assert_eq!(known.ask("GET", "/v1/whoami", &[], b"").status, 200);
}

#[test]
fn one_key_with_many_connections_does_not_lock_the_others_out() {
    let host = Host::with(Limits { connections: 5, ..Limits::default() });
    let ask =
        |connection: &mut common::Connection| connection.ask("GET", "/v1/whoami", &[], b"").status;
    let mut admin = host.connect(&host.admin);
    assert_eq!(ask(&mut admin), 200);
    let mut greedy: Vec<_> = (0..20).map(|_| host.connect(&host.reader)).collect();
    assert_eq!(greedy.last_mut().map(ask), Some(200));
    let mut second = host.connect(&host.admin);
    assert_eq!((ask(&mut admin), ask(&mut second)), (200, 200));
}

#[test]
fn without_a_supervisor_requests_are_still_answered() {
    let host = Host::with(short_limits());
    host.supervisor.state().silent = true;
    let mut connection = host.connect(&host.admin);
    assert_eq!(connection.ask("GET", "/v1/units", &[], b"").error(), "unavailable");
    // It is back.
    host.supervisor.state().silent = false;
    assert_eq!(connection.ask("GET", "/v1/units", &[], b"").status, 200);
}

#[test]
fn a_client_that_disconnects_during_a_request_leaves_nothing_behind() {
    let host = Host::with(Limits { pending: 3, ..Limits::default() });
    host.supervisor.state().silent = true;
    let ask = || {
        let mut connection = host.connect(&host.admin);
        connection.request("GET", "/v1/units", &[], b"");
        connection
    };
    let waiting = [ask(), ask(), ask()];
    host.supervisor.wait_for(|state| (state.asks.len() == 3).then_some(()));
    assert_eq!(host.get("/v1/units").error(), "busy");
    drop(waiting);
    host.supervisor.state().silent = false;
    until(|| (host.get("/v1/units").status == 200).then_some(()));
}
