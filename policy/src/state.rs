//! The state of one unit. The types make impossible states unrepresentable: a pid exists only in a run,
//! a retry time only in back-off, health only while the program runs, and a unit has either one run or
//! none.

use super::backoff::Backoff;
use super::health::HealthTrack;
use super::time::Instant;
use api_types::{By, Desired, Failure, LastExit};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The desired state of a unit, and who asked for it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "desired", content = "by", rename_all = "snake_case")]
pub enum Wanted {
    /// It is meant to run (or, for a one-shot, to have run).
    Up(UpBy),
    /// It is meant not to run.
    Down(DownBy),
}

/// Who wants a unit up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpBy {
    /// Its own `enabled`, at boot.
    Boot,
    /// A person.
    Person,
    /// The named unit requires or wants it.
    Unit(String),
}

/// Who wants a unit down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DownBy {
    /// It is not enabled and has never been started.
    Default,
    /// A person: only a person starts it again.
    Person,
    /// The host is shutting down.
    Shutdown,
}

impl From<&UpBy> for By {
    fn from(by: &UpBy) -> By {
        match by {
            UpBy::Boot => By::Boot,
            UpBy::Person => By::Person,
            UpBy::Unit(unit) => By::Unit(unit.clone()),
        }
    }
}

impl From<DownBy> for By {
    fn from(by: DownBy) -> By {
        match by {
            DownBy::Default => By::Default,
            DownBy::Person => By::Person,
            DownBy::Shutdown => By::Shutdown,
        }
    }
}

impl Wanted {
    /// As [`api_types::Unit`] has it. The types differ because here an impossible combination (wanted
    /// up by the shutdown) cannot be represented; this is the only conversion.
    pub(super) fn decided(&self) -> (Desired, By) {
        match self {
            Self::Up(by) => (Desired::Up, by.into()),
            Self::Down(by) => (Desired::Down, (*by).into()),
        }
    }
}

/// The phase of a unit: at rest, waiting, in back-off, or in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// Nothing runs and nothing is planned.
    Rest(Rest),
    /// It starts as soon as nothing keeps it from starting.
    Waiting {
        /// When the wait began; `wait_timeout` counts from here.
        since: Instant,
        /// The restart policy brought it here, not a person or the boot.
        retry: bool,
    },
    /// It goes to `Waiting` at this moment.
    Backoff {
        /// The next attempt.
        until: Instant,
    },
    /// There is a run: a start has been ordered and its group may hold processes.
    Run(Box<Run>),
}

/// Why nothing runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Rest {
    /// Not wanted.
    Stopped,
    /// Finished with 0.
    Done,
    /// Failed permanently.
    Failed(Failure),
}

/// One run, from the order to start it until its end is known *and* its group is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// When the start was ordered; `start_timeout` counts from here.
    pub(super) started_at: Instant,
    /// When it became ready; kept after its end, because it decides whether the run was stable.
    pub(super) ready_at: Option<Instant>,
    /// Why the core ends it, if it does. The first reason is kept.
    pub(super) why: Option<StopWhy>,
    /// A person asked for a start while it was ending: no back-off afterwards.
    pub(super) again: bool,
    /// How far it is.
    pub(super) stage: Stage,
}

/// Why the core ends a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StopWhy {
    /// It was requested (stop, restart, shutdown).
    Asked,
    /// It is unhealthy.
    Health {
        /// The last probe's error.
        error: String,
        /// The last success: until then the run was healthy.
        good_until: Option<Instant>,
    },
    /// It was not ready in time.
    StartTimeout,
    /// Its setup failed after the process existed.
    Setup(String),
}

/// The stage of a run, in chronological order: a run moves only to later stages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// The start is ordered; no process is known.
    Launching,
    /// The process exists and sets its container up.
    Setup {
        /// Main process.
        pid: i32,
    },
    /// The unit's program runs.
    Up {
        /// Main process.
        pid: i32,
        /// It has sent `STOPPING=1`.
        leaving: bool,
        /// Its health, if it has a health check.
        health: Option<HealthTrack>,
    },
    /// The main process has been sent its stop signal.
    Terminating {
        /// Main process.
        pid: i32,
        /// When the group is killed.
        kill_at: Instant,
    },
    /// The group has been killed; nothing is known of the main process's end.
    Killing {
        /// Main process, if there is one.
        pid: Option<i32>,
        /// The wait for the end.
        sweep: Sweep,
    },
    /// The main process has ended, with this consequence; the group has been killed and may still
    /// hold processes.
    Draining {
        /// What comes afterwards.
        verdict: Verdict,
        /// The program had begun to run; if not, a setup error may still come and say more.
        exec: bool,
        /// The wait for the group to be empty.
        sweep: Sweep,
    },
    /// The group is empty; how the main process ended has not been reported yet.
    Unreported {
        /// Main process. Its exit may still come, also to a later supervisor.
        #[serde(default)]
        pid: Option<i32>,
        /// The program had begun to run.
        #[serde(default)]
        exec: bool,
        /// When the core stops waiting for the report.
        until: Instant,
    },
}

/// The wait for a killed group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sweep {
    /// When the group is killed again.
    pub(super) again_at: Instant,
    /// It was not empty after the first such wait. It still prevents the next start, but a shutdown
    /// continues.
    pub(super) stuck: bool,
}

/// What comes after a run, once its group is empty and if the unit is still wanted up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// It ended because that was requested.
    Asked,
    /// The restart policy tries again then.
    Retry(Instant),
    /// It finished with 0.
    Finished,
    /// It has failed permanently.
    GivenUp(Failure),
}

/// Everything about a unit that outlives the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) wanted: Wanted,
    pub(super) phase: Phase,
    /// Number of starts ordered; the current run, if there is one, has this number.
    pub(super) generation: u64,
    /// When the state a person sees began.
    pub(super) since: Instant,
    /// Starts that the restart policy made, in the unit's lifetime.
    pub(super) restarts: u64,
    /// Failed attempts in the unit's lifetime.
    pub(super) failures: u64,
    pub(super) backoff: Backoff,
    pub(super) last_exit: Option<LastExit>,
    /// How often runs and attempts have ended, by reason.
    #[serde(default)]
    pub(super) exits: BTreeMap<String, u64>,
    /// The last `STATUS=` text.
    pub(super) status_text: Option<String>,
}

impl Run {
    /// The main process, while it is not known to have ended.
    pub(super) fn pid(&self) -> Option<i32> {
        match self.stage {
            Stage::Setup { pid } | Stage::Up { pid, .. } | Stage::Terminating { pid, .. } => {
                Some(pid)
            }
            Stage::Killing { pid, .. } => pid,
            Stage::Launching | Stage::Draining { .. } | Stage::Unreported { .. } => None,
        }
    }

    /// Whether it is ending.
    pub(super) fn ending(&self) -> bool {
        !matches!(self.stage, Stage::Launching | Stage::Setup { .. } | Stage::Up { .. })
    }

    /// Whether a shutdown must still wait for it.
    pub(super) fn stuck(&self) -> bool {
        match &self.stage {
            Stage::Killing { sweep, .. } | Stage::Draining { sweep, .. } => sweep.stuck,
            _ => false,
        }
    }
}
