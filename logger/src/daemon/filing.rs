//! The loop's side of the log files: what the disk's thread does next, and what came of it.

use super::{Daemon, report};
use crate::disk::{DiskState, Done, Job, Worker};
use crate::ring::DiskMark;
use crate::unit::Unit;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Least time between two complaints about the disk.
const COMPLAIN: Duration = Duration::from_secs(60);

/// Where log files go, as far as PID 1 has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Disk {
    /// Not a word yet.
    Untold,
    /// There is none; `pending`: it is still being waited for.
    None { pending: bool },
    /// Below this directory.
    At(PathBuf),
}

impl Disk {
    /// Puts a unit in the state that goes with what is known of the disk.
    pub(super) fn apply(&self, name: &str, unit: &mut Unit, now: Instant) {
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

impl Daemon {
    /// Takes in what has become of the data disk.
    pub(super) fn set_disk(&mut self, disk: Disk, now: Instant) {
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
    pub(super) fn hear(&mut self, now: Instant) {
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
    pub(super) fn drive_disk(&mut self, now: Instant) {
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
}
