//! Addresses and subnets of `host.toml`.

use crate::diagnostic::{ParseError, quoted};
use crate::model::{IpNet, Ipv4Net};
use std::net::{IpAddr, Ipv4Addr};

/// Reads an IPv4 or IPv6 address.
///
/// # Errors
/// A [`ParseError`] when it is neither.
pub fn parse_address(text: &str) -> Result<IpAddr, ParseError> {
    text.parse().map_err(|_| {
        let error = ParseError::whole(text, format!("{} is not an IP address", quoted(text)));
        match text.split_once('/') {
            Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
                error.hint(format!("write it without a prefix length: `{address}`"))
            }
            _ => error,
        }
    })
}

/// Reads an address with a prefix length: `10.0.0.2/24`, `2001:db8::2/64`.
///
/// # Errors
/// A [`ParseError`] that points at the part that is wrong.
pub fn parse_subnet(text: &str) -> Result<IpNet, ParseError> {
    let Some((address, prefix)) = text.split_once('/') else {
        let error = ParseError::whole(text, format!("{} has no prefix length", quoted(text)));
        return Err(match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => error.hint(format!("add one, such as `{text}/24`")),
            Ok(IpAddr::V6(_)) => error.hint(format!("add one, such as `{text}/64`")),
            Err(_) => error.hint("write it like `10.0.0.2/24`"),
        });
    };
    let addr = parse_address(address)?;
    let max = if addr.is_ipv4() { 32 } else { 128 };
    let at = address.len() + 1..text.len();
    let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
    match prefix.parse::<u8>() {
        Ok(prefix) if digits && prefix <= max => Ok(IpNet { addr, prefix }),
        _ => Err(ParseError::new(at, format!("invalid prefix length {}", quoted(prefix)))
            .hint(format!("the range is 0 to {max}"))),
    }
}

/// Reads an address for the static configuration of a link: one that a host can have.
///
/// # Errors
/// A [`ParseError`] that points at the part that is wrong.
pub fn parse_link_address(text: &str) -> Result<IpNet, ParseError> {
    let net = parse_subnet(text)?;
    let addr = net.addr;
    if addr.is_unspecified() || addr.is_multicast() || addr.is_loopback() {
        let message = format!("{} cannot be the address of a link", quoted(text));
        return Err(ParseError::whole(text, message));
    }
    if let IpAddr::V4(addr) = addr {
        check_host_address(text, Ipv4Net { addr, prefix: net.prefix })?;
    }
    Ok(net)
}

/// Reads the bridge's own address and prefix. The prefix is 8 to 29 bits long, so that the subnet has
/// addresses for containers too.
///
/// # Errors
/// A [`ParseError`] that points at the part that is wrong.
pub fn parse_bridge(text: &str) -> Result<Ipv4Net, ParseError> {
    let net = parse_link_address(text)?;
    let IpAddr::V4(addr) = net.addr else {
        return Err(ParseError::whole(text, "the bridge address must be an IPv4 address")
            .hint("write it like `10.88.0.1/16`"));
    };
    if !(8..=29).contains(&net.prefix) {
        let message = format!("prefix length {} is out of range for the bridge", net.prefix);
        return Err(ParseError::whole(text, message).hint("use 8 to 29, such as `10.88.0.1/16`"));
    }
    Ok(Ipv4Net { addr, prefix: net.prefix })
}

/// Rejects the first and the last address of a subnet: the network address and the broadcast address.
fn check_host_address(text: &str, net: Ipv4Net) -> Result<(), ParseError> {
    let host_bits = host_mask(net.prefix);
    let host = u32::from(net.addr) & host_bits;
    if net.prefix <= 30 && (host == 0 || host == host_bits) {
        let kind =
            if host == 0 { "the network address of its subnet" } else { "the broadcast address" };
        let first = Ipv4Addr::from((u32::from(net.addr) & !host_bits) + 1);
        let message = format!("{} is {kind}, not a host address", quoted(text));
        return Err(ParseError::whole(text, message)
            .hint(format!("use an address inside the subnet, such as `{first}/{}`", net.prefix)));
    }
    Ok(())
}

fn host_mask(prefix: u8) -> u32 {
    u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}

/// Whether an address is in a subnet.
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
