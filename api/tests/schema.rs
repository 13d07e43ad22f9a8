//! The API against its own OpenAPI document, tested by schemathesis: a client that reads the document
//! and sends requests that it allows, and requests that it does not allow.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use api_types::{Event, EventKind, ExitCause, Failure, LastExit, State, Unmet, WaitReason};
use common::Host;
use common::log::Log;
use logger::Stream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The pause between two lines and between two events: streams are read until some have arrived.
const PAUSE: Duration = Duration::from_millis(20);

/// Events that are kept.
const KEPT: usize = 20;

/// Events of many shapes, all of which the document describes.
fn kinds() -> Vec<EventKind> {
    let end = |cause| EventKind::Ended(LastExit { cause, at: 7, asked: false, ran_ms: 1500 });
    let last = ExitCause::SetupFailed("mount /data: ENOENT".to_owned());
    let unmet = Unmet::NotReady { state: State::Backoff };
    vec![
        EventKind::Starting { generation: 3 },
        EventKind::Healthy,
        end(ExitCause::Code(3)),
        end(ExitCause::Oom),
        end(ExitCause::Health("status 500".to_owned())),
        EventKind::Waiting { reasons: vec![WaitReason::Requires { unit: "db".into(), unmet }] },
        EventKind::Backoff { delay_ms: 200, attempts: 2 },
        EventKind::Failed(Failure::StartLimit { attempts: 3, window_ms: None, last }),
        EventKind::Exec { client: "ada".to_owned(), command: vec!["ls".to_owned()] },
        EventKind::Supervisor,
    ]
}

/// Lines and events keep coming, so that followers have something to read.
fn activity(host: &Host, over: &AtomicBool) {
    let mut log = Log::new(host);
    let streams = [Stream::Stdout, Stream::Stderr, Stream::System];
    for (seq, kind) in (1..).zip(kinds().into_iter().cycle()) {
        if over.load(Ordering::Relaxed) {
            return;
        }
        log.line(1_700_000_000_000_000, streams[seq as usize % 3], "a \"line\" \u{1b}[1m");
        host.supervisor.happens(seq, Some("web"), kind);
        let events: &mut Vec<Event> = &mut host.supervisor.state().events;
        let extra = events.len().saturating_sub(KEPT);
        events.drain(..extra);
        std::thread::sleep(PAUSE);
    }
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// In the repository's `target`, wherever cargo's own target directory is.
fn schemathesis() -> PathBuf {
    let path = here().join("../target/schemathesis/bin/schemathesis");
    assert!(path.exists(), "{} is missing; `make schemathesis` provides it", path.display());
    path
}

#[test]
fn the_document_keeps_its_promises() {
    let program = schemathesis();
    let host = Host::new();
    host.supervisor.state().obliging = true;
    for name in ["etc", "there"] {
        common::write(&host.directory.path(name), b"content");
    }
    let identity = host.directory.path("identity.pem");
    common::write(&identity, host.admin.pem().as_bytes());
    // If it were read from its address, it would not be tested like the other paths.
    let served = host.get("/v1/openapi.json");
    let document = host.directory.path("openapi.json");
    common::write(&document, &served.body);
    let over = AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| activity(&host, &over));
        let output = Command::new(program)
            .arg("--config-file")
            .arg(here().join("tests/schemathesis/schemathesis.toml"))
            .arg("run")
            .arg(&document)
            .arg("--url")
            .arg(format!("https://{}", host.address))
            .arg("--request-cert")
            .arg(&identity)
            .current_dir(&host.directory.0)
            .output();
        over.store(true, Ordering::Relaxed);
        output.unwrap()
    });
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the API differs from its description");
    // No operation was left out.
    let operations = served.json()["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|path| path.as_object().unwrap().len())
        .sum::<usize>();
    assert!(text.contains(&format!("{operations} selected / {operations} total")), "{text}");
}
