//! What can go wrong between here and a host, and the exit code that says so.

use std::io;
use std::path::Path;

/// A command on a host did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line, or a file of ours, asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers, or not in TLS, or no longer.
    #[error("cannot reach {at}: {why}")]
    Unreachable {
        /// The host's address.
        at: String,
        /// What the network says.
        why: String,
    },
    /// The host does not let this key in, or not to do this.
    #[error("{message}")]
    Refused {
        /// In one line.
        message: String,
        /// What to do about it.
        details: Vec<String>,
    },
    /// The host shows another key than the pinned one, or there is no pinned one.
    #[error("{message}")]
    HostKey {
        /// In one line.
        message: String,
        /// What to do about it.
        details: Vec<String>,
    },
    /// The host tried, or did not, and says why.
    #[error("{message}")]
    Failed {
        /// The host's word for programs.
        code: String,
        /// In one line.
        message: String,
        /// More lines.
        details: Vec<String>,
    },
    /// Something on this machine: a file, the terminal.
    #[error("{0}")]
    Local(String),
    /// Nobody reads our output any more.
    #[error("standard output is closed")]
    Closed,
}

impl Error {
    /// The process's exit code, as `keel --help` lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            // As a shell says it.
            Error::Failed { code, .. } if code == "no_program" => 127,
            Error::Failed { code, .. } if code == "not_executable" => 126,
            Error::Failed { .. } | Error::Local(_) => 1,
            Error::Usage(_) => 2,
            Error::Unreachable { .. } => 3,
            Error::Refused { .. } => 4,
            Error::HostKey { .. } => 5,
            // What the shell would see if the signal had not been ignored.
            Error::Closed => 141,
        }
    }

    /// The word for programs.
    pub fn code(&self) -> &str {
        match self {
            Error::Usage(_) => "usage",
            Error::Unreachable { .. } => "unreachable",
            Error::Refused { .. } => "refused",
            Error::HostKey { .. } => "host_key",
            Error::Failed { code, .. } => code,
            Error::Local(_) => "local",
            Error::Closed => "closed",
        }
    }

    /// Further lines for people.
    pub fn details(&self) -> &[String] {
        match self {
            Error::Refused { details, .. }
            | Error::HostKey { details, .. }
            | Error::Failed { details, .. } => details,
            _ => &[],
        }
    }

    /// A file that cannot be read or written.
    pub fn file(path: &Path, error: &dyn std::fmt::Display) -> Error {
        Error::Local(format!("{}: {error}", path.display()))
    }

    /// Bytes from the host that make no sense.
    pub fn garbled(what: impl Into<String>) -> Error {
        let message = format!("the host's answer makes no sense: {}", what.into());
        Error::Failed { code: "garbled".to_owned(), message, details: Vec::new() }
    }

    /// As it travels in `--json`, in the form of the API's own errors.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({"error": {
            "code": self.code(),
            "message": self.to_string(),
            "details": self.details(),
        }})
    }
}

/// For writing to standard output.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Error::Closed,
            _ => Error::Local(format!("writing the output: {error}")),
        }
    }
}
