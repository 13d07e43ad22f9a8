//! Error responses: always JSON, always an [`ErrorBody`].

use crate::body::Body;
use api_types::{ErrorBody, ErrorCode, Problem};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

/// Why a request has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    problem: Problem,
    /// For [`ErrorCode::MethodNotAllowed`]: the methods that are allowed.
    allow: Option<String>,
}

impl Error {
    /// An error of this kind.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Error {
        Problem::new(code, message).into()
    }

    /// The request is malformed.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorCode::Invalid, message)
    }

    /// The host failed to carry out the request.
    pub fn failed(message: impl Into<String>) -> Error {
        Error::new(ErrorCode::Failed, message)
    }

    /// Adds lines for people.
    pub fn details(mut self, details: Vec<String>) -> Error {
        self.problem.details = details;
        self
    }

    /// Adds the methods that the path has.
    pub fn allow(mut self, methods: String) -> Error {
        self.allow = Some(methods);
        self
    }

    /// The code, for programs.
    pub fn code(&self) -> ErrorCode {
        self.problem.code
    }

    /// As JSON.
    pub fn json(self) -> Vec<u8> {
        serde_json::to_vec(&ErrorBody { error: self.problem }).unwrap_or_default()
    }

    /// As an HTTP response.
    pub fn into_response(self) -> Response<Body> {
        let code = self.problem.code;
        let status = StatusCode::from_u16(code.status());
        let allow = self.allow.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
        let mut response = Response::new(Body::bytes(self.json()));
        *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if matches!(code, ErrorCode::TooLarge | ErrorCode::Timeout) {
            // The rest of such a request is not read, so the next one cannot be found.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(allow) = allow {
            headers.insert(ALLOW, allow);
        }
        response
    }
}

/// The supervisor's refusals, with their own codes.
impl From<Problem> for Error {
    fn from(problem: Problem) -> Error {
        Error { problem, allow: None }
    }
}
