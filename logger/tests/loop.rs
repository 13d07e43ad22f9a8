//! The whole loop, with the test in the role of PID 1.

// The exception for tests in clippy.toml does not cover helper functions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::*;
use logger::{Flags, Stream};
use std::io::Write;
use units::model::LogPolicy;

const POLICY: LogPolicy = LogPolicy { max_size: 1 << 30, max_files: 3 };

#[test]
fn streams_are_stored_in_ring_and_file_and_their_pipes_are_dropped() {
    let dir = Dir::new();
    let (mut init, link) = Init::new(Some(dir.data()));
    let (kept, [mut out, mut err]) = pipes();
    init.greet();
    init.store("web", 1, kept);
    out.write_all(b"one\ntwo\xff\n\nno newline").unwrap();
    err.write_all(&[b'x'; 40_000]).unwrap();
    drop((out, err));
    let config = config(&dir, link, 1 << 20, POLICY);
    let logger = std::thread::spawn(move || logger::run(config));
    while init.ready == 0 || !init.kept.is_empty() {
        init.wait();
    }
    drop(init);
    logger.join().unwrap().unwrap();
    let lines = dir.ring("web");
    let of = |stream| lines.iter().filter(move |line| line.stream == stream);
    let out: Vec<_> = of(Stream::Stdout).map(|line| (line.text.clone(), line.flags)).collect();
    let whole = |text: &[u8]| (text.to_vec(), Flags::NONE);
    let last = (b"no newline".to_vec(), Flags::UNTERMINATED);
    assert_eq!(out, [whole(b"one"), whole(b"two\xff"), whole(b""), last]);
    let err: Vec<_> = of(Stream::Stderr).map(|line| (line.text.len(), line.flags)).collect();
    let max = logger::MAX_TEXT;
    assert_eq!(
        err,
        [
            (max, Flags::CONTINUES),
            (max, Flags::CONTINUED.and(Flags::CONTINUES)),
            (40_000 - 2 * max, Flags::CONTINUED.and(Flags::UNTERMINATED)),
        ]
    );
    let files = dir.files("web");
    assert_eq!(files.len(), lines.len());
    for (file, line) in files.iter().zip(&lines) {
        assert_eq!((file.seq, &file.text), (line.seq, &line.text));
        assert_eq!((file.generation, file.stream.as_str()), (1, line.stream.name()));
        assert_eq!(file.tag == "P", line.flags.has(Flags::CONTINUES));
    }
    let left: Vec<_> = std::fs::read_dir(dir.run().join("web")).unwrap().collect();
    assert_eq!(left.len(), 1, "the spools are removed, the ring stays");
}

/// Writes `total` bytes of numbered lines; returns their count.
fn flood(mut to: impl Write, total: usize) -> u64 {
    let (mut lines, mut bytes, mut buffer) = (0u64, 0, Vec::new());
    while bytes < total {
        buffer.clear();
        while buffer.len() < 60_000 {
            let fill = "x".repeat(20 + lines as usize * 7 % 150);
            writeln!(buffer, "{lines} {fill}").unwrap();
            lines += 1;
        }
        bytes += buffer.len();
        to.write_all(&buffer).unwrap();
    }
    lines
}

#[test]
fn an_output_of_100_mb_is_counted_bounded_and_starves_no_other_unit() {
    const MB: usize = 1_000_000;
    let dir = Dir::new();
    let policy = LogPolicy { max_size: MB as u64, max_files: 4 };
    let (mut init, link) = Init::new(Some(dir.data()));
    let (kept, [out, err]) = pipes();
    drop(err);
    let (calm, [mut calm_out, calm_err]) = pipes();
    drop(calm_err);
    init.greet();
    init.store("flood", 1, kept);
    init.store("calm", 1, calm);
    let config = config(&dir, link, 256 * 1024, policy);
    let logger = std::thread::spawn(move || logger::run(config));
    let flood = std::thread::spawn(move || flood(out, 100 * MB));
    // The run of the quiet unit ends while the other one is still writing or afterwards; its output
    // is stored in both cases.
    calm_out.write_all(b"still here\n").unwrap();
    drop(calm_out);
    while !init.kept.is_empty() {
        init.wait();
    }
    let total = flood.join().unwrap();
    drop(init);
    logger.join().unwrap().unwrap();
    assert_eq!(dir.ring("calm")[0].text, b"still here");
    let counts = dir.reader("flood").counters().unwrap();
    let lines = dir.ring("flood");
    assert_eq!(counts.lines, total);
    assert_eq!(counts.evicted + lines.len() as u64, total);
    assert_eq!((counts.lost, counts.dropped), (0, 0), "nothing is lost with a working disk");
    assert!(lines.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq));
    assert!(lines.last().unwrap().text.starts_with(format!("{} ", total - 1).as_bytes()));
    let files = dir.files("flood");
    let numbers: Vec<u64> = files.iter().map(|line| line.seq).collect();
    let first = total + 1 - numbers.len() as u64;
    assert_eq!(numbers, (first..=total).collect::<Vec<_>>(), "no gaps and no duplicates");
    let logs = dir.data().join("logs/flood");
    let sizes: Vec<u64> = std::fs::read_dir(logs)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .collect();
    assert_eq!(sizes.len(), 4);
    assert!(sizes.iter().all(|size| *size <= MB as u64), "{sizes:?}");
}

