//! API keys.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::Admin;
use crate::admin::extract::Json;
use crate::admin::problem::ApiError;

/// The keys that are in use.
#[derive(Serialize, ToSchema)]
pub(crate) struct Refreshed {
    /// Texts of keys in memory; null where the server uses no API keys.
    count: Option<usize>,
}

/// Read the store of API keys again.
///
/// Waits until the changes are in effect. The server also notices them by itself, within a second.
#[utoipa::path(post, path = "/v1/keys/refresh", tag = "keys",
    responses((status = 200, description = "All changes are in effect", body = Refreshed)))]
pub(crate) async fn refresh(State(admin): State<Arc<Admin>>) -> Result<Json<Refreshed>, ApiError> {
    let count = match admin.keys.get() {
        Some((_, keys)) => Some(keys.refresh().await.map_err(ApiError::unavailable)?),
        None => None,
    };
    Ok(Json(Refreshed { count }))
}
