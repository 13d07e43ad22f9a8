//! Units as clients see them: here the policy's state becomes an [`api_types::Unit`], the only place
//! where it does.

use super::Core;
use super::backoff::STABLE;
use super::entries::{Entry, Id};
use super::state::{Phase, Rest, Stage};
use super::time::{Instant, millis};
use api_types::{By, Health, State, Unit};

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
    pub fn statuses(&self, now: Instant) -> Vec<Unit> {
        self.names().into_iter().filter_map(|name| self.status(name, now)).collect()
    }

    /// The status of one unit, as far as the policy knows it: addresses, resources, log and times of
    /// the start are the caller's to add. `None`: the host has no unit of this name.
    pub fn status(&self, unit: &str, now: Instant) -> Option<Unit> {
        match self.index.get(unit) {
            Some(&id) => Some(self.status_of(id, now)),
            None => self.problems.get(unit).map(|problem| broken(unit, problem)),
        }
    }

    fn status_of(&self, id: Id, now: Instant) -> Unit {
        let entry = &self.entries[id];
        let record = &entry.record;
        let run = entry.run();
        let waits = matches!(record.phase, Phase::Waiting { .. });
        let stable = entry.state() == State::Running
            && run.and_then(|run| run.ready_at).is_some_and(|at| now.since(at) >= STABLE);
        let (desired, by) = record.wanted.decided();
        Unit {
            description: entry.unit.description.clone(),
            state: entry.state(),
            since_ms: record.since.as_millis(),
            reason: match &record.phase {
                Phase::Rest(Rest::Failed(why)) => Some(why.to_string()),
                _ => None,
            },
            desired,
            by: Some(by),
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
            ..Unit::new(&entry.unit.name)
        }
    }

    /// Milliseconds for which the unit has been in its state.
    pub(super) fn state_age(&self, id: Id, now: Instant) -> u64 {
        millis(now.since(self.entries[id].record.since))
    }
}

fn health_of(entry: &Entry) -> Option<Health> {
    let Stage::Up { health: Some(track), .. } = &entry.run()?.stage else { return None };
    Some(Health {
        state: track.health(),
        failures: track.streak(),
        error: track.last_error().map(str::to_string),
        last_ok_ms: track.last_ok().map(Instant::as_millis),
    })
}

/// The status of a unit whose file is invalid.
fn broken(unit: &str, problem: &str) -> Unit {
    Unit {
        state: State::Failed,
        reason: Some(format!("invalid unit file: {problem}")),
        by: Some(By::Default),
        ..Unit::new(unit)
    }
}
