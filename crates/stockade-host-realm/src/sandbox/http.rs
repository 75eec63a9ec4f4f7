//! Ops that have guests answer HTTP: requests of the script's own, and servers.
//!
//! A guest is reached by messages, as a site is (`stockade_instance`): it never has a socket. The bytes of clients are
//! read, checked and bounded by `stockade_gateway`, and do not pass the script.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use deno_core::{
    AsyncRefCell, AsyncResult, BufView, ByteString, CancelFuture as _, CancelHandle,
    CancelTryFuture as _, OpState, RcRef, Resource, ResourceId, op2,
};
use deno_error::JsErrorBox;
use futures_util::stream;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stockade_gateway::{Gateway, Limits, ListenError};
use stockade_http::{Body, BoxError, Problem, empty_body};
use stockade_instance::{FetchError, FetchHandler, GrantedGuest, InstanceLimits};
use stockade_supervisor::End;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::state::Sandboxes;
use super::thrown::error_json;

/// Bytes of a request's body that are read from the script at once.
const PIECE: usize = 64 << 10;

/// How long requests may take to end when their guest has ended; all of them fail at once.
const AFTER_END: Duration = Duration::from_millis(500);

/// Failures of a server that wait for the script. Further ones are dropped.
const FAILURES: usize = 64;

/// The longest time of an option, a day.
const MOST_MS: u64 = 86_400_000;

/// What a client may need beyond the time that a guest has: a body that is received before the guest is asked.
const BEYOND: Duration = Duration::from_secs(30);

/// Why a guest does not answer.
#[derive(Debug, thiserror::Error, deno_error::JsError)]
pub(crate) enum HttpError {
    #[class(generic)]
    #[error("isolate #{0} is destroyed")]
    Gone(u32),
    #[class(type)]
    #[error(
        "isolate #{0} answers no requests\n  fix: createIsolate({{ serve: true }}) with a main module of the form \
         export default {{ fetch(request, env, ctx) {{ … }} }}"
    )]
    ServesNothing(u32),
    #[class(type)]
    #[error("the request is not valid: {0}")]
    Request(String),
    #[class(type)]
    #[error("listen: {0}")]
    Options(String),
    #[class(generic)]
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[class(generic)]
    #[error("the isolate ended before it responded: {0}")]
    Ended(End),
    #[class("Busy")]
    #[error(
        "the guest has as many requests as it may\n  fix: serve.concurrentRequests, or try again later"
    )]
    Busy,
    #[class(generic)]
    #[error("{0}")]
    Failed(FetchError),
    #[class("Interrupted")]
    #[error("the request was aborted")]
    Aborted,
    #[class(inherit)]
    #[error(transparent)]
    Resource(#[from] deno_core::error::ResourceError),
}

/// What is wrong with the option `serve`.
#[derive(Debug, thiserror::Error)]
#[error("serve: {0}")]
pub(crate) struct ServeError(String);

/// The option `serve` of an isolate. Times are in milliseconds, and a limit of 0 bytes is none.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ServeOptions {
    concurrent_requests: usize,
    response_timeout_ms: u64,
    max_body_bytes: u64,
    max_response_bytes: u64,
    web_sockets: usize,
}

impl Default for ServeOptions {
    fn default() -> Self {
        let limits = InstanceLimits::default();
        Self {
            concurrent_requests: limits.concurrency,
            response_timeout_ms: ms(limits.wall),
            max_body_bytes: limits.request_body.unwrap_or(0),
            max_response_bytes: limits.response_body.unwrap_or(0),
            web_sockets: limits.sockets,
        }
    }
}

/// Reads the option `serve`: the limits of what a guest answers, or `None` for the empty text.
pub(super) fn serving(json: &str) -> Result<Option<InstanceLimits>, ServeError> {
    if json.is_empty() {
        return Ok(None);
    }
    let read: Result<ServeOptions, _> = serde_json::from_str(json);
    let given = read.map_err(|error| ServeError(error.to_string()))?;
    let bytes = |limit: u64| (limit > 0).then_some(limit);
    let limits = InstanceLimits {
        concurrency: at_least_one("concurrentRequests", given.concurrent_requests)
            .map_err(ServeError)?,
        wall: time("responseTimeoutMs", given.response_timeout_ms).map_err(ServeError)?,
        request_body: bytes(given.max_body_bytes),
        response_body: bytes(given.max_response_bytes),
        sockets: given.web_sockets,
        ..InstanceLimits::default()
    };
    Ok(Some(limits))
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn time(name: &str, ms: u64) -> Result<Duration, String> {
    match ms {
        1..=MOST_MS => Ok(Duration::from_millis(ms)),
        _ => Err(format!(
            "{name} is {ms}, and must be from 1 to {MOST_MS} ms"
        )),
    }
}

fn at_least_one(name: &str, count: usize) -> Result<usize, String> {
    match count {
        0 => Err(format!("{name} is 0, and must be at least 1")),
        _ => Ok(count),
    }
}

fn handler(state: &OpState, sandbox: u32, isolate: u32) -> Result<FetchHandler, HttpError> {
    let account = state.borrow::<Sandboxes>().account((sandbox, isolate));
    let account = account.ok_or(HttpError::Gone(isolate))?;
    let handler = account.granted().and_then(GrantedGuest::fetch_handler);
    handler.ok_or(HttpError::ServesNothing(isolate))
}

// ---- A request of the script's ----

/// The guest's response, or what it threw.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Fetched {
    Response {
        status: u16,
        headers: Vec<(ByteString, ByteString)>,
        /// The resource of its body; none where it has none.
        body: Option<ResourceId>,
    },
    Thrown {
        /// As JSON.
        error: String,
    },
}

