//! Processes of the host.

use serde::{Deserialize, Serialize};

/// A process of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Process {
    /// Process id in the host's pid namespace.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// The unit in whose container it runs.
    #[serde(default)]
    pub unit: Option<String>,
    /// Its name, as the kernel shows it.
    pub name: String,
    /// Its command line, words separated by spaces.
    pub command: String,
    /// One letter (proc_pid_stat(5)).
    pub state: String,
    /// Resident memory, bytes.
    pub rss: u64,
    /// CPU time used, milliseconds.
    pub cpu_ms: u64,
    /// User id.
    pub uid: u32,
}
