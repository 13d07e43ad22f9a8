//! Encoding and parsing DHCP messages (RFC 2131 section 2, RFC 2132, RFC 3396).
//!
//! No crate is used, because a message is only a fixed header and a list of options, while the
//! available crate depends on an IDNA table, a random number generator and a tracing library.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::links::Mac;

/// Option codes (RFC 2132, RFC 3442).
pub mod code {
    #![allow(missing_docs)]
    pub const PAD: u8 = 0;
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTERS: u8 = 3;
    pub const DNS: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const DOMAIN: u8 = 15;
    pub const MTU: u8 = 26;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const PARAMETERS: u8 = 55;
    pub const TEXT: u8 = 56;
    pub const MAX_SIZE: u8 = 57;
    pub const T1: u8 = 58;
    pub const T2: u8 = 59;
    pub const CLIENT_ID: u8 = 61;
    pub const CLASSLESS_ROUTES: u8 = 121;
    pub const END: u8 = 255;
}

/// Message types (RFC 2132 section 9.6) that a client sends or understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// DHCPDISCOVER: the client looks for servers.
    Discover = 1,
    /// DHCPOFFER: a server offers an address.
    Offer = 2,
    /// DHCPREQUEST: the client requests, confirms or extends a lease.
    Request = 3,
    /// DHCPACK: the server grants the lease.
    Ack = 5,
    /// DHCPNAK: the server refuses the lease.
    Nak = 6,
}

impl Kind {
    fn from_code(code: u8) -> Option<Kind> {
        [Kind::Discover, Kind::Offer, Kind::Request, Kind::Ack, Kind::Nak]
            .into_iter()
            .find(|kind| *kind as u8 == code)
    }
}

const OP_REQUEST: u8 = 1;
const OP_REPLY: u8 = 2;
const ETHERNET: u8 = 1;
const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// Offsets of the fields of the fixed header.
const XID: usize = 4;
const SECS: usize = 8;
const CIADDR: usize = 12;
const YIADDR: usize = 16;
const CHADDR: usize = 28;
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
const OPTIONS: usize = 240;

/// Old relays and servers drop messages shorter than a BOOTP message (RFC 951).
const MIN_SIZE: usize = 300;

/// Why bytes are not a valid message for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Shorter than the fixed header.
    #[error("shorter than a DHCP header")]
    Short,
    /// The magic cookie is missing: BOOTP, or another protocol.
    #[error("no DHCP cookie")]
    NoCookie,
    /// An option extends beyond the end.
    #[error("option {0} is truncated")]
    CutOption(u8),
    /// Neither a request nor a reply, or not for Ethernet.
    #[error("not a DHCP message for Ethernet")]
    WrongHardware,
    /// No message type, or one that is not for clients.
    #[error("missing or unknown message type")]
    NoType,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// True if a server sent it.
    pub reply: bool,
    /// Its type.
    pub kind: Kind,
    /// Identifies the exchange.
    pub xid: u32,
    /// Seconds since the exchange began.
    pub secs: u16,
    /// The client's current address, if it has one.
    pub ciaddr: Ipv4Addr,
    /// The address that the server assigns.
    pub yiaddr: Ipv4Addr,
    /// The client's hardware address.
    pub chaddr: Mac,
    /// Options by code, with split options joined, without the message type.
    pub options: BTreeMap<u8, Vec<u8>>,
}

impl Packet {
    /// A client's message without options.
    pub fn request(kind: Kind, xid: u32, secs: u16, chaddr: Mac) -> Packet {
        Packet {
            reply: false,
            kind,
            xid,
            secs,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            options: BTreeMap::new(),
        }
    }

    /// Sets an option.
    pub fn with(mut self, code: u8, value: impl Into<Vec<u8>>) -> Packet {
        self.options.insert(code, value.into());
        self
    }

