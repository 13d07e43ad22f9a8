//! The invariants in the policy's documentation, checked against what really happened on the machine.
//!
//! They are checked wherever they could be violated: when a state file is written, a container is
//! started or a signal is sent, and once more at the end of a schedule.
//!
//! Two documented cases exempt a unit from the checks of its history: its state file could not be
//! written before the supervisor died, or it is damaged. The checks of what runs apply all the same.

mod end;
pub mod record;

use crate::machine::Machine;
use crate::machine::processes::Role;
use ipc::ExitStatus;
use record::{Exit, Record};
use std::collections::BTreeMap;
use units::model::Unit;

/// What the rules remember.
#[derive(Debug, Default)]
pub struct Checker {
    /// The rules that have been broken.
    pub violations: Vec<String>,
    /// The units, as configured.
    pub units: BTreeMap<String, Unit>,
    histories: BTreeMap<String, History>,
    /// PID 1 shuts the host down.
    pub shutdown: bool,
    /// Calls that were made to fail.
    pub faults: u64,
    /// Deaths of supervisors.
    pub deaths: u64,
}

#[derive(Debug, Default)]
struct History {
    record: Option<Record>,
    /// The newest record could not be written.
    unsaved: bool,
    /// The record is not the whole history: the rules about it no longer hold.
    excused: bool,
    /// The number of the last run.
    last_run: u64,
}

impl Checker {
    /// A state file could not be written.
    pub fn not_saved(&mut self, unit: &str) {
        self.histories.entry(unit.to_owned()).or_default().unsaved = true;
    }

    /// A state file could not be read by a new supervisor.
    pub fn not_read(&mut self, unit: &str) {
        self.histories.entry(unit.to_owned()).or_default().excused = true;
    }

    /// What had not been written is forgotten.
    pub fn supervisor_died(&mut self) {
        self.deaths += 1;
        for history in self.histories.values_mut() {
            history.excused |= std::mem::take(&mut history.unsaved);
        }
    }

    /// Whether the rules about its history do not hold for a unit.
    pub fn is_excused(&self, unit: &str) -> bool {
        self.histories.get(unit).is_some_and(|history| history.excused || history.unsaved)
    }

    /// The record in a unit's state file.
    pub fn record(&self, unit: &str) -> Option<&Record> {
        self.histories.get(unit)?.record.as_ref()
    }
}

impl Machine {
    /// A state file is written.
    pub fn check_save(&mut self, unit: &str, text: &str) {
        let new = match Record::parse(text) {
            Ok(record) => record,
            Err(error) => return self.violated(format!("{unit}: state file: {error}")),
        };
        let history = self.checker.histories.entry(unit.to_owned()).or_default();
        let old = history.record.replace(new.clone());
        let excused = history.excused || std::mem::take(&mut history.unsaved);
        if let Some(old) = &old
            && !excused
            && new.generation != old.generation
            && new.generation != old.generation + 1
        {
            let (from, to) = (old.generation, new.generation);
            self.violated(format!("{unit}: the run's number goes from {from} to {to}"));
        }
        if new.ends() != new.ends_due() {
            let (ends, due, phase) = (new.ends(), new.ends_due(), new.phase());
            self.violated(format!(
                "{unit}: {ends} ends are counted, {due} runs have ended ({phase}): {:?}",
                new.exits
            ));
        }
        if new.failures != new.failures_due() {
            let (failures, due) = (new.failures, new.failures_due());
            self.violated(format!("{unit}: {failures} failures counted, {due} by reason"));
        }
        self.check_run(unit, old.as_ref(), &new);
        if let Some(old) = old.as_ref().filter(|_| !excused) {
            self.check_run_over(unit, old, &new);
        }
        let before = old.map_or(0, |old| old.ends());
        if let Some(exit) = new.last_exit.clone().filter(|_| new.ends() == before + 1 && !excused)
            && exit.cause != "wait_timeout"
        {
            self.check_end_of_run(unit, new.ends(), &exit);
        }
    }

    /// The end of a run has been recorded: is it what really happened?
    fn check_end_of_run(&mut self, unit: &str, generation: u64, exit: &Exit) {
        let Some(config) = self.checker.units.get(unit) else { return };
        let (health, timeout) = (config.healthcheck.is_some(), config.start_timeout.is_some());
        let run = self.runs.iter().rfind(|run| run.unit == unit && run.generation == generation);
        if self.runs.iter().any(|run| run.unit == unit && run.uncertain) {
            return;
        }
        let ended = run.and_then(|run| run.ended);
        let number = exit.detail.as_i64();
        let is = |status: Option<ExitStatus>| match status {
            Some(ExitStatus::Code(code)) => exit.cause == "code" && number == Some(code.into()),
            Some(ExitStatus::Signal(signal)) => {
                exit.cause == "signal" && number == Some(signal.into())
            }
            None => false,
        };
        let text = exit.detail.as_str().unwrap_or_default();
        let right = match (exit.cause.as_str(), run) {
            _ if exit.asked => self.checker.shutdown || self.people.touched.contains_key(unit),
            ("code" | "signal", Some(run)) => is(ended) && !run.abandoned,
            ("oom", Some(run)) => run.oom,
            ("health", Some(_)) => health,
            ("start_timeout", _) => timeout,
            ("setup_failed", None) => self.checker.faults > 0,
            ("setup_failed", Some(run)) => !run.executed || text.starts_with("status pipe"),
            ("interrupted", None) => true,
            // Nobody let it go: nothing is wrong with it.
            ("interrupted", Some(run)) => {
                // Whether a bridged container that exits with this code was let go is not recorded.
                let unknown = run.network.is_some() && ended == Some(ExitStatus::Code(125));
                // A container that ended before anybody had noted its process: its end cannot be
                // told.
                run.abandoned || unknown || !run.noted
            }
            _ => false,
        };
        if !right {
            let what = match run {
                None => "no process was made".to_owned(),
                Some(run) => format!(
                    "the process ended with {ended:?}, executed: {}, abandoned: {}, oom: {}",
                    run.executed, run.abandoned, run.oom
                ),
            };
            self.violated(format!("{unit}: run {generation} is recorded as {exit:?}, but {what}"));
        }
    }

