//! Errors as they travel.

use serde::{Deserialize, Serialize};

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// What went wrong.
    pub error: Problem,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Problem {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// More for people, line by line.
    #[serde(default)]
    pub details: Vec<String>,
}

/// The kinds of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request itself is wrong.
    Invalid,
    /// The key is in no list of clients.
    UnknownKey,
    /// The key's role is not enough.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// There is such a path, but not with this method.
    MethodNotAllowed,
    /// It took too long.
    Timeout,
    /// It makes no sense in the present state.
    Conflict,
    /// It was done, but the unit did not become what it was to become.
    NotReady,
    /// The request is too large.
    TooLarge,
    /// The request's head is too large.
    HeadTooLarge,
    /// Too much at once.
    Busy,
    /// There is no such program in the container.
    NoProgram,
    /// There is such a file in the container, but it cannot be executed.
    NotExecutable,
    /// It was tried and did not work.
    Failed,
    /// The supervisor is away; PID 1 starts it again.
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
