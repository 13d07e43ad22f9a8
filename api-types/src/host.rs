//! The host.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Host {
    /// Keelhost's version.
    #[serde(default)]
    pub version: String,
    /// Its host name.
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
    /// Errors in the host folder, each as `keel check` shows it.
    #[serde(default)]
    pub problems: Vec<String>,
    /// The data disk.
    #[serde(default)]
    pub data_disk: DataDisk,
    /// The phases of the boot.
    #[serde(default)]
    pub boot: Option<BootReport>,
    /// The machine's memory.
    #[serde(default)]
    pub memory: Option<Memory>,
    /// The machine's clock.
    #[serde(default)]
    pub clock: Option<Clock>,
    /// File systems that can become full.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// Traffic of each network link.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Processor time the supervisor itself has used, microseconds.
    #[serde(default)]
    pub supervisor_cpu_usec: u64,
    /// State files written since the supervisor's start.
    #[serde(default)]
    pub persists: u64,
}

/// The host's own network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Network {
    /// Addresses of the uplinks, each with its link: `["eth0", "10.0.2.15/24"]`.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<[String; 2]>))]
    pub addresses: Vec<(String, String)>,
    /// The default gateway, if there is a default route.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub gateway: Option<IpAddr>,
    /// Name servers in use.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub dns: Vec<IpAddr>,
    /// For each uplink without an address: why (`eth0: no answer to DHCP for 12 s`).
    pub waiting: Vec<String>,
}

/// The data disk: volumes and log files are below `path`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct DataDisk {
    /// Where it is mounted; none: no data disk is mounted.
    pub path: Option<String>,
    /// The device, or why no data disk is mounted; for people.
    pub reason: String,
    /// The host is still waiting for it: named volumes cannot be used yet.
    pub pending: bool,
}

/// The phases of the boot. Times are microseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct BootReport {
    /// When PID 1 began to run.
    pub start_us: u64,
    /// The phases, in the order in which they ended.
    pub phases: Vec<Phase>,
}

/// A phase of the boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Phase {
    /// Its name, one or two words.
    pub name: String,
    /// A remark for people; may be empty.
    pub note: String,
    /// When it began.
    pub start_us: u64,
    /// When it ended.
    pub end_us: u64,
}

/// How a shutdown ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ShutdownKind {
    /// Power off.
    Poweroff,
    /// Reboot.
    Reboot,
    /// Halt the CPUs with the power on.
    Halt,
}

impl ShutdownKind {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            ShutdownKind::Poweroff => "poweroff",
            ShutdownKind::Reboot => "reboot",
            ShutdownKind::Halt => "halt",
        }
    }
}

/// The machine's memory, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Memory {
    /// All memory that the kernel manages.
    pub total: u64,
    /// What programs can still allocate.
    pub available: u64,
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Clock {
    /// Its time, microseconds since 1970.
    pub time_us: i64,
    /// It is synchronized to an external source, as the kernel knows it (adjtimex(2),
    /// `STA_UNSYNC`).
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
    /// Free space.
    pub free: u64,
}

/// Traffic of a network link (proc_net_dev(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Bytes received.
    pub received_bytes: u64,
    /// Received packets in error or dropped.
    pub received_bad: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets to be sent that were in error or dropped.
    pub sent_bad: u64,
}

/// A setting in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ConfigValue {
    /// The unit; none for the host itself.
    #[serde(default)]
    pub unit: Option<String>,
    /// The key with its tables, `container.image`.
    pub key: String,
    /// The value as TOML.
    pub value: String,
    /// Where it comes from: `units/web.toml:4`, `default`, or `image sha256:…`.
    pub origin: String,
}
