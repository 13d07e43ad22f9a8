//! nftables expressions, of which rules consist.
//!
//! Each function writes one `NFTA_LIST_ELEM` into the list of a rule. Numbers are those of
//! `include/uapi/linux/netfilter/nf_tables.h`, with the same names; values compared with packet
//! bytes are in network byte order, values compared with results of the kernel in host byte order.

use std::net::Ipv4Addr;

use crate::attr::AttrWriter;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;

const NFT_REG_VERDICT: u32 = 0;
/// The 16-byte registers 1 and 2.
const NFT_REG_1: u32 = 1;
const NFT_REG_2: u32 = 2;

/// The result of a comparison for which the rule continues.
#[derive(Debug, Clone, Copy)]
pub enum Cmp {
    /// `NFT_CMP_EQ`.
    Equal = 0,
    /// `NFT_CMP_NEQ`.
    NotEqual = 1,
}

/// The verdict of a rule (`NF_DROP`, `NF_ACCEPT`).
#[derive(Debug, Clone, Copy)]
pub enum Verdict {
    /// The packet is dropped.
    Drop = 0,
    /// The packet leaves this chain.
    Accept = 1,
}

/// `meta` keys.
#[derive(Debug, Clone, Copy)]
pub enum Meta {
    /// Name of the incoming link (`NFT_META_IIFNAME`).
    InName = 6,
    /// Name of the outgoing link (`NFT_META_OIFNAME`).
    OutName = 7,
    /// Transport protocol (`NFT_META_L4PROTO`).
    Protocol = 16,
}

/// `ct` keys.
#[derive(Debug, Clone, Copy)]
pub enum Ct {
    /// `NFT_CT_STATE`: a bit mask, see [`ESTABLISHED_OR_RELATED`].
    State = 0,
    /// `NFT_CT_STATUS`: a bit mask, see [`DNATED`].
    Status = 2,
}

/// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_BIT(IP_CT_RELATED)`.
pub const ESTABLISHED_OR_RELATED: u32 = 0x6;
/// `IPS_DST_NAT`.
pub const DNATED: u32 = 0x20;

/// The offset of an address in the IPv4 header.
#[derive(Debug, Clone, Copy)]
pub enum Address {
    /// The source.
    Source = 12,
    /// The destination.
    Destination = 16,
}

/// The expressions of one rule (the value of `NFTA_RULE_EXPRESSIONS`).
#[derive(Debug)]
pub struct Expressions<'a>(pub &'a mut AttrWriter);

