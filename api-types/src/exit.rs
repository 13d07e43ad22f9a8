//! How processes, runs and attempts end.

use crate::signal::signal_name;
use crate::time::human;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// How a process ended (waitid(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl ExitStatus {
    /// Whether the exit code is 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

/// How a run, or an attempt at one, ended. What the supervisor knows takes precedence over the
/// status that the kernel reports: a process that was killed because its start took too long has
/// [`ExitCause::StartTimeout`], not "killed by SIGKILL".
///
/// In JSON `cause` names the variant and `detail` holds its value: an exit code, a signal's number,
/// or the text of an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "cause", content = "detail", rename_all = "snake_case")]
pub enum ExitCause {
    /// The main process exited with this code.
    Code(i32),
    /// This signal killed the main process.
    Signal(i32),
    /// The kernel killed a process of the unit for lack of memory, and the main process did not
    /// exit with code 0.
    Oom,
    /// Too many health checks in a row failed; the last error.
    Health(String),
    /// The unit was not ready within its `start_timeout`.
    StartTimeout,
    /// What the unit waits for did not become available within its `wait_timeout`; what is missing.
    WaitTimeout(String),
    /// The container could not be started: the step and the error.
    SetupFailed(String),
    /// Every process is gone, but the main process's exit status was never reported.
    Lost,
    /// The supervisor itself was killed during the start: before there was a process, or while the
    /// process waited for it.
    Interrupted,
}

impl ExitCause {
    /// The cause of a main process's exit; `oom`: the kernel's memory killer killed a process of
    /// the unit. A main process that exited with code 0 has succeeded, whatever happened to its
    /// helpers.
    pub fn from_status(status: ExitStatus, oom: bool) -> Self {
        match status {
            ExitStatus::Code(0) => Self::Code(0),
            _ if oom => Self::Oom,
            ExitStatus::Code(code) => Self::Code(code),
            ExitStatus::Signal(signal) => Self::Signal(signal),
        }
    }

    /// The key of [`crate::Unit::exits`]: the cause as in JSON, but `success` for exit code 0.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Code(0) => "success",
            Self::Code(_) => "code",
            Self::Signal(_) => "signal",
            Self::Oom => "oom",
            Self::Health(_) => "health",
            Self::StartTimeout => "start_timeout",
            Self::WaitTimeout(_) => "wait_timeout",
            Self::SetupFailed(_) => "setup_failed",
            Self::Lost => "lost",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether it is exit code 0.
    pub fn success(&self) -> bool {
        *self == Self::Code(0)
    }
}

impl fmt::Display for ExitCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => match signal_name(*number) {
                Some(name) => write!(f, "killed by {name}"),
                None => write!(f, "killed by signal {number}"),
            },
            Self::Oom => f.write_str("out of memory (OOM kill)"),
            Self::Health(error) => write!(f, "unhealthy: {error}"),
            Self::StartTimeout => f.write_str("not ready within its start_timeout"),
            Self::WaitTimeout(what) => write!(f, "wait_timeout expired: {what}"),
            Self::SetupFailed(reason) => write!(f, "could not be started: {reason}"),
            Self::Lost => f.write_str("ended, exit status unknown"),
            Self::Interrupted => f.write_str("start interrupted"),
        }
    }
}

/// The end of a run or of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LastExit {
    /// How.
    #[serde(flatten)]
    pub cause: ExitCause,
    /// When the host noticed it, milliseconds of `CLOCK_MONOTONIC`.
    #[serde(default)]
    pub at: u64,
    /// A stop, a restart or a shutdown was requested: the end is not a failure.
    #[serde(default)]
    pub asked: bool,
    /// Milliseconds from the start of the attempt to its end.
    #[serde(default)]
    pub ran_ms: u64,
}

/// Why a unit is `failed`: it stays so until a person starts it, or starts a unit that requires it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Failure {
    /// Its restart policy does not restart after this end.
    NotRestarted {
        /// How it ended.
        last: ExitCause,
    },
    /// `max_attempts` is used up.
    StartLimit {
        /// Failed attempts that were counted.
        attempts: u32,
        /// The window in which they were counted, milliseconds; none: since the last stable run.
        window_ms: Option<u64>,
        /// How the last one ended.
        last: ExitCause,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRestarted { last } => write!(f, "{last}"),
            Self::StartLimit { attempts, window_ms: Some(ms), last } => {
                let window = human(Duration::from_millis(*ms));
                write!(f, "start limit: {attempts} failed attempts in {window}, the last: {last}")
            }
            Self::StartLimit { attempts, window_ms: None, last } => {
                write!(f, "start limit: {attempts} failed attempts, the last: {last}")
            }
        }
    }
}
