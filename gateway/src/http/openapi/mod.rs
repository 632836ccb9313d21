//! The OpenAPI document of the REST interface, made from the descriptions in `paths` and `schemas`.
//!
//! The handlers write JSON by hand, byte for byte as the contract has it, so nothing here is derived from their types.
//! Tests keep both together: the answers of a real server are checked against this document, and the copy in
//! `docs/api/openapi.json` is checked to be this document.

mod paths;
mod schemas;

use axum::response::Response;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "asya-gateway",
        description = "Calls of tools become envelopes that pass through actors; what became of them is told here. \
            Errors are plain text, or problem JSON (RFC 9457) when `Accept` prefers JSON.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        paths::list_tools,
        paths::call_tool,
        paths::list_envelopes,
        paths::create_child,
        paths::get_envelope,
        paths::cancel_envelope,
        paths::stream_envelope,
        paths::envelope_active,
        paths::envelope_children,
        paths::report_progress,
        paths::report_final,
        paths::health,
        paths::livez,
        paths::readyz,
    ),
    components(schemas(schemas::Update, schemas::PartialItem), responses(paths::Refused)),
    tags(
        (name = "tools", description = "What can be called"),
        (name = "envelopes", description = "What became of calls"),
        (name = "reports", description = "What sidecars and end actors tell; not for clients"),
        (name = "health", description = "For probes"),
    )
)]
struct Document;

/// The OpenAPI document of the REST interface, as JSON with a line break at its end.
pub fn openapi() -> String {
    // A document made of strings and numbers is always JSON.
    Document::openapi().to_pretty_json().unwrap_or_default() + "\n"
}

/// `GET /openapi.json`.
pub(super) async fn serve() -> Response {
    super::json(
        axum::http::StatusCode::OK,
        openapi().trim_end().as_bytes().to_vec(),
    )
}
