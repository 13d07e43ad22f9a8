//! Routes of the main table.

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use units::model::IpNet;

use crate::addresses::ip;
use crate::attr::Attrs;
use crate::netlink::{Batch, Netlink, NetlinkError, u32_at};

/// The origin of a route, so that a restarted netsetup recognises its own (`RTPROT_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// From `host.toml` (`RTPROT_STATIC`).
    Static,
    /// From a DHCP lease (`RTPROT_DHCP`).
    Dhcp,
}

const RTPROT_STATIC: u8 = 4;
const RTPROT_DHCP: u8 = 16;

/// A unicast route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    /// The destination; a prefix of 0 means the default route.
    pub to: IpNet,
    /// The next router; `None`: the destination is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The gateway is on the link although no address of the link covers it, as with the /32
    /// addresses that some clouds assign.
    pub on_link: bool,
    /// Index of the link.
    pub index: u32,
    /// Preference, lower first. Part of a route's identity: two links need two metrics.
    pub metric: u32,
    /// Its origin.
    pub owner: Owner,
    /// Source address of packets from the host itself.
    pub source: Option<IpAddr>,
}

/// The default route's destination in the family of `like`.
pub fn everywhere(like: IpAddr) -> IpNet {
    let addr = match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    IpNet { addr, prefix: 0 }
}

/// The subnet of an address: its host bits cleared. The kernel refuses routes with host bits.
pub fn network(net: IpNet) -> IpNet {
    let addr = match net.addr {
        IpAddr::V4(addr) => {
            let shift = 32u32.saturating_sub(u32::from(net.prefix));
            let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
            Ipv4Addr::from_bits(addr.to_bits() & mask).into()
        }
        IpAddr::V6(addr) => {
            let shift = 128u32.saturating_sub(u32::from(net.prefix));
            let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
            Ipv6Addr::from_bits(addr.to_bits() & mask).into()
        }
    };
    IpNet { addr, prefix: net.prefix }
}

/// True if the subnet of `net` contains `addr`.
pub fn covers(net: IpNet, addr: IpAddr) -> bool {
    net.addr.is_ipv4() == addr.is_ipv4()
        && network(net) == network(IpNet { addr, prefix: net.prefix })
}

impl Route {
    /// A description for messages: `0.0.0.0/0 via 10.0.2.2`.
    pub fn describe(&self) -> String {
        match self.gateway {
            Some(gateway) => format!("{}/{} via {gateway}", self.to.addr, self.to.prefix),
            None => format!("{}/{}", self.to.addr, self.to.prefix),
        }
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        let header = &mut message.header;
        header.address_family = match self.to.addr {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        header.destination_prefix_length = self.to.prefix;
        header.table = RouteHeader::RT_TABLE_MAIN;
        header.kind = RouteType::Unicast;
        header.protocol = match self.owner {
            Owner::Static => RouteProtocol::Static,
            Owner::Dhcp => RouteProtocol::Dhcp,
        };
        header.scope = match (self.gateway, self.to.addr) {
            (None, IpAddr::V4(_)) => RouteScope::Link,
            _ => RouteScope::Universe,
        };
        if self.on_link && self.gateway.is_some() {
            header.flags |= RouteFlags::Onlink;
        }
        if self.to.prefix != 0 {
            message.attributes.push(RouteAttribute::Destination(network(self.to).addr.into()));
        }
        let gateway = self.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into()));
        let source = self.source.map(|source| RouteAttribute::PrefSource(source.into()));
        message.attributes.push(RouteAttribute::Oif(self.index));
        message.attributes.push(RouteAttribute::Priority(self.metric));
        message.attributes.extend(gateway);
        message.attributes.extend(source);
        message
    }
}

/// Adds a request to set a route, replacing one to the same destination with the same metric.
pub fn replace(batch: &mut Batch, route: &Route) {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    let what = format!("set the route {}", route.describe());
    batch.add(libc::RTM_NEWROUTE, flags, &route.message(), what);
}

/// Adds a request to delete a route.
pub fn delete(batch: &mut Batch, route: &Route) {
    let what = format!("remove the route {}", route.describe());
    batch.add(libc::RTM_DELROUTE, 0, &route.message(), what);
}

/// The IPv4 routes of the main table with an [`Owner`].
///
/// # Errors
/// Those of the kernel.
pub fn list(netlink: &mut Netlink) -> Result<Vec<Route>, NetlinkError> {
    let mut all = RouteMessage::default();
    all.header.address_family = AddressFamily::Inet;
    netlink.dump(libc::RTM_GETROUTE, &all, "list the routes", |message| {
        (message.kind == libc::RTM_NEWROUTE).then(|| parse(message.body)).flatten()
    })
}

/// Reads the body of an `RTM_NEWROUTE` (`struct rtmsg` and its attributes).
pub fn parse(body: &[u8]) -> Option<Route> {
    let &[_, prefix, _, _, table, protocol, _, kind, ..] = body else { return None };
    let owner = match protocol {
        RTPROT_STATIC => Owner::Static,
        RTPROT_DHCP => Owner::Dhcp,
        _ => return None,
    };
    if table != RouteHeader::RT_TABLE_MAIN || kind != libc::RTN_UNICAST {
        return None;
    }
    let mut route = Route {
        to: IpNet { addr: Ipv4Addr::UNSPECIFIED.into(), prefix },
        gateway: None,
        on_link: false,
        index: 0,
        metric: 0,
        owner,
        source: None,
    };
    for (kind, value) in Attrs::new(body.get(12..)?) {
        match kind {
            libc::RTA_DST => route.to.addr = ip(value)?,
            libc::RTA_GATEWAY => route.gateway = ip(value),
            libc::RTA_OIF => route.index = u32_at(value, 0)?,
            libc::RTA_PRIORITY => route.metric = u32_at(value, 0)?,
            libc::RTA_PREFSRC => route.source = ip(value),
            _ => {}
        }
    }
    Some(route)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parsing_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_subnet_covers_exactly_the_addresses_with_its_prefix(a: u32, b: u32, prefix in 0u8..=32) {
            let net = IpNet { addr: Ipv4Addr::from_bits(a).into(), prefix };
            let shared = (a ^ b).leading_zeros() >= u32::from(prefix);
            prop_assert_eq!(covers(net, Ipv4Addr::from_bits(b).into()), shared);
            prop_assert!(covers(net, net.addr));
        }
    }
}
