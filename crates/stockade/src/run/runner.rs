//! Runs code in isolates, one for each run or one for a session.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use serde_json::json;
use stockade_limits::{ConsoleMode, IsolateOptions, Limits, MIN_MEMORY, MIN_TIME, SandboxOptions};
use stockade_protocol::{ConsoleLevel, GuestError, Payload, RequestId};
use stockade_supervisor::{Event, TerminateReason};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use super::console::Console;
use super::files::{Files, FilesError, GuestFiles};
use super::options::{
    Answer, MAX_JSON_BYTES, MAX_OUTPUT_BYTES, MAX_POOL, MAX_TOOL_CALL_BYTES, MAX_TOOL_CALLS,
    MAX_TOOL_NAME_BYTES, MAX_TOOLS, Options, Run, ToolCall,
};
use super::outcome::{ErrorKind, MAX_JSON_DEPTH, Outcome, RunError, RunUsage, one_line};
use super::prelude::Prelude;
use super::refused::Refusals;
use super::reply::{TakeEvents, Waited, reply};
use crate::isolate::{Isolate, refuse_socket, reject};
use crate::{Handle, Sandbox};

/// The key of `env` that has an isolate run code for a result. Read by `stockade_realm/network.js`; no key of a user begins
/// with U+0000.
const RUN: &str = "\0run";

/// The method of the request that calling a tool is, before its name.
const TOOL: &str = "tool:";

/// How often the CPU time of a run in a session is compared with its limit. One activation is limited exactly.
const CPU_CHECK: Duration = Duration::from_millis(20);

/// How often the CPU time of a session is compared with its limit between two runs.
const IDLE_CPU_CHECK: Duration = Duration::from_millis(500);

/// CPU time of a session between two runs, where runs have no limit.
const IDLE_CPU: Duration = Duration::from_secs(10);

/// Has [`Handle::evaluate`] run code for a result in the isolate that is created with these options: a text with the
/// syntax of a module, as `docs/run-code.md` describes. In a `session`, top-level declarations live on. With a `prelude`,
/// the first evaluation runs that, whatever text it has.
pub fn set_running<'t>(
    options: &mut IsolateOptions,
    session: bool,
    tools: impl IntoIterator<Item = &'t str>,
    prelude: Option<&Prelude>,
) {
    let tools: Vec<&str> = tools.into_iter().collect();
    let mut run = json!({ "session": session, "tools": tools });
    if let Some(prelude) = prelude {
        run["prelude"] = prelude.to_json();
    }
    options.env.insert(RUN.to_owned(), run);
}

/// An option that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// An option out of its range.
    #[error("{option}: {what}")]
    Option {
        /// Which one.
        option: &'static str,
        /// What is wrong, and what is allowed.
        what: String,
    },
    /// The files.
    #[error("files: {0}")]
    Files(#[from] FilesError),
}

impl Invalid {
    fn option(option: &'static str, what: impl Into<String>) -> Self {
        let what = what.into();
        Self::Option { option, what }
    }
}

struct Inner {
    options: Options,
    prelude: Option<Prelude>,
    sandbox: Sandbox,
    files: Arc<GuestFiles>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.sandbox.shutdown();
    }
}

/// Runs code with the same options, any number of runs at the same time. Cheap to clone; when the last clone and the last
/// session are dropped, all isolates end.
#[derive(Clone)]
pub struct Runner(Arc<Inner>);

impl Runner {
    /// Checks the options, compiles [`Options::prelude`], and has [`Options::pool`] isolates made ready.
    /// [`initialize`](crate::initialize) must have been called. Files that are not modules are written to a temporary folder, which blocks.
    ///
    /// # Errors
    /// What is wrong with the options.
    pub fn new(options: Options) -> Result<Self, Invalid> {
        check(&options)?;
        let prelude = (options.prelude.as_deref())
            .map(Prelude::compile)
            .transpose()
            .map_err(|what| Invalid::option("prelude", what))?;
        let files = GuestFiles::store(&options.files)?;
        // Fails here and not in each run.
        files.grant(options.grants.clone())?;
        let sandbox = Sandbox::new(SandboxOptions {
            warm: options.pool,
            defaults: isolate_options(&options, prelude.as_ref(), false),
            ..SandboxOptions::default()
        });
        Ok(Self(Arc::new(Inner {
            options,
            prelude,
            sandbox,
            files: Arc::new(files),
        })))
    }

