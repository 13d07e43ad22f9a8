//! Answers that are not a success: always JSON, always of one shape.

use crate::body::Body;
use api_types::{ErrorBody, ErrorCode, Problem};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use ipc::api::{Code, Refusal};

/// Why a request gets no answer of its own kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    problem: Problem,
    /// For [`ErrorCode::MethodNotAllowed`]: what is.
    allow: Option<String>,
}

impl Error {
    /// An error of this kind.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Error {
        let message = message.into();
        Error { problem: Problem { code, message, details: Vec::new() }, allow: None }
    }

    /// The request itself is wrong.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorCode::Invalid, message)
    }

    /// Something went wrong here.
    pub fn failed(message: impl Into<String>) -> Error {
        Error::new(ErrorCode::Failed, message)
    }

    /// With more lines for people.
    pub fn details(mut self, details: Vec<String>) -> Error {
        self.problem.details = details;
        self
    }

    /// With the methods that the path has.
    pub fn allow(mut self, methods: String) -> Error {
        self.allow = Some(methods);
        self
    }

    /// For programs.
    pub fn code(&self) -> ErrorCode {
        self.problem.code
    }

    /// As JSON.
    pub fn json(self) -> Vec<u8> {
        serde_json::to_vec(&ErrorBody { error: self.problem }).unwrap_or_default()
    }

    /// As an answer.
    pub fn into_response(self) -> Response<Body> {
        let code = self.problem.code;
        let status = StatusCode::from_u16(code.status());
        let allow = self.allow.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
        let mut response = Response::new(Body::bytes(self.json()));
        *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if matches!(code, ErrorCode::TooLarge | ErrorCode::Timeout) {
            // Nobody wants to read the rest of such a request only to find the next one.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(allow) = allow {
            headers.insert(ALLOW, allow);
        }
        response
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        let code = match refusal.code {
            Code::UnknownKey => ErrorCode::UnknownKey,
            Code::Forbidden => ErrorCode::Forbidden,
            Code::NotFound => ErrorCode::NotFound,
            Code::Conflict => ErrorCode::Conflict,
            Code::Invalid => ErrorCode::Invalid,
            Code::NoProgram => ErrorCode::NoProgram,
            Code::NotExecutable => ErrorCode::NotExecutable,
            Code::Failed => ErrorCode::Failed,
        };
        Error::new(code, refusal.message)
    }
}
