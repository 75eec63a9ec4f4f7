//! Instances and their mirrors.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use stockade_config::Instance as Settings;
use stockade_instance::{InstanceStats, MirrorStats};
use utoipa::ToSchema;

use crate::admin::Admin;
use crate::admin::extract::{Json, Path};
use crate::admin::problem::ApiError;
use crate::deployments::VersionRef;
use crate::previews::LivePreview;
use crate::running::SiteTraffic;
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
    /// Whether its mirrors can be debugged: the key `inspect` of its configuration.
    inspect: bool,
    /// Whether each version that gets requests takes them, or has no mirror because none is wanted.
    ready: bool,
    /// The URLs that lead to it.
    urls: Vec<String>,
    /// How many mirrors are wanted now, of all versions.
    mirrors_wanted: usize,
    /// Requests that wait for a mirror.
    queued: usize,
    /// Requests that mirrors handle.
    in_flight: usize,
    /// CPU time of all mirrors that these versions ever had.
    cpu_ms: u64,
    /// Mirrors in a row that ended early; 0 when all is well.
    crashes_in_a_row: u32,
    /// Why the last attempt to start a mirror failed; null once one succeeds.
    start_error: Option<String>,
    /// The versions of its code that get requests, the one with the largest share first; empty without code.
    versions: Vec<RunningVersion>,
    /// The previews that run: versions at hosts of their own, by name.
    previews: Vec<Preview>,
    /// Those of all versions and previews.
    mirrors: Vec<Mirror>,
}

/// A version of the code that runs at its preview host.
#[derive(Serialize, ToSchema)]
pub(crate) struct Preview {
    /// The name of the version.
    version: String,
    /// Where it answers; null once the configuration has no `preview_domain`.
    host: Option<String>,
    /// Whether it takes requests.
    ready: bool,
    /// Requests of clients that were answered since it was started.
    requests: u64,
    /// Those of them with a status of 500 or more.
    errors: u64,
    /// How long ago its last request came. It ends after five minutes without one.
    idle_ms: u64,
    /// Why the last attempt to start its mirror failed; null once one succeeds.
    start_error: Option<String>,
}

/// A version of the code that gets requests.
#[derive(Serialize, ToSchema)]
pub(crate) struct RunningVersion {
    /// `file`, or the name of a version that was uploaded.
    version: String,
    /// Its share of the requests.
    percent: u8,
    /// Whether it takes requests, or has no mirror because none is wanted.
    ready: bool,
    mirrors_wanted: usize,
    /// Requests of clients that were answered since it was started.
    requests: u64,
    /// Those of them with a status of 500 or more.
    errors: u64,
    /// Requests that wait for a mirror.
    queued: usize,
    /// Requests that mirrors handle.
    in_flight: usize,
    /// Why the last attempt to start a mirror failed; null once one succeeds.
    start_error: Option<String>,
}

/// A mirror: an isolate that runs the code of an instance.
#[derive(Serialize, ToSchema)]
pub(crate) struct Mirror {
    /// Its number, which no other mirror of the instance has had.
    mirror: u32,
    /// The version of the code that it runs: `file`, or one that was uploaded.
    version: String,
    /// Whether its version runs as a preview, apart from those that get the requests of the instance.
    preview: bool,
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
    /// Whether a debugger is attached.
    debugged: bool,
}

impl Mirror {
    fn new(stats: &MirrorStats, version: &VersionRef, preview: bool) -> Self {
        Self {
            mirror: stats.mirror,
            version: version.to_string(),
            preview,
            state: stats.state.name(),
            in_flight: stats.in_flight,
            requests: stats.requests,
            websockets: stats.sockets,
            cpu_ms: stats.cpu.as_millis() as u64,
            memory_bytes: stats.memory,
            age_ms: stats.age.as_millis() as u64,
            debugged: stats.debugged,
        }
    }
}

impl RunningVersion {
    fn new(percent: u8, site: &Site, stats: &InstanceStats) -> Self {
        Self {
            version: site.version.to_string(),
            percent,
            ready: site.is_ready(),
            mirrors_wanted: stats.wanted,
            requests: site.counts.requests(),
            errors: site.counts.errors(),
            queued: stats.queued,
            in_flight: stats.in_flight,
            start_error: stats.start_error.clone(),
        }
    }
}

impl Preview {
    fn new(preview: &LivePreview, start_error: Option<String>) -> Self {
        let site = &preview.site;
        Self {
            version: site.version.to_string(),
            host: preview.host.clone(),
            ready: site.is_ready(),
            requests: site.counts.requests(),
            errors: site.counts.errors(),
            idle_ms: preview.idle.as_millis() as u64,
            start_error,
        }
    }
}

impl Instance {
    fn new(settings: &Settings, traffic: &SiteTraffic, previews: &[LivePreview]) -> Self {
        let mut shown = Self {
            name: settings.name.clone(),
            isolation: settings.isolation.name(),
            has_code: settings.code.is_some(),
            inspect: settings.inspect,
            ready: traffic.is_ready(),
            urls: settings.urls.iter().map(|url| url.text.clone()).collect(),
            mirrors_wanted: 0,
            queued: 0,
            in_flight: 0,
            cpu_ms: 0,
            crashes_in_a_row: 0,
            start_error: None,
            versions: Vec::new(),
            previews: Vec::new(),
            mirrors: Vec::new(),
        };
        // The versions that get requests.
        for (percent, site) in &traffic.shares {
            let Some(instance) = &site.answering.instance else {
                continue;
            };
            let stats = instance.stats();
            let version = RunningVersion::new(*percent, site, &stats);
            shown.versions.push(version);
            let mirrors = stats.mirrors.iter();
            let mirrors = mirrors.map(|mirror| Mirror::new(mirror, &site.version, false));
            shown.mirrors.extend(mirrors);
            shown.mirrors_wanted += stats.wanted;
            shown.queued += stats.queued;
            shown.in_flight += stats.in_flight;
            shown.cpu_ms += stats.cpu.as_millis() as u64;
            shown.crashes_in_a_row = shown.crashes_in_a_row.max(stats.crashes_in_a_row);
            shown.start_error = shown.start_error.or(stats.start_error);
        }
        // Previews, which take no part in the sums.
        for preview in previews {
            let Some(instance) = &preview.site.answering.instance else {
                continue;
            };
            let stats = instance.stats();
            let mirrors = stats.mirrors.iter();
            let mirrors = mirrors.map(|mirror| Mirror::new(mirror, &preview.site.version, true));
            shown.mirrors.extend(mirrors);
            let preview = Preview::new(preview, stats.start_error);
            shown.previews.push(preview);
        }
        shown
    }
}

/// List all instances.
#[utoipa::path(get, path = "/v1/instances", tag = "instances",
    responses((status = 200, description = "All instances, by name", body = Instances)))]
pub(crate) async fn list(State(admin): State<Arc<Admin>>) -> Json<Instances> {
    let running = admin.running.load_full();
    let mut instances = Vec::new();
    if let Some(running) = running {
        for (name, traffic) in &running.traffic {
            if let Some(settings) = running.config.instances.get(name) {
                let previews = admin.previews.of(name);
                instances.push(Instance::new(settings, traffic, &previews));
            }
        }
    }
    Json(Instances { instances })
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
    let traffic = admin.traffic(&name)?;
    let previews = admin.previews.of(&name);
    Ok(Json(Instance::new(&site.config, &traffic, &previews)))
}
