//! Requests to the supervisor: one JSON object per line, over a unix socket
//! (`layout::paths::RUN_CONTROL`) or, if the kernel's command line names one, a virtio port. Each
//! is answered with an [`crate::Answer`]; `api` can send the same requests
//! ([`crate::api::ApiRequest::Plain`]).

use crate::Service;
use api_types::{Role, ShutdownKind};
use serde::{Deserialize, Serialize};

/// Longest request line, in bytes; a longer one is an error, and the connection is closed.
pub const MAX_REQUEST: usize = 64 * 1024;

/// A request or an answer with its number. An answer has the number of its request, so that a late
/// answer is not mistaken for the answer to another request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Numbered<T> {
    /// Chosen by the sender of the request; 0 if it does not matter.
    #[serde(default)]
    pub id: u64,
    /// The request or the answer.
    #[serde(flatten)]
    pub body: T,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// All units: [`Reply::Units`](crate::Reply::Units).
    Units,
    /// One unit: [`Reply::Unit`](crate::Reply::Unit).
    Unit {
        /// Its name.
        name: String,
    },
    /// Why a unit is in its state: [`Reply::Explanation`](crate::Reply::Explanation).
    Explain {
        /// Its name.
        name: String,
    },
    /// Start a unit now, regardless of its state: [`Reply::Unit`](crate::Reply::Unit).
    Start {
        /// Its name.
        name: String,
    },
    /// Stop a unit and keep it stopped: [`Reply::Unit`](crate::Reply::Unit).
    Stop {
        /// Its name.
        name: String,
    },
    /// Stop a unit if it runs, then start it: [`Reply::Unit`](crate::Reply::Unit).
    Restart {
        /// Its name.
        name: String,
    },
    /// Send a signal to the main process of a unit: [`Reply::Done`](crate::Reply::Done).
    SignalUnit {
        /// Its name.
        name: String,
        /// Signal number.
        signal: i32,
    },
    /// The last lines of a unit's log: [`Reply::Lines`](crate::Reply::Lines).
    Logs {
        /// Its name.
        name: String,
        /// Maximum number of lines.
        tail: usize,
    },
    /// The host: [`Reply::Host`](crate::Reply::Host).
    Host,
    /// The text of a file below /proc, /sys, /run/keel or the data disk, for support and
    /// measurements: [`Reply::Text`](crate::Reply::Text).
    Read {
        /// Absolute path without `..`.
        path: String,
    },
    /// The names in a directory below /proc, /sys, /run/keel or the data disk:
    /// [`Reply::Names`](crate::Reply::Names).
    List {
        /// Absolute path without `..`.
        path: String,
    },
    /// The kernel's log, which includes Keelhost's: [`Reply::Text`](crate::Reply::Text).
    Dmesg,
    /// Send a signal to one of Keelhost's own processes, which PID 1 restarts if it ends:
    /// [`Reply::Pid`](crate::Reply::Pid).
    SignalService {
        /// The process.
        service: Service,
        /// Signal number.
        signal: i32,
    },
    /// Shut the host down in order: [`Reply::Done`](crate::Reply::Done).
    Shutdown {
        /// How it ends.
        kind: ShutdownKind,
    },
}

impl Request {
    /// Whether the request is accepted on the control socket only: it gives access to data that no
    /// role may access, such as the host's private key. The API does not offer it, and the
    /// supervisor does not accept it from `api`, which an attacker may control.
    pub fn host_only(&self) -> bool {
        matches!(self, Request::Read { .. } | Request::List { .. } | Request::SignalService { .. })
    }

    /// The lowest role that may make this request through the API.
    pub fn role(&self) -> Role {
        match self {
            Request::Units
            | Request::Unit { .. }
            | Request::Explain { .. }
            | Request::Logs { .. }
            | Request::Dmesg
            | Request::Host => Role::Reader,
            Request::Start { .. }
            | Request::Stop { .. }
            | Request::Restart { .. }
            | Request::SignalUnit { .. } => Role::Operator,
            Request::Read { .. }
            | Request::List { .. }
            | Request::SignalService { .. }
            | Request::Shutdown { .. } => Role::Admin,
        }
    }
}
