//! `host.toml`.

use crate::address::{contains, overlap, parse_address, parse_bridge, parse_link_address};
use crate::diagnostic::{ParseError, quoted};
use crate::model::{
    Api, Client, DataDisk, Host, Interface, IpNet, Ipv4Net, Network, Role, Storage,
};
use crate::names::{check_hostname, check_link_name, check_unit_name};
use crate::reader::{Reader, Source};
use crate::schema;
use crate::syntax;
use crate::value::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

impl Default for Host {
    /// The configuration without a `host.toml`.
    fn default() -> Self {
        Host {
            hostname: "keel".to_owned(),
            network: Network {
                bridge: Ipv4Net { addr: Ipv4Addr::new(10, 88, 0, 1), prefix: 16 },
                dns: Vec::new(),
                interfaces: BTreeMap::new(),
            },
            storage: Storage { data: DataDisk::Auto },
            api: Api::default(),
        }
    }
}

/// Reads `host.toml`; a key with an error keeps its default.
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
    if let Some(value) = top.get("api") {
        read_api(&value, &mut host.api);
    }
    host
}

fn read_api(value: &Value<'_>, api: &mut Api) {
    let Some(table) = value.reader(&schema::API, &schema::HOST_TABLES) else { return };
    api.enabled = table.get("enabled").and_then(|value| value.boolean());
    let Some(clients) = table.get("client") else { return };
    let hint = "write `[api.client.NAME]`";
    let Some(named) = clients.table("a table of tables", hint) else { return };
    for entry in clients.entries(named) {
        if check_unit_name(entry.key()).is_err() {
            let message = format!("invalid client name {}", quoted(entry.key()));
            let hint = "a client name is 1 to 63 characters of a-z, 0-9 and `-`, without `-` at either end";
            table.source.error(&entry.key_span, message, hint);
            continue;
        }
        let Some(found) = entry.reader(&schema::CLIENT, &schema::HOST_TABLES) else { continue };
        let words = Role::ALL.map(|role| (role.name(), role));
        let role = found.get("role").map(|value| value.word(&words));
        let Some(key) = found.get("key") else {
            let message = format!("client {} has no `key`", quoted(entry.key()));
            table.source.error(&entry.key_span, message, "`keel keygen` prints the line to add");
            continue;
        };
        let Some(text) = key.text("a fingerprint").and_then(|text| text.checked(check_fingerprint))
        else {
            continue;
        };
        if let Some((other, _)) = api.clients.iter().find(|(_, client)| client.key == text) {
            let message = format!("client `{other}` has the same key");
            table.source.error(&entry.key_span, message, "each key can belong to one client only");
            continue;
        }
        // An invalid role must not become a default role.
        let Some(role) = role.unwrap_or(Some(Role::Reader)) else { continue };
        api.clients.insert(entry.key().to_owned(), Client { key: text, role });
    }
}

/// Checks the fingerprint of a public key: `SHA256:` and 43 characters of base64.
///
/// # Errors
/// A [`ParseError`] that describes what is wrong.
pub fn check_fingerprint(text: &str) -> Result<(), ParseError> {
    let hint = "`keel keygen` prints it: `SHA256:` and 43 characters of base64";
    let Some(digest) = text.strip_prefix("SHA256:") else {
        let message = format!("invalid key fingerprint {}", quoted(text));
        return Err(ParseError::whole(text, message).hint(hint));
    };
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    // 32 bytes are 43 characters, of which the last holds four bits.
    let ends = digest.bytes().last().is_some_and(|byte| b"AEIMQUYcgkosw048".contains(&byte));
    if digest.len() == 43 && digest.bytes().all(base64) && ends {
        return Ok(());
    }
    let message = format!("incomplete or invalid key fingerprint {}", quoted(text));
    Err(ParseError::whole(text, message).hint(hint))
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
        if let Err(error) = check_link_name(entry.key()) {
            let hint = error.hint.unwrap_or_default();
            table.source.error(&entry.key_span, error.message, &hint);
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
            let message =
                format!("subnet overlaps the container bridge {}/{}", bridge.addr, bridge.prefix);
            let hint = "move the bridge: `bridge = \"172.31.0.1/16\"` in `[network]`";
            table.source.error(&text.span, message, hint);
        }
        if address.contains(&net) {
            table.source.warning(&text.span, "duplicate address", "");
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
            error("duplicate default gateway of the same address family".to_owned(), "keep one");
            continue;
        }
        let link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let reachable = link_local
            || address.iter().any(|net| contains(*net, gateway))
            // DHCP may provide the address that makes it reachable.
            || (dhcp && gateway.is_ipv4());
        if gateway.is_unspecified() || gateway.is_multicast() || gateway.is_loopback() {
            error(format!("`{gateway}` cannot be a gateway"), "");
        } else if address.iter().any(|net| net.addr == gateway) {
            error(format!("gateway `{gateway}` is the host's own address"), "");
        } else if !reachable {
            let hint = "a gateway must be in the subnet of an `address` of the same link";
            error(format!("gateway `{gateway}` is not reachable from this link"), hint);
        } else {
            gateways.push(gateway);
        }
    }
    gateways
}
