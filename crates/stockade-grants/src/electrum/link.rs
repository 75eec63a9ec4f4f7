//! The one connection of a grant, shared by all its owners.
//!
//! A task has the connection. It is made when something is asked, kept while something is subscribed to, and closed
//! when nothing was asked for [`IDLE`]. What nobody is subscribed to any more is ended with the server at once; a server
//! that cannot do that is left as soon as nobody is subscribed to anything. When the connection breaks, what waits for an
//! answer fails, and what is subscribed to is subscribed to again on the next one. Connections that break as soon as they
//! are made are made more and more seldom.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use stockade_broker::TlsClientOptions;
use stockade_capability::{ErrorName, Owner};
use stockade_config::ElectrumGrant;
use stockade_protocol::GuestError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::choose::{Connection, Plan};
use super::subscriptions::{First, Subscription, Subscriptions, Topic};
use super::wire::{Fault, Line, state_of};
use crate::{GrantError, Ground};

/// Questions that wait for the connection.
const MOST_QUEUED: usize = 256;

/// Questions without an answer on one connection.
const MOST_PENDING: usize = 1024;

/// Bytes of the parameter of a subscription: the hexadecimal digits of a script's hash.
const MOST_TEXT: usize = 64;

/// How long a server may take to read a question.
const WRITE: Duration = Duration::from_secs(10);

/// How often a server is asked for nothing, so that it does not close the connection, and whether another server is
/// to be asked.
const PULL: Duration = Duration::from_secs(60);

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(300);

/// How often several servers are compared.
const COMPARE: Duration = Duration::from_secs(600);

/// How long a failure to connect is the answer to all that ask.
pub(super) const BACKOFF: Duration = Duration::from_secs(2);

/// How long at most a connection that ends as soon as it is made is the answer to all that ask: each one more doubles it.
const MOST_BACKOFF: Duration = Duration::from_secs(60);

/// A connection that lives for less than this ended as soon as it was made.
const SHORT: Duration = Duration::from_secs(10);

type Answer = Result<Box<RawValue>, GuestError>;

struct Question {
    method: String,
    params: Value,
    /// What it subscribes to, and who gets the result as the first state.
    first: Option<(Topic, First)>,
    answer: oneshot::Sender<Answer>,
}

/// What an answer is for.
enum Pending {
    Asked(Option<First>, oneshot::Sender<Answer>),
    /// A subscription that was made again.
    Again(Topic),
    /// The end of a subscription.
    Unsubscribed,
    /// The host's own.
    Nothing,
}

pub(super) struct Link {
    plan: Plan,
    subscriptions: Arc<Subscriptions>,
    questions: Mutex<Option<mpsc::Sender<Question>>>,
}

impl Link {
    /// Without a connection yet.
    pub(super) fn new(grant: &ElectrumGrant, ground: &Ground) -> Result<Self, GrantError> {
        let tls = grant.servers.iter().any(|server| server.tls).then(|| {
            let options = TlsClientOptions {
                ca: grant.ca.clone(),
                ..TlsClientOptions::default()
            };
            ground.network.tls(&options)
        });
        Ok(Self {
            plan: Plan {
                network: ground.network.clone(),
                tls: tls.transpose()?,
                servers: grant.servers.clone(),
                chain: super::chain(grant.network),
                agree: grant.agree,
            },
            subscriptions: Subscriptions::new(grant.limits.handles, ground.handles.clone()),
            questions: Mutex::default(),
        })
    }

    /// Asks a server.
    pub(super) async fn request(&self, method: &str, params: Value) -> Answer {
        self.ask(method.to_owned(), params, None).await
    }

    /// Subscribes to what a method and its parameters, which are texts, name.
    pub(super) async fn subscribe(
        &self,
        owner: &Owner,
        method: String,
        params: Value,
    ) -> Result<Subscription, GuestError> {
        if !super::wire::is_subscription(&method) {
            return Err(ErrorName::Type.error("the method is none that subscribes"));
        }
        let texts: Vec<String> = serde_json::from_value(params.clone())
            .map_err(|_| ErrorName::Type.error("the parameters of a subscription are texts"))?;
        if texts.len() > 1 || texts.iter().any(|text| text.len() > MOST_TEXT) {
            return Err(ErrorName::Range.error(format!(
                "a subscription has at most one parameter, of at most {MOST_TEXT} bytes"
            )));
        }
        let topic = (method.clone(), texts);
        let subscription = self.subscriptions.add(owner, topic.clone())?;
        // Its state now, or why the server refuses it.
        self.ask(method, params, Some((topic, subscription.first())))
            .await?;
        Ok(subscription)
    }

    /// Ends the subscriptions of an owner.
    pub(super) fn ended(&self, owner: &Owner) {
        self.subscriptions.ended(owner);
    }

