//! The configuration is read again.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::Admin;
use crate::admin::command::Command;
use crate::admin::extract::Json;
use crate::admin::problem::ApiError;

/// A reload that took effect.
#[derive(Serialize, ToSchema)]
pub(crate) struct Reloaded {
    /// What changed, for a person.
    message: String,
}

/// Read the configuration file again.
///
/// Waits until the new configuration is in use. Where that fails, the old one stays in use, and the problem names every
/// error.
#[utoipa::path(post, path = "/v1/reload", tag = "configuration",
    responses((status = 200, description = "The new configuration is in use", body = Reloaded)))]
pub(crate) async fn reload(State(admin): State<Arc<Admin>>) -> Result<Json<Reloaded>, ApiError> {
    let outcome = admin.asked(Command::Reload).await?;
    let message = outcome.map_err(ApiError::unprocessable)?;
    Ok(Json(Reloaded { message }))
}
