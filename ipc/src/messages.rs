//! The messages themselves. Descriptors travel beside a message, in the order its text names.

use api_types::{DataDisk, ExitStatus, Network, Phase, ShutdownKind};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// The key under which PID 1 itself keeps the supervisor's end of its link with api
/// ([`FromInit::Stored`]). The link is made anew for each api.
pub const API_LINK: &str = "link/api";

/// Anything PID 1 started, to PID 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToInit {
    /// The sender is up and has taken in what PID 1 gave it.
    Ready,
    /// Keep the attached descriptors under `key` until [`ToInit::Drop`], over any death of the
    /// sender, and hand a copy to `holder` now and at each of its starts.
    Store {
        /// Unique name, e.g. `log/web/17`. Storing a name again replaces it.
        key: String,
        /// The process that gets a copy (and again after a restart).
        holder: Service,
    },
    /// Close what is kept under `key`.
    Drop {
        /// The name given to [`ToInit::Store`].
        key: String,
    },
    /// All exits up to this sequence number are recorded; PID 1 may forget them.
    AckExits {
        /// From [`FromInit::Exited`].
        seq: u64,
    },
    /// Shut the host down in order (asked by a unit's `on_failure` or by a person).
    Shutdown {
        /// How it ends.
        kind: ShutdownKind,
        /// Shown and logged.
        reason: String,
    },
    /// Every unit has been stopped; go on with the shutdown.
    UnitsStopped,
    /// Something at boot took this long: shown on the console and kept in `layout::paths::RUN_BOOT`.
    Phase(Phase),
    /// From `devices`: what became of the data disk; passed on as [`FromInit::DataDisk`].
    DataDisk(DataDisk),
}

/// PID 1 to the processes it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromInit {
    /// A stored descriptor set (attached): at the start of a process once for each key whose
    /// holder it is, and later at each [`ToInit::Store`] by somebody else. To the supervisor also at
    /// each start of api ([`API_LINK`]).
    Stored {
        /// Its name.
        key: String,
    },
    /// All that was stored before this start has been handed over, and the data disk's state said if
    /// it is known.
    StoredEnd,
    /// A child of PID 1 that is not one of its own services ended. Repeated at each start of the
    /// supervisor until acknowledged.
    Exited {
        /// Rises by one for each exit of this boot.
        seq: u64,
        /// Process id in the host's pid namespace.
        pid: i32,
        /// How it ended.
        status: ExitStatus,
        /// `CLOCK_MONOTONIC` in milliseconds when it was reaped.
        at_ms: u64,
    },
    /// Stop every unit in order, then answer [`ToInit::UnitsStopped`].
    StopUnits {
        /// How the shutdown ends.
        kind: ShutdownKind,
    },
    /// What became of the data disk; repeated at each start and each change.
    DataDisk(DataDisk),
}

/// The processes that PID 1 starts and restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Runs the units.
    Supervisor,
    /// Configures the network.
    Netsetup,
    /// Keeps what the containers write.
    Logger,
    /// Loads modules for hardware, finds the data disk, listens to the power button.
    Devices,
    /// Listens to the network for those who may control the host.
    Api,
}

impl Service {
    /// All of them, in the order in which PID 1 starts them.
    pub const ALL: [Service; 5] =
        [Service::Devices, Service::Supervisor, Service::Netsetup, Service::Logger, Service::Api];

    /// The `argv[0]` under which the binary becomes this process.
    pub fn applet(self) -> &'static str {
        match self {
            Service::Supervisor => "keel-supervisor",
            Service::Netsetup => "keel-netsetup",
            Service::Logger => "keel-logger",
            Service::Devices => "keel-devices",
            Service::Api => "keel-api",
        }
    }
}

/// The supervisor to netsetup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToNet {
    /// Give the attached network namespace its place on the bridge. Attached: the namespace, and a
    /// `NETLINK_ROUTE` socket that was opened inside it. Asking again for a unit that is already
    /// attached is answered at once and changes nothing. The namespace belongs to the unit, not to
    /// one run of it: it stays attached over restarts.
    Attach {
        /// The unit and its ports.
        unit: NetRequest,
        /// Comes back with the answer: one about an earlier namespace of the unit says nothing about
        /// this one.
        request: u64,
    },
    /// Publish exactly these units' ports from now on (one nftables transaction). Sent at the
    /// supervisor's start and whenever the set changes.
    Ports {
        /// All units with published ports.
        units: Vec<NetRequest>,
    },
}

/// What netsetup needs to know of a bridged unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetRequest {
    /// The unit's name.
    pub unit: String,
    /// Its address on the bridge.
    pub address: Ipv4Addr,
    /// Its published ports.
    pub ports: Vec<PublishedPort>,
}

/// One published port of a bridged unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Only for this host address; `None`: any.
    pub host_address: Option<Ipv4Addr>,
    /// Port on the host.
    pub host: u16,
    /// Port in the container.
    pub container: u16,
    /// UDP instead of TCP.
    pub udp: bool,
}

/// netsetup to the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromNet {
    /// netsetup has just started (or restarted) and knows of no unit: send everything again.
    Hello,
    /// The unit's namespace is ready to use.
    Attached {
        /// The unit's name.
        unit: String,
        /// From [`ToNet::Attach`].
        request: u64,
    },
    /// The unit's namespace could not be set up.
    AttachFailed {
        /// The unit's name.
        unit: String,
        /// From [`ToNet::Attach`].
        request: u64,
        /// The step and the error, for people.
        reason: String,
    },
    /// The port maps could not be installed.
    PortsFailed {
        /// The step and the error, for people.
        reason: String,
    },
    /// The state of the host's own network; sent at each change and after each [`ToNet::Ports`].
    State(Network),
}
