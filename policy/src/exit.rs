//! How a run or an attempt ended, and why a unit has failed permanently.

use super::time::{Instant, human};
use api_types::ExitStatus;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// How the last run, or the last attempt at one, ended. The cause that the supervisor knows comes
/// before the status that the kernel reports: a process that was killed because its start took too
/// long is [`LastExit::StartTimeout`], not "killed by SIGKILL".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", content = "detail", rename_all = "snake_case")]
pub enum LastExit {
    /// The main process exited with this code.
    Code(i32),
    /// This signal killed the main process.
    Signal(i32),
    /// The kernel killed a process of the unit for lack of memory, and the main process ended
    /// otherwise than with code 0.
    Oom,
    /// Its health checks failed too often in a row; the text is the last one's error.
    Health(String),
    /// It was not ready within `start_timeout`.
    StartTimeout,
    /// What it waits for did not come within `wait_timeout`; the text names it.
    WaitTimeout(String),
    /// It could not be started: the step and the error.
    SetupFailed(String),
    /// Every process is gone, but how the main process ended was never reported.
    Lost,
    /// The supervisor itself was killed in the middle of the start: before there was any process, or
    /// while the process waited for it.
    Interrupted,
}

impl LastExit {
    /// What the kernel reports, with OOM kills told apart. A main process that exited with 0 has
    /// succeeded, whatever happened to its helpers.
    pub(super) fn from_status(status: ExitStatus, oom: bool) -> Self {
        match status {
            ExitStatus::Code(0) => Self::Code(0),
            _ if oom => Self::Oom,
            ExitStatus::Code(code) => Self::Code(code),
            ExitStatus::Signal(signal) => Self::Signal(signal),
        }
    }

    /// One word for it, as in JSON except that success has its own.
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

    /// Exit code 0 and nothing else.
    pub fn success(&self) -> bool {
        *self == Self::Code(0)
    }
}

impl fmt::Display for LastExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => match units::process::signal_name(*number) {
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

/// The record of an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    #[serde(flatten)]
    pub what: LastExit,
    /// When the core was notified.
    pub at: Instant,
    /// It was requested (stop, restart, shutdown) and is not a failure.
    pub asked: bool,
    /// Milliseconds from the start of the attempt to its end.
    pub ran_ms: u64,
}

/// Why a unit is `failed`: only a person can start it (or a unit that requires it and is started by a
/// person).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Failure {
    /// It ended this way and its restart policy does not restart it.
    NotRestarted {
        /// How it ended.
        last: LastExit,
    },
    /// `max_attempts` is used up.
    StartLimit {
        /// Failed attempts that were counted.
        attempts: u32,
        /// The span they were counted in, in milliseconds; `None`: since the last stable run.
        window_ms: Option<u64>,
        /// How the last one ended.
        last: LastExit,
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
