//! The process that configures the host's network: the containers' bridge, their veth pairs,
//! published ports, and the uplinks with static addresses or DHCPv4.
//!
//! One thread, one poll loop ([`app`]). It has CAP_NET_ADMIN, CAP_NET_RAW and CAP_NET_BIND_SERVICE
//! and needs no other privilege. It can be killed at any instant: its configuration stays in the
//! kernel, where the next process finds it; leases are in a file; the supervisor repeats everything
//! else after [`ipc::FromNet::Hello`].
//!
//! | module | concern |
//! |---|---|
//! | [`netlink`], [`attr`] | requests to the kernel and its responses |
//! | [`links`], [`addresses`], [`routes`] | single operations, each safe to repeat |
//! | [`bridge`], [`attach`] | the containers' network |
//! | [`nft`], [`firewall`] | published ports, masquerade, default-deny forwarding |
//! | [`dhcp`], [`lease_file`] | the DHCP client |
//! | [`uplinks`], [`uplink`], [`monitor`] | which links are uplinks, and their configuration |
//! | [`resolv`] | resolv.conf |

pub mod addresses;
pub mod app;
pub mod attach;
pub mod attr;
pub mod bridge;
pub mod dhcp;
pub mod firewall;
pub mod lease_file;
pub mod links;
pub mod modules;
pub mod monitor;
pub mod netlink;
pub mod nft;
pub mod resolv;
pub mod retry;
pub mod routes;
pub mod uplink;
pub mod uplinks;

use ipc::Channel;
use layout::{HostFolder, paths};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use units::model::Host;

use app::{App, AppError, Settings};

/// The applet `keel-netsetup`. Exits only after a fatal error; PID 1 restarts it.
pub fn main() -> ExitCode {
    let error = match run() {
        Ok(never) => match never {},
        Err(error) => error,
    };
    log::error!("{error}");
    ExitCode::FAILURE
}

fn run() -> Result<std::convert::Infallible, AppError> {
    let link =
        |number, peer| Channel::inherited(number).map_err(|error| AppError::Link(peer, error));
    let init = link(ipc::fds::INIT, "PID 1")?;
    let supervisor = link(ipc::fds::NET, "the supervisor")?;
    let directory = Path::new(paths::RUN_RESOLV).parent().map(Path::to_path_buf);
    let settings = Settings {
        host: host(),
        bridge: paths::BRIDGE.into(),
        directory: directory.unwrap_or_else(|| PathBuf::from(paths::RUN)),
    };
    let mut app = App::start(settings, supervisor, init, since_boot)?;
    loop {
        app.turn(None)?;
    }
}

/// Reads host.toml; missing or invalid values have their defaults (the supervisor reports the errors).
fn host() -> Host {
    let folder = HostFolder::read_host(Path::new(paths::CONFIG));
    for unreadable in &folder.unreadable {
        log::warn!("{unreadable}; using defaults");
    }
    folder.load().config.host
}

/// The time since boot, including suspend: leases expire while a machine is suspended.
pub fn since_boot() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map(Duration::from).unwrap_or_default()
}
