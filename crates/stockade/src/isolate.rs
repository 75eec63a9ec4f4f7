//! One isolate, from the host's side.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde_json::Value;
use stockade_protocol::{GuestError, Payload};
use stockade_rpc::Guest;
use stockade_supervisor::{CallError, Event, EventQueue, SendError, Stats, Turn};

use crate::granted::Granted;
use crate::{Handle, env};

type Answer = Pin<Box<dyn Future<Output = Result<Payload, GuestError>> + Send>>;
type Handler = Arc<dyn Fn(Payload) -> Answer + Send + Sync>;

/// What [`Isolate::next_or_idle`] gives.
#[derive(Debug)]
pub enum Next {
    /// Something happened.
    Event(Event),
    /// The isolate has nothing to do: nothing happens before it is given something.
    Idle,
    /// [`Event::Destroyed`] was the last event.
    Ended,
}

/// One isolate: send to it, call it, receive its events. `Send`; dropping it destroys the isolate.
///
/// [`Isolate::handle`] gives a cheap clone for sending from elsewhere.
pub struct Isolate {
    handle: Handle,
    queue: Arc<EventQueue>,
    handlers: HashMap<String, Handler>,
    /// With their places in the queue, which stay taken: a guest that nobody listens to waits.
    events: VecDeque<(Event, usize)>,
    ended: bool,
    /// What it is granted, until it has ended.
    granted: Option<Granted>,
}

impl Drop for Isolate {
    fn drop(&mut self) {
        self.handle.destroy();
    }
}

impl Isolate {
    pub(crate) fn new(handle: Handle, queue: Arc<EventQueue>, granted: Option<Granted>) -> Self {
        handle.listen();
        Self {
            handle,
            queue,
            handlers: HashMap::new(),
            events: VecDeque::new(),
            ended: false,
            granted,
        }
    }

    /// The isolate's number within its sandbox, from 0.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.handle.id()
    }

    /// For sending, calling and ending from other tasks.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs a script, JavaScript or TypeScript; what it throws comes as [`Event::Uncaught`].
    ///
    /// # Errors
    /// When the isolate has ended or its queue is full.
    pub fn execute(&self, code: impl Into<String>) -> Result<(), SendError> {
        self.handle.execute(code)
    }

    /// Sends an event to the guest's `NETWORK.on` handlers.
    ///
    /// # Errors
    /// When the isolate has ended, its queue is full, or the message too large.
    pub fn send(&self, name: impl Into<String>, data: Payload) -> Result<(), SendError> {
        self.handle.send(name, data)
    }

    /// Runs a script and gives the JSON value of its last expression; promises are awaited, and
    /// requests that have a handler are answered meanwhile.
    ///
    /// Other events keep their places in the queue meanwhile. A guest that sends more than
    /// [`MAX_QUEUE_MESSAGES`](crate::bounds::MAX_QUEUE_MESSAGES) events or
    /// [`MAX_QUEUE_BYTES`](crate::bounds::MAX_QUEUE_BYTES) in one call waits for room, with its clocks stopped,
    /// and the call waits with it: for ever where neither `request_timeout` nor the caller bounds it. The caller
    /// sees it by [`Handle::events_full`], awaited next to the call, and has to give the call up to take events.
    /// To take them during the call, make it with [`Handle::evaluate`] and read [`Isolate::next`] next to it.
    ///
    /// # Errors
    /// What the guest threw, or why there is no reply.
    pub async fn evaluate(&mut self, code: impl Into<String>) -> Result<Payload, CallError> {
        let (handle, code) = (self.handle.clone(), code.into());
        self.while_serving(async move { handle.evaluate(code).await })
            .await
    }

    /// Waits until the isolate's main module has run: until it has been loaded and its top-level `await` has
    /// settled. Requests that have a handler are answered meanwhile. `request_timeout` does not bound it, and a
    /// guest that fills its queue of events waits for ever, as in [`Isolate::evaluate`].
    ///
    /// # Errors
    /// Why the module did not run, or why that is not known.
    pub async fn module_ready(&mut self) -> Result<(), CallError> {
        let handle = self.handle.clone();
        self.while_serving(async move { handle.ready().await })
            .await
    }

    /// Calls a function that the guest exports or has made global, with JSON arguments, once its main module
    /// has run; promises are awaited, and requests that have a handler are answered meanwhile. A guest that fills
    /// its queue of events waits, as in [`Isolate::evaluate`].
    ///
    /// # Errors
    /// What the guest threw, or why there is no reply.
    pub async fn call<A: Into<Value> + Clone>(
        &mut self,
        name: impl Into<String>,
        args: &[A],
    ) -> Result<Payload, CallError> {
        let args = Value::Array(args.iter().cloned().map(Into::into).collect());
        let (handle, name) = (self.handle.clone(), name.into());
        self.while_serving(async move {
            handle
                .call(name, Payload::from_json(args.to_string()))
                .await
        })
        .await
    }

    /// Answers the guest's requests of this method. The handler runs on the caller's tokio runtime.
    pub fn on_request<F, R>(&mut self, method: impl Into<String>, handler: F)
    where
        F: Fn(Payload) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Payload, GuestError>> + Send + 'static,
    {
        self.handlers
            .insert(method.into(), Arc::new(move |data| Box::pin(handler(data))));
    }

    /// Answers the guest's calls of the function at this path of its `NETWORK.env`, which
    /// [`name_env_functions`](crate::name_env_functions) put there. The handler takes a JSON array of
    /// arguments.
    pub fn serve<F, R>(&mut self, path: &str, handler: F)
    where
        F: Fn(Payload) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Payload, GuestError>> + Send + 'static,
    {
        self.on_request(format!("{}{path}", env::PREFIX), handler);
    }

    /// The next event; `None` after [`Event::Destroyed`]. Requests that have a handler are answered
    /// and not shown; one without must be answered with [`Handle::answer`], and a WebSocket that the guest opens
    /// with events, or [`refuse_socket`].
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pop() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            let queue = Arc::clone(&self.queue);
            self.sort(queue.turn().await);
        }
    }

    /// The next event, or [`Next::Idle`] where the isolate has no message, no timer and no request that
    /// waits for its answer. A promise of the guest that is open then never settles by itself.
    pub async fn next_or_idle(&mut self) -> Next {
        let queue = Arc::clone(&self.queue);
        std::future::poll_fn(|cx| {
            loop {
                if let Some(event) = self.pop() {
                    return Poll::Ready(Next::Event(event));
                }
                if self.ended {
                    return Poll::Ready(Next::Ended);
                }
                if let Poll::Ready(turn) = queue.poll_turn(cx) {
                    self.sort(turn);
                    continue;
                }
                // In this order: an answer is work before what was asked for is over in the other's eyes.
                let waits = self.handle.stats().requests > 0
                    || self.granted.as_ref().is_some_and(|granted| {
                        granted.guest.watch(cx);
                        granted.guest.is_busy()
                    });
                return match waits || queue.has_work() {
                    true => Poll::Pending,
                    false => Poll::Ready(Next::Idle),
                };
            }
        })
        .await
    }

    /// The next event, if it has happened by now.
    pub fn try_next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pop() {
                return Some(event);
            }
            let queue = Arc::clone(&self.queue);
            match queue.poll_turn(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(turn) => self.sort(turn),
                Poll::Pending => return None,
            }
        }
    }

    /// The oldest event that is kept.
    fn pop(&mut self) -> Option<Event> {
        let (event, place) = self.events.pop_front()?;
        self.handle.release(place);
        self.ended |= matches!(event, Event::Destroyed(_));
        Some(event)
    }

    /// Answers requests that have handlers, keeps the rest for [`Isolate::next`].
    fn sort(&mut self, mut turn: Turn) {
        while let Some((event, place)) = turn.take() {
            if matches!(event, Event::Destroyed(_)) {
                // Before anyone learns of its end.
                self.granted = None;
            }
            let event = match &self.granted {
                None => event,
                Some(granted) => match granted.guest.take(event) {
                    Some(event) => event,
                    None => {
                        self.handle.release(place);
                        continue;
                    }
                },
            };
            match event {
                Event::Request { id, method, data } if self.handlers.contains_key(&method) => {
                    let Some(handler) = self.handlers.get(&method).cloned() else {
                        continue;
                    };
                    let handle = self.handle.clone();
                    handle.release(place);
                    tokio::spawn(async move {
                        let result = handler(data).await;
                        if let Err(error) = handle.answer(id, result) {
                            tracing::debug!("an answer was not sent: {error}");
                        }
                    });
                }
                event => self.events.push_back((event, place)),
            }
        }
        turn.end(Duration::ZERO);
    }

    async fn while_serving<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let queue = Arc::clone(&self.queue);
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                turn = queue.turn() => self.sort(turn),
            }
        }
    }

    /// What it uses now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// Ends the isolate; calls to it fail.
    pub fn destroy(&self) {
        self.handle.destroy();
    }
}

