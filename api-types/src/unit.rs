//! A unit.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A unit. Moments are milliseconds of the host's `CLOCK_MONOTONIC`; see `uptime_ms` of the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// Its description, perhaps empty.
    #[serde(default)]
    pub description: String,
    /// What it does now.
    pub state: State,
    /// Since when.
    #[serde(default)]
    pub since_ms: u64,
    /// Why it has failed, or the mistakes in its file.
    #[serde(default)]
    pub reason: Option<String>,
    /// `up` or `down`: what it is meant to be.
    #[serde(default)]
    pub desired: String,
    /// Who said so last.
    #[serde(default)]
    pub by: Option<By>,
    /// Main process, while there is one.
    #[serde(default)]
    pub pid: Option<i32>,
    /// Number of the current or last run; 0: it has never been started.
    #[serde(default)]
    pub generation: u64,
    /// Those that require it may start.
    #[serde(default)]
    pub ready: bool,
    /// Its health, while its program runs and if it has a health check.
    #[serde(default)]
    pub health: Option<Health>,
    /// How long the last answered health check took, microseconds.
    #[serde(default)]
    pub health_latency_us: Option<u64>,
    /// How the last run or attempt ended.
    #[serde(default)]
    pub last_exit: Option<LastExit>,
    /// Starts that the restart policy made.
    #[serde(default)]
    pub restarts: u64,
    /// Failed attempts.
    #[serde(default)]
    pub failures: u64,
    /// How often runs and attempts have ended, by reason: a cause of [`LastExit`], or `success`
    /// (code 0), or `asked`.
    #[serde(default)]
    pub exits: BTreeMap<String, u64>,
    /// Unstable ends in a row; 0 after a stable run.
    #[serde(default)]
    pub attempts: u32,
    /// When it will be tried again, in back-off.
    #[serde(default)]
    pub next_retry_ms: Option<u64>,
    /// What it says about itself.
    #[serde(default)]
    pub status_text: Option<String>,
    /// It was killed and does not die.
    #[serde(default)]
    pub stuck: bool,
    /// Address on the bridge.
    #[serde(default)]
    pub address: Option<String>,
    /// Published ports as written.
    #[serde(default)]
    pub ports: Vec<String>,
    /// Memory now, bytes.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Memory at its peak, bytes.
    #[serde(default)]
    pub memory_peak: Option<u64>,
    /// CPU time used, microseconds.
    #[serde(default)]
    pub cpu_usec: Option<u64>,
    /// Tasks.
    #[serde(default)]
    pub pids: Option<u64>,
    /// What is kept of its log and what is lost.
    #[serde(default)]
    pub log: LogCounters,
    /// Where it is less confined than usual.
    #[serde(default)]
    pub weakenings: Vec<String>,
    /// When the steps of its latest start happened.
    #[serde(default)]
    pub timeline: Timeline,
}

/// What a unit does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Held back by dependencies or conditions.
    Waiting,
    /// Being set up, or running but not ready yet.
    Starting,
    /// Its program runs.
    Running,
    /// Asked to end, killed, or ended with processes still to be cleared away.
    Stopping,
    /// It will be tried again at a known time.
    Backoff,
    /// Given up, with the reason.
    Failed,
    /// Not meant to run.
    Stopped,
    /// Finished with code 0.
    Done,
}

impl State {
    /// All of them.
    pub const ALL: [State; 8] = [
        State::Waiting,
        State::Starting,
        State::Running,
        State::Stopping,
        State::Backoff,
        State::Failed,
        State::Stopped,
        State::Done,
    ];

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Starting => "starting",
            State::Running => "running",
            State::Stopping => "stopping",
            State::Backoff => "backoff",
            State::Failed => "failed",
            State::Stopped => "stopped",
            State::Done => "done",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Who wants a unit up or down: `"boot"`, `"person"`, `"default"`, `"shutdown"` or
/// `{"unit": NAME}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Its own `enabled`, at boot.
    Boot,
    /// A person.
    Person,
    /// The named unit requires or wants it.
    Unit(String),
    /// Nobody ever asked for it.
    Default,
    /// The host goes down.
    Shutdown,
}

