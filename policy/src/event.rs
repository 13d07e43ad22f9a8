//! What goes into the core (events) and what comes out of it (actions).

use super::exit::{Failure, LastExit};
use super::graph::Reason;
use super::state::{DownBy, UpBy};
use super::time::human;
use api_types::{ExitStatus, ShutdownKind};
use serde::Serialize;
use std::fmt;
use std::time::Duration;
use units::model::Condition;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The host is up: every enabled unit that nobody has decided about is wanted up, and so is what
    /// it requires and wants. Harmless a second time and after a restore.
    Boot,
    /// A person asks for something.
    Command(Command),
    /// The host shuts down: stop everything, in order, and answer [`Action::UnitsStopped`]. A second
    /// request after the answer is answered again.
    ShutdownRequested,
    /// A condition of the host holds from now on, or no longer. At first none holds.
    ConditionChanged {
        /// Which.
        condition: Condition,
        /// Whether it holds.
        holds: bool,
    },
    /// Time has passed: [`super::Core::next_deadline`] has come. Early or needless ticks are
    /// harmless.
    Tick,
    /// Something about one run. Events of other runs than the current one are ignored.
    Run {
        /// The unit.
        unit: String,
        /// The number that [`Action::Start`] gave to the run.
        generation: u64,
        /// What.
        event: RunEvent,
    },
}

/// A person's request. Ask [`super::Core::check`] first for the answer to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Start it now, whatever state it is in, and what it requires.
    Start {
        /// The unit.
        unit: String,
    },
    /// Stop it, and keep it stopped.
    Stop {
        /// The unit.
        unit: String,
    },
    /// Stop it if it runs, then start it as [`Command::Start`] does.
    Restart {
        /// The unit.
        unit: String,
    },
}

impl Command {
    /// The unit it is about.
    pub fn unit(&self) -> &str {
        match self {
            Self::Start { unit } | Self::Stop { unit } | Self::Restart { unit } => unit,
        }
    }
}

/// Why a command changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "refusal", content = "detail", rename_all = "snake_case")]
pub enum Refusal {
    /// The host has no such unit.
    #[error("unit {0} not found")]
    UnknownUnit(String),
    /// Its file is invalid.
    #[error("invalid unit file: {0}")]
    Broken(String),
    /// Nothing starts any more.
    #[error("the host is shutting down")]
    ShuttingDown,
}

/// What happened to a run.
///
/// The usual order is `Started`, `ExecSucceeded`, …, `Exited`, `GroupEmpty`. The core accepts
/// `Exited` and `GroupEmpty` at any point and in either order. What it relies on: after
/// `StartFailed` without `Started`, and after `GroupEmpty`, the run has no process and never gets
/// one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// The main process exists (clone3(2) succeeded).
    Started {
        /// Its id in the host's pid namespace.
        pid: i32,
    },
    /// The start failed, before there was a process (then this ends the run) or in the process's
    /// own setup (then `Exited` and `GroupEmpty` follow; this should come before them).
    StartFailed {
        /// The step and the error.
        reason: String,
    },
    /// The unit's own program runs (execve(2) succeeded).
    ExecSucceeded,
    /// The main process ended.
    Exited {
        /// How.
        status: ExitStatus,
        /// The OOM killer has killed a process of its group (`oom_kill` in `memory.events`).
        oom: bool,
    },
    /// The main process ended because its setup waited for a supervisor that was killed: the unit's
    /// program has not run. Comes in place of `Exited`.
    SetupAbandoned,
    /// The run's cgroup holds no process and will hold none. For a run that was restored while
    /// launching: no process of it exists.
    GroupEmpty,
    /// A message on the notify socket (sd_notify(3)).
    Notified(Notice),
    /// A probe's answer, see [`Action::ProbeNow`].
    Health {
        /// `Err`: what was wrong.
        result: Result<(), String>,
    },
}

/// What a program says about itself (sd_notify(3)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// `READY=1`
    Ready,
    /// `STOPPING=1`
    Stopping,
    /// `STATUS=…`
    Status(String),
}

/// An order to the shell.
///
/// The list that [`super::Core::handle`] returns is carried out in its order; in particular each
/// `Persist` is on disk before the next action begins, so that no signal is sent and no process
/// started whose reason could be forgotten. All but `Start` may be carried out twice without harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write [`super::Core::saved`] of this unit, replacing the old file atomically.
    Persist {
        /// The unit.
        unit: String,
    },
    /// Start the unit's container. The answer is `Started` or `StartFailed`.
    Start {
        /// The unit.
        unit: String,
        /// The run's number.
        generation: u64,
    },
    /// Send a signal to the main process, and to no other.
    Signal {
        /// The unit.
        unit: String,
        /// The run's number.
        generation: u64,
        /// The signal's number; `None`: the one its image names, else SIGTERM.
        signal: Option<i32>,
    },
    /// Kill every process of the run (`cgroup.kill`). If the run has none yet, abort the start:
    /// answer `StartFailed`, or `Started` if it is too late for that.
    KillGroup {
        /// The unit.
        unit: String,
        /// The run's number.
        generation: u64,
    },
    /// The run is over: remove its cgroup, mounts and descriptors. Comes once for each `Start`
    /// (and again after a restore), before the next one.
    Cleanup {
        /// The unit.
        unit: String,
        /// The run's number.
        generation: u64,
    },
    /// Make one health probe and answer with [`RunEvent::Health`] within its `timeout`.
    ProbeNow {
        /// The unit.
        unit: String,
        /// The run's number.
        generation: u64,
    },
    /// Report to the console, the log and the subscribers to events.
    Report {
        /// The unit.
        unit: String,
        /// What happened to it.
        report: Report,
    },
    /// The unit's `on_failure` asks for a shutdown of the host. The core continues until
    /// [`Event::ShutdownRequested`].
    HostDown {
        /// The unit.
        unit: String,
        /// How the host shuts down.
        kind: ShutdownKind,
        /// Why the unit has failed, for people.
        reason: String,
    },
    /// The shutdown is complete: no unit runs, or those that do cannot be killed.
    UnitsStopped,
}

