//! The core's input (events) and output (actions).

use api_types::{ErrorCode, EventKind, ExitStatus, Problem, ShutdownKind};
use units::model::Condition;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The host is up: every enabled unit without a decision by a person is wanted up, and what they
    /// require and want. Harmless a second time and after a restore.
    Boot,
    /// A person's command.
    Command(Command),
    /// The host shuts down: stop everything, in order, and answer [`Action::UnitsStopped`]. Repeated
    /// after the answer, it is answered again.
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

/// A person's command. [`super::Core::check`] gives the answer beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Start the unit now, in whatever state it is, and what it requires.
    Start {
        /// The unit.
        unit: String,
    },
    /// Stop the unit, and keep it stopped.
    Stop {
        /// The unit.
        unit: String,
    },
    /// Stop the unit if it runs, then start it as [`Command::Start`] does.
    Restart {
        /// The unit.
        unit: String,
    },
}

impl Command {
    /// The unit.
    pub fn unit(&self) -> &str {
        match self {
            Self::Start { unit } | Self::Stop { unit } | Self::Restart { unit } => unit,
        }
    }
}

/// Why a command has no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The host has no unit of this name.
    #[error("unit {0} not found")]
    UnknownUnit(String),
    /// Its unit file is invalid.
    #[error("invalid unit file: {0}")]
    Broken(String),
    /// No unit is started any more.
    #[error("the host is shutting down")]
    ShuttingDown,
}

/// The error code of a refusal that the client receives; assigned only here.
impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let code = match refusal {
            Refusal::UnknownUnit(_) => ErrorCode::NotFound,
            Refusal::Broken(_) | Refusal::ShuttingDown => ErrorCode::Conflict,
        };
        Problem::new(code, refusal.to_string())
    }
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

/// A program's message about itself (sd_notify(3)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// `READY=1`
    Ready,
    /// `STOPPING=1`
    Stopping,
    /// `STATUS=…`
    Status(String),
}

/// An action for the shell.
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
    /// answer `StartFailed`, or `Started` if it was too late for that.
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
    /// Report an event: to the console, the log and followers.
    Report {
        /// The unit.
        unit: String,
        /// What happened to it.
        report: EventKind,
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
