//! What guests send, read.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::{Data, WireError};
use crate::atomic::{Check, Mutation};
use crate::error::{MAX_READ_KEYS, StateError};
use crate::key::Key;
use crate::value::{Kind, Value, Version};

/// The longest JSON text that is read, in bytes: 128 keys, and more than that.
const MAX_JSON: usize = 2 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GetArgs {
    pub(super) key: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GetManyArgs {
    pub(super) keys: Vec<String>,
}

// `deny_unknown_fields` and `flatten` exclude each other, so the parts of a write stand twice.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PutFields {
    key: String,
    value: String,
    kind: String,
    ttl: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    version: Option<Option<Version>>,
}

#[derive(Debug, Deserialize)]
#[serde(from = "PutFields")]
pub(super) struct PutArgs {
    pub(super) write: WriteArgs,
    /// `None`: no condition; `Some(None)`: the key must be absent.
    pub(super) version: Option<Option<Version>>,
}

/// A value to be written.
#[derive(Debug)]
pub(super) struct WriteArgs {
    key: String,
    value: String,
    kind: String,
    ttl: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteArgs {
    pub(super) key: String,
    #[serde(default, deserialize_with = "present")]
    pub(super) version: Option<Option<Version>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListArgs {
    pub(super) prefix: Option<String>,
    pub(super) start: Option<String>,
    pub(super) end: Option<String>,
    pub(super) limit: Option<usize>,
    pub(super) cursor: Option<String>,
    pub(super) reverse: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AtomicArgs {
    #[serde(default)]
    pub(super) checks: Vec<CheckArgs>,
    #[serde(default)]
    pub(super) mutations: Vec<MutationArgs>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckArgs {
    pub(super) key: String,
    /// Must be there, so that a forgotten version is no condition that the key is absent.
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) version: Option<Version>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum MutationArgs {
    Put {
        key: String,
        value: String,
        kind: String,
        ttl: Option<f64>,
    },
    Delete {
        key: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WatchArgs {
    pub(super) keys: Option<Vec<String>>,
    pub(super) prefix: Option<String>,
    pub(super) version: Option<Version>,
}

fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<Version>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl From<PutFields> for PutArgs {
    fn from(fields: PutFields) -> Self {
        Self {
            write: WriteArgs {
                key: fields.key,
                value: fields.value,
                kind: fields.kind,
                ttl: fields.ttl,
            },
            version: fields.version,
        }
    }
}

/// The binary parts of a call, each for one use, and how its texts are to be read.
#[derive(Debug)]
pub(super) struct Parts {
    marked: bool,
    bytes: Vec<Option<Vec<u8>>>,
}

/// Reads the one argument of a call.
pub(super) fn read<T: DeserializeOwned>(args: Data) -> Result<(T, Parts), WireError> {
    if args.json.len() > MAX_JSON {
        return Err(WireError::range_error(format_args!(
            "arguments of {} bytes are too long: at most {MAX_JSON} are read",
            args.json.len()
        )));
    }
    let [argument] = serde_json::from_str::<[T; 1]>(&args.json).map_err(|error| {
        // The parser says so of an escape that is half a pair, at its place in a text the guest never saw.
        if error.is_syntax() && args.json.contains("\\ud") {
            WireError::type_error(
                "a key must be Unicode text, and half a surrogate pair is none: toWellFormed() replaces it",
            )
        } else {
            WireError::type_error(format!("the arguments do not fit: {error}"))
        }
    })?;
    let parts = Parts {
        marked: args.marked,
        bytes: args.bytes.into_iter().map(Some).collect(),
    };
    Ok((argument, parts))
}

/// The check of a condition, if there is one.
pub(super) fn condition(key: &Key, version: Option<Option<Version>>) -> Option<Check> {
    version.map(|version| Check {
        key: key.clone(),
        version: version.filter(|version| *version > 0),
    })
}

impl Parts {
    /// A text, without what keeps it from passing for a mark.
    pub(super) fn text(&self, text: &str) -> Result<String, WireError> {
        match text.strip_prefix('\0') {
            Some(rest) if self.marked && rest.starts_with('\0') => Ok(rest.to_owned()),
            Some(_) if self.marked => Err(WireError::type_error("a text is needed, not bytes")),
            _ => Ok(text.to_owned()),
        }
    }

    pub(super) fn key(&self, text: &str) -> Result<Key, WireError> {
        Key::new(&self.text(text)?).map_err(WireError::range_error)
    }

    pub(super) fn keys(&self, texts: &[String]) -> Result<Vec<Key>, WireError> {
        if texts.len() > MAX_READ_KEYS {
            let keys = texts.len();
            return Err(StateError::TooManyKeys { keys }.into());
        }
        texts.iter().map(|text| self.key(text)).collect()
    }

    /// The bytes that a mark stands for.
    fn take(&mut self, mark: &str) -> Result<Vec<u8>, WireError> {
        let index = mark
            .strip_prefix("\0b")
            .or_else(|| mark.strip_prefix("\0a"))
            .filter(|_| self.marked)
            .and_then(|index| index.parse::<usize>().ok());
        index
            .and_then(|index| self.bytes.get_mut(index)?.take())
            .ok_or_else(|| WireError::type_error("a value must be bytes, used once"))
    }

    fn value(&mut self, mark: &str, kind: &str) -> Result<Value, WireError> {
        let kind = Kind::from_tag(kind)
            .ok_or_else(|| WireError::type_error("the kind of a value is t, j or b"))?;
        let data = self.take(mark)?;
        if kind != Kind::Bytes && std::str::from_utf8(&data).is_err() {
            return Err(WireError::type_error("text must be UTF-8"));
        }
        Ok(Value { kind, data })
    }
}

impl WriteArgs {
    pub(super) fn into_mutation(self, parts: &mut Parts) -> Result<Mutation, WireError> {
        Ok(Mutation::Put {
            key: parts.key(&self.key)?,
            value: parts.value(&self.value, &self.kind)?,
            ttl: self.ttl.map(seconds).transpose()?,
        })
    }
}

impl MutationArgs {
    pub(super) fn into_mutation(self, parts: &mut Parts) -> Result<Mutation, WireError> {
        match self {
            Self::Put {
                key,
                value,
                kind,
                ttl,
            } => WriteArgs {
                key,
                value,
                kind,
                ttl,
            }
            .into_mutation(parts),
            Self::Delete { key } => Ok(Mutation::Delete {
                key: parts.key(&key)?,
            }),
        }
    }
}

fn seconds(ttl: f64) -> Result<Duration, WireError> {
    let refuse = || {
        WireError::range_error(format_args!(
            "a time to live must be a number of seconds above 0, not {ttl}"
        ))
    };
    if ttl.is_nan() || ttl <= 0.0 {
        return Err(refuse());
    }
    // Longer ones are as good as the longest.
    Duration::try_from_secs_f64(ttl.min(1e10)).map_err(|_| refuse())
}
