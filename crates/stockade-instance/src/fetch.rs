//! The way of one request: a place, an attempt, perhaps a second one elsewhere, a response.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body_util::BodyExt;
use stockade_capability::{CallPayload, Pipe};
use stockade_http::{Body, OnBehalf, account_in_charge, key_in_charge};
use stockade_protocol::bounds::MAX_NAME_BYTES;
use stockade_protocol::{GuestError, Payload};
use stockade_supervisor::{CallError, End, SendError};
use stockade_trace::{Span, SpanKind, Trace};

use crate::error::{FetchError, Refusal};
use crate::mirror::{GuestReply, Mirror, Reading, Slot, TracedCall};
use crate::observer::Observer;
use crate::pool::{Found, Pool};
use crate::respond::respond;
use crate::services::Transport;
use crate::wire::{AskError, Malformed, Prepared, RequestBody};

/// Why an attempt failed.
enum Trouble {
    /// Another attempt would not help.
    Final(FetchError),
    /// The mirror ended. `may_have_begun`: the guest may have begun with the request.
    Ended { end: End, may_have_begun: bool },
}

impl Trouble {
    /// For spans.
    fn name(&self) -> &'static str {
        match self {
            Self::Final(error) => error.name(),
            Self::Ended { .. } => "ended",
        }
    }
}

/// Aborts a request in the guest unless it was answered.
struct AbortOnDrop<'a> {
    mirror: &'a Mirror,
    id: u64,
    answered: bool,
}

impl Drop for AbortOnDrop<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.mirror.abort(self.id);
        }
    }
}

/// Reports a failed request to the observer, also one whose client went away.
struct Report<'a> {
    observer: &'a dyn Observer,
    /// Empty where no client asks.
    request_id: Option<Arc<str>>,
    mirror: Option<u32>,
    done: bool,
}

impl Report<'_> {
    fn failed(&mut self, error: &FetchError) {
        self.done = true;
        // Refusals have a notice of their own, and may come in floods.
        if !matches!(error, FetchError::Busy { .. } | FetchError::Draining) {
            let request_id = self.request_id.as_deref().unwrap_or_default();
            self.observer.failed(self.mirror, request_id, error);
        }
    }
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.failed(&FetchError::ClientGone);
        }
    }
}

pub(crate) async fn fetch(
    pool: &Arc<Pool>,
    request: Request<Body>,
) -> Result<Response<Body>, FetchError> {
    let mut prepared = Prepared::new(request, &pool.options.limits).await?;
    let client = prepared.client.as_ref();
    let mut report = Report {
        observer: &*pool.observer,
        request_id: client.map(|client| Arc::clone(&client.request_id)),
        mirror: None,
        done: false,
    };
    let result = run(pool, &mut prepared, &mut report).await;
    report.done = true;
    if let Err(error) = &result {
        report.failed(error);
    }
    result
}

async fn run(
    pool: &Arc<Pool>,
    prepared: &mut Prepared,
    report: &mut Report<'_>,
) -> Result<Response<Body>, FetchError> {
    let mut found = place(pool, prepared.trace.as_ref()).await?;
    let cold = found.cold;
    let wall_limit = pool.options.limits.wall;
    let began = Instant::now();
    let mut retried = false;
    loop {
        let mirror = found.slot.mirror.number;
        report.mirror = Some(mirror);
        let left = if retried {
            wall_limit.saturating_sub(began.elapsed())
        } else {
            wall_limit
        };
        let mut span = guest_span(prepared.trace.as_ref(), pool, mirror, retried);
        let answer = attempt(found.slot, prepared, left, span.as_ref().map(Span::trace)).await;
        if let (Some(span), Err(trouble)) = (&mut span, &answer) {
            span.fail(trouble.name());
        }
        drop(span);
        match answer {
            Ok(reply) => return respond(prepared, reply, cold, retried),
            Err(Trouble::Final(error)) => return Err(error),
            Err(Trouble::Ended {
                end,
                may_have_begun,
            }) => {
                // What no guest has begun with may be given to another whatever its method is.
                let again = if may_have_begun {
                    prepared.is_replayable()
                } else {
                    prepared.is_whole()
                };
                if retried || !again {
                    return Err(FetchError::Ended { end });
                }
                retried = true;
                pool.observer.retried(mirror);
                found = place(pool, prepared.trace.as_ref()).await?;
            }
        }
    }
}

