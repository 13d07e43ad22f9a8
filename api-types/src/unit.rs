//! Units.

use crate::{LastExit, WaitReason};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A unit. Moments are milliseconds of the host's `CLOCK_MONOTONIC`; see `uptime_ms` of the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// Its description; may be empty.
    #[serde(default)]
    pub description: String,
    /// Its state.
    pub state: State,
    /// When it entered its state.
    #[serde(default)]
    pub since_ms: u64,
    /// Why it has failed, or the errors in its unit file.
    #[serde(default)]
    pub reason: Option<String>,
    /// Whether it is meant to run.
    #[serde(default)]
    pub desired: Desired,
    /// Who decided `desired` last.
    #[serde(default)]
    pub by: Option<By>,
    /// Its main process, while there is one.
    #[serde(default)]
    pub pid: Option<i32>,
    /// Number of the current or last run; 0: it has never been started.
    #[serde(default)]
    pub generation: u64,
    /// It is ready: units that require it can start.
    #[serde(default)]
    pub ready: bool,
    /// Its health, while its program runs and if it has a health check.
    #[serde(default)]
    pub health: Option<Health>,
    /// Duration of the last answered health check, microseconds.
    #[serde(default)]
    pub health_latency_us: Option<u64>,
    /// How the last run or attempt ended.
    #[serde(default)]
    pub last_exit: Option<LastExit>,
    /// Starts by the restart policy.
    #[serde(default)]
    pub restarts: u64,
    /// Failed attempts.
    #[serde(default)]
    pub failures: u64,
    /// How often runs and attempts have ended, by reason: the `cause` of [`LastExit`], `success`
    /// for exit code 0, or `asked` for a requested end.
    #[serde(default)]
    pub exits: BTreeMap<String, u64>,
    /// Unstable runs in a row; 0 after a stable run.
    #[serde(default)]
    pub attempts: u32,
    /// In back-off: when it is started again.
    #[serde(default)]
    pub next_retry_ms: Option<u64>,
    /// What it waits for, while it waits.
    #[serde(default)]
    pub waiting_for: Vec<WaitReason>,
    /// Its own status text (`STATUS=` of sd_notify(3)).
    #[serde(default)]
    pub status_text: Option<String>,
    /// It was killed, but its processes have not ended.
    #[serde(default)]
    pub stuck: bool,
    /// Its address on the bridge.
    #[serde(default)]
    pub address: Option<String>,
    /// Its published ports, as in the unit file.
    #[serde(default)]
    pub ports: Vec<String>,
    /// Memory in use, bytes.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Highest memory use, bytes.
    #[serde(default)]
    pub memory_peak: Option<u64>,
    /// CPU time used, microseconds.
    #[serde(default)]
    pub cpu_usec: Option<u64>,
    /// Processes and threads.
    #[serde(default)]
    pub pids: Option<u64>,
    /// Counters of its log.
    #[serde(default)]
    pub log: LogCounters,
    /// Settings that relax its isolation.
    #[serde(default)]
    pub weakenings: Vec<String>,
    /// When the steps of its latest start happened.
    #[serde(default)]
    pub timeline: Timeline,
}

impl Unit {
    /// A unit that is stopped, has no history and uses no resources.
    pub fn new(name: impl Into<String>) -> Unit {
        Unit {
            name: name.into(),
            description: String::new(),
            state: State::Stopped,
            since_ms: 0,
            reason: None,
            desired: Desired::Down,
            by: None,
            pid: None,
            generation: 0,
            ready: false,
            health: None,
            health_latency_us: None,
            last_exit: None,
            restarts: 0,
            failures: 0,
            exits: BTreeMap::new(),
            attempts: 0,
            next_retry_ms: None,
            waiting_for: Vec::new(),
            status_text: None,
            stuck: false,
            address: None,
            ports: Vec::new(),
            memory: None,
            memory_peak: None,
            cpu_usec: None,
            pids: None,
            log: LogCounters::default(),
            weakenings: Vec::new(),
            timeline: Timeline::default(),
        }
    }
}

