//! The description of the API for programs, made of the handlers' attributes and the types.

use crate::handlers;
use crate::router::{Answer, Call, json};
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Keelhost",
        description = "Clients show a TLS certificate; only its key counts, and host.toml says \
            which role it has. Errors of any kind are an `ErrorBody`."
    ),
    paths(
        handlers::host::whoami,
        handlers::units::list,
        handlers::units::get,
        handlers::units::explain,
        handlers::units::start,
        handlers::units::stop,
        handlers::units::restart,
        handlers::units::signal,
        handlers::logs::logs,
        handlers::exec::exec,
        handlers::files::get,
        handlers::files::put,
        handlers::events::events,
        handlers::host::host,
        handlers::host::dmesg,
        handlers::host::processes,
        handlers::host::network,
        handlers::host::config,
        handlers::host::reboot,
        handlers::host::poweroff,
        handlers::bundle::bundle,
        handlers::metrics::metrics,
        openapi
    ),
    components(schemas(api_types::ExecRequest, api_types::ExitStatus, api_types::Gap))
)]
struct Description;

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "host", responses(
    (status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")))]
pub async fn openapi(call: Call) -> Answer {
    call.query.only(&[])?;
    json(&document())
}

/// The document.
pub fn document() -> utoipa::openapi::OpenApi {
    Description::openapi()
}
