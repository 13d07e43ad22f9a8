//! One unit: its ring, its runs and its place on the disk.

use crate::disk::{DiskState, Job, OVERHEAD, format_line};
use crate::line::Stream;
use crate::ring::{DiskMark, MAX_RUNS, RingError, Writer};
use crate::source::{Kit, Source, Turn};
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use units::model::LogPolicy;

/// Most bytes of lines handed to the disk's thread at a time, unless one line is longer.
const JOB: usize = 32 * 1024;

/// Standard output and standard error of a run; `None` when nobody holds the pipes any more.
pub(crate) type Pipes = Option<[OwnedFd; 2]>;

/// One start of a unit.
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
    /// Runs for which the ring has no room yet.
    waiting: BTreeMap<u64, Pipes>,
    /// Its place on the disk.
    pub disk: DiskState,
    /// The disk's last answer was an error: containers do not wait for it.
    failing: bool,
    /// Its pipes are not read until the disk has taken what is in the ring.
    held: bool,
    /// Nothing is tried until then, after an error of the memory file system.
    paused: Option<Instant>,
}

impl Unit {
    /// Opens the unit's ring below `run_dir`, or makes one.
    pub fn open(run_dir: &Path, name: &str, capacity: u64) -> Result<Unit, RingError> {
        let dir = run_dir.join(name);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(RingError::io("make a directory for"))?;
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

    /// Whether an earlier logger had files for it.
    pub fn had_disk(&self) -> bool {
        self.ring.disk().inode != 0
    }

    /// Lines lost to the log file so far.
    pub fn lost(&self) -> u64 {
        self.ring.counters().lost
    }

    /// Says whether the host has, or should have, a data disk.
    pub fn set_disk_wanted(&mut self, wanted: bool) -> Result<(), RingError> {
        self.ring.set_disk_wanted(wanted)
    }

    /// Follows a run from now on. A run that is followed already stays as it is.
    pub fn add_run(&mut self, generation: u64, pipes: Pipes) {
        let known = self.runs.iter().any(|run| run.generation == generation);
        if !known && !self.waiting.contains_key(&generation) {
            self.waiting.insert(generation, pipes);
        }
    }

    /// Takes up what is left of runs whose pipes nobody holds any more.
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

    /// Starts to follow waiting runs for which there is room, oldest first.
    fn start_waiting(&mut self) -> Result<(), RingError> {
        while let Some(entry) = self.waiting.first_entry() {
            let generation = *entry.key();
            // A run has its marks from its first line on, and it may need two.
            let mut places = self.ring.generations();
            places.extend(self.runs.iter().map(|run| run.generation));
            places.push(generation);
            places.sort_unstable();
            places.dedup();
            if places.len() > MAX_RUNS {
                // Runs follow one another: an older one that has nothing to say keeps its pipes
                // open only because somebody was handed them, and has to go.
                if let Some(oldest) = self.runs.first_mut() {
                    if !oldest.sources.iter().any(Source::has_work) {
                        oldest.sources.iter_mut().for_each(Source::leave);
                    }
                    return Ok(());
                }
                // Marks without runs: a damaged ring's, or orphans' not yet taken up.
                if let Some(stale) = places.iter().find(|place| **place != generation) {
                    self.ring.remove_run(*stale)?;
                }
                continue;
            }
            let mut sources = [
                Source::open(&self.dir, generation, Stream::Stdout, &mut self.ring)?,
                Source::open(&self.dir, generation, Stream::Stderr, &mut self.ring)?,
            ];
            // The pipes leave the queue only when nothing can go wrong any more.
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

    /// The sources whose pipes are worth polling now.
    pub fn sources(&mut self) -> impl Iterator<Item = &mut Source> {
        let rests = self.rests();
        let all = self.runs.iter_mut().flat_map(|run| run.sources.iter_mut());
        all.filter(move |source| !rests && source.pollable().is_some())
    }

    fn rests(&self) -> bool {
        self.held || self.paused.is_some()
    }

    /// Whether [`Unit::work`] would do something.
    pub fn has_work(&self) -> bool {
        let mut sources = self.runs.iter().flat_map(|run| &run.sources);
        !self.rests() && (!self.waiting.is_empty() || sources.any(Source::has_work))
    }

    /// Tries nothing until then.
    pub fn pause_until(&mut self, time: Instant) {
        self.paused = Some(time);
    }

    /// Until when the unit's output is held back, if it is. See [`DiskState::holds_until`].
    fn holds_until(&self, now: Instant, stall: Duration) -> Option<Instant> {
        self.disk.holds_until(now, stall).filter(|_| !self.failing)
    }

    /// While its pipes are not read: until when at most. Ends the rest when it is time.
    pub fn rests_until(&mut self, now: Instant, stall: Duration) -> Option<Instant> {
        self.paused = self.paused.filter(|until| *until > now);
        let held = self.holds_until(now, stall).filter(|_| self.held);
        self.held = held.is_some();
        self.paused.max(held)
    }

    /// One turn for each stream that has work. Returns the runs that ended: everything of theirs
    /// is in the ring and PID 1 can close their pipes.
    pub fn work(
        &mut self,
        kit: &mut Kit,
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
                match source.turn(&mut self.ring, kit, hold)? {
                    Turn::Idle => {}
                    Turn::Progress => busy = true,
                    Turn::Held => self.held = true,
                }
            }
            // Lines of a later run come after those of the one before it.
            if busy || self.held {
                break;
            }
        }
        let mut ended = Vec::new();
        for run in &self.runs {
            if !run.sources.iter().all(Source::is_finished) {
                continue;
            }
            // In this order, and PID 1 told last: a kill in between finds an empty pipe without
            // writers and comes here again.
            for source in &run.sources {
                source.remove_spool().map_err(RingError::io("remove a spool of"))?;
            }
            self.ring.remove_run(run.generation)?;
            ended.push(run.generation);
        }
        self.runs.retain(|run| !ended.contains(&run.generation));
        Ok(ended)
    }

    /// The next work for the disk's thread, if it is time for some. `root`: where log files go.
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
                        log::error!("unit {}: {error}; its lines so far are given up", self.name);
                        // The error is in what is given up; the commit's own comes up again.
                        let _ = self.ring.give_up();
                        None
                    }
                }
            }
            _ => None,
        }
    }

    /// Whether there are lines that the log file should get.
    fn has_unwritten(&self) -> bool {
        let counts = self.ring.counters();
        self.ring.newest() > self.ring.disk().seq.max(counts.evicted)
    }

    /// Lines for the log file, at most `max` bytes of them but at least one, and the position and
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

    /// The files are open; `mark` is how far they have been written.
    pub fn disk_opened(&mut self, mark: DiskMark) -> Result<(), RingError> {
        self.disk = DiskState::Open { hint: None };
        self.held = false;
        self.ring.set_disk(mark)
    }

    /// The lines handed over have been written; the current file has this inode and size.
    pub fn disk_written(&mut self, inode: u64, size: u64) -> Result<(), RingError> {
        let DiskState::Writing { end, .. } = self.disk else { return Ok(()) };
        self.disk = DiskState::Open { hint: Some(end) };
        (self.held, self.failing) = (false, false);
        self.ring.set_disk(DiskMark { inode, size, seq: end.1.saturating_sub(1) })
    }

    /// The disk's thread could not do its work; it gets it again at `retry_at`.
    pub fn disk_failed(&mut self, retry_at: Instant) {
        self.disk = DiskState::Closed { retry_at };
        (self.held, self.failing) = (false, true);
    }

    /// Whether the disk has got everything that it will take.
    pub fn is_written(&self, now: Instant) -> bool {
        match self.disk {
            DiskState::Off | DiskState::Expected { .. } => true,
            DiskState::Closed { retry_at } => retry_at > now,
            DiskState::Open { .. } => !self.has_unwritten(),
            DiskState::Opening { .. } | DiskState::Writing { .. } => false,
        }
    }
}
