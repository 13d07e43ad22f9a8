//! The configuration as types: the content of a host folder after validation.
//!
//! The image builder, the supervisor and netsetup use these types. They hold validated values only;
//! texts, spans and errors stay in the parser.

pub use api_types::Role;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// One container service: the content of `units/NAME.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// The file name without `.toml`: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`, a valid host name label.
    pub name: String,
    /// Free text for people.
    pub description: String,
    /// Ordering only: starts after these units are ready (one-shots: done), stops before them.
    pub after: Vec<String>,
    /// Requirement: these units are started too and must be ready first. Implies `after`.
    pub requires: Vec<String>,
    /// Weak dependency: these units are started too, but their failure has no effect. Implies no order.
    pub wants: Vec<String>,
    /// Host conditions to wait for before each start.
    pub wait_for: Vec<Condition>,
    /// How long to wait for `wait_for` and for dependencies before the start counts as failed.
    /// `None`: no limit.
    pub wait_timeout: Option<Duration>,
    /// Long-running or one-shot.
    pub kind: Kind,
    /// When a started service counts as ready for the units after it.
    pub ready: Ready,
    /// How long a unit may take to become ready before the start counts as failed. `None`: no limit.
    pub start_timeout: Option<Duration>,
    /// When an exited container is restarted, and with which delay.
    pub restart: Restart,
    /// Number of the signal that asks the main process to stop. `None`: the image's, else SIGTERM.
    pub stop_signal: Option<i32>,
    /// Time between the stop signal and killing the whole cgroup.
    pub stop_timeout: Duration,
    /// What the host does when this unit has failed permanently.
    pub on_failure: OnFailure,
    /// Started at boot (`true`), or only manually or as a dependency (`false`).
    pub enabled: bool,
    /// The container itself.
    pub container: Container,
    /// The health check, if there is one.
    pub healthcheck: Option<Healthcheck>,
    /// Resource limits.
    pub limits: Limits,
    /// How much of the container's output is kept.
    pub log: LogPolicy,
}

/// Whether a unit runs continuously or once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Runs until it is stopped; any exit is unexpected.
    Service,
    /// Runs once; exit code 0 is `done` and makes dependents ready, anything else is a failure.
    Oneshot,
}

/// When a started service counts as ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// As soon as its program runs (execve(2) succeeded).
    Started,
    /// When it sends `READY=1` to `$NOTIFY_SOCKET` (sd_notify(3)).
    Notify,
    /// When its first health check passes.
    Healthy,
}

/// A condition of the host that a unit can wait for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// An uplink has an address (`net.addr`).
    NetAddr,
    /// There is a default route (`net.route`).
    NetRoute,
    /// At least one name server is known (`dns`).
    Dns,
    /// The wall clock has been set from a trusted source (`clock`).
    Clock,
    /// The named volume is usable (`volume:NAME`).
    Volume(String),
}

/// The shortest delay after an unstable run. It limits the restart rate of a unit that exits
/// immediately: without a delay some init systems start such a unit 200 to 1,000 times a second.
pub const MIN_RESTART_DELAY: Duration = Duration::from_millis(10);

/// Restart policy and restart delays.
#[derive(Debug, Clone, PartialEq)]
pub struct Restart {
    /// When to restart.
    pub policy: RestartPolicy,
    /// Delay after the first unstable run (default 100 ms), doubled after each further one.
    pub delay: Duration,
    /// Upper bound of the delay (default 60 s).
    pub max_delay: Duration,
    /// Optional: after this many failed attempts within `window` the unit is `failed`.
    pub max_attempts: Option<u32>,
    /// The period in which attempts are counted. `None`: since the last stable run.
    pub window: Option<Duration>,
}

/// When an exited container is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever the exit status (the default for services).
    Always,
    /// Only after a failure (the default for one-shots is `Never`).
    OnFailure,
    /// Never.
    Never,
}

/// What the host does when a unit has failed permanently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Only the unit's state changes.
    Continue,
    /// The host stops all units in order and reboots.
    Reboot,
    /// The host stops all units in order and powers off.
    Poweroff,
}

