//! Network links: listing them, bridges, veth pairs, flags, MTU and master.
//!
//! Responses are parsed attribute by attribute instead of with the crate's types: only a few of the
//! several dozen attributes matter here, and an unexpected one must not hide a whole link.

use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::attr::{Attrs, text};
use crate::netlink::{Batch, Message, Netlink, NetlinkError, u16_at, u32_at};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// A link as described by the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Interface index, unique in its network namespace.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// `ARPHRD_*`.
    pub layer: u16,
    /// `IFF_*`.
    pub flags: u32,
    /// Hardware address, if it is six bytes long.
    pub mac: Option<Mac>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Index of the bridge that it is a port of.
    pub master: Option<u32>,
    /// Index of the other end of a veth pair, in the other end's namespace.
    pub peer: Option<u32>,
    /// `bridge`, `veth`, …; empty for hardware.
    pub kind: String,
    /// It has a device (`/sys/class/net/NAME/device` exists): hardware, not software.
    pub physical: bool,
}

impl Link {
    /// Parses the body of an `RTM_NEWLINK` or `RTM_DELLINK`. `None` for messages of bridges about
    /// their ports, which have the same types (family `AF_BRIDGE`): a port that is "deleted" there
    /// has only left the bridge.
    pub fn parse(body: &[u8]) -> Option<Link> {
        if body.first() != Some(&0) {
            return None;
        }
        let mut link = Link {
            layer: u16_at(body, 2)?,
            index: u32_at(body, 4)?,
            flags: u32_at(body, 8)?,
            ..Link::default()
        };
        for (kind, value) in Attrs::new(body.get(16..)?) {
            match kind {
                libc::IFLA_IFNAME => link.name = text(value),
                libc::IFLA_ADDRESS => link.mac = value.try_into().ok(),
                libc::IFLA_MTU => link.mtu = u32_at(value, 0).unwrap_or(0),
                libc::IFLA_MASTER => link.master = u32_at(value, 0),
                libc::IFLA_LINK => link.peer = u32_at(value, 0),
                libc::IFLA_PARENT_DEV_NAME => link.physical = true,
                libc::IFLA_LINKINFO => {
                    for (kind, value) in Attrs::new(value) {
                        if kind == libc::IFLA_INFO_KIND {
                            link.kind = text(value);
                        }
                    }
                }
                _ => {}
            }
        }
        Some(link)
    }

    fn has(&self, flag: i32) -> bool {
        self.flags & u32::try_from(flag).unwrap_or(0) != 0
    }

    /// Set up by the administrator (`IFF_UP`).
    pub fn up(&self) -> bool {
        self.has(libc::IFF_UP)
    }

    /// It has a carrier (`IFF_LOWER_UP`).
    pub fn carrier(&self) -> bool {
        self.has(libc::IFF_LOWER_UP)
    }

    /// Its frames are Ethernet frames (`ARPHRD_ETHER`).
    pub fn ethernet(&self) -> bool {
        self.layer == libc::ARPHRD_ETHER
    }
}

fn link_of(message: Message<'_>) -> Option<Link> {
    (message.kind == libc::RTM_NEWLINK).then(|| Link::parse(message.body)).flatten()
}

/// All links of the socket's namespace.
///
/// # Errors
/// Those of the kernel.
pub fn list(netlink: &mut Netlink) -> Result<Vec<Link>, NetlinkError> {
    netlink.dump(libc::RTM_GETLINK, &LinkMessage::default(), "list the links", link_of)
}

/// Adds a request for a link by name; the response is an `RTM_NEWLINK`.
pub fn get(batch: &mut Batch, name: &str) {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.into()));
    batch.add(libc::RTM_GETLINK, 0, &message, format!("look up {name}"));
}

/// The link with this name, or `None`.
///
/// # Errors
/// Those of the kernel, except that the link does not exist.
pub fn by_name(netlink: &mut Netlink, name: &str) -> Result<Option<Link>, NetlinkError> {
    let mut batch = Batch::new();
    get(&mut batch, name);
    let mut found = None;
    match netlink.run(batch, |_, message| found = found.take().or_else(|| link_of(message))) {
        Ok(()) => Ok(found),
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Changes of a link; `Default` changes nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// Set it up.
    pub up: bool,
    /// Set its MTU in bytes.
    pub mtu: Option<u32>,
    /// Make it a port of the bridge with this index.
    pub master: Option<u32>,
    /// Set its hardware address.
    pub mac: Option<Mac>,
}

/// Adds a request to change the link with this index. Setting the current values has no effect.
pub fn set(batch: &mut Batch, index: u32, change: Change, what: impl Into<String>) {
    let mut message = LinkMessage::default();
    message.header.index = index;
    if change.up {
        message.header.flags |= LinkFlags::Up;
        message.header.change_mask |= LinkFlags::Up;
    }
    message.attributes.extend(change.mtu.map(LinkAttribute::Mtu));
    message.attributes.extend(change.master.map(LinkAttribute::Controller));
    message.attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
    batch.add(libc::RTM_SETLINK, 0, &message, what);
}

/// Adds a request to create a bridge, up, with a fixed hardware address, which does not change when
/// ports are added or removed. Multicast is flooded: snooping is not worthwhile for the few ports
/// of a host.
pub fn create_bridge(batch: &mut Batch, name: &str, mac: Mac) {
    let mut message = LinkMessage::default();
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
    message.attributes = vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::Address(mac.to_vec()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)])),
        ]),
    ];
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    batch.add(libc::RTM_NEWLINK, flags, &message, format!("create the bridge {name}"));
}

/// A veth pair to create: one end here, the other in another namespace.
#[derive(Debug, Clone, Copy)]
pub struct VethPair<'a> {
    /// Name of the end here.
    pub name: &'a str,
    /// Hardware address of the end here.
    pub mac: Mac,
    /// Index of the bridge for the end here.
    pub master: u32,
    /// Name of the other end.
    pub peer_name: &'a str,
    /// Hardware address of the other end.
    pub peer_mac: Mac,
    /// Namespace of the other end.
    pub peer_namespace: BorrowedFd<'a>,
}

/// Adds a request to create a veth pair; the end here is set up. The kernel echoes an `RTM_NEWLINK`
/// for the end here, whose [`Link::peer`] is the index of the other end (Linux 6.2 and later).
pub fn create_veth(batch: &mut Batch, pair: &VethPair<'_>) {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(pair.peer_name.into()),
        LinkAttribute::Address(pair.peer_mac.to_vec()),
        LinkAttribute::NetNsFd(pair.peer_namespace.as_raw_fd()),
    ];
    let mut message = LinkMessage::default();
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
    message.attributes = vec![
        LinkAttribute::IfName(pair.name.into()),
        LinkAttribute::Address(pair.mac.to_vec()),
        LinkAttribute::Controller(pair.master),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ECHO;
    batch.add(libc::RTM_NEWLINK, flags, &message, format!("create the veth pair {}", pair.name));
}

/// Adds a request to delete the link with this name.
pub fn delete(batch: &mut Batch, name: &str) {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.into()));
    batch.add(libc::RTM_DELLINK, 0, &message, format!("delete {name}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parsing_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Link::parse(&bytes);
        }
    }
}
