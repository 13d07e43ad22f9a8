//! Keeps the firewall as the supervisor wants it, over modules that are not loaded yet.

use ipc::NetRequest;
use std::time::Duration;
use units::model::Ipv4Net;

use crate::modules;
use crate::netlink::{Netlink, NetlinkError};
use crate::retry::Retry;
use crate::{bridge, nft};

/// A kernel module that is missing may still be loading; after this long it is a failure.
pub const MODULE_PATIENCE: Duration = Duration::from_secs(10);

/// Why the firewall is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The kernel refused for good.
    #[error(transparent)]
    Netlink(NetlinkError),
    /// The kernel does not know something that a module would teach it.
    #[error("{0}; is one of the modules {modules} missing?", modules = modules::FIREWALL.join(", "))]
    Module(NetlinkError),
    /// A kernel setting.
    #[error(transparent)]
    Sysctl(#[from] bridge::SysctlError),
}

impl From<NetlinkError> for FirewallError {
    fn from(error: NetlinkError) -> FirewallError {
        if nft::module_missing(&error) { Self::Module(error) } else { Self::Netlink(error) }
    }
}

/// The published ports, wanted and installed.
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
    /// Knows nothing yet, and leaves what a predecessor installed in force.
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

    /// From now on publish exactly these.
    pub fn want(&mut self, units: Vec<NetRequest>) {
        self.wanted = Some(units);
        self.retry.reset();
        self.reported = false;
    }

    /// When [`Firewall::turn`] is due.
    pub fn deadline(&self) -> Option<Duration> {
        self.wanted.as_ref().and_then(|_| self.retry.next())
    }

    /// Installs what is wanted. Returns a failure once it is one, and goes on trying.
    pub fn turn(&mut self, now: Duration) -> Option<FirewallError> {
        let units = self.wanted.take()?;
        if !self.retry.due(now) {
            self.wanted = Some(units);
            return None;
        }
        if modules::coming(modules::FIREWALL).is_some() && self.retry.failing(now) < MODULE_PATIENCE
        {
            self.retry.failed(now);
            self.wanted = Some(units);
            return None;
        }
        let error = match self.install(&units) {
            Ok(()) => {
                let ports: usize = units.iter().map(|unit| unit.ports.len()).sum();
                log::info!("firewall in force, {ports} published ports");
                self.retry.reset();
                return None;
            }
            Err(error) => error,
        };
        self.wanted = Some(units);
        self.netlink = None;
        let may_pass = matches!(error, FirewallError::Module(_));
        let patience = if may_pass { MODULE_PATIENCE } else { Duration::ZERO };
        if self.retry.failed(now) < patience || self.reported {
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
        // Only behind the firewall does the host become a router.
        if !self.forwarding {
            bridge::disable_filtering()?;
            bridge::enable_loopback(&self.bridge)?;
            bridge::enable_forwarding()?;
            self.forwarding = true;
        }
        Ok(())
    }
}
