//! `env.STATE`: the keyspace that the mirrors of a site share.
//!
//! Each method takes one object. A value travels as bytes, with the letter of its `kind`: `t` text, `j` JSON, `b` bytes.
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
//! The changes of one commit have one version and follow one another. `expires` is in milliseconds since 1970-01-01
//! UTC. After `lagged`, changes were missed: list again.
//! Everything here is hostile: what does not fit exactly is an error of the guest.

mod answer;
mod arguments;
mod lines;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use answer::{AtomicAnswer, EntryAnswer, KeyAnswer, PageAnswer, UsageAnswer, entry_answer};
use arguments::{
    AtomicArgs, DeleteArgs, GetArgs, GetManyArgs, ListArgs, PutArgs, WatchArgs, condition, key,
    keys,
};
use futures_util::future::BoxFuture;
use lines::lines;
use serde::de::DeserializeOwned;
use stockade_capability::{Attachments, CallContext, CallPayload, Capability, ErrorName, Reply};
use stockade_config::Instance as SiteConfig;
use stockade_protocol::{GuestError, Payload};
use stockade_state::{
    Atomic, Check, Keyspace, KeyspaceName, Limits, List, Mutation, Outcome, Selector, StateError,
    Version,
};

use super::Ground;
use crate::error::SiteError;
use crate::plan;

/// The longest JSON text that is read, in bytes: 128 keys, and more than that.
const MAX_ARGUMENTS: usize = 2 << 20;

pub(super) fn granted(site: &SiteConfig) -> Vec<&str> {
    let state = site.state.as_ref();
    state
        .map(|state| state.binding.as_str())
        .into_iter()
        .collect()
}

pub(super) fn open<'a>(
    ground: &'a Ground<'a>,
    _name: &'a str,
) -> BoxFuture<'a, Result<Option<Arc<dyn Capability>>, SiteError>> {
    Box::pin(async move {
        let (Some(state), Some(store)) = (&ground.site.state, ground.store) else {
            return Ok(None);
        };
        let name = KeyspaceName::new(&ground.site.name)?;
        let keyspace = store.open(name, plan::grants::state(state)).await?;
        Ok(Some(Arc::new(StateBinding(keyspace)) as Arc<dyn Capability>))
    })
}

struct StateBinding(Arc<dyn Keyspace>);

impl Capability for StateBinding {
    fn call(
        &self,
        _context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let (keyspace, method) = (Arc::clone(&self.0), method.to_owned());
        Box::pin(async move {
            let called = call(&*keyspace, &method, arguments).await;
            called.map_err(|failure| failure.for_guest(keyspace.name()))
        })
    }
}

/// Why a call was not done.
#[derive(Debug)]
enum Failure {
    /// What the guest's code gets.
    Guest(GuestError),
    /// For the operator's log. The guest's code learns only that the call failed.
    Hidden(StateError),
}

impl From<GuestError> for Failure {
    fn from(error: GuestError) -> Self {
        Self::Guest(error)
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        if !error.concerns_guest() {
            return Self::Hidden(error);
        }
        let refusal = match error {
            StateError::QuotaExceeded { .. } => ErrorName::Quota,
            StateError::Busy { .. } | StateError::TooManyWatches { .. } => ErrorName::Busy,
            _ => ErrorName::Range,
        };
        Self::Guest(refusal.error(error.to_string()))
    }
}

impl Failure {
    /// The error that the guest gets. What it may not know goes to the log.
    fn for_guest(self, keyspace: &KeyspaceName) -> GuestError {
        match self {
            Self::Guest(error) => error,
            Self::Hidden(error) => {
                let site = keyspace.as_str();
                tracing::error!(instance = site, %error, "the shared state failed");
                ErrorName::Own("StateError")
                    .error("the state is not available; the operator's log says why")
            }
        }
    }
}

fn read<T: DeserializeOwned>(arguments: CallPayload) -> Result<(T, Attachments), GuestError> {
    arguments.read(MAX_ARGUMENTS)
}

