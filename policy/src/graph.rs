//! Dependencies in both directions, and what a waiting unit waits for.

use super::Core;
use super::entries::{Entries, Entry, Id, PerUnit};
use super::state::{DownBy, Phase, Rest, Stage, State, Wanted};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use units::model::{Condition, Kind, Unit};

/// The edges between units, looked up once.
#[derive(Debug, Clone)]
pub(super) struct Graph {
    links: PerUnit<Links>,
}

/// The edges of one unit.
#[derive(Debug, Clone, Default)]
pub(super) struct Links {
    /// `requires`, as far as the units exist.
    pub(super) requires: Vec<Id>,
    /// `requires` of units that do not exist or whose file is invalid.
    pub(super) absent: Vec<String>,
    /// `after` without what is in `requires`. A unit that does not exist orders nothing.
    pub(super) after: Vec<Id>,
    /// `wants`, as far as the units exist.
    pub(super) wants: Vec<Id>,
    /// Those that require this unit or come after it.
    pub(super) dependents: Vec<Id>,
}

impl Graph {
    /// Looks the names up.
    pub(super) fn new(entries: &Entries, index: &BTreeMap<String, Id>) -> Self {
        let mut links: PerUnit<Links> = PerUnit::new(entries);
        for id in entries.ids() {
            let unit: &Unit = &entries[id].unit;
            let known = |names: &[String]| -> Vec<Id> {
                let mut ids: Vec<Id> = names.iter().filter_map(|n| index.get(n).copied()).collect();
                ids.sort_unstable();
                ids.dedup();
                ids
            };
            let requires = known(&unit.requires);
            let mut after = known(&unit.after);
            after.retain(|other| !requires.contains(other));
            for &provider in requires.iter().chain(&after) {
                links[provider].dependents.push(id);
            }
            let absent = unit.requires.iter().filter(|name| !index.contains_key(*name));
            links[id].absent = absent.cloned().collect();
            links[id].wants = known(&unit.wants);
            links[id].requires = requires;
            links[id].after = after;
        }
        Self { links }
    }

    /// The edges of a unit.
    pub(super) fn of(&self, id: Id) -> &Links {
        &self.links[id]
    }
}

/// One thing that a waiting unit waits for. `Display` is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// A fact about the host that does not hold yet, named as in the unit file (`net.addr`).
    Condition {
        /// Its name.
        condition: String,
    },
    /// A unit in `requires` that is not ready.
    Requires {
        /// Its name.
        unit: String,
        /// Why it does not satisfy.
        unmet: Unmet,
    },
    /// A unit in `after` that is starting.
    After {
        /// Its name.
        unit: String,
        /// Its state.
        state: State,
    },
}

/// Why a required unit does not satisfy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "unmet", rename_all = "snake_case")]
pub enum Unmet {
    /// It does not exist.
    Missing,
    /// Its file is invalid.
    Broken,
    /// It has failed permanently.
    Failed {
        /// Why.
        why: String,
    },
    /// A person stopped it.
    StoppedByHand,
    /// Nobody has asked for it.
    NotStarted,
    /// It is a service, has exited with 0, and its restart policy does not restart it.
    Ended,
    /// It is not ready yet.
    NotReady {
        /// Its state.
        state: State,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Condition { condition } => write!(f, "the host's condition {condition}"),
            Self::Requires { unit, unmet } => write!(f, "requires {unit}, which {unmet}"),
            Self::After { unit, state } => {
                write!(f, "is ordered after {unit}, which is not ready yet ({state})")
            }
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("does not exist"),
            Self::Broken => f.write_str("has an invalid unit file"),
            Self::Failed { why } => write!(f, "has failed ({why})"),
            Self::StoppedByHand => f.write_str("was stopped by hand"),
            Self::NotStarted => f.write_str("has not been started"),
            Self::Ended => f.write_str("has ended"),
            Self::NotReady { state: State::Running } => f.write_str("has not finished yet"),
            Self::NotReady { state } => write!(f, "is not ready yet ({state})"),
        }
    }
}

/// A condition's name as it is written in a unit file.
pub(super) fn condition_name(condition: &Condition) -> String {
    match condition {
        Condition::NetAddr => "net.addr".into(),
        Condition::NetRoute => "net.route".into(),
        Condition::Dns => "dns".into(),
        Condition::Clock => "clock".into(),
        Condition::Volume(name) => format!("volume:{name}"),
    }
}

/// Why this required unit does not satisfy; `None` if it does.
fn unmet(entry: &Entry) -> Option<Unmet> {
    if entry.ready() {
        return None;
    }
    Some(match (&entry.record.phase, &entry.record.wanted) {
        (Phase::Rest(Rest::Failed(why)), _) => Unmet::Failed { why: why.to_string() },
        (_, Wanted::Down(DownBy::Person)) => Unmet::StoppedByHand,
        (Phase::Rest(Rest::Done), _) => Unmet::Ended,
        (Phase::Rest(Rest::Stopped), _) => Unmet::NotStarted,
        _ => Unmet::NotReady { state: entry.state() },
    })
}

/// Whether a unit that is merely ordered after this one must still wait. It waits only for a unit that
/// is starting: not for one that is not wanted, that has finished or failed, or whose last attempt
/// failed. Ordering is not a requirement: a unit that cannot start must not keep down one that can
/// run without it.
fn holds_back(entry: &Entry) -> bool {
    if !entry.wanted_up() || entry.ready() {
        return false;
    }
    match &entry.record.phase {
        Phase::Rest(_) | Phase::Backoff { .. } => false,
        Phase::Waiting { .. } => true,
        Phase::Run(run) => match (&run.stage, entry.unit.kind) {
            // It was ready and is stopping: the order has been kept.
            (Stage::Up { leaving: true, .. }, Kind::Service) => false,
            _ => true,
        },
    }
}

impl Core {
    /// Everything that keeps this unit from starting now; empty if it may start.
    pub(super) fn blockers(&self, id: Id) -> Vec<Reason> {
        let links = self.graph.of(id);
        let conditions = self.entries[id].unit.wait_for.iter();
        let conditions = conditions
            .filter(|condition| !self.conditions.contains(condition))
            .map(|condition| Reason::Condition { condition: condition_name(condition) });
        let absent = links.absent.iter().map(|name| {
            let broken = self.problems.contains_key(name);
            let unmet = if broken { Unmet::Broken } else { Unmet::Missing };
            Reason::Requires { unit: name.clone(), unmet }
        });
        let requires = links.requires.iter().filter_map(|&other| {
            let entry = &self.entries[other];
            let unit = entry.unit.name.clone();
            unmet(entry).map(|unmet| Reason::Requires { unit, unmet })
        });
        let after = links.after.iter().filter_map(|&other| {
            let entry = &self.entries[other];
            let unit = entry.unit.name.clone();
            holds_back(entry).then(|| Reason::After { unit, state: entry.state() })
        });
        absent.chain(requires).chain(after).chain(conditions).collect()
    }
}
