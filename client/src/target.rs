//! Which hosts a command is for, and how to reach each one.

use crate::address::{Address, BadAddress};
use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::hosts::{Hosts, closest};
use crate::paths;
use crate::pins::{self, RunHost};
use std::path::PathBuf;

/// A host to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name as the user gave it, or its address.
    pub label: String,
    /// The address of its API.
    pub address: Address,
    /// The key that it must have.
    pub pin: Pin,
    /// The file with our own key.
    pub identity: PathBuf,
}

/// A host's pinned key, and where it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// In `hosts.toml`, in the table of this name.
    Named(Fingerprint, String),
    /// In `known_hosts`.
    Known(Fingerprint),
    /// In the entry that `keel run` has stored; `None` before the first connection.
    Run(Option<Fingerprint>, Box<RunHost>),
    /// No key is pinned.
    None,
}

impl Pin {
    /// The pinned key.
    pub fn key(&self) -> Option<Fingerprint> {
        match self {
            Pin::Named(key, _) | Pin::Known(key) => Some(*key),
            Pin::Run(key, _) => *key,
            Pin::None => None,
        }
    }
}

/// The hosts named by `flag` (the value of `--host`), else by `$KEEL_HOST`, else the default of
/// `hosts.toml`, else the only host that `keel run` has started.
///
/// # Errors
/// No host is named, a name is unknown, or a configuration file is invalid.
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
        return Err(Error::usage(format!("no host in `{words}`")));
    }
    Ok(targets)
}

/// Without any name it can only be the one host that `keel run` has started.
fn only_run_host(file: &std::path::Path) -> Result<String, Error> {
    match RunHost::all().as_slice() {
        [host] => Ok(host.address.clone()),
        [] => Err(Error::usage(format!(
            "no host given: use --host ADDRESS, set $KEEL_HOST, or add `default = \"NAME\"` to {}",
            file.display()
        ))),
        several => {
            let addresses: Vec<&str> = several.iter().map(|host| host.address.as_str()).collect();
            Err(Error::usage(format!(
                "no host given, and several run on this machine: --host {}",
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
    let address: Address = word.parse().map_err(|error: BadAddress| {
        Error::usage(error.to_string()).with_details(vec![known_names(word, hosts)])
    })?;
    Ok(vec![at(word, address)?])
}

fn known_names(word: &str, hosts: &Hosts) -> String {
    let names = hosts.names();
    match closest(word, &names) {
        Some(name) => format!("did you mean `{name}`?"),
        None if names.is_empty() => "hosts.toml has no names".to_owned(),
        None => format!("names in hosts.toml: {}", names.join(", ")),
    }
}

fn named(name: &str, hosts: &Hosts) -> Result<Target, Error> {
    let Some(host) = hosts.hosts.get(name) else {
        return Err(Error::usage(format!("host `{name}` not found in hosts.toml")));
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