/// Does one call. `arguments` is the array of arguments.
async fn call(
    keyspace: &dyn Keyspace,
    method: &str,
    arguments: CallPayload,
) -> Result<CallPayload, Failure> {
    match method {
        "get" => get(keyspace, arguments).await,
        "getMany" => get_many(keyspace, arguments).await,
        "put" => put(keyspace, arguments).await,
        "delete" => delete(keyspace, arguments).await,
        "list" => list(keyspace, arguments).await,
        "atomic" => atomic(keyspace, arguments).await,
        "watch" => watch(keyspace, arguments),
        "usage" => usage(keyspace),
        _ => Err(ErrorName::Type
            .error(format!(
                "the state has no method {:?}: get, getMany, put, delete, list, atomic, watch and usage are there",
                method.chars().take(40).collect::<String>()
            ))
            .into()),
    }
}

async fn get(keyspace: &dyn Keyspace, arguments: CallPayload) -> Result<CallPayload, Failure> {
    let (GetArgs { key: text }, attachments) = read(arguments)?;
    let entry = keyspace.get(key(&attachments, &text)?).await?;
    let mut reply = Reply::default();
    let answer = entry.map(|entry| entry_answer(entry, &mut reply));
    Ok(reply.finish(&answer)?)
}

async fn get_many(keyspace: &dyn Keyspace, arguments: CallPayload) -> Result<CallPayload, Failure> {
    let (GetManyArgs { keys: texts }, attachments) = read(arguments)?;
    let entries = keyspace.read(keys(&attachments, &texts)?).await?;
    let mut reply = Reply::default();
    let answer: Vec<Option<EntryAnswer>> = entries
        .into_iter()
        .map(|entry| entry.map(|entry| entry_answer(entry, &mut reply)))
        .collect();
    Ok(reply.finish(&answer)?)
}

fn put_request(arguments: CallPayload) -> Result<Atomic, GuestError> {
    let (PutArgs { write, version }, mut attachments) = read(arguments)?;
    let mutation = write.into_mutation(&mut attachments)?;
    let checks = condition(mutation.key(), version).into_iter().collect();
    Ok(Atomic {
        checks,
        mutations: vec![mutation],
    })
}

async fn put(keyspace: &dyn Keyspace, arguments: CallPayload) -> Result<CallPayload, Failure> {
    let version = match keyspace.commit(put_request(arguments)?).await? {
        Outcome::Committed { version, .. } => Some(version),
        Outcome::Conflict { .. } => None,
    };
    Ok(Reply::plain(&version)?)
}

async fn delete(keyspace: &dyn Keyspace, arguments: CallPayload) -> Result<CallPayload, Failure> {
    let (DeleteArgs { key: text, version }, attachments) = read(arguments)?;
    let key = key(&attachments, &text)?;
    let atomic = Atomic {
        checks: condition(&key, version).into_iter().collect(),
        mutations: vec![Mutation::Delete { key }],
    };
    let deleted = match keyspace.commit(atomic).await? {
        Outcome::Committed { existed, .. } => existed.first() == Some(&true),
        Outcome::Conflict { .. } => false,
    };
    Ok(Reply::plain(&deleted)?)
}

fn list_request(arguments: CallPayload) -> Result<List, GuestError> {
    let (args, attachments) = read::<ListArgs>(arguments)?;
    let text = |text: Option<String>| {
        let text = text.as_deref().map(|text| attachments.text(text));
        text.transpose().map(|text| text.map(str::to_owned))
    };
    Ok(List {
        prefix: text(args.prefix)?.unwrap_or_default(),
        start: text(args.start)?,
        end: text(args.end)?,
        limit: args.limit.unwrap_or(stockade_state::MAX_LIST),
        cursor: text(args.cursor)?,
        reverse: args.reverse.unwrap_or(false),
    })
}

