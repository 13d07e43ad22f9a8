//! From a request to its handler: the table of routes.

use crate::app::{App, refused};
use crate::body::Body;
use crate::error::Error;
use crate::handlers::{bundle, events, exec, files, host, logs, metrics, openapi, units};
use crate::query::{Query, decode};
use crate::response::{Answer, IntoAnswer};
use crate::server::Takeover;
use api_types::ErrorCode;
use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::{Method, Request, Response, http::request::Parts};
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use tokio::time::timeout;

/// Longest JSON body of a request.
const MAX_JSON: usize = 64 * 1024;

type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Answer>>>;

/// Writes what a handler returns.
fn written<T: IntoAnswer>(
    handler: impl Future<Output = Result<T, Error>> + 'static,
) -> Pin<Box<dyn Future<Output = Answer>>> {
    Box::pin(async { handler.await?.into_answer() })
}

/// Method, path, handler. A test compares the table with the OpenAPI document, which is derived from
/// the handlers.
#[rustfmt::skip]
const ROUTES: &[(Method, &str, Handler)] = &[
    (Method::GET,  "/v1/whoami",               |call| written(host::whoami(call))),
    (Method::GET,  "/v1/units",                |call| written(units::list(call))),
    (Method::GET,  "/v1/units/{name}",         |call| written(units::get(call))),
    (Method::GET,  "/v1/units/{name}/explain", |call| written(units::explain(call))),
    (Method::POST, "/v1/units/{name}/start",   |call| written(units::start(call))),
    (Method::POST, "/v1/units/{name}/stop",    |call| written(units::stop(call))),
    (Method::POST, "/v1/units/{name}/restart", |call| written(units::restart(call))),
    (Method::POST, "/v1/units/{name}/signal",  |call| written(units::signal(call))),
    (Method::GET,  "/v1/units/{name}/logs",    |call| written(logs::logs(call))),
    (Method::POST, "/v1/units/{name}/exec",    |call| written(exec::exec(call))),
    (Method::GET,  "/v1/units/{name}/files",   |call| written(files::get(call))),
    (Method::PUT,  "/v1/units/{name}/files",   |call| written(files::put(call))),
    (Method::GET,  "/v1/events",               |call| written(events::events(call))),
    (Method::GET,  "/v1/host",                 |call| written(host::host(call))),
    (Method::GET,  "/v1/host/dmesg",           |call| written(host::dmesg(call))),
    (Method::GET,  "/v1/host/processes",       |call| written(host::processes(call))),
    (Method::GET,  "/v1/host/network",         |call| written(host::network(call))),
    (Method::GET,  "/v1/host/config",          |call| written(host::config(call))),
    (Method::POST, "/v1/host/reboot",          |call| written(host::reboot(call))),
    (Method::POST, "/v1/host/poweroff",        |call| written(host::poweroff(call))),
    (Method::GET,  "/v1/host/bundle",          |call| written(bundle::bundle(call))),
    (Method::GET,  "/v1/openapi.json",         |call| written(openapi::openapi(call))),
    (Method::GET,  "/metrics",                 |call| written(metrics::metrics(call))),
];

/// A request on its way to its handler.
pub struct Call {
    /// What all connections share.
    pub app: Rc<App>,
    /// Fingerprint of the client's key.
    pub key: Rc<str>,
    /// The unit in the path; empty where there is none.
    pub unit: String,
    /// The query.
    pub query: Query,
    /// The request without its body.
    pub parts: Parts,
    /// Its body.
    pub body: Incoming,
    /// Takes over the connection when this request is answered with 101.
    pub takeover: Rc<RefCell<Option<Takeover>>>,
}

/// Answers a request.
pub async fn answer(
    app: Rc<App>,
    key: Rc<str>,
    takeover: Rc<RefCell<Option<Takeover>>>,
    request: Request<Incoming>,
) -> Response<Body> {
    try_answer(app, key, takeover, request).await.unwrap_or_else(Error::into_response)
}

async fn try_answer(
    app: Rc<App>,
    key: Rc<str>,
    takeover: Rc<RefCell<Option<Takeover>>>,
    request: Request<Incoming>,
) -> Answer {
    // The list of clients may have changed since the connection was made.
    if let Some(error) = refused(&app.caller(&key), &key) {
        return Err(error);
    }
    let (parts, body) = request.into_parts();
    let (handler, unit) = find(&parts.method, parts.uri.path())?;
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    handler(Call { app, key, unit, query, parts, body, takeover }).await
}

/// The unit that a path names; empty if it names none.
///
/// # Errors
/// The path does not exist or does not have this method, or the unit's name is invalid.
pub fn unit_in(method: &Method, path: &str) -> Result<String, Error> {
    find(method, path).map(|(_, unit)| unit)
}

fn find(method: &Method, path: &str) -> Result<(Handler, String), Error> {
    let mut allowed = Vec::new();
    for (known, pattern, handler) in ROUTES {
        let Some(unit) = matches(pattern, path) else { continue };
        if known == method {
            return Ok((*handler, unit_name(unit)?));
        }
        allowed.push(known.as_str());
    }
    if allowed.is_empty() {
        let message = "path not found; /v1/openapi.json lists all paths";
        return Err(Error::new(ErrorCode::NotFound, message));
    }
    let allowed = allowed.join(", ");
    let message = format!("method not allowed; this path has {allowed}");
    Err(Error::new(ErrorCode::MethodNotAllowed, message).allow(allowed))
}

