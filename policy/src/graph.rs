//! Who needs whom, in both directions, and what holds a unit back.

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
    /// `requires` of units that do not exist or whose file has mistakes.
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

/// One thing that a waiting unit waits for. `Display` says it to a person.
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
        /// What is the matter with it.
        unmet: Unmet,
    },
    /// A unit in `after` that is on its way up.
    After {
        /// Its name.
        unit: String,
        /// How far it is.
        state: State,
    },
}

/// Why a required unit does not satisfy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "unmet", rename_all = "snake_case")]
pub enum Unmet {
    /// The host has no such unit.
    Missing,
    /// Its file has mistakes.
    Broken,
    /// It has failed for good.
    Failed {
        /// Why.
        why: String,
    },
    /// A person stopped it.
    StoppedByHand,
    /// Nobody has asked for it.
    NotStarted,
    /// It is a service and has ended with 0, and its restart policy leaves it so.
    Ended,
    /// It is on its way.
    NotReady {
        /// How far it is.
        state: State,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Condition { condition } => write!(f, "the host's condition {condition}"),
            Self::Requires { unit, unmet } => write!(f, "requires {unit}, which {unmet}"),
            Self::After { unit, state } => {
                write!(f, "comes after {unit}, which is not ready yet ({state})")
            }
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("this host does not have"),
            Self::Broken => f.write_str("has mistakes in its file"),
            Self::Failed { why } => write!(f, "has failed ({why})"),
            Self::StoppedByHand => f.write_str("was stopped by hand"),
            Self::NotStarted => f.write_str("nobody has started"),
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

/// Whether a unit that merely comes after this one must still wait. It waits only for what is on
/// its way up: not for a unit that nobody wants, that has finished or failed, and neither for one
/// whose last attempt failed. Order is not need, and a neighbour that cannot start must not keep
/// a unit down that would do without it.
fn holds_back(entry: &Entry) -> bool {
    if !entry.wanted_up() || entry.ready() {
        return false;
    }
    match &entry.record.phase {
        Phase::Rest(_) | Phase::Backoff { .. } => false,
        Phase::Waiting { .. } => true,
        Phase::Run(run) => match (&run.stage, entry.unit.kind) {
            // It was ready and takes its leave: the order has been kept.
            (Stage::Up { leaving: true, .. }, Kind::Service) => false,
            _ => true,
        },
    }
}

impl Core {
    /// Everything that holds this unit back now; empty if it may start.
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
