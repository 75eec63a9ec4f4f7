//! What the guest asks of its host: a task for each, until it is answered or the guest loses interest.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http_body::Body as _;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use stockade_capability::{
    CallContext, CallNotes, CallPayload, CallPlace, Capability, Owner, Part, Pipe, Target,
};
use stockade_http::{Body, Client, empty_body, full_body, on_behalf_of};
use stockade_protocol::{GuestError, Payload, RequestId};
use stockade_trace::{Span, SpanKind, TRACEPARENT, Trace, within};
use tokio::task::AbortHandle;

use super::outgoing::{Reading, Unnamed};
use super::pipes::NewPipe;
use super::{Mirror, unbroken};
use crate::services::{ConnectRequest, Services};
use crate::wire::{
    AnswerBody, Ask, AskError, BindingCall, Fields, GuestBody, GuestRequest, Malformed, TargetCall,
    answer_of, export, import, parse_ask,
};

/// Bodies of answers up to this size go with the answer; larger ones are streams. In bytes.
const INLINE: u64 = 64 << 10;

pub(super) struct Asks {
    table: Mutex<OpenAsks>,
}

struct OpenAsks {
    entries: HashMap<RequestId, AbortHandle>,
    /// `None` once the mirror has ended.
    caller: Option<Arc<Caller>>,
}

/// The mirror as the caller of capabilities. The mirror holds it until it ends, and so does each task that may be in
/// the middle of a call. Dropped by the last of them, it has the capabilities close what the mirror holds open: no
/// call of the mirror can open anything after that.
struct Caller {
    owner: Owner,
    services: Arc<dyn Services>,
}

impl Caller {
    fn capability(&self, binding: &str) -> Result<Arc<dyn Capability>, GuestError> {
        let granted = self.services.capability(binding);
        granted.ok_or_else(|| GuestError::new(format!("there is no binding {binding:?}")))
    }

    fn context(&self) -> CallContext {
        CallContext {
            owner: self.owner.clone(),
            notes: CallNotes::default(),
            place: CallPlace::default(),
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.services.ended(&self.owner);
    }
}

impl Asks {
    pub(super) fn new(owner: Owner, services: Arc<dyn Services>) -> Self {
        Self {
            table: Mutex::new(OpenAsks {
                entries: HashMap::new(),
                caller: Some(Arc::new(Caller { owner, services })),
            }),
        }
    }

    pub(super) fn close(&self) {
        let mut table = self.table.lock();
        let caller = table.caller.take();
        for (_, task) in table.entries.drain() {
            task.abort();
        }
        // Capabilities are called without the lock.
        drop(table);
        drop(caller);
    }
}

impl Mirror {
    /// Takes a request of the guest.
    pub(crate) fn asked(
        self: &Arc<Self>,
        id: RequestId,
        method: &str,
        data: Payload,
    ) -> Result<(), Malformed> {
        let Some(count) = self.count_buffered(data.size()) else {
            self.refuse(id, &self.too_much());
            return Ok(());
        };
        let GuestRequest {
            ask,
            within: request,
        } = match parse_ask(method, data, self.limits()) {
            Ok(Some(request)) => request,
            Ok(None) => {
                let name: String = method.chars().take(64).collect();
                self.refuse(
                    id,
                    &format!("the host has no handler for the request '{name}'"),
                );
                return Ok(());
            }
            Err(AskError::Refused(why)) => {
                self.refuse(id, &why);
                return Ok(());
            }
            Err(AskError::Malformed(malformed)) => return Err(malformed),
        };
        let ask = match self.prepare(ask) {
            Ok(ask) => ask,
            Err(AskError::Refused(why)) => {
                self.refuse(id, &why);
                return Ok(());
            }
            Err(AskError::Malformed(malformed)) => return Err(malformed),
        };
        let trace = request.and_then(|request| self.trace_of(request));
        let mut table = self.asks.table.lock();
        let Some(caller) = table.caller.clone() else {
            return Ok(());
        };
        if table.entries.contains_key(&id) {
            return Err(Malformed(format!("request {id} is made twice")));
        }
        let mirror = Arc::clone(self);
        // The task cannot end before its entry is there: it needs this lock for that.
        let client = self.charges.in_charge();
        let work = async move {
            let result = unbroken(mirror.carry_out(id, ask, &caller, trace.as_ref()))
                .await
                .unwrap_or_else(|| Err(GuestError::new("internal error: see the host's log")));
            drop((count, caller));
            // What waits for a guest that handles nothing is bounded, for results of every kind.
            let size = result
                .as_ref()
                .map_or(0, |(payload, _)| payload.kept_size());
            let counted = mirror.count_buffered(size);
            let result = if size == 0 || counted.is_some() {
                result
            } else {
                Err(GuestError::new(mirror.too_much()))
            };
            mirror.room_for_messages().await;
            if mirror.asks.table.lock().entries.remove(&id).is_some() {
                let (result, given) = match result {
                    Ok((payload, given)) => (Ok(payload), Some(given)),
                    Err(error) => (Err(error), None),
                };
                if mirror.answer(id, result)
                    && let Some(given) = given
                {
                    given.named();
                }
            }
            drop(counted);
        };
        let task = tokio::spawn(on_behalf_of(client, work));
        table.entries.insert(id, task.abort_handle());
        Ok(())
    }

