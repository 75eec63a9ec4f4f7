//! The tools of one run: each call is counted, checked against the catalog, perhaps approved by the user, and made.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::McpServer;
use super::approval::{Asking, Decision, Question, question};
use crate::bounds::{CALLS_AT_ONCE, CALLS_PER_RUN, QUESTION_TIME, QUESTIONS_PER_RUN};
use crate::catalog::{Catalog, CatalogTool, in_words};
use crate::config::Mode;
use crate::run::{ToolName, Tools};

/// The tools of one run.
#[derive(Clone)]
pub(super) struct RunTools(Arc<Shared>);

struct Shared {
    server: Arc<McpServer>,
    /// As it was when the run began.
    catalog: Arc<Catalog>,
    asking: Asking,
    questions: mpsc::Sender<Question>,
    /// Cancelled when the run ends.
    ended: CancellationToken,
    calls: AtomicUsize,
    asked: AtomicUsize,
    at_once: Semaphore,
    approved: Mutex<HashSet<ToolName>>,
}

impl RunTools {
    pub(super) fn new(
        server: Arc<McpServer>,
        asking: Asking,
        questions: mpsc::Sender<Question>,
        ended: CancellationToken,
    ) -> Self {
        Self(Arc::new(Shared {
            catalog: server.upstreams.catalog().current(),
            server,
            asking,
            questions,
            ended,
            calls: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            at_once: Semaphore::new(CALLS_AT_ONCE),
            approved: Mutex::default(),
        }))
    }
}

impl Tools for RunTools {
    fn names(&self) -> Vec<ToolName> {
        self.0.catalog.names()
    }

    fn call(&self, tool: ToolName, input: Value) -> BoxFuture<'static, Result<Value, String>> {
        let shared = Arc::clone(&self.0);
        async move {
            let call = shared.call(tool, input);
            shared
                .ended
                .run_until_cancelled(call)
                .await
                .unwrap_or_else(|| Err("the run has ended".to_owned()))
        }
        .boxed()
    }
}

impl Shared {
    async fn call(&self, name: ToolName, input: Value) -> Result<Value, String> {
        if self.calls.fetch_add(1, Ordering::Relaxed) >= CALLS_PER_RUN {
            return Err(format!(
                "this run has called tools {CALLS_PER_RUN} times, which is the limit"
            ));
        }
        let tool = self.catalog.tool(&name).ok_or_else(|| {
            format!(
                "there is no tool {}.{}; search_tools finds names",
                name.server, name.name
            )
        })?;
        if tool.mode == Mode::Ask {
            self.approve(tool, &input).await?;
        }
        let turn = self.at_once.acquire().await;
        let _turn = turn.map_err(|_| "the run has ended".to_owned())?;
        self.server.upstreams.call(tool, input).await
    }

    async fn approve(&self, tool: &CatalogTool, input: &Value) -> Result<(), String> {
        let path = tool.path();
        if self.approved.lock().contains(&tool.name) {
            return Ok(());
        }
        if self.asking == Asking::Never {
            return Err(format!(
                "{path} needs the user's approval, for which this client has no way (elicitation of MCP); the \
                 configuration can allow the tool without a question"
            ));
        }
        let text = question(&path, input).map_err(|why| format!("{path}: {why}"))?;
        if self.asked.fetch_add(1, Ordering::Relaxed) >= QUESTIONS_PER_RUN {
            return Err(format!(
                "{path}: this run has asked the user {QUESTIONS_PER_RUN} times, which is the limit"
            ));
        }
        let (reply, decision) = oneshot::channel();
        let asked = Question { text, reply };
        let gone = |_| format!("{path}: the client is gone");
        self.questions
            .send(asked)
            .await
            .map_err(|_| format!("{path}: the client is gone"))?;
        let decision = tokio::time::timeout(QUESTION_TIME, decision).await;
        let decision = decision
            .map_err(|_| format!("{path}: no decision within {}", in_words(QUESTION_TIME)))?;
        match decision.map_err(gone)? {
            Decision::Approved { always } => {
                if always {
                    self.approved.lock().insert(tool.name.clone());
                }
                Ok(())
            }
            Decision::Refused(why) => Err(format!("{path} was not called: {why}")),
        }
    }
}
