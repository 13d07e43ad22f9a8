//! Events.

use crate::time::human;
use crate::{By, Failure, LastExit, Problem, ShutdownKind, WaitReason};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Something that happened on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Event {
    /// Rises with each event, not always by one.
    pub seq: u64,
    /// Wall clock, microseconds since 1970.
    pub time_us: i64,
    /// The unit, if the event is about one.
    #[serde(default)]
    pub unit: Option<String>,
    /// For programs: what happened, with its details.
    #[serde(flatten)]
    pub kind: EventKind,
    /// For people.
    pub text: String,
}

/// What happened. In JSON `kind` names the variant and `details` holds its fields; kinds without
/// fields have no `details`. `Display` is the text for people, without the unit's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "kind", content = "details", rename_all = "snake_case")]
pub enum EventKind {
    /// The unit is to be started but has to wait.
    Waiting {
        /// For what.
        reasons: Vec<WaitReason>,
    },
    /// A start of the unit was ordered.
    Starting {
        /// The run's number.
        generation: u64,
    },
    /// The unit is ready.
    Ready {
        /// Milliseconds since the start was ordered.
        took_ms: u64,
    },
    /// A health check passed: the first one, or the first after the unit was unhealthy.
    Healthy,
    /// Too many health checks in a row have failed.
    Unhealthy {
        /// The last one's error.
        error: String,
        /// The unit is restarted (not with `restart = "never"`).
        restarts: bool,
    },
    /// A run of the unit, or an attempt at one, ended: exit code, signal, OOM kill, failed health
    /// checks, a timeout or a setup error.
    Ended(LastExit),
    /// The unit will be started again after a delay.
    Backoff {
        /// Milliseconds until the next attempt.
        delay_ms: u64,
        /// Unstable runs in a row so far.
        attempts: u32,
    },
    /// The unit has failed permanently.
    Failed(Failure),
    /// The unit finished with exit code 0.
    Done,
    /// A start of the unit was requested.
    StartRequested {
        /// By whom.
        by: By,
    },
    /// A stop of the unit was requested.
    StopRequested {
        /// By whom.
        by: By,
        /// Units that require it and keep running.
        left_running: Vec<String>,
    },
    /// A person requested a restart of the unit.
    RestartRequested,
    /// The unit did not stop within its `stop_timeout` and is killed.
    StopTimeout,
    /// The unit was killed, but a process of it does not end.
    Stuck,
    /// The unit is stopped.
    Stopped,
    /// A command had no effect.
    Refused(Problem),
    /// A client of the API requested something of the unit.
    Asked {
        /// The client's name.
        client: String,
        /// What.
        action: Action,
        /// The signal's number, if it was to send one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
    },
    /// A client of the API runs a command in the unit's container.
    Exec {
        /// The client's name.
        client: String,
        /// The program and its arguments.
        command: Vec<String>,
    },
    /// A client of the API reads or writes a file of the unit's container.
    File {
        /// The client's name.
        client: String,
        /// The file, as the container sees it.
        path: String,
        /// It is written, not read.
        write: bool,
    },
    /// A client of the API requested a shutdown of the host.
    Shutdown {
        /// The client's name.
        client: String,
        /// How it ends.
        how: ShutdownKind,
    },
    /// The supervisor was restarted.
    Supervisor,
    /// An event of a newer host; this version never reports one.
    #[serde(untagged, skip_serializing)]
    Unknown {
        /// Its kind.
        kind: String,
    },
}

/// What a client can request of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A start.
    Start,
    /// A stop.
    Stop,
    /// A restart.
    Restart,
    /// A signal to its main process.
    Signal,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Action::Start => "start",
            Action::Stop => "stop",
            Action::Restart => "restart",
            Action::Signal => "signal",
        })
    }
}

impl EventKind {
    /// The kind, as in JSON.
    pub fn name(&self) -> &str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Starting { .. } => "starting",
            Self::Ready { .. } => "ready",
            Self::Healthy => "healthy",
            Self::Unhealthy { .. } => "unhealthy",
            Self::Ended(_) => "ended",
            Self::Backoff { .. } => "backoff",
            Self::Failed(_) => "failed",
            Self::Done => "done",
            Self::StartRequested { .. } => "start_requested",
            Self::StopRequested { .. } => "stop_requested",
            Self::RestartRequested => "restart_requested",
            Self::StopTimeout => "stop_timeout",
            Self::Stuck => "stuck",
            Self::Stopped => "stopped",
            Self::Refused(_) => "refused",
            Self::Asked { .. } => "asked",
            Self::Exec { .. } => "exec",
            Self::File { .. } => "file",
            Self::Shutdown { .. } => "shutdown",
            Self::Supervisor => "supervisor",
            Self::Unknown { kind } => kind,
        }
    }
}

/// How many runs in a row were not stable, in words.
pub fn unstable_runs(runs: u32) -> String {
    if runs == 1 { "1 unstable run".to_owned() } else { format!("{runs} unstable runs") }
}

impl fmt::Display for EventKind {
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
            Self::Ended(end) => write_end(f, end),
            Self::Backoff { delay_ms, attempts } => {
                write!(
                    f,
                    "next attempt in {} ({} in a row)",
                    ms(delay_ms),
                    unstable_runs(*attempts)
                )
            }
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Done => f.write_str("done"),
            Self::StartRequested { by } => write!(f, "start requested {by}"),
            Self::StopRequested { by, left_running } if left_running.is_empty() => {
                write!(f, "stop requested {by}")
            }
            Self::StopRequested { by, left_running } => {
                let names = left_running.join(", ");
                write!(f, "stop requested {by}; still running although they require it: {names}")
            }
            Self::RestartRequested => f.write_str("restart requested by hand"),
            Self::StopTimeout => f.write_str("did not stop within its stop_timeout; killing it"),
            Self::Stuck => f.write_str("was killed but has not ended (stuck in the kernel)"),
            Self::Stopped => f.write_str("stopped"),
            Self::Refused(problem) => write!(f, "refused: {problem}"),
            Self::Asked { client, action, signal: Some(signal) } => {
                write!(f, "{action} {signal} requested by {client}")
            }
            Self::Asked { client, action, signal: None } => {
                write!(f, "{action} requested by {client}")
            }
            Self::Exec { client, command } => write!(f, "{client} runs {}", command.join(" ")),
            Self::File { client, path, write: true } => write!(f, "{client} writes {path}"),
            Self::File { client, path, .. } => write!(f, "{client} reads {path}"),
            Self::Shutdown { client, how } => {
                write!(f, "{} requested by {client}", how.name())
            }
            Self::Supervisor => {
                f.write_str("the supervisor was restarted; the units were not touched")
            }
            Self::Unknown { kind } => f.write_str(kind),
        }
    }
}

fn write_end(f: &mut fmt::Formatter<'_>, end: &LastExit) -> fmt::Result {
    let LastExit { cause, asked, ran_ms, .. } = end;
    let ran = human(Duration::from_millis(*ran_ms));
    match cause {
        _ if *asked => write!(f, "ended as requested after {ran}: {cause}"),
        // No run was started.
        crate::ExitCause::WaitTimeout(unmet) => {
            write!(f, "not started, after {ran} (wait_timeout): {unmet}")
        }
        _ => write!(f, "ended after {ran}: {cause}"),
    }
}

/// The data of an `event: gap`: what a follower has missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Gap {
    /// This many lines are no longer available. For events, whose numbers do not rise by one, it is
    /// an upper bound.
    pub missed: u64,
}
