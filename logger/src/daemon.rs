//! The main loop: receives messages from PID 1, and moves lines from pipes to rings and from rings
//! to files.

mod filing;
mod link;

use crate::disk::{DiskState, Worker};
use crate::ring::RingError;
use crate::source::Buffers;
use crate::unit::{Pipes, Unit};
use filing::Disk;
use ipc::{Channel, ChannelError, ToInit};
use link::{is_unit, log_key};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{BTreeMap, VecDeque};
use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use units::model::LogPolicy;

/// Time from an error of the tmpfs to the next attempt.
const PAUSE: Duration = Duration::from_secs(1);

/// The configuration of the loop.
pub struct Config {
    /// The directory of rings and spools, [`layout::paths::RUN_LOG`].
    pub run_dir: PathBuf,
    /// The link to PID 1.
    pub link: Channel,
    /// Becomes readable when the logger must write everything to disk and exit (a signalfd).
    pub stop: Option<OwnedFd>,
    /// Capacity of a new ring: bytes of records.
    pub capacity: u64,
    /// How much of a unit's output is kept on disk.
    pub policy: Box<dyn Fn(&str) -> LogPolicy + Send>,
    /// A disk whose write takes longer counts as broken until the write completes.
    pub stall: Duration,
    /// Time from a disk error to the next attempt.
    pub retry: Duration,
    /// Maximum time from a write to the sync that covers it.
    pub sync: Duration,
    /// Maximum time for writing everything to disk at the end.
    pub stop_within: Duration,
}

/// A fatal error of the loop.
#[derive(Debug, thiserror::Error)]
pub enum LoggerError {
    /// A system call that the logger cannot work without.
    #[error("{call}: {source}")]
    Sys {
        /// The system call or operation.
        call: &'static str,
        /// The error.
        source: io::Error,
    },
    /// The link to PID 1 is broken.
    #[error("link to PID 1: {0}")]
    Link(#[from] ChannelError),
}

struct Daemon {
    config: Config,
    units: BTreeMap<String, Unit>,
    /// Runs of units that could not be opened, and when to try again.
    unopened: Vec<(String, u64, Pipes)>,
    reopen_at: Option<Instant>,
    disk: Disk,
    worker: Option<Worker>,
    /// Since when there have been writes that no sync covers.
    dirty: Option<Instant>,
    syncing: bool,
    /// Time of the last warning about the disk.
    warned: Option<Instant>,
    outbox: VecDeque<ToInit>,
    link_closed: bool,
    buffers: Buffers,
    /// Set when the loop must end: the latest time for that.
    deadline: Option<Instant>,
    /// No pipe had data at the last check.
    idle: bool,
}

/// Runs until `config.stop` is readable or PID 1 closes the link, then writes everything to disk.
///
/// # Errors
/// Only errors that make it impossible to continue; errors of a unit or of the disk are logged.
pub fn run(config: Config) -> Result<(), LoggerError> {
    let mut daemon = Daemon {
        config,
        units: BTreeMap::new(),
        unopened: Vec::new(),
        reopen_at: None,
        disk: Disk::Unknown,
        worker: None,
        dirty: None,
        syncing: false,
        warned: None,
        outbox: VecDeque::new(),
        link_closed: false,
        buffers: Buffers::default(),
        deadline: None,
        idle: false,
    };
    daemon.open_existing()?;
    while !daemon.is_done() {
        daemon.turn()?;
    }
    Ok(())
}

impl Daemon {
    /// Opens the units of a previous logger: their rings may have lines that are not in files yet.
    fn open_existing(&mut self) -> Result<(), LoggerError> {
        let sys = |source| LoggerError::Sys { call: "read the log directory", source };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.config.run_dir).map_err(sys)?;
        for entry in std::fs::read_dir(&self.config.run_dir).map_err(sys)? {
            if let Some(name) = entry.map_err(sys)?.file_name().to_str().filter(|n| is_unit(n)) {
                self.unit(name, Instant::now());
            }
        }
        Ok(())
    }

    /// The unit of this name, opened if it is new.
    fn unit(&mut self, name: &str, now: Instant) -> Option<&mut Unit> {
        if !self.units.contains_key(name) {
            match Unit::open(&self.config.run_dir, name, self.config.capacity) {
                Ok(mut unit) => {
                    self.disk.apply(name, &mut unit, now);
                    self.units.insert(name.to_owned(), unit);
                }
                Err(error) => log::error!("unit {name}: {error}"),
            }
        }
        self.units.get_mut(name)
    }

