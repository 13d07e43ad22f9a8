//! What the simulated world checks: the invariants of the module documentation, derived from the rules
//! and not from the core's own state.

use super::world::{Key, World};
use super::*;
use std::collections::BTreeSet;

impl World {
    /// Records the effect of commands, derived from the rules and not from the core.
    pub(super) fn note_command(&mut self, event: &Event) {
        match event {
            Event::Command(Command::Stop { unit }) => {
                self.stopped_by_hand.insert(unit.clone());
            }
            Event::Command(Command::Start { unit } | Command::Restart { unit }) => {
                let mut open = vec![unit.clone()];
                let mut seen = BTreeSet::new();
                while let Some(name) = open.pop() {
                    if seen.insert(name.clone()) {
                        self.stopped_by_hand.remove(&name);
                        let unit = self.config.get(&name);
                        open.extend(unit.into_iter().flat_map(|unit| unit.requires.clone()));
                    }
                }
            }
            Event::ShutdownRequested => self.shutting_down = true,
            Event::ConditionChanged { condition, holds: true } => {
                self.true_conditions.insert(condition.clone());
            }
            Event::ConditionChanged { condition, holds: false } => {
                self.true_conditions.remove(condition);
            }
            _ => {}
        }
    }

    /// Invariant 3: what the order follows from has been written.
    pub(super) fn on_record(&self, unit: &str) {
        let saved = SavedState::from_json(&self.disk[unit]).unwrap();
        let known = self.core.saved(unit).unwrap();
        assert_eq!(saved.generation(), known.generation(), "{unit}: not on record");
        let wanted = |state: &SavedState| {
            let value: serde_json::Value = serde_json::from_str(&state.to_json().unwrap()).unwrap();
            value["record"]["wanted"].clone()
        };
        assert_eq!(wanted(&saved), wanted(&known), "{unit}: the desired state is not saved");
    }

    /// Each run ends once and each failure counts once.
    pub(super) fn note_report(&mut self, unit: &str, report: &EventKind) {
        let EventKind::Ended(LastExit { cause, asked, .. }) = report else { return };
        // An attempt that only waited has no run.
        if !matches!(cause, ExitCause::WaitTimeout(_)) {
            *self.ends.entry(unit.into()).or_default() += 1;
        }
        if !asked && !cause.success() && *cause != ExitCause::Interrupted {
            *self.failures.entry(unit.into()).or_default() += 1;
        }
    }

    /// Invariants 1, 2, 3 and 5: everything that must hold before a start.
    pub(super) fn check_start(&self, key: &Key) {
        let unit = &key.0;
        self.on_record(unit);
        let status = self.core.status(unit, self.now).unwrap();
        assert_eq!(status.generation, key.1);
        assert!(status.desired == Desired::Up, "{unit} is started and not wanted");
        assert!(!self.stopped_by_hand.contains(unit), "{unit} was stopped by hand");
        assert!(!self.shutting_down, "{unit} is started in a shutdown");
        assert!(!self.groups.contains_key(key), "run {key:?} again");
        for (other, group) in self.groups.iter().filter(|(other, _)| other.0 == *unit) {
            assert!(group.empty || group.void, "{key:?} while {other:?} lives");
            assert!(self.cleaned.contains(other), "{key:?} and {other:?} was not cleaned away");
        }
        for condition in &self.config[unit].wait_for {
            assert!(self.true_conditions.contains(condition));
        }
        for name in &self.config[unit].requires {
            let other = self.core.status(name, self.now).unwrap();
            assert!(other.ready || other.state == State::Starting, "{unit} without {name}");
        }
    }

    /// What must hold after every step.
    pub(super) fn check(&mut self, tick: bool) {
        let core = &self.core;
        for id in core.entries.ids() {
            let entry = &core.entries[id];
            let name = &entry.unit.name;
            assert!(!entry.dirty && !entry.touched, "{name} is not written");
            assert_eq!(entry.timer, entry.due(), "{name}'s deadline is wrong");
            let status = core.status(name, self.now).unwrap();
            match status.state {
                State::Waiting | State::Backoff => assert!(entry.wanted_up(), "{status:?}"),
                State::Stopped => assert!(!entry.wanted_up(), "{status:?}"),
                _ => {}
            }
            let waits = status.state == State::Waiting;
            assert_eq!(waits, !status.waiting_for.is_empty(), "{status:?}");
            assert_eq!(status.next_retry_ms.is_some(), status.state == State::Backoff);
            assert!(status.pid.is_none() || entry.run().is_some());
            let failures = self.failures.get(name).copied().unwrap_or(0);
            assert_eq!(status.failures, failures, "{name}: failures are counted wrongly");
            let cleaned = self.cleaned.iter().filter(|key| key.0 == *name).count() as u64;
            let ends = self.ends.get(name).copied().unwrap_or(0);
            let open = u64::from(entry.run().is_some());
            let right = (cleaned..=cleaned + open).contains(&ends);
            assert!(right, "{name}: {ends} ends of {cleaned} runs");
            assert!(!core.explain(name, self.now).unwrap().is_empty());
        }
        if tick {
            let mut probe = self.core.clone();
            let mut rounds = 0;
            while probe.next_deadline().is_some_and(|at| at <= self.now) {
                probe.handle(self.now, Event::Tick);
                rounds += 1;
                assert!(rounds < 5, "due things stay due");
            }
        }
    }
}