    /// What it was made with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// How many isolates live.
    #[must_use]
    pub fn isolates(&self) -> usize {
        self.0.sandbox.isolates()
    }

    /// Runs code in an isolate that nothing else has used. Dropping the future ends the run.
    pub async fn run(&self, mut run: Run) -> Outcome {
        let began = Instant::now();
        let files = match self.files_of(std::mem::take(&mut run.files)).await {
            Ok(files) => files,
            Err(error) => return self.not_started(began, error),
        };
        let code = std::mem::take(&mut run.code);
        let until = run.timeout.or(self.0.options.timeout);
        let started = bounded(&run, began, until, self.start(&files, false));
        let (mut isolate, refusals) = match started.await {
            Ok(started) => started,
            Err(error) => return self.not_started(began, error),
        };
        let mut running = Running::new(&self.0.options, &run, began, refusals, Duration::ZERO);
        let evaluated = async {
            running
                .prepare(&mut isolate, self.0.prelude.is_some())
                .await?;
            running.evaluate(&mut isolate, code).await
        };
        let result = bounded(&run, began, until, evaluated).await;
        running.outcome(result, &isolate.handle(), false)
    }

    /// A session, whose isolate starts with its first run.
    #[must_use]
    pub fn session(&self) -> Session {
        Session {
            runner: self.clone(),
            live: Mutex::new(None),
        }
    }

    /// The files of a run.
    async fn files_of(&self, own: Files) -> Result<Arc<GuestFiles>, RunError> {
        if own.is_empty() {
            return Ok(Arc::clone(&self.0.files));
        }
        let mut files = self.0.options.files.clone();
        files.extend(own);
        let stored = tokio::task::spawn_blocking(move || GuestFiles::store(&files));
        let stored = stored
            .await
            .map_err(|error| RunError::new(ErrorKind::NotStarted, error.to_string()))?;
        let stored =
            stored.map_err(|error| RunError::new(ErrorKind::NotStarted, error.to_string()))?;
        Ok(Arc::new(stored))
    }

    /// Starts an isolate.
    async fn start(
        &self,
        files: &GuestFiles,
        session: bool,
    ) -> Result<(Isolate, Refusals), RunError> {
        let not_started = |error: String| RunError::new(ErrorKind::NotStarted, error);
        let mut options = isolate_options(&self.0.options, self.0.prelude.as_ref(), session);
        options.modules.clone_from(&files.modules);
        // None of the modules runs by itself: the code imports them.
        options.main = Some(String::new());
        let refusals = Refusals::default();
        let grants = files.grant(self.0.options.grants.clone());
        let grants = grants.map_err(|error| not_started(error.to_string()))?;
        let grants = grants.noting(refusals.clone());
        let isolate = self.0.sandbox.create_granted(options, &grants).await;
        let isolate = isolate.map_err(|error| not_started(error.to_string()))?;
        Ok((isolate, refusals))
    }

    /// The outcome of a run that had no isolate.
    fn not_started(&self, began: Instant, error: RunError) -> Outcome {
        Outcome {
            result: Err(error),
            console: Vec::new(),
            console_truncated: false,
            usage: RunUsage {
                elapsed: began.elapsed(),
                ..RunUsage::default()
            },
            refused: Vec::new(),
            level: self.0.options.level,
            state_lost: false,
        }
    }
}

