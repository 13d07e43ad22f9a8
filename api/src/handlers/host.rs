//! The host itself.

use crate::body::Body;
use crate::error::Error;
use crate::router::{Answer, Call, json, with_type};
use api_types::{ConfigValue, ErrorBody, Host, Network, Process, Whoami};
use ipc::ShutdownKind;
use ipc::api::ApiRequest;
use ipc::control::Request;
use serde_json::{Value, json as value};

/// Who is calling.
#[utoipa::path(get, path = "/v1/whoami", tag = "host", responses(
    (status = 200, body = Whoami), (status = "default", body = ErrorBody)))]
pub async fn whoami(call: Call) -> Answer {
    call.query.only(&[])?;
    json(&call.app.link.ask(&call.key, ApiRequest::Whoami).await?.value)
}

/// The host.
#[utoipa::path(get, path = "/v1/host", tag = "host", responses(
    (status = 200, body = Host), (status = "default", body = ErrorBody)))]
pub async fn host(call: Call) -> Answer {
    call.query.only(&[])?;
    json(&call.app.plain(&call.key, Request::Host).await?)
}

/// The network.
#[utoipa::path(get, path = "/v1/host/network", tag = "host", responses(
    (status = 200, body = Network), (status = "default", body = ErrorBody)))]
pub async fn network(call: Call) -> Answer {
    call.query.only(&[])?;
    let mut host = call.app.plain(&call.key, Request::Host).await?;
    json(&host.get_mut("net").map(Value::take))
}

/// The kernel's log, which is also Keelhost's.
#[utoipa::path(get, path = "/v1/host/dmesg", tag = "host", responses(
    (status = 200, body = String, content_type = "text/plain"),
    (status = "default", body = ErrorBody)))]
pub async fn dmesg(call: Call) -> Answer {
    call.query.only(&[])?;
    match call.app.plain(&call.key, Request::Dmesg).await? {
        Value::String(text) => Ok(with_type("text/plain; charset=utf-8", Body::bytes(text))),
        _ => Err(Error::failed("the kernel's log came as something else than text")),
    }
}

/// What runs on the host.
#[utoipa::path(get, path = "/v1/host/processes", tag = "host", responses(
    (status = 200, body = Vec<Process>), (status = "default", body = ErrorBody)))]
pub async fn processes(call: Call) -> Answer {
    call.query.only(&[])?;
    json(&call.app.link.ask(&call.key, ApiRequest::Processes).await?.value)
}

/// The host folder as it is in force, with the origin of each value.
#[utoipa::path(get, path = "/v1/host/config", tag = "host", responses(
    (status = 200, body = Vec<ConfigValue>), (status = "default", body = ErrorBody)))]
pub async fn config(call: Call) -> Answer {
    call.query.only(&[])?;
    json(&call.app.link.ask(&call.key, ApiRequest::Config).await?.value)
}

/// Shuts the host down in order and boots it again.
#[utoipa::path(post, path = "/v1/host/reboot", tag = "host", responses(
    (status = 200, body = api_types::Did), (status = "default", body = ErrorBody)))]
pub async fn reboot(call: Call) -> Answer {
    shutdown(call, ShutdownKind::Reboot, "the host is shutting down, to boot again").await
}

/// Shuts the host down in order and powers it off.
#[utoipa::path(post, path = "/v1/host/poweroff", tag = "host", responses(
    (status = 200, body = api_types::Did), (status = "default", body = ErrorBody)))]
pub async fn poweroff(call: Call) -> Answer {
    shutdown(call, ShutdownKind::Poweroff, "the host is shutting down, to power off").await
}

async fn shutdown(call: Call, kind: ShutdownKind, did: &str) -> Answer {
    call.query.only(&[])?;
    call.app.plain(&call.key, Request::Shutdown { kind }).await?;
    json(&value!({ "did": did }))
}
