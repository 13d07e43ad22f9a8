//! What can go wrong, in words that name it.

use crate::config::ConfigError;
use container::{
    CgroupError, DeviceFilterError, ExecError, InsideError, NetNsError, PlanError, SetupError,
    SpawnError, UserNsError,
};
use nix::errno::Errno;
use std::path::{Path, PathBuf};

/// Why a command has failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments.
    #[error("{0}")]
    Usage(String),
    /// A container's id is also the name of a directory.
    #[error(
        "{0:?} is no id: letters, digits and _ + . - only, a letter or digit first, at most 255"
    )]
    Id(String),
    /// Ids are unique.
    #[error("there is a container {0} already")]
    Exists(String),
    /// It was never created, or is deleted.
    #[error("there is no container {0}")]
    NoContainer(String),
    /// The container is not in the state that the command needs.
    #[error("container {id} is {status}, {wanted}")]
    Status {
        /// Which container.
        id: String,
        /// What it is.
        status: &'static str,
        /// What is possible and when.
        wanted: &'static str,
    },
    /// `config.json`.
    #[error("config.json: {0}")]
    Config(#[from] ConfigError),
    /// A key of `config.json` asks for something that this host does not have.
    #[error("config.json: {key}: {reason}")]
    Host {
        /// The key.
        key: String,
        /// Why not.
        reason: String,
    },
    /// The engine refuses the plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No process was made.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The set-up has failed, and at which step.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// No process was made in the container.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// No terminal was made in the container.
    #[error(transparent)]
    Inside(#[from] InsideError),
    /// The cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The device filter.
    #[error(transparent)]
    Devices(#[from] DeviceFilterError),
    /// The user namespace.
    #[error(transparent)]
    UserNs(#[from] UserNsError),
    /// The network namespace.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// The process was killed during its set-up.
    #[error("the container's process ended during its set-up")]
    Ended,
    /// A program of `hooks`.
    #[error("hook {path}: {reason}")]
    Hook {
        /// Which.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// A file.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A system call.
    #[error("{call}: {}", errno.desc())]
    Sys {
        /// Which.
        call: &'static str,
        /// Its error.
        errno: Errno,
    },
}

/// Names the file that an operation was about.
pub(crate) trait About<T> {
    fn about(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T, E: Into<std::io::Error>> About<T> for Result<T, E> {
    fn about(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|error| Error::File { action, path: path.to_owned(), source: error.into() })
    }
}

/// Names the system call that has failed.
pub(crate) fn sys(call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Sys { call, errno }
}
