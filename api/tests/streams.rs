//! Logs and events: earlier ones, new ones, and clients that do not keep up.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use api::Limits;
use api_types::{Event, EventKind, Gap, LogLine, ShutdownKind};
use common::log::Log;
use common::{Connection, Host};
use logger::ring::StreamMark;
use logger::{Flags, MAX_TEXT, Stream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const NONE: [u64; 0] = [];

fn seqs(host: &Host, query: &str) -> Vec<u64> {
    let response = host.get(&format!("/v1/units/web/logs{query}"));
    let lines: Vec<LogLine> = serde_json::from_value(response.json()).unwrap();
    lines.into_iter().map(|line| line.seq).collect()
}

fn follow(host: &Host, path: &str, headers: &[&str]) -> Connection {
    let mut connection = host.connect(&host.reader);
    connection.request("GET", path, headers, b"");
    let head = connection.head().unwrap();
    assert_eq!((head.status, head.headers["content-type"].as_str()), (200, "text/event-stream"));
    connection
}

#[test]
fn logs_by_number_by_time_and_by_stream() {
    let host = Host::new();
    assert_eq!(seqs(&host, ""), NONE);
    let mut log = Log::new(&host);
    assert_eq!(seqs(&host, "?tail=all"), NONE);
    for number in 1..=300 {
        let stream = if number % 3 == 0 { Stream::Stderr } else { Stream::Stdout };
        log.line(number * 1_000_000, stream, "x");
    }
    let range = |from, to| (from..=to).collect::<Vec<u64>>();
    assert_eq!(seqs(&host, ""), range(201, 300));
    assert_eq!(seqs(&host, "?tail=2"), range(299, 300));
    assert_eq!(seqs(&host, "?tail=0"), NONE);
    assert_eq!(seqs(&host, "?tail=all"), range(1, 300));
    assert_eq!(seqs(&host, "?since=150"), range(151, 300));
    assert_eq!(seqs(&host, "?since=150&tail=3"), range(298, 300));
    assert_eq!(seqs(&host, "?stream=stderr&tail=3"), [294, 297, 300]);
    assert_eq!(seqs(&host, "?stream=system&tail=all"), NONE);
    assert_eq!(seqs(&host, "?since_time=1970-01-01T00:04:50Z"), range(290, 300));
    assert_eq!(seqs(&host, "?since_time=1970-01-01T00:04:50Z&stream=stdout&tail=1"), [299]);
    assert_eq!(seqs(&host, "?since_time=1980-01-01T00:00:00Z"), NONE);
    // A number from before a reboot.
    assert_eq!(seqs(&host, "?since=5000"), range(1, 300));
}

#[test]
fn lines_that_the_ring_has_lost_come_from_the_log_files() {
    let host = Host::new();
    let folder = host.supervisor.logs().join("web");
    std::fs::create_dir_all(&folder).unwrap();
    let written = |seq: u64, at: u64, text: &str| {
        let (stream, flags, text) = (Stream::Stdout, Flags::NONE, text.as_bytes().to_vec());
        let unix_us = at as i64 * 1_000_000;
        let line = logger::Line { seq, unix_us, mono_ms: 0, generation: 1, stream, flags, text };
        [line.format(), b"\n".to_vec()].concat()
    };
    // Twenty lines of the previous boot, and all lines of this boot except the last.
    let earlier: Vec<u8> = (1..=20).flat_map(|seq| written(seq, 100 + seq, "old")).collect();
    std::fs::write(folder.join("1.log"), earlier).unwrap();
    let numbers = |query: &str| -> Vec<(u64, u64)> {
        let response = host.get(&format!("/v1/units/web/logs{query}"));
        let lines: Vec<LogLine> = serde_json::from_value(response.json()).unwrap();
        lines.into_iter().map(|line| (line.boot, line.seq)).collect()
    };
    let range = |boot, from, to| (from..=to).map(move |seq| (boot, seq)).collect::<Vec<_>>();
    // Nothing has been written in this boot.
    std::fs::write(folder.join("current.log"), "").unwrap();
    assert_eq!(numbers("?tail=3"), range(1, 18, 20));
    assert_eq!(numbers("?since=3"), []);
    let mut log = Log::new(&host);
    let long = "x".repeat(MAX_TEXT);
    for seq in 1..=50 {
        log.line((200 + seq as i64) * 1_000_000, Stream::Stdout, &long);
    }
    let current: Vec<u8> = (1..=49).flat_map(|seq| written(seq, 200 + seq, &long)).collect();
    std::fs::write(folder.join("current.log"), &current).unwrap();
    let place = std::fs::metadata(folder.join("current.log")).unwrap();
    let inode = std::os::unix::fs::MetadataExt::ino(&place);
    log.writer.set_disk(logger::ring::DiskMark { inode, size: place.len(), seq: 49 }).unwrap();
    let lost = log.writer.counters().evicted;
    assert!(lost > 10, "{lost}");

    let all = [range(1, 1, 20), range(0, 1, 50)].concat();
    assert_eq!(numbers("?tail=all"), all);
    assert_eq!(numbers("?tail=45"), range(0, 6, 50));
    assert_eq!(numbers("?tail=60"), all[10..]);
    assert_eq!(numbers("?tail=2"), range(0, 49, 50));
    assert_eq!(numbers("?since=2"), range(0, 3, 50));
    assert_eq!(numbers("?since=2&tail=45"), range(0, 6, 50));
    assert_eq!(numbers("?since_time=1970-01-01T00:01:55Z"), all[14..]);
    assert_eq!(numbers("?since_time=1970-01-01T00:04:05Z"), range(0, 45, 50));
    assert_eq!(numbers("?ago=60"), []);
    assert_eq!(numbers("?stream=stderr&tail=all"), []);
    // A follower receives them too; only those of this boot have numbers to continue from.
    let mut follower = follow(&host, "/v1/units/web/logs?follow=true&tail=51", &[]);
    log.line(0, Stream::Stdout, "new");
    let (id, _, data) = follower.event().unwrap();
    let line: LogLine = serde_json::from_str(&data).unwrap();
    assert_eq!((id.as_str(), line.boot, line.seq), ("", 1, 20));
    for seq in 1..=51u64 {
        assert_eq!(follower.event().unwrap().0, seq.to_string());
    }
}

#[test]
fn bytes_that_are_not_text_are_still_json() {
    let host = Host::new();
    let mut log = Log::new(&host);
    log.writer.begin(&mut log.batch, 0, 0);
    assert!(log.batch.push(1, Stream::Stdout, Flags::NONE, b"a\xff\n\"\x00"));
    let room = log.writer.room(&log.batch);
    let mark = StreamMark { generation: 1, stream: Stream::Stdout, in_line: false, offset: 0 };
    log.writer.append(&log.batch, room, mark).unwrap();
    let text = host.get("/v1/units/web/logs").json()[0]["text"].clone();
    assert_eq!(text, "a\u{fffd}\n\"\u{0}");
}

#[test]
fn a_follower_receives_new_lines() {
    let host = Host::new();
    let early = follow(&host, "/v1/units/web/logs?follow=true", &[]);
    let mut log = Log::new(&host);
    log.lines(3);
    let late = follow(&host, "/v1/units/web/logs?follow=true&tail=1", &[]);
    let back = follow(&host, "/v1/units/web/logs?follow=true&tail=1", &["last-event-id: 1"]);
    log.lines(2);
    for (mut follower, first) in [(early, 1), (late, 3), (back, 2)] {
        for seq in first..=5 {
            let (id, event, data) = follower.event().unwrap();
            let line: LogLine = serde_json::from_str(&data).unwrap();
            assert_eq!((id, event.as_str(), line.seq), (seq.to_string(), "line", seq));
            assert_eq!(line.text, format!("line {seq}"));
        }
    }
}

#[test]
fn a_follower_that_reconnects_too_late_is_notified_of_missed_lines() {
    let host = Host::new();
    let mut log = Log::new(&host);
    for _ in 0..100 {
        log.line(0, Stream::Stdout, &"x".repeat(MAX_TEXT));
    }
    let oldest = log.writer.counters().evicted + 1;
    assert!(oldest > 10);
    let mut follower = follow(&host, "/v1/units/web/logs?follow=true&since=4", &[]);
    let (_, event, data) = follower.event().unwrap();
    let gap: Gap = serde_json::from_str(&data).unwrap();
    assert_eq!((event.as_str(), gap.missed), ("gap", oldest - 5));
    assert_eq!(follower.event().unwrap().0, oldest.to_string());
}

#[test]
fn followers_of_a_flood_do_not_starve_other_followers() {
    let host = Host::new();
    let path = "/v1/units/web/logs?follow=true&tail=0";
    // They check for a ring at intervals, not all at the same time.
    let followers: Vec<Connection> = (0..8)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(40));
            follow(&host, path, &[])
        })
        .collect();
    let mut log = Log::new(&host);
    let received: Vec<AtomicU64> = followers.iter().map(|_| AtomicU64::new(0)).collect();
    let late = Instant::now() + Duration::from_secs(60);
    let enough = || {
        let all = received.iter().all(|count| count.load(Ordering::Relaxed) > 1000);
        all || Instant::now() > late
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !enough() {
                log.writer.begin(&mut log.batch, 0, 0);
                while log.batch.push(1, Stream::Stdout, Flags::NONE, &[b'x'; 79]) {}
                let room = log.writer.room(&log.batch);
                let (stream, in_line) = (Stream::Stdout, false);
                let mark = StreamMark { generation: 1, stream, in_line, offset: 0 };
                log.writer.append(&log.batch, room, mark).unwrap();
            }
        });
        for (mut follower, received) in followers.into_iter().zip(&received) {
            scope.spawn(move || {
                // Until the end: a follower that has received enough still competes with the others.
                while !enough() && follower.event().is_ok() {
                    received.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let received: Vec<u64> = received.into_iter().map(AtomicU64::into_inner).collect();
    assert!(received.iter().all(|count| *count > 1000), "{received:?}");
}

#[test]
fn a_follower_that_never_reads_does_not_delay_others() {
    const LAST: u64 = 300;
    let host = Host::new();
    let mut log = Log::new(&host);
    log.lines(1);
    let mut stuck = follow(&host, "/v1/units/web/logs?follow=true", &[]);
    let mut awake = follow(&host, "/v1/units/web/logs?follow=true&tail=0", &[]);
    // Far more than all buffers in between hold, and never more at a time than the ring holds.
    for seq in 2..=LAST {
        log.line(0, Stream::Stdout, &"x".repeat(MAX_TEXT));
        if seq % 6 == 0 {
            while awake.event().unwrap().0 != seq.to_string() {}
        }
    }
    assert_eq!(host.get("/v1/whoami").status, 200);
    // When it finally reads, it is notified of the lines it has missed and continues with the rest.
    let mut position = 0;
    let mut missed = 0;
    while position < LAST {
        let (id, event, data) = stuck.event().unwrap();
        if event == "gap" {
            missed += serde_json::from_str::<Gap>(&data).unwrap().missed;
        } else {
            let seq: u64 = id.parse().unwrap();
            if position > 0 && seq != position + 1 {
                assert!(missed > 0);
            }
            position = seq;
        }
    }
    assert!(missed > 50);
}

#[test]
fn a_follower_without_news_receives_keep_alives() {
    let host = Host::with(Limits { keep_alive: Duration::from_millis(50), ..Limits::default() });
    for path in ["/v1/events", "/v1/units/web/logs?follow=true"] {
        let mut follower = follow(&host, path, &[]);
        for _ in 0..3 {
            assert_eq!(follower.event().unwrap().1, "");
        }
    }
}

fn event(connection: &mut Connection) -> (u64, String) {
    let (id, kind, data) = connection.event().unwrap();
    let event: Event = serde_json::from_str(&data).unwrap();
    assert_eq!((id.as_str(), kind.as_str()), (event.seq.to_string().as_str(), event.kind.name()));
    (event.seq, kind)
}

#[test]
fn events_from_now_on_and_from_before() {
    let host = Host::new();
    let (starting, ready) =
        (EventKind::Starting { generation: 1 }, EventKind::Ready { took_ms: 7 });
    for (seq, kind) in [(10, starting), (12, ready)] {
        host.supervisor.happens(seq, Some("web"), kind);
    }
    let list = host.get("/v1/events?follow=false&after=10").json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    // Programs find the details in fields.
    assert_eq!((&list[0]["kind"], &list[0]["details"]["took_ms"]), (&"ready".into(), &7.into()));
    let mut new = follow(&host, "/v1/events", &[]);
    let mut all = follow(&host, "/v1/events?after=10", &[]);
    let mut back = follow(&host, "/v1/events?after=3", &["last-event-id: 12"]);
    let how = ShutdownKind::Reboot;
    host.supervisor.happens(20, None, EventKind::Shutdown { client: "ada".into(), how });
    assert_eq!(event(&mut new), (20, "shutdown".into()));
    assert_eq!(event(&mut all), (12, "ready".into()));
    assert_eq!(event(&mut all), (20, "shutdown".into()));
    assert_eq!(event(&mut back), (20, "shutdown".into()));
}

#[test]
fn events_that_are_no_longer_kept_are_a_gap() {
    let host = Host::new();
    host.supervisor.happens(100, None, EventKind::Supervisor);
    let mut late = follow(&host, "/v1/events?after=5", &[]);
    let (_, kind, data) = late.event().unwrap();
    assert_eq!((kind.as_str(), data.as_str()), ("gap", "{\"missed\":94}"));
    assert_eq!(event(&mut late).0, 100);
}

#[test]
fn a_number_from_before_a_reboot_hides_no_events() {
    let host = Host::new();
    host.supervisor.happens(100, None, EventKind::Supervisor);
    let mut back = follow(&host, "/v1/events", &["last-event-id: 5000"]);
    assert_eq!(event(&mut back).0, 100);
    host.supervisor.happens(101, None, EventKind::Supervisor);
    assert_eq!(event(&mut back).0, 101);
}

#[test]
fn a_thousand_events_at_once_all_arrive() {
    let host = Host::new();
    let mut follower = follow(&host, "/v1/events", &[]);
    for seq in 1..=1000 {
        host.supervisor.happens(seq, None, EventKind::Supervisor);
    }
    for seq in 1..=1000 {
        assert_eq!(event(&mut follower).0, seq);
    }
}