    async fn ask(&self, method: String, params: Value, first: Option<(Topic, First)>) -> Answer {
        let (answer, answered) = oneshot::channel();
        let question = Question {
            method,
            params,
            first,
            answer,
        };
        self.questions()
            .try_send(question)
            .map_err(|_| ErrorName::Busy.error("too many questions wait for the server"))?;
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Where the task takes its questions, which is started with the first one. It ends with the link.
    fn questions(&self) -> mpsc::Sender<Question> {
        let mut questions = self.questions.lock();
        let running = questions.as_ref().filter(|sender| !sender.is_closed());
        if let Some(running) = running {
            return running.clone();
        }
        let (sender, receiver) = mpsc::channel(MOST_QUEUED);
        let task = Task {
            plan: self.plan.clone(),
            subscriptions: Arc::clone(&self.subscriptions),
            questions: receiver,
        };
        tokio::spawn(task.run());
        *questions = Some(sender.clone());
        sender
    }
}

fn lost() -> GuestError {
    ErrorName::Own("ElectrumError")
        .error("the connection to the server was lost before it answered")
}

/// Why a connection is over.
enum Over {
    /// Nothing is asked any more.
    Closed,
    /// It broke, or was idle.
    Ended,
    /// The server still has subscriptions that nobody reads.
    Left,
    /// Another server is to be asked.
    Switch(Box<Connection>),
}

struct Task {
    plan: Plan,
    subscriptions: Arc<Subscriptions>,
    questions: mpsc::Receiver<Question>,
}

impl Task {
    async fn run(mut self) {
        // Connections in a row that ended as soon as they were made. After the first one another is made at once.
        let mut short = 0_u32;
        loop {
            // With subscriptions a connection is wanted, whether or not anything is asked.
            let mut first = None;
            if self.subscriptions.topics().is_empty() {
                match self.questions.recv().await {
                    Some(question) => first = Some(question),
                    None => return,
                }
            }
            match self.plan.connect().await {
                Ok(connection) => {
                    let began = Instant::now();
                    let mut over = Live::serve(&mut self, connection, first).await;
                    while let Over::Switch(connection) = over {
                        over = Live::serve(&mut self, *connection, None).await;
                    }
                    if matches!(over, Over::Closed) {
                        return;
                    }
                    short = match matches!(over, Over::Ended) && began.elapsed() < SHORT {
                        true => short.saturating_add(1),
                        false => 0,
                    };
                    let why = "the server ends connections as soon as they are made";
                    if short > 1 && !self.refuse(None, why, backoff(short - 2)).await {
                        return;
                    }
                }
                Err(why) => {
                    if !self.refuse(first, &why, BACKOFF).await {
                        return;
                    }
                }
            }
        }
    }

    /// Answers all that is asked within `time` with why there is no connection; false when the link is gone.
    async fn refuse(&mut self, first: Option<Question>, why: &str, time: Duration) -> bool {
        let refusal = || ErrorName::Own("ElectrumError").error(why);
        if let Some(first) = first {
            let _ = first.answer.send(Err(refusal()));
        }
        let until = Instant::now() + time;
        loop {
            match tokio::time::timeout_at(until, self.questions.recv()).await {
                Ok(Some(question)) => {
                    let _ = question.answer.send(Err(refusal()));
                }
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }
}

/// How long to wait after `before` waits in a row.
fn backoff(before: u32) -> Duration {
    (BACKOFF * 2_u32.pow(before.min(5))).min(MOST_BACKOFF)
}

/// A connection that is in use.
struct Live<'a> {
    task: &'a mut Task,
    connection: Connection,
    pending: HashMap<u64, Pending>,
    next: u64,
    used: Instant,
    /// What the server was asked to subscribe to.
    topics: HashSet<Topic>,
    /// The server refused to end a subscription.
    keeps: bool,
}

impl<'a> Live<'a> {
    async fn serve(task: &'a mut Task, connection: Connection, first: Option<Question>) -> Over {
        let mut live = Live {
            next: connection.next(),
            task,
            connection,
            pending: HashMap::new(),
            used: Instant::now(),
            topics: HashSet::new(),
            keeps: false,
        };
        for topic in live.task.subscriptions.topics() {
            let params = json!(topic.1);
            live.topics.insert(topic.clone());
            if live
                .write(&topic.0.clone(), params, Pending::Again(topic))
                .await
                .is_err()
            {
                return Over::Ended;
            }
        }
        if let Some(first) = first
            && live.question(first).await.is_err()
        {
            return Over::Ended;
        }
        live.run().await
    }