/// Has one mirror answer a request. The mirror is nobody's but its host's, and no other one takes its place.
pub(crate) async fn fetch_from(
    mirror: &Arc<Mirror>,
    request: Request<Body>,
) -> Result<Response<Body>, FetchError> {
    let limits = mirror.limits();
    let mut prepared = Prepared::new(request, limits).await?;
    if let Some(end) = mirror.handle.end() {
        return Err(FetchError::Ended { end });
    }
    let slot = mirror.take_slot().ok_or_else(busy)?;
    match attempt(slot, &mut prepared, limits.wall, None).await {
        Ok(reply) => respond(&mut prepared, reply, false, false),
        Err(Trouble::Final(error)) => Err(error),
        Err(Trouble::Ended { end, .. }) => Err(FetchError::Ended { end }),
    }
}

/// A place for a request. A wait is a span, and so is the start of a mirror that was waited for.
pub(crate) async fn place(pool: &Arc<Pool>, trace: Option<&Trace>) -> Result<Found, FetchError> {
    let Some(mut span) = trace.and_then(|trace| trace.span("queue", SpanKind::Internal)) else {
        return pool.place().await;
    };
    span.set("stockade.instance", Arc::clone(&pool.options.name));
    let found = pool.place().await;
    match &found {
        Err(error) => span.fail(error.name()),
        Ok(found) if !found.waited => span.discard(),
        Ok(found) => {
            let mirror = &found.slot.mirror;
            span.set("stockade.mirror", i64::from(mirror.number));
            span.set("stockade.cold", found.cold);
            if let Some((start, took)) = mirror.start.filter(|_| found.cold)
                && let Some(mut started) = span.trace().span("mirror start", SpanKind::Internal)
            {
                started.set("stockade.mirror", i64::from(mirror.number));
                started.happened(start, took);
            }
        }
    }
    found
}

/// The span of the guest's work: on a request until the head of its response, on a call or a scheduled run until its end.
pub(crate) fn guest_span(
    trace: Option<&Trace>,
    pool: &Pool,
    mirror: u32,
    retried: bool,
) -> Option<Span> {
    let mut span = trace?.span("guest", SpanKind::Internal)?;
    span.set("stockade.instance", Arc::clone(&pool.options.name));
    span.set("stockade.mirror", i64::from(mirror));
    if retried {
        span.set("stockade.retried", true);
    }
    Some(span)
}

/// The client for which the site that asks works.
fn in_charge() -> OnBehalf {
    OnBehalf {
        key: key_in_charge(),
        account: account_in_charge(),
    }
}

async fn attempt(
    mut slot: Slot,
    prepared: &mut Prepared,
    left: Duration,
    span: Option<&Trace>,
) -> Result<GuestReply, Trouble> {
    let mirror = Arc::clone(&slot.mirror);
    if let Some(end) = mirror.handle.end() {
        return Err(Trouble::Ended {
            end,
            may_have_begun: false,
        });
    }
    let limits = mirror.limits();
    let client = prepared.client.as_deref();
    slot.charge_to(client.map_or_else(in_charge, |client| OnBehalf {
        key: client.key,
        account: client.account.clone(),
    }));
    let id = mirror.number_request();
    let (stream, body) = match &mut prepared.body {
        RequestBody::Stream(body) => match body.take() {
            Some(body) => {
                let stream = mirror
                    .open_stream(body, Some(id), limits.request_body, Reading::Asked)
                    .map_err(|_| Trouble::Final(busy()))?;
                (Some(stream), Some(mirror.own_stream(stream)))
            }
            None => (None, None),
        },
        RequestBody::None | RequestBody::Whole(_) => (None, None),
    };
    let trace = span.or(prepared.trace.as_ref()).cloned();
    let answer = mirror
        .await_response(id, slot, body, prepared.client.clone(), trace)
        .map_err(|end| Trouble::Ended {
            end,
            may_have_begun: false,
        })?;
    if let Err(error) = mirror
        .handle
        .control("http.request", prepared.message(id, stream, span))
    {
        mirror.withdraw(id);
        return Err(unsent(&mirror, &error));
    }
    let mut guard = AbortOnDrop {
        mirror: &mirror,
        id,
        answered: false,
    };
    match tokio::time::timeout(left, answer).await {
        Ok(answer) => {
            guard.answered = true;
            match answer {
                Ok(Ok(reply)) => Ok(reply),
                Ok(Err(FetchError::Ended { end })) => Err(Trouble::Ended {
                    end,
                    may_have_begun: true,
                }),
                Ok(Err(error)) => Err(Trouble::Final(error)),
                Err(_) => Err(Trouble::Final(FetchError::Draining)),
            }
        }
        Err(_) => Err(Trouble::Final(FetchError::TimedOut { limit: limits.wall })),
    }
}

