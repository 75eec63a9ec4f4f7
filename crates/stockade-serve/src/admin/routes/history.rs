//! The last minutes of each instance, for charts.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::Admin;
use crate::admin::extract::{Json, Query};
use crate::admin::problem::ApiError;
use crate::metrics::Sample;

/// Which samples are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// The name of an instance; all without it.
    instance: Option<String>,
    /// Seconds of a sample: 1 for the last two minutes, 10 for the last fifteen. With more than 500 instances there are
    /// samples of 10 seconds only.
    #[param(default = 10)]
    resolution: Option<u32>,
    /// Only samples that end after this time.
    #[param(format = DateTime)]
    since: Option<String>,
}

/// Samples of instances.
#[derive(Serialize, ToSchema)]
pub(crate) struct MetricsHistory {
    /// Seconds of each sample.
    resolution_seconds: u32,
    /// The samples of each instance, from the oldest to the latest.
    instances: BTreeMap<String, Vec<MetricsSample>>,
}

/// What happened in one interval.
#[derive(Serialize, ToSchema)]
pub(crate) struct MetricsSample {
    /// The end of the interval.
    #[schema(format = DateTime)]
    time: String,
    /// Requests that were answered.
    requests: u64,
    /// Those of them with a status of 500 or more.
    errors: u64,
    /// What half of the requests took at most; null without requests. Exact to a fifth.
    p50_ms: Option<f64>,
    /// What 99 of a hundred took at most.
    p99_ms: Option<f64>,
    /// CPU time of all mirrors in the interval.
    cpu_ms: u64,
    /// Memory of all mirrors at its end.
    memory_bytes: u64,
    /// Mirrors at its end.
    mirrors: usize,
    /// Requests without a response at its end.
    in_flight: usize,
    /// Requests that waited for a mirror at its end.
    queued: usize,
    /// Mirrors that were ended, by reason.
    kills: BTreeMap<&'static str, u64>,
}

impl MetricsSample {
    fn new(at: std::time::SystemTime, sample: Sample) -> Self {
        // Numbers for a chart need no more digits.
        let rounded = |millis: f64| (millis * 1e3).round() / 1e3;
        Self {
            time: humantime::format_rfc3339_millis(at).to_string(),
            requests: sample.requests,
            errors: sample.errors,
            p50_ms: sample.p50.map(rounded),
            p99_ms: sample.p99.map(rounded),
            cpu_ms: sample.cpu.as_millis() as u64,
            memory_bytes: sample.memory,
            mirrors: sample.mirrors,
            in_flight: sample.in_flight,
            queued: sample.queued,
            kills: sample.kills.into_iter().collect(),
        }
    }
}

/// The last minutes of instances.
#[utoipa::path(get, path = "/v1/metrics/history", tag = "metrics", params(Wanted),
    responses((status = 200, description = "Samples by instance", body = MetricsHistory)))]
pub(crate) async fn history(
    State(admin): State<Arc<Admin>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<MetricsHistory>, ApiError> {
    let bad = |what: &str| ApiError::new(StatusCode::BAD_REQUEST, format!("the query: {what}"));
    let resolution = wanted.resolution.unwrap_or(10);
    if !matches!(resolution, 1 | 10) {
        return Err(bad("resolution is 1 or 10"));
    }
    let since = wanted.since.as_deref().map(|text| {
        humantime::parse_rfc3339_weak(text)
            .map_err(|_| bad("since is a time in UTC, as 2026-12-01T10:00:00Z"))
    });
    if let Some(name) = &wanted.instance {
        admin.site(name)?;
    }
    let of = |name: &str| {
        wanted
            .instance
            .as_deref()
            .is_none_or(|wanted| wanted == name)
    };
    let samples = admin
        .history
        .samples(resolution == 1, since.transpose()?, of);
    let instances = samples.into_iter().map(|(name, samples)| {
        let samples = samples.into_iter();
        let samples = samples.map(|(at, sample)| MetricsSample::new(at, sample));
        (name.to_string(), samples.collect())
    });
    Ok(Json(MetricsHistory {
        resolution_seconds: resolution,
        instances: instances.collect(),
    }))
}
