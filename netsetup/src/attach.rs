//! Attaching a container to the bridge: a veth pair, its address, its default route.
//!
//! This is on the critical path of every boot: a new attachment costs two sends and three receives.

use nix::errno::Errno;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use units::model::IpNet;

use crate::bridge::{Bridge, inside_mac, outside_mac};
use crate::links::{self, Change, Link, VethPair};
use crate::netlink::{Batch, Netlink, NetlinkError};
use crate::routes::{self, Owner, Route};
use crate::{addresses, links::by_name};

/// Name of the link inside the container.
pub const INSIDE: &str = "eth0";

/// Maximum length of an interface name (`IFNAMSIZ` without the terminating zero).
const MAX_NAME: usize = 15;

/// In every network namespace the loopback link has index 1 (net/core/net_namespace.c).
const LOOPBACK: u32 = 1;

/// Name of the host's end of a unit's veth pair: `v-NAME`, so that the unit is visible in a list of
/// links, or `v.` and 13 digits of a hash if the name is too long. Unit names contain no dots, so
/// the two forms cannot collide.
pub fn host_name(unit: &str) -> String {
    let plain = format!("v-{unit}");
    if plain.len() <= MAX_NAME {
        return plain;
    }
    format!("v.{:013x}", fnv1a(unit.as_bytes()) >> 12)
}

/// FNV-1a, 64 bits: stable across versions, unlike the hashes of the standard library.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// What to attach, and where.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The unit's name.
    pub unit: &'a str,
    /// Its address on the bridge.
    pub address: Ipv4Addr,
    /// The bridge.
    pub bridge: Bridge,
    /// The network namespace to attach.
    pub namespace: BorrowedFd<'a>,
}

/// Attaches a namespace. `host` is a route socket of the host, `inside` one of the namespace. An
/// existing attachment is not changed; a pair of the same name that leads elsewhere (to an older
/// namespace, or with another address) is replaced.
///
/// # Errors
/// The step that the kernel refused; nothing is rolled back, and another call completes it.
pub fn attach(
    host: &mut Netlink,
    inside: &mut Netlink,
    place: &Place<'_>,
) -> Result<(), NetlinkError> {
    let name = host_name(place.unit);
    let pair = VethPair {
        name: &name,
        mac: outside_mac(place.address),
        master: place.bridge.index,
        peer_name: INSIDE,
        peer_mac: inside_mac(place.address),
        peer_namespace: place.namespace,
    };
    let peer = match create(host, Batch::new(), &pair) {
        Err(error) if error.errno() == Some(Errno::EEXIST) => {
            let mut batch = Batch::new();
            match find(host, inside, &pair)? {
                Found::Wanted(peer) => return configure(inside, peer, place),
                Found::Stale => links::delete(&mut batch, &name),
                // It has just disappeared (namespaces are destroyed asynchronously), or the inner
                // name is taken: in that case the same error occurs again.
                Found::Nothing => {}
            }
            create(host, batch, &pair)?
        }
        other => other?,
    };
    configure(inside, peer, place)
}

/// Runs `batch` and then creates the pair. Returns the index of the inner end.
fn create(host: &mut Netlink, mut batch: Batch, pair: &VethPair<'_>) -> Result<u32, NetlinkError> {
    links::create_veth(&mut batch, pair);
    let mut peer = None;
    host.run(batch, |_, message| {
        if message.kind == libc::RTM_NEWLINK {
            peer = Link::parse(message.body).and_then(|link| link.peer);
        }
    })?;
    // Query a kernel that does not echo.
    let peer = match peer {
        Some(peer) => Some(peer),
        None => by_name(host, pair.name)?.and_then(|link| link.peer),
    };
    peer.ok_or_else(|| NetlinkError::NoAnswer {
        what: format!("look up the peer of {}", pair.name),
    })
}

/// The existing link with the name of a pair that is to be created.
enum Found {
    /// None.
    Nothing,
    /// Another link.
    Stale,
    /// The requested pair; the index of its inner end.
    Wanted(u32),
}

/// Looks up the existing link. It is the requested pair if its other end is in this namespace, has
/// the right name and hardware address, and refers back; its outer end is then put on the bridge.
fn find(
    host: &mut Netlink,
    inside: &mut Netlink,
    pair: &VethPair<'_>,
) -> Result<Found, NetlinkError> {
    let Some(outer) = by_name(host, pair.name)? else { return Ok(Found::Nothing) };
    let Some(inner) = by_name(inside, pair.peer_name)? else { return Ok(Found::Stale) };
    let same = outer.kind == "veth"
        && inner.kind == "veth"
        && outer.peer == Some(inner.index)
        && inner.peer == Some(outer.index)
        && outer.mac == Some(pair.mac)
        && inner.mac == Some(pair.peer_mac);
    if !same {
        return Ok(Found::Stale);
    }
    if !outer.up() || outer.master != Some(pair.master) {
        let mut batch = Batch::new();
        let change = Change { up: true, master: Some(pair.master), ..Change::default() };
        links::set(&mut batch, outer.index, change, format!("put {} on the bridge", pair.name));
        host.run(batch, |_, _| {})?;
    }
    Ok(Found::Wanted(inner.index))
}

/// Configures loopback, address, link and default route inside. Each request is idempotent, so that
/// repeating them after a crash completes the configuration.
fn configure(inside: &mut Netlink, index: u32, place: &Place<'_>) -> Result<(), NetlinkError> {
    let up = Change { up: true, ..Change::default() };
    let address = IpNet { addr: place.address.into(), prefix: place.bridge.net.prefix };
    let gateway = place.bridge.net.addr.into();
    let mut batch = Batch::new();
    links::set(&mut batch, LOOPBACK, up, "set loopback up inside");
    addresses::replace(&mut batch, index, address, addresses::FOREVER);
    links::set(&mut batch, index, up, "set eth0 up inside");
    routes::replace(
        &mut batch,
        &Route {
            to: routes::everywhere(gateway),
            gateway: Some(gateway),
            on_link: false,
            index,
            metric: 0,
            owner: Owner::Static,
            source: None,
        },
    );
    inside.run(batch, |_, _| {})
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn host_names_fit_and_differ(a in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", b in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
            prop_assert!(host_name(&a).len() <= MAX_NAME);
            prop_assert_eq!(a == b, host_name(&a) == host_name(&b));
        }
    }
}