/// A request of the script's.
#[derive(Deserialize)]
pub(crate) struct Asked {
    method: ByteString,
    url: String,
    headers: Vec<(ByteString, ByteString)>,
    /// The resource of its body's stream.
    body: Option<ResourceId>,
    /// Closing this resource aborts the request.
    cancel: ResourceId,
}

#[op2]
#[serde]
pub(crate) async fn op_isolate_fetch(
    state: Rc<RefCell<OpState>>,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[serde] asked: Asked,
) -> Result<Fetched, HttpError> {
    let (handler, body, cancel) = {
        let mut state = state.borrow_mut();
        let body = match asked.body {
            Some(stream) => streamed(state.resource_table.take_any(stream)?),
            None => empty_body(),
        };
        let cancel = state.resource_table.get::<CancelHandle>(asked.cancel)?;
        (handler(&state, sandbox, isolate)?, body, cancel)
    };
    let request = request(&asked, body)?;
    let fetched = handler.fetch(request).or_cancel(cancel).await;
    let response = match fetched.map_err(|_| HttpError::Aborted)? {
        Ok(response) => response,
        Err(FetchError::Threw(error)) => {
            return Ok(Fetched::Thrown {
                error: error_json(&error).to_string(),
            });
        }
        Err(FetchError::Ended { end }) => return Err(HttpError::Ended(end)),
        Err(FetchError::Busy { .. }) => return Err(HttpError::Busy),
        Err(error) => return Err(HttpError::Failed(error)),
    };
    let (parts, body) = response.into_parts();
    let pairs = parts.headers.iter();
    let headers = pairs.map(|(name, value)| (name.as_str().into(), value.as_bytes().into()));
    let resource = ResponseBody {
        reading: AsyncRefCell::new(Reading {
            body,
            rest: Bytes::new(),
        }),
        cancel: CancelHandle::new(),
    };
    // Of these statuses a script can make no response with a body.
    let has_body = !matches!(parts.status.as_u16(), 204 | 205 | 304);
    let body = has_body.then(|| state.borrow_mut().resource_table.add(resource));
    Ok(Fetched::Response {
        status: parts.status.as_u16(),
        headers: headers.collect(),
        body,
    })
}

fn request(asked: &Asked, body: Body) -> Result<Request<Body>, HttpError> {
    let invalid = |error: &dyn std::fmt::Display| HttpError::Request(error.to_string());
    let uri = asked.url.parse::<Uri>().map_err(|error| invalid(&error))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(invalid(&"its URL must begin with http:// or https://"));
    }
    let mut fields = HeaderMap::new();
    for (name, value) in &asked.headers {
        let name = HeaderName::from_bytes(name).map_err(|error| invalid(&error))?;
        let value = HeaderValue::from_bytes(value).map_err(|error| invalid(&error))?;
        fields
            .try_append(name, value)
            .map_err(|error| invalid(&error))?;
    }
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(&asked.method).map_err(|error| invalid(&error))?;
    *request.uri_mut() = uri;
    *request.headers_mut() = fields;
    Ok(request)
}

/// A body from a stream of the script's, which is read one piece ahead.
fn streamed(resource: Rc<dyn Resource>) -> Body {
    let (sender, mut receiver) = mpsc::channel::<Result<Frame<Bytes>, BoxError>>(1);
    deno_core::unsync::spawn(async move {
        loop {
            // What nobody reads any more is not read from the script.
            let read = tokio::select! {
                read = Rc::clone(&resource).read(PIECE) => read,
                () = sender.closed() => break,
            };
            let piece = match read {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => Ok(Frame::data(Bytes::copy_from_slice(&piece))),
                Err(error) => Err(error.to_string().into()),
            };
            let is_last = piece.is_err();
            if sender.send(piece).await.is_err() || is_last {
                break;
            }
        }
        resource.close();
    });
    StreamBody::new(stream::poll_fn(move |cx| receiver.poll_recv(cx))).boxed_unsync()
}

