//! One client: its sandboxes, its runs, and the loop that reads its messages.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use stockade::run::{Outcome, Run, Runner, Session};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::codec::FramedRead;
use tokio_util::sync::CancellationToken;

use super::lines::{LineError, Lines, MAX_LINE_BYTES};
use super::message::{self, Fault, Id, Incoming, Kind, answer};
use super::outbox::{self, Gone, Outbox};
use super::params::{self, Cancel, Close, Initialize, Open, RunParams, Stats};
use super::shares::{Part, Peer, Shares};
use super::tools::ToolCalls;

/// Open sandboxes of a connection.
const MAX_SANDBOXES: usize = 256;

/// Isolates that all sandboxes of a connection keep ready.
const MAX_POOLED: usize = 256;

/// Runs of a connection at the same time.
const MAX_RUNS: usize = 256;

/// For the answers that wait when a client has said its last.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Lines of a console between a run and the messages to its client.
const STREAMED: usize = 16;

/// Serves one client until it is gone, or the supervisor ends. All that the client opened has ended then.
pub(super) async fn serve(
    read: impl AsyncRead + Unpin,
    write: impl AsyncWrite + Unpin,
    peer: Peer,
    shares: Shares,
    ending: CancellationToken,
) {
    let (outbox, waiting) = Outbox::new(Arc::clone(&shares.waiting), peer);
    let mut connection = Connection {
        tools: Arc::new(ToolCalls::new(outbox.clone())),
        outbox,
        peer,
        shares,
        sandboxes: HashMap::new(),
        opened: 0,
        named: 0,
        runs: Arc::default(),
        tasks: JoinSet::new(),
    };
    let reading = async move {
        tokio::select! {
            biased;
            () = ending.cancelled() => {}
            _gone = connection.read(read) => {}
        }
        // The answers that are there already are written: only runs are given up.
        connection.tasks.shutdown().await;
    };
    let writing = outbox::write(waiting, write);
    tokio::pin!(reading, writing);
    tokio::select! {
        () = &mut reading => {
            // A client may have stopped to read, too.
            let _ = tokio::time::timeout(LAST_ANSWERS, writing).await;
        }
        () = &mut writing => {}
    }
}

/// A sandbox of the client.
struct Opened {
    runner: Runner,
    /// Where all runs share an isolate.
    session: Option<Arc<Session>>,
    closed: CancellationToken,
    /// The parts of the sandboxes, and of the isolates that are kept ready.
    _parts: [Part; 2],
}

type Runs = Arc<Mutex<HashMap<String, CancellationToken>>>;

/// A run among those of its connection. Its place among the runs of all clients is free when this is dropped.
struct Listed {
    name: String,
    runs: Runs,
    _part: Part,
}

impl Listed {
    /// Takes the run from the list. Returns its name.
    fn end(self) -> String {
        self.runs.lock().remove(&self.name);
        self.name
    }
}

struct Connection {
    outbox: Outbox,
    tools: Arc<ToolCalls>,
    peer: Peer,
    shares: Shares,
    sandboxes: HashMap<String, Opened>,
    opened: u64,
    /// Runs that the server has named.
    named: u64,
    runs: Runs,
    tasks: JoinSet<()>,
}

impl Connection {
    /// Reads messages until the client is gone.
    async fn read(&mut self, from: impl AsyncRead + Unpin) -> Result<(), Gone> {
        let lines = Lines::new(Arc::clone(&self.shares.received), self.peer);
        let mut lines = FramedRead::new(from, lines);
        while let Some(line) = lines.next().await {
            while self.tasks.try_join_next().is_some() {}
            let line = match line {
                Ok(line) => line,
                Err(LineError::TooLong) => {
                    let what = format!("a line is longer than {MAX_LINE_BYTES} bytes");
                    let fault = Fault::new(Kind::TooLarge(MAX_LINE_BYTES), what);
                    return self.outbox.send(fault.answer(None)).await;
                }
                Err(LineError::NotText) => {
                    let fault = Fault::new(Kind::Parse, "a line is not UTF-8");
                    return self.outbox.send(fault.answer(None)).await;
                }
                Err(LineError::Exhausted(exhausted)) => {
                    let fault = exhausted.fault("bytes of lines without an end");
                    return self.outbox.send(fault.answer(None)).await;
                }
                Err(LineError::Gone) => return Err(Gone),
            };
            match message::read(&line) {
                Ok(Incoming::Answer { id, result }) => self.tools.answered(id, result),
                Ok(Incoming::Request { id, method, params }) => {
                    self.request(id, &method, params.as_deref()).await?;
                }
                Err(fault) => self.outbox.send(fault.answer(None)).await?,
            }
        }
        Ok(())
    }

