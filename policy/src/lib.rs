//! The policy: what happens to which unit, and when. It is a pure function of its input —
//! [`Core::handle`] takes an event and the time and returns a list of actions — and it owns no
//! clock, no file, no process and no log. All its decisions can therefore be tested with a
//! simulated clock and simulated processes, in any order of events.
//!
//! # Desired state and state
//!
//! For each unit there are two questions. Supervisors that mix them up start units that a person has
//! just stopped.
//!
//! *What is it meant to be?* [`api_types::Desired`]: up (since boot, requested by a person, required or
//! wanted by another unit) or down (never requested, stopped by a person, the host is shutting down).
//! Only the boot, a person's command for this unit, a person's start of a unit that needs it, and the
//! shutdown change the answer. No exit, no timer and no dependency does.
//!
//! *Where is it?* A phase, which is one of four things, and for a run a stage, which moves only
//! downwards in this table:
//!
//! | phase | stage | a person sees | process | what ends it |
//! |---|---|---|---|---|
//! | rest | | `stopped`, `done`, `failed` | none | a start |
//! | waiting | | `waiting` | none | nothing left to wait for → run; `wait_timeout` → a failed attempt |
//! | backoff | | `backoff` | none | its time → waiting |
//! | run | launching | `starting` | perhaps | started → setup; `start_timeout` → killing |
//! | | setup | `starting` | yes | exec → up; `start_timeout` → killing |
//! | | up | `starting`, then `running` | yes | stop → terminating; unhealthy → terminating; `start_timeout` → killing |
//! | | terminating | `stopping` | yes | `stop_timeout` → killing |
//! | | killing | `stopping` | perhaps | the end and an empty group |
//! | | draining | `stopping` | main process gone | an empty group |
//! | | unreported | `stopping` | none | the report of the end, or 10 s |
//!
//! From every stage of a run the end of the main process leads to draining (and kills what is left
//! of the group), an empty group leads to unreported, and both together end the run. Then, and
//! only then, the two answers meet:
//!
//! | the run ended … | wanted up | wanted down |
//! |---|---|---|
//! | as requested (restart), or a person requested a start meanwhile | waiting | `stopped` |
//! | and the restart policy restarts it | backoff, or waiting if the delay is zero | `stopped` |
//! | with 0, and that is the end of it | `done` | `stopped` |
//! | and there is no further attempt | `failed`, then `on_failure` | `stopped` |
//!
//! What a person's commands do in each state:
//!
//! | | start | stop | restart |
//! |---|---|---|---|
//! | `stopped`, `done`, `failed` | waiting | `stopped` | waiting |
//! | `waiting` | waits anew | `stopped` | waits anew |
//! | `backoff` | waiting, delays forgotten | `stopped` | waiting, delays forgotten |
//! | `starting` | no change | killed; after exec asked to stop | the same, then waiting |
//! | `running` | no change | asked to stop | asked to stop, then waiting |
//! | `stopping` | waiting, once the run is over | no change, and stays down | waiting, once the run is over |
//!
//! # Invariants
//!
//! 1. A unit has at most one run, and a run begins only when the last one's group is empty.
//! 2. A run begins only while the unit is wanted up. After a stop by hand that takes a person.
//! 3. Every change is saved before any action that follows from it: a `Persist` comes first in the
//!    list. A stop by hand is saved before its signal is sent.
//! 4. Every run ends exactly once, and every failure is counted exactly once, whichever of its
//!    traces (exit, setup error, empty group, timer) come first or not at all.
//! 5. Events of an older run change nothing. A run's number is never used twice.
//! 6. Nothing waits without a visible reason, and nothing is restarted without a delay unless it was
//!    stable. `backoff` always ends in an attempt or in a report.
//! 7. Every tick makes progress: whatever is due at a tick is not due after it, so that the loop
//!    around the core cannot spin; and a shutdown ends, whatever the processes do.
//!
//! # Choices
//!
//! - A dependency that crashes, or that a person stops, leaves the units that require it running: they
//!   are not notified, and most of them cope. It matters again at their next start.
//! - `after` waits for units that are starting. It does not wait for one whose last attempt failed:
//!   ordering is not a requirement.
//! - A start by hand also starts what the unit requires, even if it was stopped by hand, and what
//!   it wants, unless it was. Retries never do either.
//! - A service that ends with 0 and is not restarted is `done` too; it satisfies no requirement.
//! - With `restart = "never"` failed health checks are shown, and the unit keeps running.
//! - While a unit is still being set up, nothing in it could stop in an orderly way, and as PID 1 of
//!   its namespace it would not even see the signal: it is killed at once.

mod backoff;
mod commands;
mod entries;
mod event;
mod explain;
mod graph;
mod health;
mod run;
mod saved;
mod shutdown;
mod state;
mod status;
#[cfg(test)]
mod tests;
mod time;
mod transitions;

pub use backoff::STABLE;
pub use event::{Action, Command, Event, Notice, Refusal, RunEvent};
pub use saved::{SavedError, SavedState};
pub use shutdown::KILL_PATIENCE;
pub use time::Instant;

use api_types::EventKind;
use entries::{Entries, Entry, Id, Queue};
use graph::Graph;
use shutdown::Shutdown;
use std::collections::{BTreeMap, BTreeSet};
use units::model::{Condition, Unit};