/// The `[container]` table.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Path of the image below the host folder, as written (`./images/web`).
    pub image: String,
    /// Replaces the image's entrypoint and discards its command, as compose and podman do.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Environment variables; they override those of the image.
    pub environment: BTreeMap<String, String>,
    /// `uid`, `uid:gid`, `name` or `name:group`, as written. `None`: the image's.
    pub user: Option<String>,
    /// Replaces the image's working directory.
    pub working_dir: Option<String>,
    /// Host name inside the container; the unit's name by default.
    pub hostname: Option<String>,
    /// Named volumes and host paths.
    pub volumes: Vec<Volume>,
    /// tmpfs mounts, empty at each start.
    pub tmpfs: Vec<Tmpfs>,
    /// Published ports.
    pub ports: Vec<Port>,
    /// The container's network.
    pub network: NetworkMode,
    /// Whether the root file system is mounted read-only.
    pub read_only: bool,
    /// Capabilities added to the default set, without `CAP_`, upper case.
    pub cap_add: Vec<String>,
    /// Capabilities removed from the default set; `ALL` removes all.
    pub cap_drop: Vec<String>,
    /// The user namespace.
    pub userns: UserNamespace,
    /// Whether set-user-ID bits and file capabilities are ignored (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privileges: bool,
    /// Kernel settings of the container's own namespaces (sysctl(8) names).
    pub sysctls: BTreeMap<String, String>,
    /// Kernel files that are neither masked nor made read-only ([`crate::kernel_files`]).
    pub unmask: Vec<String>,
    /// Device nodes of the host that the container can use.
    pub devices: Vec<Device>,
    /// The seccomp filter.
    pub seccomp: Seccomp,
}

/// The seccomp filter of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seccomp {
    /// The default filter, adapted to the container's capabilities.
    Default,
    /// No filter.
    Unconfined,
    /// A custom profile: a path below the host folder that begins with `./`, as written.
    Profile(String),
}

/// The network of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkMode {
    /// Its own namespace with a veth interface on the host's bridge.
    Bridge,
    /// The host's own namespace.
    Host,
    /// Its own namespace with loopback only.
    None,
}

/// One entry of `volumes`: `NAME:/path[:ro]` or `/host/path:/path[:ro]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// What is mounted.
    pub source: VolumeSource,
    /// Absolute path inside the container.
    pub target: String,
    /// Mounted read-only.
    pub read_only: bool,
}

/// The source of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// A named volume, kept on the data disk, or in memory if the host has none.
    Named(String),
    /// An absolute path of the host.
    HostPath(String),
}

/// One entry of `tmpfs`: `/path[:size=64M][,mode=1777]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Absolute path inside the container.
    pub target: String,
    /// Size limit in bytes; `None`: half of the memory (the kernel's default).
    pub size: Option<u64>,
    /// Mode of its root directory.
    pub mode: u32,
}

/// One entry of `ports`: `[ADDR:]HOST:CONTAINER[/udp]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Port {
    /// Host address on which the port is published; `None`: all addresses.
    pub address: Option<Ipv4Addr>,
    /// Port on the host.
    pub host: u16,
    /// Port in the container.
    pub container: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// Transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP, the default.
    Tcp,
    /// UDP (`/udp`).
    Udp,
}

/// One entry of `devices`: `/dev/X[:/dev/Y]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Path on the host, below /dev.
    pub source: String,
    /// Path inside the container, below /dev.
    pub target: String,
}

/// The `[healthcheck]` table.
#[derive(Debug, Clone, PartialEq)]
pub struct Healthcheck {
    /// How health is probed.
    pub probe: Probe,
    /// Time between the end of a probe and the start of the next one.
    pub interval: Duration,
    /// A probe that takes longer counts as failed.
    pub timeout: Duration,
    /// After this many consecutive failures the unit is unhealthy and is restarted.
    pub retries: u32,
    /// Failures in this period after the start are ignored; a success counts.
    pub start_period: Duration,
}

/// How health is probed. Probes run in the container's network namespace, against loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// An HTTP GET request; healthy if the status is 200 to 399. Written `":80/healthz"`.
    Http {
        /// Port inside the container.
        port: u16,
        /// Path and query, beginning with `/`.
        path: String,
    },
    /// A TCP connection; healthy if it is accepted. Written `":6379"`.
    Tcp {
        /// Port inside the container.
        port: u16,
    },
    /// A command in the container; healthy if it exits with 0.
    Command(Vec<String>),
}

