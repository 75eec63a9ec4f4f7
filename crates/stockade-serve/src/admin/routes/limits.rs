//! Limits of what clients use over time: which ones there are, how much one client uses, and counters that are set back.
//!
//! Counters have no names of those that they count for. Use is therefore looked up for a client that the query describes, and
//! no request goes through all counters.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::Value;
use stockade_auth::KeyId;
use stockade_gateway::{LimitBy, LimitSubject, LimitUse, RouteLimits, Unit};
use stockade_limits::Now;
use utoipa::{IntoParams, ToSchema};

use super::keys::{key_id, with_store};
use crate::admin::Admin;
use crate::admin::extract::{Json, Path, Query};
use crate::admin::problem::ApiError;

/// Limits of a page, unless the query names another number.
const PAGE: usize = 100;

/// The most limits of a page.
const MAX_PAGE: usize = 1000;

/// Which limits to list, and whose use of them.
#[derive(Default, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Only limits of requests to this instance.
    instance: Option<String>,
    /// The use of the API key with this id, and the limits that it has itself.
    key: Option<String>,
    /// The use of the client at this address.
    #[param(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// The use of clients that send this header, as `x-tenant: acme`.
    header: Vec<String>,
    /// The use of clients whose token has this claim, as `sub: alice`. What stands behind the colon is JSON or a text.
    claim: Vec<String>,
    /// `cursor` of the page before.
    cursor: Option<String>,
    /// Most limits of the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// A page of limits.
#[derive(Serialize, ToSchema)]
pub(crate) struct Limits {
    /// By instance, in the order of the configuration.
    limits: Vec<Limit>,
    /// Where the next page begins; null after the last one.
    cursor: Option<String>,
}

/// A limit of what clients use over time.
#[derive(Serialize, ToSchema)]
pub(crate) struct Limit {
    /// The instance to which the requests go. A limit that counts the requests of all instances together is listed for each
    /// of them, with the same counter.
    instance: String,
    /// Its name, as clients see it in the header `ratelimit-policy`.
    name: String,
    /// Whose requests are counted together: `address`, `key`, `instance`, `header:NAME` and `claim:NAME`; none for the limits
    /// that an API key has itself.
    by: Vec<String>,
    /// The methods that it is for; none: all.
    methods: Vec<String>,
    /// The paths that it is for; none: all.
    paths: Vec<String>,
    /// What it counts: `requests`, `bytes_in`, `bytes_out`, or `cpu_ms`, milliseconds of CPU time.
    unit: &'static str,
    /// Units that come in each window.
    amount: u64,
    window_seconds: u64,
    /// Units that may be used at once.
    at_once: u64,
    /// How much the client of the query uses; null where the query lacks a part that the limit counts by.
    counter: Option<Counter>,
}

/// How much of a limit is used.
#[derive(Serialize, ToSchema)]
pub(crate) struct Counter {
    /// Names the counter, for `DELETE /v1/limits/{counter}`.
    #[schema(pattern = "^[0-9a-f]{16}$")]
    id: String,
    /// Units that are used: of a rate, those of its burst that have not come again.
    used: u64,
    /// Units that may be used now.
    left: u64,
    /// When all of the burst is there again, or the window of the quota ends.
    resets_in_ms: u64,
}

/// Counters that were set back.
#[derive(Serialize, ToSchema)]
pub(crate) struct Reset {
    /// How many. Of what nothing was used, or all has come again, there is no counter.
    counters: usize,
}

