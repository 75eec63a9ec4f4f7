//! What runs code in the tests of this crate: the code of a run is a list of calls as JSON. What V8 does with code is tested
//! with the program.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use serde_json::{Value, json};
use stockade_mcp::{
    ConsoleLine, Job, McpConfig, McpOptions, McpServer, RunOutcome, Runner, Session, Share,
    ToolName,
};
use tokio_util::sync::CancellationToken;

/// The codes that wait, or have, and what cancels them.
pub(crate) static WAITING: Mutex<Vec<(String, CancellationToken)>> = Mutex::new(Vec::new());

/// Makes the calls that the code lists: `[["server", "tool", input], …]`. Code that begins with `wait` waits until the run is cancelled.
#[derive(Clone)]
pub(crate) struct Calls;

async fn run(job: Job) -> RunOutcome {
    let _ = job.console.try_send(ConsoleLine {
        level: "info".to_owned(),
        text: "begun".to_owned(),
    });
    let mut outcome = RunOutcome::default();
    let made = match &*job.code {
        code if code.starts_with("wait") => {
            WAITING.lock().push((code.to_owned(), job.cancel.clone()));
            let _ = tokio::time::timeout(job.timeout, job.cancel.cancelled()).await;
            None
        }
        code => {
            let calls: Vec<(String, String, Value)> =
                serde_json::from_str(code).expect("the code of this test");
            let made = calls
                .into_iter()
                .map(|(server, name, input)| job.tools.call(ToolName { server, name }, input));
            let all = job.cancel.run_until_cancelled(join_all(made));
            tokio::time::timeout(job.timeout, all).await.ok().flatten()
        }
    };
    match made {
        Some(results) => {
            let each = results
                .into_iter()
                .map(|result| result.unwrap_or_else(|why| json!({ "error": why })));
            outcome.document.insert("result".to_owned(), each.collect());
        }
        None => {
            outcome.failed = true;
            outcome
                .document
                .insert("error".to_owned(), json!({ "kind": "timeout" }));
        }
    }
    outcome
}

impl Session for Calls {
    fn run(&self, job: Job) -> BoxFuture<'static, RunOutcome> {
        run(job).boxed()
    }
}

impl Runner for Calls {
    fn run(&self, job: Job) -> BoxFuture<'static, RunOutcome> {
        run(job).boxed()
    }

    fn open(
        &self,
        _files: BTreeMap<String, String>,
        _tools: Vec<ToolName>,
    ) -> BoxFuture<'static, Result<Arc<dyn Session>, String>> {
        async { Ok(Arc::new(Calls) as Arc<dyn Session>) }.boxed()
    }
}

/// A server for two runs and four sessions.
pub(crate) fn server(config: McpConfig, share: Option<Share>) -> Arc<McpServer> {
    McpServer::start(McpOptions {
        runner: Arc::new(Calls),
        config,
        level: "container",
        reaches_hosts: false,
        timeout: Duration::from_secs(30),
        runs: 2,
        sessions: 4,
        share,
        session_idle: Duration::from_secs(60),
        version: "test".to_owned(),
    })
    .expect("a server")
}
