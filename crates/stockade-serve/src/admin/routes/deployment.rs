//! Which versions get the requests of an instance.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::versions::{in_store, store_of};
use crate::admin::Admin;
use crate::admin::api::Caller;
use crate::admin::command::{Command, Deploy, DeployChange, DeployRefusal};
use crate::admin::extract::{Json, Path};
use crate::admin::problem::ApiError;
use crate::admin::time::{now_seconds, rfc3339};
use crate::deployments::{Deployment, Past, Share, Sticky, VersionRef};

/// A version and its share of the requests.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VersionShare {
    /// The name of a version, or `file` for the code that the configuration names.
    version: String,
    #[schema(minimum = 1, maximum = 100)]
    percent: u8,
}

/// Which versions get the requests of an instance.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeploymentShown {
    /// Counts the deployments of the instance; 0 before the first.
    number: u64,
    /// The largest share first. Together they are 100 %.
    traffic: Vec<VersionShare>,
    sticky: Sticky,
    /// When it was made; null before the first.
    #[schema(format = DateTime)]
    created: Option<String>,
    /// Who made it.
    caller: String,
    /// The deployments before, the latest first: at most 50.
    past: Vec<PastDeployment>,
}

/// A deployment that was replaced.
#[derive(Serialize, ToSchema)]
pub(crate) struct PastDeployment {
    number: u64,
    traffic: Vec<VersionShare>,
    sticky: Sticky,
    #[schema(format = DateTime)]
    created: Option<String>,
    caller: String,
}

/// Which versions are to get the requests.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeploymentRequest {
    /// One to five versions, whose shares are 100 % together.
    traffic: Vec<VersionShare>,
    /// How a client stays with a version.
    #[serde(default)]
    sticky: Sticky,
    /// The number of the deployment that this one replaces. Another one is refused with 412.
    replaces: Option<u64>,
}

/// What is to get the requests again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackRequest {
    /// The name of a version, or `file`. Without it, the shares before the current ones.
    to: Option<String>,
}

impl From<DeployRefusal> for ApiError {
    fn from(refusal: DeployRefusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            DeployRefusal::NoInstance | DeployRefusal::NoVersion(_) => Self::not_found(detail),
            DeployRefusal::NoCode | DeployRefusal::NotConfigured | DeployRefusal::NothingBefore => {
                Self::conflict(detail)
            }
            DeployRefusal::OtherNumber(_) => {
                Self::new(http::StatusCode::PRECONDITION_FAILED, detail)
            }
            DeployRefusal::Traffic(_) | DeployRefusal::Refused(_) => Self::unprocessable(detail),
            DeployRefusal::Stopping => Self::unavailable(detail),
            DeployRefusal::Store(_) => Self::internal(&detail),
        }
    }
}

fn shown(shares: Vec<Share>) -> Vec<VersionShare> {
    let shares = shares.into_iter().map(|share| VersionShare {
        version: share.version.to_string(),
        percent: share.percent,
    });
    shares.collect()
}

fn time(seconds: u64) -> Option<String> {
    Some(seconds)
        .filter(|seconds| *seconds > 0)
        .and_then(rfc3339)
}

impl From<Deployment> for DeploymentShown {
    fn from(deployment: Deployment) -> Self {
        let past = deployment
            .past
            .into_iter()
            .map(|past: Past| PastDeployment {
                number: past.number,
                traffic: shown(past.traffic),
                sticky: past.sticky,
                created: time(past.created),
                caller: past.caller,
            });
        Self {
            number: deployment.number,
            traffic: shown(deployment.traffic),
            sticky: deployment.sticky,
            created: time(deployment.created),
            caller: deployment.caller,
            past: past.collect(),
        }
    }
}

fn version(text: &str) -> Result<VersionRef, ApiError> {
    VersionRef::parse(text).ok_or_else(|| {
        ApiError::unprocessable(format!(
            "{text:?} is not a version: write `file`, or 16 hexadecimal digits in lower case"
        ))
    })
}

async fn deploy(
    admin: &Admin,
    instance: String,
    caller: &Caller,
    change: DeployChange,
    replaces: Option<u64>,
) -> Result<Json<DeploymentShown>, ApiError> {
    let (_, caller, _) = caller.facts();
    let request = Deploy {
        instance,
        change,
        replaces,
        now: now_seconds(),
        caller,
    };
    let deployed = admin
        .asked(|answer| Command::Deploy(request, answer))
        .await??;
    Ok(Json(deployed.into()))
}

/// Show which versions get the requests.
#[utoipa::path(get, path = "/v1/instances/{instance}/deployment", tag = "deployments",
    params(("instance" = String, Path, description = "The name of the instance")),
    responses((status = 200, description = "The deployment now", body = DeploymentShown)))]
pub(crate) async fn show(
    State(admin): State<Arc<Admin>>,
    Path(instance): Path<String>,
) -> Result<Json<DeploymentShown>, ApiError> {
    let store = store_of(&admin, &instance)?;
    let reading = in_store(store, move |store| Ok(store.deployment(&instance)?));
    Ok(Json(reading.await?.into()))
}

/// Give the requests to other versions.
///
/// Each version starts next to those that run and must serve before it gets requests. Those that get none any more end with
/// the last request that they have. Where a version does not start, nothing changes.
#[utoipa::path(put, path = "/v1/instances/{instance}/deployment", tag = "deployments",
    request_body = DeploymentRequest,
    params(("instance" = String, Path, description = "The name of the instance")),
    responses((status = 200, description = "The deployment, which is in use", body = DeploymentShown)))]
pub(crate) async fn set(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(instance): Path<String>,
    Json(request): Json<DeploymentRequest>,
) -> Result<Json<DeploymentShown>, ApiError> {
    store_of(&admin, &instance)?;
    let shares = request.traffic.iter().map(|share| {
        Ok(Share {
            version: version(&share.version)?,
            percent: share.percent,
        })
    });
    let change = DeployChange::Traffic {
        shares: shares.collect::<Result<_, ApiError>>()?,
        sticky: request.sticky,
    };
    deploy(&admin, instance, &caller, change, request.replaces).await
}

/// Go back to other versions.
#[utoipa::path(post, path = "/v1/instances/{instance}/rollback", tag = "deployments",
    request_body = RollbackRequest,
    params(("instance" = String, Path, description = "The name of the instance")),
    responses((status = 200, description = "The deployment, which is in use", body = DeploymentShown)))]
pub(crate) async fn roll_back(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(instance): Path<String>,
    Json(request): Json<RollbackRequest>,
) -> Result<Json<DeploymentShown>, ApiError> {
    store_of(&admin, &instance)?;
    let change = match &request.to {
        Some(to) => DeployChange::BackTo(version(to)?),
        None => DeployChange::Back,
    };
    deploy(&admin, instance, &caller, change, None).await
}
