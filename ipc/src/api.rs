//! Between the `api` process and the supervisor: [`FromApi`] and [`ToApi`], packets with file
//! descriptors beside them ([`crate::Channel`]).
//!
//! `api` parses what the network sends and holds no power: it says who asks (the fingerprint of the
//! key that a TLS handshake has proved) and what; the supervisor alone knows which role that key has
//! and whether the role is enough.

use crate::ExitStatus;
use crate::control::Request;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

// What goes out as it is: the supervisor makes it, `api` passes it on, clients read it.
pub use api_types::{ConfigValue, Event as EventRecord, Process as ProcessReport, Role};

/// Answers longer than this come as a file ([`ToApi::Answer`]); a packet holds this much and its
/// envelope ([`crate::channel::MAX_PACKET`]).
pub const MAX_INLINE: usize = 64 * 1024;

/// Somebody who may call the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// For people and for the log.
    pub name: String,
    /// `SHA256:` and the unpadded base64 of the SHA-256 of the public key
    /// (SubjectPublicKeyInfo, DER).
    pub key: String,
    /// What they may do.
    pub role: Role,
}

impl Client {
    /// Reads `NAME:ROLE:KEY`, as a word on the kernel's command line gives a client.
    pub fn from_word(word: &str) -> Option<Client> {
        let mut parts = word.splitn(3, ':');
        let (name, role, key) = (parts.next()?, parts.next()?, parts.next()?);
        let role = match role {
            "reader" => Role::Reader,
            "operator" => Role::Operator,
            "admin" => Role::Admin,
            _ => return None,
        };
        let whole = !name.is_empty() && key.starts_with("SHA256:");
        whole.then(|| Client { name: name.to_owned(), key: key.to_owned(), role })
    }
}

/// `api` to the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromApi {
    /// `api` has just started (or restarted): whatever an earlier one asked for is nobody's any more.
    /// Answered by [`ToApi::Clients`].
    Hello {
        /// Fingerprint of the host's own key, shown on the console; as [`Client::key`].
        host_key: String,
        /// Where it listens, for people (`port 7443`); or why it does not.
        listens: String,
    },
    /// Somebody asks; answered by [`ToApi::Answer`] with the same number.
    Ask {
        /// Chosen by `api`.
        id: u64,
        /// Whose key asks, as [`Client::key`].
        key: String,
        /// What.
        request: ApiRequest,
    },
    /// Whoever ran this program has gone: it is killed.
    Abandon {
        /// The number of the [`FromApi::Ask`] that started it.
        id: u64,
    },
}

/// What can be asked through `api`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum ApiRequest {
    /// What can be asked on the host itself.
    Plain {
        /// See [`Request`].
        request: Request,
    },
    /// Who am I: a [`Client`].
    Whoami,
    /// What a unit has written lately: a [`LogRing`], and beside it the ring, opened for reading.
    Log {
        /// The unit.
        name: String,
    },
    /// The log files that a unit has on the data disk: `null`, and beside it the files, opened for
    /// reading, the newest first. None without a data disk.
    LogFiles {
        /// The unit.
        name: String,
    },
    /// The events after this one that are still kept: a list of [`EventRecord`].
    Events {
        /// Number of the last one known; 0: all.
        after: u64,
    },
    /// What runs on the host: a list of [`ProcessReport`].
    Processes,
    /// What units wait for: a map from their names to [`api_types::Pressure`].
    Pressure,
    /// The host folder as it is in force: a list of [`ConfigValue`].
    Config,
    /// A new program in a running container. The answer is `null` with its descriptors beside it:
    /// its standard input (for writing), output and error (for reading), or with `tty` the terminal's
    /// other end alone. When it ends, [`ToApi::Exited`].
    Exec(Exec),
    /// Opens a regular file of a running container, as the container sees its paths. The answer is a
    /// [`FileReport`], with the descriptor beside it.
    OpenFile {
        /// The unit.
        name: String,
        /// Absolute, in the container.
        path: String,
        /// Make it, or empty it, and write; otherwise read.
        write: bool,
        /// Permissions of a file that is made.
        mode: u32,
    },
    /// Changes the size of a program's terminal.
    Resize {
        /// The number of the [`FromApi::Ask`] that started it.
        id: u64,
        /// Lines.
        rows: u16,
        /// Characters in a line.
        columns: u16,
    },
}

/// A program to run in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The unit.
    pub name: String,
    /// The program and its arguments; the program is searched in the container's `PATH`.
    pub command: Vec<String>,
    /// Variables above those of the unit.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Give it a terminal of this many lines and characters.
    #[serde(default)]
    pub tty: Option<(u16, u16)>,
}

impl ApiRequest {
    /// The least role that may ask this.
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
            ApiRequest::Exec(_) | ApiRequest::OpenFile { .. } | ApiRequest::Resize { .. } => {
                Role::Admin
            }
        }
    }
}

/// The supervisor to `api`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToApi {
    /// Everybody who may call, now: at each [`FromApi::Hello`], each start of a supervisor and each
    /// change. Whoever holds none of these keys is not listened to.
    Clients {
        /// All of them.
        clients: Vec<Client>,
    },
    /// The answer to the [`FromApi::Ask`] of this number.
    Answer {
        /// The number.
        id: u64,
        /// The answer, or why not. Without it the answer is the [`Answer`] in the attached file, JSON.
        answer: Option<Answer>,
    },
    /// A program that [`ApiRequest::Exec`] started has ended.
    Exited {
        /// The number of the ask.
        id: u64,
        /// How.
        status: ExitStatus,
    },
    /// Something happened.
    Event(EventRecord),
}

/// An answer, or a refusal that a program can tell from others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What was asked for.
    Ok(serde_json::Value),
    /// Why not.
    Refused(Refusal),
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
}

/// The kinds of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The key is in no list of clients (any more).
    UnknownKey,
    /// The key's role is not enough.
    Forbidden,
    /// There is no such unit, or no such file in the container.
    NotFound,
    /// It makes no sense in the present state: the unit does not run.
    Conflict,
    /// The request itself is wrong.
    Invalid,
    /// There is no such program in the container.
    NoProgram,
    /// There is such a file in the container, but it cannot be executed.
    NotExecutable,
    /// It was tried and did not work.
    Failed,
}

/// The ring of a log; see [`ApiRequest::Log`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRing {
    /// The unit has written nothing in this boot: no descriptor comes.
    pub empty: bool,
}

/// A file that was opened; see [`ApiRequest::OpenFile`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReport {
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_the_command_line_is_a_whole_client_or_none() {
        let client = Client::from_word("me:admin:SHA256:abc").unwrap();
        assert_eq!((client.name.as_str(), client.role), ("me", Role::Admin));
        assert_eq!(client.key, "SHA256:abc");
        for word in
            ["", "me", "me:admin", "me:root:SHA256:abc", ":admin:SHA256:abc", "me:admin:abc"]
        {
            assert_eq!(Client::from_word(word), None, "{word}");
        }
    }
}
