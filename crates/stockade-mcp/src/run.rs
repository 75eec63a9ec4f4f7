//! What runs code for this server. The program implements these traits with isolates; nothing here knows V8.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Opens sandboxes.
pub trait Runner: Send + Sync + 'static {
    /// Runs code in an isolate that nothing else has used and that ends with the run.
    fn run(&self, job: Job) -> BoxFuture<'static, RunOutcome>;

    /// Opens a sandbox whose isolate lives until it is dropped, with files that its code may import and tools that it may
    /// call: those of each [`Job`], as far as they have these names.
    ///
    /// # Errors
    ///
    /// The reason for the client, if there can be none now.
    fn open(
        &self,
        files: BTreeMap<String, String>,
        tools: Vec<ToolName>,
    ) -> BoxFuture<'static, Result<Arc<dyn Session>, String>>;
}

/// A sandbox whose globals live between runs. Dropping it ends it.
pub trait Session: Send + Sync + 'static {
    /// Runs code. Runs of one session follow each other, and have no files of their own.
    fn run(&self, job: Job) -> BoxFuture<'static, RunOutcome>;
}

/// One run.
pub struct Job {
    /// TypeScript or JavaScript.
    pub code: String,
    /// Modules and data that it may import, by path.
    pub files: BTreeMap<String, String>,
    /// How long it may take.
    pub timeout: Duration,
    /// Receives the console while the code runs. A full channel drops lines, which the outcome still has.
    pub console: mpsc::Sender<ConsoleLine>,
    /// The tools.
    pub tools: Arc<dyn Tools>,
    /// Ends the run.
    pub cancel: CancellationToken,
}

/// A line of the code's console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleLine {
    /// `debug`, `log`, `info`, `warn` or `error`.
    pub level: String,
    /// The text.
    pub text: String,
}

/// Where a tool stands for the code: `tools.server.name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ToolName {
    /// The identifier of its server.
    pub server: String,
    /// The identifier of the tool.
    pub name: String,
}

/// The tools that code may call.
pub trait Tools: Send + Sync + 'static {
    /// All of them.
    fn names(&self) -> Vec<ToolName>;

    /// Calls one.
    fn call(&self, tool: ToolName, input: Value) -> BoxFuture<'static, Result<Value, String>>;
}

/// How a run ended.
#[derive(Debug, Clone, Default)]
pub struct RunOutcome {
    /// Whether it ended with an error.
    pub failed: bool,
    /// `result` or `error`, `console`, `usage`, `refused` and what belongs to them, as docs/mcp.md lists them.
    pub document: Map<String, Value>,
}
