//! Receipts of requests: what each request of a client to a site was and used, signed.
//!
//! A request that is answered costs its receipt some text and a place in a queue. One thread signs and logs.
//!
//! Invariants:
//! 1. A receipt is made once both are over: the response, and the guest's work on the request.
//! 2. The queue is bounded. What does not fit is counted and reported, and delays no request.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use stockade_audit::{AuditError, SigningKey};
use stockade_config::Instance as SiteConfig;
use stockade_http::{Body, BoxError, Client, RequestAccount};
use stockade_transpile::ModuleFiles;
use stockade_usage::receipt::{
    self, Answered, Asked, Code, Policy, RequestEgress, RequestReceipt, RequestUse, Runtime,
    Sha256, canonical,
};

use crate::log::target;

/// The field of the response that has the receipt's id.
const FIELD: HeaderName = HeaderName::from_static("stockade-receipt");

/// Receipts that wait to be signed.
const QUEUE: usize = 4096;

/// Signs receipts and logs them. Ends with its last clone.
#[derive(Clone)]
pub(crate) struct ReceiptWriter {
    queue: SyncSender<Finished>,
    left_out: Arc<AtomicU64>,
    v8: &'static str,
}

/// A receipt that is only to be signed.
struct Finished {
    key: Arc<SigningKey>,
    receipt: RequestReceipt,
}

/// What the receipts of one site have in common.
pub(crate) struct SiteReceipts {
    key: Arc<SigningKey>,
    instance: String,
    code: Code,
    policy: Policy,
    writer: ReceiptWriter,
}

/// A request whose receipt is not made yet.
#[derive(Debug)]
struct Pending {
    site: Arc<SiteReceipts>,
    /// The account of the route's limits, where CPU time is charged too.
    inner: Option<Arc<dyn RequestAccount>>,
    id: String,
    asked: Asked,
    started: SystemTime,
    began: Instant,
    /// Nanoseconds.
    cpu: AtomicU64,
    counts: PendingCounts,
    status: AtomicU16,
    complete: AtomicBool,
    state: Mutex<State>,
}

/// What a receipt counts until it is made. What comes later, such as the rest of an outbound request that the guest has
/// left behind, is not in it.
#[derive(Debug, Default)]
struct PendingCounts {
    /// Bytes of the bodies of the request and of the response.
    received: AtomicU64,
    sent: AtomicU64,
    egress_requests: AtomicU64,
    egress_sent: AtomicU64,
    egress_received: AtomicU64,
    refused: AtomicU64,
    refused_grants: AtomicU64,
}

/// What is over of a request.
#[derive(Debug, Default)]
struct State {
    /// Guests that work on it: that of the site, and those of instances that it has work for it.
    guests: u32,
    response: bool,
    written: bool,
}

impl std::fmt::Debug for SiteReceipts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SiteReceipts({})", self.instance)
    }
}

impl ReceiptWriter {
    /// Starts the thread. `v8` is the version of the engine that runs guests.
    ///
    /// # Errors
    /// When the system starts no thread.
    pub(crate) fn start(v8: &'static str) -> std::io::Result<Self> {
        let (queue, receiver) = sync_channel(QUEUE);
        let left_out = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&left_out);
        std::thread::Builder::new()
            .name("receipts".to_owned())
            .spawn(move || sign(&receiver, &counted))?;
        Ok(Self {
            queue,
            left_out,
            v8,
        })
    }
}

/// The thread.
fn sign(queue: &Receiver<Finished>, left_out: &AtomicU64) {
    while let Ok(Finished { key, receipt }) = queue.recv() {
        let left_out = left_out.swap(0, Relaxed);
        if left_out > 0 {
            tracing::error!(
                receipts = left_out,
                "receipts were left out: more requests came than one thread can sign for"
            );
        }
        match receipt::sign(&receipt, &key) {
            Ok(signed) => tracing::info!(
                name: "receipt",
                target: target::RECORD,
                instance = receipt.instance.as_str(),
                request_id = receipt.request.id.as_str(),
                id = receipt.jti.as_str(),
                receipt = signed.as_str(),
            ),
            Err(error) => tracing::error!(%error, "a receipt was not signed"),
        }
    }
}

/// Opens the key, or makes it, with its public half next to it.
fn open_key(path: &std::path::Path) -> Result<SigningKey, AuditError> {
    let key = SigningKey::open(path)?;
    let public = path.with_extension("pub");
    if !public.exists()
        && let Err(error) = std::fs::write(&public, key.public().to_hex() + "\n")
    {
        tracing::warn!(path = %public.display(), %error, "the public key of receipts was not written");
    }
    Ok(key)
}

impl SiteReceipts {
    /// What a site's receipts state about it; `None` where it has none.
    ///
    /// # Errors
    /// When the key cannot be opened or made.
    pub(crate) fn open(
        config: &SiteConfig,
        files: &ModuleFiles,
        writer: &ReceiptWriter,
    ) -> Result<Option<Arc<Self>>, AuditError> {
        let Some(path) = &config.receipts else {
            return Ok(None);
        };
        let digests = files.modules.iter();
        let digests = digests.map(|(name, text)| (name.clone(), Sha256::of(text.as_bytes())));
        let code = Code {
            // The digest has them; a receipt of each request is to be short.
            modules: Default::default(),
            ..Code::new(&files.entry, digests)
        };
        Ok(Some(Arc::new(Self {
            key: Arc::new(open_key(path)?),
            instance: config.name.clone(),
            code,
            policy: policy(config),
            writer: writer.clone(),
        })))
    }