/// For a server: requests that have a handler are answered, those that have none rejected, WebSockets refused, and
/// all other events are dropped.
impl From<Isolate> for Guest {
    fn from(mut isolate: Isolate) -> Self {
        let handle = isolate.handle();
        Self::new(handle.clone(), async move {
            while let Some(event) = isolate.next().await {
                refuse_socket(&handle, &event, "the host opens no WebSockets");
                if let Event::Request { id, method, .. } = event {
                    reject(&handle, id, &method);
                }
            }
        })
    }
}

/// The event by which a guest asks for a WebSocket.
const OPEN_SOCKET: &str = "ws.open";

/// The event that says what happens to a guest's WebSockets. Read by `stockade_realm/websocket.js`.
const SOCKET_EVENT: &str = "__ws_event";

/// Fails the WebSocket that a guest wants to open, where `event` is that wish: its `error` and `close` events
/// fire with this reason. False for any other event. A host that plays no other side of the guest's sockets does
/// this, or they wait for ever.
pub fn refuse_socket(handle: &Handle, event: &Event, why: &str) -> bool {
    let Event::Message { name, data } = event else {
        return false;
    };
    if name != OPEN_SOCKET {
        return false;
    }
    #[derive(serde::Deserialize)]
    struct Open {
        conn_id: u64,
    }
    // What names no socket is none of the runtime's own.
    if let Ok(Open { conn_id }) = data.read() {
        let refusal = serde_json::json!({
            "conn_id": conn_id, "event_type": "error", "data": { "message": why },
        });
        if let Err(error) = handle.send(SOCKET_EVENT, Payload::from_json(refusal.to_string())) {
            tracing::debug!("a WebSocket was not refused: {error}");
        }
    }
    true
}

/// Answers a guest's request whose method has no handler.
pub fn reject(handle: &Handle, id: stockade_protocol::RequestId, method: &str) {
    let error = GuestError::new(format!(
        "the host has no handler for the request '{method}'"
    ));
    if let Err(error) = handle.answer(id, Err(error)) {
        tracing::debug!("an answer was not sent: {error}");
    }
}
