//! The logger: keeps what the containers write.
//!
//! ```text
//! container ─ pipe ─ splice ─ spool ─ parse ─ ring ─ format ─ current.log, 1.log, …
//!             held by PID 1   └────── memory (tmpfs) ─────┘   data disk, if there is one
//! ```
//!
//! PID 1 holds the reading ends of all pipes and hands copies to each logger, so that a container
//! never sees one die. A logger that is killed at any instant loses no line and repeats none:
//! - the size of a spool (`spool`) is the number of bytes ever taken from the pipe;
//! - one commit of the [ring] holds the lines and how far the spool has been parsed for them;
//! - the ring also remembers how far the log file (`disk`) has been written.
//!
//! A container is never blocked for good and none waits for another: each stream gets a bounded
//! piece of work in each turn of the loop (`daemon`), the disk has a thread of its own, and where
//! something cannot be kept it is counted ([`Counters`]).

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

/// A disk that has not answered for so long counts as broken: containers wait no longer.
const STALL: Duration = Duration::from_secs(3);
/// Time from an error of the disk to the next attempt.
const RETRY: Duration = Duration::from_secs(5);
/// Longest time from a write to the sync that covers it.
const SYNC: Duration = Duration::from_secs(5);
/// Longest time for writing everything out at the end.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// The process: runs until SIGTERM, then writes everything out and ends with 0. Needs the link to
/// PID 1 at [`ipc::fds::INIT`] and a [`log`] logger installed by the caller. Anything but 0 means that PID 1 should start it again.
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
    // Before there is a second thread, so that it has the same mask.
    signals.thread_block().map_err(sys("blocking signals"))?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let stop = SignalFd::with_flags(&signals, flags).map_err(sys("signalfd"))?;
    let stop: OwnedFd = stop
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| LoggerError::Sys { call: "dup", source })?;
    // Four descriptors for each run, and a unit that crashes in a loop while no logger runs leaves
    // many runs behind.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
    // Read when the first file is opened: a host without a data disk has no use for it.
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

/// Where the log files of all units are on a data disk: a folder for each.
pub fn files_path(data: &Path) -> PathBuf {
    data.join("logs")
}

/// The ring file of a unit: `/run/keel/log/<unit>/ring`.
pub fn ring_path(unit: &str) -> PathBuf {
    Path::new(paths::RUN_LOG).join(unit).join("ring")
}

/// The newest `n` lines of a unit, oldest first; none when it has written nothing in this boot.
/// Safe while the logger writes, and without it.
///
/// # Errors
/// The ring cannot be read or is damaged.
pub fn tail(unit: &str, n: usize) -> Result<Vec<Line>, RingError> {
    or_absent(Reader::open(&ring_path(unit)).and_then(|reader| reader.tail(n)))
}

/// The lines of a unit after line `seq` (0: from the oldest that is kept), at most `max`.
///
/// # Errors
/// The ring cannot be read or is damaged.
pub fn since(unit: &str, seq: u64, max: usize) -> Result<Vec<Line>, RingError> {
    or_absent(Reader::open(&ring_path(unit)).and_then(|reader| reader.since(seq, max)))
}

/// How much a unit has written in this boot, and what became of it.
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