    /// Makes bodies of the streams in a request of the guest.
    fn prepare(self: &Arc<Self>, ask: Ask) -> Result<Prepared, AskError> {
        Ok(match ask {
            Ask::Fetch {
                binding,
                head,
                body,
            } => {
                let mut request = http::Request::from_parts(head, self.body_of(body)?);
                if binding.is_some()
                    && let Some(client) = self.passed_on(&request)
                {
                    request.extensions_mut().insert(client);
                }
                Prepared::Fetch(binding, request)
            }
            Ask::Call(BindingCall {
                binding,
                method,
                args,
            }) => Prepared::Call(binding, method, self.import_call(args)?),
            Ask::Open(BindingCall {
                binding,
                method,
                args,
            }) => Prepared::Open(binding, method, self.import_call(args)?),
            Ask::Connect(request) => Prepared::Connect(request),
            Ask::Target(TargetCall { id, part, args }) => {
                // Now, and not in the task: the guest may dispose of the stub with its next message.
                let target = self.held_target(id);
                Prepared::Target(target, part, self.import_call(args)?)
            }
        })
    }

    /// The client whose request the guest passes on to a binding: it is one that the guest is answering, and
    /// its name stands in the header that the gateway wrote. What else the guest says of a client is its own.
    fn passed_on(&self, request: &http::Request<Body>) -> Option<Client> {
        let id = request.headers().get("x-request-id")?.to_str().ok()?;
        let client = Arc::unwrap_or_clone(self.client_of(id)?);
        Some(Client {
            upgrade: false,
            ..client
        })
    }

    /// Whether a request of the guest has no answer yet.
    pub(crate) fn has_asks(&self) -> bool {
        !self.asks.table.lock().entries.is_empty()
    }

    /// Whether this request of the guest has no answer yet.
    pub(crate) fn is_asking(&self, id: RequestId) -> bool {
        self.asks.table.lock().entries.contains_key(&id)
    }

    /// Takes `request.cancel`.
    pub(super) fn ask_cancelled(&self, message: &Fields) {
        let task = self.asks.table.lock().entries.remove(&message.id);
        if let Some(task) = task {
            task.abort();
            // The guest receives none of it; its number of open requests goes down by it.
            self.refuse(message.id, "cancelled");
        } else {
            self.close_unwanted_pipe(message.id);
        }
    }

    /// Why something is refused that [`Mirror::count_buffered`] has no room for.
    fn too_much(&self) -> String {
        let most = self.limits().buffered;
        format!("more than {most} bytes of this site wait to be read")
    }

    fn refuse(&self, id: RequestId, why: &str) {
        self.answer(id, Err(GuestError::new(why)));
    }

    /// Whether the guest gets it, and not a failure in its place.
    fn answer(&self, id: RequestId, result: Result<Payload, GuestError>) -> bool {
        let sent = self.handle.answer(id, result);
        if let Err(error) = &sent {
            let too_much = GuestError::new(format!("the answer was not sent: {error}"));
            self.now_or_later(move |handle| handle.answer(id, Err(too_much.clone())));
        }
        sent.is_ok()
    }

    fn body_of(self: &Arc<Self>, body: GuestBody) -> Result<Body, Malformed> {
        Ok(match body {
            GuestBody::None => empty_body(),
            GuestBody::Whole(bytes) => full_body(bytes),
            GuestBody::Stream(id) => self.take_stream(id)?.boxed_unsync(),
            GuestBody::Returned(id) => self.take_back(id),
        })
    }