/// Checks what has a range.
fn check(options: &Options) -> Result<(), Invalid> {
    if options.memory.is_some_and(|memory| memory < MIN_MEMORY) {
        let least = MIN_MEMORY >> 20;
        return Err(Invalid::option(
            "memory",
            format!("less than {least}mb, which the engine needs for itself"),
        ));
    }
    if options.cpu.is_some_and(|cpu| cpu < MIN_TIME) {
        return Err(Invalid::option("cpu", "less than 1ms"));
    }
    if options.output > MAX_OUTPUT_BYTES {
        return Err(Invalid::option(
            "output",
            format!("more than the limit of {MAX_OUTPUT_BYTES} bytes"),
        ));
    }
    if options.pool > MAX_POOL {
        return Err(Invalid::option(
            "pool",
            format!("more than the limit of {MAX_POOL} isolates"),
        ));
    }
    if options.tools.len() > MAX_TOOLS {
        return Err(Invalid::option(
            "tools",
            format!("more than the limit of {MAX_TOOLS} tools"),
        ));
    }
    let is_wrong =
        |name: &&String| name.is_empty() || name.len() > MAX_TOOL_NAME_BYTES || name.contains('\0');
    if let Some(name) = options.tools.keys().find(is_wrong) {
        let what = format!("{name:?} is not a name of 1 to {MAX_TOOL_NAME_BYTES} bytes");
        return Err(Invalid::option("tools", what));
    }
    if let Some(key) = options.env.keys().find(|key| key.starts_with('\0')) {
        return Err(Invalid::option(
            "env",
            format!("{key:?} begins with U+0000"),
        ));
    }
    Ok(())
}

fn isolate_options(options: &Options, prelude: Option<&Prelude>, session: bool) -> IsolateOptions {
    let mut isolate = IsolateOptions {
        isolation: options.level,
        limits: Limits {
            cpu: options.cpu,
            // In a session the CPU time counts for each run.
            cpu_total: options.cpu.filter(|_| !session),
            // The timeout of the run bounds it.
            wall: None,
            memory: options.memory,
            pending_requests: MAX_TOOL_CALLS,
            ..Limits::default()
        },
        env: options.env.clone(),
        console: ConsoleMode::Whole,
        ..IsolateOptions::default()
    };
    set_running(
        &mut isolate,
        session,
        options.tools.keys().map(String::as_str),
        prelude,
    );
    isolate
}

/// Does a part of a run's work, until the run is cancelled or its time is over.
async fn bounded<T>(
    run: &Run,
    began: Instant,
    until: Option<Duration>,
    work: impl Future<Output = Result<T, RunError>>,
) -> Result<T, RunError> {
    tokio::select! {
        biased;
        () = run.cancel.cancelled() => {
            Err(RunError::new(ErrorKind::Cancelled, "the host cancelled the run"))
        }
        () = elapsed(began, until) => {
            let ms = until.unwrap_or_default().as_millis();
            Err(RunError::new(ErrorKind::Timeout, format!("the run took longer than {ms} ms")))
        }
        done = work => done,
    }
}

/// Done when this much time has passed.
async fn elapsed(began: Instant, limit: Option<Duration>) {
    match limit.and_then(|limit| began.checked_add(limit)) {
        Some(end) => tokio::time::sleep_until(end.into()).await,
        None => std::future::pending().await,
    }
}

/// The isolate of a session.
struct Live {
    isolate: Isolate,
    refusals: Refusals,
    /// Between runs: ends a guest whose timers use more CPU time than a run may. Over when it is dropped.
    watch: JoinSet<()>,
}

/// Runs that share an isolate, one after the other.
pub struct Session {
    runner: Runner,
    live: Mutex<Option<Live>>,
}

