//! A full data disk. Needs root: it mounts a small file system in a private mount namespace.

// The exception for tests in clippy.toml does not cover helper functions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::*;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::io::Write;
use std::time::Duration;
use units::model::LogPolicy;

const NONE: Option<&str> = None;

/// Puts this thread, and those that it starts, in a mount namespace with a file system of `size` at
/// `at`. Fails if that is not permitted: a test must not be skipped silently.
fn small_disk(at: &std::path::Path, size: &str) {
    let need = "this test needs root (CAP_SYS_ADMIN)";
    unshare(CloneFlags::CLONE_NEWNS).expect(need);
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).expect(need);
    let size = format!("size={size}");
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).expect(need);
}

fn write_lines(to: &mut impl Write, range: std::ops::Range<u64>) {
    for number in range {
        writeln!(to, "{number} {}", "z".repeat(90)).unwrap();
    }
}

#[test]
fn a_full_disk_blocks_no_container_and_lost_lines_are_counted() {
    let dir = Dir::new();
    small_disk(&dir.data(), "1M");
    // No file is ever rotated, so none can be deleted to free space.
    let policy = LogPolicy { max_size: 1 << 30, max_files: 3 };
    let (mut init, link) = Init::new(Some(dir.data()));
    let mut config = config(&dir, link, logger::ring::MIN_CAPACITY, policy);
    // Retry immediately, so that the test does not depend on time.
    config.retry = Duration::ZERO;
    init.greet();
    // Another file fills the disk.
    let hog = dir.data().join("hog");
    let mut file = std::fs::File::create(&hog).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    file.set_len(512 * 1024).unwrap();
    drop(file);
    let (kept, [mut out, err]) = pipes();
    drop(err);
    init.store("web", 1, kept);
    let path = dir.run().join("web/ring");
    let counters = || logger::Reader::open(&path).and_then(|ring| ring.counters());
    let total = 20_000;
    // In a thread with the same mounts.
    let logger = std::thread::spawn(move || logger::run(config));
    // 2 MB for half a megabyte of space: the pipe would be full if it were not read.
    write_lines(&mut out, 0..total);
    // The other file is removed: new lines are written again.
    std::fs::remove_file(&hog).unwrap();
    let mut more = 0;
    loop {
        write_lines(&mut out, total + more..total + more + 1);
        more += 1;
        let counts = counters().unwrap();
        let seqs = dir.files_so_far("web");
        if seqs.last().is_some_and(|line| line.seq > total) && counts.lines > total {
            break;
        }
        std::thread::yield_now();
    }
    drop(out);
    while !init.kept.is_empty() {
        init.wait();
    }
    drop(init);
    logger.join().unwrap().unwrap();
    let counts = dir.reader("web").counters().unwrap();
    assert_eq!(counts.lines, total + more);
    assert_eq!(counts.dropped, 0);
    assert!(counts.lost > 0);
    let ring = dir.ring("web");
    assert_eq!(counts.evicted + ring.len() as u64, counts.lines);
    let files = dir.files("web");
    assert!(files.windows(2).all(|pair| pair[0].seq < pair[1].seq), "no line twice, in order");
    for line in &files {
        let want = format!("{} zzz", line.seq - 1);
        assert!(line.text.starts_with(want.as_bytes()), "{line:?}");
    }
    assert_eq!(files.last().unwrap().seq, counts.lines, "the newest line is in the files");
    assert_eq!(files.len() as u64 + counts.lost, counts.lines, "missing lines are counted");
}

#[test]
fn the_oldest_rotated_file_is_deleted_on_a_full_disk() {
    let dir = Dir::new();
    small_disk(&dir.data(), "1M");
    let policy = LogPolicy { max_size: 100_000, max_files: 1000 };
    let (mut init, link) = Init::new(Some(dir.data()));
    let config = config(&dir, link, logger::ring::MIN_CAPACITY, policy);
    init.greet();
    let (kept, [mut out, err]) = pipes();
    drop(err);
    init.store("web", 1, kept);
    let logger = std::thread::spawn(move || logger::run(config));
    // 3 MB of lines; the policy would keep all of them.
    write_lines(&mut out, 0..30_000);
    drop(out);
    while !init.kept.is_empty() {
        init.wait();
    }
    drop(init);
    logger.join().unwrap().unwrap();
    let counts = dir.reader("web").counters().unwrap();
    assert_eq!((counts.lines, counts.lost), (30_000, 0));
    let files = dir.files("web");
    let first = 30_001 - files.len() as u64;
    assert!(files.len() > 5_000, "most of the disk is in use");
    assert!(files.iter().zip(first..).all(|(line, seq)| line.seq == seq));
}

#[test]
fn a_full_tmpfs_blocks_no_container() {
    let dir = Dir::new();
    std::fs::create_dir(dir.run()).unwrap();
    small_disk(&dir.run(), "1M");
    let (mut init, link) = Init::new(None);
    let policy = LogPolicy { max_size: 100_000, max_files: 3 };
    let config = config(&dir, link, logger::ring::MIN_CAPACITY, policy);
    init.greet();
    let (kept, [mut out, err]) = pipes();
    drop(err);
    init.store("web", 1, kept);
    let logger = std::thread::spawn(move || logger::run(config));
    while init.ready == 0 {
        init.wait();
    }
    write_lines(&mut out, 0..1);
    while logger::Reader::open(&dir.run().join("web/ring"))
        .map_or(0, |r| r.counters().unwrap().lines)
        == 0
    {
        std::thread::yield_now();
    }
    let hog = dir.run().join("hog");
    let mut file = std::fs::File::create(&hog).unwrap();
    while file.write(&[1; 4096]).is_ok_and(|n| n > 0) {}
    write_lines(&mut out, 1..20_000);
    drop(file);
    std::fs::remove_file(&hog).unwrap();
    writeln!(out, "the last").unwrap();
    drop(out);
    while !init.kept.is_empty() {
        init.wait();
    }
    drop(init);
    logger.join().unwrap().unwrap();
    let counts = dir.reader("web").counters().unwrap();
    assert!(counts.dropped > 0);
    // For discarded bytes the newlines are counted; a line that is cut counts on both sides.
    assert!(counts.lines + counts.dropped >= 20_001);
    let ring = dir.ring("web");
    assert!(ring.iter().any(|line| line.stream == logger::Stream::System));
    assert_eq!(ring.last().unwrap().text, b"the last");
}
