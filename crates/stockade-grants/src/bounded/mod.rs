//! The bounds that every grant has, around the capability of any kind, and the record of each call.
//!
//! The order is fixed: count the call against the rate, find the method, measure the arguments, take the call out of
//! the budget, find a place, ask for approval, call, measure the result. A call that is refused on the way reaches no kind.
//!
//! A call holds its place until the streams of its result have ended, or its connection, and all work that goes on
//! for it, also when its guest has cancelled it. It is recorded then.

use std::any::Any;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use stockade_broker::{Budget, BudgetCounter, Missed, Places, Reason, Spent};
use stockade_capability::{
    CallContext, CallNotes, CallPayload, CallPlace, Capability, DuplexStream, ErrorName, Owner,
    Pipe,
};
use stockade_config::CallLimits;
use stockade_http::{Body, BoxError, RequestAccount, account_in_charge, key_in_charge};
use stockade_limits::Reported;
use stockade_protocol::GuestError;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::Kind;
use crate::approval::{Approval, Asked};
use crate::audit::{CallAudit, CallMoved, CallOutcome, CallRecord, RefusalReason};
use crate::ground::Ground;

/// The bounds of a capability.
pub(crate) struct Bounds<'a> {
    pub(crate) kind: &'static Kind,
    pub(crate) limits: &'a CallLimits,
    pub(crate) spent: Arc<Mutex<Spent>>,
    pub(crate) audit: Arc<dyn CallAudit>,
    pub(crate) approval: Option<Approval>,
}

/// A capability within its bounds.
pub(crate) struct Bounded {
    inner: Arc<dyn Capability>,
    shared: Arc<Shared>,
}

struct Shared {
    instance: Arc<str>,
    binding: Arc<str>,
    kind: &'static Kind,
    limits: CallLimits,
    budget: BudgetCounter,
    places: Places,
    audit: Arc<dyn CallAudit>,
    approval: Option<Approval>,
}

impl Bounded {
    pub(crate) fn new(inner: Arc<dyn Capability>, ground: &Ground, bounds: Bounds<'_>) -> Self {
        let limits = bounds.limits.clone();
        let budget = Budget {
            requests: limits.total_requests,
            bytes: limits.total_bytes,
            per: limits.total_period,
        };
        Self {
            inner,
            shared: Arc::new(Shared {
                instance: Arc::clone(&ground.instance),
                binding: Arc::clone(&ground.binding),
                kind: bounds.kind,
                budget: BudgetCounter::new(bounds.spent, budget, Some(limits.rate), None),
                places: Places::new(limits.concurrent, limits.queue, limits.timeout),
                limits,
                audit: bounds.audit,
                approval: bounds.approval,
            }),
        }
    }
}

impl Capability for Bounded {
    fn call(
        &self,
        mut context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let call = Call::new(&self.shared, &mut context, method);
        let (inner, method) = (Arc::clone(&self.inner), method.to_owned());
        Box::pin(async move {
            let result = call.run(&*inner, context, &method, arguments).await;
            call.over(result)
        })
    }

