//! Requests of people and of the boot: changes of the desired state, and what follows from them.

use super::Core;
use super::entries::Id;
use super::event::{Action, Command, Refusal};
use super::state::{DownBy, Phase, Rest, StopWhy, UpBy, Wanted};
use api_types::{By, EventKind};
use std::collections::BTreeSet;
use units::model::Kind;

impl Core {
    /// Whether a command would be carried out.
    ///
    /// # Errors
    /// Why it would not; [`Core::handle`] then only reports the same.
    pub fn check(&self, command: &Command) -> Result<(), Refusal> {
        self.admit(command).map(|_| ())
    }

    /// The unit a command is about, if it may be carried out.
    fn admit(&self, command: &Command) -> Result<Id, Refusal> {
        let unit = command.unit();
        let Some(&id) = self.index.get(unit) else {
            return Err(match self.problems.get(unit) {
                Some(problem) => Refusal::Broken(problem.clone()),
                None => Refusal::UnknownUnit(unit.to_string()),
            });
        };
        match command {
            Command::Stop { .. } => Ok(id),
            _ if self.shutdown.is_some() => Err(Refusal::ShuttingDown),
            _ => Ok(id),
        }
    }

    /// Carries a person's command out, or reports why not.
    pub(super) fn command(&mut self, command: &Command) {
        match (self.admit(command), command) {
            (Err(refusal), _) => {
                let unit = command.unit().to_string();
                self.out.push(Action::Report { unit, report: EventKind::Refused(refusal.into()) });
            }
            (Ok(id), Command::Start { .. }) => self.start_by_hand(id),
            (Ok(id), Command::Stop { .. }) => self.stop_by_hand(id),
            (Ok(id), Command::Restart { .. }) => self.restart_by_hand(id),
        }
    }

    /// Sets the desired state of every enabled unit without a decision by a person to up, and of the
    /// units that these require and want. A restored stop by hand remains in force.
    pub(super) fn boot(&mut self) {
        if self.shutdown.is_some() {
            return;
        }
        let undecided = |core: &Core, id: Id| {
            let entry = &core.entries[id];
            entry.unit.enabled && entry.record.wanted == Wanted::Down(DownBy::Default)
        };
        let ids: Vec<Id> = self.entries.ids().filter(|&id| undecided(self, id)).collect();
        for &id in &ids {
            self.change(id).record.wanted = Wanted::Up(UpBy::Boot);
            self.begin_waiting(id, false);
        }
        for &id in &ids {
            self.pull_up(id, false);
        }
    }

    fn start_by_hand(&mut self, id: Id) {
        self.change(id).record.wanted = Wanted::Up(UpBy::Person);
        self.report(id, EventKind::StartRequested { by: By::Person });
        self.set_going(id);
        self.pull_up(id, true);
    }

    fn restart_by_hand(&mut self, id: Id) {
        self.change(id).record.wanted = Wanted::Up(UpBy::Person);
        self.report(id, EventKind::RestartRequested);
        if self.entries[id].run().is_some_and(|run| !run.ending()) {
            self.entries[id].record.backoff.reset();
            self.end_run(id, StopWhy::Asked);
        } else {
            self.set_going(id);
        }
        self.pull_up(id, true);
    }

    /// The desired state changes first, and is written before any signal: from here on no timer
    /// and no exit starts the unit, even if the supervisor dies immediately.
    fn stop_by_hand(&mut self, id: Id) {
        let by = match self.shutdown {
            Some(_) => DownBy::Shutdown,
            None => DownBy::Person,
        };
        self.change(id).record.wanted = Wanted::Down(by);
        let left_running = self.dependents_running(id);
        self.report(id, EventKind::StopRequested { by: by.into(), left_running });
        self.stop(id);
        // A unit that is merely ordered after one that is no longer wanted need not wait for it, even
        // if that one's run was ending already and nothing else changes.
        self.changed(id);
    }

