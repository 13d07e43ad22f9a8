//! The uplinks of the host and their state.
//!
//! With `[network.interface.NAME]` in host.toml, exactly those links; otherwise every Ethernet link
//! with a device (no bridges, no veth pairs), with DHCP. A link that appears later is configured
//! then, and nothing waits for one that does not appear.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;
use units::model::{Interface, Network};

use crate::links::{self, Link};
use crate::monitor::LinkEvent;
use crate::netlink::NetlinkError;
use crate::resolv;
use crate::uplink::{Context, Uplink};

/// The required configuration of a link; `None`: it is not an uplink.
pub fn settings(network: &Network, link: &Link) -> Option<Interface> {
    if !network.interfaces.is_empty() {
        return network.interfaces.get(&link.name).cloned();
    }
    let dhcp = Interface { dhcp: true, address: Vec::new(), gateway: Vec::new(), mtu: None };
    (link.ethernet() && link.physical && link.mac.is_some()).then_some(dhcp)
}

/// All uplinks, by interface index.
#[derive(Debug)]
pub struct Uplinks {
    network: Network,
    hostname: String,
    directory: PathBuf,
    all: BTreeMap<u32, Uplink>,
    resolv: Option<String>,
}

impl Uplinks {
    /// Without links yet. Leases and resolv.conf are written to `directory`.
    pub fn new(network: Network, hostname: String, directory: PathBuf) -> Uplinks {
        Uplinks { network, hostname, directory, all: BTreeMap::new(), resolv: None }
    }

    /// Updates all links to their current state.
    ///
    /// # Errors
    /// The links cannot be listed.
    pub fn list(&mut self, context: &mut Context<'_>) -> Result<(), NetlinkError> {
        let links = links::list(context.netlink)?;
        self.all.retain(|index, _| links.iter().any(|link| link.index == *index));
        for link in links {
            self.link(context, link);
        }
        Ok(())
    }

    /// Handles an event.
    ///
    /// # Errors
    /// Events were lost, and the links cannot be listed.
    pub fn handle(
        &mut self,
        context: &mut Context<'_>,
        event: LinkEvent,
    ) -> Result<(), NetlinkError> {
        match event {
            LinkEvent::Link(link) => self.link(context, link),
            LinkEvent::Removed(index) => {
                if let Some(removed) = self.all.remove(&index) {
                    log::warn!("{}: network interface removed", removed.link().name);
                }
            }
            LinkEvent::Lost => self.list(context)?,
        }
        Ok(())
    }

    fn link(&mut self, context: &mut Context<'_>, link: Link) {
        let index = link.index;
        if let Some(uplink) = self.all.get_mut(&index) {
            if uplink.same(&link) {
                return uplink.changed(context, link);
            }
            self.all.remove(&index);
        }
        if let Some(settings) = settings(&self.network, &link) {
            let lease = self.directory.join(format!("lease-{}.json", link.name));
            let uplink = Uplink::start(context, link, settings, &self.hostname, lease);
            self.all.insert(index, uplink);
        }
    }

    /// Handles everything that is due on all uplinks.
    pub fn turn(&mut self, context: &mut Context<'_>) {
        for uplink in self.all.values_mut() {
            uplink.turn(context);
        }
    }

    /// When [`Uplinks::turn`] is due.
    pub fn deadline(&self, now: Duration) -> Option<Duration> {
        self.all.values().filter_map(|uplink| uplink.deadline(now)).min()
    }

    /// The sockets to poll.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all.values().flat_map(|uplink| uplink.sockets().fds())
    }

    /// The state of the host's network.
    pub fn state(&self, now: Duration) -> ipc::Network {
        let mut state = ipc::Network { dns: self.dns(), ..ipc::Network::default() };
        for uplink in self.all.values() {
            let name = &uplink.link().name;
            for net in uplink.addresses() {
                state.addresses.push((name.clone(), format!("{}/{}", net.addr, net.prefix)));
            }
            if state.gateway.is_none() && !uplink.addresses().is_empty() {
                state.gateway = uplink.gateway();
            }
            state.waiting.extend(uplink.waiting(now));
        }
        for name in self.network.interfaces.keys() {
            if !self.all.values().any(|uplink| uplink.link().name == *name) {
                state
                    .waiting
                    .push(format!("{name}: network interface not found (declared in host.toml)"));
            }
        }
        if self.all.is_empty() && self.network.interfaces.is_empty() {
            state.waiting.push("no Ethernet interface found".into());
        }
        state
    }

    /// The name servers: those in host.toml, otherwise those of the leases.
    fn dns(&self) -> Vec<IpAddr> {
        if !self.network.dns.is_empty() {
            return self.network.dns.clone();
        }
        let mut servers = Vec::new();
        for held in self.all.values().filter_map(Uplink::held) {
            for server in held.lease.dns.iter().copied().map(IpAddr::from) {
                if !servers.contains(&server) {
                    servers.push(server);
                }
            }
        }
        servers
    }

    /// Writes resolv.conf if its content has changed.
    pub fn write_resolv(&mut self) {
        let domain = self
            .all
            .values()
            .filter_map(Uplink::held)
            .find_map(|held| held.lease.domain.as_deref());
        let text = resolv::text(&self.dns(), domain);
        if self.resolv.as_ref() == Some(&text) {
            return;
        }
        let path = self.directory.join("resolv.conf");
        // Containers run under other users and read this file through a mount.
        if let Err(error) = resolv::rewrite(&path, &text, 0o644) {
            log::error!("write {}: {error}", path.display());
        }
        // Also after an error: it would occur again in every iteration.
        self.resolv = Some(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use units::model::Ipv4Net;

    fn network(declared: &[&str]) -> Network {
        let interface =
            Interface { dhcp: true, address: Vec::new(), gateway: Vec::new(), mtu: None };
        Network {
            bridge: Ipv4Net { addr: [10, 88, 0, 1].into(), prefix: 16 },
            dns: Vec::new(),
            interfaces: declared.iter().map(|name| (name.to_string(), interface.clone())).collect(),
        }
    }

    proptest! {
        #[test]
        fn only_hardware_ethernet_is_configured_by_default(
            physical: bool, ethernet: bool, mac in proptest::option::of(any::<[u8; 6]>()),
        ) {
            let layer = if ethernet { libc::ARPHRD_ETHER } else { libc::ARPHRD_LOOPBACK };
            let link = Link { name: "eth0".into(), physical, layer, mac, ..Link::default() };
            let taken = settings(&network(&[]), &link).is_some();
            prop_assert_eq!(taken, physical && ethernet && mac.is_some());
            // With declared interfaces, exactly these are configured, whatever they are.
            prop_assert!(settings(&network(&["eth0"]), &link).is_some());
            prop_assert!(settings(&network(&["eth1"]), &link).is_none());
        }
    }

    #[test]
    fn missing_interfaces_are_named() {
        let state = |declared| {
            Uplinks::new(network(declared), "h".into(), "/nonexistent".into())
                .state(Duration::ZERO)
                .waiting
        };
        assert_eq!(state(&[]), ["no Ethernet interface found"]);
        assert_eq!(state(&["eth0"]), ["eth0: network interface not found (declared in host.toml)"]);
    }
}