/// The state of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waiting for dependencies or conditions.
    Waiting,
    /// Being set up, or running but not ready yet.
    Starting,
    /// Its program runs.
    Running,
    /// Asked to stop, killed, or ended while some of its processes are left.
    Stopping,
    /// To be started again at a known time.
    Backoff,
    /// Failed permanently, with the reason.
    Failed,
    /// Not meant to run.
    Stopped,
    /// Finished with exit code 0.
    Done,
}

impl State {
    /// All states.
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

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The desired state of a unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// Running, or for a one-shot: run once.
    Up,
    /// Not running.
    #[default]
    Down,
}

impl fmt::Display for Desired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Desired::Up => "up",
            Desired::Down => "down",
        })
    }
}

/// Who decided whether a unit runs: `"boot"`, `"person"`, `"default"`, `"shutdown"` or
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
    /// No decision: it is not enabled and has never been started.
    Default,
    /// The host is shutting down.
    Shutdown,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Boot => f.write_str("at boot"),
            By::Person => f.write_str("by hand"),
            By::Unit(unit) => write!(f, "for {unit}"),
            By::Default => f.write_str("not enabled"),
            By::Shutdown => f.write_str("for the shutdown"),
        }
    }
}

/// The result of a unit's health checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Health {
    /// The result so far.
    pub state: HealthState,
    /// Failures in a row that count.
    #[serde(default)]
    pub failures: u32,
    /// The last failure's error, if no check has passed since.
    #[serde(default)]
    pub error: Option<String>,
    /// When a check passed last.
    #[serde(default)]
    pub last_ok_ms: Option<u64>,
}

/// Whether a unit is healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// No check has passed yet, and not enough have failed.
    Unknown,
    /// The last check passed, or too few have failed since.
    Healthy,
    /// `retries` checks in a row have failed.
    Unhealthy,
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            HealthState::Unknown => "unknown",
            HealthState::Healthy => "healthy",
            HealthState::Unhealthy => "unhealthy",
        })
    }
}

/// Counters of a unit's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogCounters {
    /// Lines written so far.
    pub lines: u64,
    /// Bytes written so far.
    pub bytes: u64,
    /// Lines that newer ones have replaced in memory.
    #[serde(default)]
    pub evicted: u64,
    /// Lines that could not be written to the data disk.
    #[serde(default)]
    pub lost: u64,
}

/// How long tasks of a unit have waited for a scarce resource, in total (pressure stall
/// information, Documentation/accounting/psi.rst of Linux).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Pressure {
    /// For a CPU.
    pub cpu: Stall,
    /// For memory.
    pub memory: Stall,
    /// For a disk.
    pub io: Stall,
}

/// Waiting times, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Stall {
    /// At least one task waited.
    pub some_us: u64,
    /// All tasks waited at the same time.
    pub full_us: u64,
}

/// When the steps of a unit's latest start happened: microseconds of `CLOCK_MONOTONIC`, 0 for a
/// step that has not happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Timeline {
    /// The end of the previous run was noticed.
    pub exited_us: u64,
    /// The start was ordered.
    pub ordered_us: u64,
    /// Layers, cgroup, namespaces and pipes were prepared.
    pub prepared_us: u64,
    /// The process was created.
    pub cloned_us: u64,
    /// Its network was attached.
    pub attached_us: u64,
    /// Its program was executed.
    pub exec_us: u64,
}

/// Why a unit is in its state.
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
    /// `HUP`, `SIGHUP`, `1` or `RTMIN+3`; not a signal that stops or continues a process.
    #[cfg_attr(
        feature = "schema",
        schema(
            pattern = "^((SIG)?(HUP|INT|QUIT|ILL|TRAP|ABRT|IOT|BUS|FPE|KILL|USR1|SEGV|USR2|PIPE|ALRM|TERM|STKFLT|CHLD|URG|XCPU|XFSZ|VTALRM|PROF|WINCH|IO|POLL|PWR|SYS|RTMIN(\\+([12]?[0-9]|30))?|RTMAX(-([12]?[0-9]|30))?)|[1-9]|1[0-7]|2[3-9]|3[014-9]|[45][0-9]|6[0-4])$"
        )
    )]
    pub signal: String,
}

/// The result of a request that changes something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Outcome {
    /// What was done, for people.
    #[serde(rename = "did")]
    pub message: String,
    /// The unit afterwards, if the request was about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
}