    /// The record of a unit says that a run is over.
    fn check_run_over(&mut self, unit: &str, old: &Record, new: &Record) {
        let over = old.phase().starts_with("run/")
            && (new.generation != old.generation || !new.phase().starts_with("run/"));
        let generation = old.generation;
        let number = self
            .runs
            .iter()
            .rposition(|run| run.unit == unit && run.generation == generation && !run.uncertain);
        if over && number.is_some_and(|number| self.is_run_populated(number)) {
            let phase = new.phase();
            self.violated(format!(
                "{unit}: run {generation} is over ({phase}) and its cgroup is not empty"
            ));
        }
    }

    /// What the record of a unit says about its run.
    fn check_run(&mut self, unit: &str, old: Option<&Record>, new: &Record) {
        let Some(run) = self.runs.iter_mut().rfind(|run| run.unit == unit) else { return };
        if run.uncertain || run.generation != new.generation {
            return;
        }
        run.noted |= run.ended.is_none() && new.pid() == Some(i64::from(run.pid));
        let (generation, executed, signalled) = (run.generation, run.executed, run.signalled);
        let (ended, phase) = (run.ended.is_some(), new.phase());
        if phase == "run/up" && !executed {
            self.violated(format!("{unit}: run {generation} is up and has executed nothing"));
        }
        let given_up = old.is_some_and(|old| old.phase() == "run/terminating");
        if given_up && phase == "run/killing" && !signalled && !ended {
            self.violated(format!("{unit}: run {generation} was never asked to stop"));
        }
    }

    /// A container is about to be started; returns the number of its run, and whether that is a
    /// guess.
    pub fn check_spawn(&mut self, unit: &str) -> (u64, bool) {
        if self.is_populated(unit) {
            self.violated(format!("{unit}: a run begins while its cgroup is not empty"));
        }
        let excused = self.checker.is_excused(unit);
        if !excused && self.people.stopped.contains(unit) {
            self.violated(format!("{unit}: it starts although it was stopped by hand"));
        }
        let Some(record) = self.checker.record(unit).cloned() else {
            if !excused {
                self.violated(format!("{unit}: it starts before that is written"));
            }
            return (0, true);
        };
        let generation = record.generation;
        let Some(history) = self.checker.histories.get_mut(unit) else { return (0, true) };
        let last = std::mem::replace(&mut history.last_run, generation);
        if !excused && record.phase() != "run/launching" {
            let phase = record.phase();
            self.violated(format!("{unit}: it starts, and its state file says {phase}"));
        }
        if !excused && !record.wanted_up() {
            self.violated(format!("{unit}: it starts although it is not wanted up"));
        }
        if !excused && generation <= last {
            self.violated(format!("{unit}: run {generation} starts after run {last}"));
        }
        (generation, excused)
    }

    /// The supervisor sends a signal to a process.
    pub fn check_signal(&mut self, key: u64, signal: i32) {
        let Some(process) = self.processes.get(&key) else { return };
        let (Role::Main(_), Some(unit)) = (&process.role, process.group.clone()) else { return };
        if signal == 9 || self.checker.is_excused(&unit) {
            return;
        }
        let phase = self.checker.record(&unit).map(Record::phase).unwrap_or_default();
        // A supervisor that was held up may have decided already what follows.
        let decided = ["run/terminating", "run/killing", "run/draining"];
        if !decided.contains(&phase.as_str()) {
            self.violated(format!("{unit}: it is asked to stop, and its state file says {phase}"));
        }
    }

    /// The supervisor kills a cgroup.
    pub fn check_kill(&mut self, unit: &str) {
        if self.checker.is_excused(unit) {
            return;
        }
        let phase = self.checker.record(unit).map(Record::phase).unwrap_or_default();
        // A run that has not begun, or none: what lives in the cgroup is left over.
        let allowed = ["run/killing", "run/draining", "run/launching"].contains(&phase.as_str());
        if !allowed && phase.starts_with("run/") {
            self.violated(format!("{unit}: it is killed, and its state file says {phase}"));
        }
    }
}