impl Session {
    /// Runs code. Where an earlier run ended the isolate, or its future was dropped, a new one is started, without state;
    /// [`Outcome::state_lost`] says so in the run that ended it, or else in the next. The time counts from when the runs
    /// before are over. [`Run::files`] are an error.
    pub async fn run(&self, mut run: Run) -> Outcome {
        let runner = &self.runner;
        let locked = bounded(&run, Instant::now(), None, async {
            Ok(self.live.lock().await)
        });
        let mut place = match locked.await {
            Ok(place) => place,
            Err(error) => return runner.not_started(Instant::now(), error),
        };
        let began = Instant::now();
        if !run.files.is_empty() {
            let what =
                "the isolate of a session has its files from its start: give them to the sandbox";
            return runner.not_started(began, RunError::new(ErrorKind::NotStarted, what));
        }
        let options = &runner.0.options;
        let until = run.timeout.or(options.timeout);
        // Taken out: a run whose future is dropped ends the isolate, whose state is then unknown.
        let had = place.take();
        let lost_before = had.as_ref().is_some_and(Live::has_ended);
        let (mut live, has_prelude) = match had.filter(|_| !lost_before) {
            Some(live) => (live, false),
            None => match bounded(&run, began, until, self.start()).await {
                Ok(live) => (live, runner.0.prelude.is_some()),
                Err(error) => return runner.not_started(began, error),
            },
        };
        live.watch.abort_all();
        let handle = live.isolate.handle();
        let (code, cpu_before) = (std::mem::take(&mut run.code), handle.cpu());
        let mut running = Running::new(options, &run, began, live.refusals.clone(), cpu_before);
        let evaluated = async {
            running.prepare(&mut live.isolate, has_prelude).await?;
            running.evaluate(&mut live.isolate, code).await
        };
        let evaluated = within_cpu(&handle, cpu_before, options.cpu, evaluated);
        let result = bounded(&run, began, until, evaluated).await;
        let lost = result.as_ref().is_err_and(loses_state) || handle.end().is_some();
        let outcome = running.outcome(result, &handle, lost || lost_before);
        if !lost {
            live.watch(options.cpu);
            *place = Some(live);
        }
        outcome
    }

    /// Starts an isolate for this run and the next ones.
    async fn start(&self) -> Result<Live, RunError> {
        let runner = &self.runner;
        let (isolate, refusals) = runner.start(&runner.0.files, true).await?;
        Ok(Live {
            isolate,
            refusals,
            watch: JoinSet::new(),
        })
    }
}

impl Live {
    fn has_ended(&self) -> bool {
        self.isolate.handle().end().is_some()
    }

    /// Has the isolate ended when it uses more CPU time until the next run than a run may.
    fn watch(&mut self, limit: Option<Duration>) {
        let handle = self.isolate.handle();
        let (before, limit) = (handle.cpu(), limit.or(Some(IDLE_CPU)));
        self.watch = JoinSet::new();
        self.watch.spawn(async move {
            over_cpu(&handle, before, limit, IDLE_CPU_CHECK).await;
        });
    }
}

/// Whether a run that failed leaves its isolate in a state that nobody knows: what has interrupted the guest does.
fn loses_state(error: &RunError) -> bool {
    matches!(
        error.kind,
        ErrorKind::Timeout | ErrorKind::Cancelled | ErrorKind::CpuLimit | ErrorKind::PreludeFailed
    )
}

/// Does a part of a run's work, until the run has used more CPU time since `before` than its limit.
async fn within_cpu<T>(
    handle: &Handle,
    before: Duration,
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, RunError>>,
) -> Result<T, RunError> {
    tokio::select! {
        biased;
        done = work => done,
        () = over_cpu(handle, before, limit, CPU_CHECK) => {
            let what = "the run used more CPU time than its limit";
            Err(RunError::new(ErrorKind::CpuLimit, what))
        }
    }
}

/// Done when a session has used more CPU time since `before` than the limit of a run; its isolate is terminated then.
async fn over_cpu(handle: &Handle, before: Duration, limit: Option<Duration>, every: Duration) {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(every).await;
        if handle.cpu().saturating_sub(before) > limit {
            let detail = format!("CPU time of the run, {} ms", limit.as_millis());
            return handle.terminate(TerminateReason::CpuLimit, detail);
        }
    }
}

