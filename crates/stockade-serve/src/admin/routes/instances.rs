//! Instances and their mirrors.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use stockade_config::Instance as Settings;
use stockade_instance::MirrorStats;
use utoipa::ToSchema;

use crate::admin::Admin;
use crate::admin::extract::{Json, Path};
use crate::admin::problem::ApiError;
use crate::site::Site;

/// All instances.
#[derive(Serialize, ToSchema)]
pub(crate) struct Instances {
    instances: Vec<Instance>,
}

/// An instance: the code and the files of one site, at their limits.
#[derive(Serialize, ToSchema)]
pub(crate) struct Instance {
    name: String,
    /// The level of isolation of its mirrors.
    isolation: &'static str,
    /// Whether it runs code; otherwise it serves files only.
    has_code: bool,
    /// Whether it takes requests, or has no mirror because none is wanted.
    ready: bool,
    /// The URLs that lead to it.
    urls: Vec<String>,
    /// How many mirrors are wanted now.
    mirrors_wanted: usize,
    /// Requests that wait for a mirror.
    queued: usize,
    /// Requests that mirrors handle.
    in_flight: usize,
    /// CPU time of all mirrors that there ever were.
    cpu_ms: u64,
    /// Mirrors in a row that ended early; 0 when all is well.
    crashes_in_a_row: u32,
    /// Why the last attempt to start a mirror failed; null once one succeeds.
    start_error: Option<String>,
    mirrors: Vec<Mirror>,
}

/// A mirror: an isolate that runs the code of an instance.
#[derive(Serialize, ToSchema)]
pub(crate) struct Mirror {
    /// Its number, which no other mirror of the instance has had.
    mirror: u32,
    /// `starting`, `ready` or `draining`.
    state: &'static str,
    /// Requests that it handles.
    in_flight: usize,
    /// Requests that it has been given.
    requests: u64,
    /// Open WebSockets.
    websockets: usize,
    cpu_ms: u64,
    /// When last measured.
    memory_bytes: u64,
    age_ms: u64,
}

impl Mirror {
    fn new(stats: &MirrorStats) -> Self {
        Self {
            mirror: stats.mirror,
            state: stats.state.name(),
            in_flight: stats.in_flight,
            requests: stats.requests,
            websockets: stats.sockets,
            cpu_ms: stats.cpu.as_millis() as u64,
            memory_bytes: stats.memory,
            age_ms: stats.age.as_millis() as u64,
        }
    }
}

impl Instance {
    fn new(settings: &Settings, site: &Site) -> Self {
        let stats = (site.answering.instance.as_ref()).map(stockade_instance::Instance::stats);
        let stats = stats.unwrap_or_default();
        Self {
            name: settings.name.clone(),
            isolation: settings.isolation.name(),
            has_code: site.answering.instance.is_some(),
            ready: site.is_ready(),
            urls: settings.urls.iter().map(|url| url.text.clone()).collect(),
            mirrors_wanted: stats.wanted,
            queued: stats.queued,
            in_flight: stats.in_flight,
            cpu_ms: stats.cpu.as_millis() as u64,
            crashes_in_a_row: stats.crashes_in_a_row,
            start_error: stats.start_error,
            mirrors: stats.mirrors.iter().map(Mirror::new).collect(),
        }
    }
}

/// List all instances.
#[utoipa::path(get, path = "/v1/instances", tag = "instances",
    responses((status = 200, description = "All instances, by name", body = Instances)))]
pub(crate) async fn list(State(admin): State<Arc<Admin>>) -> Json<Instances> {
    let running = admin.running.load_full();
    let sites = running.iter().flat_map(|running| running.sites.values());
    let instances = sites.map(|site| Instance::new(&site.config, site));
    Json(Instances {
        instances: instances.collect(),
    })
}

/// Show one instance.
#[utoipa::path(get, path = "/v1/instances/{instance}", tag = "instances",
    params(("instance" = String, Path, description = "The name of the instance")),
    responses((status = 200, description = "The instance now", body = Instance)))]
pub(crate) async fn show(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
) -> Result<Json<Instance>, ApiError> {
    let site = admin.site(&name)?;
    Ok(Json(Instance::new(&site.config, &site)))
}