fn busy() -> FetchError {
    FetchError::Busy {
        retry_after: Duration::from_secs(1),
        refusal: Refusal::QueueFull,
    }
}

/// Why a message was not sent, for the caller that sent it.
fn unsent(mirror: &Mirror, error: &SendError) -> Trouble {
    match (error, mirror.handle.end()) {
        (SendError::Ended { .. }, Some(end)) => Trouble::Ended {
            end,
            may_have_begun: false,
        },
        _ => Trouble::Final(busy()),
    }
}

/// Checks that a value is JSON: it may go on to another guest, which would wait for ever for what its
/// runtime cannot parse.
fn checked(value: Payload) -> Result<Payload, Malformed> {
    if !value.json.is_empty() {
        serde_json::from_str::<serde::de::IgnoredAny>(&value.json)?;
    }
    Ok(value)
}

/// The error of a call of a method that the guest does not offer.
fn no_method(pool: &Pool, method: &str) -> FetchError {
    let message = format!(
        "the site {:?} has no method {method:?}: others can call a method of its default export, or a \
         function that its module exports",
        pool.options.name
    );
    FetchError::Threw(GuestError {
        name: "TypeError".to_owned(),
        ..GuestError::new(message)
    })
}

/// Gives a connection to the `connect` handler of a mirror, and waits until the handler is done. The connection lives
/// on until it is closed.
///
/// A handler may take as long as its connection. After the connection's end it has the time of a request, and what it
/// gave to `waitUntil` the time of such promises; then it is aborted as a request is.
pub(crate) async fn connect(
    pool: &Arc<Pool>,
    pipe: Pipe,
    transport: Transport,
) -> Result<(), FetchError> {
    let mut found = pool.place().await?;
    found.slot.charge_to(OnBehalf::default());
    let mirror = Arc::clone(&found.slot.mirror);
    let opening = mirror.opening_pipe().map_err(FetchError::Threw)?;
    let pipe = mirror.enter_pipe(opening, pipe, None);
    let id = mirror.number_request();
    let done = mirror.await_run(id, found.slot, None);
    let done = done.map_err(|end| FetchError::Ended { end })?;
    let transport: &str = transport.into();
    let json = format!("[{id},{},\"{transport}\"]", pipe.answer().json);
    let sent = mirror
        .handle
        .control("connect.run", Payload::from_json(json));
    if let Err(error) = sent {
        mirror.withdraw(id);
        return Err(match unsent(&mirror, &error) {
            Trouble::Final(error) => error,
            Trouble::Ended { end, .. } => FetchError::Ended { end },
        });
    }
    let over = pipe.named();
    let mut guard = AbortOnDrop {
        mirror: &mirror,
        id,
        answered: false,
    };
    let limits = mirror.limits();
    let limit = limits.wall.max(limits.wait_until);
    let mut done = done;
    let ended = tokio::select! {
        ended = &mut done => Ok(ended),
        _ = over => tokio::time::timeout(limit, done).await,
    };
    let Ok(ended) = ended else {
        return Err(FetchError::TimedOut { limit });
    };
    guard.answered = true;
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) => Err(FetchError::Threw(GuestError::new(why))),
        Err(_) => Err(FetchError::Draining),
    }
}

