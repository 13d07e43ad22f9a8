//! Commands and files in containers; starting units and waiting for them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use api_types::{Decoder, EventKind, ExecRequest, Frame, FrameKind, Resize, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::supervisor::unit;
use common::{Connection, Host, until, write};
use flate2::read::GzDecoder;
use ipc::api::{ApiRequest, ToApi};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

fn exec(host: &Host, command: &[&str], tty: Option<(u16, u16)>) -> Connection {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    let request = ExecRequest { command, env: BTreeMap::new(), tty };
    let header = STANDARD.encode(serde_json::to_vec(&request).unwrap());
    let header = format!("x-keel-exec: {header}");
    let mut connection = host.connect(&host.admin);
    let headers = ["connection: Upgrade", "upgrade: keel-exec", header.as_str()];
    connection.request("POST", "/v1/units/web/exec", &headers, b"");
    let head = connection.head().unwrap();
    assert_eq!((head.status, head.headers["upgrade"].as_str()), (101, "keel-exec"));
    connection
}

fn send_frame(connection: &mut Connection, kind: FrameKind, payload: &[u8]) {
    let mut bytes = Vec::new();
    Frame { kind, payload: payload.to_vec() }.encode(&mut bytes).unwrap();
    connection.send(&bytes).unwrap();
}

/// Bytes that the other side's kernel has not got yet: `SIOCOUTQ` of tcp(7).
fn unsent(connection: &Connection) -> libc::c_int {
    let mut bytes = 0;
    let socket = connection.stream.sock.as_raw_fd();
    // SAFETY: it writes one number, to a variable that outlives the call.
    let done = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &raw mut bytes) };
    assert_eq!(done, 0);
    bytes
}

fn receive_frame(connection: &mut Connection) -> Frame {
    let mut decoder = Decoder::default();
    let header = connection.take(api_types::FRAME_HEADER).unwrap();
    let len = u32::from_be_bytes(header[1..].try_into().unwrap());
    decoder.push(&header);
    decoder.push(&connection.take(len as usize).unwrap());
    decoder.next_frame().unwrap().unwrap()
}