/// The body of a guest's response. Closing it drops what is left.
struct ResponseBody {
    reading: AsyncRefCell<Reading>,
    cancel: CancelHandle,
}

struct Reading {
    body: Body,
    /// What was not read of the last piece.
    rest: Bytes,
}

impl Reading {
    async fn next(&mut self, limit: usize) -> Result<BufView, JsErrorBox> {
        while self.rest.is_empty() {
            let Some(frame) = self.body.frame().await else {
                return Ok(BufView::empty());
            };
            let frame = frame.map_err(|error| JsErrorBox::generic(error.to_string()))?;
            self.rest = frame.into_data().unwrap_or_default();
        }
        let piece = self.rest.split_to(limit.min(self.rest.len()));
        Ok(BufView::from(piece.to_vec()))
    }
}

impl Resource for ResponseBody {
    fn name(&self) -> std::borrow::Cow<'_, str> {
        "guestResponse".into()
    }

    fn read(self: Rc<Self>, limit: usize) -> AsyncResult<BufView> {
        Box::pin(async move {
            let mut reading = RcRef::map(&self, |body| &body.reading).borrow_mut().await;
            let cancel = RcRef::map(&self, |body| &body.cancel);
            reading.next(limit).try_or_cancel(cancel).await
        })
    }

    fn close(self: Rc<Self>) {
        self.cancel.cancel();
    }
}

// ---- Servers ----

/// The options of `listen`. Times are in milliseconds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ListenOptions {
    hostname: String,
    port: u16,
    connections: usize,
    connections_per_address: usize,
    header_timeout_ms: u64,
    body_timeout_ms: u64,
    write_timeout_ms: u64,
    idle_timeout_ms: u64,
    web_socket_message_bytes: usize,
}

impl Default for ListenOptions {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            hostname: Ipv4Addr::LOCALHOST.to_string(),
            port: 8000,
            connections: limits.connections,
            connections_per_address: limits.connections_per_address,
            header_timeout_ms: ms(limits.header_timeout),
            body_timeout_ms: ms(limits.body_timeout),
            write_timeout_ms: ms(limits.stall_timeout),
            idle_timeout_ms: ms(limits.idle_timeout),
            web_socket_message_bytes: limits.sockets.message_bytes,
        }
    }
}

impl ListenOptions {
    fn address(&self) -> Result<SocketAddr, String> {
        let host = match self.hostname.as_str() {
            "localhost" => Ok(IpAddr::from(Ipv4Addr::LOCALHOST)),
            text => text.trim_start_matches('[').trim_end_matches(']').parse(),
        };
        let host = host.map_err(|_| {
            "hostname must be an IP address or localhost, as 127.0.0.1, 0.0.0.0 or ::".to_owned()
        })?;
        Ok(SocketAddr::new(host, self.port))
    }

    /// What clients may take of a guest with these limits.
    fn limits(&self, guest: &InstanceLimits) -> Result<Limits, String> {
        let defaults = Limits::default();
        let mut sockets = defaults.sockets.clone();
        sockets.open = guest.sockets;
        sockets.message_bytes =
            at_least_one("webSocketMessageBytes", self.web_socket_message_bytes)?;
        Ok(Limits {
            connections: at_least_one("connections", self.connections)?,
            connections_per_address: at_least_one(
                "connectionsPerAddress",
                self.connections_per_address,
            )?,
            header_timeout: time("headerTimeoutMs", self.header_timeout_ms)?,
            body_timeout: time("bodyTimeoutMs", self.body_timeout_ms)?,
            stall_timeout: time("writeTimeoutMs", self.write_timeout_ms)?,
            idle_timeout: time("idleTimeoutMs", self.idle_timeout_ms)?,
            max_body: guest.request_body.unwrap_or(u64::MAX),
            request_timeout: guest.wall.saturating_add(BEYOND),
            sockets,
            ..defaults
        })
    }
}

/// How a server has ended: by the script, or by the end of its guest.
#[derive(Clone)]
enum Over {
    Shutdown,
    Guest(String),
}

/// A server whose requests a guest answers. It stops with the guest, and when it is dropped.
struct GuestServer {
    gateway: Gateway,
    failures: AsyncRefCell<mpsc::Receiver<Value>>,
    over: watch::Sender<Option<Over>>,
    /// Ends the task that waits for the guest's end.
    watching: AbortHandle,
}