/// `stall` of zero: the logger never waits for the disk, as if each of its responses came too late.
#[test]
fn a_slow_disk_blocks_no_container_and_missing_lines_are_counted() {
    let dir = Dir::new();
    let (mut init, link) = Init::new(Some(dir.data()));
    let (kept, [out, err]) = pipes();
    drop(err);
    init.greet();
    init.store("flood", 1, kept);
    let policy = LogPolicy { max_size: 1_000_000, max_files: 1000 };
    let mut config = config(&dir, link, logger::ring::MIN_CAPACITY, policy);
    config.stall = std::time::Duration::ZERO;
    let logger = std::thread::spawn(move || logger::run(config));
    let total = flood(out, 20_000_000);
    while !init.kept.is_empty() {
        init.wait();
    }
    drop(init);
    logger.join().unwrap().unwrap();
    let counts = dir.reader("flood").counters().unwrap();
    assert_eq!(counts.lines, total);
    let files = dir.files("flood");
    assert_eq!(files.len() as u64 + counts.lost, total);
    assert!(files.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    for line in &files {
        assert!(line.text.starts_with(format!("{} ", line.seq - 1).as_bytes()));
    }
    assert_eq!(files.last().unwrap().seq, total);
}

#[test]
fn without_a_disk_lines_are_counted_and_none_counts_as_lost() {
    let dir = Dir::new();
    let (mut init, link) = Init::new(None);
    let (kept, [out, err]) = pipes();
    init.greet();
    init.store("flood", 1, kept);
    let config = config(&dir, link, 256 * 1024, POLICY);
    let logger = std::thread::spawn(move || logger::run(config));
    let other = std::thread::spawn(move || flood(err, 3_000_000));
    let total = flood(out, 3_000_000) + other.join().unwrap();
    while !init.kept.is_empty() {
        init.wait();
    }
    drop(init);
    logger.join().unwrap().unwrap();
    let counts = dir.reader("flood").counters().unwrap();
    assert_eq!(counts.lines, total);
    assert_eq!(counts.evicted + dir.ring("flood").len() as u64, total);
    assert_eq!((counts.lost, counts.dropped), (0, 0));
}

#[test]
fn lines_from_before_the_disk_appeared_are_in_the_files_too() {
    let dir = Dir::new();
    let (mut init, link) = Init::new(None);
    let (kept, [mut out, _err]) = pipes();
    init.greet();
    init.store("web", 1, kept);
    let config = config(&dir, link, 256 * 1024, POLICY);
    let logger = std::thread::spawn(move || logger::run(config));
    out.write_all(b"early\n").unwrap();
    while init.ready == 0 {
        init.wait();
    }
    init.data_disk(Some(&dir.data()));
    out.write_all(b"late\n").unwrap();
    drop((out, _err));
    while !init.kept.is_empty() {
        init.wait();
    }
    drop(init);
    logger.join().unwrap().unwrap();
    let texts: Vec<_> = dir.files("web").into_iter().map(|line| line.text).collect();
    assert_eq!(texts, [b"early".to_vec(), b"late".to_vec()]);
}

#[test]
fn runs_left_behind_by_a_crash_loop_are_all_stored_in_order() {
    let dir = Dir::new();
    let (mut init, link) = Init::new(Some(dir.data()));
    let config = config(&dir, link, 1 << 20, POLICY);
    let logger = std::thread::spawn(move || logger::run(config));
    init.greet();
    // Another process has inherited the standard error of the first runs, more of them than a ring
    // can track at a time.
    let mut stuck = Vec::new();
    for generation in 1..=300u64 {
        let (kept, [mut out, err]) = pipes();
        writeln!(out, "run {generation}").unwrap();
        init.store("loop", generation, kept);
        if generation <= 20 {
            stuck.push(err);
        }
        init.listen();
    }
    while !init.kept.is_empty() {
        if init.kept.len() <= 16 {
            stuck.clear();
        }
        init.wait();
    }
    drop(init);
    logger.join().unwrap().unwrap();
    let lines = dir.ring("loop");
    let numbers: Vec<u64> = lines.iter().map(|line| line.generation).collect();
    assert_eq!(numbers, (1..=300).collect::<Vec<_>>());
    assert_eq!(dir.files("loop").len(), 300);
}
