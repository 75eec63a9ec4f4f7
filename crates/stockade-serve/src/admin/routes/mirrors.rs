//! Mirrors of an instance: started, drained, restarted, killed.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use stockade_instance::{Instance, MirrorError};
use utoipa::{IntoParams, ToSchema};

use crate::admin::Admin;
use crate::admin::extract::{Json, Path, Query};
use crate::admin::problem::ApiError;
use crate::site::Site;

/// Which version of the code.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfVersion {
    /// A version that gets requests, or `file`. The one with the largest share unless given.
    version: Option<String>,
}

/// How many mirrors a version is to have.
#[derive(Serialize, ToSchema)]
pub(crate) struct Wanted {
    /// The mirrors that are wanted of the version now.
    mirrors_wanted: usize,
}

impl From<MirrorError> for ApiError {
    fn from(error: MirrorError) -> Self {
        match error {
            MirrorError::Unknown(_) => Self::not_found(error.to_string()),
            MirrorError::Most(_) | MirrorError::Draining | MirrorError::Probed(_) => {
                Self::conflict(error.to_string())
            }
        }
    }
}

/// A version of the code of an instance.
fn code(admin: &Admin, name: &str, version: Option<&str>) -> Result<Instance, ApiError> {
    let traffic = admin.traffic(name)?;
    let wanted = |site: &&Arc<Site>| version.is_none_or(|wanted| site.version.as_str() == wanted);
    let site = traffic.sites().find(wanted).ok_or_else(|| {
        let version = version.unwrap_or_default();
        ApiError::not_found(format!(
            "no requests of the instance {name:?} go to a version {version:?}"
        ))
    })?;
    let instance = site.answering.instance.clone();
    instance.ok_or_else(|| {
        ApiError::conflict(format!("the instance {name:?} has no code and no mirrors"))
    })
}

/// The version that has a mirror.
fn with_mirror(admin: &Admin, name: &str, mirror: u32) -> Result<Instance, ApiError> {
    // Why an instance has no mirrors at all.
    code(admin, name, None)?;
    Ok(admin.mirror(name, mirror)?.0)
}

/// Start one mirror more.
///
/// Where the configuration has `autoscale`, the number follows the load again from then on. A change of the instance's
/// configuration or code sets the number that the configuration names.
#[utoipa::path(post, path = "/v1/instances/{instance}/mirrors", tag = "instances",
    params(("instance" = String, Path, description = "The name of the instance"), OfVersion),
    responses((status = 202, description = "It is being started", body = Wanted)))]
pub(crate) async fn start(
    State(admin): State<Arc<Admin>>,
    Path(instance): Path<String>,
    Query(of): Query<OfVersion>,
) -> Result<(StatusCode, Json<Wanted>), ApiError> {
    let mirrors_wanted = code(&admin, &instance, of.version.as_deref())?.start_mirror()?;
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
    let instance = with_mirror(&admin, &instance, mirror)?;
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
    let instance = with_mirror(&admin, &instance, mirror)?;
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
    let instance = with_mirror(&admin, &instance, mirror)?;
    instance.kill_mirror(mirror)?;
    Ok(accepted(&instance))
}

fn accepted(instance: &Instance) -> (StatusCode, Json<Wanted>) {
    let mirrors_wanted = instance.stats().wanted;
    (StatusCode::ACCEPTED, Json(Wanted { mirrors_wanted }))
}
