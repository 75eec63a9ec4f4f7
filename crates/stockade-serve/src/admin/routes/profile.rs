//! What a mirror is doing: CPU profiles, flame graphs, heap snapshots and heap statistics.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use stockade_profile::{CpuProfile, flame_graph};
use stockade_supervisor::{IsolateHandle, LONGEST_PROFILE, ProbeError};
use tokio::sync::Semaphore;
use tokio_util::io::ReaderStream;
use utoipa::{IntoParams, ToSchema};

use crate::admin::Admin;
use crate::admin::extract::{Json, Path, Query};
use crate::admin::problem::ApiError;

/// How long a CPU profile lasts, unless the query says otherwise.
const SECONDS: f64 = 10.0;

/// Requests of this kind at a time: the result of each is a file of the server until it is sent.
static AT_A_TIME: Semaphore = Semaphore::const_new(4);

/// What is wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// What is to be made.
    kind: Kind,
    /// How long a CPU profile or a flame graph is recorded.
    #[param(minimum = 0.01, maximum = 300, default = 10)]
    seconds: Option<f64>,
}

/// What can be made of a running mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A `.cpuprofile` for Chrome's DevTools.
    Cpu,
    /// A CPU profile as an SVG picture.
    FlameGraph,
    /// A `.heapsnapshot` for Chrome's DevTools.
    Heap,
    /// How large the heap is, as JSON.
    HeapStatistics,
}

/// Profile a mirror, or show its heap.
///
/// The mirror goes on while a CPU profile is recorded, and stands still while a heap snapshot is written. A mirror has one
/// profile or snapshot at a time. A heap snapshot contains everything that the guest holds.
#[utoipa::path(post, path = "/v1/instances/{instance}/mirrors/{mirror}/profile", tag = "instances",
    params(("instance" = String, Path, description = "The name of the instance"),
        ("mirror" = u32, Path, description = "The number of the mirror"), Wanted),
    responses((status = 200, description = "The file that is wanted", body = Vec<u8>, content_type = "application/octet-stream")))]
pub(crate) async fn take(
    State(admin): State<Arc<Admin>>,
    Path((name, mirror)): Path<(String, u32)>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, ApiError> {
    let (_, isolate) = admin.mirror(&name, mirror)?;
    let time = seconds(wanted.seconds.unwrap_or(SECONDS))?;
    let _permit = AT_A_TIME.try_acquire().map_err(|_| {
        ApiError::unavailable("4 profiles are being made, and more at a time are not")
            .retry_after(Duration::from_secs(5))
    })?;
    match wanted.kind {
        Kind::HeapStatistics => {
            let statistics = isolate.heap_statistics().await.map_err(refused)?;
            Ok(Json(statistics).into_response())
        }
        Kind::Cpu => {
            let made = made(async |file| isolate.cpu_profile(time, file).await).await?;
            Ok(file(
                made,
                &format!("{name}-{mirror}.cpuprofile"),
                "application/json",
            ))
        }
        Kind::Heap => {
            let made = made(async |file| isolate.heap_snapshot(file).await).await?;
            Ok(file(
                made,
                &format!("{name}-{mirror}.heapsnapshot"),
                "application/json",
            ))
        }
        Kind::FlameGraph => picture(&isolate, time, format!("{name}, mirror {mirror}")).await,
    }
}

fn seconds(seconds: f64) -> Result<Duration, ApiError> {
    let most = LONGEST_PROFILE.as_secs_f64();
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if (0.01..=most).contains(&seconds) => Ok(time),
        _ => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            format!("the query: seconds is a number from 0.01 to {most}"),
        )),
    }
}

/// A file without a name, which ends with its last user, and its size in bytes.
async fn made(
    write: impl AsyncFnOnce(File) -> Result<u64, ProbeError>,
) -> Result<(File, u64), ApiError> {
    let (file, copy) = tempfile::tempfile()
        .and_then(|file| Ok((file.try_clone()?, file)))
        .map_err(|error| ApiError::internal(&error))?;
    let bytes = write(copy).await.map_err(refused)?;
    Ok((file, bytes))
}

/// The answer that has a file as its body.
fn file((mut file, bytes): (File, u64), name: &str, kind: &'static str) -> Response {
    if let Err(error) = file.rewind() {
        return ApiError::internal(&error).into_response();
    }
    let stream = ReaderStream::new(tokio::fs::File::from_std(file));
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    let disposition = format!("attachment; filename=\"{name}\"");
    if let Ok(value) = HeaderValue::try_from(disposition) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
    response
}

async fn picture(
    isolate: &IsolateHandle,
    time: Duration,
    title: String,
) -> Result<Response, ApiError> {
    let (file, _) = made(async |file| isolate.cpu_profile(time, file).await).await?;
    let drawing = tokio::task::spawn_blocking(move || draw(file, &title));
    let drawn = drawing.await.map_err(|error| ApiError::internal(&error))?;
    let drawn = drawn.map_err(|error| ApiError::internal(&error))?;
    let headers = [
        (CONTENT_TYPE, "image/svg+xml"),
        // Opened by itself, the picture has its own styles and nothing else.
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
    ];
    Ok((headers, drawn).into_response())
}

fn draw(mut file: File, title: &str) -> io::Result<String> {
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    let profile = CpuProfile::read(&text).map_err(io::Error::other)?;
    Ok(flame_graph(&profile, title))
}

fn refused(error: ProbeError) -> ApiError {
    let status = match error {
        ProbeError::Busy(_) => StatusCode::CONFLICT,
        ProbeError::Ended { .. } => StatusCode::GONE,
        ProbeError::TooLong(_) => StatusCode::BAD_REQUEST,
        ProbeError::Failed { .. } | ProbeError::Silent { .. } | ProbeError::TooLarge { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ProbeError::Write(_) | ProbeError::Create { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    };
    ApiError::new(status, error.to_string())
}
