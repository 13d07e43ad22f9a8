//! The rules of the firewall, as data.
//!
//! - From outside, a container can be reached only through its published ports.
//! - Containers can reach each other and everything outside; outside they appear as the host.
//! - A published port can be reached on every address of the host (or on the configured one),
//!   including 127.0.0.1, and also from containers, including the publishing one.
//!
//! Not implemented: published ports on IPv6, and closing UDP flows that were translated by rules
//! that no longer exist (they keep their translation until they have been idle for 30 s).

use ipc::{NetRequest, PublishedPort};
use std::fmt;
use std::net::Ipv4Addr;
use units::model::Ipv4Net;

use super::expr::{Address, Cmp, Ct, DNATED, ESTABLISHED_OR_RELATED, Expressions, Meta, Verdict};
use crate::attr::AttrWriter;

/// Hooks (`enum nf_inet_hooks`).
const PREROUTING: u32 = 0;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

/// A base chain.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// The hook.
    pub hook: u32,
    /// The priority among the chains of the same hook.
    pub priority: i32,
    /// The verdict if no rule matches.
    pub policy: Verdict,
    /// In order; the first rule that matches applies.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Debug, Clone)]
pub enum Rule {
    /// Drops packets to 127.0.0.0/8 that do not come from this host, before they can be translated:
    /// otherwise a neighbour or a container could reach ports published only for the host
    /// (CVE-2020-8558).
    DropForeignLoopback,
    /// Accepts packets of existing connections, and errors about them.
    AcceptEstablished,
    /// Accepts packets from containers.
    AcceptFrom {
        /// The bridge.
        bridge: String,
    },
    /// Accepts packets to a container that were redirected by a published port.
    AcceptPublished {
        /// The bridge.
        bridge: String,
    },
    /// A published port.
    Publish {
        /// The container.
        to: Ipv4Addr,
        /// The port.
        port: PublishedPort,
    },
    /// Makes containers appear as the host outside.
    MasqueradeOut {
        /// The bridge.
        bridge: String,
        /// The containers' subnet.
        net: Ipv4Net,
    },
    /// If a container connects to a published port, makes the replies go through the host, to which
    /// it connected, and not directly from the other container, which it would not recognise.
    MasqueradeHairpin {
        /// The bridge.
        bridge: String,
        /// The containers' subnet.
        net: Ipv4Net,
    },
    /// Gives packets from the host to its own published ports on 127.0.0.1 a source address that
    /// the container can reply to.
    MasqueradeLoopback {
        /// The bridge.
        bridge: String,
    },
}

const LOOPBACK: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 0, 0), 8);

impl Rule {
    /// Writes the rule's expressions.
    pub(super) fn write(&self, list: &mut AttrWriter) {
        let mut rule = Expressions(list);
        match self {
            Rule::DropForeignLoopback => rule
                .link(Meta::InName, Cmp::NotEqual, "lo")
                .address(Address::Destination, LOOPBACK.0, LOOPBACK.1)
                .verdict(Verdict::Drop),
            Rule::AcceptEstablished => {
                rule.connection(Ct::State, ESTABLISHED_OR_RELATED).verdict(Verdict::Accept)
            }
            Rule::AcceptFrom { bridge } => {
                rule.link(Meta::InName, Cmp::Equal, bridge).verdict(Verdict::Accept)
            }
            Rule::AcceptPublished { bridge } => rule
                .link(Meta::OutName, Cmp::Equal, bridge)
                .connection(Ct::Status, DNATED)
                .verdict(Verdict::Accept),
            Rule::Publish { to, port } => {
                let protocol = if port.udp { libc::IPPROTO_UDP } else { libc::IPPROTO_TCP };
                rule.port(u8::try_from(protocol).unwrap_or(0), port.host);
                if let Some(address) = port.host_address {
                    rule.address(Address::Destination, address, 32);
                }
                rule.for_this_host().dnat(*to, port.container)
            }
            Rule::MasqueradeOut { bridge, net } => rule
                .address(Address::Source, net.addr, net.prefix)
                .link(Meta::OutName, Cmp::NotEqual, bridge)
                .masquerade(),
            Rule::MasqueradeHairpin { bridge, net } => rule
                .address(Address::Source, net.addr, net.prefix)
                .link(Meta::OutName, Cmp::Equal, bridge)
                .connection(Ct::Status, DNATED)
                .masquerade(),
            Rule::MasqueradeLoopback { bridge } => rule
                .address(Address::Source, LOOPBACK.0, LOOPBACK.1)
                .link(Meta::OutName, Cmp::Equal, bridge)
                .masquerade(),
        };
    }
}

/// In the syntax of nft(8), for messages.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::DropForeignLoopback => write!(f, "iifname != lo ip daddr 127.0.0.0/8 drop"),
            Rule::AcceptEstablished => write!(f, "ct state established,related accept"),
            Rule::AcceptFrom { bridge } => write!(f, "iifname {bridge} accept"),
            Rule::AcceptPublished { bridge } => {
                write!(f, "oifname {bridge} ct status dnat accept")
            }
            Rule::Publish { to, port } => {
                let protocol = if port.udp { "udp" } else { "tcp" };
                write!(f, "{protocol} dport {} ", port.host)?;
                if let Some(address) = port.host_address {
                    write!(f, "ip daddr {address} ")?;
                }
                write!(f, "fib daddr type local dnat to {to}:{}", port.container)
            }
            Rule::MasqueradeOut { bridge, net } => {
                write!(f, "ip saddr {}/{} oifname != {bridge} masquerade", net.addr, net.prefix)
            }
            Rule::MasqueradeHairpin { bridge, net } => write!(
                f,
                "ip saddr {}/{} oifname {bridge} ct status dnat masquerade",
                net.addr, net.prefix
            ),
            Rule::MasqueradeLoopback { bridge } => {
                write!(f, "ip saddr 127.0.0.0/8 oifname {bridge} masquerade")
            }
        }
    }
}

/// The whole firewall for a bridge and the units published on it.
pub fn chains(bridge: &str, net: Ipv4Net, units: &[NetRequest]) -> Vec<Chain> {
    let name = || bridge.to_owned();
    let publish: Vec<Rule> = units
        .iter()
        .flat_map(|unit| {
            unit.ports.iter().map(|port| Rule::Publish { to: unit.address, port: *port })
        })
        .collect();
    let chain = |name, kind, hook, priority, rules| Chain {
        name,
        kind,
        hook,
        priority,
        policy: Verdict::Accept,
        rules,
    };
    let (raw, dnat, filter, snat) = (
        libc::NF_IP_PRI_RAW,
        libc::NF_IP_PRI_NAT_DST,
        libc::NF_IP_PRI_FILTER,
        libc::NF_IP_PRI_NAT_SRC,
    );
    let forward = vec![
        Rule::AcceptEstablished,
        Rule::AcceptFrom { bridge: name() },
        Rule::AcceptPublished { bridge: name() },
    ];
    let source = vec![
        Rule::MasqueradeOut { bridge: name(), net },
        Rule::MasqueradeHairpin { bridge: name(), net },
        Rule::MasqueradeLoopback { bridge: name() },
    ];
    vec![
        chain("guard", "filter", PREROUTING, raw, vec![Rule::DropForeignLoopback]),
        chain("publish", "nat", PREROUTING, dnat, publish.clone()),
        chain("publish-local", "nat", OUTPUT, dnat, publish),
        chain("masquerade", "nat", POSTROUTING, snat, source),
        Chain { policy: Verdict::Drop, ..chain("forward", "filter", FORWARD, filter, forward) },
    ]
}
