//! What a run may use and reach.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use stockade_limits::Isolation;
use stockade_protocol::GuestError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::console::Line;
use super::files::Files;
use crate::granted::Grants;

/// Tools of one sandbox.
pub const MAX_TOOLS: usize = 1000;

/// Bytes of a tool's name.
pub const MAX_TOOL_NAME_BYTES: usize = 128;

/// Tool calls of one run without an answer.
pub const MAX_TOOL_CALLS: u32 = 1024;

/// Bytes of the inputs of all those calls together, as JSON.
pub const MAX_TOOL_CALL_BYTES: usize = 16 << 20;

/// Bytes of the input of a tool call, of what a tool gives, and of the result of a run, as JSON.
pub const MAX_JSON_BYTES: usize = 8 << 20;

/// Bytes of console text that can be kept.
pub const MAX_OUTPUT_BYTES: usize = 16 << 20;

/// Bytes of [`Options::prelude`].
pub const MAX_PRELUDE_BYTES: usize = 1 << 20;

/// Isolates that one [`Runner`](super::Runner) can keep ready.
pub const MAX_POOL: usize = 32;

/// A call of a tool by a guest.
#[derive(Debug, Clone)]
pub struct ToolCall {
    /// The tool.
    pub name: Arc<str>,
    /// The [`Run::id`] of the run.
    pub run: Arc<str>,
    /// JSON as the guest wrote it, on one line; `None` if it gave none.
    pub input: Option<Box<RawValue>>,
}

impl ToolCall {
    /// Reads the input.
    ///
    /// # Errors
    /// A sentence for the guest.
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, String> {
        let json = self.input.as_ref().map_or("null", |json| json.get());
        serde_json::from_str(json).map_err(|error| format!("the input of {}: {error}", self.name))
    }
}

pub(super) type Answer = BoxFuture<'static, Result<Box<RawValue>, GuestError>>;

/// A function of the host that guests call as `tools.NAME(input)`. The future is dropped when the run ends.
#[derive(Clone)]
pub struct Tool(Arc<dyn Fn(ToolCall) -> Answer + Send + Sync>);

impl Tool {
    /// A tool whose answer is JSON, or a message for the guest.
    pub fn new<F, R>(call: F) -> Self
    where
        F: Fn(ToolCall) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value, String>> + Send + 'static,
    {
        Self::raw(move |asked| {
            let answer = call(asked);
            async move {
                let answer = answer.await.map_err(GuestError::new)?;
                to_raw_value(&answer).map_err(|error| GuestError::new(error.to_string()))
            }
        })
    }

    /// As [`Tool::new`], for an answer that is JSON text already, or an error for the guest, which gets its name, message
    /// and code.
    pub fn raw<F, R>(call: F) -> Self
    where
        F: Fn(ToolCall) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Box<RawValue>, GuestError>> + Send + 'static,
    {
        Self(Arc::new(move |asked| Box::pin(call(asked))))
    }

    pub(crate) fn call(&self, call: ToolCall) -> Answer {
        (self.0)(call)
    }
}

/// What the runs of a [`Runner`](super::Runner) may use and reach. `None` is no limit.
#[derive(Clone)]
pub struct Options {
    /// How strongly isolates are confined.
    pub level: Isolation,
    /// Bytes of memory of an isolate.
    pub memory: Option<u64>,
    /// CPU time of one run.
    pub cpu: Option<Duration>,
    /// Elapsed time of one run.
    pub timeout: Option<Duration>,
    /// What the guest reads as `NETWORK.env`.
    pub env: Map<String, Value>,
    /// Files that the guest imports and reads.
    pub files: Files,
    /// What the guest is granted, the hosts of `fetch` included.
    pub grants: Grants,
    /// TypeScript or JavaScript that runs before each run in its isolate, in a session when the isolate starts; at most
    /// [`MAX_PRELUDE_BYTES`]. It is compiled once.
    pub prelude: Option<String>,
    /// Functions of the host, by their names.
    pub tools: BTreeMap<String, Tool>,
    /// Bytes of console text that are kept; at most [`MAX_OUTPUT_BYTES`].
    pub output: usize,
    /// Isolates that are kept ready; at most [`MAX_POOL`].
    pub pool: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            level: Isolation::Container,
            memory: Some(128 << 20),
            cpu: Some(Duration::from_secs(10)),
            timeout: Some(Duration::from_secs(30)),
            env: Map::new(),
            files: Files::new(),
            grants: Grants::default(),
            prelude: None,
            tools: BTreeMap::new(),
            output: 1 << 20,
            pool: 1,
        }
    }
}

/// One run.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// TypeScript or JavaScript.
    pub code: String,
    /// Names the run for tools.
    pub id: String,
    /// In place of [`Options::timeout`].
    pub timeout: Option<Duration>,
    /// In addition to [`Options::files`]. Not in a session.
    pub files: Files,
    /// Gets each line of the console as it comes, up to [`Options::output`]. While it is full, the guest waits.
    pub console: Option<mpsc::Sender<Line>>,
    /// Ends the run.
    pub cancel: CancellationToken,
}

impl Run {
    /// A run of this code, and nothing else.
    #[must_use]
    pub fn new(code: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            ..Self::default()
        }
    }
}
