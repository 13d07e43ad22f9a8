//! Errors.

use serde::{Deserialize, Serialize};

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// What went wrong.
    pub error: Problem,
}

/// Why a request was refused or failed. It travels unchanged from where it arises to the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Problem {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// Further lines for people.
    #[serde(default)]
    pub details: Vec<String>,
}

impl Problem {
    /// A problem without further details.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Problem {
        Problem { code, message: message.into(), details: Vec::new() }
    }

    /// A failed operation.
    pub fn failed(message: impl Into<String>) -> Problem {
        Problem::new(ErrorCode::Failed, message)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// The kinds of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is malformed.
    Invalid,
    /// The client's key is not listed in `host.toml`.
    UnknownKey,
    /// The client's role does not allow the request.
    Forbidden,
    /// The path, unit, file or other object does not exist.
    NotFound,
    /// The path exists, but not with this method.
    MethodNotAllowed,
    /// The request or its answer took too long.
    Timeout,
    /// The request is not possible in the present state.
    Conflict,
    /// The request was carried out, but the unit did not reach the requested state.
    NotReady,
    /// The request's body is too large.
    TooLarge,
    /// The request's head is too large.
    HeadTooLarge,
    /// Too many requests at the same time.
    Busy,
    /// The program does not exist in the container.
    NoProgram,
    /// The file exists in the container but cannot be executed.
    NotExecutable,
    /// The host tried to carry out the request and failed.
    Failed,
    /// The supervisor does not answer; PID 1 restarts it.
    Unavailable,
}

impl ErrorCode {
    /// The HTTP status that goes with it.
    pub fn status(self) -> u16 {
        match self {
            ErrorCode::Invalid | ErrorCode::NotExecutable => 400,
            ErrorCode::UnknownKey | ErrorCode::Forbidden => 403,
            ErrorCode::NotFound | ErrorCode::NoProgram => 404,
            ErrorCode::MethodNotAllowed => 405,
            ErrorCode::Timeout => 408,
            ErrorCode::Conflict | ErrorCode::NotReady => 409,
            ErrorCode::TooLarge => 413,
            ErrorCode::Busy => 429,
            ErrorCode::HeadTooLarge => 431,
            ErrorCode::Failed => 500,
            ErrorCode::Unavailable => 503,
        }
    }
}
