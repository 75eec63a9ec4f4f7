//! What guests send, read.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use stockade_capability::{Attachments, ErrorName};
use stockade_protocol::GuestError;
use stockade_state::{Check, Key, Kind, MAX_READ_KEYS, Mutation, StateError, Value, Version};

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

/// The check of a condition, if there is one.
pub(super) fn condition(key: &Key, version: Option<Option<Version>>) -> Option<Check> {
    version.map(|version| Check {
        key: key.clone(),
        version: version.filter(|version| *version > 0),
    })
}

/// A key, from a text of the arguments.
pub(super) fn key(attachments: &Attachments, text: &str) -> Result<Key, GuestError> {
    let key = Key::new(attachments.text(text)?);
    key.map_err(|error| ErrorName::Range.error(error.to_string()))
}

pub(super) fn keys(attachments: &Attachments, texts: &[String]) -> Result<Vec<Key>, GuestError> {
    if texts.len() > MAX_READ_KEYS {
        let keys = texts.len();
        let error = StateError::TooManyKeys { keys };
        return Err(ErrorName::Range.error(error.to_string()));
    }
    texts.iter().map(|text| key(attachments, text)).collect()
}

fn value(attachments: &mut Attachments, mark: &str, kind: &str) -> Result<Value, GuestError> {
    let kind = Kind::from_tag(kind)
        .ok_or_else(|| ErrorName::Type.error("the kind of a value is t, j or b"))?;
    let data = attachments.bytes(mark)?;
    if kind != Kind::Bytes && std::str::from_utf8(&data).is_err() {
        return Err(ErrorName::Type.error("text must be UTF-8"));
    }
    Ok(Value { kind, data })
}

impl WriteArgs {
    pub(super) fn into_mutation(
        self,
        attachments: &mut Attachments,
    ) -> Result<Mutation, GuestError> {
        Ok(Mutation::Put {
            key: key(attachments, &self.key)?,
            value: value(attachments, &self.value, &self.kind)?,
            ttl: self.ttl.map(seconds).transpose()?,
        })
    }
}

impl MutationArgs {
    pub(super) fn into_mutation(
        self,
        attachments: &mut Attachments,
    ) -> Result<Mutation, GuestError> {
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
            .into_mutation(attachments),
            Self::Delete { key: text } => Ok(Mutation::Delete {
                key: key(attachments, &text)?,
            }),
        }
    }
}

fn seconds(ttl: f64) -> Result<Duration, GuestError> {
    let refuse = || {
        ErrorName::Range.error(format!(
            "a time to live must be a number of seconds above 0, not {ttl}"
        ))
    };
    if ttl.is_nan() || ttl <= 0.0 {
        return Err(refuse());
    }
    // Longer ones are as good as the longest.
    Duration::try_from_secs_f64(ttl.min(1e10)).map_err(|_| refuse())
}
