//! Errors.

use crate::config::ConfigError;
use container::{
    CgroupError, DeviceFilterError, ExecError, InsideError, NetNsError, PlanError, SetupError,
    SpawnError, UserNsError,
};
use nix::errno::Errno;
use std::path::{Path, PathBuf};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Invalid arguments.
    #[error("{0}")]
    Usage(String),
    /// A container's id is also the name of a directory.
    #[error("invalid id {0:?}: use up to 255 letters, digits or _+.-, the first a letter or digit")]
    Id(String),
    /// The id is in use.
    #[error("container {0} already exists")]
    Exists(String),
    /// The container was never created, or has been deleted.
    #[error("container {0} not found")]
    NoContainer(String),
    /// The container is not in the state that the command requires.
    #[error("container {id} is {status}; {required}")]
    Status {
        /// Which container.
        id: String,
        /// Its state.
        status: &'static str,
        /// The required state.
        required: &'static str,
    },
    /// `config.json` is invalid or asks for something that is not supported.
    #[error("config.json: {0}")]
    Config(#[from] ConfigError),
    /// A key of `config.json` asks for something that this host cannot provide.
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
    /// The container's process could not be created.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// A step of the container's setup failed.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A process could not be created in the container.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A terminal could not be created in the container.
    #[error(transparent)]
    Inside(#[from] InsideError),
    /// A cgroup operation failed.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The device filter could not be installed.
    #[error(transparent)]
    Devices(#[from] DeviceFilterError),
    /// The user namespace could not be created.
    #[error(transparent)]
    UserNs(#[from] UserNsError),
    /// The network namespace could not be created.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// The process was killed during the setup.
    #[error("the container's process ended during its setup")]
    Ended,
    /// A hook failed.
    #[error("hook {path}: {reason}")]
    Hook {
        /// Its path.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// The operation.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A system call failed.
    #[error("{call}: {}", errno.desc())]
    Sys {
        /// Its name.
        call: &'static str,
        /// Its error.
        errno: Errno,
    },
}

/// Adds the operation and its file to an error.
pub(crate) trait About<T> {
    fn about(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T, E: Into<std::io::Error>> About<T> for Result<T, E> {
    fn about(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|error| Error::File { action, path: path.to_owned(), source: error.into() })
    }
}

/// Adds the name of the system call to an error.
pub(crate) fn sys(call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Sys { call, errno }
}
