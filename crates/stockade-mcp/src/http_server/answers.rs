//! Answers that a client can read again when its stream broke (MCP, "Resumability and Redelivery"): while the request is
//! worked on, and for a while after that.
//!
//! rmcp has a cache for this, and drops it with the answer itself. Here a task takes the events of each request from rmcp,
//! whether a client reads them or not, and a stream reads what is kept.
//!
//! Invariants:
//! 1. What is kept has a bound for each connection of MCP and for all. Beyond it the oldest answers that nobody reads are
//!    dropped, of the connection that has the most.
//! 2. A client reads answers of its own connection of MCP alone.
//! 3. A client that does not read holds up nothing: of one answer, notifications beyond a bound are left out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::Stream;
use parking_lot::Mutex;
use rmcp::model::ServerJsonRpcMessage;
use rmcp::transport::common::server_side_http::{ServerSseMessage, SessionId};
use rmcp::transport::streamable_http_server::session::local::LocalSessionHandle;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::bounds::{
    KEPT_ANSWER_TIME, KEPT_ANSWERS_BYTES, KEPT_ANSWERS_OF_CONNECTION, KEPT_NOTIFICATIONS_BYTES,
};

/// Bytes that an event has besides its message, and an answer besides its events.
const OVERHEAD: usize = 1 << 10;

/// How often answers that are too old are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// The answers of all connections.
pub(super) struct Answers(Mutex<State>);

#[derive(Default)]
struct State {
    bytes: usize,
    of: HashMap<SessionId, OfConnection>,
}

#[derive(Default)]
struct OfConnection {
    bytes: usize,
    /// By the number of the request, which grows: the oldest first.
    answers: BTreeMap<u64, Answer>,
}

/// What was sent for one request.
struct Answer {
    /// Ends the task that takes its events.
    _kept: DropGuard,
    events: VecDeque<Event>,
    bytes: usize,
    /// Bytes of the events that may be left out.
    notifications: usize,
    readers: usize,
    wakers: Vec<Waker>,
    ended: Option<Instant>,
}

struct Event {
    index: u64,
    size: usize,
    is_notification: bool,
    message: ServerSseMessage,
}

/// A stream of what is sent for one request.
pub(super) struct Reading {
    answers: Arc<Answers>,
    connection: SessionId,
    request: u64,
    /// The event that was read last.
    last: Option<u64>,
}

impl Answers {
    pub(super) fn new() -> Arc<Self> {
        let answers = Arc::new(Self(Mutex::default()));
        tokio::spawn(sweep(Arc::downgrade(&answers)));
        answers
    }

    /// Begins to keep the answer to a request, and reads it.
    pub(super) fn begin(
        self: &Arc<Self>,
        session: &LocalSessionHandle,
        request: u64,
        events: Receiver<ServerSseMessage>,
    ) -> Reading {
        let connection = session.id().clone();
        let kept = CancellationToken::new();
        {
            let mut state = self.0.lock();
            let of = state.of.entry(Arc::clone(&connection)).or_default();
            let answer = Answer::new(kept.clone());
            of.answers.insert(request, answer);
            state.grow(&connection, OVERHEAD);
        }
        let keeping = keep(Arc::clone(self), session.clone(), request, events, kept);
        let reading = self.reading(&connection, request, None);
        tokio::spawn(keeping);
        reading
    }

    /// Reads an answer from the event behind this one. `None` if it is not kept.
    pub(super) fn resume(
        self: &Arc<Self>,
        connection: &SessionId,
        request: u64,
        last: u64,
    ) -> Option<Reading> {
        self.0.lock().answer(connection, request)?;
        Some(self.reading(connection, request, Some(last)))
    }

    /// Forgets all of a connection, which has ended. Who reads gets the end.
    pub(super) fn end(&self, connection: &SessionId) {
        let mut state = self.0.lock();
        if let Some(of) = state.of.remove(connection) {
            state.bytes = state.bytes.saturating_sub(of.bytes);
        }
    }