/// News about a unit. `Display` is for people, without the unit's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum Report {
    /// It would start, but has to wait.
    Waiting {
        /// For what.
        reasons: Vec<Reason>,
    },
    /// A start was ordered.
    Starting {
        /// The run's number.
        generation: u64,
    },
    /// It is ready.
    Ready {
        /// Milliseconds since the start was ordered.
        took_ms: u64,
    },
    /// A health check passed, the first one or the first after being unhealthy.
    Healthy,
    /// Too many health checks in a row have failed.
    Unhealthy {
        /// The last one's error.
        error: String,
        /// It is restarted because of that (`false` with `restart = "never"`).
        restarts: bool,
    },
    /// A run or an attempt ended.
    Ended {
        /// How.
        what: LastExit,
        /// Milliseconds from the order to start it.
        ran_ms: u64,
        /// The end was requested.
        asked: bool,
    },
    /// It will be tried again.
    Backoff {
        /// Milliseconds until then.
        delay_ms: u64,
        /// Unstable ends in a row so far.
        attempts: u32,
    },
    /// It has failed permanently.
    Failed {
        /// Why.
        why: Failure,
    },
    /// It finished with 0.
    Done,
    /// A start was requested.
    StartRequested {
        /// By whom.
        by: UpBy,
    },
    /// A stop was requested.
    StopRequested {
        /// By whom.
        by: DownBy,
        /// Units that require it and are left running.
        left_running: Vec<String>,
    },
    /// A person requested a restart.
    RestartRequested,
    /// It did not stop within `stop_timeout` and is killed.
    StopTimeout,
    /// It was killed but is still running: a process is stuck in the kernel.
    Stuck,
    /// It is stopped.
    Stopped,
    /// A command changed nothing.
    Refused {
        /// Why.
        refusal: Refusal,
    },
}

impl Report {
    /// One word, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Starting { .. } => "starting",
            Self::Ready { .. } => "ready",
            Self::Healthy => "healthy",
            Self::Unhealthy { .. } => "unhealthy",
            Self::Ended { .. } => "ended",
            Self::Backoff { .. } => "backoff",
            Self::Failed { .. } => "failed",
            Self::Done => "done",
            Self::StartRequested { .. } => "start_requested",
            Self::StopRequested { .. } => "stop_requested",
            Self::RestartRequested => "restart_requested",
            Self::StopTimeout => "stop_timeout",
            Self::Stuck => "stuck",
            Self::Stopped => "stopped",
            Self::Refused { .. } => "refused",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |ms: &u64| human(Duration::from_millis(*ms));
        match self {
            Self::Waiting { reasons } => {
                f.write_str("waiting: ")?;
                for (n, reason) in reasons.iter().enumerate() {
                    write!(f, "{}{reason}", if n == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            Self::Starting { generation: 1 } => f.write_str("starting"),
            Self::Starting { generation } => write!(f, "starting (run {generation})"),
            Self::Ready { took_ms } => write!(f, "ready after {}", ms(took_ms)),
            Self::Healthy => f.write_str("healthy"),
            Self::Unhealthy { error, restarts: true } => {
                write!(f, "unhealthy, restarting: {error}")
            }
            Self::Unhealthy { error, .. } => write!(f, "unhealthy: {error}"),
            Self::Ended { what, ran_ms, asked: true } => {
                write!(f, "ended on request after {}: {what}", ms(ran_ms))
            }
            // Nothing has run, so nothing can have ended.
            Self::Ended { what: LastExit::WaitTimeout(unmet), ran_ms, .. } => {
                write!(f, "not started after {} (wait_timeout): {unmet}", ms(ran_ms))
            }
            Self::Ended { what, ran_ms, .. } => write!(f, "ended after {}: {what}", ms(ran_ms)),
            Self::Backoff { delay_ms, attempts } => {
                write!(f, "next attempt in {} ({} in a row)", ms(delay_ms), unstable(*attempts))
            }
            Self::Failed { why } => write!(f, "failed: {why}"),
            Self::Done => f.write_str("done"),
            Self::StartRequested { by } => write!(f, "start requested {by}"),
            Self::StopRequested { by, left_running } if left_running.is_empty() => {
                write!(f, "stop requested {by}")
            }
            Self::StopRequested { by, left_running } => {
                let names = left_running.join(", ");
                write!(f, "stop requested {by}; units that require it keep running: {names}")
            }
            Self::RestartRequested => f.write_str("restart requested by hand"),
            Self::StopTimeout => f.write_str("did not stop within its stop_timeout, killing it"),
            Self::Stuck => f.write_str("was killed but is still running (stuck in the kernel)"),
            Self::Stopped => f.write_str("stopped"),
            Self::Refused { refusal } => write!(f, "refused: {refusal}"),
        }
    }
}

/// How many runs in a row were not stable.
pub(super) fn unstable(runs: u32) -> String {
    if runs == 1 { "1 unstable run".to_owned() } else { format!("{runs} unstable runs") }
}