    async fn request(
        &mut self,
        id: Option<Id>,
        method: &str,
        params: Option<&RawValue>,
    ) -> Result<(), Gone> {
        let answered = match method {
            // It answers when it is over.
            "run" => match self.run(id.clone(), params) {
                Ok(mut running) => {
                    // Begun here, so that the runs of a session go on in their order.
                    if futures_util::poll!(running.as_mut()).is_pending() {
                        self.tasks.spawn(running);
                    }
                    return Ok(());
                }
                Err(fault) => Err(fault),
            },
            "open" => self.open(params).await,
            "cancel" => params::read(params).map(|Cancel { run }| {
                let run = self.runs.lock().get(&run).cloned();
                let cancelled = run.is_some_and(|run| {
                    run.cancel();
                    true
                });
                json!({ "cancelled": cancelled })
            }),
            "close" => params::read(params).map(|Close { sandbox }| {
                let closed = self.sandboxes.remove(&sandbox).is_some_and(|opened| {
                    opened.closed.cancel();
                    true
                });
                json!({ "closed": closed })
            }),
            "stats" => params::read(params).map(|Stats {}| self.stats()),
            "initialize" => params::read(params).map(|_: Initialize| about()),
            other => {
                let other: String = other.chars().take(64).collect();
                let what = format!("there is no method {other:?}");
                Err(Fault::new(Kind::UnknownMethod, what))
            }
        };
        let Some(id) = id else { return Ok(()) };
        let line = match answered {
            Ok(result) => answer(&id, &result),
            Err(fault) => fault.answer(Some(&id)),
        };
        self.outbox.send(line).await
    }

    async fn open(&mut self, params: Option<&RawValue>) -> Result<serde_json::Value, Fault> {
        let open: Open = params::read(params)?;
        if self.sandboxes.len() >= MAX_SANDBOXES {
            let what = format!("{MAX_SANDBOXES} sandboxes are open");
            return Err(Fault::new(Kind::TooMany(MAX_SANDBOXES), what));
        }
        let sandboxes = self.sandboxes.values();
        let pooled: usize = sandboxes.map(|opened| opened.runner.options().pool).sum();
        let sandbox = (self.shares.sandboxes.take(self.peer, 1))
            .map_err(|exhausted| exhausted.fault("open sandboxes"))?;
        let (ready, peer) = (Arc::clone(&self.shares.pooled), self.peer);
        let (tool, session) = (self.tools.tool(), open.session);
        // Files are written, and what grants name is read.
        let made = tokio::task::spawn_blocking(move || {
            let options = open.options(&tool)?;
            if pooled.saturating_add(options.pool) > MAX_POOLED {
                let what = format!("the sandboxes keep more than {MAX_POOLED} isolates ready");
                return Err(Fault::new(Kind::TooMany(MAX_POOLED), what));
            }
            let ready = (ready.take(peer, options.pool))
                .map_err(|exhausted| exhausted.fault("isolates that are kept ready"))?;
            let runner = Runner::new(options)
                .map_err(|error| Fault::new(Kind::InvalidParams, error.to_string()))?;
            Ok::<_, Fault>((runner, ready))
        });
        let made = made
            .await
            .map_err(|error| Fault::new(Kind::InvalidParams, error.to_string()))?;
        let (runner, ready) = made?;
        self.opened += 1;
        let name = format!("s{}", self.opened);
        let opened = Opened {
            session: session.then(|| Arc::new(runner.session())),
            runner,
            closed: CancellationToken::new(),
            _parts: [sandbox, ready],
        };
        self.sandboxes.insert(name.clone(), opened);
        Ok(json!({ "sandbox": name }))
    }