    fn open(
        &self,
        mut context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<Pipe, GuestError>> {
        let call = Call::new(&self.shared, &mut context, method);
        let (inner, method) = (Arc::clone(&self.inner), method.to_owned());
        Box::pin(async move {
            let opened = call.connect(&*inner, context, &method, arguments).await;
            call.over(opened)
        })
    }

    fn ended(&self, owner: &Owner) {
        self.inner.ended(owner);
    }
}

/// Why a call has no value, for the guest and for the record.
struct Failure {
    error: GuestError,
    outcome: CallOutcome,
    reason: Option<&'static str>,
}

fn refused(reason: RefusalReason, name: ErrorName, message: String) -> Failure {
    Failure {
        error: name.error(message),
        outcome: CallOutcome::Refused,
        reason: Some(reason.as_str()),
    }
}

/// One call, until the last stream of its result and the last work for it have ended. Dropped, it is recorded.
struct Call {
    shared: Arc<Shared>,
    mirror: u32,
    method: &'static str,
    begun: Instant,
    /// The API key for whose client the guest acts.
    key: Option<u64>,
    /// The account of the one request on which the guest works.
    account: Option<Arc<dyn RequestAccount>>,
    reported: Mutex<Reported>,
    sent: AtomicU64,
    received: AtomicU64,
    notes: CallNotes,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    place: Option<OwnedSemaphorePermit>,
    /// How it ended, why it was refused, and how long it took.
    end: Option<(CallOutcome, Option<&'static str>, Duration)>,
}

impl Drop for Call {
    fn drop(&mut self) {
        let end = self.state.get_mut().end.take();
        let cancelled = || (CallOutcome::Cancelled, None, self.begun.elapsed());
        let (outcome, reason, took) = end.unwrap_or_else(cancelled);
        let shared = &self.shared;
        let (sent, received) = (*self.sent.get_mut(), *self.received.get_mut());
        shared.audit.called(&CallRecord {
            instance: &shared.instance,
            binding: &shared.binding,
            kind: shared.kind.name,
            mirror: self.mirror,
            key: self.key,
            method: self.method,
            outcome,
            reason,
            sent,
            received,
            unreported: self.reported.get_mut().rest(sent, received),
            took,
            notes: self.notes.take(),
            every_call: shared.kind.every_call && !reason.is_some_and(RefusalReason::is_cheap),
        });
    }
}

impl Call {
    /// A call, whose place is in its context from here on.
    fn new(shared: &Arc<Shared>, context: &mut CallContext, method: &str) -> Arc<Self> {
        let begun = Instant::now();
        let known = shared.kind.methods.iter().find(|known| **known == method);
        let call = Arc::new(Self {
            shared: Arc::clone(shared),
            mirror: context.owner.mirror,
            method: known.copied().unwrap_or("unknown"),
            begun,
            key: key_in_charge(),
            account: account_in_charge(),
            reported: Mutex::new(Reported::new(begun.into_std())),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            notes: context.notes.clone(),
            state: Mutex::default(),
        });
        context.place = CallPlace::new(Arc::clone(&call) as Arc<dyn Any + Send + Sync>);
        call
    }

    /// The first end stands.
    fn ended(&self, outcome: CallOutcome, reason: Option<&'static str>) {
        let took = self.begun.elapsed();
        let mut state = self.state.lock();
        if state.end.is_some() {
            return;
        }
        state.end = Some((outcome, reason, took));
        drop(state);
        if let Some(account) = self.account.as_ref()
            && outcome == CallOutcome::Refused
        {
            account.grant_refused();
        }
    }

    /// Ends the call as its result says.
    fn over<T>(&self, result: Result<T, Failure>) -> Result<T, GuestError> {
        match result {
            Ok(value) => {
                self.ended(CallOutcome::Ok, None);
                Ok(value)
            }
            Err(failure) => {
                self.ended(failure.outcome, failure.reason);
                Err(failure.error)
            }
        }
    }

