//! The logger: stores the output of the containers.
//!
//! ```text
//! container ─ pipe ─ splice ─ spool ─ parse ─ ring ─ format ─ current.log, 1.log, …
//!             held by PID 1   └────── memory (tmpfs) ─────┘   data disk, if there is one
//! ```
//!
//! PID 1 holds the read ends of all pipes and passes copies to each logger, so that containers do
//! not notice if a logger dies. A logger that is killed at any instant neither loses nor repeats a
//! line:
//! - the size of a spool (`spool`) is the total number of bytes taken from the pipe;
//! - one commit of the [ring] contains the lines and the position up to which the spool has been
//!   parsed for them;
//! - the ring also records how far the log file (`disk`) has been written.
//!
//! No container is blocked permanently, and none waits for another: each stream gets a bounded
//! amount of work in each iteration of the loop (`daemon`), a separate thread accesses the disk,
//! and lines that cannot be stored are counted ([`Counters`]).

mod daemon;
mod disk;
pub mod history;
mod line;
mod policy;
pub mod ring;
mod source;
mod split;
mod spool;
#[cfg(test)]
mod testdir;
pub mod time;
mod unit;

pub use daemon::{Config, LoggerError, run};
pub use disk::line_seq;
pub use line::{Flags, Line, MAX_TEXT, Stream};
pub use ring::{Counters, DEFAULT_CAPACITY, Reader, RingError};
pub use split::{Piece, next_piece};
pub use time::{parse_rfc3339, rfc3339, unix_us};

use ipc::Channel;
use layout::paths;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::cell::OnceCell;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// A disk that does not respond within this time counts as broken: containers stop waiting for it.
const STALL: Duration = Duration::from_secs(3);
/// Time from a disk error to the next attempt.
const RETRY: Duration = Duration::from_secs(5);
/// Maximum time from a write to the sync that covers it.
const SYNC: Duration = Duration::from_secs(5);
/// Maximum time for writing everything to disk at the end.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// The process: runs until SIGTERM, then writes everything to disk and exits with 0. Needs the link
/// to PID 1 at [`ipc::fds::INIT`] and a [`log`] logger installed by the caller. Any other
/// exit code means that PID 1 should restart it.
pub fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), LoggerError> {
    let sys = |call| move |errno: nix::Error| LoggerError::Sys { call, source: errno.into() };
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    // Before the second thread is created, so that it inherits the mask.
    signals.thread_block().map_err(sys("sigprocmask"))?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let stop = SignalFd::with_flags(&signals, flags).map_err(sys("signalfd"))?;
    let stop: OwnedFd = stop
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| LoggerError::Sys { call: "dup", source })?;
    // Each run needs four descriptors, and a unit that crashes in a loop while no logger is running
    // leaves many runs behind.
    if let Ok((_, max)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, max, max);
    }
    // Read when the first file is opened: a host without a data disk does not need it.
    let policies = OnceCell::new();
    let policy = move |unit: &str| {
        let policies = policies.get_or_init(|| policy::load(Path::new(paths::CONFIG)));
        policies.get(unit).cloned().unwrap_or(policy::DEFAULT)
    };
    run(Config {
        run_dir: PathBuf::from(paths::RUN_LOG),
        link: Channel::inherited(ipc::fds::INIT)?,
        stop: Some(stop),
        capacity: DEFAULT_CAPACITY,
        policy: Box::new(policy),
        stall: STALL,
        retry: RETRY,
        sync: SYNC,
        stop_within: STOP_WITHIN,
    })
}

/// The directory of the log files on a data disk; it has a subdirectory for each unit.
pub fn files_path(data: &Path) -> PathBuf {
    data.join("logs")
}

/// The ring file of a unit: `/run/keel/log/<unit>/ring`.
pub fn ring_path(unit: &str) -> PathBuf {
    Path::new(paths::RUN_LOG).join(unit).join("ring")
}

/// The newest `n` lines of a unit, oldest first; empty if it has written nothing since boot. Safe
/// while the logger is writing, and while it is not running.
///
/// # Errors
/// The ring cannot be read or is damaged.
pub fn tail(unit: &str, n: usize) -> Result<Vec<Line>, RingError> {
    or_absent(Reader::open(&ring_path(unit)).and_then(|reader| reader.tail(n)))
}

/// The lines of a unit after line `seq` (0: from the oldest that is available), at most `max`.
///
/// # Errors
/// The ring cannot be read or is damaged.
pub fn since(unit: &str, seq: u64, max: usize) -> Result<Vec<Line>, RingError> {
    or_absent(Reader::open(&ring_path(unit)).and_then(|reader| reader.since(seq, max)))
}

/// The line counters of a unit since boot.
///
/// # Errors
/// The ring cannot be read or is damaged.
pub fn counters(unit: &str) -> Result<Counters, RingError> {
    or_absent(Reader::open(&ring_path(unit)).and_then(|reader| reader.counters()))
}

fn or_absent<T: Default>(result: Result<T, RingError>) -> Result<T, RingError> {
    match result {
        Err(error) if error.is_absent() => Ok(T::default()),
        other => other,
    }
}
