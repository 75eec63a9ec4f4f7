//! One isolate, from the host's side.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;
use stockade_protocol::{GuestError, Payload};
use stockade_supervisor::{CallError, Event, Handle, Hub, SendError, Stats};

type Answer = Pin<Box<dyn Future<Output = Result<Payload, GuestError>> + Send>>;
type Handler = Arc<dyn Fn(Payload) -> Answer + Send + Sync>;

/// One isolate: send to it, call it, hear its events. `Send`; dropping it destroys the isolate.
///
/// [`Isolate::handle`] gives a cheap clone for sending from elsewhere.
pub struct Isolate {
    handle: Handle,
    hub: Arc<Hub>,
    handlers: HashMap<String, Handler>,
    events: VecDeque<Event>,
    ended: bool,
}

impl Drop for Isolate {
    fn drop(&mut self) {
        self.handle.destroy();
    }
}

impl Isolate {
    pub(crate) fn new(handle: Handle, hub: Arc<Hub>) -> Self {
        Self {
            handle,
            hub,
            handlers: HashMap::new(),
            events: VecDeque::new(),
            ended: false,
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
    /// # Errors
    /// What the guest threw, or why there is no reply.
    pub async fn evaluate(&mut self, code: impl Into<String>) -> Result<Payload, CallError> {
        let (handle, code) = (self.handle.clone(), code.into());
        self.while_serving(async move { handle.evaluate(code).await })
            .await
    }

    /// Calls a function that the guest exports or has made global, with JSON arguments; promises are
    /// awaited, and requests that have a handler are answered meanwhile.
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

    /// The next event; `None` after [`Event::Destroyed`]. Requests that have a handler are answered
    /// and not shown; one without must be answered with [`Handle::answer`].
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                if matches!(event, Event::Destroyed(_)) {
                    self.ended = true;
                }
                return Some(event);
            }
            if self.ended {
                return None;
            }
            let (_, events) = self.hub.events().await;
            self.sort(events);
        }
    }

    /// Answers requests that have handlers, keeps the rest for [`Isolate::next`].
    fn sort(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Request { id, method, data } if self.handlers.contains_key(&method) => {
                    let Some(handler) = self.handlers.get(&method).cloned() else {
                        continue;
                    };
                    let handle = self.handle.clone();
                    tokio::spawn(async move {
                        let result = handler(data).await;
                        if let Err(error) = handle.answer(id, result) {
                            log::debug!("an answer was not sent: {error}");
                        }
                    });
                }
                event => self.events.push_back(event),
            }
        }
    }

    async fn while_serving<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let hub = Arc::clone(&self.hub);
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                (_, events) = hub.events() => self.sort(events),
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
