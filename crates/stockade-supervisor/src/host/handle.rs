//! An isolate as its host sees it.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use stockade_limits::IsolateOptions;
use stockade_protocol::bounds::{
    MAX_MESSAGE_BYTES, MAX_MESSAGE_PARTS, MAX_NAME_BYTES, MAX_QUEUE_BYTES, MAX_QUEUE_MESSAGES,
};
use stockade_protocol::{CallId, GuestError, Payload, RequestId, ToIsolate};

use super::side::HostIsolate;
use crate::end::{DestroyReason, End, TerminateReason};
use crate::isolate::queue::Refused;

/// Why a message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The isolate has ended.
    #[error("isolate #{id} is destroyed: {end}")]
    Ended {
        /// The number of the isolate.
        id: u32,
        /// How it ended.
        end: String,
    },
    /// The isolate does not take its messages as fast as they come.
    #[error(
        "isolate #{id} has {messages} messages ({bytes} bytes) waiting; at most {MAX_QUEUE_MESSAGES} messages and {MAX_QUEUE_BYTES} bytes may wait: send less, or await drain() first"
    )]
    Full {
        /// The number of the isolate.
        id: u32,
        /// Messages that wait.
        messages: usize,
        /// Bytes that the waiting messages hold.
        bytes: usize,
    },
    /// One message is too large.
    #[error("a message of {bytes} bytes is above the limit of {MAX_MESSAGE_BYTES}")]
    TooLarge {
        /// Bytes of the message.
        bytes: usize,
    },
    /// One message has too many binary parts.
    #[error("a message with {parts} binary parts is above the limit of {MAX_MESSAGE_PARTS}")]
    TooManyParts {
        /// Binary parts of the message.
        parts: usize,
    },
    /// A name is too long.
    #[error("a name of {bytes} bytes is above the limit of {MAX_NAME_BYTES}")]
    NameTooLong {
        /// Bytes of the name.
        bytes: usize,
    },
}

/// Why a call gave no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The guest threw.
    #[error("{0}")]
    Guest(GuestError),
    /// The call could not be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The isolate ended before it replied.
    #[error("isolate #{id} ended before it replied: {end}")]
    Ended {
        /// The number of the isolate.
        id: u32,
        /// How it ended.
        end: String,
    },
    /// No reply within `requestTimeoutMs`.
    #[error("no reply within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

/// What an isolate uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// CPU time over its life.
    pub cpu: Duration,
    /// Bytes of heap, ArrayBuffers and WebAssembly memory, when last measured.
    pub memory: u64,
    /// Messages to the isolate that wait.
    pub queued_to: usize,
    /// Events of the isolate that wait.
    pub queued_from: usize,
    /// Requests of the guest without an answer.
    pub requests: usize,
    /// Calls without a reply.
    pub calls: usize,
}

/// Sends to an isolate, calls it, ends it. Cheap to clone; dropping it ends nothing.
#[derive(Clone)]
pub struct IsolateHandle {
    isolate: Arc<HostIsolate>,
}

impl IsolateHandle {
    pub(crate) fn new(isolate: Arc<HostIsolate>) -> Self {
        Self { isolate }
    }

    pub(super) fn isolate(&self) -> &Arc<HostIsolate> {
        &self.isolate
    }

