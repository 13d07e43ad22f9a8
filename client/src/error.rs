//! What can go wrong between here and a host.

use api_types::ErrorCode;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::Path;

/// A command on a host failed. The text is one line for people; [`Error::details`] has more lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    code: Code,
    message: String,
    details: Vec<String>,
}

/// What kind of error it is, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Code {
    /// The host answered with this error.
    Host(HostCode),
    /// The host did not answer, or its answer is not the API's.
    Local(LocalCode),
}

/// An error code in a host's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HostCode {
    /// One that this version knows.
    Known(ErrorCode),
    /// One that only a newer host knows, as it was sent.
    Unknown(String),
}

/// An error that arises on this side of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalCode {
    /// The command line, a configuration file or a key file is wrong.
    Usage,
    /// The host does not answer, does not speak TLS, or has closed the connection.
    Unreachable,
    /// The host rejects our key.
    Refused,
    /// The host's key is unknown, or is not the pinned one.
    HostKey,
    /// The answer is malformed.
    Garbled,
    /// An HTTP error without a body in the API's form.
    #[serde(rename = "http")]
    HttpStatus,
    /// A file, the terminal or another resource of this machine.
    #[serde(rename = "local")]
    Machine,
    /// Standard output is closed.
    #[serde(rename = "closed")]
    OutputClosed,
}

impl Error {
    fn new(code: LocalCode, message: impl Into<String>) -> Error {
        Error { code: Code::Local(code), message: message.into(), details: Vec::new() }
    }

    /// The command line, a configuration file or a key file is wrong.
    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(LocalCode::Usage, message)
    }

    /// No connection, or one that broke; `at` is the host's address.
    pub fn unreachable(at: &dyn fmt::Display, why: &dyn fmt::Display) -> Error {
        Error::new(LocalCode::Unreachable, format!("cannot reach {at}: {why}"))
    }

    /// The host rejects our key.
    pub fn refused(message: impl Into<String>) -> Error {
        Error::new(LocalCode::Refused, message)
    }

    /// The host's key is unknown, or is not the pinned one.
    pub fn host_key(message: impl Into<String>) -> Error {
        Error::new(LocalCode::HostKey, message)
    }

    /// Something on this machine failed.
    pub fn local(message: impl Into<String>) -> Error {
        Error::new(LocalCode::Machine, message)
    }

    /// A file of this machine cannot be read or written.
    pub fn file(path: &Path, error: &dyn fmt::Display) -> Error {
        Error::local(format!("{}: {error}", path.display()))
    }

    /// The host's answer is malformed.
    pub fn garbled(what: impl fmt::Display) -> Error {
        Error::new(LocalCode::Garbled, format!("malformed answer from the host: {what}"))
    }

    /// Writing to standard output failed; a closed pipe has a code of its own.
    pub fn output(error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::BrokenPipe => {
                Error::new(LocalCode::OutputClosed, "standard output is closed")
            }
            _ => Error::local(format!("writing the output: {error}")),
        }
    }

    /// The host answered with HTTP status `status`, which is not a success, and this body.
    pub fn answer(status: u16, body: &[u8]) -> Error {
        let refused = matches!(status, 401 | 403);
        match serde_json::from_slice::<Body>(body) {
            Ok(Body { error: Problem { code, message, details } }) => {
                let code = match code {
                    // A newer host's word, but the status says what to do about it.
                    HostCode::Unknown(_) if refused => Code::Local(LocalCode::Refused),
                    code => Code::Host(code),
                };
                Error { code, message, details }
            }
            Err(_) => {
                let code = if refused { LocalCode::Refused } else { LocalCode::HttpStatus };
                let lines =
                    String::from_utf8_lossy(body).lines().take(5).map(str::to_owned).collect();
                Error::new(code, format!("the host answers with HTTP status {status}"))
                    .with_details(lines)
            }
        }
    }

    /// The same error with these further lines for people.
    pub fn with_details(mut self, details: Vec<String>) -> Error {
        self.details = details;
        self
    }

    /// The same error, its text beginning with `place`.
    pub fn at(mut self, place: &dyn fmt::Display) -> Error {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// What kind of error it is.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// Further lines for people.
    pub fn details(&self) -> &[String] {
        &self.details
    }

    /// Whether it is this local error.
    pub fn is(&self, code: LocalCode) -> bool {
        self.code == Code::Local(code)
    }

    /// Whether the host refuses: it does not know our key, or the key's role is not enough.
    pub fn is_refusal(&self) -> bool {
        match &self.code {
            Code::Local(code) => *code == LocalCode::Refused,
            Code::Host(HostCode::Known(code)) => {
                matches!(code, ErrorCode::UnknownKey | ErrorCode::Forbidden)
            }
            Code::Host(HostCode::Unknown(_)) => false,
        }
    }

    /// Whether the host has answered, so that another request may still succeed.
    pub fn is_answer(&self) -> bool {
        match &self.code {
            Code::Host(_) => true,
            Code::Local(code) => matches!(code, LocalCode::Garbled | LocalCode::HttpStatus),
        }
    }

    /// Whether the same request may succeed in a moment: the host cannot be reached, or its
    /// supervisor is being restarted.
    pub fn is_transient(&self) -> bool {
        match &self.code {
            Code::Local(code) => *code == LocalCode::Unreachable,
            Code::Host(code) => *code == HostCode::Known(ErrorCode::Unavailable),
        }
    }

    /// As `--json` prints it, in the form of the API's own errors.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({"error": {
            "code": self.code,
            "message": self.message,
            "details": self.details,
        }})
    }
}

