//! The calls of a guest's `env.STATE`, as JSON with bytes beside it.
//!
//! Each method takes one object. A value is a mark of bytes beside `kind`: `t` text, `j` JSON, `b` bytes.
//! Versions are numbers; in a condition `null` or 0 means that the key must be absent.
//!
//! | method | argument | answer |
//! |---|---|---|
//! | `get` | `{key}` | `{value, kind, version, expires?}` or `null` |
//! | `getMany` | `{keys}`, up to 128 | an array of those |
//! | `put` | `{key, value, kind, ttl?, version?}`, `ttl` in seconds | the new version; `null` if `version` did not match |
//! | `delete` | `{key, version?}` | whether it was deleted |
//! | `list` | `{prefix?, start?, end?, limit?, cursor?, reverse?}` | `{keys: [{key, version, expires?, size}], cursor?, version}` |
//! | `atomic` | `{checks: [{key, version}], mutations: [{op: "put", key, value, kind, ttl?} or {op: "delete", key}]}` | `{ok: true, version, versions}` or `{ok: false, check}` |
//! | `watch` | `{keys or prefix, version?}` | lines of JSON: `{type, key, version}`, its type `put`, `delete` or `expire`, or `{type: "lagged", version}` |
//! | `usage` | `{}` | `{entries, bytes, limit, version}` |
//!
//! The changes of one commit have one version and stand beside each other. `expires` is in milliseconds since 1970-01-01 UTC. After `lagged`, changes were missed: list again.
//! Everything here is hostile: what does not fit exactly is an error of the guest.

mod answer;
mod arguments;
mod lines;

#[cfg(test)]
mod tests;

use std::fmt;

use answer::{
    AtomicAnswer, EntryAnswer, KeyAnswer, PageAnswer, UsageAnswer, entry_answer, json, marked,
};
use arguments::{AtomicArgs, DeleteArgs, GetArgs, GetManyArgs, ListArgs, PutArgs, WatchArgs};
pub use lines::Lines;
use lines::lines;

use crate::atomic::{Atomic, Check, Mutation, Outcome};
use crate::error::StateError;
use crate::list::List;
use crate::store::Keyspace;
use crate::value::Version;
use crate::watch::Selector;

/// Data of a call, laid out as `stockade_protocol::Payload` is and with the same marks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Data {
    /// JSON text.
    pub json: String,
    /// The binary parts.
    pub bytes: Vec<Vec<u8>>,
    /// Whether `json` has marks.
    pub marked: bool,
}

/// What a call gives.
pub enum Answer {
    /// A value.
    Value(Data),
    /// A stream of bytes, which are lines of JSON. It never ends by itself before the store does.
    Lines(Lines),
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(data) => f.debug_tuple("Value").field(data).finish(),
            Self::Lines(_) => f.write_str("Lines"),
        }
    }
}

/// A failure as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {message}")]
pub struct WireError {
    /// Name of the JavaScript error: `TypeError`, `RangeError`, `QuotaExceededError`, `BusyError` or
    /// `StateError`.
    pub name: &'static str,
    /// What went wrong.
    pub message: String,
    /// What the guest is not told: for the log.
    pub hidden: Option<StateError>,
}

impl WireError {
    fn type_error(message: impl Into<String>) -> Self {
        Self {
            name: "TypeError",
            message: message.into(),
            hidden: None,
        }
    }

    fn range_error(error: impl fmt::Display) -> Self {
        Self {
            name: "RangeError",
            message: error.to_string(),
            hidden: None,
        }
    }
}

impl From<StateError> for WireError {
    fn from(error: StateError) -> Self {
        if !error.concerns_guest() {
            return Self {
                name: "StateError",
                message: "the state is not available; the operator's log says why".to_owned(),
                hidden: Some(error),
            };
        }
        let name = match error {
            StateError::QuotaExceeded { .. } => "QuotaExceededError",
            StateError::Busy { .. } | StateError::TooManyWatches { .. } => "BusyError",
            _ => "RangeError",
        };
        Self {
            name,
            message: error.to_string(),
            hidden: None,
        }
    }
}

/// Does one call. `args` is the array of arguments.
///
/// # Errors
/// When the arguments do not fit the method, or the keyspace refuses.
pub async fn call(keyspace: &dyn Keyspace, method: &str, args: Data) -> Result<Answer, WireError> {
    match method {
        "get" => get(keyspace, args).await,
        "getMany" => get_many(keyspace, args).await,
        "put" => put(keyspace, args).await,
        "delete" => delete(keyspace, args).await,
        "list" => list(keyspace, args).await,
        "atomic" => atomic(keyspace, args).await,
        "watch" => watch(keyspace, args),
        "usage" => usage(keyspace),
        _ => Err(WireError::type_error(format!(
            "the state has no method {:?}: get, getMany, put, delete, list, atomic, watch and usage are there",
            method.chars().take(40).collect::<String>()
        ))),
    }
}

async fn get(keyspace: &dyn Keyspace, args: Data) -> Result<Answer, WireError> {
    let (GetArgs { key }, parts) = arguments::read(args)?;
    let entry = keyspace.get(parts.key(&key)?).await?;
    let mut bytes = Vec::new();
    let answer = entry.map(|entry| entry_answer(entry, &mut bytes));
    marked(&answer, bytes)
}

