//! What outlives the supervisor, and how a core is made from it.

use super::entries::{Entry, Id};
use super::event::Action;
use super::health::HealthTrack;
use super::shutdown::Shutdown;
use super::state::{DownBy, Phase, Record, Rest, Stage, Wanted};
use super::time::Instant;
use super::{Core, seed_of};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use units::model::Unit;

/// The version of [`SavedState`]. Raise it when an older supervisor's file would be misread.
const VERSION: u32 = 1;

/// One unit's record as it is written to its state file: the desired state with who asked, the
/// state, the run's number and pid, every moment, count and streak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedState {
    version: u32,
    record: Record,
}

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// Another version of the supervisor wrote it.
    #[error("written in version {found}, but this supervisor reads version {VERSION}")]
    Version {
        /// The version it names.
        found: u32,
    },
    /// It is not what a supervisor writes.
    #[error("invalid: {0}")]
    Decode(#[from] serde_json::Error),
}

impl SavedState {
    /// The text to write.
    ///
    /// # Errors
    /// The encoder's; none is known for these types.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Reads what [`SavedState::to_json`] wrote.
    ///
    /// # Errors
    /// Text of another version, or text that is not a saved state at all. The unit then begins without
    /// a history, and the caller must kill what is left of its last run.
    pub fn from_json(text: &str) -> Result<Self, SavedError> {
        #[derive(Deserialize)]
        struct Form {
            version: u32,
        }
        let Form { version: found } = serde_json::from_str(text)?;
        if found != VERSION {
            return Err(SavedError::Version { found });
        }
        Ok(serde_json::from_str(text)?)
    }

    /// The number of the run that was in progress, if one was: the only one of this unit's runs
    /// whose cgroup, mounts and descriptors are still needed.
    pub fn generation(&self) -> Option<u64> {
        matches!(self.record.phase, Phase::Run(_)).then_some(self.record.generation)
    }

    /// The main process of that run, if it had one that was not known to have ended.
    pub fn pid(&self) -> Option<i32> {
        match &self.record.phase {
            Phase::Run(run) => match run.stage {
                Stage::Unreported { pid, .. } => pid,
                _ => run.pid(),
            },
            _ => None,
        }
    }

    /// Whether the run's start had been ordered and its process was not known yet. The new
    /// supervisor looks for it and tells the core `Started`, or `GroupEmpty` if there is none.
    pub fn launching(&self) -> bool {
        matches!(&self.record.phase, Phase::Run(run)
            if matches!(run.stage, Stage::Launching | Stage::Killing { pid: None, .. }))
    }

    /// Whether the unit's program is known to have begun to run in that run.
    pub fn executed(&self) -> bool {
        match &self.record.phase {
            Phase::Run(run) => match run.stage {
                Stage::Launching | Stage::Setup { .. } => false,
                Stage::Unreported { exec, .. } => exec,
                _ => true,
            },
            _ => false,
        }
    }

    /// Whether the process was being set up: the new supervisor tells the core `ExecSucceeded`
    /// or `StartFailed` as soon as it knows.
    pub fn in_setup(&self) -> bool {
        matches!(&self.record.phase, Phase::Run(run) if matches!(run.stage, Stage::Setup { .. }))
    }
}

impl Core {
    /// What to write for [`Action::Persist`]; `None` for an unknown unit.
    pub fn saved(&self, unit: &str) -> Option<SavedState> {
        let id = *self.index.get(unit)?;
        Some(SavedState { version: VERSION, record: self.entries[id].record.clone() })
    }

    /// A core that continues where an earlier one of this boot ended, with the states that it saved.
    ///
    /// Runs are taken over as they were. Orders that may have been lost with the old supervisor
    /// are given again: returned are signals, kills, clean-ups and host reactions, to be carried
    /// out at once. What happened in between comes as ordinary events: first the exits and the
    /// conditions, then [`super::Event::Tick`]; until then nothing starts. Units without saved state
    /// are new ([`super::Event::Boot`] may follow, it is harmless).
    ///
    /// The caller's own part: whatever exists of runs that no [`SavedState::generation`] names,
    /// or of units that are not in `config`, is left over and must be killed and removed.
    pub fn restore(
        config: BTreeMap<String, Unit>,
        problems: BTreeMap<String, String>,
        seed: u64,
        mut saved: BTreeMap<String, SavedState>,
        now: Instant,
    ) -> (Self, Vec<Action>) {
        let entries =
            config.into_iter().zip(0_u64..).map(|((name, unit), n)| match saved.remove(&name) {
                Some(state) => Entry::with_record(unit, state.record),
                None => Entry::new(unit, seed_of(seed, n), now),
            });
        let mut core = Self::with_entries(entries.collect(), problems, now);
        let goes_down = |entry: &Entry| entry.record.wanted == Wanted::Down(DownBy::Shutdown);
        if core.entries.iter().any(goes_down) {
            core.resume_shutdown();
        }
        for id in core.entries.ids() {
            core.resume(id);
            core.set_timer(id);
        }
        core.unsettled = true;
        let actions = std::mem::take(&mut core.out);
        (core, actions)
    }

    /// Continues a shutdown that the old supervisor had begun, perhaps before it could save that for
    /// every unit.
    fn resume_shutdown(&mut self) {
        self.shutdown = Some(Shutdown { announced: false });
        for id in self.entries.ids() {
            if self.entries[id].wanted_up() {
                self.change(id).record.wanted = Wanted::Down(DownBy::Shutdown);
                if matches!(
                    self.entries[id].record.phase,
                    Phase::Waiting { .. } | Phase::Backoff { .. }
                ) {
                    self.stop(id);
                }
            }
        }
    }

    /// Restores one unit.
    fn resume(&mut self, id: Id) {
        let now = self.now;
        let entry = &mut self.entries[id];
        let signal = entry.unit.stop_signal;
        let check = entry.unit.healthcheck.clone();
        let had_runs = entry.record.generation > 0;
        let failure = match &mut entry.record.phase {
            Phase::Run(run) => {
                match &mut run.stage {
                    Stage::Up { health, .. } => match (health, check) {
                        (Some(track), Some(_)) => track.resume(now),
                        (health, check) => {
                            *health = check.map(|check| HealthTrack::new(&check, now));
                        }
                    },
                    Stage::Terminating { .. } => {
                        self.act(id, |unit, generation| Action::Signal {
                            unit,
                            generation,
                            signal,
                        });
                    }
                    Stage::Killing { .. } | Stage::Draining { .. } => {
                        self.act(id, |unit, generation| Action::KillGroup { unit, generation });
                    }
                    Stage::Launching | Stage::Setup { .. } | Stage::Unreported { .. } => {}
                }
                return;
            }
            Phase::Waiting { .. } => {
                self.queue.push_back(id);
                None
            }
            Phase::Rest(Rest::Failed(why)) => Some(why.clone()),
            Phase::Rest(_) | Phase::Backoff { .. } => None,
        };
        if had_runs {
            self.act(id, |unit, generation| Action::Cleanup { unit, generation });
        }
        if let Some(why) = failure.filter(|_| self.entries[id].wanted_up()) {
            self.react(id, &why);
        }
    }
}
