//! The loop: messages from PID 1, pipes to rings, rings to files.

use crate::disk::{DiskState, Done, Job, Worker};
use crate::ring::{DiskMark, RingError};
use crate::source::Kit;
use crate::unit::{Pipes, Unit};
use ipc::{Channel, ChannelError, FromInit, ToInit};
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

/// Messages handled in one turn of the loop.
const MESSAGES: usize = 64;
/// Least time between two complaints about the disk.
const COMPLAIN: Duration = Duration::from_secs(60);
/// Time from an error of the memory file system to the next attempt.
const PAUSE: Duration = Duration::from_secs(1);

/// What the loop needs to know.
pub struct Config {
    /// Where rings and spools go, [`ipc::paths::RUN_LOG`].
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

/// Where log files go, as far as PID 1 has said.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Disk {
    /// Not a word yet.
    Untold,
    /// There is none; `pending`: it is still being waited for.
    None { pending: bool },
    /// Below this directory.
    At(PathBuf),
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

    /// Sends what there is to say to PID 1, as far as it goes.
    fn send(&mut self) -> Result<(), LoggerError> {
        while let Some(message) = self.outbox.front() {
            match self.config.link.send(message, &[]) {
                Ok(()) => {}
                Err(ChannelError::WouldBlock) => return Ok(()),
                Err(_) if self.link_closed => {}
                Err(ChannelError::Sys { errno: Errno::EPIPE | Errno::ECONNRESET, .. }) => {}
                Err(error) => return Err(error.into()),
            }
            self.outbox.pop_front();
        }
        Ok(())
    }

    /// Takes messages from PID 1.
    fn receive(&mut self, now: Instant) -> Result<(), LoggerError> {
        for _ in 0..MESSAGES {
            match self.config.link.recv::<FromInit>() {
                Ok(Some(received)) => self.handle(received.message, received.fds, now),
                Ok(None) => return Ok(()),
                // An empty packet is the end of the link.
                Err(ChannelError::Decode { size: 0, .. })
                | Err(ChannelError::Sys { errno: Errno::ECONNRESET, .. }) => {
                    self.link_closed = true;
                    self.end(now);
                    return Ok(());
                }
                Err(error @ ChannelError::Sys { .. }) => return Err(error.into()),
                Err(error) => log::error!("from PID 1: {error}"),
            }
        }
        Ok(())
    }

    fn handle(&mut self, message: FromInit, fds: Vec<OwnedFd>, now: Instant) {
        match message {
            FromInit::Stored { key } => match (parse_key(&key), <[OwnedFd; 2]>::try_from(fds)) {
                (Some((unit, generation)), Ok(pipes)) => {
                    self.add_run(unit, generation, Some(pipes), now);
                }
                _ => log::error!("from PID 1: `{key}` is no pair of pipes of a unit"),
            },
            FromInit::StoredEnd => {
                for (name, unit) in &mut self.units {
                    if let Err(error) = unit.add_orphans() {
                        log::error!("unit {name}: cannot look for old spools: {error}");
                    }
                }
                self.outbox.push_back(ToInit::Ready);
            }
            FromInit::DataDisk(disk) => {
                let disk = match disk.path {
                    Some(path) => Disk::At(PathBuf::from(path).join("logs")),
                    None => Disk::None { pending: disk.pending },
                };
                self.set_disk(disk, now);
            }
            FromInit::Exited { .. } | FromInit::StopUnits { .. } => {}
        }
    }

    fn add_run(&mut self, unit: &str, generation: u64, pipes: Pipes, now: Instant) {
        match self.unit(unit, now) {
            Some(open) => open.add_run(generation, pipes),
            None => {
                self.unopened.push((unit.to_owned(), generation, pipes));
                self.reopen_at = Some(now + PAUSE);
            }
        }
    }

    fn set_disk(&mut self, disk: Disk, now: Instant) {
        if disk == self.disk {
            return;
        }
        self.disk = disk;
        // A thread that still has work finishes it; its answers go nowhere.
        (self.worker, self.dirty, self.syncing) = (None, None, false);
        for (name, unit) in &mut self.units {
            self.disk.apply(name, unit, now);
        }
    }

