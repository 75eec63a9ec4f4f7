//! The audit log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use stockade_audit::{AuditError, Filter, Lines};
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};

use crate::admin::Admin;
use crate::admin::extract::{Json, Query};
use crate::admin::problem::ApiError;

/// Lines of an answer, unless the query says otherwise.
const LIMIT: u32 = 100;

/// The most lines of an answer.
const MAX_LIMIT: u32 = 1000;

/// Searches at the same time: each reads the whole log, on a thread that others need too.
static SEARCHES: Semaphore = Semaphore::const_new(2);

/// Which lines are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Names of events, with commas between them.
    event: Option<String>,
    /// The name of an instance.
    instance: Option<String>,
    /// A text that the line contains, in any of its fields.
    text: Option<String>,
    /// Not before this time.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Not after this time.
    #[param(format = DateTime)]
    until: Option<String>,
    /// How many of the latest lines are wanted.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// Lines of the audit log.
#[derive(Serialize, ToSchema)]
pub(crate) struct Found {
    /// From the oldest to the latest. Nothing is verified: `stockade audit verify` does that.
    #[schema(value_type = Vec<Object>)]
    lines: Vec<Map<String, Value>>,
    /// Whether there are more, before these.
    more: bool,
}

/// Search the audit log.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(Wanted),
    responses((status = 200, description = "The latest lines that are wanted", body = Found)))]
pub(crate) async fn search(
    State(admin): State<Arc<Admin>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Found>, ApiError> {
    let open = admin.logs.audit.open();
    let open = open.ok_or_else(|| {
        ApiError::not_found("there is no audit log: the configuration has no key `audit`")
    })?;
    let limit = wanted.limit.unwrap_or(LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(bad_query(&format!(
            "limit is a number from 1 to {MAX_LIMIT}"
        )));
    }
    let events = wanted.event.iter().flat_map(|names| names.split(','));
    let filter = Filter {
        events: events.map(str::to_owned).collect(),
        instance: wanted.instance,
        since: wanted
            .since
            .as_deref()
            .map(|text| time("since", text))
            .transpose()?,
        until: wanted
            .until
            .as_deref()
            .map(|text| time("until", text))
            .transpose()?,
        text: wanted.text,
    };
    let busy = || ApiError::unavailable("other searches run").retry_after(Duration::from_secs(1));
    let place = SEARCHES.try_acquire().map_err(|_| busy())?;
    let folder = open.options.folder.clone();
    let reading = tokio::task::spawn_blocking(move || {
        // Given back when the thread is free, whether or not the client has waited.
        let _place = place;
        latest(Lines::of(&folder), &filter, limit as usize)
    });
    let found = reading.await.map_err(|error| ApiError::internal(&error))?;
    found.map(Json).map_err(|error| ApiError::internal(&error))
}

fn bad_query(what: &str) -> ApiError {
    ApiError::new(http::StatusCode::BAD_REQUEST, format!("the query: {what}"))
}

fn time(name: &str, text: &str) -> Result<SystemTime, ApiError> {
    humantime::parse_rfc3339_weak(text)
        .map_err(|_| bad_query(&format!("{name} is a time in UTC, as 2026-12-01T10:00:00Z")))
}

/// Reads the whole log and keeps the latest lines that are wanted.
fn latest(mut lines: Lines, filter: &Filter, limit: usize) -> Result<Found, AuditError> {
    let (mut kept, mut more) = (VecDeque::with_capacity(limit), false);
    while let Some(line) = lines.next_line()? {
        if filter.wants(&line) {
            if kept.len() == limit {
                kept.pop_front();
                more = true;
            }
            kept.push_back(line.fields);
        }
    }
    Ok(Found {
        lines: kept.into(),
        more,
    })
}
