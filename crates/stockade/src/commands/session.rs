//! One guest of a command: what it says is printed or kept, what it asks for is refused, and it ends with its
//! deadline.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stockade::run::{self, Refusals, TakeEvents, Waited};
use stockade::{
    CallError, ConsoleLevel, CreateError, End, Event, GrantedError, Grants, Handle, Isolate, Next,
    Sandbox, Stats,
};

use super::exit;
use super::failure::Failure;
use super::guest::interrupted;
use super::output::{Output, complain};
use super::printer::Held;
use super::receipt::ConsoleTally;

/// For a reader that takes nothing, once the guest was ended for it.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// Errors that are kept while the module still runs; later ones are left out.
const MAX_UNCAUGHT: usize = 64;

/// The deadline of a command, and the user's signals.
pub(crate) struct Bounds {
    began: Instant,
    timeout: Duration,
    held: Arc<Held>,
    interrupted: Pin<Box<dyn Future<Output = i32> + Send>>,
}

impl Bounds {
    /// The time starts to run; zero is no limit.
    pub(crate) fn start(timeout: Duration, held: Arc<Held>) -> Result<Self, Failure> {
        let interrupted = interrupted().map_err(|error| {
            let message = format!("cannot listen to signals: {error}");
            Failure::new("not_started", message, exit::FAILED)
        })?;
        Ok(Self {
            began: Instant::now(),
            timeout,
            held,
            interrupted: Box::pin(interrupted),
        })
    }

    /// Since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Does the work, no longer than the deadline and the user's patience.
    pub(crate) async fn keep<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let (began, timeout) = (self.began, self.timeout);
        tokio::select! {
            result = work => result,
            code = &mut self.interrupted => Err(Failure::interrupted(code)),
            () = over(began, timeout, &self.held) => Err(Failure::timeout(timeout)),
        }
    }
}

/// Done when this much time has passed in which nobody waited for the reader of the output.
async fn over(began: Instant, timeout: Duration, held: &Held) {
    if timeout.is_zero() {
        std::future::pending::<()>().await;
    }
    loop {
        let spent = began.elapsed().saturating_sub(held.total());
        if spent >= timeout {
            return;
        }
        // While a reader is waited for, what is left stays as it is.
        tokio::time::sleep((timeout - spent).max(Duration::from_millis(5))).await;
    }
}

/// A guest and where its console goes.
pub(crate) struct Session {
    isolate: Isolate,
    taker: Taker,
}

/// What is done with the events of a guest.
struct Taker {
    output: Output,
    /// `stockade exec` and the like, for messages.
    command: &'static str,
    /// The guest is a program: an error that nothing caught is its end.
    program: bool,
    /// For a receipt.
    tally: Option<ConsoleTally>,
    /// Takes the hosts that the guest may not reach.
    refusals: Refusals,
}

impl Session {
    /// Starts an isolate with the sandbox's defaults and these grants.
    pub(crate) async fn start(
        sandbox: &Sandbox,
        grants: &Grants,
        output: Output,
        command: &'static str,
        program: bool,
    ) -> Result<Self, Failure> {
        let options = sandbox.defaults().clone();
        let created = sandbox.create_granted(options, grants).await;
        let isolate = created.map_err(|error| {
            let code = match error {
                GrantedError::Create(CreateError::NoBackend(_)) | GrantedError::Grant(_) => {
                    exit::USAGE
                }
                GrantedError::Create(_) => exit::FAILED,
            };
            Failure::new("not_started", error.to_string(), code)
        })?;
        let taker = Taker {
            output,
            command,
            program,
            tally: None,
            refusals: Refusals::default(),
        };
        Ok(Self { isolate, taker })
    }

    /// Adds what the guest prints to a tally, too.
    pub(crate) fn tally(&mut self, tally: ConsoleTally) {
        self.taker.tally = Some(tally);
    }

    /// Has the hosts noted that the guest tried to reach and that nothing grants.
    pub(crate) fn note_refused(&mut self, refusals: Refusals) {
        self.taker.refusals = refusals;
    }

    pub(crate) fn handle(&self) -> Handle {
        self.isolate.handle()
    }

    /// What it uses now, and how it ended.
    pub(crate) fn state(&self) -> (Stats, Option<End>) {
        (self.isolate.stats(), self.isolate.handle().end())
    }

    /// Waits until the module has run. What is uncaught before is printed only if the module did run: what
    /// the module throws comes as an event, too.
    pub(crate) async fn ready(&mut self) -> Result<(), Failure> {
        let handle = self.handle();
        let mut uncaught = Vec::new();
        let result = {
            let ready = handle.ready();
            tokio::pin!(ready);
            loop {
                tokio::select! {
                    biased;
                    result = &mut ready => break result,
                    next = self.isolate.next_or_idle() => match next {
                        Next::Event(Event::Uncaught(error)) if uncaught.len() < MAX_UNCAUGHT => {
                            uncaught.push(error);
                        }
                        Next::Event(Event::Uncaught(_)) => {}
                        Next::Event(event) => self.take(event).await?,
                        Next::Idle => match run::settled(ready.as_mut()).await {
                            Some(result) => break result,
                            None => return Err(Failure::never_settles(
                                "the module's top-level await never settles",
                            )),
                        },
                        Next::Ended => break ready.await,
                    },
                }
            }
        };
        match result {
            Ok(_) => {
                for error in uncaught {
                    self.take(Event::Uncaught(error)).await?;
                }
                Ok(())
            }
            Err(error) => {
                while let Some(event) = self.isolate.try_next() {
                    if !matches!(event, Event::Uncaught(_)) {
                        self.take(event).await?;
                    }
                }
                Err(self.no_reply(&error))
            }
        }
    }

