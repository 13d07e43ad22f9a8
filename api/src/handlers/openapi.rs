//! The OpenAPI document, derived from the handlers and the types.

use crate::error::Error;
use crate::handlers;
use crate::response::{IntoAnswer, Json, Raw};
use crate::router::Call;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Keelhost",
        description = "Clients present a TLS certificate. Only its key counts; host.toml assigns a \
            role to each key. All errors are an `ErrorBody`."
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
    components(schemas(
        api_types::Client,
        api_types::ConfigValue,
        api_types::ErrorBody,
        api_types::Event,
        api_types::ExecRequest,
        api_types::ExitStatus,
        api_types::Explanation,
        api_types::Gap,
        api_types::Host,
        api_types::LogLine,
        api_types::Network,
        api_types::Outcome,
        api_types::Process,
        api_types::Unit
    ))
)]
struct Description;

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "host", responses(
    (status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")))]
pub async fn openapi(call: Call) -> Result<Raw, Error> {
    call.query.only(&[])?;
    Json(document()).into_answer().map(Raw)
}

/// The document.
pub fn document() -> utoipa::openapi::OpenApi {
    Description::openapi()
}
