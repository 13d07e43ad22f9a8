//! The units with their records, and what can be derived from one of them.

use super::backoff::Backoff;
use super::health::HealthTrack;
use super::state::{DownBy, Phase, Record, Rest, Run, Stage, Wanted};
use super::time::Instant;
use api_types::State;
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Index, IndexMut};
use std::time::Duration;
use units::model::{Kind, Unit};

/// A unit: its file, its record, and notes that mean nothing outside one call of the core.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) unit: Unit,
    pub(super) record: Record,
    /// The record differs from what was last written.
    pub(super) dirty: bool,
    /// It is in the list of units to check at the end of the call.
    pub(super) touched: bool,
    /// The state at the end of the last call.
    pub(super) shown: State,
    /// Its place in the core's list of deadlines.
    pub(super) timer: Option<Instant>,
    /// The wait has just begun and has not been reported.
    pub(super) fresh_wait: bool,
}

impl Entry {
    /// A unit that has never run.
    pub(super) fn new(unit: Unit, seed: u64, now: Instant) -> Self {
        let record = Record {
            wanted: Wanted::Down(DownBy::Default),
            phase: Phase::Rest(Rest::Stopped),
            generation: 0,
            since: now,
            restarts: 0,
            failures: 0,
            backoff: Backoff::new(seed),
            last_exit: None,
            exits: BTreeMap::new(),
            status_text: None,
        };
        Self::with_record(unit, record)
    }

    /// A unit with a history.
    pub(super) fn with_record(unit: Unit, record: Record) -> Self {
        let mut entry = Self {
            unit,
            record,
            dirty: false,
            touched: false,
            shown: State::Stopped,
            timer: None,
            fresh_wait: false,
        };
        entry.shown = entry.state();
        entry
    }

    /// The run, if there is one.
    pub(super) fn run(&self) -> Option<&Run> {
        match &self.record.phase {
            Phase::Run(run) => Some(run),
            _ => None,
        }
    }

    /// The run, to change it.
    pub(super) fn run_mut(&mut self) -> Option<&mut Run> {
        match &mut self.record.phase {
            Phase::Run(run) => Some(run),
            _ => None,
        }
    }

    /// Whether it is wanted up.
    pub(super) fn wanted_up(&self) -> bool {
        matches!(self.record.wanted, Wanted::Up(_))
    }

    /// The state a person sees.
    pub(super) fn state(&self) -> State {
        match &self.record.phase {
            Phase::Rest(Rest::Stopped) => State::Stopped,
            Phase::Rest(Rest::Done) => State::Done,
            Phase::Rest(Rest::Failed(_)) => State::Failed,
            Phase::Waiting { .. } => State::Waiting,
            Phase::Backoff { .. } => State::Backoff,
            Phase::Run(run) => match run.stage {
                Stage::Launching | Stage::Setup { .. } => State::Starting,
                Stage::Up { .. } if run.ready_at.is_some() => State::Running,
                // A one-shot is ready when it is done; until then it is running.
                Stage::Up { .. } if self.unit.kind == Kind::Oneshot => State::Running,
                Stage::Up { .. } => State::Starting,
                _ => State::Stopping,
            },
        }
    }

    /// Whether units that require it may start.
    pub(super) fn ready(&self) -> bool {
        match (&self.record.phase, self.unit.kind) {
            (Phase::Rest(Rest::Done), Kind::Oneshot) => true,
            (Phase::Run(run), Kind::Service) => {
                run.ready_at.is_some() && matches!(run.stage, Stage::Up { leaving: false, .. })
            }
            _ => false,
        }
    }

    /// When the clock alone will change something. The core must be called then.
    pub(super) fn due(&self) -> Option<Instant> {
        let after = |from: Instant, span: Option<Duration>| span.map(|span| from.plus(span));
        match &self.record.phase {
            Phase::Rest(_) => None,
            Phase::Waiting { since, .. } => after(*since, self.unit.wait_timeout),
            Phase::Backoff { until } => Some(*until),
            Phase::Run(run) => match &run.stage {
                Stage::Launching | Stage::Setup { .. } => self.start_due(run),
                Stage::Up { health, .. } => {
                    let health = health.as_ref().map(HealthTrack::due);
                    health.into_iter().chain(self.start_due(run)).min()
                }
                Stage::Terminating { kill_at, .. } => Some(*kill_at),
                Stage::Killing { sweep, .. } | Stage::Draining { sweep, .. } => {
                    Some(sweep.again_at)
                }
                Stage::Unreported { until, .. } => Some(*until),
            },
        }
    }

    /// When a run that is not ready yet has used up its `start_timeout`.
    pub(super) fn start_due(&self, run: &Run) -> Option<Instant> {
        match run.ready_at {
            Some(_) => None,
            None => self.unit.start_timeout.map(|span| run.started_at.plus(span)),
        }
    }
}

/// A unit's place in [`Entries`]. Made only by it, and units are never removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(usize);

/// All units. Indexing cannot fail, because an [`Id`] is made only for a unit that is there.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries(Vec<Entry>);

impl Entries {
    /// Adds a unit.
    pub(super) fn push(&mut self, entry: Entry) -> Id {
        self.0.push(entry);
        Id(self.0.len() - 1)
    }

    /// Every unit's place.
    pub(super) fn ids(&self) -> impl Iterator<Item = Id> + use<> {
        (0..self.0.len()).map(Id)
    }

    /// Every unit.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }
}

impl Index<Id> for Entries {
    type Output = Entry;

    fn index(&self, id: Id) -> &Entry {
        &self.0[id.0]
    }
}

impl IndexMut<Id> for Entries {
    fn index_mut(&mut self, id: Id) -> &mut Entry {
        &mut self.0[id.0]
    }
}

/// One value for each unit, in the units' order.
#[derive(Debug, Clone)]
pub(super) struct PerUnit<T>(Vec<T>);

impl<T: Clone + Default> PerUnit<T> {
    /// The default for each of `entries`.
    pub(super) fn new(entries: &Entries) -> Self {
        Self(vec![T::default(); entries.0.len()])
    }
}

impl<T> Index<Id> for PerUnit<T> {
    type Output = T;

    fn index(&self, id: Id) -> &T {
        &self.0[id.0]
    }
}

impl<T> IndexMut<Id> for PerUnit<T> {
    fn index_mut(&mut self, id: Id) -> &mut T {
        &mut self.0[id.0]
    }
}

/// Units to look at, each at most once at a time.
pub(super) type Queue = VecDeque<Id>;
