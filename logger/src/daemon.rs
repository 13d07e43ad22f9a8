//! The loop: messages from PID 1, pipes to rings, rings to files.

mod filing;
mod link;

use crate::disk::{DiskState, Worker};
use crate::ring::RingError;
use crate::source::Kit;
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

/// Time from an error of the memory file system to the next attempt.
const PAUSE: Duration = Duration::from_secs(1);

/// What the loop needs to know.
pub struct Config {
    /// Where rings and spools go, [`layout::paths::RUN_LOG`].
    pub run_dir: PathBuf,
    /// The link to PID 1.
    pub link: Channel,
    /// Becomes readable when the logger is to write everything out and end (a signalfd).
    pub stop: Option<OwnedFd>,
    /// Record bytes of a new ring.
    pub capacity: u64,
    /// How much of a unit's output is kept on the disk.
    pub policy: Box<dyn Fn(&str) -> LogPolicy + Send>,
    /// A disk that takes longer for a write counts as broken until it is done.
    pub stall: Duration,
    /// Time from an error of the disk to the next attempt.
    pub retry: Duration,
    /// Longest time from a write to the sync that covers it.
    pub sync: Duration,
    /// Longest time for writing everything out at the end.
    pub stop_within: Duration,
}

/// What ends the loop before it is told to.
#[derive(Debug, thiserror::Error)]
pub enum LoggerError {
    /// A system call without which nothing works.
    #[error("{call}: {source}")]
    Sys {
        /// Its name.
        call: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// The link to PID 1 is broken.
    #[error("the link to PID 1: {0}")]
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
    /// Since when there are writes that no sync covers.
    dirty: Option<Instant>,
    syncing: bool,
    complained: Option<Instant>,
    outbox: VecDeque<ToInit>,
    link_closed: bool,
    kit: Kit,
    /// Set when the loop is to end: the latest time for that.
    deadline: Option<Instant>,
    /// The last look at the pipes found nothing in them.
    quiet: bool,
}

/// Runs until `config.stop` is readable or PID 1's end of the link is closed, then writes
/// everything out.
///
/// # Errors
/// Only what makes any further work impossible; a unit's or the disk's troubles are logged.
pub fn run(config: Config) -> Result<(), LoggerError> {
    let mut daemon = Daemon {
        config,
        units: BTreeMap::new(),
        unopened: Vec::new(),
        reopen_at: None,
        disk: Disk::Untold,
        worker: None,
        dirty: None,
        syncing: false,
        complained: None,
        outbox: VecDeque::new(),
        link_closed: false,
        kit: Kit::default(),
        deadline: None,
        quiet: false,
    };
    daemon.take_up()?;
    while !daemon.is_done() {
        daemon.turn()?;
    }
    Ok(())
}

impl Daemon {
    /// Opens what a predecessor has left: its rings may hold lines that belong in files.
    fn take_up(&mut self) -> Result<(), LoggerError> {
        let sys = |source| LoggerError::Sys { call: "reading the log directory", source };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.config.run_dir).map_err(sys)?;
        for entry in std::fs::read_dir(&self.config.run_dir).map_err(sys)? {
            if let Some(name) = entry.map_err(sys)?.file_name().to_str().filter(|n| is_unit(n)) {
                self.unit(name, Instant::now());
            }
        }
        Ok(())
    }

    /// The unit of this name, opened when it is new.
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

    /// One turn of the loop.
    fn turn(&mut self) -> Result<(), LoggerError> {
        self.send()?;
        let timeout = self.timeout(Instant::now());
        let [link, stop, worker] = self.wait(timeout)?;
        let now = Instant::now();
        self.quiet = true;
        for (name, unit) in self.units.iter_mut().filter(|(_, unit)| unit.has_work()) {
            self.quiet = false;
            match unit.work(&mut self.kit, now, self.config.stall) {
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
        // Only now: the marks that the poll left on the pipes belong to the units as they were.
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
            self.hear(now);
        }
        self.drive_disk(now);
        Ok(())
    }

    /// How long there is nothing to do unless something happens.
    fn timeout(&mut self, now: Instant) -> PollTimeout {
        let mut at = self.deadline.into_iter().chain(self.reopen_at).min();
        let mut earlier = |time: Option<Instant>| at = at.into_iter().chain(time).min();
        if self.deadline.is_some() && !self.quiet {
            earlier(Some(now));
        }
        for unit in self.units.values_mut() {
            earlier(unit.rests_until(now, self.config.stall));
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

    /// Waits, notes which pipes can be read, and says whether link, stop and worker can be.
    fn wait(&mut self, timeout: PollTimeout) -> Result<[bool; 3], LoggerError> {
        let flags = match self.outbox.is_empty() {
            true => PollFlags::POLLIN,
            false => PollFlags::POLLIN | PollFlags::POLLOUT,
        };
        // What has said its last word would be readable for ever.
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

    /// Everything that can still be read is to be written out, and then the loop ends.
    fn end(&mut self, now: Instant) {
        self.quiet = false;
        self.deadline.get_or_insert(now + self.config.stop_within);
    }

    fn is_done(&self) -> bool {
        let Some(deadline) = self.deadline else { return false };
        let now = Instant::now();
        let written = self.units.values().all(|unit| !unit.has_work() && unit.is_written(now));
        let said = self.outbox.is_empty();
        now >= deadline || (self.quiet && written && said && self.dirty.is_none() && !self.syncing)
    }
}

fn report(unit: &str, result: Result<(), RingError>) {
    if let Err(error) = result {
        log::error!("unit {unit}: {error}");
    }
}