    /// Begins the receipt of a request, where a client has sent it.
    fn begin(self: &Arc<Self>, request: &mut Request<Body>) -> Option<Arc<Pending>> {
        let id = receipt::new_id()?;
        let method = request.method().to_string();
        let url_sha256 = Sha256::of(request.uri().to_string().as_bytes());
        let client = request.extensions_mut().get_mut::<Client>()?;
        let pending = Arc::new(Pending {
            site: Arc::clone(self),
            inner: client.account.take(),
            id,
            asked: Asked {
                id: client.request_id.to_string(),
                method,
                url_sha256,
            },
            started: SystemTime::now(),
            began: Instant::now(),
            cpu: AtomicU64::new(0),
            counts: PendingCounts::default(),
            status: AtomicU16::new(0),
            complete: AtomicBool::new(false),
            state: Mutex::default(),
        });
        client.account = Some(Arc::clone(&pending) as _);
        Some(pending)
    }
}

/// The policy of a site: its level, its limits, the kinds of its grants, the names of its rules.
fn policy(config: &SiteConfig) -> Policy {
    let limits = &config.limits;
    let milliseconds = |time: Duration| json!(time.as_secs_f64() * 1e3);
    let limits = json!({
        "memory_bytes": limits.memory,
        "cpu_ms": milliseconds(limits.cpu),
        "timeout_ms": milliseconds(limits.timeout),
        "concurrency": limits.concurrency,
    });
    let grants: std::collections::BTreeMap<String, String> = config
        .grants
        .iter()
        .map(|(name, grant)| (name.clone(), grant.kind().to_owned()))
        .collect();
    let rules = config.data_guard.rules.iter();
    let fetch: Vec<&str> = rules.map(|rule| rule.name.as_str()).collect();
    let isolation = config.isolation.name();
    let whole =
        json!({ "isolation": isolation, "limits": limits, "grants": grants, "fetch": fetch });
    Policy {
        sha256: Sha256::of(canonical(&whole).as_bytes()),
        isolation: isolation.to_owned(),
        limits: match limits {
            Value::Object(limits) => limits,
            _ => Map::new(),
        },
        grants,
        fetch: fetch.len() as u64,
    }
}

/// Answers a request with `answer`, and makes its receipt where the site has receipts.
pub(crate) async fn receipted<F>(
    site: Option<&Arc<SiteReceipts>>,
    mut request: Request<Body>,
    answer: impl FnOnce(Request<Body>) -> F,
) -> Response<Body>
where
    F: Future<Output = Response<Body>>,
{
    let Some(pending) = site.and_then(|site| site.begin(&mut request)) else {
        let mut response = answer(request).await;
        // What stands there is a guest's own, and could be the receipt of another instance.
        response.headers_mut().remove(FIELD);
        return response;
    };
    if !request.body().is_end_stream() {
        let pending = Arc::clone(&pending);
        let count = move |bytes, _| {
            pending.counts.received.fetch_add(bytes, Relaxed);
        };
        request = request.map(|body| CountedBody { body, count }.boxed_unsync());
    }
    // Dropped where the client goes away before the response's head: the response is over then.
    let response = OpenResponse(pending);
    let answered = answer(request).await;
    let (mut parts, body) = answered.into_parts();
    let pending = &response.0;
    pending.status.store(parts.status.as_u16(), Relaxed);
    if let Ok(value) = HeaderValue::try_from(pending.id.as_str()) {
        parts.headers.insert(FIELD, value);
    }
    if body.is_end_stream() {
        pending.complete.store(true, Relaxed);
        return Response::from_parts(parts, body);
    }
    let count = move |bytes, is_complete| {
        let OpenResponse(pending) = &response;
        pending.counts.sent.fetch_add(bytes, Relaxed);
        if is_complete {
            pending.complete.store(true, Relaxed);
        }
    };
    let body = CountedBody { body, count }.boxed_unsync();
    Response::from_parts(parts, body)
}

/// A response that is not over. Dropped, it is.
struct OpenResponse(Arc<Pending>);

impl Drop for OpenResponse {
    fn drop(&mut self) {
        self.0.over(|state| state.response = true);
    }
}

/// A body whose bytes a receipt counts: `count` takes the bytes of each piece, and whether the body is complete.
struct CountedBody<F> {
    body: Body,
    count: F,
}

