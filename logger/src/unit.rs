//! A unit: its ring, its runs and its log files.

use crate::disk::{DiskState, Job, OVERHEAD, format_line};
use crate::line::Stream;
use crate::ring::{DiskMark, MAX_RUNS, RingError, Writer};
use crate::source::{Buffers, Source, Turn};
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use units::model::LogPolicy;

/// Maximum number of bytes passed to the disk thread at a time, unless one line is longer.
const JOB: usize = 32 * 1024;

/// Standard output and standard error of a run; `None` if the pipes no longer exist.
pub(crate) type Pipes = Option<[OwnedFd; 2]>;

/// A run of a unit: one start.
#[derive(Debug)]
struct Run {
    generation: u64,
    sources: [Source; 2],
}

/// A unit.
#[derive(Debug)]
pub(crate) struct Unit {
    name: String,
    dir: PathBuf,
    ring: Writer,
    /// Oldest first.
    runs: Vec<Run>,
    /// Runs for which the ring has no space yet.
    waiting: BTreeMap<u64, Pipes>,
    /// The state of its log files.
    pub disk: DiskState,
    /// The last result from the disk was an error: containers do not wait for it.
    failing: bool,
    /// Its pipes are not read until the lines in the ring are on disk.
    held: bool,
    /// Nothing is done until this time, after an error of the tmpfs.
    paused: Option<Instant>,
}

impl Unit {
    /// Opens the unit's ring below `run_dir`, or creates one.
    pub fn open(run_dir: &Path, name: &str, capacity: u64) -> Result<Unit, RingError> {
        let dir = run_dir.join(name);
        let created = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        created.map_err(RingError::io("create a directory for"))?;
        let ring = Writer::open(&dir.join("ring"), capacity)?;
        let disk = DiskState::Off;
        Ok(Unit {
            name: name.to_owned(),
            dir,
            ring,
            runs: Vec::new(),
            waiting: BTreeMap::new(),
            disk,
            failing: false,
            held: false,
            paused: None,
        })
    }

    /// Whether a previous logger had files for the unit.
    pub fn had_disk(&self) -> bool {
        self.ring.disk().inode != 0
    }

    /// The number of lines missing from the log file so far.
    pub fn lost(&self) -> u64 {
        self.ring.counters().lost
    }

    /// Records whether the host has, or should have, a data disk.
    pub fn set_disk_wanted(&mut self, wanted: bool) -> Result<(), RingError> {
        self.ring.set_disk_wanted(wanted)
    }

    /// Reads a run from now on. A run that is already known is not changed.
    pub fn add_run(&mut self, generation: u64, pipes: Pipes) {
        let known = self.runs.iter().any(|run| run.generation == generation);
        if !known && !self.waiting.contains_key(&generation) {
            self.waiting.insert(generation, pipes);
        }
    }

