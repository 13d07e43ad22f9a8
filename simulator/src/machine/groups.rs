//! Cgroups of units, and the notices of `cgroup.events`.

use super::Machine;
use super::agenda::Event;
use super::objects::Object;
use super::processes::Life;

/// A unit's cgroup. It is never removed.
#[derive(Debug, Default, Clone)]
pub struct Group {
    /// The extended attribute of its directory.
    pub note: Option<u64>,
    /// `oom_kill` in `memory.events`.
    pub oom_kills: u64,
    /// What the last look at its processes found.
    populated: bool,
    /// A notice is on its way: another change before it comes is part of it.
    notice_due: bool,
}

impl Machine {
    /// Whether a process lives in a unit's cgroup.
    pub fn is_populated(&self, unit: &str) -> bool {
        self.processes.values().any(|process| {
            process.group.as_deref() == Some(unit)
                && matches!(process.life, Life::Alive | Life::Exiting | Life::FilesClosed)
        })
    }

    /// Whether a unit has a cgroup.
    pub fn has_group(&self, unit: &str) -> bool {
        self.groups.contains_key(unit)
    }

    /// A process has come into a cgroup or left it: a change of `populated` is announced, some time
    /// later.
    pub(super) fn group_changed(&mut self, unit: &str) {
        let populated = self.is_populated(unit);
        let Some(group) = self.groups.get_mut(unit) else { return };
        if group.populated == populated {
            return;
        }
        group.populated = populated;
        if std::mem::replace(&mut group.notice_due, true) {
            return;
        }
        // One notice in 10 ms for each cgroup (cgroup_file_notify).
        let delay = self.rng.latency(12_000, 200_000);
        self.after(delay, Event::GroupNotice(unit.to_owned()));
    }

    pub(super) fn group_notice(&mut self, unit: &str) {
        if let Some(group) = self.groups.get_mut(unit) {
            group.notice_due = false;
        }
        let watching: Vec<u64> = self
            .objects_where(|object| matches!(object, Object::GroupEvents(name) if name == unit));
        for id in watching {
            self.changed(id);
        }
    }
}