    /// The value of an option that is an address.
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.options
            .get(&code)
            .and_then(|value| <[u8; 4]>::try_from(&value[..]).ok())
            .map(Into::into)
    }

    /// The value of an option that is a list of addresses; an incomplete last one is left out.
    pub fn addresses(&self, code: u8) -> impl Iterator<Item = Ipv4Addr> {
        let value = self.options.get(&code).map(Vec::as_slice).unwrap_or_default();
        value.as_chunks::<4>().0.iter().map(|octets| Ipv4Addr::from(*octets))
    }

    /// The value of an option that is a 32-bit number.
    pub fn number(&self, code: u8) -> Option<u32> {
        self.address(code).map(Ipv4Addr::to_bits)
    }

    /// Parses a message. A missing `END` is tolerated, because some servers omit it.
    ///
    /// # Errors
    /// See [`PacketError`].
    pub fn parse(bytes: &[u8]) -> Result<Packet, PacketError> {
        let options_area = bytes.get(OPTIONS..).ok_or(PacketError::Short)?;
        if bytes.get(FILE.end..OPTIONS) != Some(&COOKIE) {
            return Err(PacketError::NoCookie);
        }
        let reply = match bytes {
            [OP_REPLY, ETHERNET, 6, ..] => true,
            [OP_REQUEST, ETHERNET, 6, ..] => false,
            _ => return Err(PacketError::WrongHardware),
        };
        let mut options = BTreeMap::new();
        read_options(options_area, &mut options)?;
        // RFC 3396 section 5: options in `file` and `sname` follow, in this order.
        let overload = options.get(&code::OVERLOAD).and_then(|v: &Vec<u8>| v.first().copied());
        for (bit, area) in [(1, FILE), (2, SNAME)] {
            if overload.unwrap_or(0) & bit != 0 {
                read_options(bytes.get(area).unwrap_or_default(), &mut options)?;
            }
        }
        let kind = match options.remove(&code::MESSAGE_TYPE).as_deref() {
            Some(&[kind]) => Kind::from_code(kind),
            _ => None,
        };
        Ok(Packet {
            reply,
            kind: kind.ok_or(PacketError::NoType)?,
            xid: u32::from_be_bytes(field(bytes, XID)?),
            secs: u16::from_be_bytes(field(bytes, SECS)?),
            ciaddr: field::<4>(bytes, CIADDR)?.into(),
            yiaddr: field::<4>(bytes, YIADDR)?.into(),
            chaddr: field(bytes, CHADDR)?,
            options,
        })
    }

    /// Encodes the message.
    pub fn encode(&self) -> Vec<u8> {
        let op = if self.reply { OP_REPLY } else { OP_REQUEST };
        let mut bytes = vec![op, ETHERNET, 6, 0];
        bytes.extend_from_slice(&self.xid.to_be_bytes());
        bytes.extend_from_slice(&self.secs.to_be_bytes());
        bytes.resize(CIADDR, 0);
        bytes.extend_from_slice(&self.ciaddr.octets());
        bytes.extend_from_slice(&self.yiaddr.octets());
        bytes.resize(CHADDR, 0);
        bytes.extend_from_slice(&self.chaddr);
        bytes.resize(FILE.end, 0);
        bytes.extend_from_slice(&COOKIE);
        bytes.extend_from_slice(&[code::MESSAGE_TYPE, 1, self.kind as u8]);
        for (&code, value) in &self.options {
            // A value over 255 bytes is split (RFC 3396); an empty one is written, too.
            let (full, rest) = value.as_chunks::<255>();
            let rest = (!rest.is_empty() || full.is_empty()).then_some(rest);
            for part in full.iter().map(<[u8; 255]>::as_slice).chain(rest) {
                bytes.extend_from_slice(&[code, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
                bytes.extend_from_slice(part);
            }
        }
        bytes.push(code::END);
        bytes.resize(bytes.len().max(MIN_SIZE), code::PAD);
        bytes
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], PacketError> {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).ok_or(PacketError::Short)
}

/// Parses options up to `END`, joining split ones (RFC 3396).
fn read_options(mut area: &[u8], options: &mut BTreeMap<u8, Vec<u8>>) -> Result<(), PacketError> {
    loop {
        match area {
            [] | [code::END, ..] => return Ok(()),
            [code::PAD, rest @ ..] => area = rest,
            [code] => return Err(PacketError::CutOption(*code)),
            [code, length, rest @ ..] => {
                let (value, rest) = rest
                    .split_at_checked(usize::from(*length))
                    .ok_or(PacketError::CutOption(*code))?;
                options.entry(*code).or_default().extend_from_slice(value);
                area = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parsing_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Packet::parse(&bytes);
        }

        #[test]
        fn parsing_a_damaged_message_never_panics(
            cut in 0usize..400, damage in proptest::collection::vec((0usize..400, any::<u8>()), 0..8),
        ) {
            let mut bytes = Packet::request(Kind::Request, 1, 2, [3; 6])
                .with(code::CLASSLESS_ROUTES, [7; 40]).encode();
            for (at, byte) in damage {
                if let Some(target) = bytes.get_mut(at) { *target = byte; }
            }
            bytes.truncate(cut);
            let _ = Packet::parse(&bytes);
        }

        #[test]
        fn a_message_is_parsed_back(
            xid: u32, secs: u16, ciaddr: u32, yiaddr: u32, chaddr: [u8; 6], reply: bool,
            options in proptest::collection::btree_map(
                (1u8..=254).prop_filter("own", |c| ![code::OVERLOAD, code::MESSAGE_TYPE].contains(c)),
                proptest::collection::vec(any::<u8>(), 0..600), 0..6),
        ) {
            let packet = Packet {
                reply, kind: Kind::Offer, xid, secs, chaddr, options,
                ciaddr: ciaddr.into(), yiaddr: yiaddr.into(),
            };
            prop_assert_eq!(Packet::parse(&packet.encode()), Ok(packet));
        }

        #[test]
        fn a_truncated_option_is_never_used(cut in 0usize..260) {
            let bytes = Packet::request(Kind::Request, 1, 2, [3; 6])
                .with(code::DOMAIN, [b'x'; 100]).encode();
            let read = Packet::parse(&bytes[..cut]);
            prop_assert!(read.map_or(true, |packet| !packet.options.contains_key(&code::DOMAIN)));
        }
    }

    #[test]
    fn options_in_file_and_sname_are_read_in_the_order_of_rfc_3396() {
        let mut bytes = Packet::request(Kind::Ack, 1, 0, [0; 6])
            .with(code::DOMAIN, *b"a.")
            .with(code::OVERLOAD, [3])
            .encode();
        bytes[FILE][..4].copy_from_slice(&[code::DOMAIN, 1, b'b', code::END]);
        bytes[SNAME][..4].copy_from_slice(&[code::DOMAIN, 1, b'c', code::END]);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.options[&code::DOMAIN], b"a.bc");
    }

    /// An acknowledgement with these bytes as options.
    fn ack(options: &[u8]) -> Vec<u8> {
        let mut bytes = Packet::request(Kind::Ack, 1, 0, [0; 6]).encode();
        bytes.truncate(OPTIONS);
        bytes.extend_from_slice(&[code::MESSAGE_TYPE, 1, Kind::Ack as u8]);
        bytes.extend_from_slice(options);
        bytes
    }

    #[test]
    fn parts_of_an_option_are_joined_when_others_stand_between_them() {
        let bytes =
            ack(&[code::DOMAIN, 2, b'a', b'.', code::MTU, 2, 5, 220, code::DOMAIN, 1, b'b']);
        assert_eq!(Packet::parse(&bytes).unwrap().options[&code::DOMAIN], b"a.b");
    }

    #[test]
    fn an_option_of_the_wrong_length_does_not_hide_those_behind_it() {
        let mut options = vec![code::HOST_NAME, 1, 0xff, code::ROUTERS, 5, 10, 0, 0, 1, 9];
        options.extend([code::SERVER, 4, 10, 0, 0, 1, code::LEASE_TIME, 8, 0, 0, 0, 9, 0, 0, 0, 9]);
        let packet = Packet::parse(&ack(&options)).unwrap();
        assert_eq!(packet.address(code::SERVER), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(packet.number(code::LEASE_TIME), None);
    }

    #[test]
    fn a_message_with_a_cut_option_is_refused() {
        for cut in
            [&[code::DOMAIN][..], &[code::DOMAIN, 9, b'a'], &[code::DOMAIN, 0, code::DOMAIN, 1]]
        {
            assert_eq!(Packet::parse(&ack(cut)), Err(PacketError::CutOption(code::DOMAIN)));
        }
    }

    #[test]
    fn other_hardware_and_a_missing_cookie_are_refused() {
        for (at, byte) in [(0, 7), (1, 6), (2, 255)] {
            let mut bytes = ack(&[]);
            bytes[at] = byte;
            assert_eq!(Packet::parse(&bytes), Err(PacketError::WrongHardware));
        }
        let mut bytes = ack(&[]);
        bytes[FILE.end] = 0;
        assert_eq!(Packet::parse(&bytes), Err(PacketError::NoCookie));
    }
}
