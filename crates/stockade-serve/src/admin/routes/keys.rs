//! API keys: made, shown, rotated, revoked.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use stockade_auth::{
    KeyFields, KeyId, KeyLimits, KeyRecord, NewKey, Pepper, Scope, Store, StoreError,
};
use utoipa::{IntoParams, ToSchema};

use crate::admin::Admin;
use crate::admin::extract::{Json, Path, Query};
use crate::admin::problem::ApiError;
use crate::admin::time::{now_seconds, rfc3339};

/// The longest overlap of a rotation: ten years.
const MAX_OVERLAP_SECONDS: u64 = 10 * 365 * 86_400;

/// The keys that are in use.
#[derive(Serialize, ToSchema)]
pub(crate) struct Refreshed {
    /// Texts of keys in memory; null where the server uses no API keys.
    count: Option<usize>,
}

/// What the store knows of a key. The key itself is not in it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Key {
    /// Names the key; not secret.
    id: String,
    name: String,
    owner: String,
    /// `active`, `expired` or `revoked`.
    status: &'static str,
    /// What it may do.
    scopes: Vec<String>,
    /// What sites read as `request.cf.apiKey.metadata`.
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
    /// How many requests it may send, as `rate`, `burst` and `quota`.
    #[schema(value_type = Object)]
    limits: KeyLimits,
    #[schema(format = DateTime)]
    created: Option<String>,
    /// When it ends by itself.
    #[schema(format = DateTime)]
    expires: Option<String>,
    #[schema(format = DateTime)]
    revoked: Option<String>,
    /// When it was last used, to some minutes.
    #[schema(format = DateTime)]
    last_used: Option<String>,
    /// Its texts: one, and during the overlap of a rotation more.
    texts: Vec<KeyText>,
}

/// A text of a key.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyText {
    /// How it begins.
    hint: String,
    #[schema(format = DateTime)]
    created: Option<String>,
    /// When a rotation ends it.
    #[schema(format = DateTime)]
    ends: Option<String>,
}

/// All keys.
#[derive(Serialize, ToSchema)]
pub(crate) struct Keys {
    keys: Vec<Key>,
}

/// A key that was made or rotated.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyWithText {
    /// The text that clients send. It is in this answer and in no other.
    text: String,
    key: Key,
}

/// What a new key is to be like.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRequest {
    /// A name for people: 1 to 128 characters on one line.
    name: String,
    /// Whose key it is: at most 128 characters.
    #[serde(default)]
    owner: String,
    /// `read`, `write`, `admin`, a name that sites ask for, or one of these at one instance, as `shop/read`.
    #[serde(default)]
    scopes: Vec<String>,
    /// A JSON object for sites: at most 4,096 bytes.
    #[serde(default)]
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
    /// When it ends by itself; without it never.
    #[schema(format = DateTime)]
    expires: Option<String>,
    /// How many requests it may send: `rate` as `10/s`, `burst` as a number, `quota` as `10000/day`.
    #[serde(default)]
    #[schema(value_type = Object)]
    limits: KeyLimits,
}

/// How a key is rotated.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotationRequest {
    /// How long the text before stays valid; 0 ends it at once.
    #[serde(default = "one_day")]
    #[schema(default = 86_400, maximum = 315_360_000)]
    overlap_seconds: u64,
}

fn one_day() -> u64 {
    86_400
}

/// Which keys are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Only keys of this owner.
    owner: Option<String>,
}

impl Key {
    fn new(record: KeyRecord) -> Self {
        let time = |seconds: Option<u64>| seconds.and_then(rfc3339);
        let texts = record.secrets.iter().map(|secret| KeyText {
            hint: secret.hint.clone(),
            created: rfc3339(secret.created),
            ends: time(secret.ends),
        });
        Self {
            texts: texts.collect(),
            status: record.status(now_seconds()).word(),
            id: record.id.to_string(),
            name: record.name,
            owner: record.owner,
            scopes: record.scopes,
            metadata: record.metadata,
            limits: record.limits,
            created: rfc3339(record.created),
            expires: time(record.expires),
            revoked: time(record.revoked),
            last_used: time(record.last_used),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let detail = error.to_string();
        match error {
            StoreError::NoKey(_) => Self::not_found(detail),
            StoreError::Revoked(_) | StoreError::TooManySecrets { .. } => Self::conflict(detail),
            StoreError::Text { .. }
            | StoreError::Scope(_)
            | StoreError::Metadata(_)
            | StoreError::Expiry(_) => Self::unprocessable(detail),
            _ => Self::internal(&detail),
        }
    }
}

/// Does something with the store, on a thread that may wait for the disk.
pub(crate) async fn with_store<T: Send + 'static>(
    admin: &Admin,
    work: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let running = admin.running.load_full();
    let place = running.map(|running| running.config.api_keys.clone());
    let place = place.ok_or_else(|| ApiError::unavailable("the server is starting"))?;
    let working = tokio::task::spawn_blocking(move || {
        let pepper = Pepper::load(&place.pepper, place.pepper_variable.as_deref())
            .map_err(|error| ApiError::internal(&error))?;
        let mut store = Store::open(&place.path, pepper)?;
        Ok::<_, ApiError>(work(&mut store)?)
    });
    working.await.map_err(|error| ApiError::internal(&error))?
}

