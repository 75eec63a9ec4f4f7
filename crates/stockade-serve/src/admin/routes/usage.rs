//! What instances and API keys used.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use stockade_usage::{By, Caller, Day, Query as Rows, Report, Store, StoreError};
use utoipa::{IntoParams, ToSchema};

use crate::admin::Admin;
use crate::admin::extract::{Json, Query};
use crate::admin::problem::ApiError;

/// The most rows of an answer.
const MAX_ROWS: usize = 100_000;

/// Which rows are wanted, and how.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// The name of an instance.
    instance: Option<String>,
    /// The id of an API key; `-` for requests without one, `*` for keys that are counted together.
    key: Option<String>,
    /// From this day on.
    #[param(format = Date)]
    since: Option<String>,
    /// Up to this day, which is included.
    #[param(format = Date)]
    until: Option<String>,
    /// What to add up by: `day`, `instance`, `key`, with commas between them. The default is all of them.
    by: Option<String>,
    /// The form of the answer.
    format: Option<Format>,
}

/// The form of the answer.
#[derive(Deserialize, ToSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// A JSON object.
    Json,
    /// CSV (RFC 4180) with a line of names, without the total.
    Csv,
}

/// What was used.
#[derive(Serialize, ToSchema)]
pub(crate) struct Used {
    /// Each row with what it is added up by (`day`, `instance`, `api_key`) and its counts.
    #[schema(value_type = Vec<Object>)]
    rows: Vec<Value>,
    /// The counts of all rows.
    #[schema(value_type = Object)]
    total: Map<String, Value>,
}

/// Report what instances and API keys used.
///
/// What was counted until now is written to the file before it is read.
#[utoipa::path(get, path = "/v1/usage", tag = "usage", params(Wanted),
    responses((status = 200, description = "What was used, by day, instance and key", content(
        (Used = "application/json"), (String = "text/csv")))))]
pub(crate) async fn show(
    State(admin): State<Arc<Admin>>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, ApiError> {
    let ledger = admin.logs.usage.open().ok_or_else(|| {
        ApiError::not_found("no usage is counted: the configuration has no key `usage`")
    })?;
    let by = by(wanted.by.as_deref())?;
    let rows = Rows {
        instance: wanted.instance,
        caller: wanted.key.as_deref().map(caller).transpose()?,
        since: day("since", wanted.since.as_deref())?,
        until: day("until", wanted.until.as_deref())?,
    };
    let reading = tokio::task::spawn_blocking(move || {
        // A disk that takes nothing now is reported elsewhere: what is in the file is still worth an answer.
        let _ = ledger.flush();
        let store = Store::open_to_read(&ledger.options().path)?;
        Report::read(&store, &rows, &by, MAX_ROWS)
    });
    let report = reading.await.map_err(|error| ApiError::internal(&error))?;
    let report = report.map_err(|error: StoreError| ApiError::internal(&error))?;
    let report = report.ok_or_else(|| {
        bad_query(&format!(
            "the answer would have more than {MAX_ROWS} rows: name an instance or days, or add up by less"
        ))
    })?;
    if wanted.format == Some(Format::Csv) {
        let headers = [(CONTENT_TYPE, "text/csv; charset=utf-8; header=present")];
        return Ok((headers, report.to_csv()).into_response());
    }
    Ok(Json(report.to_json()).into_response())
}

fn bad_query(what: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, format!("the query: {what}"))
}

fn day(name: &str, text: Option<&str>) -> Result<Option<Day>, ApiError> {
    let day = text.map(Day::from_str).transpose();
    day.map_err(|error| bad_query(&format!("{name}: {error}")))
}

fn caller(text: &str) -> Result<Caller, ApiError> {
    Caller::parse(if text == "-" { "" } else { text })
        .ok_or_else(|| bad_query("key is the id of an API key, as key_0aB3dE5fG7h, or - or *"))
}

fn by(words: Option<&str>) -> Result<Vec<By>, ApiError> {
    let Some(words) = words else {
        return Ok(By::ALL.to_vec());
    };
    let by: Option<Vec<By>> = words.split(',').map(By::parse).collect();
    by.ok_or_else(|| bad_query("by is day, instance or key, or several with commas between them"))
}
