//! Stopping all units, in order and in bounded time.

use super::Core;
use super::entries::{Entry, Id};
use super::event::Action;
use super::state::{DownBy, Phase, Wanted};
use api_types::{EventKind, State};
use std::time::Duration;

/// How long to wait for a killed group, or for the report of an end, before the unit counts as stuck.
/// A process that has not died of SIGKILL by then is stuck in the kernel (a dead disk, a hung mount),
/// for an unknown time.
pub const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// A shutdown in progress.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shutdown {
    /// [`Action::UnitsStopped`] has been ordered.
    pub(super) announced: bool,
}

impl Core {
    /// Whether the host is shutting down.
    pub fn shutting_down(&self) -> bool {
        self.shutdown.is_some()
    }

    /// Wants every unit down. Units that do not run come to rest at once; the others follow in
    /// [`Core::advance_shutdown`]. If the request is repeated, so is an answer that was given.
    pub(super) fn request_shutdown(&mut self) {
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.announced = false;
            return;
        }
        self.shutdown = Some(Shutdown { announced: false });
        let up: Vec<Id> = self.entries.ids().filter(|&id| self.entries[id].wanted_up()).collect();
        for id in up {
            let by = DownBy::Shutdown;
            self.change(id).record.wanted = Wanted::Down(by);
            match &self.entries[id].record.phase {
                Phase::Waiting { .. } | Phase::Backoff { .. } => self.stop(id),
                Phase::Run(_) => {
                    self.report(
                        id,
                        EventKind::StopRequested { by: by.into(), left_running: Vec::new() },
                    );
                }
                // A unit that has finished or failed keeps that state until the end.
                Phase::Rest(_) => {}
            }
        }
    }

    /// Stops the units whose turn it is, and answers when none is left.
    pub(super) fn advance_shutdown(&mut self) {
        let Some(Shutdown { announced: false }) = self.shutdown else { return };
        let running: Vec<Id> = self.entries.ids().filter(|&id| active(&self.entries[id])).collect();
        if running.is_empty() {
            self.shutdown = Some(Shutdown { announced: true });
            // Everything is written before the answer, which may be the last thing that happens.
            for id in self.touched.clone() {
                self.persist(id);
            }
            self.out.push(Action::UnitsStopped);
            return;
        }
        let mut ending = false;
        for &id in &running {
            if self.entries[id].run().is_some_and(|run| run.ending()) {
                ending = true;
            } else if self.may_stop(id) {
                ending = true;
                self.stop(id);
            }
        }
        // Units in a dependency cycle (which a checked configuration does not have) would never get
        // their turn.
        if !ending {
            for &id in &running {
                self.stop(id);
            }
        }
    }

    /// Whether nothing that depends on the unit is left. A unit that is still starting is stopped at
    /// once: nothing relies on it yet, and its start may never end.
    fn may_stop(&self, id: Id) -> bool {
        if self.entries[id].state() == State::Starting {
            return true;
        }
        !self.graph.of(id).dependents.iter().any(|&other| active(&self.entries[other]))
    }
}

/// Whether a shutdown still has to wait for the unit.
fn active(entry: &Entry) -> bool {
    entry.run().is_some_and(|run| !run.stuck())
}
