//! Streaming commands: logs and events, files, and programs in containers.

use super::fake::{FakeHost, Reply, Wire, chunked, json};
use super::home::{Home, code, err, out};
use api_types::{Decoder, ExecRequest, Frame, FrameKind, Resize};
use base64::Engine;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

fn line(seq: u64, stream: &str, text: &str) -> Value {
    let time_us = 1_795_325_566_123_456i64;
    json!({"seq": seq, "time_us": time_us, "stream": stream, "generation": 1, "text": text})
}

#[test]
fn logs_are_printed_as_lines() {
    let host =
        FakeHost::start(|_| json(200, &json!([line(1, "stdout", "a"), line(2, "stderr", "b")])));
    let home = Home::knowing(&[&host]);
    assert_eq!(out(&home.on(&host, &["logs", "web"])), "a\nb\n");
    let args = [
        "logs",
        "-t",
        "--tail",
        "5",
        "--stream",
        "stderr",
        "--since",
        "2026-11-22T05:30:00+01:00",
        "web",
    ];
    let stamped = out(&home.on(&host, &args));
    assert!(stamped.starts_with("2026-11-22T05:32:46.123Z a\n"), "{stamped}");
    let raw = out(&home.on(&host, &["logs", "--json", "web"]));
    let first: Value = serde_json::from_str(raw.lines().next().unwrap()).unwrap();
    assert_eq!(first, line(1, "stdout", "a"));
    assert_eq!(
        host.lines()[..2],
        [
            "GET /v1/units/web/logs?tail=100",
            "GET /v1/units/web/logs?tail=5&since_time=2026-11-22T05%3A30%3A00%2B01%3A00&stream=stderr"
        ]
    );
}

#[test]
fn following_resumes_after_a_lost_connection() {
    let connections = AtomicUsize::new(0);
    let host = FakeHost::start(move |seen| {
        if seen.line == "GET /v1/host" {
            return json(200, &json!({"uptime_ms": 5}));
        }
        let event = |seq: u64| {
            format!(
                "id: {seq}\nevent: line\ndata: {}\n\n",
                line(seq, "stdout", &format!("line {seq}"))
            )
        };
        match connections.fetch_add(1, Ordering::Relaxed) {
            // The connection ends in the middle of an event, as if the api process were killed.
            0 => {
                let mut bytes =
                    chunked("", &[&event(1), ": keep-alive\n\n", &event(2), "id: 3\nda"]);
                bytes.truncate(bytes.len() - 5);
                Reply::Last(bytes)
            }
            1 => {
                let gap = "event: gap\ndata: {\"missed\": 4}\n\n";
                Reply::Last(chunked("", &[gap, &event(7)]))
            }
            // The unit no longer exists, which ends the test.
            _ => json(404, &json!({"error": {"code": "not_found", "message": "no unit web"}})),
        }
    });
    let home = Home::knowing(&[&host]);
    let followed = home.on(&host, &["logs", "-f", "web"]);
    assert_eq!(out(&followed), "line 1\nline 2\nline 7\n", "{}", err(&followed));
    assert!(err(&followed).contains("4 lines are no longer available"), "{}", err(&followed));
    assert_eq!(code(&followed), 1);
    let asked: Vec<String> =
        host.lines().into_iter().filter(|line| line.contains("/logs")).collect();
    assert_eq!(
        asked,
        [
            "GET /v1/units/web/logs?tail=100&follow=true",
            "GET /v1/units/web/logs?follow=true&tail=all&since=2",
            "GET /v1/units/web/logs?follow=true&tail=all&since=7"
        ]
    );
}

