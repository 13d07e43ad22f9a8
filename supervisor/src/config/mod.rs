//! The host folder as it was baked in: what the supervisor works from.

pub mod address;
pub mod seccomp;
pub mod values;

use container::IdRange;
use ipc::{NetRequest, PublishedPort};
use layout::folder::{self, HostFolder};
use layout::images::Images;
use seccomp::Filters;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use units::Severity;
use units::model::{
    Condition, HostConfig, NetworkMode, Protocol, Unit, UserNamespace, VolumeSource,
};

/// Everything that is known before anything runs.
pub struct Config {
    /// host.toml and the units that are right.
    pub host: HostConfig,
    /// Units whose files have mistakes: name → what is wrong.
    pub broken: BTreeMap<String, String>,
    /// All mistakes, as `keel check` shows them.
    pub problems: Vec<String>,
    /// The images.
    pub images: Images,
    /// Which system calls the units may make.
    pub filters: Filters,
    /// Addresses of the bridged units.
    pub addresses: BTreeMap<String, Ipv4Addr>,
}

impl Config {
    /// Reads everything below `dir`. Nothing in it can keep the host from running: what is wrong is
    /// left out and said.
    pub fn load(dir: &Path) -> Config {
        let folder = HostFolder::read(dir);
        let mut problems: Vec<String> = folder.unreadable.iter().map(ToString::to_string).collect();
        let unreadable = folder.unreadable.iter();
        let mut broken: BTreeMap<String, String> = unreadable
            .filter_map(|it| Some((it.unit()?.to_owned(), it.error.to_string())))
            .collect();
        let loaded = folder.load();
        for diagnostic in loaded.diagnostics.iter().filter(|d| d.severity == Severity::Error) {
            problems.push(diagnostic.render(folder.text(&diagnostic.file), false));
            let unit = Path::new(&diagnostic.file).file_stem().and_then(|stem| stem.to_str());
            if let Some(unit) = unit.filter(|unit| loaded.left_out.contains(*unit)) {
                broken.entry(unit.to_owned()).or_insert_with(|| diagnostic.message.clone());
            }
        }
        let mut config = loaded.config;
        for unit in config.units.values_mut() {
            wait_for_volumes(unit);
        }
        let index = dir.join(folder::IMAGES);
        let images = read_images(&index).unwrap_or_else(|error| {
            problems.push(format!("{}: {error}", index.display()));
            Images::default()
        });
        let bridged =
            config.units.values().filter(|unit| unit.container.network == NetworkMode::Bridge);
        let addresses =
            address::assign(config.host.network.bridge, bridged.map(|unit| unit.name.as_str()));
        let (filters, wrong) = Filters::load(&dir.join(folder::SECCOMP), config.units.values());
        problems.extend(wrong);
        Config { host: config, broken, problems, images, filters, addresses }
    }

    /// The ids of a unit's users on this host. They go by the units' order: nothing that lasts has them
    /// (see [`container::userns`]).
    pub fn ids(&self, unit: &str) -> Option<IdRange> {
        let found = self.host.units.get(unit)?;
        if found.container.userns == UserNamespace::Host {
            return None;
        }
        IdRange::nth(self.host.units.keys().position(|name| name == unit)?)
    }

    /// What netsetup is told of a bridged unit.
    pub fn net_request(&self, unit: &Unit) -> Option<NetRequest> {
        let address = *self.addresses.get(&unit.name)?;
        let ports = unit.container.ports.iter().map(|port| PublishedPort {
            host_address: port.address,
            host: port.host,
            container: port.container,
            udp: port.protocol == Protocol::Udp,
        });
        Some(NetRequest { unit: unit.name.clone(), address, ports: ports.collect() })
    }

    /// All bridged units with published ports.
    pub fn published(&self) -> Vec<NetRequest> {
        let requests = self.host.units.values().filter_map(|unit| self.net_request(unit));
        requests.filter(|request| !request.ports.is_empty()).collect()
    }
}

fn read_images(index: &Path) -> io::Result<Images> {
    Ok(serde_json::from_slice(&fs::read(index)?)?)
}

/// A unit with named volumes waits for them, without having to say so.
fn wait_for_volumes(unit: &mut Unit) {
    for volume in &unit.container.volumes {
        if let VolumeSource::Named(name) = &volume.source {
            let condition = Condition::Volume(name.clone());
            if !unit.wait_for.contains(&condition) {
                unit.wait_for.push(condition);
            }
        }
    }
}

/// A published port as people write it.
pub fn port_text(port: &PublishedPort) -> String {
    let protocol = if port.udp { "/udp" } else { "" };
    match port.host_address {
        Some(address) => format!("{address}:{}:{}{protocol}", port.host, port.container),
        None => format!("{}:{}{protocol}", port.host, port.container),
    }
}