impl Wanted {
    /// Reads the pairs of a query: `header` and `claim` may come more than once.
    fn read(pairs: Vec<(String, String)>) -> Result<Self, ApiError> {
        let mut wanted = Self::default();
        for (name, value) in pairs {
            let wrong = |what: &str| bad_query(&format!("{name}: {value:?} is not {what}"));
            let once = match &*name {
                "instance" => wanted.instance.replace(value).is_none(),
                "key" => wanted.key.replace(value).is_none(),
                "cursor" => wanted.cursor.replace(value).is_none(),
                "address" => {
                    let address = value.parse().map_err(|_| wrong("an IP address"))?;
                    wanted.address.replace(address).is_none()
                }
                "limit" => {
                    let limit = value.parse().ok();
                    let limit = limit.filter(|limit| (1..=MAX_PAGE).contains(limit));
                    let range = format!("a number from 1 to {MAX_PAGE}");
                    let limit = limit.ok_or_else(|| wrong(&range))?;
                    wanted.limit.replace(limit).is_none()
                }
                "header" => {
                    wanted.header.push(value);
                    true
                }
                "claim" => {
                    wanted.claim.push(value);
                    true
                }
                _ => {
                    let known = "instance, key, address, header, claim, cursor and limit";
                    return Err(bad_query(&format!("{name:?} is not one of {known}")));
                }
            };
            if !once {
                return Err(bad_query(&format!("{name} is there twice")));
            }
        }
        Ok(wanted)
    }

    /// The client that the query describes.
    async fn subject(&self, admin: &Admin) -> Result<LimitSubject, ApiError> {
        let mut subject = LimitSubject {
            address: self.address,
            ..LimitSubject::default()
        };
        for text in &self.header {
            let field = text.split_once(':').and_then(|(name, value)| {
                let name: HeaderName = name.parse().ok()?;
                Some((name, HeaderValue::from_str(value.trim()).ok()?))
            });
            let field = field.ok_or_else(|| bad_query("header is as `x-tenant: acme`"))?;
            let added = subject.headers.try_append(field.0, field.1);
            added.map_err(|_| bad_query("there are too many headers"))?;
        }
        for text in &self.claim {
            let claim = text.split_once(':');
            let (name, value) = claim.ok_or_else(|| bad_query("claim is as `sub: alice`"))?;
            let value = value.trim();
            let json = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            subject.claims.insert(name.to_owned(), json.to_string());
        }
        if let Some(key) = &self.key {
            subject.key = Some(own_limits(admin, key).await?);
        }
        Ok(subject)
    }
}

/// A key and the limits that it has itself.
async fn own_limits(
    admin: &Admin,
    key: &str,
) -> Result<(KeyId, stockade_auth::KeyLimits), ApiError> {
    let id = key_id(key)?;
    let record = with_store(admin, move |store| store.show(id)).await?;
    Ok((id, record.limits))
}

fn bad_query(what: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, format!("the query: {what}"))
}

/// The limits of each instance that has some, by name. The previews of an instance have the limits of the instance.
fn by_instance(admin: &Admin) -> Vec<(Arc<str>, Arc<RouteLimits>)> {
    let mut limits = admin.gateway.limits();
    limits.sort_by(|(one, _), (other, _)| one.cmp(other));
    limits.dedup_by(|(one, _), (other, _)| one == other);
    limits
}

