//! What the firewall says, as data.
//!
//! - From outside, a container is reached through its published ports and in no other way.
//! - Containers reach each other and everything outside; outside they appear as the host.
//! - A published port answers on every address of the host (or the one that it names), also on
//!   127.0.0.1, also for containers, the publishing one included.
//!
//! Not done: published ports on IPv6, and cutting UDP flows that were translated by rules since
//! gone (they keep their translation until they have been idle for 30 s).

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
    /// Where packets meet it.
    pub hook: u32,
    /// Its place among others at the same hook.
    pub priority: i32,
    /// What happens to a packet that no rule decides.
    pub policy: Verdict,
    /// In order; the first that matches decides.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Clone)]
pub enum Rule {
    /// Packets to 127.0.0.0/8 that did not come from this host are dropped, before anything could
    /// translate them: else a neighbour or a container reaches what is published for the host
    /// alone (CVE-2020-8558).
    DropForeignLoopback,
    /// Packets of connections that exist, and errors about them, pass.
    AcceptEstablished,
    /// What comes from containers passes.
    AcceptFrom {
        /// The bridge.
        bridge: String,
    },
    /// What a published port has sent to a container passes.
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
    /// Containers appear outside as the host.
    MasqueradeOut {
        /// The bridge.
        bridge: String,
        /// The containers' subnet.
        net: Ipv4Net,
    },
    /// A container that reaches a published port gets its answers through the host, which it
    /// spoke to, and not directly from the other container, which it does not know.
    MasqueradeHairpin {
        /// The bridge.
        bridge: String,
        /// The containers' subnet.
        net: Ipv4Net,
    },
    /// What the host sends to its own published ports on 127.0.0.1 gets an address that the
    /// container can answer to.
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

/// As nft(8) would write it, for messages.
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
