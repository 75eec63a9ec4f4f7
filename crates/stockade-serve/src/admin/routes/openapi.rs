//! The document that describes all routes.

use std::sync::LazyLock;

use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;

use crate::admin::router;

/// Made once: it is the same for all requests.
static DOCUMENT: LazyLock<String> =
    LazyLock::new(|| serde_json::to_string(&router::openapi()).unwrap_or_default());

/// The OpenAPI document of this API.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "server",
    responses((status = 200, description = "An OpenAPI 3.1 document", body = serde_json::Value)))]
pub(crate) async fn show() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}
