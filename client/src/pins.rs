//! Pinned keys of hosts: `known_hosts`, and the hosts that `keel run` has started.

use crate::address::Address;
use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::paths;
use crate::paths::write_private;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The key pinned for an address in `known_hosts`, where each line has an address and a fingerprint.
///
/// # Errors
/// The file cannot be read, or the fingerprint is invalid.
pub fn known(address: &Address) -> Result<Option<Fingerprint>, Error> {
    let path = paths::known_hosts()?;
    let wanted = address.to_string();
    for (number, line) in lines(&path)?.iter().enumerate() {
        let Some((at, key)) = entry(line) else { continue };
        if at == wanted {
            return key.parse().map(Some).map_err(|error| {
                Error::usage(format!("{}:{}: {error}", path.display(), number + 1))
            });
        }
    }
    Ok(None)
}

/// Pins a key, replacing the one pinned for this address. Returns the file's path.
///
/// # Errors
/// The file cannot be read or written.
pub fn pin(address: &Address, key: Fingerprint) -> Result<PathBuf, Error> {
    let path = paths::known_hosts()?;
    let wanted = address.to_string();
    // Without the lock, one of two concurrent changes would be lost.
    let _lock = paths::lock(&path)?;
    let mut kept = lines(&path)?;
    kept.retain(|line| entry(line).is_none_or(|(at, _)| at != wanted));
    kept.push(format!("{wanted} {key}"));
    write_private(&path, format!("{}\n", kept.join("\n")).as_bytes())?;
    Ok(path)
}

fn lines(path: &Path) -> Result<Vec<String>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::file(path, &error)),
    }
}

/// Address and key; `None` for an empty line or a comment.
fn entry(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with('#') {
        None
    } else {
        line.split_once(' ').map(|(at, key)| (at, key.trim()))
    }
}

/// A host that `keel run` has started on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunHost {
    /// The address of its API, such as `127.0.0.1:7443`.
    pub address: String,
    /// The host folder, for information.
    pub folder: PathBuf,
    /// The temporary client key that the host accepts for this boot.
    pub identity: PathBuf,
    /// The host's key, pinned at the first connection: the host runs on this machine and is reached over
    /// loopback.
    #[serde(default)]
    pub key: Option<String>,
}

impl RunHost {
    fn file(address: &str) -> PathBuf {
        // One file per host, so that two instances of `keel run` never write the same one.
        paths::run_hosts().join(format!("{}.json", address.replace([':', '/'], "_")))
    }

    /// The host at this address, if `keel run` has started one.
    pub fn at(address: &Address) -> Option<RunHost> {
        let bytes = std::fs::read(RunHost::file(&address.to_string())).ok()?;
        // A file of another version, or an incomplete one, is ignored.
        serde_json::from_slice(&bytes).ok()
    }

    /// All hosts that `keel run` has started and that have not ended.
    pub fn all() -> Vec<RunHost> {
        let Ok(entries) = std::fs::read_dir(paths::run_hosts()) else { return Vec::new() };
        let read = |path: PathBuf| serde_json::from_slice(&std::fs::read(path).ok()?).ok();
        entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .filter_map(read)
            .collect()
    }

    /// Stores the entry, replacing an earlier one for this address.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store(&self) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| {
            Error::local(format!("cannot encode the entry of a running host: {error}"))
        })?;
        write_private(&RunHost::file(&self.address), &text)
    }

    /// Removes the entry when the host has ended.
    pub fn remove(&self) {
        // A stale entry only leads to a failed connection.
        let _ = std::fs::remove_file(RunHost::file(&self.address));
    }
}