    /// The isolate's number within its sandbox, from 0.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.isolate.state.id
    }

    /// What it was created with.
    #[must_use]
    pub fn options(&self) -> &IsolateOptions {
        &self.isolate.state.options
    }

    /// Has its events come to the queue that it was created with; until then they wait.
    pub fn listen(&self) {
        self.isolate.uplink.listen();
    }

    /// How it ended; `None` while it lives.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.isolate.state.termination.end()
    }

    /// Waits until it ends; at once where it has ended. Events that it sent before may still come.
    pub async fn until_end(&self) {
        self.isolate.state.termination.wait().await;
    }

    fn ended(&self) -> String {
        self.end()
            .map_or_else(|| "ended".to_owned(), |end| end.to_string())
    }

    fn push(&self, message: ToIsolate) -> Result<(), SendError> {
        self.push_and(message, || {})
    }

    /// As [`IsolateHandle::push`]; `accepted` is called when there is room, before the guest can take the message.
    fn push_and(&self, message: ToIsolate, accepted: impl FnOnce()) -> Result<(), SendError> {
        self.put(message, accepted)?;
        let flush = self.isolate.uplink.inline_flush();
        if !flush.is_some_and(|flush| flush.flush()) {
            self.isolate.state.inbox.wake_consumer();
        }
        Ok(())
    }

    /// Puts a message into the queue; the caller has the isolate's thread look.
    fn put(&self, message: ToIsolate, accepted: impl FnOnce()) -> Result<(), SendError> {
        let size = message.size();
        if size > MAX_MESSAGE_BYTES {
            return Err(SendError::TooLarge { bytes: size });
        }
        let parts = message.parts();
        if parts > MAX_MESSAGE_PARTS {
            return Err(SendError::TooManyParts { parts });
        }
        let accepted = |was_idle| {
            if was_idle {
                self.isolate.uplink.set_work(true);
            }
            accepted();
        };
        match self.isolate.state.inbox.push(message, size, accepted) {
            Ok(()) => Ok(()),
            Err(Refused::Closed) => Err(SendError::Ended {
                id: self.id(),
                end: self.ended(),
            }),
            Err(Refused::Full { messages, bytes }) => Err(SendError::Full {
                id: self.id(),
                messages,
                bytes,
            }),
        }
    }

    fn check_name(name: &str) -> Result<(), SendError> {
        if name.len() > MAX_NAME_BYTES {
            return Err(SendError::NameTooLong { bytes: name.len() });
        }
        Ok(())
    }

    /// Sends an event to the guest's `NETWORK.on` handlers.
    ///
    /// # Errors
    /// When the isolate has ended, its queue is full, or the message too large.
    pub fn send(&self, name: impl Into<String>, data: Payload) -> Result<(), SendError> {
        let name = name.into();
        Self::check_name(&name)?;
        self.push(ToIsolate::Event { name, data })
    }

    /// Sends a message between the two runtimes.
    ///
    /// # Errors
    /// As [`IsolateHandle::send`].
    pub fn control(&self, name: impl Into<String>, data: Payload) -> Result<(), SendError> {
        let name = name.into();
        Self::check_name(&name)?;
        self.push(ToIsolate::Control { name, data })
    }

    /// Runs a script, JavaScript or TypeScript. What it throws comes as
    /// [`Event::Uncaught`](crate::Event::Uncaught).
    ///
    /// # Errors
    /// As [`IsolateHandle::send`].
    pub fn execute(&self, code: impl Into<String>) -> Result<(), SendError> {
        self.push(ToIsolate::Execute { code: code.into() })
    }

    /// Runs a script and gives the JSON value of its last expression; a promise is awaited.
    ///
    /// A guest whose queue of events is full waits, and the reply with it, until events are taken;
    /// [`IsolateHandle::events_full`] says when that is so.
    ///
    /// # Errors
    /// What the guest threw, or why there is no reply.
    pub async fn evaluate(&self, code: impl Into<String>) -> Result<Payload, CallError> {
        let code = code.into();
        self.reply_to(|id| ToIsolate::Evaluate { id, code }).await
    }

    /// Waits until the isolate's main module has run, its top-level `await` included; at once where it has
    /// none. `requestTimeoutMs` does not bound it: the isolate's own limits do, whose clocks stand while the
    /// guest waits for room in a full queue of events ([`IsolateHandle::events_full`]).
    ///
    /// # Errors
    /// Why the module did not run, or why there is no reply.
    pub async fn ready(&self) -> Result<(), CallError> {
        let reply = self.reply_within(None, |id| ToIsolate::Ready { id });
        reply.await.map(drop)
    }

    /// Calls a function by name with a JSON array of arguments, once the main module has run; a promise is
    /// awaited. As in [`IsolateHandle::evaluate`], a guest whose queue of events is full waits.
    ///
    /// # Errors
    /// What the guest threw, or why there is no reply.
    pub async fn call(&self, name: impl Into<String>, args: Payload) -> Result<Payload, CallError> {
        let name = name.into();
        Self::check_name(&name)?;
        self.reply_to(|id| ToIsolate::Call { id, name, args }).await
    }

    async fn reply_to(
        &self,
        message: impl FnOnce(CallId) -> ToIsolate,
    ) -> Result<Payload, CallError> {
        self.reply_within(self.isolate.state.options.limits.request_timeout, message)
            .await
    }

    async fn reply_within(
        &self,
        limit: Option<Duration>,
        message: impl FnOnce(CallId) -> ToIsolate,
    ) -> Result<Payload, CallError> {
        let mut call = self.isolate.uplink.calls.open();
        self.push(message(call.id))?;
        if self.isolate.state.is_ending() {
            // The end may have rejected all calls before this one was among them.
            self.isolate.uplink.calls.reject(call.id);
        }
        let reply = match limit {
            Some(limit) => tokio::time::timeout(limit, &mut call.reply)
                .await
                .map_err(|_| CallError::TimedOut(limit))?,
            None => (&mut call.reply).await,
        };
        match reply {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(CallError::Guest(error)),
            Err(_) => Err(CallError::Ended {
                id: self.id(),
                end: self.ended(),
            }),
        }
    }

    /// Answers a request of the guest. A second answer, or one to a request that never was, is ignored
    /// by the guest's runtime.
    ///
    /// # Errors
    /// As [`IsolateHandle::send`]; the request stays open then.
    pub fn answer(
        &self,
        id: RequestId,
        result: Result<Payload, GuestError>,
    ) -> Result<(), SendError> {
        // Closed before the guest can take the answer, so that its next request finds the room; and after the
        // isolate counts as having work, so that nobody finds it without work and without open requests.
        self.push_and(ToIsolate::Answer { id, result }, || {
            self.isolate.state.requests.lock().close(id);
        })
    }

    /// Ready when at most half of the queue to the isolate is in use.
    pub fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.isolate.state.inbox.poll_drained(cx)
    }

    /// Waits until at most half of the queue to the isolate is in use.
    pub async fn drain(&self) {
        std::future::poll_fn(|cx| self.poll_drained(cx)).await;
    }

    /// Ends the isolate. Events that it had sent still come; calls to it fail. Doing so twice is fine.
    pub fn destroy(&self) {
        self.isolate.destroy(DestroyReason::Requested);
    }

    /// Ends the isolate for breaking a limit or a rule; the first reason stands.
    pub fn terminate(&self, reason: TerminateReason, detail: impl Into<String>) {
        self.isolate.terminate(reason, detail.into());
    }

    /// Frees the place of an event that [`Turn::take`](crate::Turn::take) gave.
    pub fn release(&self, size: usize) {
        self.isolate.uplink.events.release(size);
    }

    /// As [`IsolateHandle::release`], for several events with `bytes` bytes in total.
    pub fn release_many(&self, events: usize, bytes: usize) {
        self.isolate.uplink.events.release_many(events, bytes);
    }

    /// Ready when the guest waits for room in the queue of its events although each event there has been taken:
    /// it goes on once places are given back, and a call that waits for its reply waits until then.
    pub fn poll_events_full(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.isolate.uplink.events.poll_stuck(cx)
    }

    /// Waits for what [`IsolateHandle::poll_events_full`] says; for ever where that never comes.
    pub async fn events_full(&self) {
        std::future::poll_fn(|cx| self.poll_events_full(cx)).await;
    }

    /// Waits until the host has had its [`Turn`](crate::Turn) with each event that waits now. For ever where nothing
    /// takes events.
    pub async fn events_taken(&self) {
        if let Some(taken) = self.isolate.uplink.events_taken() {
            // Without the isolate there are no events.
            let _ = taken.await;
        }
    }

    /// Whether the isolate only waits for messages.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.isolate.state.inbox.is_idle()
    }

    /// CPU time over its life, by the kernel's clock, now. It never becomes less, and once the isolate has
    /// [left](Self::until_left) it is final.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.isolate.state.cpu()
    }

    /// Bytes of heap, ArrayBuffers and WebAssembly memory, when last measured.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.isolate.state.memory()
    }

    /// The most memory that was measured, in bytes. For an isolate with a worker of its own that has
    /// [left](Self::until_left), it is what the kernel counted for the worker, with what that shares with others.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        self.isolate.state.peak()
    }

    /// Waits until nothing of the isolate runs any more. Its end is reported earlier.
    pub async fn until_left(&self) {
        self.isolate.state.termination.until_left().await;
    }

    /// What it uses now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let usage = self.isolate.state.usage();
        Stats {
            cpu: usage.cpu_total,
            memory: usage.memory,
            queued_to: self.isolate.state.inbox.load().0,
            queued_from: self.isolate.uplink.events.load().0,
            requests: self.isolate.state.requests.lock().count(),
            calls: self.isolate.uplink.calls.count(),
        }
    }
}