    /// Names of the units that run and require this one.
    fn dependents_running(&self, id: Id) -> Vec<String> {
        let dependents = self.graph.of(id).dependents.iter();
        let dependents = dependents.filter(|&&other| self.graph.of(other).requires.contains(&id));
        let running = dependents.map(|&other| &self.entries[other]);
        let running = running.filter(|entry| entry.run().is_some_and(|run| !run.ending()));
        running.map(|entry| entry.unit.name.clone()).collect()
    }

    /// Brings a unit that is wanted down to rest: a run is ended, a wait or a retry forgotten.
    pub(super) fn stop(&mut self, id: Id) {
        match &self.entries[id].record.phase {
            Phase::Rest(Rest::Stopped) => {}
            Phase::Rest(_) | Phase::Waiting { .. } | Phase::Backoff { .. } => {
                self.rest(id, Rest::Stopped);
            }
            Phase::Run(_) => self.end_run(id, StopWhy::Asked),
        }
    }

    /// Starts a unit that has just been wanted up: from rest, from a wait or from back-off at once, and
    /// if a run is ending then after it. A run that is not ending is left alone.
    fn set_going(&mut self, id: Id) {
        let entry = self.change(id);
        match &mut entry.record.phase {
            Phase::Run(run) if !run.ending() => {}
            Phase::Run(run) => {
                run.again = true;
                entry.record.backoff.reset();
            }
            Phase::Rest(_) | Phase::Waiting { .. } | Phase::Backoff { .. } => {
                entry.record.backoff.reset();
                self.begin_waiting(id, false);
            }
        }
    }

    /// Sets the desired state of everything that `root` requires and wants, through all levels, to up,
    /// and starts the units that rest.
    ///
    /// A stop by hand is overruled only for what is required all the way down, and only by a person
    /// (`by_hand`): their newer request cannot be met otherwise.
    fn pull_up(&mut self, root: Id, by_hand: bool) {
        let asker = self.entries[root].unit.name.clone();
        let mut seen = BTreeSet::from([root]);
        let mut needed = vec![root];
        let mut next = 0;
        while let Some(&id) = needed.get(next) {
            next += 1;
            for other in self.graph.of(id).requires.clone() {
                if self.pullable(other, by_hand) && seen.insert(other) {
                    needed.push(other);
                    self.pull_one(other, &asker);
                }
            }
        }
        let mut open = needed;
        while let Some(id) = open.pop() {
            let links = self.graph.of(id);
            let pulled: Vec<Id> = links.requires.iter().chain(&links.wants).copied().collect();
            for other in pulled {
                if self.pullable(other, false) && seen.insert(other) {
                    open.push(other);
                    self.pull_one(other, &asker);
                }
            }
        }
    }

    /// Whether a unit may be pulled up: not if a person stopped it, unless a person overrules that.
    fn pullable(&self, id: Id, overrule: bool) -> bool {
        overrule || self.entries[id].record.wanted != Wanted::Down(DownBy::Person)
    }

    /// Sets one unit's desired state to up because of another unit, and starts it if it rests or is
    /// being stopped. One-shots that are done stay done, and a back-off is not cut short.
    fn pull_one(&mut self, id: Id, asker: &str) {
        let entry = &self.entries[id];
        let done = matches!(entry.record.phase, Phase::Rest(Rest::Done))
            && entry.unit.kind == Kind::Oneshot;
        let rests = matches!(entry.record.phase, Phase::Rest(_)) && !done;
        let ends = entry.run().is_some_and(|run| run.ending());
        let was_down = !entry.wanted_up();
        if was_down {
            let by = UpBy::Unit(asker.to_string());
            let report = EventKind::StartRequested { by: (&by).into() };
            self.change(id).record.wanted = Wanted::Up(by);
            self.report(id, report);
        }
        if rests || (was_down && ends) {
            self.set_going(id);
        }
    }
}
