//! Starts real containers and inspects them from inside.
//!
//! Needs root, overlayfs, cgroup v2 and a static busybox, and fails if any of them is missing: a
//! test that is silently skipped would be worse than none.
//!
//! The process tree is the same as on a host: this program takes the role of PID 1 (it reaps all
//! processes and forwards their exits), and each test runs in a single-threaded child, in the role
//! of the supervisor. Arguments that are not options select tests by a substring of their names.

// Clippy does not recognise a test without the standard harness.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod basics;
mod cgroups;
mod devices;
mod execution;
mod handed_in;
mod host;
mod inside;
mod leaks;
mod programs;
mod races;
mod root_file_system;
mod seccomp;
mod security;
mod user_namespace;
mod volumes;

use host::Host;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};

/// A test, by name.
type Test = (&'static str, fn(&mut Host));

/// Lists test functions of a module with their names.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub const TESTS: &[(&str, fn(&mut $crate::host::Host))] =
            &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*];
    };
}

/// Time limit of a test in seconds; a test that takes longer hangs.
const TIME_LIMIT: u32 = 120;

/// Prefixes of test names: with a user namespace, and with the host's ids.
const OWN_IDS: &str = "own_ids";
const HOST_IDS: &str = "host_ids";

/// Exit code of a test that this machine cannot run.
const NOT_RUN: i32 = 77;

/// Arguments with which this program, copied into a container, reports its own state.
const PRINT_SESSION_KEYRING: &str = "--print-session-keyring";
const PRINT_USER: &str = "--print-user";
const PRINT_CALLS: &str = "--print-calls";
const PRINT_THREADS: &str = "--print-threads";
const CALL_OF_32_BITS: &str = "--call-of-32-bits";

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some(PRINT_SESSION_KEYRING) => return security::print_session_keyring(),
        Some(PRINT_USER) => return security::print_user(),
        Some(PRINT_CALLS) => return seccomp::print_calls(),
        Some(PRINT_THREADS) => return seccomp::print_threads(),
        Some(CALL_OF_32_BITS) => return seccomp::call_of_32_bits(),
        _ => {}
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let all: Vec<Test> = [
        basics::TESTS,
        cgroups::TESTS,
        devices::TESTS,
        execution::TESTS,
        handed_in::TESTS,
        inside::TESTS,
        leaks::TESTS,
        programs::TESTS,
        races::TESTS,
        root_file_system::TESTS,
        seccomp::TESTS,
        security::TESTS,
        volumes::TESTS,
    ]
    .concat();
    if std::env::args().any(|arg| arg == "--list") {
        all.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    if let Err(reason) = host::check_machine() {
        eprintln!("the container tests cannot run here: {reason}");
        std::process::exit(101);
    }
    // SAFETY: prctl with integers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }, 0);
    let (mut passed, mut failed, mut not_run) = (0, Vec::new(), Vec::new());
    // Run everything twice: as root of a user namespace, and as the host's root.
    let own = all.iter().chain(user_namespace::TESTS).map(|test| (OWN_IDS, test));
    for (ids, &(name, test)) in own.chain(all.iter().map(|test| (HOST_IDS, test))) {
        let name = name.split_once("::").map_or(name, |(_, name)| name);
        let name = format!("{ids}::{name}");
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let (word, list) = match run(&name, test, ids == OWN_IDS) {
            0 => {
                passed += 1;
                println!("test {name} ... ok");
                continue;
            }
            NOT_RUN => ("NOT RUN", &mut not_run),
            _ => ("FAILED", &mut failed),
        };
        println!("test {name} ... {word}");
        list.push(name);
    }
    println!("\n{passed} passed, {} failed, {} NOT RUN", failed.len(), not_run.len());
    if !not_run.is_empty() {
        println!("not run on this machine: {}", not_run.join(", "));
    }
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
        std::process::exit(101);
    }
}

/// Runs one test in a child and reaps all processes meanwhile. Returns the child's exit code.
fn run(name: &str, test: fn(&mut Host), own_ids: bool) -> i32 {
    let mut ends = [0; 2];
    // SAFETY: the array has room for the two descriptors.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    // SAFETY: the kernel has just made these two; nobody else owns them.
    let [read, write] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    // SAFETY: this program has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(write);
        // SAFETY: arms a timer whose signal ends this process.
        unsafe { libc::alarm(TIME_LIMIT) };
        let done = std::panic::catch_unwind(|| {
            let mut host = Host::new(name, read, own_ids);
            test(&mut host);
        });
        let code = match done {
            Ok(()) => 0,
            Err(reason) if reason.is::<host::NotRun>() => NOT_RUN,
            Err(_) => 1,
        };
        std::process::exit(code);
    }
    drop(read);
    let mut exits = std::fs::File::from(write);
    loop {
        let mut status = 0;
        // SAFETY: the status lives over the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if pid == child {
            // Processes that the test left behind must not disturb the next one.
            // SAFETY: as above.
            while unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } > 0 {}
            if libc::WIFSIGNALED(status) {
                eprintln!("{name}: killed by signal {}", libc::WTERMSIG(status));
                return 1;
            }
            return libc::WEXITSTATUS(status);
        }
        assert!(pid > 0, "waitpid: {}", std::io::Error::last_os_error());
        let mut record = pid.to_le_bytes().to_vec();
        record.extend(status.to_le_bytes());
        // The test may have ended already.
        let _ = exits.write_all(&record);
    }
}