    /// Prepares a run, which answers when it is over.
    fn run(
        &mut self,
        id: Option<Id>,
        params: Option<&RawValue>,
    ) -> Result<BoxFuture<'static, ()>, Fault> {
        let mut params: RunParams = params::read(params)?;
        let (timeout, files) = params.bounds()?;
        // The sandbox.
        let opened = self.sandboxes.get(&params.sandbox).ok_or_else(|| {
            Fault::new(
                Kind::NoSuchSandbox,
                "there is no such sandbox, or it was closed",
            )
        })?;
        if opened.session.is_some() && !files.is_empty() {
            let what =
                "files: the isolate of a session has its files from its start: give them to open";
            return Err(Fault::new(Kind::InvalidParams, what));
        }
        let (runner, session) = (opened.runner.clone(), opened.session.clone());
        let cancel = opened.closed.child_token();
        // Its place among the runs.
        let listed = self.list(params.run.take(), &cancel)?;
        // What it sends as it goes on.
        let (console, lines) = match params.stream {
            true => Some(mpsc::channel(STREAMED)).unzip(),
            false => (None, None),
        };
        let run = Run {
            code: params.code,
            id: listed.name.clone(),
            timeout,
            files,
            console,
            cancel,
        };
        let outbox = self.outbox.clone();
        Ok(Box::pin(async move {
            let running = async {
                match session {
                    Some(session) => session.run(run).await,
                    None => runner.run(run).await,
                }
            };
            let (outcome, ()) = tokio::join!(running, stream(&outbox, &listed.name, lines));
            let name = listed.end();
            if let Some(id) = id {
                // A client that is gone wants no answer.
                let _ = outbox.send(outcome_of(&id, &name, &outcome)).await;
            }
        }))
    }

    /// Lists a run by its name, or by one that the server chooses.
    fn list(&mut self, name: Option<String>, cancel: &CancellationToken) -> Result<Listed, Fault> {
        let mut runs = self.runs.lock();
        let name = match name {
            Some(name) if name.is_empty() || name.len() > 64 => {
                let what = "run: expected a name of 1 to 64 bytes";
                return Err(Fault::new(Kind::InvalidParams, what));
            }
            Some(name) => name,
            None => loop {
                self.named += 1;
                let name = format!("run-{}", self.named);
                if !runs.contains_key(&name) {
                    break name;
                }
            },
        };
        if runs.len() >= MAX_RUNS {
            let what = format!("{MAX_RUNS} runs go on");
            return Err(Fault::new(Kind::TooMany(MAX_RUNS), what));
        }
        if runs.contains_key(&name) {
            return Err(Fault::new(Kind::RunExists, "there is a run of this name"));
        }
        let part = (self.shares.runs.take(self.peer, 1))
            .map_err(|exhausted| exhausted.fault("runs at the same time"))?;
        runs.insert(name.clone(), cancel.clone());
        Ok(Listed {
            name,
            runs: Arc::clone(&self.runs),
            _part: part,
        })
    }

    fn stats(&self) -> serde_json::Value {
        let isolates: usize = (self.sandboxes.values())
            .map(|opened| opened.runner.isolates())
            .sum();
        json!({
            "sandboxes": self.sandboxes.len(),
            "runs": self.runs.lock().len(),
            "tools": self.tools.waiting(),
            "isolates": isolates,
            "clients": self.shares.clients.used(),
        })
    }
}

fn about() -> serde_json::Value {
    let levels: Vec<&str> = (stockade::backends().iter())
        .map(|(level, _)| level.name())
        .collect();
    json!({
        "name": "stockade",
        "version": env!("CARGO_PKG_VERSION"),
        "v8": stockade::V8_VERSION,
        "protocol": 1,
        "levels": levels,
    })
}

/// Sends the lines of a console as they come.
async fn stream(outbox: &Outbox, run: &str, lines: Option<mpsc::Receiver<stockade::run::Line>>) {
    let Some(mut lines) = lines else { return };
    while let Some(line) = lines.recv().await {
        let params = json!({ "run": run, "level": line.level, "text": line.text });
        let line = message::request(None, "console", &params);
        if outbox.send(line).await.is_err() {
            return;
        }
    }
}

fn outcome_of(id: &Id, run: &str, outcome: &Outcome) -> String {
    #[derive(Serialize)]
    struct Named<'a> {
        run: &'a str,
        #[serde(flatten)]
        outcome: &'a Outcome,
    }
    answer(id, &Named { run, outcome })
}
