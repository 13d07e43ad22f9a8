//! `host.toml`.

use crate::address::{contains, overlap, parse_address, parse_bridge, parse_link_address};
use crate::model::{DataDisk, Host, Interface, IpNet, Ipv4Net, Network, Storage};
use crate::names::{check_hostname, check_link_name};
use crate::reader::{Reader, Source};
use crate::schema;
use crate::syntax;
use crate::value::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

impl Default for Host {
    /// What holds without a `host.toml`.
    fn default() -> Self {
        Host {
            hostname: "keel".to_owned(),
            network: Network {
                bridge: Ipv4Net { addr: Ipv4Addr::new(10, 88, 0, 1), prefix: 16 },
                dns: Vec::new(),
                interfaces: BTreeMap::new(),
            },
            storage: Storage { data: DataDisk::Auto },
        }
    }
}

/// Reads `host.toml`; what is wrong in it keeps its default.
pub(crate) fn parse(source: &Source<'_>) -> Host {
    let mut host = Host::default();
    let Some(table) = syntax::parse(source) else { return host };
    let top = Reader::new(source, table.get_ref(), &schema::HOST, &schema::HOST_TABLES, 0..0);
    let hostname = top.get("hostname").and_then(|value| value.text("a string"));
    if let Some(hostname) = hostname.and_then(|text| text.checked(check_hostname)) {
        host.hostname = hostname;
    }
    if let Some(value) = top.get("network") {
        read_network(&value, &mut host.network);
    }
    if let Some(value) = top.get("storage")
        && let Some(table) = value.reader(&schema::STORAGE, &schema::HOST_TABLES)
    {
        let words = [
            ("auto", DataDisk::Auto),
            ("memory", DataDisk::Memory),
            ("required", DataDisk::Required),
        ];
        if let Some(data) = table.get("data").and_then(|value| value.word(&words)) {
            host.storage.data = data;
        }
    }
    host
}

fn read_network(value: &Value<'_>, network: &mut Network) {
    let Some(table) = value.reader(&schema::NETWORK, &schema::HOST_TABLES) else { return };
    let bridge = table.get("bridge").and_then(|value| value.text("a subnet"));
    if let Some(bridge) = bridge.and_then(|text| text.read(parse_bridge)) {
        network.bridge = bridge;
    }
    let servers = table.get("dns").and_then(|value| value.one_or_more()).unwrap_or_default();
    network.dns = servers.iter().filter_map(|text| text.read(parse_address)).collect();
    let Some(interfaces) = table.get("interface") else { return };
    let hint = "write `[network.interface.eth0]`";
    let Some(named) = interfaces.table("a table of tables", hint) else { return };
    for entry in interfaces.entries(named) {
        if let Err(mistake) = check_link_name(entry.key()) {
            let hint = mistake.hint.unwrap_or_default();
            table.source.error(&entry.key_span, mistake.message, &hint);
            continue;
        }
        if let Some(interface) = read_interface(&entry, network.bridge) {
            network.interfaces.insert(entry.key().to_owned(), interface);
        }
    }
}

fn read_interface(value: &Value<'_>, bridge: Ipv4Net) -> Option<Interface> {
    let table = value.reader(&schema::INTERFACE, &schema::HOST_TABLES)?;
    let mut address: Vec<IpNet> = Vec::new();
    let written = table.get("address");
    let texts = written.as_ref().and_then(|value| value.one_or_more()).unwrap_or_default();
    for text in texts {
        let Some(net) = text.read(parse_link_address) else { continue };
        let containers = IpNet { addr: IpAddr::V4(bridge.addr), prefix: bridge.prefix };
        if overlap(net, containers) {
            let message = format!(
                "this subnet overlaps that of the containers' bridge, {}/{}",
                bridge.addr, bridge.prefix
            );
            let hint = "choose another one: `bridge = \"172.31.0.1/16\"` in `[network]`";
            table.source.error(&text.span, message, hint);
        }
        if address.contains(&net) {
            table.source.warning(&text.span, "this address is there twice", "");
        } else {
            address.push(net);
        }
    }
    let dhcp = table.get("dhcp").and_then(|value| value.boolean()).unwrap_or(written.is_none());
    let gateway = read_gateways(&table, &address, dhcp);
    let mtu = table
        .get("mtu")
        .and_then(|value| value.integer_in(576, 65_535))
        .and_then(|mtu| u32::try_from(mtu).ok());
    Some(Interface { dhcp, address, gateway, mtu })
}

fn read_gateways(table: &Reader<'_>, address: &[IpNet], dhcp: bool) -> Vec<IpAddr> {
    let mut gateways: Vec<IpAddr> = Vec::new();
    let texts = table.get("gateway").and_then(|value| value.one_or_more()).unwrap_or_default();
    for text in texts {
        let Some(gateway) = text.read(parse_address) else { continue };
        let error = |message: String, hint| table.source.error(&text.span, message, hint);
        if gateways.iter().any(|other| other.is_ipv4() == gateway.is_ipv4()) {
            error("a second default gateway of the same family".to_owned(), "keep one");
            continue;
        }
        let link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let reachable = link_local
            || address.iter().any(|net| contains(*net, gateway))
            // DHCP may bring the address that makes it reachable.
            || (dhcp && gateway.is_ipv4());
        if gateway.is_unspecified() || gateway.is_multicast() || gateway.is_loopback() {
            error(format!("`{gateway}` cannot be a gateway"), "");
        } else if address.iter().any(|net| net.addr == gateway) {
            error(format!("`{gateway}` is this machine's own address"), "");
        } else if !reachable {
            let hint = "a gateway lies in the subnet of an `address` of the same link";
            error(format!("`{gateway}` cannot be reached from this link"), hint);
        } else {
            gateways.push(gateway);
        }
    }
    gateways
}
