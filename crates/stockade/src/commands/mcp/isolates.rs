//! Runs code for the server by `stockade::run`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use stockade::run::{
    ErrorKind, Files, Invalid, Line, Options, Outcome, Run, RunError, Runner, Session, Tool,
    ToolCall,
};
use stockade_mcp::{ConsoleLine, Job, RunOutcome, ToolName, Tools};
use tokio::sync::mpsc;

/// Console lines on their way to the server.
const LINES: usize = 64;

/// What opens sandboxes. Runs of all clients share one, as long as they have the same tools.
pub(super) struct Isolates {
    base: Options,
    /// The sandbox of fresh runs, and the tools that it has.
    fresh: Mutex<(Vec<ToolName>, Runner)>,
    running: Arc<RunningJobs>,
}

/// The tools of the runs that are under way.
#[derive(Default)]
struct RunningJobs {
    tools: Mutex<HashMap<String, Arc<dyn Tools>>>,
    next: AtomicU64,
}

/// A run in the list of [`RunningJobs`], until it is dropped.
struct Listed<'a> {
    id: String,
    jobs: &'a RunningJobs,
}

impl RunningJobs {
    fn list(&self, tools: Arc<dyn Tools>) -> Listed<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        self.tools.lock().insert(id.clone(), tools);
        Listed { id, jobs: self }
    }

    /// Calls a tool for the run that asks.
    fn call(&self, name: ToolName, call: &ToolCall) -> BoxFuture<'static, Result<Value, String>> {
        let tools = self.tools.lock().get(&*call.run).cloned();
        match (tools, call.read::<Value>()) {
            (Some(tools), Ok(input)) => tools.call(name, input),
            (None, _) => async { Err("the run has ended".to_owned()) }.boxed(),
            (_, Err(why)) => async { Err(why) }.boxed(),
        }
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.jobs.tools.lock().remove(&self.id);
    }
}

impl Isolates {
    pub(super) fn new(base: Options) -> Result<Self, Invalid> {
        let runner = Runner::new(base.clone())?;
        Ok(Self {
            base,
            fresh: Mutex::new((Vec::new(), runner)),
            running: Arc::default(),
        })
    }

    /// The options of a sandbox with these tools.
    fn options(&self, names: &[ToolName]) -> Options {
        let mut options = self.base.clone();
        for name in names {
            let (name, running) = (name.clone(), Arc::clone(&self.running));
            let path = format!("{}.{}", name.server, name.name);
            let tool = Tool::new(move |call| running.call(name.clone(), &call));
            options.tools.insert(path, tool);
        }
        options
    }

    fn runner(&self, names: Vec<ToolName>) -> Result<Runner, Invalid> {
        let mut fresh = self.fresh.lock();
        if fresh.0 != names {
            let runner = Runner::new(self.options(&names))?;
            *fresh = (names, runner);
        }
        Ok(fresh.1.clone())
    }
}

impl stockade_mcp::Runner for Isolates {
    fn run(&self, job: Job) -> BoxFuture<'static, RunOutcome> {
        let runner = self.runner(job.tools.names());
        let running = Arc::clone(&self.running);
        async move {
            match runner {
                Ok(runner) => run(job, &running, |run| async move { runner.run(run).await }).await,
                Err(error) => not_started(&error.to_string()),
            }
        }
        .boxed()
    }

    fn open(
        &self,
        files: BTreeMap<String, String>,
        tools: Vec<ToolName>,
    ) -> BoxFuture<'static, Result<Arc<dyn stockade_mcp::Session>, String>> {
        let mut options = self.options(&tools);
        // Its only isolate is started by its first run.
        options.pool = 0;
        options.files = bytes(files);
        let running = Arc::clone(&self.running);
        async move {
            let made = tokio::task::spawn_blocking(move || Runner::new(options)).await;
            let runner = made
                .map_err(|error| error.to_string())?
                .map_err(|error| error.to_string())?;
            let session = Arc::new(runner.session());
            Ok(Arc::new(Kept { session, running }) as Arc<dyn stockade_mcp::Session>)
        }
        .boxed()
    }
}

/// A session of a client.
struct Kept {
    session: Arc<Session>,
    running: Arc<RunningJobs>,
}

impl stockade_mcp::Session for Kept {
    fn run(&self, job: Job) -> BoxFuture<'static, RunOutcome> {
        let (session, running) = (Arc::clone(&self.session), Arc::clone(&self.running));
        async move { run(job, &running, |run| async move { session.run(run).await }).await }.boxed()
    }
}

fn bytes(files: BTreeMap<String, String>) -> Files {
    files
        .into_iter()
        .map(|(path, text)| (path, text.into_bytes()))
        .collect()
}

fn not_started(message: &str) -> RunOutcome {
    let mut outcome = RunOutcome {
        failed: true,
        ..RunOutcome::default()
    };
    let error = serde_json::json!({ "kind": "not_started", "message": message });
    outcome.document.insert("error".to_owned(), error);
    outcome
}

/// Runs a job by `start`, and passes its console on.
async fn run<F>(job: Job, running: &RunningJobs, start: impl FnOnce(Run) -> F) -> RunOutcome
where
    F: Future<Output = Outcome>,
{
    let listed = running.list(job.tools);
    let (lines, mut printed) = mpsc::channel::<Line>(LINES);
    let console = job.console;
    let passing = async move {
        while let Some(line) = printed.recv().await {
            let level = line.level.to_owned();
            let sent = console.send(ConsoleLine {
                level,
                text: line.text,
            });
            if sent.await.is_err() {
                return;
            }
        }
    };
    let running = start(Run {
        code: job.code,
        id: listed.id.clone(),
        timeout: Some(job.timeout),
        files: bytes(job.files),
        console: Some(lines),
        cancel: job.cancel,
    });
    let (outcome, ()) = tokio::join!(running, passing);
    document_of(outcome)
}

/// The outcome as clients read it.
fn document_of(mut outcome: Outcome) -> RunOutcome {
    let document = serde_json::to_value(&outcome).or_else(|error| {
        // A text with half of a pair of surrogates, or a number beyond every range: only JavaScript reads it.
        outcome.result = Err(RunError {
            kind: ErrorKind::NotJson,
            name: None,
            message: format!("the result is JSON that only JavaScript reads: {error}"),
            stack: None,
            position: None,
            code: None,
        });
        serde_json::to_value(&outcome)
    });
    match document {
        Ok(Value::Object(document)) => RunOutcome {
            failed: document.contains_key("error"),
            document,
        },
        _ => not_started("the outcome is not JSON"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;
    use stockade::Isolation;
    use stockade::run::RunUsage;

    use super::*;

    #[test]
    fn result_that_only_javascript_reads_is_no_json_and_the_console_stays() {
        for (result, is_json) in [
            ("{\"a\":1}", true),
            ("\"\\ud800\"", false),
            ("1e999", false),
        ] {
            let console = Line {
                level: "info",
                text: "before".to_owned(),
            };
            let outcome = document_of(Outcome {
                result: Ok(Some(RawValue::from_string(result.to_owned()).unwrap())),
                console: vec![console],
                console_truncated: false,
                usage: RunUsage::default(),
                refused: Vec::new(),
                level: Isolation::Container,
                state_lost: false,
            });
            assert_eq!(outcome.failed, !is_json, "{result}");
            let document = Value::from(outcome.document);
            assert_eq!(document["console"][0]["text"], "before");
            if !is_json {
                assert_eq!(document["error"]["kind"], "not_json");
            }
        }
    }
}