/// The policy core: every unit's desired state, state and history.
#[derive(Debug, Clone)]
pub struct Core {
    entries: Entries,
    index: BTreeMap<String, Id>,
    /// Units whose file is invalid, and why.
    problems: BTreeMap<String, String>,
    graph: Graph,
    /// The conditions that hold.
    conditions: BTreeSet<Condition>,
    shutdown: Option<Shutdown>,
    /// The latest time seen. Time never goes back here.
    now: Instant,
    /// Waiting units that may have nothing left to wait for.
    queue: Queue,
    /// Units changed in this call.
    touched: Vec<Id>,
    /// When the clock alone will change which unit.
    timers: BTreeSet<(Instant, Id)>,
    /// Restored, and no decision has been made since.
    unsettled: bool,
    out: Vec<Action>,
}

impl Core {
    /// A core in which nothing runs and nothing is wanted; [`Event::Boot`] starts the enabled units.
    ///
    /// `problems` are units whose file is invalid (name and what is wrong): they are shown as failed,
    /// and units that require them wait. `seed` varies the jitter of restarts: any number will do, and
    /// the same number gives the same sequence of events.
    pub fn new(
        config: BTreeMap<String, Unit>,
        problems: BTreeMap<String, String>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let entries = config.into_values().zip(0_u64..);
        let entries = entries.map(|(unit, n)| Entry::new(unit, seed_of(seed, n), now));
        Self::with_entries(entries.collect(), problems, now)
    }

    /// The core of these units.
    fn with_entries(units: Vec<Entry>, problems: BTreeMap<String, String>, now: Instant) -> Self {
        let mut entries = Entries::default();
        let mut index = BTreeMap::new();
        for entry in units {
            let name = entry.unit.name.clone();
            let id = entries.push(entry);
            index.insert(name, id);
        }
        let graph = Graph::new(&entries, &index);
        Self {
            entries,
            index,
            problems,
            graph,
            conditions: BTreeSet::new(),
            shutdown: None,
            now,
            queue: Queue::new(),
            touched: Vec::new(),
            timers: BTreeSet::new(),
            unsettled: false,
            out: Vec::new(),
        }
    }

    /// Handles an event and returns the actions that follow, in order (see [`Action`]).
    ///
    /// `now` is the time of the call; a time before the last call's counts as the last call's.
    /// Events about unknown units or older runs change nothing. Cheap: the work is in the changed
    /// units and their neighbours, not in the number of units (a shutdown apart).
    pub fn handle(&mut self, now: Instant, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        match event {
            Event::Boot => self.boot(),
            Event::Command(command) => self.command(&command),
            Event::ShutdownRequested => self.request_shutdown(),
            Event::ConditionChanged { condition, holds } => self.condition(condition, holds),
            Event::Tick => self.expire_due(),
            Event::Run { unit, generation, event } => self.run_event(&unit, generation, event),
        }
        self.settle();
        std::mem::take(&mut self.out)
    }

    /// When to call [`Core::handle`] with [`Event::Tick`] if nothing else happens before; `None`: only
    /// an event can change anything. A moment that has passed means now.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.unsettled {
            return Some(self.now);
        }
        self.timers.first().map(|(at, _)| *at)
    }

    /// Follows up what an event changed: waiting units that may start, the shutdown's next step, and
    /// for each changed unit its deadline and a last `Persist`.
    fn settle(&mut self) {
        self.unsettled = false;
        while let Some(id) = self.queue.pop_front() {
            self.consider(id);
        }
        self.advance_shutdown();
        for id in std::mem::take(&mut self.touched) {
            let now = self.now;
            let entry = &mut self.entries[id];
            entry.touched = false;
            let state = entry.state();
            if state != entry.shown {
                entry.shown = state;
                entry.record.since = now;
            }
            self.set_timer(id);
            self.persist(id);
        }
    }

    /// Updates the unit's place in the list of deadlines.
    fn set_timer(&mut self, id: Id) {
        let due = self.entries[id].due();
        let timer = &mut self.entries[id].timer;
        if *timer != due {
            if let Some(old) = *timer {
                self.timers.remove(&(old, id));
            }
            if let Some(new) = due {
                self.timers.insert((new, id));
            }
            *timer = due;
        }
    }

    /// A unit, to change something that must be saved before the next action about it.
    fn change(&mut self, id: Id) -> &mut Entry {
        self.touch(id).dirty = true;
        &mut self.entries[id]
    }

    /// A unit, to change something that may be forgotten.
    fn touch(&mut self, id: Id) -> &mut Entry {
        let entry = &mut self.entries[id];
        if !entry.touched {
            entry.touched = true;
            self.touched.push(id);
        }
        entry
    }

    /// Orders an action about a unit, and before it that the unit's changes be saved.
    fn act(&mut self, id: Id, action: impl FnOnce(String, u64) -> Action) {
        self.persist(id);
        let entry = &self.entries[id];
        let action = action(entry.unit.name.clone(), entry.record.generation);
        self.out.push(action);
    }

    /// Orders that the unit's changes be saved, if there are any.
    fn persist(&mut self, id: Id) {
        let entry = &mut self.entries[id];
        if std::mem::take(&mut entry.dirty) {
            self.out.push(Action::Persist { unit: entry.unit.name.clone() });
        }
    }

    /// Reports an event to people.
    fn report(&mut self, id: Id, report: EventKind) {
        let unit = self.entries[id].unit.name.clone();
        self.out.push(Action::Report { unit, report });
    }
}

/// A separate seed for the unit with this number.
fn seed_of(seed: u64, number: u64) -> u64 {
    seed.wrapping_add(number.wrapping_mul(0xd134_2543_de82_ef95))
}
