//! The end of a schedule: nothing has gone wrong for a while, so every unit must be where it should
//! be.

use super::record::Record;
use crate::machine::Machine;
use crate::machine::objects::Owner;
use crate::machine::processes::Role;
use units::model::{Kind, NetworkMode, Ready, RestartPolicy, Unit};

/// Descriptors of PID 1 besides those of units: the link between supervisor and netsetup, and one
/// to each of its processes.
const INIT_OWN: usize = 6;
/// For each unit: a network namespace (2), a user namespace, a notify socket, two pipes.
const INIT_UNIT: usize = 6;
/// Descriptors of the supervisor besides those of units: two links, the control socket, a person.
const SUPERVISOR_OWN: usize = 4;
/// For each unit: cgroup and its events, user namespace, network namespace (2), notify socket,
/// pidfd, status, go; a health check (pidfd, status, pipe).
const SUPERVISOR_UNIT: usize = 12;

impl Machine {
    /// Checks that no process has more descriptors than its units account for.
    pub fn check_descriptors(&mut self, slack: usize) {
        let units = self.checker.units.len();
        let (init, supervisor) = self.descriptor_counts();
        let bounds = [
            (Owner::Init, init, INIT_OWN + units * INIT_UNIT),
            (Owner::Supervisor, supervisor, SUPERVISOR_OWN + units * SUPERVISOR_UNIT),
        ];
        for (owner, count, bound) in bounds {
            if count > bound + slack {
                let what = self.open_objects(owner);
                self.violated(format!("{owner:?} has {count} descriptors open: {what:?}"));
            }
        }
    }

    /// Checks everything that must hold when a schedule is over.
    pub fn check_the_end(&mut self) {
        if let Some(kind) = self.finished {
            let kind = format!("{kind:?}");
            self.note("check", || format!("the machine is down ({kind})"));
            let alive: Vec<String> = self
                .processes
                .values()
                .filter(|process| self.now_us >= process.stuck_until)
                .map(|process| format!("{:?}", process.role))
                .collect();
            if !alive.is_empty() {
                self.violated(format!("the machine is down and these still run: {alive:?}"));
            }
            return;
        }
        if self.checker.shutdown {
            return self.violated("the shutdown does not come to its end");
        }
        self.check_descriptors(0);
        for unit in self.checker.units.clone().values() {
            self.check_unit(unit);
        }
    }

    fn check_unit(&mut self, unit: &Unit) {
        let name = &unit.name;
        let Some(record) = self.checker.record(name).cloned() else {
            if unit.enabled {
                self.violated(format!("{name}: it is enabled and was never started"));
            }
            return;
        };
        let excused = self.checker.is_excused(name);
        if !excused && self.people.stopped.contains(name) && record.wanted_up() {
            self.violated(format!("{name}: it was stopped by hand and is wanted up"));
        }
        if !excused && self.people.started.contains(name) && !record.wanted_up() {
            self.violated(format!("{name}: it was started by hand and is wanted down"));
        }
        let phase = record.phase();
        let wanted = record.wanted_up();
        let running = phase == "run/up";
        if let Some(why) = self.misplaced(unit, &record) {
            let wanted = if wanted { "up" } else { "down" };
            self.violated(format!("{name}: it is wanted {wanted} and is {phase}: {why}"));
        }
        if !running && self.is_populated(name) {
            self.violated(format!("{name}: it is {phase} and its cgroup is not empty"));
        }
        if running {
            self.check_running(unit, &record);
        }
    }

    /// Why a unit is not where it should be.
    fn misplaced(&self, unit: &Unit, record: &Record) -> Option<&'static str> {
        let limited = unit.restart.max_attempts.is_some();
        let never = unit.restart.policy == RestartPolicy::Never;
        let oneshot = unit.kind == Kind::Oneshot;
        match (record.phase().as_str(), record.wanted_up()) {
            ("rest/stopped" | "rest/done" | "rest/failed", false) => None,
            (_, false) => Some("it should be at rest"),
            ("rest/done", true) if oneshot => None,
            ("rest/done", true) if unit.restart.policy != RestartPolicy::Always => None,
            ("rest/failed", true) if limited || never => None,
            ("run/up", true) if oneshot || record.is_ready() => None,
            ("run/up", true) if unit.ready == Ready::Notify && !self.has_said_ready(unit) => None,
            ("waiting", true) if self.is_held_back(unit) => None,
            _ => Some("it should be running, or done"),
        }
    }

    /// Whether the unit's program has reported that it is ready, and that cannot have been lost.
    fn has_said_ready(&self, unit: &Unit) -> bool {
        if self.checker.is_excused(&unit.name) {
            return false;
        }
        self.runs.iter().rfind(|run| run.unit == unit.name).is_some_and(|run| run.said_ready)
    }

    /// Whether a unit waits for one that it requires and that does not get ready, or for one before
    /// it that is still starting.
    fn is_held_back(&self, unit: &Unit) -> bool {
        let starting = unit.after.iter().any(|name| {
            let Some(record) = self.checker.record(name) else { return false };
            let other = self.checker.units.get(name);
            match record.phase().as_str() {
                "run/up" => !record.is_ready(),
                "waiting" => other.is_some_and(|other| self.is_held_back(other)),
                _ => false,
            }
        });
        starting
            || unit.requires.iter().any(|name| {
                let Some(other) = self.checker.units.get(name) else { return true };
                let Some(record) = self.checker.record(name) else { return true };
                let ready = match other.kind {
                    Kind::Oneshot => record.phase() == "rest/done",
                    Kind::Service => record.phase() == "run/up" && record.is_ready(),
                };
                !ready
            })
    }

    fn check_running(&mut self, unit: &Unit, record: &Record) {
        let name = &unit.name;
        let main = self.processes.values().find(|process| {
            process.group.as_deref() == Some(name) && matches!(process.role, Role::Main(_))
        });
        let Some(main) = main else {
            return self.violated(format!("{name}: it is up and has no main process"));
        };
        let (pid, executed) = (main.pid, main.executed);
        if record.pid() != Some(i64::from(pid)) || !executed {
            self.violated(format!("{name}: it is up as {:?}; the process is {pid}", record.pid()));
        }
        let bridged = unit.container.network == NetworkMode::Bridge;
        let run = self.runs.iter().rfind(|run| run.unit == *name);
        let attached =
            run.and_then(|run| run.network).is_some_and(|number| self.attached.contains(&number));
        if bridged && !attached {
            self.violated(format!("{name}: it is up and its network is not attached"));
        }
    }
}