async fn get_many(keyspace: &dyn Keyspace, args: Data) -> Result<Answer, WireError> {
    let (GetManyArgs { keys }, parts) = arguments::read(args)?;
    let entries = keyspace.read(parts.keys(&keys)?).await?;
    let mut bytes = Vec::new();
    let answer: Vec<Option<EntryAnswer>> = entries
        .into_iter()
        .map(|entry| entry.map(|entry| entry_answer(entry, &mut bytes)))
        .collect();
    marked(&answer, bytes)
}

fn put_request(args: Data) -> Result<Atomic, WireError> {
    let (PutArgs { write, version }, mut parts) = arguments::read(args)?;
    let mutation = write.into_mutation(&mut parts)?;
    let checks = arguments::condition(mutation.key(), version)
        .into_iter()
        .collect();
    Ok(Atomic {
        checks,
        mutations: vec![mutation],
    })
}

async fn put(keyspace: &dyn Keyspace, args: Data) -> Result<Answer, WireError> {
    json(&match keyspace.commit(put_request(args)?).await? {
        Outcome::Committed { version, .. } => Some(version),
        Outcome::Conflict { .. } => None,
    })
}

async fn delete(keyspace: &dyn Keyspace, args: Data) -> Result<Answer, WireError> {
    let (DeleteArgs { key, version }, parts) = arguments::read(args)?;
    let key = parts.key(&key)?;
    let atomic = Atomic {
        checks: arguments::condition(&key, version).into_iter().collect(),
        mutations: vec![Mutation::Delete { key }],
    };
    json(&match keyspace.commit(atomic).await? {
        Outcome::Committed { existed, .. } => existed.first() == Some(&true),
        Outcome::Conflict { .. } => false,
    })
}

fn list_request(args: Data) -> Result<List, WireError> {
    let (args, parts) = arguments::read::<ListArgs>(args)?;
    let text = |text: Option<String>| text.map(|text| parts.text(&text)).transpose();
    Ok(List {
        prefix: text(args.prefix)?.unwrap_or_default(),
        start: text(args.start)?,
        end: text(args.end)?,
        limit: args.limit.unwrap_or(crate::MAX_LIST),
        cursor: text(args.cursor)?,
        reverse: args.reverse.unwrap_or(false),
    })
}

async fn list(keyspace: &dyn Keyspace, args: Data) -> Result<Answer, WireError> {
    let page = keyspace.list(list_request(args)?).await?;
    json(&PageAnswer {
        keys: page
            .keys
            .into_iter()
            .map(|info| KeyAnswer {
                key: info.key,
                version: info.version,
                expires: info.expires_ms,
                size: info.size,
            })
            .collect(),
        cursor: page.cursor,
        version: page.version,
    })
}

fn atomic_request(args: Data) -> Result<Atomic, WireError> {
    let (AtomicArgs { checks, mutations }, mut parts) = arguments::read(args)?;
    let checks = checks
        .into_iter()
        .map(|check| {
            Ok(Check {
                key: parts.key(&check.key)?,
                version: check.version.filter(|version| *version > 0),
            })
        })
        .collect::<Result<Vec<_>, WireError>>()?;
    let mutations = mutations
        .into_iter()
        .map(|mutation| mutation.into_mutation(&mut parts))
        .collect::<Result<Vec<_>, WireError>>()?;
    Ok(Atomic { checks, mutations })
}

async fn atomic(keyspace: &dyn Keyspace, args: Data) -> Result<Answer, WireError> {
    let atomic = atomic_request(args)?;
    let count = atomic.mutations.len();
    json(&match keyspace.commit(atomic).await? {
        Outcome::Committed { version, .. } => AtomicAnswer::committed(version, count),
        Outcome::Conflict { check, .. } => AtomicAnswer::conflict(check),
    })
}

fn watch_request(args: Data) -> Result<(Selector, Option<Version>), WireError> {
    let (
        WatchArgs {
            keys,
            prefix,
            version,
        },
        parts,
    ) = arguments::read(args)?;
    let selector = match (keys, prefix) {
        (Some(keys), None) => Selector::keys(parts.keys(&keys)?),
        (None, Some(prefix)) => Selector::prefix(&parts.text(&prefix)?),
        _ => {
            return Err(WireError::type_error(
                "a watch is for `keys` or for a `prefix`, one of them",
            ));
        }
    };
    Ok((selector.map_err(WireError::range_error)?, version))
}

fn watch(keyspace: &dyn Keyspace, args: Data) -> Result<Answer, WireError> {
    let (selector, version) = watch_request(args)?;
    Ok(Answer::Lines(lines(keyspace.watch(selector, version)?)))
}

fn usage(keyspace: &dyn Keyspace) -> Result<Answer, WireError> {
    let usage = keyspace.usage();
    json(&UsageAnswer {
        entries: usage.entries,
        bytes: usage.bytes,
        limit: usage.limit_bytes,
        version: usage.version,
    })
}

/// Reads any bytes as the arguments of each call, for the fuzzer. The first line is the JSON text, the
/// others are the binary parts.
#[doc(hidden)]
pub fn parse_everything(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let json = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let parts: Vec<Vec<u8>> = lines.map(<[u8]>::to_vec).collect();
    for marked in [false, true] {
        let data = || Data {
            json: json.clone(),
            bytes: parts.clone(),
            marked,
        };
        let limits = crate::Limits::default();
        for atomic in [put_request(data()), atomic_request(data())]
            .into_iter()
            .flatten()
        {
            drop(atomic.check(&limits));
        }
        if let Ok(list) = list_request(data()) {
            drop(list.range());
        }
        drop(watch_request(data()));
        drop(arguments::read::<GetManyArgs>(data()).map(|(args, parts)| parts.keys(&args.keys)));
    }
}