impl Limit {
    fn new(instance: &str, of: LimitUse) -> Self {
        // Counters have microseconds of CPU time.
        let (unit, per_unit) = match of.unit {
            Unit::Cpu => ("cpu_ms", 1000),
            unit => (unit.word(), 1),
        };
        Self {
            instance: instance.to_owned(),
            name: of.name,
            by: of.by.iter().map(ToString::to_string).collect(),
            methods: of.methods.iter().map(ToString::to_string).collect(),
            paths: of.paths.iter().map(ToString::to_string).collect(),
            unit,
            amount: of.amount / per_unit,
            window_seconds: of.window,
            at_once: of.at_once / per_unit,
            counter: of.counted.map(|counted| Counter {
                id: format!("{:016x}", counted.counter),
                used: counted.used.div_ceil(per_unit),
                left: counted.left / per_unit,
                resets_in_ms: u64::try_from(counted.reset.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }
}

/// List limits, and how much a client uses of them.
///
/// The query describes a client. Where it has no `key`, `header` or `claim` that a limit counts by, the limit counts by the
/// address, as for a request without these.
#[utoipa::path(get, path = "/v1/limits", tag = "limits", params(Wanted),
    responses((status = 200, description = "A page of limits", body = Limits)))]
pub(crate) async fn list(
    State(admin): State<Arc<Admin>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Limits>, ApiError> {
    let wanted = Wanted::read(pairs)?;
    if let Some(name) = &wanted.instance {
        admin.site(name)?;
    }
    let subject = wanted.subject(&admin).await?;
    let most = wanted.limit.unwrap_or(PAGE);
    // The instance and the place of the limit with which the page begins.
    let from = match &wanted.cursor {
        None => ("", 0),
        Some(cursor) => {
            let parts = cursor.rsplit_once('/');
            let from = parts.and_then(|(name, place)| Some((name, place.parse().ok()?)));
            from.ok_or_else(|| bad_query("cursor is not one of this list"))?
        }
    };
    let now = Now::read();
    let mut limits = Vec::new();
    for (name, of) in by_instance(&admin) {
        if *name < *from.0 || wanted.instance.as_deref().is_some_and(|one| one != &*name) {
            continue;
        }
        let skipped = if *name == *from.0 { from.1 } else { 0 };
        let uses = of.uses(&subject, now).into_iter().enumerate();
        for (place, one) in uses.skip(skipped) {
            if limits.len() == most {
                let cursor = Some(format!("{name}/{place}"));
                return Ok(Json(Limits { limits, cursor }));
            }
            limits.push(Limit::new(&name, one));
        }
    }
    let cursor = None;
    Ok(Json(Limits { limits, cursor }))
}

/// Set one counter back.
///
/// Its client has the whole limit again. A counter of which nothing is used is not there.
#[utoipa::path(delete, path = "/v1/limits/{counter}", tag = "limits",
    params(("counter" = String, Path, description = "The id of the counter: 16 hexadecimal digits")),
    responses((status = 200, description = "The counter is set back, or is not there", body = Reset)))]
pub(crate) async fn reset(
    State(admin): State<Arc<Admin>>,
    Path(counter): Path<String>,
) -> Result<Json<Reset>, ApiError> {
    let is_number = counter.len() == 16 && counter.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u64::from_str_radix(&counter, 16).ok();
    let number = number.filter(|_| is_number).ok_or_else(|| {
        let detail = format!("{counter:?} is not the id of a counter: `stockade limits show` and GET /v1/limits have them");
        ApiError::not_found(detail)
    })?;
    let running = admin.running.load_full();
    let counters = running.and_then(|running| running.counters.clone());
    let was_there = counters.is_some_and(|counters| counters.reset(number));
    Ok(Json(Reset {
        counters: usize::from(was_there),
    }))
}

/// Set the counters of an API key back.
///
/// Those of the limits that the key has itself, and of limits by `key` alone, at all instances. A counter of a limit that counts
/// by more than the key is set back by its id.
#[utoipa::path(delete, path = "/v1/limits/keys/{key}", tag = "limits",
    params(("key" = String, Path, description = "The id of the key")),
    responses((status = 200, description = "The counters are set back", body = Reset)))]
pub(crate) async fn reset_key(
    State(admin): State<Arc<Admin>>,
    Path(key): Path<String>,
) -> Result<Json<Reset>, ApiError> {
    let subject = LimitSubject {
        key: Some(own_limits(&admin, &key).await?),
        ..LimitSubject::default()
    };
    let running = admin.running.load_full();
    let Some(counters) = running.and_then(|running| running.counters.clone()) else {
        return Ok(Json(Reset { counters: 0 }));
    };
    let now = Now::read();
    let mut of_key = BTreeSet::new();
    for (_, limits) in by_instance(&admin) {
        // What counts for all clients is not the key's.
        let uses = limits.uses(&subject, now).into_iter();
        let uses = uses.filter(|one| one.by.is_empty() || one.by.contains(&LimitBy::Key));
        of_key.extend(uses.filter_map(|one| Some(one.counted?.counter)));
    }
    let reset = of_key
        .into_iter()
        .filter(|counter| counters.reset(*counter));
    Ok(Json(Reset {
        counters: reset.count(),
    }))
}
