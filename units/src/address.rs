//! Addresses and subnets of `host.toml`.

use crate::diagnostic::{Mistake, quoted};
use crate::model::{IpNet, Ipv4Net};
use std::net::{IpAddr, Ipv4Addr};

/// Reads an IPv4 or IPv6 address.
///
/// # Errors
/// What it is not.
pub fn parse_address(text: &str) -> Result<IpAddr, Mistake> {
    text.parse().map_err(|_| {
        let mistake = Mistake::whole(text, format!("{} is not an IP address", quoted(text)));
        match text.split_once('/') {
            Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
                mistake.hint(format!("no prefix length here: `{address}`"))
            }
            _ => mistake,
        }
    })
}

/// Reads an address with a prefix length: `10.0.0.2/24`, `2001:db8::2/64`.
///
/// # Errors
/// A [`Mistake`] that points at the part that is wrong.
pub fn parse_subnet(text: &str) -> Result<IpNet, Mistake> {
    let Some((address, prefix)) = text.split_once('/') else {
        let mistake = Mistake::whole(text, format!("{} has no prefix length", quoted(text)));
        return Err(match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => mistake.hint(format!("write it with one: `{text}/24`")),
            Ok(IpAddr::V6(_)) => mistake.hint(format!("write it with one: `{text}/64`")),
            Err(_) => mistake.hint("write it like `10.0.0.2/24`"),
        });
    };
    let addr = parse_address(address)?;
    let most = if addr.is_ipv4() { 32 } else { 128 };
    let at = address.len() + 1..text.len();
    let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
    match prefix.parse::<u8>() {
        Ok(prefix) if digits && prefix <= most => Ok(IpNet { addr, prefix }),
        _ => Err(Mistake::new(at, format!("{} is not a prefix length", quoted(prefix)))
            .hint(format!("here it is 0 to {most}"))),
    }
}

/// Reads an address for the static configuration of a link: one that a machine can have.
///
/// # Errors
/// A [`Mistake`] that points at the part that is wrong.
pub fn parse_link_address(text: &str) -> Result<IpNet, Mistake> {
    let net = parse_subnet(text)?;
    let addr = net.addr;
    if addr.is_unspecified() || addr.is_multicast() || addr.is_loopback() {
        let message = format!("{} cannot be the address of a link", quoted(text));
        return Err(Mistake::whole(text, message));
    }
    if let IpAddr::V4(addr) = addr {
        check_not_edge(text, Ipv4Net { addr, prefix: net.prefix })?;
    }
    Ok(net)
}

/// Reads the bridge's own address and prefix. The subnet is 8 to 29 bits long, so that it holds
/// more than the host.
///
/// # Errors
/// A [`Mistake`] that points at the part that is wrong.
pub fn parse_bridge(text: &str) -> Result<Ipv4Net, Mistake> {
    let net = parse_link_address(text)?;
    let IpAddr::V4(addr) = net.addr else {
        return Err(Mistake::whole(text, "the bridge has an IPv4 address")
            .hint("write it like `10.88.0.1/16`"));
    };
    if !(8..=29).contains(&net.prefix) {
        let message = format!("a prefix of {} bits does not suit the bridge", net.prefix);
        return Err(Mistake::whole(text, message).hint("8 to 29, such as `10.88.0.1/16`"));
    }
    Ok(Ipv4Net { addr, prefix: net.prefix })
}

/// Refuses the first and last address of a subnet, which mean the subnet and everybody in it.
fn check_not_edge(text: &str, net: Ipv4Net) -> Result<(), Mistake> {
    let host_bits = host_mask(net.prefix);
    let host = u32::from(net.addr) & host_bits;
    if net.prefix <= 30 && (host == 0 || host == host_bits) {
        let what = if host == 0 { "the subnet itself" } else { "the broadcast address" };
        let first = Ipv4Addr::from((u32::from(net.addr) & !host_bits) + 1);
        let message = format!("{} is {what}, not the address of a machine", quoted(text));
        return Err(Mistake::whole(text, message)
            .hint(format!("write one inside it, such as `{first}/{}`", net.prefix)));
    }
    Ok(())
}

fn host_mask(prefix: u8) -> u32 {
    u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}

/// Whether an address lies in a subnet.
pub(crate) fn contains(net: IpNet, addr: IpAddr) -> bool {
    match (net.addr, addr) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let mask = !host_mask(net.prefix);
            u32::from(a) & mask == u32::from(b) & mask
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let mask = !u128::MAX.checked_shr(u32::from(net.prefix)).unwrap_or(0);
            u128::from(a) & mask == u128::from(b) & mask
        }
        _ => false,
    }
}

/// Whether two subnets have addresses in common.
pub(crate) fn overlap(a: IpNet, b: IpNet) -> bool {
    contains(a, b.addr) && a.prefix <= b.prefix || contains(b, a.addr) && b.prefix <= a.prefix
}
