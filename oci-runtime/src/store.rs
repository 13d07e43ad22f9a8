//! The state directory of each container: `ROOT/ID`, accessible only to its owner (CVE-2024-25621).
//!
//! ```text
//! state.json    what the kernel does not know
//! config.json   a copy, so that later changes in the bundle have no effect
//! go            a FIFO that the waiting process reads
//! status        a FIFO that it writes to
//! staging       an empty directory for the engine's setup
//! ```

use crate::error::{About, Error};
use container::IdRange;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::sys::stat::Mode;
use serde_json::{Map, Value, json};
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Longest id: that of a file name, in bytes.
const MAX_ID: usize = 255;

/// Maximum size of a state file, which includes the annotations of the `config.json`.
const MAX_STATE: u64 = 2 * crate::config::MAX_SIZE as u64;

/// Whether a text is a valid id. An id is used as the name of a directory and of a cgroup, so it
/// must not be another path.
pub fn is_id(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '.' | '-');
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    first && text.len() <= MAX_ID && text.chars().all(plain)
}

/// The saved state of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its id.
    pub id: String,
    /// `ociVersion` of its `config.json`.
    pub version: String,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// `annotations` of its `config.json`.
    pub annotations: Map<String, Value>,
    /// Its first process; `None`: not created yet.
    pub process: Option<Identity>,
    /// `create` has finished.
    pub created: bool,
    /// Its cgroup; `None`: not created yet.
    pub cgroup: Option<PathBuf>,
    /// Cgroups above it that were created for it, topmost first.
    pub parents: Vec<PathBuf>,
    /// The ids of its user namespace.
    pub ids: Option<IdRange>,
}

/// Identifies a process uniquely, although process IDs are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its process ID.
    pub pid: i32,
    /// When it was started, in clock ticks since boot (proc_pid_stat(5)).
    pub start_time: u64,
}

impl State {
    fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "ociVersion": self.version,
            "bundle": self.bundle,
            "annotations": self.annotations,
            "pid": self.process.map(|process| process.pid),
            "startTime": self.process.map(|process| process.start_time),
            "created": self.created,
            "cgroup": self.cgroup,
            "parents": self.parents,
            "ids": self.ids.map(|ids| [ids.first, ids.count]),
        })
    }

    fn from_json(value: &Value) -> Option<State> {
        let text = |name: &str| value.get(name)?.as_str().map(str::to_owned);
        let number = |name: &str| value.get(name)?.as_u64();
        let process = match (number("pid"), number("startTime")) {
            (Some(pid), Some(start_time)) => {
                Some(Identity { pid: i32::try_from(pid).ok()?, start_time })
            }
            _ => None,
        };
        let ids = match value.get("ids")?.as_array().map(Vec::as_slice) {
            Some([first, count]) => Some(IdRange {
                first: first.as_u64()?.try_into().ok()?,
                count: count.as_u64()?.try_into().ok()?,
            }),
            _ => None,
        };
        let parents = value.get("parents")?.as_array()?.iter();
        Some(State {
            id: text("id")?,
            version: text("ociVersion")?,
            bundle: text("bundle")?.into(),
            annotations: value.get("annotations")?.as_object()?.clone(),
            process,
            created: value.get("created")?.as_bool()?,
            cgroup: text("cgroup").map(PathBuf::from),
            parents: parents.filter_map(|path| path.as_str().map(PathBuf::from)).collect(),
            ids,
        })
    }
}

/// The directory that holds the state directories.
#[derive(Debug)]
pub struct Store(PathBuf);

/// A container's state directory.
#[derive(Debug)]
pub struct Entry {
    id: String,
    dir: PathBuf,
}

/// Held by the command that changes a container; released when the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<OwnedFd>,
}

impl Store {
    /// The store in the directory `root`, which need not exist.
    pub fn new(root: PathBuf) -> Store {
        Store(root)
    }

    fn entry(&self, id: &str) -> Result<Entry, Error> {
        match is_id(id) {
            true => Ok(Entry { id: id.to_owned(), dir: self.0.join(id) }),
            false => Err(Error::Id(id.to_owned())),
        }
    }

