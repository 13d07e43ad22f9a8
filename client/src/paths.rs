//! Where the remote commands keep things.

use crate::error::Error;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
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

/// `$XDG_CACHE_HOME/keel`, else `~/.cache/keel`, else below the system's temporary folder.
pub fn cache() -> PathBuf {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    base.unwrap_or_else(std::env::temp_dir).join("keel")
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
    cache().join("run-hosts")
}

/// Writes a file as a whole or not at all, readable by nobody else, and its folders.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || {
        make_dir(dir)?;
        let new = beside(path);
        let mut file = create(&new)?;
        file.write_all(content)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&new, path))
            .inspect_err(|_| {
                // The first error is the one to tell.
                let _ = fs::remove_file(&new);
            })
    };
    write().map_err(|error: io::Error| Error::file(path, &error))
}

/// Makes a folder of ours, and those above it.
fn make_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// A name in the same folder that nobody guesses, for what is to take the file's place. It is no longer if
/// the file's own is as long as a name may be.
pub fn beside(path: &Path) -> PathBuf {
    // Random keys are what it is made of.
    let random = RandomState::new().build_hasher().finish();
    path.with_file_name(format!(".keel-{}-{random:016x}.part", std::process::id()))
}

/// Makes a file that only its owner may read, and never opens one that is there: in a folder of everybody's
/// it may be a link that somebody has laid.
pub fn create(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Waits until nobody else changes the file, and keeps others from it until what it gives is dropped.
pub fn lock(path: &Path) -> Result<Flock<fs::File>, Error> {
    // Not the file itself, in whose place a new one comes with every change. It stays: whoever removed it
    // could remove the one that somebody else waits for.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let lock = path.with_file_name(name);
    let failed = |error: io::Error| Error::file(&lock, &error);
    make_dir(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock)
        .map_err(failed)?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusive) {
            Ok(locked) => return Ok(locked),
            Err((again, Errno::EINTR)) => file = again,
            Err((_, error)) => return Err(failed(error.into())),
        }
    }
}