    fn reading(
        self: &Arc<Self>,
        connection: &SessionId,
        request: u64,
        last: Option<u64>,
    ) -> Reading {
        if let Some(answer) = self.0.lock().answer(connection, request) {
            answer.readers += 1;
        }
        Reading {
            answers: Arc::clone(self),
            connection: Arc::clone(connection),
            request,
            last,
        }
    }

    /// Keeps an event, if the answer is kept.
    fn push(&self, connection: &SessionId, request: u64, message: ServerSseMessage) {
        let size = OVERHEAD + message.message.as_deref().map_or(0, size);
        let mut state = self.0.lock();
        let Some(answer) = state.answer(connection, request) else {
            return;
        };
        let before = answer.bytes;
        answer.push(size, message);
        let (grown, wakers) = (answer.bytes, std::mem::take(&mut answer.wakers));
        match grown.checked_sub(before) {
            Some(more) => state.grow(connection, more),
            None => state.shrink(connection, before - grown),
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Nothing more is sent for a request.
    fn ended(&self, connection: &SessionId, request: u64) {
        let mut state = self.0.lock();
        let Some(answer) = state.answer(connection, request) else {
            return;
        };
        answer.ended = Some(Instant::now());
        let wakers = std::mem::take(&mut answer.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Takes the events of a request from rmcp, to their end.
async fn keep(
    answers: Arc<Answers>,
    session: LocalSessionHandle,
    request: u64,
    mut events: Receiver<ServerSseMessage>,
    kept: CancellationToken,
) {
    let connection = session.id().clone();
    while let Some(Some(event)) = kept.run_until_cancelled(events.recv()).await {
        answers.push(&connection, request, event);
    }
    answers.ended(&connection, request);
    // rmcp keeps what it has of a request that was cancelled. A session that has ended keeps nothing.
    let _ = session.close_request_wise_channel(request).await;
}

/// Drops answers that are too old.
async fn sweep(answers: Weak<Answers>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(answers) = answers.upgrade() else {
            return;
        };
        answers.0.lock().expire(KEPT_ANSWER_TIME);
    }
}

impl State {
    fn answer(&mut self, connection: &SessionId, request: u64) -> Option<&mut Answer> {
        self.of.get_mut(connection)?.answers.get_mut(&request)
    }

    /// An answer of this connection has more bytes: makes room for them.
    fn grow(&mut self, connection: &SessionId, more: usize) {
        self.bytes += more;
        if let Some(of) = self.of.get_mut(connection) {
            of.bytes += more;
        }
        while self.bytes_of(connection) > KEPT_ANSWERS_OF_CONNECTION && self.drop_oldest(connection)
        {
        }
        while self.bytes > KEPT_ANSWERS_BYTES {
            let most = self.of.iter().max_by_key(|(_, of)| of.unread());
            let Some(most) = most.map(|(connection, _)| Arc::clone(connection)) else {
                return;
            };
            if !self.drop_oldest(&most) {
                return;
            }
        }
    }

    fn shrink(&mut self, connection: &SessionId, less: usize) {
        self.bytes = self.bytes.saturating_sub(less);
        if let Some(of) = self.of.get_mut(connection) {
            of.bytes = of.bytes.saturating_sub(less);
        }
    }

    fn bytes_of(&self, connection: &SessionId) -> usize {
        self.of.get(connection).map_or(0, |of| of.bytes)
    }

    /// Drops the oldest answer of a connection that nobody reads. False if there is none.
    fn drop_oldest(&mut self, connection: &SessionId) -> bool {
        let oldest = self.of.get(connection).and_then(|of| {
            let mut unread = of.answers.iter().filter(|(_, answer)| answer.readers == 0);
            unread.next().map(|(request, _)| *request)
        });
        oldest.is_some_and(|request| self.drop_answer(connection, request))
    }

    fn drop_answer(&mut self, connection: &SessionId, request: u64) -> bool {
        let of = self.of.get_mut(connection);
        let Some(answer) = of.and_then(|of| of.answers.remove(&request)) else {
            return false;
        };
        self.shrink(connection, answer.bytes);
        answer.wakers.into_iter().for_each(Waker::wake);
        true
    }

    /// Drops the answers that ended this long ago.
    fn expire(&mut self, after: Duration) {
        let is_old = |answer: &Answer| answer.ended.is_some_and(|at| at.elapsed() >= after);
        let mut old = Vec::new();
        for (connection, of) in &self.of {
            let of_connection = of.answers.iter().filter(|(_, answer)| is_old(answer));
            old.extend(of_connection.map(|(request, _)| (Arc::clone(connection), *request)));
        }
        for (connection, request) in old {
            self.drop_answer(&connection, request);
        }
        self.of.retain(|_, of| !of.answers.is_empty());
    }
}

impl OfConnection {
    /// Bytes of answers that nobody reads.
    fn unread(&self) -> usize {
        let unread = self.answers.values().filter(|answer| answer.readers == 0);
        unread.map(|answer| answer.bytes).sum()
    }
}

impl Answer {
    /// Cancels `kept` when it is dropped.
    fn new(kept: CancellationToken) -> Self {
        Self {
            _kept: kept.drop_guard(),
            events: VecDeque::new(),
            bytes: OVERHEAD,
            notifications: 0,
            readers: 0,
            wakers: Vec::new(),
            ended: None,
        }
    }

    fn push(&mut self, size: usize, message: ServerSseMessage) {
        let next = self.events.back().map_or(0, |last| last.index + 1);
        let named = message.event_id.as_deref().and_then(parse);
        let is_notification = matches!(
            message.message.as_deref(),
            Some(ServerJsonRpcMessage::Notification(_))
        );
        self.events.push_back(Event {
            index: named.map_or(next, |(index, _)| index),
            size,
            is_notification,
            message,
        });
        self.bytes += size;
        if !is_notification {
            return;
        }
        self.notifications += size;
        while self.notifications > KEPT_NOTIFICATIONS_BYTES {
            let oldest = self.events.iter().position(|event| event.is_notification);
            let Some(oldest) = oldest.and_then(|at| self.events.remove(at)) else {
                return;
            };
            self.notifications = self.notifications.saturating_sub(oldest.size);
            self.bytes = self.bytes.saturating_sub(oldest.size);
        }
    }
}

impl Stream for Reading {
    type Item = ServerSseMessage;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut state = this.answers.0.lock();
        let Some(answer) = state.answer(&this.connection, this.request) else {
            return Poll::Ready(None);
        };
        let is_read = |event: &Event| this.last.is_some_and(|last| event.index <= last);
        let at = answer.events.partition_point(is_read);
        if let Some(event) = answer.events.get(at) {
            this.last = Some(event.index);
            return Poll::Ready(Some(event.message.clone()));
        }
        if answer.ended.is_some() {
            return Poll::Ready(None);
        }
        if !answer
            .wakers
            .iter()
            .any(|waker| waker.will_wake(cx.waker()))
        {
            answer.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(answer) = self.answers.0.lock().answer(&self.connection, self.request) {
            answer.readers = answer.readers.saturating_sub(1);
        }
    }
}

/// The number of an event and that of its request, of the id that rmcp gave the event. Events of no request have no such id.
pub(super) fn parse(id: &str) -> Option<(u64, u64)> {
    let (index, request) = id.split_once('/')?;
    Some((index.parse().ok()?, request.parse().ok()?))
}

/// Bytes of a message as JSON.
fn size(message: &ServerJsonRpcMessage) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, message) {
        Ok(()) => count.0,
        // It cannot be sent either.
        Err(_) => 0,
    }
}
