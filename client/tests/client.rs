//! The client, tested with a fake host.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

#[path = "common/fake.rs"]
#[allow(dead_code, reason = "the tests of the command use the rest")]
mod fake;

use api_types::ErrorCode;
use client::http::{Payload, Request, url};
use client::tls::{self, NoConnection, TIMEOUT};
use client::{
    Address, Client, Code, Error, Fingerprint, HostCode, Identity, LocalCode, Pin, Target,
};
use fake::{FakeHost, Reply, chunked, json};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A folder with a client key, removed when dropped.
struct Keys {
    dir: PathBuf,
}

impl Keys {
    fn new() -> Keys {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("client-{}-{number}", std::process::id());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        Identity::make(&dir.join("identity.pem")).unwrap();
        Keys { dir }
    }

    fn client(&self, host: &FakeHost, pin: Pin) -> Client {
        let address: Address = host.address.to_string().parse().unwrap();
        let identity = self.dir.join("identity.pem");
        Client::new(Target { label: "edge".to_owned(), address, pin, identity })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn pinned(host: &FakeHost) -> Pin {
    Pin::Known(host.key.parse().unwrap())
}

fn code(result: Result<impl std::fmt::Debug, Error>) -> Code {
    result.unwrap_err().code().clone()
}

#[test]
fn requests_share_a_connection_and_survive_its_end() {
    // Every second answer is the last one on its connection, without `Connection: close`.
    let count = AtomicUsize::new(0);
    let host = FakeHost::start(move |seen| {
        let answer = json(200, &json!({"line": seen.line}));
        match (answer, count.fetch_add(1, Ordering::Relaxed) % 2) {
            (Reply::Bytes(bytes), 1) => Reply::Last(bytes),
            (answer, _) => answer,
        }
    });
    let keys = Keys::new();
    let mut client = keys.client(&host, pinned(&host));
    for number in 0..5 {
        let line = client.get(&format!("/v1/{number}")).unwrap();
        assert_eq!(line, json!({"line": format!("GET /v1/{number}")}));
    }
    let line = client.post("/v1/x", Some(&json!({"a": 1})), Duration::ZERO).unwrap();
    assert_eq!(line, json!({"line": "POST /v1/x"}));
    assert_eq!(host.seen()[5].body, br#"{"a":1}"#);
}

#[test]
fn a_host_with_another_key_or_an_unknown_one_receives_no_request() {
    let host = FakeHost::start(|_| json(200, &json!([])));
    let other = FakeHost::start(|_| json(200, &json!([])));
    let keys = Keys::new();
    for pin in [pinned(&other), Pin::None] {
        let error = keys.client(&host, pin).get("/v1/units").unwrap_err();
        assert!(error.is(LocalCode::HostKey), "{error:?}");
        assert!(error.details().iter().any(|line| line.contains(&host.key)), "{error:?}");
    }
    assert_eq!(host.lines(), [""; 0]);
    let address: Address = host.address.to_string().parse().unwrap();
    let key: Fingerprint = host.key.parse().unwrap();
    assert_eq!(tls::connect_unpinned(&address, None).unwrap().1, key);
    match tls::connect(&address, other.key.parse().ok(), None) {
        Err(NoConnection::OtherKey(shown)) => assert_eq!(shown, key),
        other => panic!("{other:?}"),
    }
}

#[test]
fn errors_have_typed_codes() {
    let host = FakeHost::start(|seen| {
        let error = |code| json!({"error": {"code": code, "message": "why", "details": ["more"]}});
        match seen.line.as_str() {
            "GET /missing" => json(404, &error("not_found")),
            "GET /newer" => json(418, &error("out_of_tea")),
            "GET /forbidden" => json(403, &error("forbidden")),
            "GET /proxy" => json(502, &json!("bad gateway")),
            _ => json(200, &json!({"not": "a list"})),
        }
    });
    let closed = FakeHost::closed();
    let keys = Keys::new();
    let mut client = keys.client(&host, pinned(&host));
    let known = |code| Code::Host(HostCode::Known(code));
    let local = Code::Local;
    assert_eq!(code(client.get("/missing")), known(ErrorCode::NotFound));
    let newer = Code::Host(HostCode::Unknown("out_of_tea".to_owned()));
    assert_eq!(code(client.get("/newer")), newer);
    assert_eq!(code(client.get("/forbidden")), known(ErrorCode::Forbidden));
    assert_eq!(code(client.get("/proxy")), local(LocalCode::HttpStatus));
    assert_eq!(code(client.get_as::<Vec<u8>>("/")), local(LocalCode::Garbled));
    let refused = keys.client(&closed, pinned(&closed)).get("/").unwrap_err();
    assert!(refused.is(LocalCode::Refused) && refused.is_refusal());
    assert!(refused.details()[0].contains("our key is SHA256:"), "{refused:?}");
    let gone: Address = "127.0.0.1:1".parse().unwrap();
    let error = tls::connect_unpinned(&gone, None).map(|_| ()).unwrap_err();
    assert!(error.is(LocalCode::Unreachable) && error.is_transient());
    assert_eq!(error.to_string(), "cannot reach 127.0.0.1:1: connection refused");
    std::fs::remove_file(keys.dir.join("identity.pem")).unwrap();
    let error = keys.client(&host, pinned(&host)).get("/").unwrap_err();
    assert!(error.is(LocalCode::Usage) && error.to_string().contains("keel keygen"), "{error:?}");
}

#[test]
fn a_stream_is_a_series_of_events_and_ends() {
    let host = FakeHost::start(|_| {
        let parts = ["id: 1\nevent: line\nda", "ta: a\n\n: keep-alive\n\n", "data: b\n\ndata: c"];
        Reply::Last(chunked("", &parts))
    });
    let keys = Keys::new();
    let mut client = keys.client(&host, pinned(&host));
    let mut stream = client.stream(&url(&["v1", "events"], &[])).unwrap();
    let mut events = Vec::new();
    while let Some(event) = stream.next_event().unwrap() {
        events.push((event.id, event.kind, event.data));
    }
    let event =
        |id: &str, kind: &str, data: &str| (id.to_owned(), kind.to_owned(), data.to_owned());
    // The last event has no empty line behind it: it is incomplete.
    assert_eq!(events, [event("1", "line", "a"), event("1", "", "b")]);
    assert_eq!(host.seen()[0].header("accept"), "text/event-stream");
}

#[test]
fn a_body_that_ends_early_is_an_error_and_the_next_request_connects_again() {
    let count = AtomicUsize::new(0);
    let host = FakeHost::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello".to_vec()),
        _ => json(200, &json!("whole")),
    });
    let keys = Keys::new();
    let mut client = keys.client(&host, pinned(&host));
    let request = Request { method: "GET", path: "/v1/x", headers: &[] };
    client.send(&request, Payload::None, TIMEOUT).unwrap();
    let error = client.read_all().unwrap_err();
    assert!(error.is(LocalCode::Unreachable), "{error:?}");
    assert_eq!(client.get("/v1/x").unwrap(), json!("whole"));
}