impl Expressions<'_> {
    fn add(&mut self, name: &str, data: impl FnOnce(&mut AttrWriter)) -> &mut Self {
        self.0.nest(NFTA_LIST_ELEM, |element| {
            element.string(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, data);
        });
        self
    }

    /// `NFTA_META_DREG` 1, `NFTA_META_KEY` 2.
    fn meta(&mut self, key: Meta) -> &mut Self {
        self.add("meta", |data| {
            data.be32(1, NFT_REG_1).be32(2, key as u32);
        })
    }

    /// `NFTA_CMP_SREG` 1, `NFTA_CMP_OP` 2, `NFTA_CMP_DATA` 3.
    fn compare(&mut self, how: Cmp, value: &[u8]) -> &mut Self {
        self.add("cmp", |data| {
            data.be32(1, NFT_REG_1).be32(2, how as u32).nest(3, |inner| {
                inner.bytes(NFTA_DATA_VALUE, value);
            });
        })
    }

    /// `NFTA_BITWISE_SREG` 1, `_DREG` 2, `_LEN` 3, `_MASK` 4, `_XOR` 5.
    fn mask(&mut self, mask: [u8; 4]) -> &mut Self {
        self.add("bitwise", |data| {
            data.be32(1, NFT_REG_1).be32(2, NFT_REG_1).be32(3, 4);
            data.nest(4, |inner| {
                inner.bytes(NFTA_DATA_VALUE, &mask);
            });
            data.nest(5, |inner| {
                inner.bytes(NFTA_DATA_VALUE, &[0; 4]);
            });
        })
    }

    /// `NFTA_PAYLOAD_DREG` 1, `_BASE` 2 (1: network header, 2: transport header), `_OFFSET` 3,
    /// `_LEN` 4.
    fn payload(&mut self, base: u32, offset: u32, length: u32) -> &mut Self {
        self.add("payload", |data| {
            data.be32(1, NFT_REG_1).be32(2, base).be32(3, offset).be32(4, length);
        })
    }

    /// `NFTA_IMMEDIATE_DREG` 1, `_DATA` 2.
    fn immediate(&mut self, register: u32, value: &[u8]) -> &mut Self {
        self.add("immediate", |data| {
            data.be32(1, register).nest(2, |inner| {
                inner.bytes(NFTA_DATA_VALUE, value);
            });
        })
    }

    /// The packet's link has this name, or does not.
    pub fn link(&mut self, key: Meta, how: Cmp, name: &str) -> &mut Self {
        // The kernel compares all 16 bytes of the name (IFNAMSIZ), including the zeroes.
        let mut bytes = [0; 16];
        for (byte, new) in bytes.iter_mut().zip(name.bytes()) {
            *byte = new;
        }
        self.meta(key).compare(how, &bytes)
    }

    /// The packet's address is in this subnet.
    pub fn address(&mut self, which: Address, net: Ipv4Addr, prefix: u8) -> &mut Self {
        let shift = 32u32.saturating_sub(u32::from(prefix));
        let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
        self.payload(1, which as u32, 4);
        if prefix < 32 {
            self.mask(mask.to_be_bytes());
        }
        self.compare(Cmp::Equal, &(net.to_bits() & mask).to_be_bytes())
    }

    /// The destination is one of the host's own addresses.
    /// `NFTA_FIB_DREG` 1, `_RESULT` 2 (3: address type), `_FLAGS` 3 (2: destination address).
    pub fn for_this_host(&mut self) -> &mut Self {
        self.add("fib", |data| {
            data.be32(1, NFT_REG_1).be32(2, 3).be32(3, 2);
        })
        .compare(Cmp::Equal, &u32::from(libc::RTN_LOCAL).to_ne_bytes())
    }

    /// The packet has this transport protocol and destination port.
    pub fn port(&mut self, protocol: u8, port: u16) -> &mut Self {
        self.meta(Meta::Protocol)
            .compare(Cmp::Equal, &[protocol])
            .payload(2, 2, 2)
            .compare(Cmp::Equal, &port.to_be_bytes())
    }

    /// The packet's connection has any of these bits. `NFTA_CT_DREG` 1, `NFTA_CT_KEY` 2.
    pub fn connection(&mut self, key: Ct, bits: u32) -> &mut Self {
        self.add("ct", |data| {
            data.be32(1, NFT_REG_1).be32(2, key as u32);
        })
        .mask(bits.to_ne_bytes())
        .compare(Cmp::NotEqual, &[0; 4])
    }

    /// Ends the rule with a verdict.
    pub fn verdict(&mut self, verdict: Verdict) -> &mut Self {
        self.add("immediate", |data| {
            data.be32(1, NFT_REG_VERDICT).nest(2, |inner| {
                inner.nest(NFTA_DATA_VERDICT, |code| {
                    code.be32(NFTA_VERDICT_CODE, verdict as u32);
                });
            });
        })
    }

    /// Redirects the connection to another address and port. `NFTA_NAT_TYPE` 1 (1: destination),
    /// `_FAMILY` 2, `_REG_ADDR_MIN` 3, `_REG_PROTO_MIN` 5; the kernel infers the flags.
    pub fn dnat(&mut self, address: Ipv4Addr, port: u16) -> &mut Self {
        self.immediate(NFT_REG_1, &address.octets()).immediate(NFT_REG_2, &port.to_be_bytes()).add(
            "nat",
            |data| {
                data.be32(1, 1).be32(2, super::FAMILY.into());
                data.be32(3, NFT_REG_1).be32(5, NFT_REG_2);
            },
        )
    }

    /// Replaces the source address of the connection by the address of the outgoing link.
    pub fn masquerade(&mut self) -> &mut Self {
        self.add("masq", |_| {})
    }
}
