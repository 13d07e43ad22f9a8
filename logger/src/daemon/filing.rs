//! Log files, as seen from the loop: gives work to the disk thread and handles the results.

use super::{Daemon, report};
use crate::disk::{DiskState, Job, JobResult, Worker};
use crate::ring::DiskMark;
use crate::unit::Unit;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Minimum time between two warnings about the disk.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Where log files are written, as reported by PID 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Disk {
    /// Not reported yet.
    Unknown,
    /// There is no data disk; `pending`: it may still appear.
    None { pending: bool },
    /// Below this directory.
    At(PathBuf),
}

impl Disk {
    /// Sets the state of a unit according to what is known about the disk.
    pub(super) fn apply(&self, name: &str, unit: &mut Unit, now: Instant) {
        unit.disk = match self {
            Self::Unknown if unit.had_disk() => DiskState::Expected { since: now },
            Self::Unknown => return,
            Self::None { .. } => DiskState::Off,
            Self::At(_) => DiskState::Closed { retry_at: now },
        };
        if *self != Self::Unknown {
            let wanted = *self != Self::None { pending: false };
            report(name, unit.set_disk_wanted(wanted));
        }
    }
}

impl Daemon {
    /// Handles a change of the data disk.
    pub(super) fn set_disk(&mut self, disk: Disk, now: Instant) {
        if disk == self.disk {
            return;
        }
        self.disk = disk;
        // A thread that still has work finishes it; its results are discarded.
        (self.worker, self.dirty, self.syncing) = (None, None, false);
        for (name, unit) in &mut self.units {
            self.disk.apply(name, unit, now);
        }
    }

    /// Receives results from the disk thread.
    pub(super) fn receive_results(&mut self, now: Instant) {
        let Some(worker) = &self.worker else { return };
        worker.clear_wakeup();
        let results: Vec<JobResult> = std::iter::from_fn(|| worker.next()).collect();
        for result in results {
            let (name, result) = match result {
                JobResult::Opened { unit, result } => {
                    (unit, result.map(|mark| (mark.inode, mark.size, Some(mark.seq))))
                }
                JobResult::Appended { unit, result } => {
                    (unit, result.map(|(inode, size)| (inode, size, None)))
                }
                JobResult::Synced { result } => {
                    self.syncing = false;
                    if let Err(error) = result {
                        self.warn(now, &format!("cannot sync log files: {error}"));
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
                    // During shutdown there is no second attempt.
                    let stopping = self.deadline.is_some();
                    let wait = if stopping { WARN_INTERVAL } else { self.config.retry };
                    unit.disk_failed(now + wait);
                    let lost = unit.lost();
                    let text = format!(
                        "unit {name}: cannot write log file: {error} ({lost} lines lost so far)"
                    );
                    self.warn(now, &text);
                }
            }
        }
    }

    /// Gives work to the disk thread.
    pub(super) fn drive_disk(&mut self, now: Instant) {
        let Disk::At(root) = &self.disk else { return };
        if self.worker.is_none() {
            match Worker::start() {
                Ok(worker) => self.worker = Some(worker),
                Err(error) => {
                    return self.warn(now, &format!("cannot start the disk thread: {error}"));
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
            // The thread panicked. The files are opened again as after a kill.
            let disk = std::mem::replace(&mut self.disk, Disk::Unknown);
            self.set_disk(disk, now);
        }
    }

    /// Logs a warning about the disk, at most one per interval.
    fn warn(&mut self, now: Instant, text: &str) {
        let recent = |last: Instant| now.saturating_duration_since(last) < WARN_INTERVAL;
        if !self.warned.is_some_and(recent) {
            self.warned = Some(now);
            log::warn!("{text}");
        }
    }
}