    /// Makes bodies of the streams in data of the guest, and targets of its functions and objects.
    pub(crate) fn import_call(self: &Arc<Self>, data: Payload) -> Result<CallPayload, AskError> {
        let stream = |id| Ok(self.take_stream(id)?.boxed_unsync());
        let (payload, streams, targets) = import(data, stream, |id| self.lend_target(id))?;
        Ok(CallPayload {
            payload,
            streams,
            targets,
        })
    }

    /// Makes streams for the guest of the bodies in data, and has the guest hold the targets.
    pub(crate) fn export_call(
        self: &Arc<Self>,
        data: CallPayload,
    ) -> Result<(Payload, Unnamed), GuestError> {
        let (mut streams, mut targets) = (Vec::new(), Vec::new());
        let open_stream = |body| {
            let id = self
                .open_stream(body, None, None, Reading::Asked)
                .map_err(Malformed)?;
            streams.push(id);
            Ok(id)
        };
        let hold_target = |target| {
            let id = self.hold_target(target).map_err(Malformed)?;
            targets.push(id);
            Ok(id)
        };
        let payload = export(
            data.payload,
            data.streams,
            data.targets,
            open_stream,
            hold_target,
        );
        let unnamed = self.unnamed(streams, targets);
        let payload = payload.map_err(|error| GuestError::new(error.to_string()))?;
        Ok((payload, unnamed))
    }

    /// Does what the guest asks for, as a span of the request that the guest works on.
    async fn carry_out(
        self: &Arc<Self>,
        id: RequestId,
        mut ask: Prepared,
        caller: &Caller,
        trace: Option<&Trace>,
    ) -> Result<(Payload, Given), GuestError> {
        let mut span = trace.and_then(|trace| ask.span(trace));
        if let Some(trace) = span.as_ref().map(Span::trace).or(trace) {
            ask.continue_trace(trace);
        }
        // A call of another site takes no headers that would name it.
        let works_for = span.as_ref().map(|span| span.trace().clone());
        let result = within(works_for, self.perform(id, ask, caller, &mut span)).await;
        if let (Some(span), Err(error)) = (&mut span, &result) {
            span.fail(&error.name);
        }
        result
    }

    async fn perform(
        self: &Arc<Self>,
        id: RequestId,
        ask: Prepared,
        caller: &Caller,
        span: &mut Option<Span>,
    ) -> Result<(Payload, Given), GuestError> {
        let response = match ask {
            Prepared::Call(binding, method, args) => {
                let capability = caller.capability(&binding)?;
                let value = capability.call(caller.context(), &method, args).await?;
                let (payload, unnamed) = self.export_call(value)?;
                return Ok((payload, Given::Data(unnamed)));
            }
            Prepared::Open(binding, method, args) => {
                let capability = caller.capability(&binding)?;
                let open = || capability.open(caller.context(), &method, args);
                return self.open_pipe(id, open).await;
            }
            Prepared::Connect(request) => {
                return self
                    .open_pipe(id, || caller.services.connect(request))
                    .await;
            }
            Prepared::Target(target, part, args) => {
                let value = target?.call(&part, args).await?;
                let (payload, unnamed) = self.export_call(value)?;
                return Ok((payload, Given::Data(unnamed)));
            }
            Prepared::Fetch(Some(binding), request) => {
                let capability = caller.capability(&binding)?;
                capability.fetch(caller.context(), request).await?
            }
            Prepared::Fetch(None, request) => caller.services.fetch(request).await?,
        };
        let (head, body) = response.into_parts();
        if let Some(span) = span {
            span.set("http.response.status_code", i64::from(head.status.as_u16()));
        }
        if head.status.is_informational() {
            return Err(GuestError::new(format!(
                "a response with the status {} cannot be given to fetch",
                head.status.as_u16()
            )));
        }
        let body = self.answer_body(body).await?;
        let streams = match &body {
            AnswerBody::Stream(id) => vec![*id],
            AnswerBody::None | AnswerBody::Whole(_) => Vec::new(),
        };
        let unnamed = self.unnamed(streams, Vec::new());
        Ok((answer_of(&head, body), Given::Data(unnamed)))
    }

    async fn open_pipe(
        self: &Arc<Self>,
        id: RequestId,
        open: impl FnOnce() -> BoxFuture<'static, Result<Pipe, GuestError>>,
    ) -> Result<(Payload, Given), GuestError> {
        // Before anything is opened that may be one too many.
        let opening = self.opening_pipe()?;
        let pipe = self.enter_pipe(opening, open().await?, Some(id));
        Ok((pipe.answer(), Given::Pipe(pipe)))
    }

