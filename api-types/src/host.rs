//! The host and who may call it.

use serde::{Deserialize, Serialize};

/// What a client may do; each role may do all that the one before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees.
    Reader,
    /// Also starts, stops, restarts and signals units.
    Operator,
    /// Also changes configuration, reboots, powers off, and runs commands and copies files in
    /// containers.
    Admin,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Role::Reader => "reader",
            Role::Operator => "operator",
            Role::Admin => "admin",
        })
    }
}

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Whoami {
    /// The name that the host's `host.toml` gives the key.
    pub name: String,
    /// Fingerprint of the key, `SHA256:…`.
    pub key: String,
    /// What it may do.
    pub role: Role,
}

/// The host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Host {
    /// Keelhost's version.
    #[serde(default)]
    pub version: String,
    /// Its name.
    #[serde(default)]
    pub hostname: String,
    /// `CLOCK_MONOTONIC` now, milliseconds.
    #[serde(default)]
    pub uptime_ms: u64,
    /// The kernel's version.
    #[serde(default)]
    pub kernel: Option<String>,
    /// The network.
    #[serde(default)]
    pub net: Network,
    /// Mistakes in the host folder, each as `keel check` shows it.
    #[serde(default)]
    pub problems: Vec<String>,
    /// The data disk.
    #[serde(default)]
    pub data_disk: DataDisk,
    /// What the boot took.
    #[serde(default)]
    pub boot: Option<Boot>,
    /// The machine's memory.
    #[serde(default)]
    pub memory: Option<Memory>,
    /// The machine's clock.
    #[serde(default)]
    pub clock: Option<Clock>,
    /// File systems that can fill up.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// What has gone through each link.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Processor time the supervisor itself has used, microseconds.
    #[serde(default)]
    pub supervisor_cpu_usec: u64,
    /// How many times each unit's state file has been written.
    #[serde(default)]
    pub persists: u64,
}

/// The host's own network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Network {
    /// Link and address, `["eth0", "10.0.2.15/24"]`.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<[String; 2]>))]
    pub addresses: Vec<(String, String)>,
    /// The default gateway, if there is a default route.
    pub gateway: Option<String>,
    /// Name servers in use.
    pub dns: Vec<String>,
    /// For each uplink that has no address yet: why.
    pub waiting: Vec<String>,
}

/// The data disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct DataDisk {
    /// Where it is mounted; none: there is none (yet).
    pub path: Option<String>,
    /// The device, or why there is none.
    pub reason: String,
    /// It is still being looked for or waited for.
    pub pending: bool,
}

/// What the boot took. Times are microseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Boot {
    /// When the first line of PID 1 ran.
    pub start_us: u64,
    /// The phases, in the order in which they ended.
    pub phases: Vec<Phase>,
}

/// A named piece of the boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Phase {
    /// What was done, one or two words.
    pub name: String,
    /// What there is to know about it; may be empty.
    pub note: String,
    /// When it began.
    pub start_us: u64,
    /// When it was done.
    pub end_us: u64,
}

/// The machine's memory, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Memory {
    /// All that the kernel manages.
    pub total: u64,
    /// What programs could still get.
    pub available: u64,
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Clock {
    /// What it shows, microseconds since 1970.
    pub time_us: i64,
    /// Something keeps it right, as the kernel knows (adjtimex(2), `STA_UNSYNC`).
    pub synchronized: bool,
}

/// A file system, bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Disk {
    /// Where it is mounted.
    pub path: String,
    /// Its size.
    pub size: u64,
    /// What can still be written.
    pub free: u64,
}

/// What has gone through a link (proc_net_dev(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Bytes that came.
    pub received_bytes: u64,
    /// Packets that came and were in error or dropped.
    pub received_bad: u64,
    /// Bytes that went.
    pub sent_bytes: u64,
    /// Packets that should have gone and were in error or dropped.
    pub sent_bad: u64,
}

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
    /// Its command line, words separated by blanks.
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

/// One setting in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ConfigValue {
    /// The unit, or none for the host itself.
    #[serde(default)]
    pub unit: Option<String>,
    /// The key with its tables, `container.image`.
    pub key: String,
    /// The value as TOML.
    pub value: String,
    /// Where it comes from: `units/web.toml:4`, `default`, or `image sha256:…`.
    pub origin: String,
}
