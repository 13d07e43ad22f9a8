//! Where configuration, keys and state are kept.

use crate::error::Error;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// `$XDG_CONFIG_HOME/keel`, else `~/.config/keel`.
///
/// # Errors
/// Neither `$XDG_CONFIG_HOME` nor `$HOME` is set.
pub fn config() -> Result<PathBuf, Error> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CONFIG_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".config")))
        .map(|base| base.join("keel"))
        .ok_or_else(|| Error::usage("neither HOME nor XDG_CONFIG_HOME is set"))
}

/// `$XDG_CACHE_HOME/keel`, else `~/.cache/keel`, else in the system's temporary folder.
pub fn cache() -> PathBuf {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    base.unwrap_or_else(std::env::temp_dir).join("keel")
}

/// `hosts.toml`: names and groups of hosts, edited by the user.
///
/// # Errors
/// See [`config`].
pub fn hosts() -> Result<PathBuf, Error> {
    Ok(config()?.join("hosts.toml"))
}

/// `known_hosts`: pinned host keys by address.
///
/// # Errors
/// See [`config`].
pub fn known_hosts() -> Result<PathBuf, Error> {
    Ok(config()?.join("known_hosts"))
}

/// Our own key, unless `hosts.toml` names another one for a host.
///
/// # Errors
/// See [`config`].
pub fn identity() -> Result<PathBuf, Error> {
    Ok(config()?.join("identity.pem"))
}

/// The folder with a file for each host that `keel run` has started.
pub fn run_hosts() -> PathBuf {
    cache().join("run-hosts")
}

/// Writes a file atomically, readable only by its owner, and creates missing folders.
///
/// # Errors
/// A folder or the file cannot be created, written or renamed.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || {
        make_dir(dir)?;
        let new = temporary_sibling(path);
        let mut file = create(&new)?;
        file.write_all(content)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&new, path))
            .inspect_err(|_| {
                // The first error is the one to report.
                let _ = fs::remove_file(&new);
            })
    };
    write().map_err(|error: io::Error| Error::file(path, &error))
}

/// Creates a private folder and its parents.
fn make_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// An unpredictable name in the same folder, for a file that will replace this one. Its length does not
/// depend on the file's own name, which may have the maximum length.
pub fn temporary_sibling(path: &Path) -> PathBuf {
    // Its keys are random.
    let random = RandomState::new().build_hasher().finish();
    path.with_file_name(format!(".keel-{}-{random:016x}.part", std::process::id()))
}

/// Creates a file that only its owner can read. Never opens an existing one: in a shared folder it could be
/// a symbolic link that another user has placed there.
///
/// # Errors
/// The file exists or cannot be created.
pub fn create(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Waits for exclusive access to the file, and holds it until the returned lock is dropped.
///
/// # Errors
/// The lock file cannot be created or locked.
pub fn lock(path: &Path) -> Result<Flock<fs::File>, Error> {
    // Not the file itself, which is replaced with every change. The lock file is never removed: another
    // process may be waiting for it.
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
