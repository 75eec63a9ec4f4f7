//! The shared state of an instance, to be read.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use stockade_audit::Record;
use stockade_state::{Key, Keyspace, KeyspaceName, Kind, List, StateError, Store as _};
use utoipa::{IntoParams, ToSchema};

use crate::admin::Admin;
use crate::admin::api::Caller;
use crate::admin::extract::{Json, Path, Query};
use crate::admin::problem::ApiError;
use crate::plan;

/// Keys of a page, unless the query names another number.
const PAGE: usize = 100;

/// Which keys to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct KeyQuery {
    /// Only keys that begin so.
    #[serde(default)]
    prefix: String,
    /// `cursor` of the page before.
    cursor: Option<String>,
    /// Most keys of the page, 1 to 1000; 100 unless given.
    limit: Option<usize>,
}

/// A page of keys, and what the state uses.
#[derive(Serialize, ToSchema)]
pub(crate) struct StatePage {
    /// Entries, with those that are expired and not removed yet.
    entries: u64,
    /// Bytes of keys, values and their overhead.
    used_bytes: u64,
    limit_bytes: u64,
    /// In ascending order of their bytes.
    keys: Vec<StateKey>,
    /// Where the next page begins; null after the last one.
    cursor: Option<String>,
}

/// A key.
#[derive(Serialize, ToSchema)]
pub(crate) struct StateKey {
    /// The guest chose it: any characters.
    key: String,
    /// The commit that wrote its value.
    version: u64,
    /// Bytes of its value.
    size: u64,
    /// When it ends by itself.
    #[schema(format = DateTime)]
    expires: Option<String>,
}

/// Which value to read.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ValueQuery {
    /// The key.
    key: String,
}

/// A value.
#[derive(Serialize, ToSchema)]
pub(crate) struct StateValue {
    key: String,
    /// The commit that wrote it.
    version: u64,
    #[schema(format = DateTime)]
    expires: Option<String>,
    /// `text`, `json` or `bytes`.
    kind: &'static str,
    /// Text and JSON as they are, bytes in base64.
    value: String,
}

/// The keys of an instance's shared state.
#[utoipa::path(get, path = "/v1/instances/{instance}/state", tag = "state",
    params(("instance" = String, Path, description = "The name of the instance"), KeyQuery),
    responses((status = 200, description = "A page of keys", body = StatePage)))]
pub(crate) async fn list(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    Query(query): Query<KeyQuery>,
) -> Result<Json<StatePage>, ApiError> {
    let keyspace = keyspace(&admin, &name).await?;
    let list = List {
        prefix: query.prefix,
        cursor: query.cursor,
        limit: query.limit.unwrap_or(PAGE),
        ..List::default()
    };
    let page = keyspace.list(list).await.map_err(failed)?;
    let usage = keyspace.usage();
    let keys = page.keys.into_iter().map(|key| StateKey {
        key: key.key,
        version: key.version,
        size: key.size,
        expires: key.expires_ms.and_then(written),
    });
    Ok(Json(StatePage {
        entries: usage.entries,
        used_bytes: usage.bytes,
        limit_bytes: usage.limit_bytes,
        keys: keys.collect(),
        cursor: page.cursor,
    }))
}

/// A value of an instance's shared state.
///
/// The read is recorded in the audit log, where there is one: a value may be private to the instance's users.
#[utoipa::path(get, path = "/v1/instances/{instance}/state/value", tag = "state",
    params(("instance" = String, Path, description = "The name of the instance"), ValueQuery),
    responses((status = 200, description = "The value", body = StateValue)))]
pub(crate) async fn value(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(query): Query<ValueQuery>,
) -> Result<Json<StateValue>, ApiError> {
    let key = Key::new(&query.key)
        .map_err(|error| ApiError::new(http::StatusCode::BAD_REQUEST, error.to_string()))?;
    let keyspace = keyspace(&admin, &name).await?;
    admin.logs.audit.record(|| {
        let (kind, caller, address) = caller.facts();
        Record::new("state_read")
            .text("instance", &name)
            .text("key", key.as_str())
            .text("caller", kind)
            .text("caller_name", &caller)
            .text("client", address)
    });
    let entry = keyspace.get(key).await.map_err(failed)?;
    let entry = entry.ok_or_else(|| ApiError::not_found("The state has no such key."))?;
    let (kind, value) = match (entry.value.kind, String::from_utf8(entry.value.data)) {
        (Kind::Text, Ok(text)) => ("text", text),
        (Kind::Json, Ok(text)) => ("json", text),
        (_, Ok(text)) => ("bytes", STANDARD.encode(text)),
        (_, Err(error)) => ("bytes", STANDARD.encode(error.as_bytes())),
    };
    Ok(Json(StateValue {
        key: query.key,
        version: entry.version,
        expires: entry.expires_ms.and_then(written),
        kind,
        value,
    }))
}

/// The keyspace of an instance that has one, with the limits that it has.
async fn keyspace(admin: &Admin, name: &str) -> Result<Arc<dyn Keyspace>, ApiError> {
    let site = admin.site(name)?;
    let running = admin.running.load_full();
    let store = running.and_then(|running| running.store.clone());
    let (Some(state), Some(store)) = (&site.config.state, store) else {
        let detail =
            "The instance has no shared state. Its key `state` in the configuration grants it.";
        return Err(ApiError::not_found(detail));
    };
    let name = KeyspaceName::new(name).map_err(|error| ApiError::internal(&error))?;
    let opening = store.open(name, plan::grants::state(state));
    opening.await.map_err(failed)
}

fn failed(error: StateError) -> ApiError {
    match error {
        StateError::List(error) => ApiError::new(http::StatusCode::BAD_REQUEST, error.to_string()),
        other => ApiError::unavailable(other.to_string()),
    }
}

/// Milliseconds since 1970 as a time; none where no calendar has it.
fn written(ms: i64) -> Option<String> {
    // The last millisecond of the year 9999.
    const LAST: u64 = 253_402_300_799_999;
    let ms = u64::try_from(ms).ok().filter(|ms| *ms <= LAST)?;
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
    Some(humantime::format_rfc3339_millis(time).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_no_calendar_has_is_none() {
        assert_eq!(written(0).as_deref(), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(written(-1), None);
        assert_eq!(written(i64::MAX), None);
    }
}
