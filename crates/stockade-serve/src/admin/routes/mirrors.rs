//! Mirrors of an instance: started, drained, restarted, killed.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use stockade_instance::{Instance, MirrorError};
use utoipa::ToSchema;

use crate::admin::Admin;
use crate::admin::extract::{Json, Path};
use crate::admin::problem::ApiError;

/// How many mirrors an instance is to have.
#[derive(Serialize, ToSchema)]
pub(crate) struct Wanted {
    /// The mirrors that are wanted now.
    mirrors_wanted: usize,
}

impl From<MirrorError> for ApiError {
    fn from(error: MirrorError) -> Self {
        match error {
            MirrorError::Unknown(_) => Self::not_found(error.to_string()),
            MirrorError::Most(_) | MirrorError::Draining => Self::conflict(error.to_string()),
        }
    }
}

/// The code of an instance.
fn code(admin: &Admin, name: &str) -> Result<Instance, ApiError> {
    let site = admin.site(name)?;
    let instance = site.answering.instance.clone();
    instance.ok_or_else(|| {
        ApiError::conflict(format!("the instance {name:?} has no code and no mirrors"))
    })
}

/// Start one mirror more.
///
/// Where the configuration has `autoscale`, the number follows the load again from then on. A change of the instance's
/// configuration or code sets the number that the configuration names.
#[utoipa::path(post, path = "/v1/instances/{instance}/mirrors", tag = "instances",
    params(("instance" = String, Path, description = "The name of the instance")),
    responses((status = 202, description = "It is being started", body = Wanted)))]
pub(crate) async fn start(
    State(admin): State<Arc<Admin>>,
    Path(instance): Path<String>,
) -> Result<(StatusCode, Json<Wanted>), ApiError> {
    let mirrors_wanted = code(&admin, &instance)?.start_mirror()?;
    Ok((StatusCode::ACCEPTED, Json(Wanted { mirrors_wanted })))
}

/// Drain a mirror.
///
/// It ends with the last request that it has, and no other is started in its place. With none left, the next request starts
/// one.
#[utoipa::path(post, path = "/v1/instances/{instance}/mirrors/{mirror}/drain", tag = "instances",
    params(("instance" = String, Path, description = "The name of the instance"),
        ("mirror" = u32, Path, description = "The number of the mirror")),
    responses((status = 202, description = "It takes no more requests", body = Wanted)))]
pub(crate) async fn drain(
    State(admin): State<Arc<Admin>>,
    Path((instance, mirror)): Path<(String, u32)>,
) -> Result<(StatusCode, Json<Wanted>), ApiError> {
    let instance = code(&admin, &instance)?;
    instance.drain_mirror(mirror)?;
    Ok(accepted(&instance))
}

/// Replace a mirror.
///
/// It takes requests until its successor does, and ends with the last request that it has.
#[utoipa::path(post, path = "/v1/instances/{instance}/mirrors/{mirror}/restart", tag = "instances",
    params(("instance" = String, Path, description = "The name of the instance"),
        ("mirror" = u32, Path, description = "The number of the mirror")),
    responses((status = 202, description = "Its successor is being started", body = Wanted)))]
pub(crate) async fn restart(
    State(admin): State<Arc<Admin>>,
    Path((instance, mirror)): Path<(String, u32)>,
) -> Result<(StatusCode, Json<Wanted>), ApiError> {
    let instance = code(&admin, &instance)?;
    instance.restart_mirror(mirror)?;
    Ok(accepted(&instance))
}

/// Kill a mirror.
///
/// It ends now, with the requests that it has, and another one is started in its place.
#[utoipa::path(post, path = "/v1/instances/{instance}/mirrors/{mirror}/kill", tag = "instances",
    params(("instance" = String, Path, description = "The name of the instance"),
        ("mirror" = u32, Path, description = "The number of the mirror")),
    responses((status = 202, description = "It is ended", body = Wanted)))]
pub(crate) async fn kill(
    State(admin): State<Arc<Admin>>,
    Path((instance, mirror)): Path<(String, u32)>,
) -> Result<(StatusCode, Json<Wanted>), ApiError> {
    let instance = code(&admin, &instance)?;
    instance.kill_mirror(mirror)?;
    Ok(accepted(&instance))
}

fn accepted(instance: &Instance) -> (StatusCode, Json<Wanted>) {
    let mirrors_wanted = instance.stats().wanted;
    (StatusCode::ACCEPTED, Json(Wanted { mirrors_wanted }))
}