    /// Adds runs whose pipes no longer exist but whose spools or marks remain.
    pub fn add_orphans(&mut self) -> std::io::Result<()> {
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let stem = name
                .to_str()
                .and_then(|name| name.strip_suffix(".out").or_else(|| name.strip_suffix(".err")));
            if let Some(generation) = stem.and_then(|stem| stem.parse().ok()) {
                self.add_run(generation, None);
            }
        }
        for generation in self.ring.generations() {
            self.add_run(generation, None);
        }
        Ok(())
    }

    /// Starts to read waiting runs for which there is space, oldest first.
    fn start_waiting(&mut self) -> Result<(), RingError> {
        while let Some(entry) = self.waiting.first_entry() {
            let generation = *entry.key();
            // A run has marks from its first line on, and it may need two.
            let mut generations = self.ring.generations();
            generations.extend(self.runs.iter().map(|run| run.generation));
            generations.push(generation);
            generations.sort_unstable();
            generations.dedup();
            if generations.len() > MAX_RUNS {
                // Only one run is active at a time: the pipes of an older, silent one are open only
                // because another process has inherited them, so it is drained.
                if let Some(oldest) = self.runs.first_mut() {
                    if !oldest.sources.iter().any(Source::has_work) {
                        oldest.sources.iter_mut().for_each(Source::drain);
                    }
                    return Ok(());
                }
                // Marks without runs: from a damaged ring, or of orphans that are not added yet.
                if let Some(stale) = generations.iter().find(|other| **other != generation) {
                    self.ring.remove_run(*stale)?;
                }
                continue;
            }
            let mut sources = [
                Source::open(&self.dir, generation, Stream::Stdout, &mut self.ring)?,
                Source::open(&self.dir, generation, Stream::Stderr, &mut self.ring)?,
            ];
            // Take the pipes from the queue only when nothing can fail any more.
            if let Some(pipes) = entry.remove() {
                for (source, pipe) in sources.iter_mut().zip(pipes) {
                    source.attach(pipe);
                }
            }
            self.runs.push(Run { generation, sources });
            self.runs.sort_unstable_by_key(|run| run.generation);
        }
        Ok(())
    }

    /// The sources whose pipes must be polled now.
    pub fn sources(&mut self) -> impl Iterator<Item = &mut Source> {
        let suspended = self.is_suspended();
        let all = self.runs.iter_mut().flat_map(|run| run.sources.iter_mut());
        all.filter(move |source| !suspended && source.pollable().is_some())
    }

    fn is_suspended(&self) -> bool {
        self.held || self.paused.is_some()
    }

    /// Whether [`Unit::work`] would do something.
    pub fn has_work(&self) -> bool {
        let mut sources = self.runs.iter().flat_map(|run| &run.sources);
        !self.is_suspended() && (!self.waiting.is_empty() || sources.any(Source::has_work))
    }

    /// Does nothing until `time`.
    pub fn pause_until(&mut self, time: Instant) {
        self.paused = Some(time);
    }

    /// Until when the unit's output may be held back. See [`DiskState::holds_until`].
    fn holds_until(&self, now: Instant, stall: Duration) -> Option<Instant> {
        self.disk.holds_until(now, stall).filter(|_| !self.failing)
    }

    /// Until when the pipes are not read, if they are not. Ends the suspension when the time is
    /// over.
    pub fn suspended_until(&mut self, now: Instant, stall: Duration) -> Option<Instant> {
        self.paused = self.paused.filter(|until| *until > now);
        let held = self.holds_until(now, stall).filter(|_| self.held);
        self.held = held.is_some();
        self.paused.max(held)
    }

    /// Processes each stream that has work. Returns the runs that have ended: all their output is
    /// in the ring and PID 1 can close their pipes.
    pub fn work(
        &mut self,
        buffers: &mut Buffers,
        now: Instant,
        stall: Duration,
    ) -> Result<Vec<u64>, RingError> {
        self.start_waiting()?;
        let hold = self.holds_until(now, stall).is_some();
        for run in &mut self.runs {
            let mut busy = false;
            for source in &mut run.sources {
                if self.held || !source.has_work() {
                    continue;
                }
                match source.turn(&mut self.ring, buffers, hold)? {
                    Turn::Idle => {}
                    Turn::Progress => busy = true,
                    Turn::Held => self.held = true,
                }
            }
            // Lines of a run come after all lines of the previous run.
            if busy || self.held {
                break;
            }
        }
        let mut ended = Vec::new();
        for run in &self.runs {
            if !run.sources.iter().all(Source::is_finished) {
                continue;
            }
            // In this order, and PID 1 is notified last: after a kill in between, the next logger
            // finds an empty pipe without writers and repeats these steps.
            for source in &run.sources {
                source.remove_spool().map_err(RingError::io("remove a spool of"))?;
            }
            self.ring.remove_run(run.generation)?;
            ended.push(run.generation);
        }
        self.runs.retain(|run| !ended.contains(&run.generation));
        Ok(ended)
    }

    /// The next job for the disk thread, if any is due. `root`: the directory of log files.
    pub fn disk_job(
        &mut self,
        now: Instant,
        root: &Path,
        policy: &dyn Fn() -> LogPolicy,
    ) -> Option<Job> {
        let unit = self.name.clone();
        match self.disk {
            DiskState::Closed { retry_at } if retry_at <= now => {
                self.disk = DiskState::Opening { since: now };
                let (mark, newest) = (self.ring.disk(), self.ring.newest());
                Some(Job::Open { dir: root.join(&self.name), unit, mark, newest })
            }
            DiskState::Open { hint } if self.has_unwritten() => {
                let policy = policy();
                let max = usize::try_from(policy.max_size).unwrap_or(usize::MAX).min(JOB);
                match self.unwritten(hint, max) {
                    Ok((bytes, end)) => {
                        self.disk = DiskState::Writing { since: now, end };
                        Some(Job::Append { unit, bytes, policy })
                    }
                    Err(error) => {
                        log::error!(
                            "unit {}: {error}; discarding the lines in the ring",
                            self.name
                        );
                        // An error of this commit will occur again with the next one.
                        let _ = self.ring.evict_all();
                        None
                    }
                }
            }
            _ => None,
        }
    }

    /// Whether there are lines that must be written to the log file.
    fn has_unwritten(&self) -> bool {
        let counts = self.ring.counters();
        self.ring.newest() > self.ring.disk().seq.max(counts.evicted)
    }

    /// Lines for the log file, at most `max` bytes but at least one line, and the position and
    /// number of the record after them.
    fn unwritten(
        &self,
        hint: Option<(u64, u64)>,
        max: usize,
    ) -> Result<(Vec<u8>, (u64, u64)), RingError> {
        let mut walk = self.ring.after_disk(hint)?;
        let mut bytes = Vec::new();
        while let Some(head) = walk.peek()? {
            let after = bytes.len().saturating_add(head.text_len).saturating_add(OVERHEAD);
            if after > max && !bytes.is_empty() {
                break;
            }
            format_line(&head, walk.text(&head)?, &mut bytes);
            walk.skip(&head);
        }
        Ok((bytes, (walk.pos, walk.seq)))
    }

    /// Handles that the files are open and written up to `mark`.
    pub fn disk_opened(&mut self, mark: DiskMark) -> Result<(), RingError> {
        self.disk = DiskState::Open { hint: None };
        self.held = false;
        self.ring.set_disk(mark)
    }

    /// Handles that the lines have been written; the current file has this inode and size.
    pub fn disk_written(&mut self, inode: u64, size: u64) -> Result<(), RingError> {
        let DiskState::Writing { end, .. } = self.disk else { return Ok(()) };
        self.disk = DiskState::Open { hint: Some(end) };
        (self.held, self.failing) = (false, false);
        self.ring.set_disk(DiskMark { inode, size, seq: end.1.saturating_sub(1) })
    }

    /// Handles that the disk thread has failed; the job is repeated at `retry_at`.
    pub fn disk_failed(&mut self, retry_at: Instant) {
        self.disk = DiskState::Closed { retry_at };
        (self.held, self.failing) = (false, true);
    }

    /// Whether everything that can be written is on disk.
    pub fn is_written(&self, now: Instant) -> bool {
        match self.disk {
            DiskState::Off | DiskState::Expected { .. } => true,
            DiskState::Closed { retry_at } => retry_at > now,
            DiskState::Open { .. } => !self.has_unwritten(),
            DiskState::Opening { .. } | DiskState::Writing { .. } => false,
        }
    }
}
