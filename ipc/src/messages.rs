//! The messages. Descriptors are attached in the order in which the documentation names them.

use api_types::{DataDisk, ExitStatus, Network, Phase, ShutdownKind};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// The key under which PID 1 itself keeps the supervisor's end of its link with api
/// ([`FromInit::Stored`]). Each api gets a new link.
pub const API_LINK: &str = "link/api";

/// From a service of PID 1 to PID 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToInit {
    /// The sender has started and has processed what PID 1 sent it.
    Ready,
    /// Keep the attached descriptors under `key` until [`ToInit::Drop`], also when the sender dies,
    /// and send duplicates to `holder` now and at each of its starts.
    Store {
        /// Unique name, e.g. `log/web/17`. Storing a name again replaces it.
        key: String,
        /// The process that gets a copy (and again after a restart).
        holder: Service,
    },
    /// Close the descriptors that are kept under `key`.
    Drop {
        /// The name given to [`ToInit::Store`].
        key: String,
    },
    /// All exits up to this sequence number are recorded; PID 1 may forget them.
    AckExits {
        /// From [`FromInit::Exited`].
        seq: u64,
    },
    /// Shut the host down in order (requested by a unit's `on_failure` or by a person).
    Shutdown {
        /// How it ends.
        kind: ShutdownKind,
        /// The reason, which is shown and logged.
        reason: String,
    },
    /// Every unit has been stopped; continue the shutdown.
    UnitsStopped,
    /// The duration of a boot phase: shown on the console and recorded in
    /// `layout::paths::RUN_BOOT`.
    Phase(Phase),
    /// From `devices`: the state of the data disk; forwarded as [`FromInit::DataDisk`].
    DataDisk(DataDisk),
}

/// From PID 1 to its services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromInit {
    /// Stored descriptors (attached): at the start of a process once for each key whose holder it
    /// is, and later at each [`ToInit::Store`] by another process. To the supervisor also at each
    /// start of api ([`API_LINK`]).
    Stored {
        /// Its name.
        key: String,
    },
    /// All descriptors that were stored before this start have been sent, and the state of the data
    /// disk if it is known.
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
    /// The state of the data disk; sent at each start and each change.
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
    /// Stores the containers' output.
    Logger,
    /// Loads modules for hardware, finds the data disk, handles the power button.
    Devices,
    /// Serves the API over the network.
    Api,
}

impl Service {
    /// All of them, in the order in which PID 1 starts them.
    pub const ALL: [Service; 5] =
        [Service::Devices, Service::Supervisor, Service::Netsetup, Service::Logger, Service::Api];

    /// The `argv[0]` that selects this process in the boot program.
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

/// From the supervisor to netsetup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToNet {
    /// Connect the attached network namespace to the bridge. Attached: the namespace, and a
    /// `NETLINK_ROUTE` socket that was opened inside it. A repeated request for a unit that is
    /// already attached is answered immediately and changes nothing. The namespace belongs to the
    /// unit, not to a run: it stays attached when the unit is restarted.
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

/// From netsetup to the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromNet {
    /// netsetup has just started (or restarted) and does not know any unit: send everything again.
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