/// The body of an error, with a code that may be unknown here; see [`api_types::ErrorBody`].
#[derive(Deserialize)]
struct Body {
    error: Problem,
}

#[derive(Deserialize)]
struct Problem {
    code: HostCode,
    message: String,
    #[serde(default)]
    details: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(status: u16, code: &str) -> Error {
        let body = json!({"error": {"code": code, "message": "why", "details": ["more"]}});
        Error::answer(status, body.to_string().as_bytes())
    }

    #[test]
    fn known_and_unknown_codes_of_hosts_are_kept() {
        let known = answer(409, "not_ready");
        assert_eq!(known.code(), &Code::Host(HostCode::Known(ErrorCode::NotReady)));
        let newer = answer(418, "out_of_tea");
        assert_eq!(newer.code(), &Code::Host(HostCode::Unknown("out_of_tea".to_owned())));
        for (error, code) in [(known, "not_ready"), (newer, "out_of_tea")] {
            let json = json!({"error": {"code": code, "message": "why", "details": ["more"]}});
            assert_eq!(error.to_json(), json);
            assert!(error.is_answer() && !error.is_refusal() && !error.is_transient());
        }
    }

    #[test]
    fn refusals_are_known_by_code_or_status() {
        for code in ["forbidden", "unknown_key", "too_late_in_the_day"] {
            assert!(answer(403, code).is_refusal(), "{code}");
        }
        assert!(Error::answer(401, b"who?").is_refusal());
        assert!(!answer(404, "not_found").is_refusal());
        assert_eq!(answer(403, "forbidden").to_json()["error"]["code"], "forbidden");
    }

    #[test]
    fn answers_that_are_not_the_api_s_keep_their_first_lines() {
        let error = Error::answer(502, b"1\n2\n3\n4\n5\n6\n");
        assert!(error.is(LocalCode::HttpStatus) && error.is_answer());
        assert_eq!(error.details(), ["1", "2", "3", "4", "5"]);
        assert_eq!(error.to_json()["error"]["code"], "http");
    }

    #[test]
    fn local_codes_have_stable_names() {
        let name = |error: Error| error.to_json()["error"]["code"].as_str().unwrap().to_owned();
        assert_eq!(name(Error::usage("")), "usage");
        assert_eq!(name(Error::unreachable(&"a:1", &"why")), "unreachable");
        assert_eq!(name(Error::refused("")), "refused");
        assert_eq!(name(Error::host_key("")), "host_key");
        assert_eq!(name(Error::garbled("")), "garbled");
        assert_eq!(name(Error::local("")), "local");
        assert_eq!(name(Error::output(io::ErrorKind::BrokenPipe.into())), "closed");
    }
}