/// Everything up to the end, by kind.
fn collect(connection: &mut Connection) -> (Vec<u8>, Vec<u8>, String) {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    loop {
        let frame = receive_frame(connection);
        match frame.kind {
            FrameKind::Stdout => output.extend(frame.payload),
            FrameKind::Stderr => errors.extend(frame.payload),
            FrameKind::Exit => {
                assert!(connection.ended());
                return (output, errors, String::from_utf8(frame.payload).unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_command_has_output_input_and_an_end() {
    let host = Host::new();
    let mut run = exec(&host, &["sh", "-c", "echo to you; cat; echo oh >&2; exit 7"], None);
    assert_eq!(receive_frame(&mut run).payload, b"to you\n");
    send_frame(&mut run, FrameKind::Stdin, b"and ");
    send_frame(&mut run, FrameKind::Stdin, b"to you");
    send_frame(&mut run, FrameKind::Stdin, b"");
    let (output, errors, status) = collect(&mut run);
    assert_eq!((output.as_slice(), errors.as_slice()), (&b"and to you"[..], &b"oh\n"[..]));
    assert_eq!(status, r#"{"code":7}"#);
    assert!(host.supervisor.state().abandoned.is_empty());
}

#[test]
fn large_input_and_output_are_complete() {
    let host = Host::new();
    let mut run = exec(&host, &["cat"], None);
    let sent: Vec<u8> = (0..1_000_000u32).map(|number| (number % 251) as u8).collect();
    let mut got = Vec::new();
    for piece in sent.chunks(50_000) {
        send_frame(&mut run, FrameKind::Stdin, piece);
        let wanted = got.len() + piece.len();
        while got.len() < wanted {
            got.extend(receive_frame(&mut run).payload);
        }
    }
    send_frame(&mut run, FrameKind::Stdin, b"");
    let (rest, _, status) = collect(&mut run);
    got.extend(rest);
    assert!(got == sent);
    assert_eq!(status, r#"{"code":0}"#);
}

#[test]
fn output_from_before_an_end_arrives_before_it() {
    let host = Host::new();
    // The child that is still running keeps the pipe open; it is not waited for.
    let script = "sleep 100 & head -c 60000 /dev/zero; kill -9 $$";
    let mut run = exec(&host, &["sh", "-c", script], None);
    let (output, _, status) = collect(&mut run);
    assert_eq!((output.len(), status.as_str()), (60_000, r#"{"signal":9}"#));
}

#[test]
fn a_command_is_abandoned_with_its_client() {
    let host = Host::new();
    let run = exec(&host, &["sleep", "100"], None);
    drop(run);
    host.supervisor.wait_for(|state| (!state.abandoned.is_empty()).then_some(()));
    let mut nonsense = exec(&host, &["sleep", "100"], None);
    nonsense.send(b"these are no frames").unwrap();
    host.supervisor.wait_for(|state| (state.abandoned.len() == 2).then_some(()));
}

#[test]
fn a_client_that_disconnects_after_unread_input_is_noticed() {
    let host = Host::new();
    let mut run = exec(&host, &["sleep", "1000"], None);
    // More than the pipe and the queue before it hold. It fits into the host's socket piece by piece,
    // but not always at once; unsent bytes on this side would delay the end of the connection.
    for _ in 0..12 {
        send_frame(&mut run, FrameKind::Stdin, &[b'x'; 16 * 1024]);
        until(|| (unsent(&run) == 0).then_some(()));
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(host.supervisor.state().abandoned.is_empty());
    drop(run);
    host.supervisor.wait_for(|state| (state.abandoned.len() == 1).then_some(()));
}

#[test]
fn a_terminal_has_a_size_and_one_stream() {
    let host = Host::new();
    let mut run = exec(&host, &["sh"], Some((24, 80)));
    let mut terminal = host.supervisor.state().terminal.take().unwrap();
    terminal.write_all(b"$ ").unwrap();
    assert_eq!(receive_frame(&mut run).payload, b"$ ");
    send_frame(&mut run, FrameKind::Stdin, b"ls\r");
    send_frame(&mut run, FrameKind::Resize, &Resize { rows: 50, columns: 132 }.encode());
    send_frame(&mut run, FrameKind::Stdin, b"");
    let mut typed = [0; 4];
    terminal.read_exact(&mut typed).unwrap();
    assert_eq!(&typed, b"ls\r\x04");
    let id = host.supervisor.wait_for(|state| {
        state.asks.iter().find_map(|(_, request)| match request {
            ApiRequest::Resize { id, rows: 50, columns: 132 } => Some(*id),
            _ => None,
        })
    });
    host.supervisor.send(&ToApi::Exited { id, status: ipc::ExitStatus::Code(0) }, Vec::new());
    assert_eq!(collect(&mut run).2, r#"{"code":0}"#);
}

#[test]
fn a_command_that_cannot_be_run_is_a_normal_error() {
    let host = Host::new();
    let request = STANDARD.encode(r#"{"command": ["/no/such/thing"]}"#);
    let headers = ["connection: upgrade", "upgrade: keel-exec", &format!("x-keel-exec: {request}")];
    let mut connection = host.connect(&host.admin);
    let mut ask = |headers: &[&str]| connection.ask("POST", "/v1/units/web/exec", headers, b"");
    assert_eq!(ask(&headers).error(), "failed");
    assert_eq!(ask(&headers[..2]).error(), "invalid");
    assert_eq!(ask(&headers[2..]).error(), "invalid");
    assert_eq!(ask(&[headers[0], headers[1], "x-keel-exec: e30="]).error(), "invalid");
    assert_eq!(ask(&[headers[0], headers[1], "x-keel-exec: %%%"]).error(), "invalid");
}

#[test]
fn files_are_read_and_written() {
    let host = Host::new();
    let content: Vec<u8> = (0..3_000_000u32).map(|number| (number % 253) as u8).collect();
    write(&host.directory.path("there"), &content);
    let got = host.get("/v1/units/web/files?path=/there");
    assert!(got.body == content);
    assert_eq!(got.headers["x-keel-mode"], "0640");
    let mut connection = host.connect(&host.admin);
    let path = "/v1/units/web/files?path=/new%20one&mode=0600";
    let put = connection.ask("PUT", path, &[], &content);
    assert_eq!(put.json()["did"], "wrote 3000000 bytes to /new one of web");
    assert!(std::fs::read(host.directory.path("new one")).unwrap() == content);
    // Overwrites it with shorter content.
    assert_eq!(connection.ask("PUT", path, &[], b"x").status, 200);
    assert_eq!(std::fs::read(host.directory.path("new one")).unwrap(), b"x");
    assert_eq!(host.get("/v1/units/web/files?path=/nosuch").error(), "not_found");
}

#[test]
fn a_waiting_request_is_answered_when_the_change_is_complete() {
    let host = Host::new();
    host.supervisor.state().becomes = unit(State::Starting, false, 2);
    let mut connection = host.connect(&host.admin);
    connection.request("POST", "/v1/units/web/restart?wait=60", &[], b"");
    host.supervisor.wait_for(|state| (state.unit.state == State::Starting).then_some(()));
    host.supervisor.state().unit = unit(State::Running, true, 2);
    host.supervisor.happens(1, Some("web"), EventKind::Ready { took_ms: 7 });
    let response = connection.response().unwrap().json();
    assert_eq!(
        (response["did"].as_str(), &response["unit"]["generation"]),
        (Some("web is ready"), &2.into())
    );

    host.supervisor.state().becomes = unit(State::Stopped, false, 2);
    let stopped = host.ask(&host.admin, "POST", "/v1/units/web/stop?wait=60").json();
    assert_eq!(stopped["did"], "web is stopped");
}

#[test]
fn a_waiting_request_that_fails_is_answered_with_the_reason() {
    let host = Host::new();
    let mut failed = unit(State::Failed, false, 2);
    failed.reason = Some("exit code 3".to_owned());
    host.supervisor.state().becomes = failed;
    let response = host.ask(&host.admin, "POST", "/v1/units/web/restart?wait=60");
    assert_eq!(response.error(), "not_ready");
    let error = &response.json()["error"];
    assert_eq!(error["message"], "web is not ready: exit code 3");
    assert_eq!(error["details"][1], "because");
    // Not in time.
    host.supervisor.state().becomes = unit(State::Backoff, false, 3);
    let response = host.ask(&host.admin, "POST", "/v1/units/web/restart?wait=1");
    assert_eq!(response.error(), "not_ready");
}

#[test]
fn a_bundle_has_everything() {
    let host = Host::new();
    let response = host.get("/v1/host/bundle");
    assert_eq!(response.headers["content-type"], "application/gzip");
    let mut archive = tar::Archive::new(GzDecoder::new(response.body.as_slice()));
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        found.insert(path, text);
    }
    let names: Vec<&str> =
        found.keys().map(|path| path.trim_start_matches("keel-bundle/")).collect();
    let all = [
        "config.json",
        "dmesg.txt",
        "events.json",
        "host.json",
        "logs/web.txt",
        "processes.json",
        "units.json",
    ];
    assert_eq!(names, all);
    assert_eq!(found["keel-bundle/dmesg.txt"], "the kernel says\n");
}
