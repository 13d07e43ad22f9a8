//! SIGKILL at every point where it can make a difference.
//!
//! A logger changes its persistent state only by system calls, so all instants between two such
//! calls are equivalent. This test runs a logger on a fixed amount of work under ptrace(2) and
//! kills it before its first such call; then another, on a new copy of the work, before the second,
//! and so on to the last. Each time a second logger finishes the work, and every line must be
//! stored exactly once.

// The exception for tests in clippy.toml does not cover helper functions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::*;
use ipc::Channel;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use units::model::LogPolicy;

const DIR: &str = "LOGGER_KILL_DIR";
const POLICY: LogPolicy = LogPolicy { max_size: 60_000, max_files: 1000 };

/// System calls that change persistent state.
const CHANGES: [i64; 10] = [
    libc::SYS_pwrite64,
    libc::SYS_splice,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_mkdir,
    libc::SYS_rename,
    libc::SYS_unlink,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_openat,
];

/// Not a test, but the process that the test below starts and kills.
#[test]
fn child() {
    let Some(path) = std::env::var_os(DIR) else { return };
    let dir = std::mem::ManuallyDrop::new(Dir(PathBuf::from(path)));
    let link = Channel::inherited(ipc::fds::INIT).unwrap();
    let mut config = config(&dir, link, logger::ring::MIN_CAPACITY, POLICY);
    // It is stopped from the start: it processes what is there and exits.
    config.stop = Some(std::io::pipe().unwrap().0.into());
    logger::run(config).unwrap();
}

/// Starts a logger that is stopped before its first instruction, traced by this thread.
fn start(dir: &Dir, link: &Channel) -> Pid {
    let fd = link.as_fd().as_raw_fd();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--test-threads=1", "--nocapture"]);
    command.env(DIR, &dir.0).stdout(std::process::Stdio::null());
    // SAFETY: dup2 and ptrace are async-signal-safe, and nothing else runs before exec.
    unsafe {
        command.pre_exec(move || {
            nix::errno::Errno::result(libc::dup2(fd, ipc::fds::INIT))?;
            ptrace::traceme()?;
            Ok(())
        });
    }
    let pid = Pid::from_raw(command.spawn().unwrap().id() as i32);
    assert!(matches!(waitpid(pid, None).unwrap(), WaitStatus::Stopped(_, Signal::SIGTRAP)));
    let options =
        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(pid, options).unwrap();
    pid
}

/// Runs a stopped logger and kills it before its change number `at` (the first is 0). Returns false
/// if it exited before.
fn run_until(pid: Pid, dir: &Dir, at: usize) -> bool {
    let mut count = 0;
    let mut at_work = false;
    ptrace::syscall(pid, None).unwrap();
    loop {
        // This file has one test, so all children are the logger's threads.
        let status = waitpid(None, Some(WaitPidFlag::__WALL)).unwrap();
        let (tid, signal) = match status {
            WaitStatus::Exited(who, code) if who == pid => {
                assert_eq!(code, 0);
                return false;
            }
            WaitStatus::Signaled(who, signal, _) if who == pid => panic!("killed by {signal}"),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => continue,
            WaitStatus::PtraceSyscall(tid) => {
                let info = ptrace::syscall_info(tid).unwrap();
                let entry = if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
                    // SAFETY: `op` determines which member of the union is valid.
                    Some(unsafe { info.u.entry })
                } else {
                    None
                };
                if let Some(entry) = entry {
                    // The start of the test program itself does not count.
                    at_work |= entry.nr as i64 == libc::SYS_mkdir;
                    if at_work && CHANGES.contains(&(entry.nr as i64)) {
                        if count == at {
                            kill(pid, Signal::SIGKILL).unwrap();
                            while waitpid(None, Some(WaitPidFlag::__WALL)).is_ok() {}
                            return true;
                        }
                        count += 1;
                    }
                }
                (tid, None)
            }
            WaitStatus::PtraceEvent(tid, ..) | WaitStatus::Stopped(tid, Signal::SIGSTOP) => {
                (tid, None)
            }
            WaitStatus::Stopped(tid, signal) => (tid, Some(signal)),
            other => panic!("{other:?} below {:?}", dir.0),
        };
        // A thread of a process that has just been killed may have ended.
        let _ = ptrace::syscall(tid, signal);
    }
}

/// The work: two runs, each with all its output in its pipes and without writers. It is larger than
/// the ring and than the maximum size of a log file.
fn work(init: &mut Init) -> Vec<(u64, &'static str, Vec<u8>)> {
    let mut lines = Vec::new();
    for generation in 1..=2u64 {
        let (kept, writers) = pipes();
        for (stream, mut to) in ["stdout", "stderr"].into_iter().zip(writers) {
            let mut bytes = Vec::new();
            let mut number = 0;
            while bytes.len() < 45_000 {
                let fill = if number == 7 { 17_000 } else { 400 + number * 97 % 500 };
                let line = format!("{stream} {number} {}", "w".repeat(fill));
                writeln!(bytes, "{line}").unwrap();
                lines.push((generation, stream, line.into_bytes()));
                number += 1;
            }
            // The last line has no newline.
            bytes.pop();
            to.write_all(&bytes).unwrap();
        }
        init.kept.push((format!("log/web/{generation}"), kept));
    }
    lines
}

#[test]
fn a_logger_killed_before_any_change_stores_every_line_once() {
    let mut at = 0;
    loop {
        let dir = Dir::new();
        let (mut init, link) = Init::new(Some(dir.data()));
        let mut expected = work(&mut init);
        init.greet();
        let pid = start(&dir, &link);
        let killed = run_until(pid, &dir, at);
        init.listen();
        if killed {
            init.greet();
            let pid = start(&dir, &link);
            assert!(!run_until(pid, &dir, usize::MAX));
            init.listen();
        }
        assert!(init.kept.is_empty(), "killed at {at}: {:?} is still kept", init.kept);
        let mut got: Vec<(u64, String, Vec<u8>)> = Vec::new();
        let files = dir.files("web");
        let counts = dir.reader("web").counters().unwrap();
        assert_eq!((counts.lost, counts.dropped), (0, 0), "killed at {at}");
        let numbers: Vec<u64> = files.iter().map(|line| line.seq).collect();
        assert_eq!(numbers, (1..=counts.lines).collect::<Vec<_>>(), "killed at {at}");
        for (line, kept) in files[counts.evicted as usize..].iter().zip(dir.ring("web")) {
            assert_eq!((line.seq, &line.text), (kept.seq, &kept.text), "killed at {at}");
        }
        let mut open = std::collections::BTreeMap::new();
        for line in files {
            let key = (line.generation, line.stream);
            let text: &mut Vec<u8> = open.entry(key.clone()).or_default();
            text.extend_from_slice(&line.text);
            if line.tag == "F" {
                got.push((key.0, key.1, std::mem::take(text)));
            }
        }
        // The order between the streams is arbitrary, within a stream it is not.
        expected.sort_by_key(|line| (line.0, line.1));
        got.sort_by_key(|line| (line.0, line.1.clone()));
        assert_eq!(got.len(), expected.len(), "killed at {at}");
        for (got, want) in got.iter().zip(&expected) {
            assert!(got.0 == want.0 && got.1 == want.1 && got.2 == want.2, "killed at {at}");
        }
        if !killed {
            break;
        }
        at += 1;
    }
    assert!(at > 100, "only {at} changes: there is too little work for a meaningful test");
}