    /// Takes answers from the disk's thread.
    fn hear(&mut self, now: Instant) {
        let Some(worker) = &self.worker else { return };
        worker.heard();
        let answers: Vec<Done> = std::iter::from_fn(|| worker.next()).collect();
        for answer in answers {
            let (name, result) = match answer {
                Done::Opened { unit, result } => {
                    (unit, result.map(|mark| (mark.inode, mark.size, Some(mark.seq))))
                }
                Done::Appended { unit, result } => {
                    (unit, result.map(|(inode, size)| (inode, size, None)))
                }
                Done::Synced { result } => {
                    self.syncing = false;
                    if let Err(error) = result {
                        self.complain(now, &format!("cannot sync log files: {error}"));
                    }
                    continue;
                }
            };
            let Some(unit) = self.units.get_mut(&name) else { continue };
            match result {
                Ok((inode, size, Some(seq))) => {
                    report(&name, unit.disk_opened(DiskMark { inode, size, seq }));
                }
                Ok((inode, size, None)) => {
                    report(&name, unit.disk_written(inode, size));
                    self.dirty.get_or_insert(now);
                }
                Err(error) => {
                    // At the end there is no second attempt: nobody waits for it.
                    let wait = if self.deadline.is_some() { COMPLAIN } else { self.config.retry };
                    unit.disk_failed(now + wait);
                    let lost = unit.lost();
                    self.complain(
                        now,
                        &format!("unit {name}: cannot write its log file ({lost} lines lost so far): {error}"),
                    );
                }
            }
        }
    }

    /// Gives the disk's thread its next work.
    fn drive_disk(&mut self, now: Instant) {
        let Disk::At(root) = &self.disk else { return };
        if self.worker.is_none() {
            match Worker::start() {
                Ok(worker) => self.worker = Some(worker),
                Err(error) => {
                    return self.complain(now, &format!("no thread for the disk: {error}"));
                }
            }
        }
        let Some(worker) = &self.worker else { return };
        let mut alive = true;
        for (name, unit) in &mut self.units {
            if let Some(job) = unit.disk_job(now, root, &|| (self.config.policy)(name)) {
                alive &= worker.send(job);
            }
        }
        let due = self.dirty.is_some_and(|since| match self.deadline {
            Some(_) => self.units.values().all(|unit| unit.is_written(now)),
            None => since + self.config.sync <= now,
        });
        if due && !self.syncing {
            (self.dirty, self.syncing) = (None, true);
            alive &= worker.send(Job::Sync);
        }
        if !alive {
            // It panicked. The files are taken up as after a kill.
            let disk = std::mem::replace(&mut self.disk, Disk::Untold);
            self.set_disk(disk, now);
        }
    }

    /// Warns about the disk, but not without end.
    fn complain(&mut self, now: Instant, text: &str) {
        let silent = |last: Instant| now.saturating_duration_since(last) < COMPLAIN;
        if !self.complained.is_some_and(silent) {
            self.complained = Some(now);
            log::warn!("{text}");
        }
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
        now >= deadline
            || (self.quiet && written && said && self.dirty.is_none() && !self.syncing)
    }
}

impl Disk {
    /// Puts a unit in the state that goes with what is known of the disk.
    fn apply(&self, name: &str, unit: &mut Unit, now: Instant) {
        unit.disk = match self {
            Self::Untold if unit.had_disk() => DiskState::Expected { since: now },
            Self::Untold => return,
            Self::None { .. } => DiskState::Off,
            Self::At(_) => DiskState::Closed { retry_at: now },
        };
        if *self != Self::Untold {
            let wanted = *self != Self::None { pending: false };
            report(name, unit.set_disk_wanted(wanted));
        }
    }
}

/// The key under which PID 1 keeps the pipes of a run.
fn log_key(unit: &str, generation: u64) -> String {
    format!("log/{unit}/{generation}")
}

/// Unit and generation of such a key.
fn parse_key(key: &str) -> Option<(&str, u64)> {
    let (unit, generation) = key.strip_prefix("log/")?.split_once('/')?;
    Some((unit, generation.parse().ok()?)).filter(|_| is_unit(unit))
}

/// Whether a unit can have this name: it becomes a directory's.
fn is_unit(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(allowed)
}

fn report(unit: &str, result: Result<(), RingError>) {
    if let Err(error) = result {
        log::error!("unit {unit}: {error}");
    }
}