/// The user namespace of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserNamespace {
    /// Its own: 65536 ids that no other unit has; root in the container is unprivileged on the host.
    Auto,
    /// The host's: root in the container is root on the host.
    Host,
}

/// The `[limits]` table; `None` means no limit other than the host's own.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits {
    /// Memory in bytes (`memory.max`).
    pub memory: Option<u64>,
    /// Memory in bytes above which the container is throttled and its memory reclaimed (`memory.high`).
    pub memory_high: Option<u64>,
    /// Swap in bytes (`memory.swap.max`); with a memory limit, 0 unless the unit sets it.
    pub swap: Option<u64>,
    /// CPU time in thousandths of a CPU (500 is half a CPU; `cpu.max`).
    pub cpu_millis: Option<u64>,
    /// CPU weight under contention, 1 to 10000 (`cpu.weight`; the kernel's default is 100).
    pub cpu_weight: Option<u64>,
    /// Bytes read from the data disk per second (`io.max`).
    pub io_read: Option<u64>,
    /// Bytes written to the data disk per second.
    pub io_write: Option<u64>,
    /// Number of tasks (`pids.max`); 2048 unless the unit sets it.
    pub pids: Option<u64>,
    /// Open files per process (`RLIMIT_NOFILE`, soft and hard).
    pub nofile: Option<u64>,
}

/// The `[log]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPolicy {
    /// Size in bytes at which a log file is rotated.
    pub max_size: u64,
    /// Number of files kept, including the current one.
    pub max_files: u32,
}

/// The content of `host.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// The host name.
    pub hostname: String,
    /// `[network]`.
    pub network: Network,
    /// `[storage]`.
    pub storage: Storage,
    /// `[api]`.
    pub api: Api,
}

/// The `[api]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Api {
    /// Whether the API is enabled; `None`: if there is a client.
    pub enabled: Option<bool>,
    /// The clients, by name.
    pub clients: BTreeMap<String, Client>,
}

/// One `[api.client.NAME]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// `SHA256:` and the unpadded base64 of the SHA-256 of the public key
    /// (SubjectPublicKeyInfo, DER).
    pub key: String,
    /// The client's role.
    pub role: Role,
}

/// The `[network]` table.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// The host's address on the container bridge, and the prefix length of the subnet.
    pub bridge: Ipv4Net,
    /// Name servers; empty: those from DHCP.
    pub dns: Vec<IpAddr>,
    /// `[network.interface.NAME]`. Empty: DHCP on every Ethernet link.
    pub interfaces: BTreeMap<String, Interface>,
}

/// One `[network.interface.NAME]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Whether to use DHCPv4 (the default if there is no static address).
    pub dhcp: bool,
    /// Static addresses, `10.0.0.2/24` or `2001:db8::2/64`.
    pub address: Vec<IpNet>,
    /// Static default gateways, at most one per family.
    pub gateway: Vec<IpAddr>,
    /// MTU in bytes; `None`: from DHCP, else the link's own.
    pub mtu: Option<u32>,
}

/// An IPv4 address with a prefix length; the host bits are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ipv4Net {
    /// The address.
    pub addr: Ipv4Addr,
    /// 0 to 32.
    pub prefix: u8,
}

/// An IPv4 or IPv6 address with a prefix length; the host bits are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpNet {
    /// The address.
    pub addr: IpAddr,
    /// 0 to 32 or 0 to 128.
    pub prefix: u8,
}

/// The `[storage]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// Whether named volumes and log files need the data disk.
    pub data: DataDisk,
}

/// How the host uses its data disk (the ext4 file system labelled `KEEL-DATA`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataDisk {
    /// Use it if it is present at boot; otherwise volumes are kept in memory until the next boot.
    Auto,
    /// Never use one.
    Memory,
    /// Required: units with named volumes do not start without it.
    Required,
}

/// A whole host folder.
#[derive(Debug, Clone, PartialEq)]
pub struct HostConfig {
    /// `host.toml`.
    pub host: Host,
    /// `units/*.toml`, by name.
    pub units: BTreeMap<String, Unit>,
}
