//! Dependencies in both directions, and what a waiting unit waits for.

use super::Core;
use super::entries::{Entries, Entry, Id, PerUnit};
use super::state::{DownBy, Phase, Rest, Stage, Wanted};
use api_types::{Unmet, WaitReason};
use std::collections::BTreeMap;
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
    /// Everything that holds this unit back now; empty if it may start.
    pub(super) fn blockers(&self, id: Id) -> Vec<WaitReason> {
        let links = self.graph.of(id);
        let conditions = self.entries[id].unit.wait_for.iter();
        let conditions = conditions
            .filter(|condition| !self.conditions.contains(condition))
            .map(|condition| WaitReason::Condition { condition: condition_name(condition) });
        let absent = links.absent.iter().map(|name| {
            let broken = self.problems.contains_key(name);
            let unmet = if broken { Unmet::Broken } else { Unmet::Missing };
            WaitReason::Requires { unit: name.clone(), unmet }
        });
        let requires = links.requires.iter().filter_map(|&other| {
            let entry = &self.entries[other];
            let unit = entry.unit.name.clone();
            unmet(entry).map(|unmet| WaitReason::Requires { unit, unmet })
        });
        let after = links.after.iter().filter_map(|&other| {
            let entry = &self.entries[other];
            let unit = entry.unit.name.clone();
            holds_back(entry).then(|| WaitReason::After { unit, state: entry.state() })
        });
        absent.chain(requires).chain(after).chain(conditions).collect()
    }
}
