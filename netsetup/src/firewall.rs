//! Installs the firewall that the supervisor requests, retrying while modules are not loaded yet.

use ipc::NetRequest;
use std::time::Duration;
use units::model::Ipv4Net;

use crate::modules;
use crate::netlink::{Netlink, NetlinkError};
use crate::retry::Retry;
use crate::{bridge, nft};

/// A missing kernel module may still be loading; after this time it is an error.
pub const MODULE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the firewall is not installed.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The kernel refused it permanently.
    #[error(transparent)]
    Netlink(NetlinkError),
    /// The kernel lacks a feature that a module provides.
    #[error("{0}; one of the modules {modules} may be missing", modules = modules::FIREWALL.join(", "))]
    Module(NetlinkError),
    /// A sysctl.
    #[error(transparent)]
    Sysctl(#[from] bridge::SysctlError),
}

impl From<NetlinkError> for FirewallError {
    fn from(error: NetlinkError) -> FirewallError {
        if nft::module_missing(&error) { Self::Module(error) } else { Self::Netlink(error) }
    }
}

/// The firewall: requested and installed ports.
#[derive(Debug)]
pub struct Firewall {
    bridge: String,
    net: Ipv4Net,
    wanted: Option<Vec<NetRequest>>,
    retry: Retry,
    reported: bool,
    netlink: Option<Netlink>,
    forwarding: bool,
}

impl Firewall {
    /// Without a request yet; the rules of a previous process stay in force.
    pub fn new(bridge: &str, net: Ipv4Net) -> Firewall {
        Firewall {
            bridge: bridge.into(),
            net,
            wanted: None,
            retry: Retry::default(),
            reported: false,
            netlink: None,
            forwarding: false,
        }
    }

    /// Requests exactly these published ports.
    pub fn want(&mut self, units: Vec<NetRequest>) {
        self.wanted = Some(units);
        self.retry.reset();
        self.reported = false;
    }

    /// When [`Firewall::turn`] is due.
    pub fn deadline(&self) -> Option<Duration> {
        self.wanted.as_ref().and_then(|_| self.retry.next())
    }

    /// Installs the requested rules. Returns a permanent error once, and keeps retrying.
    pub fn turn(&mut self, now: Duration) -> Option<FirewallError> {
        let units = self.wanted.take()?;
        if !self.retry.due(now) {
            self.wanted = Some(units);
            return None;
        }
        let loading = modules::not_yet_loaded(modules::FIREWALL).is_some();
        if loading && self.retry.failing(now) < MODULE_TIMEOUT {
            self.retry.failed(now);
            self.wanted = Some(units);
            return None;
        }
        let error = match self.install(&units) {
            Ok(()) => {
                let ports: usize = units.iter().map(|unit| unit.ports.len()).sum();
                log::info!("firewall installed, {ports} published ports");
                self.retry.reset();
                return None;
            }
            Err(error) => error,
        };
        self.wanted = Some(units);
        self.netlink = None;
        let transient = matches!(error, FirewallError::Module(_));
        let timeout = if transient { MODULE_TIMEOUT } else { Duration::ZERO };
        if self.retry.failed(now) < timeout || self.reported {
            return None;
        }
        self.reported = true;
        log::error!("firewall: {error}");
        Some(error)
    }

    fn install(&mut self, units: &[NetRequest]) -> Result<(), FirewallError> {
        let netlink = match &mut self.netlink {
            Some(netlink) => netlink,
            none => none.insert(Netlink::open(libc::NETLINK_NETFILTER)?),
        };
        nft::replace(netlink, &nft::chains(&self.bridge, self.net, units))?;
        // Enable forwarding only with the firewall installed.
        if !self.forwarding {
            bridge::disable_filtering()?;
            bridge::enable_loopback(&self.bridge)?;
            bridge::enable_forwarding()?;
            self.forwarding = true;
        }
        Ok(())
    }
}