async fn list(keyspace: &dyn Keyspace, arguments: CallPayload) -> Result<CallPayload, Failure> {
    let page = keyspace.list(list_request(arguments)?).await?;
    let mut reply = Reply::default();
    let keys = page
        .keys
        .iter()
        .map(|info| KeyAnswer {
            key: reply.text(&info.key),
            version: info.version,
            expires: info.expires_ms,
            size: info.size,
        })
        .collect();
    let cursor = page.cursor.as_deref().map(|cursor| reply.text(cursor));
    let version = page.version;
    Ok(reply.finish(&PageAnswer {
        keys,
        cursor,
        version,
    })?)
}

fn atomic_request(arguments: CallPayload) -> Result<Atomic, GuestError> {
    let (AtomicArgs { checks, mutations }, mut attachments) = read(arguments)?;
    let checks = checks
        .into_iter()
        .map(|check| {
            Ok(Check {
                key: key(&attachments, &check.key)?,
                version: check.version.filter(|version| *version > 0),
            })
        })
        .collect::<Result<Vec<_>, GuestError>>()?;
    let mutations = mutations
        .into_iter()
        .map(|mutation| mutation.into_mutation(&mut attachments))
        .collect::<Result<Vec<_>, GuestError>>()?;
    Ok(Atomic { checks, mutations })
}

async fn atomic(keyspace: &dyn Keyspace, arguments: CallPayload) -> Result<CallPayload, Failure> {
    let atomic = atomic_request(arguments)?;
    let count = atomic.mutations.len();
    let answer = match keyspace.commit(atomic).await? {
        Outcome::Committed { version, .. } => AtomicAnswer::committed(version, count),
        Outcome::Conflict { check, .. } => AtomicAnswer::conflict(check),
    };
    Ok(Reply::plain(&answer)?)
}

fn watch_request(arguments: CallPayload) -> Result<(Selector, Option<Version>), GuestError> {
    let (args, attachments) = read::<WatchArgs>(arguments)?;
    let selector = match (args.keys, args.prefix) {
        (Some(texts), None) => Selector::keys(keys(&attachments, &texts)?),
        (None, Some(prefix)) => Selector::prefix(attachments.text(&prefix)?),
        _ => {
            let why = "a watch is for `keys` or for a `prefix`, one of them";
            return Err(ErrorName::Type.error(why));
        }
    };
    let selector = selector.map_err(|error| ErrorName::Range.error(error.to_string()))?;
    Ok((selector, args.version))
}

fn watch(keyspace: &dyn Keyspace, arguments: CallPayload) -> Result<CallPayload, Failure> {
    let (selector, version) = watch_request(arguments)?;
    let mut reply = Reply::default();
    let stream = reply.stream(lines(keyspace.watch(selector, version)?));
    Ok(reply.finish(&stream)?)
}

fn usage(keyspace: &dyn Keyspace) -> Result<CallPayload, Failure> {
    let usage = keyspace.usage();
    Ok(Reply::plain(&UsageAnswer {
        entries: usage.entries,
        bytes: usage.bytes,
        limit: usage.limit_bytes,
        version: usage.version,
    })?)
}

/// Reads any bytes as the arguments of each call, for the fuzzer. The first line is the JSON text, the
/// others are the binary parts.
#[doc(hidden)]
pub fn parse_state_calls(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let json = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let parts: Vec<Vec<u8>> = lines.map(<[u8]>::to_vec).collect();
    for marked in [false, true] {
        let data = || {
            CallPayload::from(Payload {
                json: json.clone(),
                bytes: parts.clone(),
                marked,
            })
        };
        let limits = Limits::default();
        for atomic in [put_request(data()), atomic_request(data())]
            .into_iter()
            .flatten()
        {
            drop(atomic.check(&limits));
        }
        if let Ok(list) = list_request(data()) {
            drop(list.check());
        }
        drop(watch_request(data()));
        drop(read::<GetManyArgs>(data()).map(|(args, parts)| keys(&parts, &args.keys)));
    }
}