/// Waits until a change of the store is in effect.
async fn in_effect(admin: &Admin) -> Result<(), ApiError> {
    let Some((_, keys)) = admin.keys.get() else {
        return Ok(());
    };
    let refreshed = keys.refresh().await;
    refreshed.map(drop).map_err(|why| {
        ApiError::unavailable(format!(
            "the change is stored and not in effect yet: {why}; the server reads the store again by itself"
        ))
    })
}

pub(crate) fn key_id(text: &str) -> Result<KeyId, ApiError> {
    KeyId::parse(text)
        .ok_or_else(|| ApiError::not_found(format!("{text:?} is not the id of a key")))
}

/// List all keys.
#[utoipa::path(get, path = "/v1/keys", tag = "keys", params(Wanted),
    responses((status = 200, description = "All keys that are wanted", body = Keys)))]
pub(crate) async fn list(
    State(admin): State<Arc<Admin>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Keys>, ApiError> {
    let listing = with_store(&admin, move |store| store.list(wanted.owner.as_deref()));
    let keys = listing.await?.into_iter().map(Key::new).collect();
    Ok(Json(Keys { keys }))
}

/// Make a key.
#[utoipa::path(post, path = "/v1/keys", tag = "keys", request_body = KeyRequest,
    responses((status = 201, description = "The key, which is shown once", body = KeyWithText)))]
pub(crate) async fn create(
    State(admin): State<Arc<Admin>>,
    Json(request): Json<KeyRequest>,
) -> Result<(StatusCode, Json<KeyWithText>), ApiError> {
    let scopes = request.scopes.iter().map(|scope| Scope::parse(scope));
    let scopes = scopes.collect::<Result<_, _>>().map_err(StoreError::from)?;
    let expires = request.expires.as_deref().map(|text| {
        let time = humantime::parse_rfc3339_weak(text).ok();
        let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        since.map(|since| since.as_secs()).ok_or_else(|| {
            ApiError::unprocessable("expires is a time in UTC, as 2027-01-01T00:00:00Z")
        })
    });
    let fields = KeyFields {
        name: request.name,
        owner: request.owner,
        scopes,
        metadata: request.metadata,
        expires: expires.transpose()?,
        limits: request.limits,
    };
    let made = with_store(&admin, move |store| {
        store.create(&fields, SystemTime::now())
    })
    .await?;
    in_effect(&admin).await?;
    Ok((StatusCode::CREATED, Json(shown_once(made))))
}

fn shown_once(made: NewKey) -> KeyWithText {
    KeyWithText {
        text: made.key.reveal().to_owned(),
        key: Key::new(made.record),
    }
}

/// Show a key.
#[utoipa::path(get, path = "/v1/keys/{key}", tag = "keys",
    params(("key" = String, Path, description = "The id of the key")),
    responses((status = 200, description = "What the store knows of it", body = Key)))]
pub(crate) async fn show(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Json<Key>, ApiError> {
    let id = key_id(&id)?;
    let record = with_store(&admin, move |store| store.show(id)).await?;
    Ok(Json(Key::new(record)))
}

/// Give a key another text.
#[utoipa::path(post, path = "/v1/keys/{key}/rotate", tag = "keys", request_body = RotationRequest,
    params(("key" = String, Path, description = "The id of the key")),
    responses((status = 200, description = "The key with its new text, which is shown once", body = KeyWithText)))]
pub(crate) async fn rotate(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    Json(request): Json<RotationRequest>,
) -> Result<Json<KeyWithText>, ApiError> {
    let id = key_id(&id)?;
    if request.overlap_seconds > MAX_OVERLAP_SECONDS {
        return Err(ApiError::unprocessable(format!(
            "overlap_seconds is at most {MAX_OVERLAP_SECONDS}"
        )));
    }
    let overlap = Duration::from_secs(request.overlap_seconds);
    let rotating = with_store(&admin, move |store| {
        store.rotate(id, overlap, SystemTime::now())
    });
    let made = rotating.await?;
    in_effect(&admin).await?;
    Ok(Json(shown_once(made)))
}

/// End a key for ever.
///
/// It is in effect when this is answered, on open WebSockets and streams, too.
#[utoipa::path(post, path = "/v1/keys/{key}/revoke", tag = "keys",
    params(("key" = String, Path, description = "The id of the key")),
    responses((status = 200, description = "The key, which opens nothing any more", body = Key)))]
pub(crate) async fn revoke(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Json<Key>, ApiError> {
    let id = key_id(&id)?;
    let record = with_store(&admin, move |store| store.revoke(id, SystemTime::now())).await?;
    in_effect(&admin).await?;
    Ok(Json(Key::new(record)))
}

/// Read the store of API keys again.
///
/// Waits until the changes are in effect. The server also notices them by itself, within a second.
#[utoipa::path(post, path = "/v1/keys/refresh", tag = "keys",
    responses((status = 200, description = "All changes are in effect", body = Refreshed)))]
pub(crate) async fn refresh(State(admin): State<Arc<Admin>>) -> Result<Json<Refreshed>, ApiError> {
    let count = match admin.keys.get() {
        Some((_, keys)) => Some(keys.refresh().await.map_err(ApiError::unavailable)?),
        None => None,
    };
    Ok(Json(Refreshed { count }))
}