impl<F: Fn(u64, bool) + Unpin> http_body::Body for CountedBody<F> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                // The library drops a body with its last piece.
                (self.count)(bytes, self.body.is_end_stream());
            }
            Poll::Ready(None) => (self.count)(0, true),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl RequestAccount for Pending {
    fn used(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.cpu.fetch_add(nanos, Relaxed);
        if let Some(inner) = &self.inner {
            inner.used(time);
        }
    }

    fn idle(&self, time: Duration) {
        if let Some(inner) = &self.inner {
            inner.idle(time);
        }
    }

    fn refused(&self) {
        self.counts.refused.fetch_add(1, Relaxed);
    }

    fn grant_refused(&self) {
        self.counts.refused_grants.fetch_add(1, Relaxed);
    }

    fn egress_began(&self) {
        self.counts.egress_requests.fetch_add(1, Relaxed);
    }

    fn egress_moved(&self, sent: u64, received: u64) {
        self.counts.egress_sent.fetch_add(sent, Relaxed);
        self.counts.egress_received.fetch_add(received, Relaxed);
    }

    fn began(&self) {
        let mut state = self.state.lock();
        state.guests = state.guests.saturating_add(1);
    }

    fn ended(&self) {
        self.over(|state| state.guests = state.guests.saturating_sub(1));
    }
}

impl Drop for Pending {
    /// Nothing is left that could report an end.
    fn drop(&mut self) {
        self.over(|state| (state.guests, state.response) = (0, true));
    }
}

impl Pending {
    /// Notes what is over, and has the receipt signed once all is.
    fn over(&self, note: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        note(&mut state);
        if state.guests > 0 || !state.response || std::mem::replace(&mut state.written, true) {
            return;
        }
        drop(state);
        let milliseconds = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let time = |time| humantime::format_rfc3339_millis(time).to_string();
        let (site, counts) = (&self.site, &self.counts);
        let receipt = RequestReceipt {
            version: receipt::REQUEST_VERSION,
            jti: self.id.clone(),
            command: "serve".to_owned(),
            instance: site.instance.clone(),
            code: site.code.clone(),
            policy: site.policy.clone(),
            runtime: Runtime {
                stockade: env!("CARGO_PKG_VERSION").to_owned(),
                v8: site.writer.v8.to_owned(),
            },
            request: self.asked.clone(),
            started: time(self.started),
            ended: time(SystemTime::now()),
            usage: RequestUse {
                cpu_ms: milliseconds(Duration::from_nanos(self.cpu.load(Relaxed))),
                elapsed_ms: milliseconds(self.began.elapsed()),
                sent_bytes: counts.sent.load(Relaxed),
                received_bytes: Some(counts.received.load(Relaxed)),
                egress: Some(RequestEgress {
                    egress_requests: counts.egress_requests.load(Relaxed),
                    egress_sent_bytes: counts.egress_sent.load(Relaxed),
                    egress_received_bytes: counts.egress_received.load(Relaxed),
                }),
            },
            refused: counts.refused.load(Relaxed),
            refused_grants: Some(counts.refused_grants.load(Relaxed)),
            result: Answered {
                status: self.status.load(Relaxed),
                complete: self.complete.load(Relaxed),
            },
        };
        let finished = Finished {
            key: Arc::clone(&site.key),
            receipt,
        };
        if site.writer.queue.try_send(finished).is_err() {
            site.writer.left_out.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipt_waits_for_every_guest_that_works_on_the_request() {
        let folder = tempfile::tempdir().unwrap();
        let (queue, finished) = sync_channel(4);
        let site = Arc::new(SiteReceipts {
            key: Arc::new(SigningKey::open(&folder.path().join("receipt.key")).unwrap()),
            instance: "shop".to_owned(),
            code: Code::new("index.ts", []),
            policy: Policy {
                sha256: String::new(),
                isolation: "container".to_owned(),
                limits: Map::new(),
                grants: Default::default(),
                fetch: 0,
            },
            writer: ReceiptWriter {
                queue,
                left_out: Arc::default(),
                v8: "15",
            },
        });
        let pending = Pending {
            site,
            inner: None,
            id: "1".to_owned(),
            asked: Asked {
                id: "2".to_owned(),
                method: "GET".to_owned(),
                url_sha256: String::new(),
            },
            started: SystemTime::now(),
            began: Instant::now(),
            cpu: AtomicU64::new(0),
            counts: PendingCounts::default(),
            status: AtomicU16::new(200),
            complete: AtomicBool::new(true),
            state: Mutex::default(),
        };
        // The site has another instance compute for it, answers, and goes on in `waitUntil`.
        pending.began();
        pending.began();
        pending.used(Duration::from_millis(2));
        pending.egress_began();
        pending.egress_moved(3, 0);
        pending.egress_moved(0, 5);
        pending.grant_refused();
        pending.ended();
        pending.over(|state| state.response = true);
        assert!(finished.try_recv().is_err());
        pending.used(Duration::from_millis(30));
        pending.ended();
        let receipt = finished.try_recv().unwrap().receipt;
        assert!((receipt.usage.cpu_ms - 32.0).abs() < 0.01);
        let egress = receipt.usage.egress.unwrap();
        assert_eq!(
            (
                egress.egress_requests,
                egress.egress_sent_bytes,
                egress.egress_received_bytes
            ),
            (1, 3, 5)
        );
        assert_eq!((receipt.refused, receipt.refused_grants), (0, Some(1)));
        drop(pending);
        assert!(finished.try_recv().is_err());
    }
}
