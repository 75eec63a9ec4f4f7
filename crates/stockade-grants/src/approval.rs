//! Who is asked before a call of a grant is made.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use stockade_capability::CallPayload;

/// Bytes of the arguments that an approver gets.
const MOST_SHOWN: usize = 4 << 10;

/// What is to be done. The arguments are hostile text: they are JSON, which has no control characters, where all of them
/// are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The instance whose guest calls.
    pub instance: Arc<str>,
    /// The grant's name in `env`.
    pub binding: Arc<str>,
    /// The grant's kind.
    pub kind: &'static str,
    /// The method.
    pub method: &'static str,
    /// The beginning of the arguments' JSON, at most 4 KiB.
    pub arguments: String,
    /// Whether more of the arguments is not shown: the rest of the text, binary parts or streams.
    pub more: bool,
}

impl Asked {
    pub(crate) fn shown(arguments: &CallPayload) -> (String, bool) {
        let payload = &arguments.payload;
        let cut = payload.json.floor_char_boundary(MOST_SHOWN);
        let more =
            cut < payload.json.len() || !payload.bytes.is_empty() || !arguments.streams.is_empty();
        (payload.json[..cut].to_owned(), more)
    }
}

/// Decides about calls.
pub trait Approver: Send + Sync + 'static {
    /// Whether the call may be made. An error is a refusal, and its text is for the log.
    fn approve(&self, asked: Asked) -> BoxFuture<'static, Result<bool, String>>;
}

/// Who approves the calls of a grant.
#[derive(Clone)]
pub struct Approval {
    /// What a reload compares: a grant whose approver has another name is another grant.
    pub name: Arc<str>,
    /// The one that is asked.
    pub approver: Arc<dyn Approver>,
    /// How long the answer may take. After it the call is refused.
    pub timeout: Duration,
}
