//! Leases: validating offers and acknowledgements of servers.
//!
//! The content comes from an untrusted network. Essential values that are invalid (a multicast
//! address, a lease time of zero) make the whole message invalid; other invalid or missing values
//! (the mask, a domain with a line break) are left out or replaced by the usual default.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

use super::packet::{Packet, code};

/// The lease time of a lease that never ends (RFC 2131 section 3.3).
pub const FOREVER: u32 = u32::MAX;

/// Minimum lease time in seconds. With a shorter one, from a broken or malicious server, the host
/// would do nothing but renew.
pub const MIN_SECONDS: u32 = 10;

/// Maximum number of name servers: resolvers do not use more (`MAXNS` of resolv.conf(5) is 3).
const MAX_DNS: usize = 3;
/// Maximum number of routes.
const MAX_ROUTES: usize = 64;
/// Minimum MTU: every IPv4 host accepts packets of this size (RFC 791).
const MIN_MTU: u16 = 576;

/// A route of option 121; gateway 0.0.0.0 means that the destination is on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClasslessRoute {
    /// Destination; host bits are zero.
    pub to: Ipv4Addr,
    /// Its prefix length, 0 to 32.
    pub prefix: u8,
    /// Next router.
    pub gateway: Ipv4Addr,
}

/// A lease granted by a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Prefix length of its subnet, 1 to 32.
    pub prefix: u8,
    /// The server that granted it.
    pub server: Ipv4Addr,
    /// Routes, including the default route if there is one.
    pub routes: Vec<ClasslessRoute>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// The network's domain.
    pub domain: Option<String>,
    /// MTU of the link, in bytes.
    pub mtu: Option<u32>,
    /// Lease time in seconds; may be [`FOREVER`].
    pub seconds: u32,
    /// Seconds from the start until the same server is asked to extend it.
    pub t1: u32,
    /// Seconds from the start until any server is asked; `t1 <= t2 <= seconds`.
    pub t2: u32,
}

/// Why an offer or an acknowledgement is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Not an address that a host can have.
    #[error("invalid host address {0}")]
    Address(Ipv4Addr),
    /// No server identifier.
    #[error("no server identifier")]
    Server,
    /// No lease time, or one below [`MIN_SECONDS`].
    #[error("no lease time of at least {MIN_SECONDS} s")]
    Time,
}

/// True if a host can have the address.
fn usable(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first < 224 && !address.is_loopback()
}

/// The prefix length of a mask, if it is contiguous and not zero.
fn prefix_of(mask: u32) -> Option<u8> {
    let ones = mask.leading_ones();
    (ones > 0 && mask.count_ones() == ones).then(|| u8::try_from(ones).unwrap_or(32))
}

/// The classful prefix length of an address, if the mask is missing (RFC 950).
fn classful_prefix(address: Ipv4Addr) -> u8 {
    match address.octets() {
        [0..128, ..] => 8,
        [128..192, ..] => 16,
        _ => 24,
    }
}

/// Parses option 121 (RFC 3442). `None` if any entry is malformed: an incomplete routing table is
/// worse than the router option alone.
fn classless_routes(mut value: &[u8]) -> Option<Vec<ClasslessRoute>> {
    let mut routes = Vec::new();
    while let [prefix, rest @ ..] = value {
        if *prefix > 32 || routes.len() >= MAX_ROUTES {
            return None;
        }
        let significant = usize::from(prefix.div_ceil(8));
        let (destination, rest) = rest.split_at_checked(significant)?;
        let (gateway, rest) = rest.split_first_chunk::<4>()?;
        let mut octets = [0; 4];
        for (octet, new) in octets.iter_mut().zip(destination) {
            *octet = *new;
        }
        let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
        let to = Ipv4Addr::from_bits(u32::from_be_bytes(octets) & mask);
        routes.push(ClasslessRoute { to, prefix: *prefix, gateway: (*gateway).into() });
        value = rest;
    }
    Some(routes).filter(|routes| !routes.is_empty())
}

/// A domain name that can be written to resolv.conf: a line break would add another line there.
fn domain(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches(['\0', '.']);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (!text.is_empty() && text.len() <= 253 && text.chars().all(plain)).then(|| text.to_owned())
}

impl Lease {
    /// Parses an offer or an acknowledgement. `known_prefix` is used if the server omits the mask
    /// when it extends a lease.
    ///
    /// # Errors
    /// See [`LeaseError`].
    pub fn read(packet: &Packet, known_prefix: Option<u8>) -> Result<Lease, LeaseError> {
        let address = packet.yiaddr;
        if !usable(address) {
            return Err(LeaseError::Address(address));
        }
        let server = packet
            .address(code::SERVER)
            .filter(|&server| usable(server))
            .ok_or(LeaseError::Server)?;
        let seconds = packet
            .number(code::LEASE_TIME)
            .filter(|&seconds| seconds >= MIN_SECONDS)
            .ok_or(LeaseError::Time)?;
        let prefix = packet
            .number(code::SUBNET_MASK)
            .and_then(prefix_of)
            .or(known_prefix)
            .unwrap_or_else(|| classful_prefix(address));
        let (t1, t2) = timers(seconds, packet.number(code::T1), packet.number(code::T2));
        let routes = packet.options.get(&code::CLASSLESS_ROUTES);
        // A client that receives both must use only option 121 (RFC 3442).
        let routes = routes.and_then(|value| classless_routes(value)).unwrap_or_else(|| {
            let mut routers = packet.addresses(code::ROUTERS).filter(|&router| usable(router));
            let to = Ipv4Addr::UNSPECIFIED;
            routers
                .next()
                .map(|gateway| ClasslessRoute { to, prefix: 0, gateway })
                .into_iter()
                .collect()
        });
        let mtu =
            packet.options.get(&code::MTU).and_then(|value| <[u8; 2]>::try_from(&value[..]).ok());
        Ok(Lease {
            address,
            prefix,
            server,
            routes,
            dns: packet.addresses(code::DNS).filter(|&dns| usable(dns)).take(MAX_DNS).collect(),
            domain: packet.options.get(&code::DOMAIN).and_then(|value| domain(value)),
            mtu: mtu.map(u16::from_be_bytes).filter(|&mtu| mtu >= MIN_MTU).map(u32::from),
            seconds,
            t1,
            t2,
        })
    }

