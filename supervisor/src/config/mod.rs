//! The host folder as it is in the image: the configuration that the supervisor works from.

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

/// The configuration, known before any unit runs.
#[derive(Clone)]
pub struct Config {
    /// host.toml and the valid units.
    pub host: HostConfig,
    /// Units whose files are invalid: name → what is wrong.
    pub broken: BTreeMap<String, String>,
    /// All errors, as `keel check` shows them.
    pub problems: Vec<String>,
    /// The images.
    pub images: Images,
    /// Which system calls the units may make.
    pub filters: Filters,
    /// Addresses of the bridged units.
    pub addresses: BTreeMap<String, Ipv4Addr>,
}

impl Config {
    /// Reads everything below `dir`. Errors never keep the host from running: invalid parts are
    /// left out and reported.
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
        let mut problem = |path: &Path, error: &dyn std::fmt::Display| {
            problems.push(format!("{}: {error}", path.display()));
        };
        let index = dir.join(folder::IMAGES);
        let images = read_images(&index).unwrap_or_else(|error| {
            problem(&index, &error);
            Images::default()
        });
        let file = dir.join(folder::SECCOMP);
        let profiles = seccomp::read(&file).unwrap_or_else(|error| {
            problem(&file, &error);
            BTreeMap::new()
        });
        let config = Config::new(loaded.config, images, &profiles);
        problems.extend(config.problems);
        Config { broken, problems, ..config }
    }

    /// The configuration of these units and images; `profiles` are the seccomp profiles by the
    /// names that units use for them.
    pub fn new(
        mut host: HostConfig,
        images: Images,
        profiles: &BTreeMap<String, String>,
    ) -> Config {
        for unit in host.units.values_mut() {
            wait_for_volumes(unit);
        }
        let bridged =
            host.units.values().filter(|unit| unit.container.network == NetworkMode::Bridge);
        let addresses =
            address::assign(host.host.network.bridge, bridged.map(|unit| unit.name.as_str()));
        let (filters, problems) = Filters::compile(profiles, host.units.values());
        Config { host, broken: BTreeMap::new(), problems, images, filters, addresses }
    }

    /// The ids of a unit's users on this host. They depend on the order of the units, because
    /// nothing persistent contains them (see [`container::userns`]).
    pub fn ids(&self, unit: &str) -> Option<IdRange> {
        let found = self.host.units.get(unit)?;
        if found.container.userns == UserNamespace::Host {
            return None;
        }
        IdRange::nth(self.host.units.keys().position(|name| name == unit)?)
    }

    /// What netsetup needs to know of a bridged unit.
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

/// A unit with named volumes waits for them implicitly.
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
