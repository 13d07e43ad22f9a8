//! The host itself.

use crate::body::Body;
use crate::error::Error;
use crate::response::{Json, JsonList, Raw, with_type};
use crate::router::Call;
use api_types::{Client, ConfigValue, Host, Network, Outcome, Process, ShutdownKind};
use ipc::api::ApiRequest;
use ipc::control::Request;

/// The client that asks.
#[utoipa::path(get, path = "/v1/whoami", tag = "host")]
pub async fn whoami(call: Call) -> Result<Json<Client>, Error> {
    call.query.only(&[])?;
    Ok(Json(call.app.ask(&call.key, ApiRequest::Whoami).await?))
}

/// The host.
#[utoipa::path(get, path = "/v1/host", tag = "host")]
pub async fn host(call: Call) -> Result<Json<Host>, Error> {
    call.query.only(&[])?;
    Ok(Json(call.app.ask(&call.key, Request::Host).await?))
}

/// The network.
#[utoipa::path(get, path = "/v1/host/network", tag = "host")]
pub async fn network(call: Call) -> Result<Json<Network>, Error> {
    call.query.only(&[])?;
    let host: Host = call.app.ask(&call.key, Request::Host).await?;
    Ok(Json(host.net))
}

/// The kernel's log, which includes Keelhost's.
#[utoipa::path(get, path = "/v1/host/dmesg", tag = "host", responses(
    (status = 200, body = String, content_type = "text/plain")))]
pub async fn dmesg(call: Call) -> Result<Raw, Error> {
    call.query.only(&[])?;
    let text: String = call.app.ask(&call.key, Request::Dmesg).await?;
    Ok(Raw(with_type("text/plain; charset=utf-8", Body::bytes(text))))
}

/// The processes of the host.
#[utoipa::path(get, path = "/v1/host/processes", tag = "host")]
pub async fn processes(call: Call) -> Result<JsonList<Process>, Error> {
    call.query.only(&[])?;
    Ok(JsonList(call.app.ask(&call.key, ApiRequest::Processes).await?))
}

/// The settings of the host folder in force, with the origin of each value.
#[utoipa::path(get, path = "/v1/host/config", tag = "host")]
pub async fn config(call: Call) -> Result<JsonList<ConfigValue>, Error> {
    call.query.only(&[])?;
    Ok(JsonList(call.app.ask(&call.key, ApiRequest::Config).await?))
}

/// Shuts the host down in order and boots it again.
#[utoipa::path(post, path = "/v1/host/reboot", tag = "host")]
pub async fn reboot(call: Call) -> Result<Json<Outcome>, Error> {
    shutdown(call, ShutdownKind::Reboot, "the host is shutting down, to boot again").await
}

/// Shuts the host down in order and powers it off.
#[utoipa::path(post, path = "/v1/host/poweroff", tag = "host")]
pub async fn poweroff(call: Call) -> Result<Json<Outcome>, Error> {
    shutdown(call, ShutdownKind::Poweroff, "the host is shutting down, to power off").await
}

async fn shutdown(call: Call, kind: ShutdownKind, message: &str) -> Result<Json<Outcome>, Error> {
    call.query.only(&[])?;
    let () = call.app.ask(&call.key, Request::Shutdown { kind }).await?;
    Ok(Json(Outcome { message: message.to_owned(), unit: None }))
}
