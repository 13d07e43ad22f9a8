//! The messages between the `api` process and the supervisor: [`FromApi`] and [`ToApi`], packets
//! with attached file descriptors ([`crate::Channel`]).
//!
//! `api` parses input from the network and has no privileges. It names the key of the client (the
//! fingerprint that a TLS handshake has proved) and the request; the supervisor alone decides which
//! role the key has and whether that role is sufficient.

use crate::Answer;
use crate::control::Request;
use api_types::{Client, Event, ExecRequest, ExitStatus, Role};
use serde::{Deserialize, Serialize};

/// Longer answers are sent as a file ([`ToApi::Answer`]); a packet can hold an answer of this
/// length and the message around it ([`crate::channel::MAX_PACKET`]).
pub const MAX_INLINE: usize = 64 * 1024;

/// From `api` to the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromApi {
    /// `api` has just started (or restarted): requests of an earlier one are void. Answered by
    /// [`ToApi::Clients`].
    Hello {
        /// Fingerprint of the host's own key, shown on the console; as [`Client::key`].
        host_key: String,
        /// Where it listens (`port 7443`), or why it does not; for people.
        listens: String,
    },
    /// A request of a client; answered by [`ToApi::Answer`] with the same number.
    Ask {
        /// Chosen by `api`.
        id: u64,
        /// The client's key, as [`Client::key`].
        key: String,
        /// The request.
        request: ApiRequest,
    },
    /// The client that runs this program has disconnected: kill the program.
    Abandon {
        /// The number of the [`FromApi::Ask`] that started it.
        id: u64,
    },
}

/// A request of a client of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum ApiRequest {
    /// A request that the control socket accepts too, with the same reply.
    Plain {
        /// See [`Request`].
        request: Request,
    },
    /// The requesting client: [`Reply::Client`](crate::Reply::Client).
    Whoami,
    /// The recent log of a unit: [`Reply::Done`](crate::Reply::Done) and the ring, opened for
    /// reading; no descriptor if the unit has written nothing in this boot.
    Log {
        /// The unit.
        name: String,
    },
    /// The log files of a unit on the data disk: [`Reply::Done`](crate::Reply::Done) and the files,
    /// opened for reading, the newest first. None without a data disk.
    LogFiles {
        /// The unit.
        name: String,
    },
    /// The events after this one that are still kept: [`Reply::Events`](crate::Reply::Events).
    Events {
        /// Number of the last known event; 0: all.
        after: u64,
    },
    /// The processes of the host: [`Reply::Processes`](crate::Reply::Processes).
    Processes,
    /// How long tasks of each unit have waited for resources:
    /// [`Reply::Pressure`](crate::Reply::Pressure).
    Pressure,
    /// The settings of the host folder: [`Reply::Config`](crate::Reply::Config).
    Config,
    /// Runs a program in a running container: [`Reply::Done`](crate::Reply::Done) and its standard
    /// input (for writing), output and error (for reading), or with `tty` the other end of its
    /// terminal. Its end is reported by [`ToApi::Exited`].
    Exec {
        /// The unit.
        name: String,
        /// The program.
        program: ExecRequest,
    },
    /// Opens a regular file of a running container, as the container sees its paths:
    /// [`Reply::File`](crate::Reply::File) and the file.
    OpenFile {
        /// The unit.
        name: String,
        /// Absolute path in the container.
        path: String,
        /// Create or truncate it and write; otherwise read.
        write: bool,
        /// Permissions of a file that is created.
        mode: u32,
    },
    /// Changes the size of a program's terminal: [`Reply::Done`](crate::Reply::Done).
    Resize {
        /// The number of the [`FromApi::Ask`] that started it.
        id: u64,
        /// Lines.
        rows: u16,
        /// Characters in a line.
        columns: u16,
    },
}

impl From<Request> for ApiRequest {
    fn from(request: Request) -> ApiRequest {
        ApiRequest::Plain { request }
    }
}

impl ApiRequest {
    /// The lowest role that may make this request.
    pub fn role(&self) -> Role {
        match self {
            ApiRequest::Plain { request } => request.role(),
            ApiRequest::Whoami
            | ApiRequest::Log { .. }
            | ApiRequest::LogFiles { .. }
            | ApiRequest::Events { .. }
            | ApiRequest::Processes
            | ApiRequest::Pressure
            | ApiRequest::Config => Role::Reader,
            ApiRequest::Exec { .. } | ApiRequest::OpenFile { .. } | ApiRequest::Resize { .. } => {
                Role::Admin
            }
        }
    }
}

/// From the supervisor to `api`. Externally tagged, so that long answers are decoded without
/// buffering.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToApi {
    /// The current list of clients: after each [`FromApi::Hello`], each start of a supervisor and
    /// each change. Only clients whose keys are listed can connect.
    Clients {
        /// All clients.
        clients: Vec<Client>,
    },
    /// The answer to the [`FromApi::Ask`] of this number.
    Answer {
        /// The number.
        id: u64,
        /// The answer; none: the attached file contains it as JSON.
        answer: Option<Answer>,
    },
    /// A program that [`ApiRequest::Exec`] started has ended.
    Exited {
        /// The number of the request.
        id: u64,
        /// How it ended.
        status: ExitStatus,
    },
    /// An event.
    Event(Event),
}
