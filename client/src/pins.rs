//! Keys of hosts that we have seen before: `known_hosts`, and what `keel run` remembers.

use crate::address::Address;
use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::paths;
use crate::paths::write_private;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The key pinned for an address in `known_hosts`: one line for each, address and fingerprint.
pub fn known(address: &Address) -> Result<Option<Fingerprint>, Error> {
    let path = paths::known_hosts()?;
    let wanted = address.to_string();
    for (number, line) in lines(&path)?.iter().enumerate() {
        let Some((at, key)) = entry(line) else { continue };
        if at == wanted {
            return key.parse().map(Some).map_err(|error| {
                Error::Usage(format!("{}:{}: {error}", path.display(), number + 1))
            });
        }
    }
    Ok(None)
}

/// Pins a key, in place of the one that was pinned for this address.
pub fn pin(address: &Address, key: Fingerprint) -> Result<PathBuf, Error> {
    let path = paths::known_hosts()?;
    let wanted = address.to_string();
    // Two that read and write at the same time would keep the pin of one.
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

/// Address and key; none in an empty line or a comment.
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
    /// Where we reach it, `127.0.0.1:7443`.
    pub address: String,
    /// The host folder, for people.
    pub folder: PathBuf,
    /// The throw-away key that this boot lets in.
    pub identity: PathBuf,
    /// The host's key, once seen: a boot of a machine of our own, reached over the loopback device, is
    /// trusted when it is first asked.
    #[serde(default)]
    pub key: Option<String>,
}

impl RunHost {
    fn file(address: &str) -> PathBuf {
        // A file for each, so that two `keel run` never write the same one.
        paths::run_hosts().join(format!("{}.json", address.replace([':', '/'], "_")))
    }

    /// The one at this address, if one has been started there.
    pub fn at(address: &Address) -> Option<RunHost> {
        let bytes = std::fs::read(RunHost::file(&address.to_string())).ok()?;
        // What an older version wrote, or half a file, is no memory.
        serde_json::from_slice(&bytes).ok()
    }

    /// All of them.
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

    /// Remembers it, in place of what ran at this address before.
    pub fn remember(&self) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::Local(format!("remembering the host: {error}")))?;
        write_private(&RunHost::file(&self.address), &text)
    }

    /// Forgets it when it has ended.
    pub fn forget(&self) {
        // If it stays, it is one that nobody answers for.
        let _ = std::fs::remove_file(RunHost::file(&self.address));
    }
}