/// What a path has in the place of the pattern's `{name}`, still encoded (an encoded slash is part of
/// a name, not of the path); `None`: it does not match the pattern.
fn matches<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let mut found = "";
    let (mut wanted, mut segments) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), segments.next()) {
            (None, None) => return Some(found),
            (Some("{name}"), Some(segment)) if !segment.is_empty() => found = segment,
            (Some(wanted), Some(segment)) if wanted == segment => {}
            _ => return None,
        }
    }
}

fn unit_name(encoded: &str) -> Result<String, Error> {
    let name = decode(encoded, false)?;
    // A path without a unit.
    if !name.is_empty() {
        ::units::names::check_unit_name(&name).map_err(|m| Error::invalid(m.to_string()))?;
    }
    Ok(name)
}

impl Call {
    /// The JSON in the body.
    ///
    /// # Errors
    /// It is too long or too slow, or is not the expected JSON.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        let bytes = self.small_body().await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::invalid(format!("invalid JSON body: {error}")))
    }

    async fn small_body(&mut self) -> Result<Vec<u8>, Error> {
        let too_large = || {
            let message = format!("body too large; at most {MAX_JSON} bytes are accepted");
            Error::new(ErrorCode::TooLarge, message)
        };
        let declared = self.parts.headers.get(CONTENT_LENGTH);
        let declared = declared.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|length| length > MAX_JSON) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        // One time limit for the whole body, whatever the size of its pieces.
        let whole = async {
            while let Some(piece) = next_piece(&mut self.body).await? {
                bytes.extend_from_slice(&piece);
                if bytes.len() > MAX_JSON {
                    return Err(too_large());
                }
            }
            Ok(())
        };
        timeout(self.app.limits.piece, whole).await.map_err(|_| late())??;
        Ok(bytes)
    }

    /// The next piece of the body, or `None` at its end.
    ///
    /// # Errors
    /// It does not arrive in time.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        timeout(self.app.limits.piece, next_piece(&mut self.body)).await.map_err(|_| late())?
    }
}

fn late() -> Error {
    Error::new(ErrorCode::Timeout, "the rest of the body did not arrive in time")
}

async fn next_piece(body: &mut Incoming) -> Result<Option<Bytes>, Error> {
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return Ok(None),
            Some(Err(error)) => return Err(Error::invalid(format!("the body: {error}"))),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                // Trailers.
                Err(_) => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_exactly_the_routes() {
        let document = openapi::document();
        let mut described: Vec<(String, String)> = Vec::new();
        let mut ids = std::collections::BTreeSet::new();
        for (path, item) in &document.paths.paths {
            let operations = [
                ("GET", &item.get),
                ("PUT", &item.put),
                ("POST", &item.post),
                ("DELETE", &item.delete),
                ("PATCH", &item.patch),
            ];
            for (method, operation) in operations {
                let Some(operation) = operation else { continue };
                assert!(ids.insert(operation.operation_id.clone()), "{path}");
                described.push((path.clone(), method.to_owned()));
            }
        }
        let mut routed: Vec<(String, String)> = ROUTES
            .iter()
            .map(|(method, path, _)| ((*path).to_owned(), method.to_string()))
            .collect();
        described.sort();
        routed.sort();
        assert_eq!(described, routed);
    }

    #[test]
    fn the_document_describes_every_type_that_it_names() {
        let document = serde_json::to_value(openapi::document()).unwrap();
        let mut missing = Vec::new();
        let mut open = vec![&document];
        while let Some(value) = open.pop() {
            if let Some(name) = value["$ref"].as_str() {
                let found = document.pointer(name.trim_start_matches('#'));
                missing.extend(found.is_none().then_some(name));
            }
            match value {
                serde_json::Value::Object(fields) => open.extend(fields.values()),
                serde_json::Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        assert_eq!(missing, [""; 0]);
        let body = |path: &str, status: &str| {
            let pointer = format!("/responses/{status}/content/application~1json/schema");
            document["paths"][path]["get"].pointer(&pointer).unwrap().clone()
        };
        let reference =
            |name: &str| serde_json::json!({"$ref": format!("#/components/schemas/{name}")});
        assert_eq!(body("/v1/units/{name}", "200"), reference("Unit"));
        assert_eq!(body("/v1/units", "200")["items"], reference("Unit"));
        assert_eq!(body("/v1/units", "default"), reference("ErrorBody"));
    }

    #[test]
    fn names_are_decoded_and_then_checked() {
        let unit = |path: &str| unit_in(&Method::GET, path);
        assert_eq!(unit("/v1/units/web").unwrap(), "web");
        assert_eq!(unit("/v1/units/%77eb/logs").unwrap(), "web");
        assert_eq!(unit("/v1/units").unwrap(), "");
        for path in ["/v1/units/..%2fetc", "/v1/units/..", "/v1/units/%2e%2e", "/v1/units/a%00"] {
            assert_eq!(unit(path).unwrap_err().code(), ErrorCode::Invalid, "{path}");
        }
        for path in ["/", "", "/v1", "/v1/units/", "/v1/units//logs", "/v1/units/web/logs/x", "*"] {
            assert_eq!(unit(path).unwrap_err().code(), ErrorCode::NotFound, "{path}");
        }
        let wrong = find(&Method::DELETE, "/v1/units/web/files").unwrap_err();
        assert_eq!(wrong.code(), ErrorCode::MethodNotAllowed);
    }
}
