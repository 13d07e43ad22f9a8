//! The vocabulary as types: what a host folder says once it has been read and found right.
//!
//! These types are the agreement between the parser (`units`), the image builder, the supervisor
//! and netsetup. They hold validated values only; text, spans and mistakes live in the parser.

pub use api_types::Role;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// One container service: the content of `units/NAME.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// The file's name without `.toml`: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`, a valid host name label.
    pub name: String,
    /// Free text for people.
    pub description: String,
    /// Order only: start after these units are ready (or done, for one-shots), stop before them.
    pub after: Vec<String>,
    /// Need: these units are started too and must be ready first; implies `after`.
    pub requires: Vec<String>,
    /// Would like: these units are started too, their failure changes nothing; implies no order.
    pub wants: Vec<String>,
    /// Host conditions to wait for before each start.
    pub wait_for: Vec<Condition>,
    /// How long to wait for `wait_for` and for dependencies before the start counts as failed.
    /// `None` waits for ever.
    pub wait_timeout: Option<Duration>,
    /// Long-running or run-once.
    pub kind: Kind,
    /// What makes a started service ready for those that come after it.
    pub ready: Ready,
    /// How long a start may take to become ready before it counts as failed. `None`: for ever.
    pub start_timeout: Option<Duration>,
    /// When an ended container is started again, and how fast.
    pub restart: Restart,
    /// Signal number that asks the main process to stop. `None`: the image's, else SIGTERM.
    pub stop_signal: Option<i32>,
    /// Grace between the stop signal and killing the whole cgroup.
    pub stop_timeout: Duration,
    /// What happens to the host when this unit has failed for good.
    pub on_failure: OnFailure,
    /// Started at boot (`true`) or only by hand or as somebody's dependency.
    pub enabled: bool,
    /// The container itself.
    pub container: Container,
    /// How its health is asked, if at all.
    pub healthcheck: Option<Healthcheck>,
    /// Resource limits.
    pub limits: Limits,
    /// How much of its output is kept.
    pub log: LogPolicy,
}

/// Whether a unit is meant to stay up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Runs until stopped; any end is unexpected.
    Service,
    /// Runs once; exit code 0 is `done` and makes dependents ready, anything else is a failure.
    Oneshot,
}

/// When a started service counts as ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// As soon as its program runs (the exec succeeded).
    Started,
    /// When it sends `READY=1` to `$NOTIFY_SOCKET` (sd_notify(3)).
    Notify,
    /// When its first health check passes.
    Healthy,
}

/// A fact about the host that a unit can wait for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Some uplink has an address (`net.addr`).
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

/// Restart policy and its pace.
#[derive(Debug, Clone, PartialEq)]
pub struct Restart {
    /// When to start again.
    pub policy: RestartPolicy,
    /// First delay after an unstable run (default 100 ms), doubled for each further one.
    pub delay: Duration,
    /// Upper bound of the delay (default 60 s).
    pub max_delay: Duration,
    /// Opt-in: after this many failed attempts within `window` the unit is `failed`.
    pub max_attempts: Option<u32>,
    /// The span in which `max_attempts` counts. `None`: since the last stable run.
    pub window: Option<Duration>,
}

/// When an ended container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever the exit status (the default for services).
    Always,
    /// Only after a failure (the default for one-shots is `Never`).
    OnFailure,
    /// Not at all.
    Never,
}

/// The host's reaction to a unit that has failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing but the unit's state changes.
    Continue,
    /// The host shuts down in order and reboots.
    Reboot,
    /// The host shuts down in order and powers off.
    Poweroff,
}

/// The `[container]` table.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Where the image lies, as written: a path below the host folder (`./images/web`).
    pub image: String,
    /// Replaces the image's entrypoint (and drops its command, as compose and podman do).
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Added to the image's environment, which it overrides.
    pub environment: BTreeMap<String, String>,
    /// `uid`, `uid:gid`, `name` or `name:group`, as written. `None`: the image's.
    pub user: Option<String>,
    /// Replaces the image's working directory.
    pub working_dir: Option<String>,
    /// Host name inside; the unit's name by default.
    pub hostname: Option<String>,
    /// Named volumes and host paths.
    pub volumes: Vec<Volume>,
    /// Fresh tmpfs mounts.
    pub tmpfs: Vec<Tmpfs>,
    /// Published ports.
    pub ports: Vec<Port>,
    /// Which network the container sees.
    pub network: NetworkMode,
    /// Mount the root read-only.
    pub read_only: bool,
    /// Capabilities added to the default set, without `CAP_`, upper case.
    pub cap_add: Vec<String>,
    /// Capabilities taken from the default set; `ALL` takes all.
    pub cap_drop: Vec<String>,
    /// Whose users the container's users are.
    pub userns: UserNamespace,
    /// Nothing that is executed gains privilege: set-user-id bits and file capabilities are inert.
    pub no_new_privileges: bool,
    /// Settings of the kernel that belong to the container's own namespaces (sysctl(8) names).
    pub sysctls: BTreeMap<String, String>,
    /// Kernel files that are not hidden from it or are not read-only
    /// ([`crate::kernel_files`]).
    pub unmask: Vec<String>,
    /// Host device nodes made visible inside.
    pub devices: Vec<Device>,
    /// Which system calls it may make.
    pub seccomp: Seccomp,
}

