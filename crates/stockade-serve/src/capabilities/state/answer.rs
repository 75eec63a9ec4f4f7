//! What guests get.

use std::borrow::Cow;

use serde::Serialize;
use stockade_capability::Reply;
use stockade_protocol::Attachment;
use stockade_state::{StateEntry, Version};

#[derive(Debug, Serialize)]
pub(super) struct EntryAnswer {
    value: Attachment,
    kind: &'static str,
    version: Version,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<i64>,
}

#[derive(Debug, Serialize)]
pub(super) struct KeyAnswer<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) version: Version,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<i64>,
    pub(super) size: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct PageAnswer<'a> {
    pub(super) keys: Vec<KeyAnswer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<Cow<'a, str>>,
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

/// An entry, whose value goes to the binary parts.
pub(super) fn entry_answer(entry: StateEntry, reply: &mut Reply) -> EntryAnswer {
    EntryAnswer {
        kind: entry.value.kind.tag(),
        value: reply.bytes(entry.value.data),
        version: entry.version,
        expires: entry.expires_ms,
    }
}