    async fn run(&mut self) -> Over {
        let mut ticks = tokio::time::interval(PULL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut compared = Instant::now();
        let mut comparing: Option<JoinHandle<Result<Connection, String>>> = None;
        let subscriptions = Arc::clone(&self.task.subscriptions);
        loop {
            if self.keeps && self.pending.is_empty() && subscriptions.topics().is_empty() {
                return Over::Left;
            }
            tokio::select! {
                line = self.connection.lines.next() => match line {
                    Some(Ok(line)) if self.line(&line) => {}
                    // The server broke off, sent a line that is too long, or broke the protocol.
                    _ => return Over::Ended,
                },
                question = self.task.questions.recv() => {
                    let Some(question) = question else { return Over::Closed };
                    if self.question(question).await.is_err() {
                        return Over::Ended;
                    }
                }
                () = subscriptions.left() => {
                    if self.unsubscribe().await.is_err() {
                        return Over::Ended;
                    }
                }
                _ = ticks.tick() => {
                    let wanted = !subscriptions.topics().is_empty() || !self.pending.is_empty();
                    if !wanted && self.used.elapsed() > IDLE {
                        return Over::Ended;
                    }
                    if self.write("server.ping", json!([]), Pending::Nothing).await.is_err() {
                        return Over::Ended;
                    }
                    if self.task.plan.servers.len() > 1 && compared.elapsed() > COMPARE && comparing.is_none() {
                        let plan = self.task.plan.clone();
                        comparing = Some(tokio::spawn(async move { plan.connect().await }));
                    }
                }
                found = async { comparing.as_mut()?.await.ok() }, if comparing.is_some() => {
                    (comparing, compared) = (None, Instant::now());
                    match found {
                        Some(Ok(found)) if found.server != self.connection.server => {
                            return Over::Switch(Box::new(found));
                        }
                        Some(Ok(_)) | None => {}
                        // The servers agree no longer: what this one says is not to be believed.
                        Some(Err(_)) => return Over::Ended,
                    }
                }
            }
        }
    }

    async fn question(&mut self, question: Question) -> Result<(), ()> {
        self.used = Instant::now();
        if self.pending.len() >= MOST_PENDING {
            // Those whose guests gave up need no answer.
            self.pending.retain(|_, pending| match pending {
                Pending::Asked(_, answer) => !answer.is_closed(),
                Pending::Again(_) | Pending::Unsubscribed | Pending::Nothing => true,
            });
        }
        if self.pending.len() >= MOST_PENDING {
            let busy = ErrorName::Busy.error("the server owes too many answers");
            let _ = question.answer.send(Err(busy));
            return Ok(());
        }
        let first = question.first.map(|(topic, first)| {
            self.topics.insert(topic);
            first
        });
        let pending = Pending::Asked(first, question.answer);
        self.write(&question.method, question.params, pending).await
    }

    /// Ends subscriptions with the server that nobody reads any more. Those to blocks stay: there is one.
    async fn unsubscribe(&mut self) -> Result<(), ()> {
        let subscriptions = Arc::clone(&self.task.subscriptions);
        let unread: Vec<Topic> = self
            .topics
            .extract_if(|topic| !subscriptions.is_read(topic))
            .collect();
        for (method, params) in unread {
            if method == "blockchain.scripthash.subscribe" {
                let method = "blockchain.scripthash.unsubscribe";
                self.write(method, json!(params), Pending::Unsubscribed)
                    .await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self, method: &str, params: Value, pending: Pending) -> Result<(), ()> {
        let id = self.next;
        self.next += 1;
        let text =
            json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        self.pending.insert(id, pending);
        let sent = tokio::time::timeout(WRITE, self.connection.lines.send(text)).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            _ => Err(()),
        }
    }

    /// Takes a line of the server's; false where it breaks the protocol.
    fn line(&mut self, text: &str) -> bool {
        let Ok(line) = serde_json::from_str::<Line>(text) else {
            return false;
        };
        let Some(id) = line.id else {
            let (Some(method), Some(params)) = (line.method, line.params) else {
                return false;
            };
            if let Some((key, state)) = state_of(&params) {
                self.task.subscriptions.publish(&(method, key), state.get());
            }
            return true;
        };
        // An answer to what was never asked, or was answered.
        let Some(pending) = self.pending.remove(&id) else {
            return false;
        };
        let result = match (line.result, line.error) {
            (_, Some(fault)) => Err(fault),
            (Some(result), None) => Ok(result),
            // A result that is null is none for the parser.
            (None, None) => {
                RawValue::from_string("null".to_owned()).map_err(|_| Fault::Text(String::new()))
            }
        };
        self.answer(pending, result);
        true
    }

    fn answer(&mut self, pending: Pending, result: Result<Box<RawValue>, Fault>) {
        match (pending, result) {
            (Pending::Asked(first, answer), Ok(result)) => {
                if let Some(first) = first {
                    first.give(result.get());
                }
                let _ = answer.send(Ok(result));
            }
            (Pending::Asked(_, answer), Err(fault)) => {
                let (code, message) = fault.shown();
                let name = ErrorName::Own("ElectrumError");
                let error = match code {
                    Some(code) => name.coded(code.to_string(), message),
                    None => name.error(message),
                };
                let _ = answer.send(Err(error));
            }
            (Pending::Again(topic), Ok(state)) => {
                self.task.subscriptions.publish(&topic, state.get());
            }
            (Pending::Unsubscribed, Err(_)) => self.keeps = true,
            (Pending::Again(_) | Pending::Unsubscribed | Pending::Nothing, _) => {}
        }
    }
}
