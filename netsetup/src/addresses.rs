//! IP addresses of links.

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, CacheInfo,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use units::model::IpNet;

use crate::attr::Attrs;
use crate::netlink::{Batch, Netlink, NetlinkError, u32_at};

/// Lifetime of an address that the kernel never removes (`INFINITY_LIFE_TIME`).
pub const FOREVER: u32 = u32::MAX;

/// An address on a link, as the kernel lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    /// Index of the link.
    pub index: u32,
    /// The address.
    pub net: IpNet,
    /// Created by the kernel with link scope (`fe80::…`), or for loopback.
    pub link_local: bool,
}

fn message(index: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = net.prefix;
    message.attributes = match net.addr {
        IpAddr::V4(_) => {
            message.header.family = AddressFamily::Inet;
            vec![AddressAttribute::Local(net.addr), AddressAttribute::Address(net.addr)]
        }
        IpAddr::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            vec![AddressAttribute::Address(net.addr)]
        }
    };
    message
}

/// The broadcast address of a subnet; `None` if it has none (/31, /32).
pub fn broadcast(addr: Ipv4Addr, prefix: u8) -> Option<Ipv4Addr> {
    let host_bits = 32u32.checked_sub(u32::from(prefix)).filter(|&bits| bits >= 2)?;
    let hosts = u32::MAX.checked_shr(32 - host_bits).unwrap_or(u32::MAX);
    Some(Ipv4Addr::from_bits(addr.to_bits() | hosts))
}

/// Adds a request to set an address on a link for `lifetime` seconds, after which the kernel
/// removes it. An existing address only gets the new lifetime.
pub fn replace(batch: &mut Batch, index: u32, net: IpNet, lifetime: u32) {
    let mut message = message(index, net);
    match net.addr {
        IpAddr::V4(addr) => {
            let broadcast = broadcast(addr, net.prefix).map(AddressAttribute::Broadcast);
            message.attributes.extend(broadcast);
        }
        // Without duplicate address detection a static address is usable immediately, even on a
        // link without a carrier.
        IpAddr::V6(_) => message.header.flags |= AddressHeaderFlags::Nodad,
    }
    if lifetime != FOREVER {
        let mut cache = CacheInfo::default();
        cache.ifa_preferred = lifetime;
        cache.ifa_valid = lifetime;
        message.attributes.push(AddressAttribute::CacheInfo(cache));
    }
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    let what = format!("set the address {}/{}", net.addr, net.prefix);
    batch.add(libc::RTM_NEWADDR, flags, &message, what);
}

/// Adds a request to remove an address from a link.
pub fn delete(batch: &mut Batch, index: u32, net: IpNet) {
    let what = format!("remove the address {}/{}", net.addr, net.prefix);
    batch.add(libc::RTM_DELADDR, 0, &message(index, net), what);
}

/// All addresses of the socket's namespace.
///
/// # Errors
/// The kernel's.
pub fn list(netlink: &mut Netlink) -> Result<Vec<Assigned>, NetlinkError> {
    let what = "list the addresses";
    netlink.dump(libc::RTM_GETADDR, &AddressMessage::default(), what, |message| {
        (message.kind == libc::RTM_NEWADDR).then(|| parse(message.body)).flatten()
    })
}

/// Reads the body of an `RTM_NEWADDR` (`struct ifaddrmsg` and its attributes).
pub fn parse(body: &[u8]) -> Option<Assigned> {
    let &[_, prefix, _, scope, ..] = body else { return None };
    let index = u32_at(body, 4)?;
    let (mut local, mut address) = (None, None);
    for (kind, value) in Attrs::new(body.get(8..)?) {
        match kind {
            libc::IFA_LOCAL => local = ip(value),
            libc::IFA_ADDRESS => address = ip(value),
            _ => {}
        }
    }
    // For IPv4 on a point-to-point link, IFA_ADDRESS is the address of the peer.
    let net = IpNet { addr: local.or(address)?, prefix };
    Some(Assigned { index, net, link_local: scope >= libc::RT_SCOPE_LINK })
}

/// Parses an address; its length determines the family.
pub(crate) fn ip(value: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(value).ok().map(|v6| Ipv6Addr::from(v6).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn broadcast_of_every_prefix() {
        let addr = Ipv4Addr::new(10, 1, 2, 3);
        assert_eq!(broadcast(addr, 24), Some(Ipv4Addr::new(10, 1, 2, 255)));
        assert_eq!(broadcast(addr, 0), Some(Ipv4Addr::BROADCAST));
        assert_eq!(broadcast(addr, 30), Some(addr));
        assert_eq!(broadcast(addr, 31), None);
        assert_eq!(broadcast(addr, 32), None);
        assert_eq!(broadcast(addr, 200), None);
    }

    proptest! {
        #[test]
        fn parsing_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
        }
    }
}
