//! What guests get.

use serde::Serialize;

use super::{Answer, Data, WireError};
use crate::value::{Entry, Version};

#[derive(Debug, Serialize)]
pub(super) struct EntryAnswer {
    value: String,
    kind: &'static str,
    version: Version,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<i64>,
}

#[derive(Debug, Serialize)]
pub(super) struct KeyAnswer {
    pub(super) key: String,
    pub(super) version: Version,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<i64>,
    pub(super) size: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct PageAnswer {
    pub(super) keys: Vec<KeyAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<String>,
    pub(super) version: Version,
}

#[derive(Debug, Serialize)]
pub(super) struct AtomicAnswer {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<Vec<Version>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<usize>,
}

impl AtomicAnswer {
    pub(super) fn committed(version: Version, mutations: usize) -> Self {
        Self {
            ok: true,
            version: Some(version),
            versions: Some(vec![version; mutations]),
            check: None,
        }
    }

    pub(super) fn conflict(check: usize) -> Self {
        Self {
            ok: false,
            version: None,
            versions: None,
            check: Some(check),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct UsageAnswer {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) limit: u64,
    pub(super) version: Version,
}

/// An entry, its value put to the binary parts.
pub(super) fn entry_answer(entry: Entry, bytes: &mut Vec<Vec<u8>>) -> EntryAnswer {
    let value = format!("\0b{}", bytes.len());
    bytes.push(entry.value.data);
    EntryAnswer {
        value,
        kind: entry.value.kind.tag(),
        version: entry.version,
        expires: entry.expires_ms,
    }
}

/// An answer in which only marks begin with U+0000.
pub(super) fn marked<T: Serialize>(answer: &T, bytes: Vec<Vec<u8>>) -> Result<Answer, WireError> {
    Ok(Answer::Value(Data {
        json: text(answer)?,
        marked: !bytes.is_empty(),
        bytes,
    }))
}

/// An answer without bytes.
pub(super) fn json<T: Serialize>(answer: &T) -> Result<Answer, WireError> {
    marked(answer, Vec::new())
}

fn text<T: Serialize>(answer: &T) -> Result<String, WireError> {
    serde_json::to_string(answer).map_err(|error| WireError::type_error(error.to_string()))
}
