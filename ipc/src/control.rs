//! Requests to the supervisor and its answers: one JSON object a line, over a unix socket
//! (`layout::paths::RUN_CONTROL`) or, where the kernel's command line asks for it, a virtio port.

use crate::api::Role;
use crate::{NetState, Service, ShutdownKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use api_types::{LogLine, Memory};

/// Longest request line, in bytes; a longer one is an error, and the connection is closed.
pub const MAX_REQUEST: usize = 64 * 1024;

/// A request or an answer with its number: an answer carries its request's, so that a late one is
/// never taken for another's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Numbered<T> {
    /// Chosen by the asker; 0 if it does not care.
    #[serde(default)]
    pub id: u64,
    /// The request or the answer.
    #[serde(flatten)]
    pub body: T,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// All units: a list of [`UnitReport`].
    Units,
    /// One unit: a [`UnitReport`].
    Unit {
        /// Its name.
        name: String,
    },
    /// Why a unit is as it is: a list of lines.
    Explain {
        /// Its name.
        name: String,
    },
    /// Start it now, from whatever state.
    Start {
        /// Its name.
        name: String,
    },
    /// Stop it, and keep it stopped.
    Stop {
        /// Its name.
        name: String,
    },
    /// Stop it if it runs, and start it.
    Restart {
        /// Its name.
        name: String,
    },
    /// Send a signal to the main process of a unit.
    SignalUnit {
        /// Its name.
        name: String,
        /// Signal number.
        signal: i32,
    },
    /// The last lines of what a unit wrote: a list of [`LogLine`].
    Logs {
        /// Its name.
        name: String,
        /// How many lines at most.
        tail: usize,
    },
    /// The host itself: a [`HostReport`].
    Host,
    /// The text of a file below /proc, /sys or /run/keel: for support and measurements.
    Read {
        /// Absolute path without `..`.
        path: String,
    },
    /// The names in a directory below /proc, /sys, /run/keel or the data disk.
    List {
        /// Absolute path without `..`.
        path: String,
    },
    /// The kernel's log, which is also ours: text.
    Dmesg,
    /// Send a signal to one of Keelhost's own processes; PID 1 starts it again.
    SignalService {
        /// Which.
        service: Service,
        /// Signal number.
        signal: i32,
    },
    /// Shut the host down in order.
    Shutdown {
        /// How it ends.
        kind: ShutdownKind,
    },
}

impl Request {
    /// Whether it can be asked on the host alone: it reaches what no role may, such as the host's
    /// own key. The API does not offer it, and `api` itself may have been taken over.
    pub fn host_only(&self) -> bool {
        matches!(self, Request::Read { .. } | Request::List { .. } | Request::SignalService { .. })
    }

    /// The least role that may ask this through the API.
    pub fn role(&self) -> Role {
        match self {
            Request::Units
            | Request::Unit { .. }
            | Request::Explain { .. }
            | Request::Logs { .. }
            | Request::Dmesg
            | Request::Host => Role::Reader,
            Request::Start { .. }
            | Request::Stop { .. }
            | Request::Restart { .. }
            | Request::SignalUnit { .. } => Role::Operator,
            Request::Read { .. }
            | Request::List { .. }
            | Request::SignalService { .. }
            | Request::Shutdown { .. } => Role::Admin,
        }
    }
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// What was asked for.
    Ok(Value),
    /// Why not.
    Error(String),
}

/// A unit as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitReport {
    /// The policy core's view: state, since, generation, last exit, restarts, next retry, …
    #[serde(flatten)]
    pub status: Value,
    /// Address on the bridge.
    pub address: Option<String>,
    /// Published ports as written.
    pub ports: Vec<String>,
    /// Memory now and at its peak, bytes.
    pub memory: Option<u64>,
    /// See `memory`.
    pub memory_peak: Option<u64>,
    /// CPU time used, microseconds.
    pub cpu_usec: Option<u64>,
    /// Tasks.
    pub pids: Option<u64>,
    /// How long the last answered health check took, microseconds.
    pub health_latency_us: Option<u64>,
    /// What the logger has kept and lost.
    pub log: LogCounters,
    /// Where the unit is less confined than usual.
    pub weakenings: Vec<String>,
    /// When the steps of the latest start happened.
    pub timeline: Timeline,
}

/// When the steps of a unit's latest start happened; microseconds of `CLOCK_MONOTONIC`, 0 for what
/// has not happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// What the logger counts for a unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogCounters {
    /// Lines ever written.
    pub lines: u64,
    /// Bytes ever written.
    pub bytes: u64,
    /// Lines no longer in memory because newer ones took their place.
    pub evicted: u64,
    /// Lines that could not be written to the data disk.
    pub lost: u64,
}

/// The host as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostReport {
    /// Keelhost's version.
    pub version: String,
    /// Its name.
    pub hostname: String,
    /// `CLOCK_MONOTONIC` now, milliseconds.
    pub uptime_ms: u64,
    /// The network.
    pub net: NetState,
    /// Mistakes in the host folder, each as `keel check` shows it.
    pub problems: Vec<String>,
    /// The data disk.
    pub data_disk: crate::DataDisk,
    /// Processor time the supervisor itself has used, microseconds.
    pub supervisor_cpu_usec: u64,
    /// How many times each unit's state file has been written.
    pub persists: u64,
    /// The kernel's version.
    pub kernel: String,
    /// What the boot took.
    pub boot: crate::BootReport,
    /// The machine's memory.
    pub memory: Memory,
    /// The machine's clock.
    pub clock: api_types::Clock,
    /// File systems that can fill up.
    pub disks: Vec<api_types::Disk>,
    /// What has gone through each link.
    pub links: Vec<api_types::Link>,
}