/// The filter of system calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seccomp {
    /// The host's own, which fits the capabilities.
    Default,
    /// None.
    Unconfined,
    /// A profile of the user's: a path below the host folder that begins with `./`, as written.
    Profile(String),
}

/// What a container sees of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkMode {
    /// Own namespace, one veth on the host's bridge.
    Bridge,
    /// The host's own namespace.
    Host,
    /// Own namespace with loopback only.
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

/// What a volume entry names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// A named volume, kept on the data disk (or in memory where the host has none).
    Named(String),
    /// An absolute path of the host.
    HostPath(String),
}

/// One entry of `tmpfs`: `/path[:size=64M][,mode=1777]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Absolute path inside the container.
    pub target: String,
    /// Upper bound in bytes; `None`: half of the memory (the kernel's default).
    pub size: Option<u64>,
    /// Mode of its root directory.
    pub mode: u32,
}

/// One entry of `ports`: `[ADDR:]HOST:CONTAINER[/udp]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Port {
    /// Only connections to this host address; `None`: to any.
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
    /// Path inside, below /dev.
    pub target: String,
}

/// The `[healthcheck]` table.
#[derive(Debug, Clone, PartialEq)]
pub struct Healthcheck {
    /// How to ask.
    pub probe: Probe,
    /// Time between the end of one probe and the start of the next.
    pub interval: Duration,
    /// A probe that takes longer has failed.
    pub timeout: Duration,
    /// This many failures in a row make the unit unhealthy, which restarts it.
    pub retries: u32,
    /// Failures in this span after the start do not count (successes do).
    pub start_period: Duration,
}

/// How health is asked. Probes run in the container's own network namespace, against loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// GET; healthy when the status is 200 to 399. Written `":80/healthz"`.
    Http {
        /// Port inside the container.
        port: u16,
        /// Path and query, beginning with `/`.
        path: String,
    },
    /// A connection is accepted. Written `":6379"`.
    Tcp {
        /// Port inside the container.
        port: u16,
    },
    /// A command run inside the container exits with 0.
    Command(Vec<String>),
}

/// Whose users the container's users are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserNamespace {
    /// The unit's own: 65536 ids that nobody else has; root inside is nobody on the host.
    Auto,
    /// The host's: root inside is root.
    Host,
}

/// The `[limits]` table; `None` means no limit beyond the host's own.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits {
    /// Bytes of memory (`memory.max`).
    pub memory: Option<u64>,
    /// Bytes of memory from which on it is slowed down and made to give some back (`memory.high`).
    pub memory_high: Option<u64>,
    /// Bytes of swap (`memory.swap.max`); with a limit of memory 0 unless the unit says otherwise.
    pub swap: Option<u64>,
    /// CPUs, in thousandths (500 is half a CPU; `cpu.max`).
    pub cpu_millis: Option<u64>,
    /// Share of the CPUs where they are scarce, 1 to 10000 (`cpu.weight`; the kernel's own is 100).
    pub cpu_weight: Option<u64>,
    /// Bytes read from the data disk in a second (`io.max`).
    pub io_read: Option<u64>,
    /// Bytes written to the data disk in a second.
    pub io_write: Option<u64>,
    /// Number of tasks (`pids.max`); 2048 unless the unit says otherwise.
    pub pids: Option<u64>,
    /// Open files per process (`RLIMIT_NOFILE`, soft and hard).
    pub nofile: Option<u64>,
}

/// The `[log]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPolicy {
    /// Bytes at which a log file is rotated.
    pub max_size: u64,
    /// Rotated files kept, the current one included.
    pub max_files: u32,
}

/// The content of `host.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// The machine's name.
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
    /// Whether it is asked for; `None`: if there is a client.
    pub enabled: Option<bool>,
    /// Who may call, by name.
    pub clients: BTreeMap<String, Client>,
}

/// One `[api.client.NAME]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// `SHA256:` and the unpadded base64 of the SHA-256 of the public key
    /// (SubjectPublicKeyInfo, DER).
    pub key: String,
    /// What they may do.
    pub role: Role,
}

/// The `[network]` table.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Address of the host on the containers' bridge and the prefix of their subnet.
    pub bridge: Ipv4Net,
    /// Name servers; empty: those that DHCP gives.
    pub dns: Vec<IpAddr>,
    /// `[network.interface.NAME]`. Empty: DHCP on every Ethernet link.
    pub interfaces: BTreeMap<String, Interface>,
}

/// One `[network.interface.NAME]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Ask DHCPv4 (the default when no address is given).
    pub dhcp: bool,
    /// Static addresses, `10.0.0.2/24` or `2001:db8::2/64`.
    pub address: Vec<IpNet>,
    /// Static default gateways, at most one per family.
    pub gateway: Vec<IpAddr>,
    /// MTU in bytes; `None`: the link's own (or what DHCP says).
    pub mtu: Option<u32>,
}

/// An IPv4 address with a prefix length; host bits are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ipv4Net {
    /// The address.
    pub addr: Ipv4Addr,
    /// 0 to 32.
    pub prefix: u8,
}

/// An address with a prefix length; host bits are kept.
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

/// What the host does about its data disk (the ext4 file system labelled `KEEL-DATA`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataDisk {
    /// Use it if it is there at boot; else volumes live in memory for this boot.
    Auto,
    /// Never look for one.
    Memory,
    /// Wait for it; units with named volumes do not start without it.
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