    /// The router of the default route.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.routes.iter().find(|route| route.prefix == 0).map(|route| route.gateway)
    }
}

/// T1 and T2 of the server if they are valid, otherwise one half and seven eighths of the lease
/// time (RFC 2131 section 4.4.5).
fn timers(seconds: u32, t1: Option<u32>, t2: Option<u32>) -> (u32, u32) {
    match (t1, t2) {
        (Some(t1), Some(t2)) if 0 < t1 && t1 < t2 && t2 < seconds => (t1, t2),
        _ => (seconds / 2, seconds - seconds / 8),
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::Kind;
    use super::*;
    use proptest::prelude::*;

    fn ack() -> Packet {
        let mut packet = Packet::request(Kind::Ack, 1, 0, [0; 6])
            .with(code::SERVER, [10, 0, 0, 1])
            .with(code::LEASE_TIME, 3600u32.to_be_bytes())
            .with(code::SUBNET_MASK, [255, 255, 255, 0])
            .with(code::ROUTERS, [10, 0, 0, 1]);
        packet.yiaddr = Ipv4Addr::new(10, 0, 0, 9);
        packet
    }

    #[test]
    fn a_domain_with_a_line_break_cannot_add_a_name_server() {
        let packet = ack().with(code::DOMAIN, *b"x.example\nnameserver 6.6.6.6");
        assert_eq!(Lease::read(&packet, None).unwrap().domain, None);
    }

    #[test]
    fn a_missing_or_invalid_mask_is_replaced() {
        for mask in [None, Some([0, 0, 0, 0]), Some([255, 0, 255, 0])] {
            let mut packet = ack();
            packet.options.remove(&code::SUBNET_MASK);
            if let Some(mask) = mask {
                packet = packet.with(code::SUBNET_MASK, mask);
            }
            assert_eq!(Lease::read(&packet, None).unwrap().prefix, 8);
            assert_eq!(Lease::read(&packet, Some(24)).unwrap().prefix, 24);
        }
    }

    #[test]
    fn option_121_takes_precedence_over_the_router() {
        let value = [24, 192, 168, 7, 10, 0, 0, 2, 0, 10, 0, 0, 3];
        let lease = Lease::read(&ack().with(code::CLASSLESS_ROUTES, value), None).unwrap();
        assert_eq!(lease.gateway(), Some(Ipv4Addr::new(10, 0, 0, 3)));
        assert_eq!(lease.routes.len(), 2);
        // If it is malformed, the router is used.
        let lease = Lease::read(&ack().with(code::CLASSLESS_ROUTES, [33, 1]), None).unwrap();
        assert_eq!(lease.gateway(), Some(Ipv4Addr::new(10, 0, 0, 1)));
    }

    #[test]
    fn lease_times_at_the_limits() {
        let read =
            |seconds: u32| Lease::read(&ack().with(code::LEASE_TIME, seconds.to_be_bytes()), None);
        assert_eq!(read(0), Err(LeaseError::Time));
        assert_eq!(read(MIN_SECONDS - 1), Err(LeaseError::Time));
        assert_eq!(read(FOREVER).unwrap().seconds, FOREVER);
    }

    proptest! {
        #[test]
        fn every_accepted_lease_is_valid(
            yiaddr: u32, known in proptest::option::of(1u8..=32),
            options in proptest::collection::btree_map(
                prop_oneof![Just(1u8), Just(3), Just(6), Just(15), Just(26), Just(51), Just(54),
                    Just(58), Just(59), Just(121)],
                proptest::collection::vec(any::<u8>(), 0..40), 0..10),
            times: (u32, u32, u32), server: u32,
        ) {
            let mut packet = Packet::request(Kind::Ack, 1, 0, [0; 6])
                .with(code::SERVER, server.to_be_bytes())
                .with(code::LEASE_TIME, times.0.to_be_bytes())
                .with(code::T1, times.1.to_be_bytes())
                .with(code::T2, times.2.to_be_bytes());
            packet.options.extend(options);
            packet.yiaddr = yiaddr.into();
            if let Ok(lease) = Lease::read(&packet, known) {
                prop_assert!(usable(lease.address) && usable(lease.server));
                prop_assert!((1..=32).contains(&lease.prefix));
                prop_assert!(lease.seconds >= MIN_SECONDS);
                prop_assert!(0 < lease.t1 && lease.t1 <= lease.t2 && lease.t2 <= lease.seconds);
                prop_assert!(lease.dns.len() <= MAX_DNS && lease.routes.len() <= MAX_ROUTES);
                prop_assert!(lease.domain.is_none_or(|name| !name.contains(char::is_whitespace)));
            }
        }
    }
}