    /// A call whose result is a value.
    async fn run(
        self: &Arc<Self>,
        inner: &dyn Capability,
        context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> Result<CallPayload, Failure> {
        let limits = &self.shared.limits;
        let (arguments, deadline) = self.admitted(method, arguments).await?;
        let calling = inner.call(context, method, arguments);
        let called = tokio::time::timeout_at(deadline, calling).await;
        let mut value = called
            .map_err(|_| timed_out(limits.timeout))?
            .map_err(|error| self.failed(error))?;

        // The result.
        let size = value.payload.size() as u64;
        if size > limits.max_result {
            return Err(too_large(Direction::Received, limits.max_result));
        }
        self.count(Direction::Received, size)?;
        value.streams = self.counted(value.streams, Direction::Received, size);
        Ok(value)
    }

    /// A call whose result is a connection, which holds the call open. Its bytes are counted; how many there may be
    /// at a time is for its protocol to say.
    async fn connect(
        self: &Arc<Self>,
        inner: &dyn Capability,
        context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> Result<Pipe, Failure> {
        let (arguments, deadline) = self.admitted(method, arguments).await?;
        let opening = inner.open(context, method, arguments);
        let opened = tokio::time::timeout_at(deadline, opening).await;
        let mut pipe = opened
            .map_err(|_| timed_out(self.shared.limits.timeout))?
            .map_err(|error| self.failed(error))?;
        pipe.stream = Box::new(CountedPipe {
            inner: pipe.stream,
            call: Arc::clone(self),
        });
        Ok(pipe)
    }

    /// Holds a call to everything that comes before it. Gives its arguments, and when its result is due.
    async fn admitted(
        self: &Arc<Self>,
        method: &str,
        mut arguments: CallPayload,
    ) -> Result<(CallPayload, Instant), Failure> {
        let limits = &self.shared.limits;

        // The rate, before anything that costs more.
        self.shared.budget.call().map_err(spent)?;
        if self.method != method {
            let known = self.shared.kind.methods.join(", ");
            let shown: String = method.chars().take(40).collect();
            let message = format!("the grant has no method {shown:?}: it has {known}");
            return Err(refused(RefusalReason::Method, ErrorName::Type, message));
        }

        // The arguments, and what they take out of the budget.
        let size = arguments.payload.size() as u64;
        if size > limits.max_request {
            return Err(too_large(Direction::Sent, limits.max_request));
        }
        self.shared.budget.request().map_err(spent)?;
        self.count(Direction::Sent, size)?;
        arguments.streams = self.counted(arguments.streams, Direction::Sent, size);

        // A place, and leave.
        let place = self
            .shared
            .places
            .take()
            .await
            .map_err(|missed| match missed {
                Missed::Full { limit } => spent(Reason::Concurrency { limit }),
                Missed::TimedOut { limit } => timed_out(limit),
            })?;
        self.state.lock().place = Some(place);
        let mut deadline = self.begun + limits.timeout;
        if let Some(approval) = &self.shared.approval {
            let asked = Instant::now();
            let question = self.question(&arguments).map_err(|why| {
                let message = format!("the call cannot be approved: {why}");
                refused(RefusalReason::Approval, ErrorName::Type, message)
            })?;
            self.approved(approval, question).await?;
            deadline += asked.elapsed();
        }
        Ok((arguments, deadline))
    }

    /// What an approver is asked about the call.
    fn question(&self, arguments: &CallPayload) -> Result<Asked, &'static str> {
        let (arguments, more) = Asked::shown(arguments)?;
        Ok(Asked {
            instance: Arc::clone(&self.shared.instance),
            binding: Arc::clone(&self.shared.binding),
            kind: self.shared.kind.name,
            method: self.method,
            arguments,
            more,
        })
    }

    /// Asks whether the call may be made. What is answered is noted. An approver goes on after a guest has cancelled
    /// the call, and so long the call keeps its place.
    async fn approved(
        self: &Arc<Self>,
        approval: &Approval,
        question: Asked,
    ) -> Result<(), Failure> {
        let asked = approval.approver.approve(question);
        let (call, limit) = (Arc::clone(self), approval.timeout);
        let asked = tokio::spawn(async move {
            let answer = tokio::time::timeout(limit, asked).await;
            drop(call);
            answer
        });
        let answer = match asked.await {
            Ok(Ok(Ok(true))) => "yes",
            Ok(Ok(Ok(false))) => "no",
            Ok(Ok(Err(why))) => {
                self.notes.add("approver", why.as_str());
                "failed"
            }
            Ok(Err(_)) => "timed out",
            Err(_) => "failed",
        };
        self.notes.add("approved", answer);
        if answer == "yes" {
            return Ok(());
        }
        let message = "the call was not approved".to_owned();
        Err(refused(RefusalReason::Approval, ErrorName::Type, message))
    }

    /// The error of a kind, which notes where its policy refused the call.
    fn failed(&self, error: GuestError) -> Failure {
        let reason = self.notes.refusal();
        Failure {
            error,
            outcome: match reason {
                Some(_) => CallOutcome::Refused,
                None => CallOutcome::Error,
            },
            reason,
        }
    }

    /// Counts bytes and takes them out of the budget.
    fn count(&self, direction: Direction, bytes: u64) -> Result<(), Failure> {
        self.counter(direction).fetch_add(bytes, Ordering::Relaxed);
        self.report_progress();
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.shared.budget.bytes(bytes).map_err(spent)?;
        Ok(())
    }

    /// Reports the bytes so far of a call that lasts for long.
    fn report_progress(&self) {
        let of = |direction| self.counter(direction).load(Ordering::Relaxed);
        let (sent, received) = (of(Direction::Sent), of(Direction::Received));
        let now = Instant::now().into_std();
        if let Some((sent, received)) = self.reported.lock().due(sent, received, now) {
            self.shared.audit.moved(&CallMoved {
                instance: &self.shared.instance,
                key: self.key,
                sent,
                received,
            });
        }
    }

    fn counter(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::Sent => &self.sent,
            Direction::Received => &self.received,
        }
    }

