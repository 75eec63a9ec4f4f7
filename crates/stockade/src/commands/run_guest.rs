//! A guest from its start to its exit code: for commands that run one and end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use stockade::run::{Refusals, RefusedHost};
use stockade::{Grants, Sandbox};

use super::document::{self, Done, Held as Limits, Kept, MAX_KEPT_BYTES, Used};
use super::exit;
use super::failure::Failure;
use super::guest::{Guests, Refusal};
use super::output::{self, Output};
use super::printer::{Held, Printer};
use super::receipt::{Pending, Ran};
use super::session::{Bounds, Session};

/// How a guest is run.
pub(crate) struct Job {
    /// `stockade exec` and the like, for messages.
    pub(crate) command: &'static str,
    /// The guest is a program: standard output and the exit code are its own.
    pub(crate) program: bool,
    /// The value is printed after the console, text without quotes.
    pub(crate) plain: bool,
    /// Everything is printed as one document.
    pub(crate) json: bool,
    /// Zero is none.
    pub(crate) timeout: Duration,
    pub(crate) receipt: Option<Pending>,
    /// Bytes of the console that are printed or kept; `None` is all, and a default with `json`.
    pub(crate) output: Option<u32>,
}

impl Job {
    /// Runs a guest with these options and gives the exit code.
    pub(crate) fn run(
        &self,
        guests: Result<Guests, Refusal>,
        work: impl AsyncFnOnce(&mut Session) -> Result<Done, Failure>,
    ) -> Result<i32, Refusal> {
        let Guests {
            sandbox: options,
            grants,
            added: _added,
            ..
        } = match guests {
            Ok(guests) => guests,
            Err(refusal) if self.json => {
                let refused = Vec::new();
                return self.print(Err(refusal.into()), Output::Nowhere, refused, None, None);
            }
            Err(refusal) => return Err(refusal),
        };
        stockade::initialize();
        let defaults = &options.defaults;
        let limits = Limits::new(defaults.isolation.name(), &defaults.limits, self.timeout);
        let sandbox = Sandbox::new(options);
        let refusals = Refusals::default();
        let grants = grants.noting(refusals.clone());
        let guest = self.guest(&sandbox, &grants, &refusals, work);
        let (result, output, used, ran) = block_on(guest)?;
        if let (Some(receipt), Some(ran)) = (&self.receipt, ran) {
            receipt.write(&ran, &sandbox.granted_use(), &result)?;
        }
        self.print(result, output, refusals.take(), Some(limits), used)
    }

    async fn guest(
        &self,
        sandbox: &Sandbox,
        grants: &Grants,
        refusals: &Refusals,
        work: impl AsyncFnOnce(&mut Session) -> Result<Done, Failure>,
    ) -> (Result<Done, Failure>, Output, Option<Used>, Option<Ran>) {
        let held = Arc::new(Held::default());
        let began = Bounds::start(self.timeout, Arc::clone(&held));
        let (mut bounds, output) = match began.and_then(|bounds| Ok((bounds, self.output(held)?))) {
            Ok(began) => began,
            Err(failure) => return (Err(failure), Output::Nowhere, None, None),
        };
        let started = SystemTime::now();
        let start = Session::start(sandbox, grants, output, self.command, self.program);
        let mut session = match bounds.keep(start).await {
            Ok(session) => session,
            Err(failure) => return (Err(failure), Output::Nowhere, None, None),
        };
        session.note_refused(refusals.clone());
        if let Some(receipt) = &self.receipt {
            session.tally(receipt.console.clone());
        }
        let result = bounds.keep(work(&mut session)).await;
        let (stats, end) = session.state();
        let used = Used::new(stats, end.as_ref(), bounds.elapsed());
        let handle = session.handle();
        let (result, output) = session.end(&mut bounds, result).await;
        let ran = match &self.receipt {
            Some(_) => Some(Ran::until_left(&handle, started, bounds.elapsed()).await),
            None => None,
        };
        (result, output, Some(used), ran)
    }

    fn output(&self, held: Arc<Held>) -> Result<Output, Failure> {
        if self.json {
            let most = self.output.unwrap_or(MAX_KEPT_BYTES);
            return Ok(Output::Kept(Box::new(Kept::new(most))));
        }
        let printer = Printer::start(held, self.output).map_err(|error| {
            let message = format!("cannot start a thread: {error}");
            Failure::new("not_started", message, exit::FAILED)
        })?;
        Ok(match self.program {
            true => Output::Program(printer),
            false => Output::Apart(printer),
        })
    }

    /// Prints the result and returns the exit code.
    fn print(
        &self,
        result: Result<Done, Failure>,
        output: Output,
        refused: Vec<RefusedHost>,
        limits: Option<Limits>,
        used: Option<Used>,
    ) -> Result<i32, Refusal> {
        if self.json {
            let kept = match output {
                Output::Kept(kept) => *kept,
                _ => Kept::new(MAX_KEPT_BYTES),
            };
            let (text, code) = document::document(result, kept, refused, limits, used);
            return printed(output::value(&text), code);
        }
        match result {
            Ok(Done { code, value }) => match value.filter(|_| !self.program || self.plain) {
                Some(value) if self.plain => printed(output::plain(&value), code),
                Some(value) => printed(output::value(&value), code),
                None => Ok(code),
            },
            Err(failure) => printed(Err(failure), exit::DONE),
        }
    }
}

/// The limits of a guest, as the document of `--json` has them.
pub(crate) fn limits_of(guests: &Guests, timeout: Duration) -> Value {
    let defaults = &guests.sandbox.defaults;
    let limits = Limits::new(defaults.isolation.name(), &defaults.limits, timeout);
    serde_json::to_value(limits).unwrap_or_default()
}

/// The exit code once something was printed, or of what went wrong; what has nothing to say is silent.
fn printed(result: Result<(), Failure>, code: i32) -> Result<i32, Refusal> {
    match result {
        Ok(()) => Ok(code),
        Err(failure) if failure.message.is_empty() => Ok(failure.code),
        Err(failure) => Err(failure.into()),
    }
}

/// Does a command's work on a runtime of its own.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Refusal> {
    let start = |error: std::io::Error| Refusal(format!("cannot start: {error}"), exit::FAILED);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(start)?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(result)
}
