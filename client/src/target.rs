//! Which hosts a command is for, and how each is reached.

use crate::address::Address;
use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::hosts::Hosts;
use crate::paths;
use crate::pins::{self, RunHost};
use std::path::PathBuf;

/// A host to talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What people call it: its name, or its address.
    pub label: String,
    /// Where it is.
    pub address: Address,
    /// The key it must show.
    pub pin: Pin,
    /// The file with our key.
    pub identity: PathBuf,
}

/// Where a host's pinned key stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// In `hosts.toml`, in the table of this name.
    Named(Fingerprint, String),
    /// In `known_hosts`.
    Known(Fingerprint),
    /// Beside what `keel run` remembers; none: it has not been asked since its boot.
    Run(Option<Fingerprint>, Box<RunHost>),
    /// Nowhere.
    None,
}

impl Pin {
    /// The key.
    pub fn key(&self) -> Option<Fingerprint> {
        match self {
            Pin::Named(key, _) | Pin::Known(key) => Some(*key),
            Pin::Run(key, _) => *key,
            Pin::None => None,
        }
    }
}

/// The hosts that `--host` or `$KEEL_HOST` names, or the default.
///
/// # Errors
/// None is named, or a name stands for nothing.
pub fn select(flag: Option<&str>) -> Result<Vec<Target>, Error> {
    let file = paths::hosts()?;
    let hosts = Hosts::read(&file)?;
    let environment = std::env::var("KEEL_HOST").ok().filter(|text| !text.is_empty());
    let words = match flag.map(str::to_owned).or(environment).or_else(|| hosts.default.clone()) {
        Some(words) => words,
        None => only_run_host(&file)?,
    };
    let mut targets: Vec<Target> = Vec::new();
    for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        for target in resolve(word, &hosts)? {
            if !targets.iter().any(|known| known.address == target.address) {
                targets.push(target);
            }
        }
    }
    if targets.is_empty() {
        return Err(Error::Usage(format!("`{words}` names no host")));
    }
    Ok(targets)
}

/// Without any name it can only be the one host that runs on this machine.
fn only_run_host(file: &std::path::Path) -> Result<String, Error> {
    match RunHost::all().as_slice() {
        [host] => Ok(host.address.clone()),
        [] => Err(Error::Usage(format!(
            "which host? Say --host ADDRESS, or set $KEEL_HOST, or write `default = \"NAME\"` into {}",
            file.display()
        ))),
        several => {
            let addresses: Vec<&str> = several.iter().map(|host| host.address.as_str()).collect();
            Err(Error::Usage(format!(
                "which host? Several run on this machine: --host {}",
                addresses.join(" or --host ")
            )))
        }
    }
}

fn resolve(word: &str, hosts: &Hosts) -> Result<Vec<Target>, Error> {
    if let Some(members) = hosts.groups.get(word) {
        return members.iter().map(|name| named(name, hosts)).collect();
    }
    if hosts.hosts.contains_key(word) {
        return Ok(vec![named(word, hosts)?]);
    }
    let address: Address =
        word.parse().map_err(|error| Error::Usage(format!("{error}\n  {}", known_names(hosts))))?;
    Ok(vec![at(word, address)?])
}

fn known_names(hosts: &Hosts) -> String {
    match hosts.names().as_slice() {
        [] => "and there are no names in hosts.toml".to_owned(),
        names => format!("the names in hosts.toml are {}", names.join(", ")),
    }
}

fn named(name: &str, hosts: &Hosts) -> Result<Target, Error> {
    let Some(host) = hosts.hosts.get(name) else {
        return Err(Error::Usage(format!("there is no host `{name}` in hosts.toml")));
    };
    let mut target = at(name, host.address.clone())?;
    if let Some(key) = host.key {
        target.pin = Pin::Named(key, name.to_owned());
    }
    if let Some(identity) = &host.identity {
        target.identity.clone_from(identity);
    }
    Ok(target)
}

fn at(label: &str, address: Address) -> Result<Target, Error> {
    if let Some(host) = RunHost::at(&address) {
        let identity = host.identity.clone();
        let key = host.key.as_ref().and_then(|key| key.parse().ok());
        let pin = Pin::Run(key, Box::new(host));
        return Ok(Target { label: label.to_owned(), address, pin, identity });
    }
    let pin = pins::known(&address)?.map_or(Pin::None, Pin::Known);
    Ok(Target { label: label.to_owned(), address, pin, identity: paths::identity()? })
}
