//! Which links lead out of the host, and the state of them all.
//!
//! With `[network.interface.NAME]` in host.toml, exactly those; else every Ethernet link with a
//! device behind it (no bridges, no veth pairs) asks DHCP. A link that comes later is taken over
//! when it comes, and nothing waits for one that does not.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;
use units::model::{Interface, Network};

use crate::links::{self, Link};
use crate::monitor::News;
use crate::netlink::NetlinkError;
use crate::resolv;
use crate::uplink::{Context, Uplink};

/// What the host wants of a link; `None`: it is no uplink.
pub fn wish(network: &Network, link: &Link) -> Option<Interface> {
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
    /// None yet. Leases and resolv.conf are kept in `directory`.
    pub fn new(network: Network, hostname: String, directory: PathBuf) -> Uplinks {
        Uplinks { network, hostname, directory, all: BTreeMap::new(), resolv: None }
    }

    /// Takes in all links as they are now.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn list(&mut self, context: &mut Context<'_>) -> Result<(), NetlinkError> {
        let links = links::list(context.netlink)?;
        self.all.retain(|index, _| links.iter().any(|link| link.index == *index));
        for link in links {
            self.link(context, link);
        }
        Ok(())
    }

    /// Takes in a piece of news.
    ///
    /// # Errors
    /// Some was lost, and the links cannot be listed.
    pub fn news(&mut self, context: &mut Context<'_>, news: News) -> Result<(), NetlinkError> {
        match news {
            News::Link(link) => self.link(context, link),
            News::Gone(index) => {
                if let Some(gone) = self.all.remove(&index) {
                    log::warn!("{} is gone", gone.link().name);
                }
            }
            News::Lost => self.list(context)?,
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
        if let Some(wish) = wish(&self.network, &link) {
            let lease = self.directory.join(format!("lease-{}.json", link.name));
            let uplink = Uplink::start(context, link, wish, &self.hostname, lease);
            self.all.insert(index, uplink);
        }
    }

    /// Does what is due on all of them.
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
                state.waiting.push(format!("no network interface {name} (declared in host.toml)"));
            }
        }
        if self.all.is_empty() && self.network.interfaces.is_empty() {
            state.waiting.push("no Ethernet interface found".into());
        }
        state
    }

    /// Those that host.toml names, else those of the leases.
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

    /// Writes resolv.conf if it should say something else than it does.
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
        // Also after a failure: it would fail again at every turn.
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
        fn only_hardware_ethernet_is_taken_unasked(
            physical: bool, ethernet: bool, mac in proptest::option::of(any::<[u8; 6]>()),
        ) {
            let layer = if ethernet { libc::ARPHRD_ETHER } else { libc::ARPHRD_LOOPBACK };
            let link = Link { name: "eth0".into(), physical, layer, mac, ..Link::default() };
            let taken = wish(&network(&[]), &link).is_some();
            prop_assert_eq!(taken, physical && ethernet && mac.is_some());
            // What is declared is taken whatever it is, and nothing else is.
            prop_assert!(wish(&network(&["eth0"]), &link).is_some());
            prop_assert!(wish(&network(&["eth1"]), &link).is_none());
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let state = |declared| {
            Uplinks::new(network(declared), "h".into(), "/nonexistent".into())
                .state(Duration::ZERO)
                .waiting
        };
        assert_eq!(state(&[]), ["no Ethernet interface found"]);
        assert_eq!(state(&["eth0"]), ["no network interface eth0 (declared in host.toml)"]);
    }
}