/// What the health checks say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Health {
    /// `unknown`, `healthy` or `unhealthy`.
    pub state: String,
    /// Failures in a row that count.
    #[serde(default)]
    pub failures: u32,
    /// The last failure's error, if nothing has succeeded since.
    #[serde(default)]
    pub error: Option<String>,
    /// The last success.
    #[serde(default)]
    pub last_ok_ms: Option<u64>,
}

/// How the last run or attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LastExit {
    /// `code`, `signal`, `oom`, `health`, `start_timeout`, `wait_timeout`, `setup_failed`, `lost`
    /// or `interrupted`.
    pub cause: String,
    /// The exit code, the signal's number, or the error, where the cause has one.
    #[serde(default)]
    pub detail: Option<LastExitDetail>,
    /// When the host heard of it.
    #[serde(default)]
    pub at: u64,
    /// Somebody had asked for it: it is no failure.
    #[serde(default)]
    pub asked: bool,
    /// From the start of the attempt to its end.
    #[serde(default)]
    pub ran_ms: u64,
}

/// An exit code, a signal's number, or an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum LastExitDetail {
    /// An exit code or a signal.
    Number(i64),
    /// An error.
    Text(String),
}

/// What is kept of a unit's log, and what is lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogCounters {
    /// Lines ever written.
    pub lines: u64,
    /// Bytes ever written.
    pub bytes: u64,
    /// Lines no longer in memory because newer ones took their place.
    #[serde(default)]
    pub evicted: u64,
    /// Lines that could not be written to the data disk.
    #[serde(default)]
    pub lost: u64,
}

/// How long tasks of a unit have waited for something that was short (pressure stall information,
/// Documentation/accounting/psi.rst of Linux), in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Pressure {
    /// For a processor.
    pub cpu: Stall,
    /// For memory.
    pub memory: Stall,
    /// For a disk.
    pub io: Stall,
}

/// Times of waiting, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Stall {
    /// Some task waited.
    pub some_us: u64,
    /// All tasks waited at once.
    pub full_us: u64,
}

/// When the steps of a unit's latest start happened: microseconds of `CLOCK_MONOTONIC`, 0 for what
/// has not happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Timeline {
    /// The end of the run before it was noticed.
    pub exited_us: u64,
    /// The start was ordered.
    pub ordered_us: u64,
    /// Layers, cgroup, namespace and pipes were there.
    pub prepared_us: u64,
    /// The process existed.
    pub cloned_us: u64,
    /// Its network was attached.
    pub attached_us: u64,
    /// Its program was running.
    pub exec_us: u64,
}

/// Why a unit is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Explanation {
    /// For people, line by line.
    pub lines: Vec<String>,
}

/// The body of a request to send a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SignalRequest {
    /// `HUP`, `SIGHUP`, `1` or `RTMIN+3`; none that stops a process or lets it go on.
    #[cfg_attr(
        feature = "schema",
        schema(
            pattern = "^((SIG)?(HUP|INT|QUIT|ILL|TRAP|ABRT|IOT|BUS|FPE|KILL|USR1|SEGV|USR2|PIPE|ALRM|TERM|STKFLT|CHLD|URG|XCPU|XFSZ|VTALRM|PROF|WINCH|IO|POLL|PWR|SYS|RTMIN(\\+([12]?[0-9]|30))?|RTMAX(-([12]?[0-9]|30))?)|[1-9]|1[0-7]|2[3-9]|3[014-9]|[45][0-9]|6[0-4])$"
        )
    )]
    pub signal: String,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Did {
    /// For people.
    pub did: String,
    /// The unit afterwards, if it was about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
}
