//! Which keys are accepted.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use api::Limits;
use api_types::Role;
use common::{Connection, Host, Key, until};
use std::io::Read;

#[test]
fn a_client_without_a_certificate_is_refused() {
    let host = Host::new();
    // In TLS 1.3 the client is done before the host has said no.
    let refused = match Connection::open(host.address, None, &host.fingerprint) {
        Err(_) => true,
        Ok(mut connection) => connection.stream.read(&mut [0; 10]).is_err(),
    };
    assert!(refused);
    assert_eq!(host.get("/v1/whoami").status, 200);
}

#[test]
fn an_unknown_key_learns_its_fingerprint_and_nothing_else() {
    let host = Host::new();
    let unknown = Key::new();
    for request in ["GET /v1/units HTTP/1.1\r\n\r\n", "no HTTP at all", &"x".repeat(100_000)] {
        let mut connection = host.connect(&unknown);
        let _ = connection.send(request.as_bytes());
        let response = connection.response().unwrap();
        assert_eq!(response.error(), "unknown_key");
        assert!(response.text().contains(&unknown.fingerprint()));
    }
    assert!(host.supervisor.state().asks.is_empty());
}

#[test]
fn an_empty_list_refuses_all_clients() {
    let host = Host::new();
    host.supervisor.set_clients(Vec::new());
    until(|| (host.get("/v1/whoami").status == 403).then_some(()));
}

#[test]
fn before_the_list_arrives_the_supervisor_is_unavailable() {
    let host = Host::start(Limits::default(), true);
    assert_eq!(host.get("/v1/whoami").error(), "unavailable");
    host.supervisor.state().silent = false;
    host.supervisor.set_clients(vec![host.admin.client("ada", Role::Admin)]);
    until(|| (host.get("/v1/whoami").status == 200).then_some(()));
}

#[test]
fn no_date_and_no_name_locks_a_known_key_out() {
    let host = Host::new();
    let expired = Key::with(|params| {
        params.not_before = rcgen::date_time_ymd(1990, 1, 1);
        params.not_after = rcgen::date_time_ymd(1991, 1, 1);
    });
    let future = Key::with(|params| params.not_before = rcgen::date_time_ymd(4000, 1, 1));
    let authority = Key::with(|params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    let keys = [expired, future, authority];
    let clients = keys.iter().map(|key| key.client("old", Role::Reader)).collect();
    host.supervisor.set_clients(clients);
    for key in &keys {
        let response =
            until(|| Some(host.ask(key, "GET", "/v1/whoami")).filter(|r| r.status == 200));
        assert_eq!(response.json()["key"], key.fingerprint());
    }
}

#[test]
fn older_tls_is_refused() {
    let host = Host::new();
    let versions = [&rustls::version::TLS12];
    let result = Connection::with(host.address, Some(&host.admin), &host.fingerprint, &versions);
    assert!(result.is_err());
}

#[test]
fn the_supervisor_decides_what_each_client_may_do() {
    let host = Host::new();
    let who = host.ask(&host.reader, "GET", "/v1/whoami").json();
    assert_eq!((who["name"].as_str(), who["role"].as_str()), (Some("ray"), Some("reader")));
    for (method, path) in [
        ("POST", "/v1/units/web/start"),
        ("POST", "/v1/units/web/restart?wait=1"),
        ("POST", "/v1/host/reboot"),
        ("GET", "/v1/host/bundle"),
        ("GET", "/v1/units/web/files?path=/etc/passwd"),
    ] {
        assert_eq!(host.ask(&host.reader, method, path).error(), "forbidden", "{path}");
    }
    assert_eq!(host.ask(&host.admin, "POST", "/v1/units/web/start").status, 200);
}

#[test]
fn a_client_that_is_removed_from_the_list_is_disconnected_at_once() {
    let host = Host::new();
    let mut follower = host.connect(&host.reader);
    follower.request("GET", "/v1/events", &[], b"");
    assert_eq!(follower.head().unwrap().status, 200);
    let mut stays = host.connect(&host.admin);
    assert_eq!(stays.ask("GET", "/v1/whoami", &[], b"").status, 200);
    host.supervisor.set_clients(vec![host.admin.client("ada", Role::Admin)]);
    assert!(follower.ended());
    assert_eq!(stays.ask("GET", "/v1/whoami", &[], b"").status, 200);
}

#[test]
fn the_key_moves_to_a_data_disk_that_is_mounted_late() {
    let host = Host::new();
    let mut idle = host.connect(&host.admin);
    host.tell(&ipc::FromInit::DataDisk(ipc::DataDisk {
        path: Some("/data".into()),
        ..Default::default()
    }));
    // The process ends, to be restarted with the key on that disk.
    assert!(idle.ended());
}
