//! The containers' bridge and its sysctls.

use std::net::Ipv4Addr;
use std::path::Path;
use units::model::{IpNet, Ipv4Net};

use crate::addresses;
use crate::links::{self, Change, Mac};
use crate::netlink::{Batch, Netlink, NetlinkError};

/// The properties of the bridge that attachments need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bridge {
    /// Interface index.
    pub index: u32,
    /// Address of the host on it and prefix of the containers' subnet.
    pub net: Ipv4Net,
}

/// A locally administered hardware address derived from an IPv4 address, so that a neighbour's
/// cached entry for the IPv4 address stays valid if another container gets the address. `role`
/// distinguishes the ends of a pair: see [`inside_mac`] and [`outside_mac`].
fn mac(role: u8, addr: Ipv4Addr) -> Mac {
    let [a, b, c, d] = addr.octets();
    [role, 0x6b, a, b, c, d]
}

/// Hardware address of the interface with the address `addr` on the bridge's subnet.
pub fn inside_mac(addr: Ipv4Addr) -> Mac {
    mac(0x02, addr)
}

/// Hardware address of the bridge's end of the veth pair of the container at `addr`.
pub fn outside_mac(addr: Ipv4Addr) -> Mac {
    mac(0x06, addr)
}

/// Makes sure that the bridge exists, is up and has its address. Does not change an existing bridge
/// that does.
///
/// # Errors
/// Those of the kernel; `EOPNOTSUPP` while the module `bridge` is not loaded.
pub fn ensure(netlink: &mut Netlink, name: &str, net: Ipv4Net) -> Result<Bridge, NetlinkError> {
    let mac = inside_mac(net.addr);
    let link = match links::by_name(netlink, name)? {
        Some(link) => link,
        None => {
            let mut batch = Batch::new();
            links::create_bridge(&mut batch, name, mac);
            netlink.run(batch, |_, _| {})?;
            let what = || format!("look up {name}");
            links::by_name(netlink, name)?.ok_or_else(|| NetlinkError::NoAnswer { what: what() })?
        }
    };
    let mut batch = Batch::new();
    if !link.up() || link.mac != Some(mac) {
        let change = Change { up: true, mac: Some(mac), ..Change::default() };
        links::set(&mut batch, link.index, change, format!("set {name} up"));
    }
    let address = IpNet { addr: net.addr.into(), prefix: net.prefix };
    addresses::replace(&mut batch, link.index, address, addresses::FOREVER);
    netlink.run(batch, |_, _| {})?;
    Ok(Bridge { index: link.index, net })
}

/// A sysctl that could not be set.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {value} to {path}: {source}")]
pub struct SysctlError {
    path: String,
    value: &'static str,
    source: std::io::Error,
}

/// Writes `/proc/sys/net/…`. For a process with CAP_NET_ADMIN the kernel applies the owner's mode
/// bits there (`net_ctl_permissions`, net/sysctl_net.c): no other privilege is needed.
fn sysctl(path: String, value: &'static str) -> Result<(), SysctlError> {
    std::fs::write(Path::new(&path), value).map_err(|source| SysctlError { path, value, source })
}

/// Allows packets to and from 127.0.0.1 to cross the bridge, so that a published port can be
/// reached on the host's own loopback address. Packets to 127.0.0.1 from a container or a neighbour
/// (CVE-2020-8558) are dropped by the firewall's first chain, so the firewall must be installed
/// first.
///
/// # Errors
/// The sysctl cannot be written.
pub fn enable_loopback(name: &str) -> Result<(), SysctlError> {
    sysctl(format!("/proc/sys/net/ipv4/conf/{name}/route_localnet"), "1")
}

/// Disables the IP firewall for packets that the bridge only switches. If the kernel has
/// `br_netfilter` (Keelhost does not load this module), it would translate a container's packet to
/// its own published port while the packet is being switched, and the bridge would not send it back
/// to the port it came from.
///
/// # Errors
/// The sysctl exists and cannot be written.
pub fn disable_filtering() -> Result<(), SysctlError> {
    match sysctl("/proc/sys/net/bridge/bridge-nf-call-iptables".into(), "0") {
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Enables IPv4 forwarding. The firewall must be installed first: its forward chain protects the
/// containers from neighbours.
///
/// # Errors
/// The sysctl cannot be written.
pub fn enable_forwarding() -> Result<(), SysctlError> {
    sysctl("/proc/sys/net/ipv4/ip_forward".into(), "1")
}