    /// Waits for a reply and prints meanwhile what the guest says. Refuses to wait for one that cannot come.
    pub(crate) async fn reply<T>(&mut self, reply: impl Future<Output = T>) -> Result<T, Failure> {
        match run::reply(&mut self.isolate, reply, &mut self.taker).await? {
            Waited::Reply(reply) => Ok(reply),
            Waited::NeverComes => Err(Failure::never_settles(
                "the guest has nothing left to do, and its promise is still open",
            )),
        }
    }

    /// Lets the guest do what is left to do.
    pub(crate) async fn rest(&mut self) -> Result<(), Failure> {
        loop {
            match self.isolate.next_or_idle().await {
                Next::Event(event) => self.take(event).await?,
                Next::Idle => return Ok(()),
                Next::Ended => return Err(Failure::ended(self.handle().end())),
            }
        }
    }

    /// Prints what the guest says until the isolate has ended.
    pub(crate) async fn until_ended(mut self) {
        while let Some(event) = self.isolate.next().await {
            // The server goes on without its output.
            let _ = self.take(event).await;
        }
    }

    /// Why there is no reply.
    pub(crate) fn no_reply(&self, error: &CallError) -> Failure {
        Failure::no_reply(error, self.handle().end())
    }

    async fn take(&mut self, event: Event) -> Result<(), Failure> {
        self.taker.take(self.isolate.handle(), event).await
    }

    /// Ends the guest, prints what it had said, and waits until all of that is written.
    pub(crate) async fn end<T>(
        mut self,
        bounds: &mut Bounds,
        result: Result<T, Failure>,
    ) -> (Result<T, Failure>, Output) {
        self.isolate.destroy();
        let mut output = Output::Nowhere;
        let ending = async {
            // It was ended for something: what it said before that is printed.
            if result.is_err() {
                while let Some(event) = self.isolate.next().await {
                    if let Event::Console { level, text } = event {
                        self.taker.console(level, text).await?;
                    }
                }
            }
            output = std::mem::replace(&mut self.taker.output, Output::Nowhere)
                .finish()
                .await?;
            Ok::<(), Failure>(())
        };
        match &result {
            Ok(_) => {
                if let Err(failure) = bounds.keep(ending).await {
                    return (Err(failure), Output::Nowhere);
                }
            }
            Err(_) => {
                if tokio::time::timeout(LAST_OUTPUT, ending).await.is_err() {
                    complain(
                        "the last of the guest's output was lost: its reader does not take it",
                    );
                }
            }
        }
        (result, output)
    }
}

impl Taker {
    async fn console(&mut self, level: ConsoleLevel, text: String) -> Result<(), Failure> {
        if let Some(tally) = &self.tally {
            tally.add(&text);
        }
        self.output.console(level, text).await
    }
}

impl TakeEvents for Taker {
    type Error = Failure;

    /// Prints what an event is about. Where the guest is a program, an error that nothing caught is the end.
    async fn take(&mut self, handle: Handle, event: Event) -> Result<(), Failure> {
        if stockade::refuse_socket(&handle, &event, &no_sockets(self.command)) {
            if let Event::Message { data, .. } = &event {
                self.refusals.not_granted(data);
            }
            return Ok(());
        }
        match event {
            Event::Console { level, text } => self.console(level, text).await,
            Event::Uncaught(error) if self.program => Err(Failure::threw(error, true)),
            Event::Uncaught(error) => self.output.uncaught(&error).await,
            Event::Request { id, method, data } => {
                if method == "fetch" {
                    self.refusals.not_granted(&data);
                }
                let answer = Err(refused(self.command, &method));
                if let Err(error) = handle.answer(id, answer) {
                    tracing::debug!("an answer was not sent: {error}");
                }
                Ok(())
            }
            // The command itself says why the guest ended.
            Event::Terminated { .. }
            | Event::Message { .. }
            | Event::Control { .. }
            | Event::Destroyed(_) => Ok(()),
        }
    }
}

/// Why a guest gets no WebSocket.
fn no_sockets(command: &str) -> String {
    format!(
        "no network under `{command}`: stockade run and stockade serve open WebSockets for guests that may"
    )
}

/// The answer to what a guest asks for, where there is no host.
fn refused(command: &str, method: &str) -> stockade::GuestError {
    let message = match method {
        "fetch" => format!(
            "no network under `{command}` without --allow-fetch HOST. A host script (stockade run) answers fetch \
             with isolate.onRequest('fetch', …), and a site's data_guard names the hosts (stockade serve)"
        ),
        method => format!(
            "the host has no handler for the request '{method}': there is no host script under `{command}`"
        ),
    };
    stockade::GuestError::new(message)
}