#[test]
fn events_of_several_hosts_contain_the_host_name() {
    let event =
        json!({"seq": 1, "time_us": 0, "unit": "web", "kind": "started", "text": "web started"});
    let answer = json!([event]);
    let one = FakeHost::start(move |_| json(200, &answer));
    let home = Home::knowing(&[&one]);
    let text = format!(
        "[host.one]\naddress = \"{}\"\n[host.gone]\naddress = \"127.0.0.1:1\"\n",
        one.address
    );
    std::fs::write(home.config("hosts.toml"), text).unwrap();
    let shown = home.keel(&["-H", "one,gone", "events", "--json"]);
    let line: Value = serde_json::from_str(out(&shown).trim()).unwrap();
    assert_eq!((line["host"].as_str(), line["kind"].as_str()), (Some("one"), Some("started")));
    assert!(err(&shown).starts_with("keel: gone: cannot reach"), "{}", err(&shown));
    assert_eq!(code(&shown), 3);
    assert_eq!(one.lines(), ["GET /v1/events?follow=false&after=0"]);
}

#[test]
fn files_are_copied_both_ways_with_their_permissions() {
    let host = FakeHost::start(|seen| {
        if seen.line.starts_with("PUT") {
            return json(200, &json!({"did": "copied"}));
        }
        Reply::Bytes(chunked("X-Keel-Mode: 4751\r\n", &["hel", "lo"]))
    });
    let home = Home::knowing(&[&host]);
    let down = home.on(&host, &["cp", "web:/etc/a b", "."]);
    assert_eq!(code(&down), 0, "{}", err(&down));
    assert_eq!(std::fs::read(home.dir.join("a b")).unwrap(), b"hello");
    let mode = std::fs::metadata(home.dir.join("a b")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o751);
    assert_eq!(out(&home.on(&host, &["cp", "web:/etc/a b", "-"])), "hello");
    let up = home.on(&host, &["cp", "a b", "web:/tmp/"]);
    assert_eq!(out(&up), "copied\n", "{}", err(&up));
    let mut piped =
        home.command(&["-H", &host.address.to_string(), "cp", "-", "web:/x", "--mode", "600"]);
    let mut piped = piped.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(&vec![b'x'; 70_000]).unwrap();
    assert!(piped.wait().unwrap().success());
    let seen = host.seen();
    assert_eq!(seen[0].line, "GET /v1/units/web/files?path=%2Fetc%2Fa%20b");
    assert_eq!(seen[2].line, "PUT /v1/units/web/files?path=%2Ftmp%2Fa%20b&mode=0751");
    assert_eq!(seen[2].body, b"hello");
    assert_eq!(seen[3].line, "PUT /v1/units/web/files?path=%2Fx&mode=0600");
    assert_eq!(seen[3].body.len(), 70_000);
    for wrong in [["cp", "a", "b"], ["cp", "a:/x", "b:/y"]] {
        assert_eq!(code(&home.on(&host, &wrong)), 2);
    }
}

#[test]
fn an_incomplete_download_leaves_the_old_file() {
    let host = FakeHost::start(|_| {
        Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello".to_vec())
    });
    let home = Home::knowing(&[&host]);
    std::fs::write(home.dir.join("x"), "old").unwrap();
    assert_eq!(code(&home.on(&host, &["cp", "web:/x", "x"])), 3);
    assert_eq!(std::fs::read(home.dir.join("x")).unwrap(), b"old");
    let left: Vec<_> = std::fs::read_dir(&home.dir).unwrap().flatten().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_bundle_is_readable_only_by_its_owner() {
    let host = FakeHost::start(|_| Reply::Bytes(chunked("", &["tar", "gz"])));
    let home = Home::knowing(&[&host]);
    assert_eq!(code(&home.on(&host, &["bundle", "-o", "b.tgz"])), 0);
    let path = home.dir.join("b.tgz");
    assert_eq!(std::fs::read(&path).unwrap(), b"targz");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

/// The host's side of an exec.
pub struct Program<'a> {
    wire: &'a mut Wire,
    decoder: Decoder,
}

impl Program<'_> {
    /// Accepts the upgrade.
    pub fn begin(wire: &mut Wire) -> Program<'_> {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: keel-exec\r\n\r\n";
        wire.write_all(head).unwrap();
        wire.flush().unwrap();
        Program { wire, decoder: Decoder::default() }
    }

    /// The next frame from the client.
    pub fn next(&mut self) -> Frame {
        let mut piece = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return frame;
            }
            let got = self.wire.read(&mut piece).unwrap();
            assert!(got > 0, "the client has closed the connection");
            self.decoder.push(&piece[..got]);
        }
    }

    /// Sends a frame.
    pub fn send(&mut self, kind: FrameKind, payload: &[u8]) {
        let mut bytes = Vec::new();
        Frame { kind, payload: payload.to_vec() }.encode(&mut bytes).unwrap();
        self.wire.write_all(&bytes).unwrap();
        self.wire.flush().unwrap();
    }
}