/// Calls a method that the guest offers to others.
pub(crate) async fn call(
    pool: &Arc<Pool>,
    method: &str,
    args: CallPayload,
) -> Result<CallPayload, FetchError> {
    // A caller chooses the name. With a U+0000 in front it would be the number of what the guest has lent to others.
    if method.starts_with('\0') || ends_with_number(method) {
        return Err(no_method(pool, method));
    }
    // With the U+0000 that marks an export's name.
    if method.len() >= MAX_NAME_BYTES {
        let beginning: String = method.chars().take(40).collect();
        return Err(no_method(pool, &format!("{beginning}…")));
    }
    // The caller's span of the call, where it is traced.
    let trace = stockade_trace::current();
    let mut found = place(pool, trace.as_ref()).await?;
    found.slot.charge_to(in_charge());
    let mirror = Arc::clone(&found.slot.mirror);
    mirror.number_request();
    let called = call_guest(&mirror, method, args, trace.as_ref()).await;
    Ok(kept(called?, found.slot))
}

/// Whether a name ends as that of a call which is traced: with a U+0000 and its number. A caller could name another call so.
pub(crate) fn ends_with_number(name: &str) -> bool {
    let is_number = |end: &str| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit());
    name.rsplit_once('\0')
        .is_some_and(|(_, end)| is_number(end))
}

/// Calls what a guest has under this name, behind the U+0000 of an export. Where the caller's call is traced, the guest's
/// work is a span of it, and what the guest asks for meanwhile belongs to that.
pub(crate) async fn call_guest(
    mirror: &Arc<Mirror>,
    method: &str,
    args: CallPayload,
    trace: Option<&Trace>,
) -> Result<CallPayload, FetchError> {
    let mut span = guest_span(trace, &mirror.pool, mirror.number, false);
    let continued = span.as_ref().map(Span::trace).or(trace);
    let traced = continued.map(|trace| mirror.trace_call(trace.clone()));
    let called = await_guest(mirror, method, args, traced.as_ref()).await;
    if let (Some(span), Err(error)) = (&mut span, &called) {
        span.fail(error.name());
    }
    called
}

async fn await_guest(
    mirror: &Arc<Mirror>,
    method: &str,
    args: CallPayload,
    traced: Option<&TracedCall<'_>>,
) -> Result<CallPayload, FetchError> {
    let (args, unnamed) = mirror.export_call(args).map_err(FetchError::Threw)?;
    let name = traced.map(|call| format!("\0{method}\0{}", call.id));
    // The longest names have no room for a number.
    let name = name.filter(|name| name.len() <= MAX_NAME_BYTES);
    let called = mirror
        .handle
        .call(name.unwrap_or_else(|| format!("\0{method}")), args);
    let limit = mirror.limits().wall;
    let called = tokio::time::timeout(limit, called).await;
    if !matches!(called, Ok(Err(CallError::Send(_)))) {
        unnamed.named();
    }
    match called {
        Ok(Ok(value)) if value.is_no_export() => Err(no_method(&mirror.pool, method)),
        Ok(Ok(value)) => checked(value)
            .map_err(AskError::from)
            .and_then(|value| mirror.import_call(value))
            .map_err(|why| FetchError::BadResponse {
                why: why.to_string(),
            }),
        Ok(Err(CallError::Guest(error))) => Err(FetchError::Threw(error)),
        Ok(Err(CallError::TimedOut(limit))) => Err(FetchError::TimedOut { limit }),
        Ok(Err(CallError::Send(error))) => Err(match unsent(mirror, &error) {
            Trouble::Final(error) => error,
            Trouble::Ended { end, .. } => FetchError::Ended { end },
        }),
        Ok(Err(CallError::Ended { .. })) => Err(match mirror.handle.end() {
            Some(end) => FetchError::Ended { end },
            None => FetchError::Draining,
        }),
        Err(_) => Err(FetchError::TimedOut { limit }),
    }
}

/// A call's value whose streams keep the call's place until they are read or dropped, and whose targets keep the mirror.
fn kept(value: CallPayload, slot: Slot) -> CallPayload {
    let targets = slot.mirror.keep_for(value.targets);
    let slot = Arc::new(slot);
    let keep = |stream: Body| {
        let slot = Arc::clone(&slot);
        let frames = stream.map_frame(move |frame| {
            let _kept = &slot;
            frame
        });
        frames.boxed_unsync()
    };
    CallPayload {
        payload: value.payload,
        streams: value.streams.into_iter().map(keep).collect(),
        targets,
    }
}