/// A run while it goes on.
struct Running<'r> {
    options: &'r Options,
    run: &'r Run,
    id: Arc<str>,
    began: Instant,
    console: Console,
    refusals: Refusals,
    /// CPU time of the isolate before the run.
    cpu_before: Duration,
    /// Calls of tools. Dropped with the run.
    calls: JoinSet<()>,
    /// Bytes that the inputs of further calls may have.
    call_bytes: Arc<Semaphore>,
}

impl<'r> Running<'r> {
    fn new(
        options: &'r Options,
        run: &'r Run,
        began: Instant,
        refusals: Refusals,
        cpu_before: Duration,
    ) -> Self {
        Self {
            options,
            run,
            id: run.id.as_str().into(),
            began,
            console: Console::new(options.output),
            refusals,
            cpu_before,
            calls: JoinSet::new(),
            call_bytes: Arc::new(Semaphore::new(MAX_TOOL_CALL_BYTES)),
        }
    }

    /// Has the code run that comes before that of the guest, if there is any.
    async fn prepare(&mut self, isolate: &mut Isolate, has_prelude: bool) -> Result<(), RunError> {
        if !has_prelude {
            return Ok(());
        }
        let done = self.evaluate(isolate, String::new()).await;
        done.map(drop).map_err(RunError::of_prelude)
    }

    /// Evaluates the code and serves the guest meanwhile.
    async fn evaluate(
        &mut self,
        isolate: &mut Isolate,
        code: String,
    ) -> Result<Option<String>, RunError> {
        let handle = isolate.handle();
        let evaluated = handle.evaluate(code);
        let waited = reply(isolate, evaluated, self).await;
        let Ok(waited) = waited;
        match waited {
            Waited::Reply(Ok(value)) if value.json.is_empty() => Ok(None),
            Waited::Reply(Ok(value)) => {
                let what = "the result is not JSON: it contains bytes or streams\n  fix: return text, for example base64";
                let json = value.into_plain_json();
                json.map(Some)
                    .ok_or_else(|| RunError::new(ErrorKind::NotJson, what))
            }
            Waited::Reply(Err(error)) => Err(RunError::no_reply(error, handle.end())),
            Waited::NeverComes => Err(RunError::new(
                ErrorKind::NeverSettles,
                "the guest has nothing left to do, and its promise is still open",
            )),
        }
    }

    async fn console(&mut self, level: ConsoleLevel, piece: &str) {
        let line = self.console.take(level, piece);
        if let (Some(line), Some(stream)) = (line, &self.run.console) {
            // A receiver that is gone wants no more.
            let _ = stream.send(line.clone()).await;
        }
    }

    /// Has a tool called, and its answer sent.
    async fn tool(&mut self, handle: &Handle, id: RequestId, name: &str, data: Payload) {
        // A host that is slow holds the inputs until it answers.
        let size = u32::try_from(data.json.len()).unwrap_or(u32::MAX);
        let place = Arc::clone(&self.call_bytes).try_acquire_many_owned(size);
        let call = match (&place, data.json.len() > MAX_JSON_BYTES) {
            (Err(_), false) => Err(format!(
                "the calls of tools without an answer have more than {MAX_TOOL_CALL_BYTES} bytes of input together"
            )),
            _ => self.call(name, data),
        };
        let mut called: Answer = match call {
            Ok(answer) => answer,
            Err(error) => Box::pin(std::future::ready(Err(GuestError::new(error)))),
        };
        // Begun here, so that calls reach the host in the guest's order, and those before the result at all.
        let begun = futures_util::poll!(called.as_mut());
        let handle = handle.clone();
        self.calls.spawn(async move {
            let _place = place;
            let answer = match begun {
                Poll::Ready(answer) => answer,
                Poll::Pending => called.await,
            };
            let answer = answer.and_then(|value| {
                let json = value.get();
                match json.len() > MAX_JSON_BYTES {
                    true => Err(GuestError::new(format!(
                        "the tool's answer is larger than {MAX_JSON_BYTES} bytes"
                    ))),
                    false => Ok(Payload::from_json(json.to_owned())),
                }
            });
            if let Err(error) = handle.answer(id, answer) {
                tracing::debug!("the answer of a tool was not sent: {error}");
            }
        });
    }

