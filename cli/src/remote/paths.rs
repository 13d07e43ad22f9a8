//! Where the remote commands keep things.

use super::error::Error;
use crate::places;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// `$XDG_CONFIG_HOME/keel`, else `~/.config/keel`.
pub fn config() -> Result<PathBuf, Error> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CONFIG_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".config")))
        .map(|base| base.join("keel"))
        .ok_or_else(|| Error::Usage("neither HOME nor XDG_CONFIG_HOME is set".to_owned()))
}

/// Names and groups of hosts, written by a person.
pub fn hosts() -> Result<PathBuf, Error> {
    Ok(config()?.join("hosts.toml"))
}

/// Pinned keys of hosts, by address.
pub fn known_hosts() -> Result<PathBuf, Error> {
    Ok(config()?.join("known_hosts"))
}

/// Our own key, if a host names no other.
pub fn identity() -> Result<PathBuf, Error> {
    Ok(config()?.join("identity.pem"))
}

/// One file for each host that `keel run` has started.
pub fn run_hosts() -> PathBuf {
    places::cache().join("run-hosts")
}

/// Writes a file as a whole or not at all, readable by nobody else, and its folders.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let new = dir.join(name);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(content)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&new, path))
            .inspect_err(|_| {
                // The first error is the one to tell.
                let _ = fs::remove_file(&new);
            })
    };
    write().map_err(|error: std::io::Error| Error::file(path, &error))
}