    /// Creates the directory of a new container.
    ///
    /// # Errors
    /// [`Error::Id`], [`Error::Exists`], or [`Error::File`].
    pub fn make(&self, id: &str) -> Result<(Entry, Lock), Error> {
        let entry = self.entry(id)?;
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder.recursive(true).create(&self.0).about("create", &self.0)?;
        match builder.recursive(false).create(&entry.dir) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(Error::Exists(id.to_owned()));
            }
            done => done.about("create", &entry.dir)?,
        }
        let lock = entry.lock()?;
        Ok((entry, lock))
    }

    /// Opens the directory of an existing container.
    ///
    /// # Errors
    /// [`Error::Id`], [`Error::NoContainer`].
    pub fn open(&self, id: &str) -> Result<Entry, Error> {
        let entry = self.entry(id)?;
        match entry.dir.is_dir() {
            true => Ok(entry),
            false => Err(Error::NoContainer(id.to_owned())),
        }
    }

    /// All containers, sorted by id.
    ///
    /// # Errors
    /// [`Error::File`]; a missing directory is an empty store.
    pub fn all(&self) -> Result<Vec<Entry>, Error> {
        let list = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            done => done.about("read", &self.0)?,
        };
        let mut names: Vec<String> =
            list.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| is_id(name));
        names.sort();
        names.iter().map(|name| self.entry(name)).collect()
    }
}

impl Entry {
    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A file or directory in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Waits until no other command changes the container.
    ///
    /// # Errors
    /// [`Error::NoContainer`]: it was deleted meanwhile.
    pub fn lock(&self) -> Result<Lock, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = match open(&self.dir, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Err(Error::NoContainer(self.id.clone())),
            done => done.about("open", &self.dir)?,
        };
        let file = Flock::lock(dir, FlockArg::LockExclusive);
        let file = file.map_err(|(_, errno)| errno).about("lock", &self.dir)?;
        match self.dir.is_dir() {
            true => Ok(Lock { _file: file }),
            false => Err(Error::NoContainer(self.id.clone())),
        }
    }

    /// The saved state; `None`: `create` has not saved any yet.
    ///
    /// # Errors
    /// The file cannot be read or parsed.
    pub fn load(&self) -> Result<Option<State>, Error> {
        let path = self.path("state.json");
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            done => done.about("open", &path)?,
        };
        let mut text = Vec::new();
        file.take(MAX_STATE).read_to_end(&mut text).about("read", &path)?;
        let value: Option<Value> = serde_json::from_slice(&text).ok();
        let state = value.as_ref().and_then(State::from_json);
        let broken = || std::io::Error::from(ErrorKind::InvalidData);
        state.map(Some).ok_or_else(broken).about("read", &path)
    }

    /// Saves the state atomically.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&self, state: &State) -> Result<(), Error> {
        replace(&self.path("state.json"), &state.to_json().to_string())
    }

    /// Removes the directory.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done.about("remove", &self.dir),
        }
    }
}

/// Replaces a file atomically.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(name);
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new);
    file.and_then(|mut file| file.write_all(text.as_bytes())).about("write", &new)?;
    fs::rename(&new, path).about("write", path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_is_a_single_file_name() {
        for id in ["a", "web-1.0_x+y", "9", &"a".repeat(255)] {
            assert!(is_id(id), "{id}");
        }
        for id in ["", ".", "..", "../x", "a/b", "-a", ".a", "a b", "a\0", "ä", &"a".repeat(256)] {
            assert!(!is_id(id), "{id:?}");
        }
    }

    proptest! {
        #[test]
        fn a_saved_state_is_read_back(
            pid in proptest::option::of((1i32..4_194_304, any::<u64>())),
            created: bool,
            ids in proptest::option::of((any::<u32>(), any::<u32>())),
            texts in proptest::collection::vec("[^\0]{0,12}", 4),
        ) {
            let state = State {
                id: "x".into(),
                version: texts[0].clone(),
                bundle: texts[1].clone().into(),
                annotations: [(texts[2].clone(), Value::from(texts[3].clone()))].into_iter().collect(),
                process: pid.map(|(pid, start_time)| Identity { pid, start_time }),
                created,
                cgroup: created.then(|| texts[1].clone().into()),
                parents: vec![texts[2].clone().into()],
                ids: ids.map(|(first, count)| IdRange { first, count }),
            };
            prop_assert_eq!(State::from_json(&state.to_json()), Some(state));
        }
    }
}
