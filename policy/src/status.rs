//! The read side: what people and programs are shown of a unit.

use super::Core;
use super::backoff::STABLE;
use super::entries::{Entry, Id};
use super::exit::Ended;
use super::graph::Reason;
use super::health::Health;
use super::state::{Phase, Rest, Stage, State, Wanted};
use super::time::Instant;
use super::time::millis;
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything about one unit at one moment. Moments are milliseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnitStatus {
    /// Its name.
    pub name: String,
    /// Its description, perhaps empty.
    pub description: String,
    /// What a person sees.
    pub state: State,
    /// Since when.
    pub since_ms: u64,
    /// Why it has failed, or what is wrong with its file.
    pub reason: Option<String>,
    /// The desired state and who asked for it.
    #[serde(flatten)]
    pub wanted: Wanted,
    /// Main process, while there is one.
    pub pid: Option<i32>,
    /// Number of the current or last run; 0: it has never been started.
    pub generation: u64,
    /// Units that require it may start.
    pub ready: bool,
    /// Its health, while its program runs and if it has a health check.
    pub health: Option<HealthStatus>,
    /// How the last run or attempt ended.
    pub last_exit: Option<Ended>,
    /// Starts that the restart policy made, in its lifetime.
    pub restarts: u64,
    /// Failed attempts, in its lifetime.
    pub failures: u64,
    /// How often runs and attempts have ended, by [`super::LastExit::reason`], or `asked`.
    pub exits: BTreeMap<String, u64>,
    /// Unstable ends in a row; 0 after a stable run.
    pub attempts: u32,
    /// When the next attempt is, in back-off.
    pub next_retry_ms: Option<u64>,
    /// What it waits for, while it waits.
    pub waiting_for: Vec<Reason>,
    /// What it reports about itself (`STATUS=`).
    pub status_text: Option<String>,
    /// It was killed but is still running.
    pub stuck: bool,
}

/// What the health checks say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthStatus {
    /// The result.
    pub state: Health,
    /// Failures in a row that count.
    pub failures: u32,
    /// The last failure's error, if nothing has succeeded since.
    pub error: Option<String>,
    /// The last success.
    pub last_ok_ms: Option<u64>,
}

impl Core {
    /// The names of all units in alphabetical order, including those whose file is invalid.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.index.keys().chain(self.problems.keys()).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The status of every unit.
    pub fn statuses(&self, now: Instant) -> Vec<UnitStatus> {
        self.names().into_iter().filter_map(|name| self.status(name, now)).collect()
    }

    /// The status of one unit; `None` if it does not exist.
    pub fn status(&self, unit: &str, now: Instant) -> Option<UnitStatus> {
        match self.index.get(unit) {
            Some(&id) => Some(self.status_of(id, now)),
            None => self.problems.get(unit).map(|problem| broken(unit, problem)),
        }
    }

    fn status_of(&self, id: Id, now: Instant) -> UnitStatus {
        let entry = &self.entries[id];
        let record = &entry.record;
        let run = entry.run();
        let waits = matches!(record.phase, Phase::Waiting { .. });
        let stable = entry.state() == State::Running
            && run.and_then(|run| run.ready_at).is_some_and(|at| now.since(at) >= STABLE);
        UnitStatus {
            name: entry.unit.name.clone(),
            description: entry.unit.description.clone(),
            state: entry.state(),
            since_ms: record.since.as_millis(),
            reason: match &record.phase {
                Phase::Rest(Rest::Failed(why)) => Some(why.to_string()),
                _ => None,
            },
            wanted: record.wanted.clone(),
            pid: run.and_then(|run| run.pid()),
            generation: record.generation,
            ready: entry.ready(),
            health: health_of(entry),
            last_exit: record.last_exit.clone(),
            restarts: record.restarts,
            failures: record.failures,
            exits: record.exits.clone(),
            attempts: if stable { 0 } else { record.backoff.attempts() },
            next_retry_ms: match record.phase {
                Phase::Backoff { until } => Some(until.as_millis()),
                _ => None,
            },
            waiting_for: if waits { self.blockers(id) } else { Vec::new() },
            status_text: record.status_text.clone().filter(|_| run.is_some()),
            stuck: run.is_some_and(|run| run.stuck()),
        }
    }

    /// Milliseconds for which the unit has been in its state.
    pub(super) fn state_age(&self, id: Id, now: Instant) -> u64 {
        millis(now.since(self.entries[id].record.since))
    }
}

fn health_of(entry: &Entry) -> Option<HealthStatus> {
    let Stage::Up { health: Some(track), .. } = &entry.run()?.stage else { return None };
    Some(HealthStatus {
        state: track.health(),
        failures: track.streak(),
        error: track.last_error().map(str::to_string),
        last_ok_ms: track.last_ok().map(Instant::as_millis),
    })
}

/// The status of a unit whose file is invalid.
fn broken(unit: &str, problem: &str) -> UnitStatus {
    UnitStatus {
        name: unit.to_string(),
        description: String::new(),
        state: State::Failed,
        since_ms: 0,
        reason: Some(format!("invalid unit file: {problem}")),
        wanted: Wanted::Down(super::state::DownBy::Default),
        pid: None,
        generation: 0,
        ready: false,
        health: None,
        last_exit: None,
        restarts: 0,
        failures: 0,
        exits: BTreeMap::new(),
        attempts: 0,
        next_retry_ms: None,
        waiting_for: Vec::new(),
        status_text: None,
        stuck: false,
    }
}