#[test]
fn exec_forwards_input_output_and_the_exit_code() {
    let host = FakeHost::start(|_| {
        Reply::Custom(Box::new(|wire| {
            let mut program = Program::begin(wire);
            let mut input = Vec::new();
            loop {
                let frame = program.next();
                assert_eq!(frame.kind, FrameKind::Stdin);
                if frame.payload.is_empty() {
                    break;
                }
                input.extend(frame.payload);
            }
            for piece in input.chunks(10_000) {
                program.send(FrameKind::Stdout, piece);
            }
            program.send(FrameKind::Stderr, b"warning");
            program.send(FrameKind::Exit, br#"{"code":7}"#);
        }))
    });
    let home = Home::knowing(&[&host]);
    let address = host.address.to_string();
    let mut child = home
        .command(&["-H", &address, "exec", "-i", "-e", "A=b", "web", "--", "cat", "-v"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let mut stdin = child.stdin.take().unwrap();
    let (writer, sent) = (input.clone(), std::thread::spawn);
    let writer = sent(move || stdin.write_all(&writer).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(code(&output), 7, "{}", err(&output));
    assert!(output.stdout == input);
    assert_eq!(err(&output), "warning");
    let seen = &host.seen()[0];
    assert_eq!(seen.line, "POST /v1/units/web/exec");
    assert_eq!(seen.header("upgrade"), "keel-exec");
    let asked =
        base64::engine::general_purpose::STANDARD.decode(seen.header("x-keel-exec")).unwrap();
    let asked: ExecRequest = serde_json::from_slice(&asked).unwrap();
    assert_eq!(asked.command, ["cat", "-v"]);
    assert_eq!((asked.env["A"].as_str(), asked.tty), ("b", None));
}

#[test]
fn exec_without_input_sends_its_end_and_a_signal_is_128_plus_its_number() {
    let host = FakeHost::start(|_| {
        Reply::Custom(Box::new(|wire| {
            let mut program = Program::begin(wire);
            assert_eq!(program.next(), Frame { kind: FrameKind::Stdin, payload: Vec::new() });
            program.send(FrameKind::Exit, br#"{"signal":9}"#);
        }))
    });
    let home = Home::knowing(&[&host]);
    assert_eq!(code(&home.on(&host, &["exec", "web", "true"])), 137);
}

#[test]
fn a_lost_connection_of_exec_is_an_error() {
    let host = FakeHost::start(|_| {
        Reply::Custom(Box::new(|wire| {
            Program::begin(wire).send(FrameKind::Stdout, b"half");
        }))
    });
    let home = Home::knowing(&[&host]);
    let output = home.on(&host, &["exec", "web", "true"]);
    assert_eq!((code(&output), out(&output).as_str()), (3, "half"), "{}", err(&output));
    // -t requires a terminal.
    assert_eq!(code(&home.on(&host, &["exec", "-t", "web", "sh"])), 2);
}

#[test]
fn a_terminal_is_raw_and_its_size_is_sent() {
    let host = FakeHost::start(|_| {
        Reply::Custom(Box::new(|wire| {
            let mut program = Program::begin(wire);
            program.send(FrameKind::Stdout, b"ready");
            // Ctrl-C is for the program.
            assert_eq!(program.next(), Frame { kind: FrameKind::Stdin, payload: vec![3] });
            program.send(FrameKind::Stdout, b"typed");
            let size = program.next();
            assert_eq!(size.kind, FrameKind::Resize);
            assert_eq!(Resize::decode(&size.payload), Ok(Resize { rows: 50, columns: 132 }));
            program.send(FrameKind::Exit, br#"{"signal":15}"#);
        }))
    });
    let home = Home::knowing(&[&host]);
    let winsize =
        |rows, columns| libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = nix::pty::openpty(Some(&winsize(24, 80)), None).unwrap();
    let slave = || Stdio::from(pty.slave.try_clone().unwrap());
    let before = nix::sys::termios::tcgetattr(&pty.slave).unwrap();
    let mut child = home
        .command(&["-H", &host.address.to_string(), "exec", "-it", "web", "sh"])
        .stdin(slave())
        .stdout(slave())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut master = std::fs::File::from(pty.master.try_clone().unwrap());
    let mut shown = String::new();
    let mut until = |word: &str| {
        while !shown.ends_with(word) {
            let mut piece = [0; 100];
            let got = master.read(&mut piece).unwrap();
            shown.push_str(std::str::from_utf8(&piece[..got]).unwrap());
        }
    };
    until("ready");
    std::fs::File::from(pty.master.try_clone().unwrap()).write_all(&[3]).unwrap();
    until("typed");
    let size = winsize(50, 132);
    // SAFETY: TIOCSWINSZ reads one winsize, which lives until the call returns.
    let set = unsafe {
        libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&pty.master), libc::TIOCSWINSZ, &size)
    };
    assert_eq!(set, 0);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGWINCH).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(nix::sys::termios::tcgetattr(&pty.slave).unwrap(), before);
    let asked = base64::engine::general_purpose::STANDARD
        .decode(host.seen()[0].header("x-keel-exec"))
        .unwrap();
    let asked: ExecRequest = serde_json::from_slice(&asked).unwrap();
    assert_eq!(asked.tty, Some((24, 80)));
}

#[test]
fn events_during_a_lost_connection_are_not_lost() {
    let event = |seq: u64| json!({"seq": seq, "time_us": 0, "unit": "web", "kind": "started", "text": format!("event {seq}")});
    let connections = AtomicUsize::new(0);
    let host = FakeHost::start(move |seen| match seen.line.as_str() {
        "GET /v1/host" => json(200, &json!({"uptime_ms": 5})),
        "GET /v1/events?follow=false" => json(200, &json!([event(3), event(4)])),
        _ => match connections.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::Last(chunked("", &[": keep-alive\n\n"])),
            1 => {
                let sent = format!("id: 6\nevent: started\ndata: {}\n\n", event(6));
                Reply::Last(chunked("", &[&sent]))
            }
            _ => json(403, &json!({"error": {"code": "unknown_key", "message": "no longer"}})),
        },
    });
    let home = Home::knowing(&[&host]);
    let followed = home.on(&host, &["events", "-f"]);
    assert_eq!(
        out(&followed),
        "1970-01-01T00:00:00.000Z  web              started        event 6\n"
    );
    assert_eq!(code(&followed), 4, "{}", err(&followed));
    let asked = host.lines().into_iter().filter(|line| line.contains("after"));
    let numbers: Vec<String> =
        asked.map(|line| line.replace("GET /v1/events?after=", "")).collect();
    assert_eq!(numbers, ["4", "4", "6"]);
}

#[test]
fn top_without_a_terminal_prints_one_update() {
    let looks = AtomicUsize::new(0);
    let host = FakeHost::start(move |seen| match seen.line.as_str() {
        "GET /v1/units" => {
            let n = looks.fetch_add(1, Ordering::Relaxed) as u64;
            json(
                200,
                &json!([{"name": "web", "state": "running", "cpu_usec": n * 500_000, "pids": 3}]),
            )
        }
        _ => json(200, &json!({"hostname": "edge", "uptime_ms": 1_000_000})),
    });
    let home = Home::knowing(&[&host]);
    let shown = out(&home.on(&host, &["top"]));
    assert!(shown.starts_with("edge: up 16m 40s, 1 of 1 units running\n\nNAME   STATE"), "{shown}");
    assert_eq!(shown.lines().count(), 4, "{shown}");
    let raw = out(&home.on(&host, &["top", "--json", "-n", "2", "-d", "1"]));
    let first: Value = serde_json::from_str(raw.lines().next().unwrap()).unwrap();
    assert_eq!(first["units"][0]["pids"], 3);
    assert_eq!(raw.lines().count(), 2);
}