    /// The streams of a call, which hold it open and are counted; `size` bytes are counted already.
    fn counted(self: &Arc<Self>, streams: Vec<Body>, direction: Direction, size: u64) -> Vec<Body> {
        let limits = &self.shared.limits;
        let limit = match direction {
            Direction::Sent => limits.max_request,
            Direction::Received => limits.max_result,
        };
        let left = Arc::new(AtomicU64::new(limit.saturating_sub(size)));
        let counted = streams.into_iter().map(|inner| {
            Body::new(Counted {
                inner,
                call: Arc::clone(self),
                direction,
                left: Arc::clone(&left),
            })
        });
        counted.collect()
    }
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Sent,
    Received,
}

fn too_large(direction: Direction, limit: u64) -> Failure {
    let (reason, what, key) = match direction {
        Direction::Sent => (RefusalReason::Request, "arguments", "max_request"),
        Direction::Received => (RefusalReason::Result, "result", "max_result"),
    };
    let message = format!("the {what} of a call may have {limit} bytes (the limit `{key}`)");
    refused(reason, ErrorName::Range, message)
}

fn timed_out(limit: Duration) -> Failure {
    Failure {
        error: ErrorName::Timeout.error(format!(
            "the call took longer than {limit:?} (the limit `timeout`)"
        )),
        outcome: CallOutcome::TimedOut,
        reason: None,
    }
}

/// What the common counters refuse.
fn spent(reason: Reason) -> Failure {
    let (of, name) = match reason {
        Reason::Budget { .. } => (RefusalReason::Budget, ErrorName::Quota),
        Reason::Concurrency { .. } => (RefusalReason::Concurrency, ErrorName::Busy),
        _ => (RefusalReason::Rate, ErrorName::Busy),
    };
    refused(of, name, reason.to_string())
}

/// A stream of a call.
struct Counted {
    inner: Body,
    call: Arc<Call>,
    direction: Direction,
    /// Bytes that all streams of this direction may still have.
    left: Arc<AtomicU64>,
}

impl Counted {
    fn take(&self, bytes: u64) -> Result<(), Failure> {
        let take = |left: u64| left.checked_sub(bytes);
        let taken = self
            .left
            .try_update(Ordering::Relaxed, Ordering::Relaxed, take);
        if taken.is_err() {
            let limits = &self.call.shared.limits;
            let limit = match self.direction {
                Direction::Sent => limits.max_request,
                Direction::Received => limits.max_result,
            };
            return Err(too_large(self.direction, limit));
        }
        self.call.count(self.direction, bytes)
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let size = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => 0,
        };
        if let Err(failure) = self.take(size) {
            // What is left of the stream is not read.
            self.inner = stockade_http::empty_body();
            return Poll::Ready(Some(Err(failure.error.into())));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The connection of a call.
struct CountedPipe {
    inner: Box<dyn DuplexStream>,
    call: Arc<Call>,
}

impl CountedPipe {
    fn count(&self, direction: Direction, bytes: usize) -> io::Result<()> {
        let counted = self.call.count(direction, bytes as u64);
        counted.map_err(|failure| io::Error::other(failure.error))
    }
}

impl AsyncRead for CountedPipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let bytes = buffer.filled().len() - before;
        Poll::Ready(self.count(Direction::Received, bytes))
    }
}

impl AsyncWrite for CountedPipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        Poll::Ready(self.count(Direction::Sent, written).map(|()| written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
