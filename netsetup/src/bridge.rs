//! The containers' bridge and the kernel settings that go with it.

use std::net::Ipv4Addr;
use std::path::Path;
use units::model::{IpNet, Ipv4Net};

use crate::addresses;
use crate::links::{self, Change, Mac};
use crate::netlink::{Batch, Netlink, NetlinkError};

/// The bridge as attachments need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bridge {
    /// Interface index.
    pub index: u32,
    /// Address of the host on it and prefix of the containers' subnet.
    pub net: Ipv4Net,
}

/// A locally administered hardware address made from an IPv4 address, so that a neighbour's cached
/// entry for the IPv4 address stays right whoever holds it next. `role` tells the ends of a pair
/// apart: see [`inside_mac`] and [`outside_mac`].
fn mac(role: u8, addr: Ipv4Addr) -> Mac {
    let [a, b, c, d] = addr.octets();
    [role, 0x6b, a, b, c, d]
}

/// Hardware address of whatever answers for `addr` on the bridge's subnet.
pub fn inside_mac(addr: Ipv4Addr) -> Mac {
    mac(0x02, addr)
}

/// Hardware address of the bridge's end of the veth pair of the container at `addr`.
pub fn outside_mac(addr: Ipv4Addr) -> Mac {
    mac(0x06, addr)
}

/// Makes the bridge be there, up, with its address. Changes nothing about one that already is.
///
/// # Errors
/// The kernel's; `EOPNOTSUPP` while the module `bridge` is not loaded.
pub fn ensure(netlink: &mut Netlink, name: &str, net: Ipv4Net) -> Result<Bridge, NetlinkError> {
    let mac = inside_mac(net.addr);
    let link = match links::by_name(netlink, name)? {
        Some(link) => link,
        None => {
            let mut batch = Batch::new();
            links::create_bridge(&mut batch, name, mac);
            netlink.run(batch, |_, _| {})?;
            let what = || format!("look up {name}");
            links::by_name(netlink, name)?.ok_or_else(|| NetlinkError::Silent { what: what() })?
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

/// A kernel setting that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("write {value} to {path}: {source}")]
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

/// Lets packets to and from 127.0.0.1 cross the bridge, so that a port published on the host
/// answers on the host's own loopback. What must not come of it (a container or a neighbour that
/// sends packets to 127.0.0.1, CVE-2020-8558) is dropped by the firewall's first chain, so the
/// firewall must be installed before.
///
/// # Errors
/// The setting cannot be written.
pub fn enable_loopback(name: &str) -> Result<(), SysctlError> {
    sysctl(format!("/proc/sys/net/ipv4/conf/{name}/route_localnet"), "1")
}

/// Keeps the IP firewall off what the bridge only switches. Where the kernel has `br_netfilter`
/// (Keelhost loads no such module), it would translate a container's packet to its own published
/// port while it is being switched, and the bridge would not send it back where it came from.
///
/// # Errors
/// The setting is there and cannot be written.
pub fn disable_filtering() -> Result<(), SysctlError> {
    match sysctl("/proc/sys/net/bridge/bridge-nf-call-iptables".into(), "0") {
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes the host a router for IPv4. The firewall must be installed before: its forward chain is
/// what keeps neighbours out.
///
/// # Errors
/// The setting cannot be written.
pub fn enable_forwarding() -> Result<(), SysctlError> {
    sysctl("/proc/sys/net/ipv4/ip_forward".into(), "1")
}