    /// One iteration of the loop.
    fn turn(&mut self) -> Result<(), LoggerError> {
        self.send()?;
        let timeout = self.timeout(Instant::now());
        let [link, stop, worker] = self.wait(timeout)?;
        let now = Instant::now();
        self.idle = true;
        for (name, unit) in self.units.iter_mut().filter(|(_, unit)| unit.has_work()) {
            self.idle = false;
            match unit.work(&mut self.buffers, now, self.config.stall) {
                Ok(ended) => {
                    let drop = |generation| ToInit::Drop { key: log_key(name, generation) };
                    self.outbox.extend(ended.into_iter().map(drop));
                }
                Err(error) => {
                    log::error!("unit {name}: {error}");
                    unit.pause_until(now + PAUSE);
                }
            }
        }
        // After the units: the results of the poll refer to the units as they were before.
        if stop {
            self.end(now);
        }
        if link {
            self.receive(now)?;
        }
        if self.reopen_at.is_some_and(|at| at <= now) {
            self.reopen_at = None;
            for (unit, generation, pipes) in std::mem::take(&mut self.unopened) {
                self.add_run(&unit, generation, pipes, now);
            }
        }
        if worker {
            self.receive_results(now);
        }
        self.drive_disk(now);
        Ok(())
    }

    /// The poll timeout: the time until the next scheduled work.
    fn timeout(&mut self, now: Instant) -> PollTimeout {
        let mut at = self.deadline.into_iter().chain(self.reopen_at).min();
        let mut earlier = |time: Option<Instant>| at = at.into_iter().chain(time).min();
        if self.deadline.is_some() && !self.idle {
            earlier(Some(now));
        }
        for unit in self.units.values_mut() {
            earlier(unit.suspended_until(now, self.config.stall));
            if unit.has_work() {
                earlier(Some(now));
            }
            if let (DiskState::Closed { retry_at }, Disk::At(_)) = (unit.disk, &self.disk) {
                earlier(Some(retry_at));
            }
        }
        if !self.syncing {
            earlier(self.dirty.map(|since| since + self.config.sync));
        }
        let Some(at) = at else { return PollTimeout::NONE };
        let mut wait = at.saturating_duration_since(now);
        if !wait.is_zero() {
            // poll(2) counts whole milliseconds; waking just before the time would spin.
            wait = wait.saturating_add(Duration::from_millis(1));
        }
        PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
    }

    /// Polls, records which pipes are readable, and returns whether link, stop and worker are
    /// ready.
    fn wait(&mut self, timeout: PollTimeout) -> Result<[bool; 3], LoggerError> {
        let flags = match self.outbox.is_empty() {
            true => PollFlags::POLLIN,
            false => PollFlags::POLLIN | PollFlags::POLLOUT,
        };
        // A descriptor at end of file would be readable forever.
        let link = Some(&self.config.link).filter(|_| !self.link_closed);
        let stop = self.config.stop.as_ref().filter(|_| self.deadline.is_none());
        let fixed = [
            link.map(|link| PollFd::new(link.as_fd(), flags)),
            stop.map(|stop| PollFd::new(stop.as_fd(), PollFlags::POLLIN)),
            self.worker.as_ref().map(|worker| PollFd::new(worker.as_fd(), PollFlags::POLLIN)),
        ];
        let present = fixed.each_ref().map(Option::is_some);
        let mut sources: Vec<_> = self.units.values_mut().flat_map(Unit::sources).collect();
        let pipes = sources.iter().filter_map(|source| source.pollable());
        let pipes = pipes.map(|pipe| PollFd::new(pipe, PollFlags::POLLIN));
        let mut fds: Vec<_> = fixed.into_iter().flatten().chain(pipes).collect();
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(LoggerError::Sys { call: "poll", source: errno.into() }),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        drop(fds);
        let mut ready = ready.into_iter();
        let fixed = present.map(|present| present && ready.next().unwrap_or(false));
        for (source, ready) in sources.iter_mut().zip(ready) {
            source.ready = ready;
        }
        Ok(fixed)
    }

    /// Begins to end the loop: reads what is still in the pipes and writes everything to disk.
    fn end(&mut self, now: Instant) {
        self.idle = false;
        self.deadline.get_or_insert(now + self.config.stop_within);
    }

    fn is_done(&self) -> bool {
        let Some(deadline) = self.deadline else { return false };
        let now = Instant::now();
        let written = self.units.values().all(|unit| !unit.has_work() && unit.is_written(now));
        let sent = self.outbox.is_empty();
        now >= deadline || (self.idle && written && sent && self.dirty.is_none() && !self.syncing)
    }
}

fn report(unit: &str, result: Result<(), RingError>) {
    if let Err(error) = result {
        log::error!("unit {unit}: {error}");
    }
}