    async fn answer_body(self: &Arc<Self>, body: Body) -> Result<AnswerBody, GuestError> {
        if body.is_end_stream() {
            return Ok(AnswerBody::None);
        }
        if body.size_hint().upper().is_some_and(|most| most <= INLINE) {
            let collected = tokio::time::timeout(self.limits().stall, body.collect()).await;
            return match collected {
                Ok(Ok(bytes)) => Ok(AnswerBody::Whole(bytes.to_bytes())),
                Ok(Err(error)) => Err(GuestError::new(format!("reading the body failed: {error}"))),
                Err(_) => Err(GuestError::new("the sender sent nothing for too long")),
            };
        }
        self.open_stream(body, None, None, Reading::Ahead)
            .map(AnswerBody::Stream)
            .map_err(GuestError::new)
    }
}

/// A request of the guest with its streams as bodies.
enum Prepared {
    Fetch(Option<String>, http::Request<Body>),
    Call(String, String, CallPayload),
    Open(String, String, CallPayload),
    Connect(ConnectRequest),
    Target(Result<Arc<dyn Target>, GuestError>, Part, CallPayload),
}

/// Bytes of a method's name in the name of a span.
const MOST_METHOD: usize = 64;

impl Prepared {
    /// The span of what is asked for. Its name is of few different values, as far as a guest lets it be.
    fn span(&self, trace: &Trace) -> Option<Span> {
        let open = |name: String, kind| trace.span(name, kind);
        match self {
            Self::Fetch(None, request) => {
                let mut span = open(method_name(request.method()).to_owned(), SpanKind::Client)?;
                let uri = request.uri();
                span.set("http.request.method", request.method().to_string());
                span.set("server.address", uri.host().unwrap_or_default().to_owned());
                if let Some(port) = uri.port_u16() {
                    span.set("server.port", i64::from(port));
                }
                span.set(
                    "url.scheme",
                    uri.scheme_str().unwrap_or_default().to_owned(),
                );
                Some(span)
            }
            Self::Fetch(Some(binding), request) => {
                let mut span = open(call_name(binding, "fetch"), SpanKind::Internal)?;
                span.set("stockade.binding", binding.clone());
                span.set("http.request.method", request.method().to_string());
                Some(span)
            }
            Self::Call(binding, method, _) | Self::Open(binding, method, _) => {
                let mut span = open(call_name(binding, method), SpanKind::Internal)?;
                span.set("stockade.binding", binding.clone());
                span.set("rpc.method", method.clone());
                Some(span)
            }
            Self::Connect(request) => {
                let mut span = trace.span("connect", SpanKind::Client)?;
                span.set("server.address", request.host.clone());
                span.set("server.port", i64::from(request.port));
                Some(span)
            }
            Self::Target(..) => trace.span("stub", SpanKind::Internal),
        }
    }

    /// Lets the receiver of a request continue from this span.
    fn continue_trace(&mut self, trace: &Trace) {
        let Self::Fetch(binding, request) = self else {
            return;
        };
        if binding.is_some() {
            request.extensions_mut().insert(trace.clone());
        }
        // A guest that passes headers of its request on sends the span of its own work. Other ids are its own affair.
        let given = request.headers().get(TRACEPARENT);
        let own = given.and_then(|value| value.to_str().ok());
        if own.is_none_or(|own| own.contains(&trace.trace_id().to_string())) {
            trace.write(request.headers_mut());
        }
    }
}

/// The name of a span of an HTTP request to another server.
fn method_name(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        _ => "HTTP",
    }
}

/// The name of a span of a call. Both parts are a guest's.
fn call_name(binding: &str, method: &str) -> String {
    let plain = |text: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        text.len() <= MOST_METHOD && text.bytes().all(is_plain)
    };
    if plain(binding) && plain(method) {
        format!("{binding}.{method}")
    } else {
        "call".to_owned()
    }
}

/// What an answer gives the guest besides data: dropped before the answer is sent, it ends.
enum Given {
    Data(Unnamed),
    Pipe(NewPipe),
}

impl Given {
    /// The answer has named it.
    fn named(self) {
        match self {
            Self::Data(unnamed) => unnamed.named(),
            Self::Pipe(pipe) => drop(pipe.named()),
        }
    }
}