impl Resource for GuestServer {
    fn name(&self) -> std::borrow::Cow<'_, str> {
        "guestServer".into()
    }
}

impl Drop for GuestServer {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// Where a server listens.
#[derive(Serialize)]
pub(crate) struct Listening {
    rid: ResourceId,
    hostname: String,
    port: u16,
}

/// The response of a guest, or of the server in its place. What a guest did wrong goes to the script.
async fn answer(
    handler: FetchHandler,
    request: Request<Body>,
    failures: mpsc::Sender<Value>,
) -> http::Response<Body> {
    let error = match handler.fetch(request).await {
        Ok(response) => return response,
        Err(error) => error,
    };
    let failure = match &error {
        FetchError::Threw(error) => Some(error_json(error)),
        FetchError::BadResponse { .. } | FetchError::TimedOut { .. } => Some(json!({
            "name": "Error", "message": error.to_string(), "stack": null, "source": null,
        })),
        _ => None,
    };
    if let Some(failure) = failure {
        // Clients cause failures as fast as they like, and a script that does not take them gets the first ones.
        let _ = failures.try_send(failure);
    }
    let problem = match error {
        // No other guest takes its place.
        FetchError::Ended { .. } => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.public_message())
        }
        error => error.problem(),
    };
    problem.into_response()
}

#[op2]
#[serde]
pub(crate) async fn op_guest_server_listen(
    state: Rc<RefCell<OpState>>,
    #[smi] sandbox: u32,
    #[smi] isolate: u32,
    #[string] options: String,
) -> Result<Listening, HttpError> {
    // What is asked for.
    let options: ListenOptions =
        serde_json::from_str(&options).map_err(|error| HttpError::Options(error.to_string()))?;
    let (handler, guest) = {
        let state = state.borrow();
        let guest = state.borrow::<Sandboxes>().handle((sandbox, isolate));
        let guest = guest.ok_or(HttpError::Gone(isolate))?;
        (handler(&state, sandbox, isolate)?, guest)
    };
    let address = options.address().map_err(HttpError::Options)?;
    let limits = options.limits(handler.limits());
    let limits = limits.map_err(HttpError::Options)?;

    // The server.
    let (sender, failures) = mpsc::channel(FAILURES);
    let target = move |request: Request<Body>| answer(handler.clone(), request, sender.clone());
    let (gateway, address) = Gateway::of_one(address, Arc::new(target), limits).await?;

    // Its end with the guest's.
    let over = watch::Sender::new(None);
    let (ending, closing) = (gateway.clone(), over.clone());
    let watching = tokio::spawn(async move {
        guest.until_end().await;
        ending.drain(AFTER_END).await;
        let end = guest.end().map(|end| end.to_string()).unwrap_or_default();
        closing.send_modify(|over| {
            over.get_or_insert(Over::Guest(end));
        });
    });
    let rid = state.borrow_mut().resource_table.add(GuestServer {
        gateway,
        failures: AsyncRefCell::new(failures),
        over,
        watching: watching.abort_handle(),
    });
    Ok(Listening {
        rid,
        hostname: address.ip().to_string(),
        port: address.port(),
    })
}

/// What happened at a server.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum ServerEvent {
    /// The guest failed to answer a request.
    Failed {
        /// As the event `error` of the isolate.
        error: Value,
    },
    /// It listens no more; the last event.
    Over {
        /// How its guest ended, where that is why.
        guest: Option<String>,
    },
}

#[op2]
#[serde]
pub(crate) async fn op_guest_server_event(
    state: Rc<RefCell<OpState>>,
    #[smi] rid: ResourceId,
) -> Result<ServerEvent, HttpError> {
    let server = state.borrow().resource_table.get::<GuestServer>(rid)?;
    let mut over = server.over.subscribe();
    let failures = RcRef::map(&server, |server| &server.failures);
    let mut failures = failures.borrow_mut().await;
    tokio::select! {
        biased;
        Some(error) = failures.recv() => Ok(ServerEvent::Failed { error }),
        over = over.wait_for(Option::is_some) => Ok(ServerEvent::Over {
            guest: match over.ok().and_then(|over| over.clone()) {
                Some(Over::Guest(end)) => Some(end),
                _ => None,
            },
        }),
    }
}

#[op2]
pub(crate) async fn op_guest_server_shutdown(
    state: Rc<RefCell<OpState>>,
    #[smi] rid: ResourceId,
    #[smi] deadline: u32,
) -> Result<(), HttpError> {
    let server = state.borrow().resource_table.get::<GuestServer>(rid)?;
    let within = Duration::from_millis(deadline.into());
    server.gateway.drain(within).await;
    server.over.send_modify(|over| {
        over.get_or_insert(Over::Shutdown);
    });
    Ok(())
}
