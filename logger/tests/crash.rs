//! SIGKILL at any instant: no line is lost or duplicated.

// The exception for tests in clippy.toml does not cover helper functions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::*;
use ipc::Channel;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use units::model::LogPolicy;

const DIR: &str = "LOGGER_CRASH_DIR";
const CAPACITY: &str = "LOGGER_CRASH_CAPACITY";
const POLICY: LogPolicy = LogPolicy { max_size: 300_000, max_files: 1000 };

/// Not a test, but the process that the tests below start and kill.
#[test]
fn child() {
    let Some(path) = std::env::var_os(DIR) else { return };
    let dir = std::mem::ManuallyDrop::new(Dir(PathBuf::from(path)));
    let capacity = std::env::var(CAPACITY).unwrap().parse().unwrap();
    let link = Channel::inherited(ipc::fds::INIT).unwrap();
    logger::run(config(&dir, link, capacity, POLICY)).unwrap();
}

fn start(dir: &Dir, link: &Channel, capacity: u64) -> Child {
    use std::os::fd::AsFd;
    let fd = link.as_fd().as_raw_fd();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--test-threads=1", "--nocapture"]);
    command.env(DIR, &dir.0).env(CAPACITY, capacity.to_string());
    command.stdout(std::process::Stdio::null());
    // SAFETY: dup2 is async-signal-safe, and nothing else runs between fork and exec.
    unsafe {
        command.pre_exec(move || {
            nix::errno::Errno::result(libc::dup2(fd, ipc::fds::INIT))?;
            Ok(())
        });
    }
    command.spawn().unwrap()
}

/// A linear congruential generator; the tests need variety, not secrecy.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What a run writes to one stream: lines numbered from 0, most of them short, some longer than
/// a record, in pieces that are cut anywhere, the last one without its newline.
fn write_lines(mut to: impl Write, tag: &str, count: u64, seed: u64) {
    let mut random = Random(seed);
    let mut bytes = Vec::new();
    for number in 0..count {
        let fill = match random.below(200) {
            0 => 20_000,
            n => n,
        };
        let end = if number + 1 == count { "" } else { "\n" };
        write!(bytes, "{tag} {number} {}{end}", "y".repeat(fill as usize)).unwrap();
        while bytes.len() > 30_000 {
            let cut = 1 + random.below(30_000) as usize;
            to.write_all(&bytes[..cut]).unwrap();
            bytes.drain(..cut);
        }
    }
    to.write_all(&bytes).unwrap();
}

/// Joins the records of each stream to lines and checks that each stream has every line exactly
/// once, in order. Returns the number of lines.
fn check(
    records: impl Iterator<Item = (u64, String, bool, Vec<u8>)>,
    expected: &[(u64, &str, u64)],
) {
    let mut open: BTreeMap<(u64, String), Vec<u8>> = BTreeMap::new();
    let mut next: BTreeMap<(u64, String), u64> = BTreeMap::new();
    for (generation, stream, goes_on, text) in records {
        let key = (generation, stream);
        let line = open.entry(key.clone()).or_default();
        line.extend_from_slice(&text);
        if goes_on {
            continue;
        }
        let line = String::from_utf8(std::mem::take(line)).unwrap();
        let number = next.entry(key.clone()).or_default();
        let want = format!("{} {number} ", key.1);
        assert!(line.starts_with(&want), "{generation}: `{want}` expected: {:.60}", line);
        assert!(line[want.len()..].bytes().all(|byte| byte == b'y'), "mixed lines: {line:.60}");
        *number += 1;
    }
    assert!(open.values().all(Vec::is_empty));
    let got: Vec<_> = next.iter().map(|((g, stream), n)| (*g, stream.as_str(), *n)).collect();
    assert_eq!(got, expected);
}

/// Kills the logger repeatedly while runs are writing, each time after a number of messages and a
/// random part of the work, then lets the last one finish.
fn torture(capacity: u64, kills: u64, seed: u64) {
    const LINES: u64 = 12_000;
    let dir = Dir::new();
    let (mut init, link) = Init::new(Some(dir.data()));
    let mut random = Random(seed);
    let mut writers = Vec::new();
    for generation in 1..=3u64 {
        let (kept, [out, err]) = pipes();
        init.kept.push((format!("log/web/{generation}"), kept));
        for (to, tag) in [(out, "stdout"), (err, "stderr")] {
            let seed = seed.wrapping_add(generation);
            writers.push(std::thread::spawn(move || write_lines(to, tag, LINES, seed)));
        }
    }
    let ring = dir.run().join("web/ring");
    let lines =
        || logger::Reader::open(&ring).and_then(|ring| ring.counters()).map_or(0, |c| c.lines);
    for _ in 0..kills {
        let mut child = start(&dir, &link, capacity);
        init.greet();
        // Kill it at a random point of its progress, not of time: from before its first line to
        // some thousand lines later.
        let target = lines() + random.below(3 * 6 * LINES / 2 / kills);
        let spin = random.below(3000);
        while lines() < target && !init.kept.is_empty() && child.try_wait().unwrap().is_none() {
            init.listen();
        }
        for _ in 0..spin {
            std::hint::spin_loop();
        }
        kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        init.listen();
    }
    let mut child = start(&dir, &link, capacity);
    init.greet();
    while !init.kept.is_empty() {
        init.wait();
    }
    for writer in writers {
        writer.join().unwrap();
    }
    // PID 1's end of the link is closed: the logger writes everything to disk and exits.
    drop((init, link));
    assert!(child.wait().unwrap().success());

    let mut expected = Vec::new();
    for generation in 1..=3 {
        expected.extend([(generation, "stderr", LINES), (generation, "stdout", LINES)]);
    }
    let counts = dir.reader("web").counters().unwrap();
    let files = dir.files("web");
    assert_eq!(files.len() as u64, counts.lines);
    assert!(
        files.iter().zip(1..).all(|(line, seq)| line.seq == seq),
        "each line once in the files"
    );
    assert_eq!((counts.lost, counts.dropped), (0, 0));
    let of_files = files
        .iter()
        .map(|line| (line.generation, line.stream.clone(), line.tag == "P", line.text.clone()));
    check(of_files, &expected);
    let ring = dir.ring("web");
    assert_eq!(ring.len() as u64, counts.lines - counts.evicted);
    for (line, file) in ring.iter().zip(&files[counts.evicted as usize..]) {
        assert_eq!((line.seq, &line.text), (file.seq, &file.text));
    }
    if counts.evicted == 0 {
        let of_ring = ring.into_iter().map(|line| {
            let goes_on = line.flags.has(logger::Flags::CONTINUES);
            (line.generation, line.stream.name().to_owned(), goes_on, line.text)
        });
        check(of_ring, &expected);
    }
}

#[test]
fn a_logger_killed_repeatedly_stores_every_line_once_in_a_large_ring() {
    torture(64 << 20, 40, 1);
}

#[test]
fn a_logger_killed_repeatedly_stores_every_line_once_in_the_files_of_a_small_ring() {
    torture(logger::ring::MIN_CAPACITY, 40, 2);
}
