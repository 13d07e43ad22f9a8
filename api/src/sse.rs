//! Streams of server-sent events.

use crate::body::{Body, Sink};
use crate::response::{Raw, with_type};
use hyper::Response;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use serde::Serialize;
use std::future::Future;
use std::io;

/// Sent when there is nothing else to send, so that both sides notice when the other is gone.
pub const KEEP_ALIVE: &str = ": keep-alive\n\n";

/// One event of a stream, as clients see it. (OpenAPI 3.1 describes a stream by its events.)
#[derive(Debug, utoipa::ToSchema)]
pub struct StreamEvent {
    /// Its number, for `Last-Event-ID`; a `gap` has none.
    #[schema(nullable = false)]
    pub id: Option<String>,
    /// Its type: `line`, an event's kind, or `gap`.
    pub event: String,
    /// JSON: a `LogLine`, an `Event` or a `Gap`.
    #[schema(content_media_type = "application/json")]
    pub data: String,
}

/// A stream of events.
pub fn stream<F>(produce: impl FnOnce(Sink) -> F) -> Raw
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let mut response: Response<Body> = with_type("text/event-stream", Body::stream(produce));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Raw(response)
}

/// Appends an event; `json` is one line.
pub fn push(out: &mut Vec<u8>, id: Option<u64>, event: &str, json: &[u8]) {
    if let Some(id) = id {
        out.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    out.extend_from_slice(b"event: ");
    out.extend(event.bytes().map(|byte| if byte.is_ascii_control() { b'_' } else { byte }));
    out.extend_from_slice(b"\ndata: ");
    out.extend_from_slice(json);
    out.extend_from_slice(b"\n\n");
}

/// Appends the notice that this many are missing.
pub fn push_gap(out: &mut Vec<u8>, missed: u64) {
    push(out, None, "gap", &to_json(&api_types::Gap { missed }));
}

/// JSON in one line.
pub fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
