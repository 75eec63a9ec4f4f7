//! Functions of the client that guests call.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;
use stockade::GuestError;
use stockade::run::{MAX_JSON_BYTES, Tool, ToolCall};
use tokio::sync::{Semaphore, oneshot};

use super::message::{self, AnswerError};
use super::outbox::Outbox;

/// Calls of a connection without an answer.
const MAX_CALLS: usize = 4096;

/// Bytes of the name and of the code of an error of a tool; a longer one is left out.
const MAX_WORD_BYTES: usize = 256;

type Answer = Result<Box<RawValue>, GuestError>;

/// The calls of one connection.
pub(super) struct ToolCalls {
    outbox: Outbox,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    places: Semaphore,
}

/// A call that waits for its answer; it no longer does when this is dropped.
struct Waiting<'c> {
    calls: &'c ToolCalls,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.calls.waiting.lock().remove(&self.id);
    }
}

impl ToolCalls {
    pub(super) fn new(outbox: Outbox) -> Self {
        Self {
            outbox,
            next: AtomicU64::new(1),
            waiting: Mutex::new(HashMap::new()),
            places: Semaphore::new(MAX_CALLS),
        }
    }

    /// A tool that the client answers.
    pub(super) fn tool(self: &Arc<Self>) -> Tool {
        let calls = Arc::clone(self);
        Tool::raw(move |call| {
            let calls = Arc::clone(&calls);
            async move { calls.call(call).await }
        })
    }

    async fn call(&self, call: ToolCall) -> Answer {
        #[derive(Serialize)]
        struct Params<'a> {
            run: &'a str,
            name: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            input: Option<&'a RawValue>,
        }
        let gone = || GuestError::new("the host is gone");
        let _place = self.places.acquire().await.map_err(|_| gone())?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().insert(id, answer);
        let _waiting = Waiting { calls: self, id };
        let params = Params {
            run: &call.run,
            name: &call.name,
            input: call.input.as_deref(),
        };
        let line = message::request(Some(id), "tool", &params);
        self.outbox.send(line).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Takes an answer of the client; one that nothing waits for is ignored.
    pub(super) fn answered(&self, id: u64, answer: Result<Box<RawValue>, AnswerError>) {
        let Some(waiting) = self.waiting.lock().remove(&id) else {
            return;
        };
        let size = answer
            .as_ref()
            .map_or_else(|error| error.message.len(), |json| json.get().len());
        let answer = match size > MAX_JSON_BYTES {
            true => Err(GuestError::new(format!(
                "the tool's answer is larger than {MAX_JSON_BYTES} bytes"
            ))),
            false => answer.map_err(thrown),
        };
        // The run may have ended.
        let _ = waiting.send(answer);
    }

    /// Calls without an answer.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }
}

/// What a tool of the client threw, as the guest sees it.
fn thrown(error: AnswerError) -> GuestError {
    let data = error.data.unwrap_or_default();
    let word =
        |text: Option<String>| text.filter(|text| !text.is_empty() && text.len() <= MAX_WORD_BYTES);
    let thrown = GuestError::new(error.message);
    GuestError {
        name: word(data.name).unwrap_or(thrown.name),
        code: word(data.code),
        ..thrown
    }
}