    /// The tool's answer, or what is wrong with the call, for the guest.
    fn call(&self, name: &str, data: Payload) -> Result<Answer, String> {
        let tool = self.options.tools.get(name);
        let tool = tool.ok_or_else(|| "there is no such tool".to_owned())?;
        if data.json.len() > MAX_JSON_BYTES {
            return Err(format!(
                "the input of {name} is larger than {MAX_JSON_BYTES} bytes of JSON"
            ));
        }
        let input = match data.json.is_empty() {
            true => None,
            false => {
                let json = data.into_plain_json().and_then(one_line);
                Some(json.ok_or_else(|| {
                    format!(
                        "the input of {name} is not JSON: it contains bytes or streams, or nests deeper than {MAX_JSON_DEPTH} levels"
                    )
                })?)
            }
        };
        Ok(tool.call(ToolCall {
            name: name.into(),
            run: Arc::clone(&self.id),
            input,
        }))
    }

    fn outcome(
        self,
        result: Result<Option<String>, RunError>,
        handle: &Handle,
        state_lost: bool,
    ) -> Outcome {
        let result = result.and_then(|json| {
            let Some(json) = json else { return Ok(None) };
            if json.len() > MAX_JSON_BYTES {
                let what = format!(
                    "the result has {} bytes of JSON, more than the limit of {MAX_JSON_BYTES}\n  fix: return less, or call a \
                     tool with each part",
                    json.len()
                );
                return Err(RunError::new(ErrorKind::NotJson, what));
            }
            let json = one_line(json);
            json.map(Some).ok_or_else(|| {
                let what = format!("the result is not JSON, or nests deeper than {MAX_JSON_DEPTH} levels");
                RunError::new(ErrorKind::NotJson, what)
            })
        });
        Outcome {
            result,
            usage: RunUsage {
                cpu: handle.cpu().saturating_sub(self.cpu_before),
                elapsed: self.began.elapsed(),
                memory: handle.peak_memory(),
            },
            console_truncated: self.console.dropped() > 0,
            console: self.console.into_lines(),
            refused: self.refusals.take(),
            level: self.options.level,
            state_lost,
        }
    }
}

impl TakeEvents for Running<'_> {
    type Error = Infallible;

    async fn take(&mut self, handle: Handle, event: Event) -> Result<(), Infallible> {
        if refuse_socket(
            &handle,
            &event,
            "WebSockets are not granted to runs of code",
        ) {
            if let Event::Message { data, .. } = &event {
                self.refusals.not_granted(data);
            }
            return Ok(());
        }
        while self.calls.try_join_next().is_some() {}
        match event {
            Event::Console { level, text } => self.console(level, &text).await,
            Event::Uncaught(error) => {
                let text = format!("uncaught {}\n", error.trace());
                self.console(ConsoleLevel::Error, &text).await;
            }
            Event::Request { id, method, data } => match method.strip_prefix(TOOL) {
                Some(name) => self.tool(&handle, id, name, data).await,
                None if method == "fetch" => {
                    self.refusals.not_granted(&data);
                    let what = "fetch is not granted: the host of this code can grant it by name, with `fetch` or --allow-fetch";
                    if let Err(error) = handle.answer(id, Err(GuestError::new(what))) {
                        tracing::debug!("an answer was not sent: {error}");
                    }
                }
                None => reject(&handle, id, &method),
            },
            Event::Message { .. }
            | Event::Control { .. }
            | Event::Terminated { .. }
            | Event::Destroyed(_) => {}
        }
        Ok(())
    }
}
