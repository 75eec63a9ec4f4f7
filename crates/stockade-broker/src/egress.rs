//! One instance's way out.
//!
//! The order is fixed: count the call, read the target, hold it against the rules, clean the header,
//! fill in secrets, find a place, resolve, check every address, connect to one of exactly these. A
//! step that fails ends it, and nothing was sent.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::audit::{Action, Audit, Reason, Refusal};
use crate::body::Body;
use crate::budget::Purse;
use crate::connect::{ConnectFailure, Connector, Speaks};
use crate::decode::{self, Coding, DecodeLimits, Masked};
use crate::download::{Download, DownloadLimits, describe};
use crate::error::EgressError;
use crate::exchange::{Begun, Exchange};
use crate::headers;
use crate::policy::{Admitted, Denied, EgressPolicy, Rule, Scheme};
use crate::pool::{Key, Pool, Sender};
use crate::resolve::Resolver;
use crate::secrets::Secrets;
use crate::target::Target;
use crate::upload::Upload;

/// One instance's way out: its policy, secrets, connections and budgets.
pub struct Egress {
    pub(crate) instance: Arc<str>,
    pub(crate) policy: EgressPolicy,
    pub(crate) secrets: Secrets,
    pub(crate) audit: Arc<dyn Audit>,
    pub(crate) purse: Arc<Purse>,
    pub(crate) connector: Connector,
    resolver: Resolver,
    pool: Arc<Pool>,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    pub(crate) sockets: Arc<Semaphore>,
}

/// What an [`Egress`] is made of.
pub(crate) struct Parts {
    pub(crate) instance: Arc<str>,
    pub(crate) policy: EgressPolicy,
    pub(crate) secrets: Secrets,
    pub(crate) audit: Arc<dyn Audit>,
    pub(crate) purse: Purse,
    pub(crate) connector: Connector,
    pub(crate) resolver: Resolver,
}

/// A request of the guest, as far as it is checked and changed.
struct Outgoing {
    method: Method,
    target: Target,
    headers: HeaderMap,
    declared: Option<u64>,
}

impl Egress {
    pub(crate) fn new(parts: Parts) -> Self {
        let places = parts.policy.limits.concurrent.min(Semaphore::MAX_PERMITS);
        let sockets = parts.policy.limits.websockets.min(Semaphore::MAX_PERMITS);
        Self {
            instance: parts.instance,
            policy: parts.policy,
            secrets: parts.secrets,
            audit: parts.audit,
            purse: Arc::new(parts.purse),
            connector: parts.connector,
            resolver: parts.resolver,
            pool: Arc::default(),
            places: Arc::new(Semaphore::new(places)),
            waiting: AtomicUsize::new(0),
            sockets: Arc::new(Semaphore::new(sockets)),
        }
    }

    /// Sends a request, under policy. The URI must be absolute.
    ///
    /// Redirects are answers like others. The future may be dropped at any time: the exchange ends.
    ///
    /// # Errors
    /// See [`EgressError`]. Errors of the body come from the body; they are `EgressError`s too.
    pub async fn fetch(
        self: Arc<Self>,
        request: Request<Body>,
    ) -> Result<Response<Body>, EgressError> {
        let started = Instant::now();
        let (parts, body) = request.into_parts();
        let mut target = self.target(Action::Fetch, &parts.uri)?;
        if !matches!(target.scheme, Scheme::Http | Scheme::Https) {
            return Err(invalid("the URL", "fetch takes http:// and https:// only"));
        }
        if matches!(parts.method.as_str(), "CONNECT" | "TRACE" | "TRACK") {
            return Err(invalid(
                "the method",
                "fetch does not allow CONNECT, TRACE and TRACK",
            ));
        }
        let body = body_for(&parts.method, body)?;
        let admitted = self.admit(Action::Fetch, &target, &parts.method)?;
        let mut headers = parts.headers;
        let declared = headers::clean_request(&mut headers)?;
        self.fill(Action::Fetch, &mut headers, &mut target)?;
        let place = self.place(&target).await?;
        self.purse
            .request()
            .map_err(|reason| self.refuse_plain(Action::Fetch, &target, reason))?;
        let outgoing = Outgoing {
            method: parts.method,
            target,
            headers,
            declared,
        };
        let connect = self.connect(&admitted, &outgoing.target);
        let limit = self.policy.limits.connect_timeout;
        let (rule, addresses, key, sender, is_reused) = tokio::time::timeout(limit, connect)
            .await
            .unwrap_or_else(|_| Err(timed_out(&outgoing.target, "connecting", limit)))?;
        let exchange = Exchange::new(Begun {
            instance: self.instance.clone(),
            audit: self.audit.clone(),
            purse: self.purse.clone(),
            action: Action::Fetch,
            target: outgoing.target.to_string(),
            rule: rule.name.clone(),
            started,
            place,
        });
        let attempt = Attempt {
            addresses,
            key,
            sender,
            is_reused,
        };
        let is_head = outgoing.method == Method::HEAD;
        let (response, key, sender) = self.send(&exchange, outgoing, body, attempt).await?;
        self.receive(
            exchange,
            response,
            is_head,
            (self.pool.clone(), key, sender),
        )
    }

    /// Counts the call and reads where it goes.
    pub(crate) fn target(&self, action: Action, uri: &Uri) -> Result<Target, EgressError> {
        let target = Target::parse(uri);
        if let Err(reason) = self.purse.call() {
            let text = target
                .as_ref()
                .map_or_else(|_| "an invalid URL".to_owned(), Target::to_string);
            return Err(self.refuse(
                action,
                text,
                Denied {
                    rule: None,
                    reason,
                    address: None,
                },
            ));
        }
        target.map_err(|error| invalid("the URL", error))
    }

    pub(crate) fn admit(
        &self,
        action: Action,
        target: &Target,
        method: &Method,
    ) -> Result<Admitted<'_>, EgressError> {
        let admitted = self.policy.admit(target, method);
        admitted.map_err(|denied| self.refuse(action, target.to_string(), denied))
    }

    pub(crate) fn fill(
        &self,
        action: Action,
        headers: &mut HeaderMap,
        target: &mut Target,
    ) -> Result<(), EgressError> {
        let filled = self.secrets.fill_headers(headers, target);
        let filled = filled.and_then(|()| self.secrets.fill_path(target));
        filled.map_err(|reason| self.refuse_plain(action, target, reason))
    }

    pub(crate) fn refuse(&self, action: Action, target: String, denied: Denied) -> EgressError {
        let refusal = Refusal {
            instance: self.instance.clone(),
            action,
            target,
            rule: denied.rule,
            reason: denied.reason,
            address: denied.address,
        };
        self.audit.refused(&refusal);
        EgressError::Refused(Box::new(refusal))
    }

    pub(crate) fn refuse_plain(
        &self,
        action: Action,
        target: &Target,
        reason: Reason,
    ) -> EgressError {
        self.refuse(
            action,
            target.to_string(),
            Denied {
                rule: None,
                reason,
                address: None,
            },
        )
    }

    /// Waits for a place among the exchanges, if not too many wait already.
    async fn place(&self, target: &Target) -> Result<OwnedSemaphorePermit, EgressError> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        let limits = &self.policy.limits;
        let waiting = Waiting::new(&self.waiting);
        if waiting.before >= limits.queued {
            let limit = limits.concurrent.saturating_add(limits.queued);
            return Err(self.refuse_plain(Action::Fetch, target, Reason::Concurrency { limit }));
        }
        let limit = limits.head_timeout;
        match tokio::time::timeout(limit, self.places.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(timed_out(
                target,
                "waiting for earlier fetches to end",
                limit,
            )),
        }
    }

    /// The addresses of a target, all checked, and the rule that allows them.
    pub(crate) async fn checked_addresses<'a>(
        &self,
        action: Action,
        admitted: &Admitted<'a>,
        target: &Target,
    ) -> Result<(&'a Rule, Vec<IpAddr>), EgressError> {
        let addresses = self
            .resolver
            .addresses(&target.host)
            .await
            .map_err(|failure| EgressError::Resolve {
                target: target.to_string(),
                why: failure.to_string(),
            })?;
        let rule = admitted.check(&addresses);
        let rule = rule.map_err(|denied| self.refuse(action, target.to_string(), denied))?;
        Ok((rule, addresses))
    }

    async fn connect<'a>(
        &self,
        admitted: &Admitted<'a>,
        target: &Target,
    ) -> Result<(&'a Rule, Vec<IpAddr>, Key, Sender, bool), EgressError> {
        let (rule, addresses) = self
            .checked_addresses(Action::Fetch, admitted, target)
            .await?;
        let keys = addresses.iter().map(|&address| Key::new(target, address));
        if let Some((key, sender)) = self.pool.take(keys) {
            return Ok((rule, addresses, key, sender, true));
        }
        let (key, sender) = self.connect_anew(target, &addresses).await?;
        Ok((rule, addresses, key, sender, false))
    }

    async fn connect_anew(
        &self,
        target: &Target,
        addresses: &[IpAddr],
    ) -> Result<(Key, Sender), EgressError> {
        let connected = self
            .connector
            .connect(target, addresses, Speaks::Http)
            .await;
        let (stream, address) = connected.map_err(|failure| connect_error(target, &failure))?;
        let key = Key::new(target, address);
        let sender = Sender::start(stream)
            .await
            .map_err(|error| EgressError::Connect {
                target: target.to_string(),
                why: describe(&error),
            })?;
        // Others may use it at once.
        if let Sender::H2(shared, task) = &sender {
            self.pool
                .keep(key.clone(), Sender::H2(shared.clone(), task.clone()));
        }
        Ok((key, sender))
    }

    /// Sends, once more over a new connection where the old one was closed by the other end before it
    /// took anything, or where asking twice does no harm.
    async fn send(
        &self,
        exchange: &Arc<Exchange>,
        outgoing: Outgoing,
        body: Option<Body>,
        mut attempt: Attempt,
    ) -> Result<(Response<Incoming>, Key, Sender), EgressError> {
        let limits = &self.policy.limits;
        let is_repeatable = body.is_none() && outgoing.method.is_safe();
        let body = match body {
            Some(body) => {
                let limit = limits.max_request_bytes;
                let declared = outgoing.declared;
                Upload::new(body, exchange.clone(), limit, declared, &self.secrets)?.boxed_unsync()
            }
            None => empty(),
        };
        let mut request = outgoing.request(attempt.sender.version(), body)?;
        loop {
            let failure = match self.head(exchange, &mut attempt.sender, request).await? {
                Ok(response) => return Ok((response, attempt.key, attempt.sender)),
                Err(failure) => failure,
            };
            if let Some(failure) = exchange.failure() {
                return Err(failure);
            }
            let body = match failure.unsent {
                Some(unsent) => unsent.into_body(),
                None if is_repeatable && attempt.is_reused => empty(),
                None => return Err(exchange.upstream(describe(&failure.error))),
            };
            if !attempt.is_reused {
                return Err(exchange.upstream(describe(&failure.error)));
            }
            let limit = limits.connect_timeout;
            let anew = self.connect_anew(&outgoing.target, &attempt.addresses);
            let (key, sender) = tokio::time::timeout(limit, anew)
                .await
                .unwrap_or_else(|_| Err(timed_out(&outgoing.target, "connecting", limit)))
                .map_err(|error| exchange.fails(error))?;
            request = outgoing.request(sender.version(), body)?;
            attempt = Attempt {
                key,
                sender,
                is_reused: false,
                ..attempt
            };
        }
    }

    /// Waits for the response's head. The clock begins anew with each piece of the request.
    async fn head(
        &self,
        exchange: &Exchange,
        sender: &mut Sender,
        request: Request<Body>,
    ) -> Result<Result<Response<Incoming>, crate::pool::SendFailure>, EgressError> {
        let limits = &self.policy.limits;
        let whole = exchange.started + limits.exchange_timeout;
        let mut sending = std::pin::pin!(sender.send(request));
        loop {
            let until = exchange.progressed() + limits.head_timeout;
            tokio::select! {
                result = &mut sending => return Ok(result),
                () = tokio::time::sleep_until(until.min(whole)) => {}
            }
            if Instant::now() >= whole {
                return Err(exchange.timed_out("the whole exchange", limits.exchange_timeout));
            }
            if exchange.progressed() + limits.head_timeout <= Instant::now() {
                return Err(exchange.timed_out("the response's head", limits.head_timeout));
            }
        }
    }

    fn receive(
        &self,
        exchange: Arc<Exchange>,
        response: Response<Incoming>,
        is_head: bool,
        connection: (Arc<Pool>, Key, Sender),
    ) -> Result<Response<Body>, EgressError> {
        let limits = &self.policy.limits;
        let (parts, body) = response.into_parts();
        exchange.answered(parts.status.as_u16());
        if parts.status.is_informational() {
            return Err(exchange.upstream("the server switched protocols unasked"));
        }
        let mut headers = parts.headers;
        let bytes: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        if headers.len() > crate::pool::MAX_FIELDS || bytes > crate::pool::MAX_HEAD {
            return Err(exchange.upstream("the response's header is too large"));
        }
        headers::clean_response(&mut headers);
        self.secrets.mask_headers(&mut headers);
        if let Some(length) = body
            .size_hint()
            .exact()
            .filter(|&n| n > limits.max_response_bytes)
        {
            tracing::debug!(length, "a response is larger than allowed");
            let limit = limits.max_response_bytes;
            return Err(exchange.refuse(Reason::TooLarge {
                what: "the response",
                limit,
            }));
        }
        let has_body = !is_head
            && !matches!(
                parts.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            )
            && !body.is_end_stream();
        let coding = Coding::of(&headers)
            .filter(|_| has_body && parts.status != StatusCode::PARTIAL_CONTENT);
        let download = Download::new(
            body,
            exchange.clone(),
            DownloadLimits {
                bytes: limits.max_response_bytes,
                idle: limits.idle_timeout,
                exchange: limits.exchange_timeout,
            },
            connection,
        );
        let mut body = match coding {
            Some(coding) => {
                headers.remove(header::CONTENT_ENCODING);
                headers.remove(header::CONTENT_LENGTH);
                let bounds = DecodeLimits {
                    bytes: limits.max_decoded_bytes,
                    ratio: limits.max_ratio,
                };
                decode::decode(download, coding, exchange, bounds)
            }
            None => download.boxed_unsync(),
        };
        if has_body && !self.secrets.is_empty() {
            headers.remove(header::CONTENT_LENGTH);
            body = Masked::new(body, self.secrets.clone()).boxed_unsync();
        }
        let mut response = Response::new(body);
        *response.status_mut() = parts.status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// A connection that a request is tried on.
struct Attempt {
    addresses: Vec<IpAddr>,
    key: Key,
    sender: Sender,
    is_reused: bool,
}

impl Outgoing {
    fn request(&self, version: Version, body: Body) -> Result<Request<Body>, EgressError> {
        let mut headers = self.headers.clone();
        let authority = self.target.authority();
        let uri = if version == Version::HTTP_2 {
            let scheme = self.target.scheme.as_str();
            Uri::builder()
                .scheme(scheme)
                .authority(authority)
                .path_and_query(&*self.target.path)
                .build()
        } else {
            let host =
                HeaderValue::try_from(authority).map_err(|error| invalid("the host", error))?;
            headers.insert(header::HOST, host);
            Uri::builder().path_and_query(&*self.target.path).build()
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri.map_err(|error| invalid("the URL", error))?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// Counts those that wait for a place.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        Self {
            count,
            before: count.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body to send; none for methods that have none (<https://fetch.spec.whatwg.org/#request-class>).
fn body_for(method: &Method, body: Body) -> Result<Option<Body>, EgressError> {
    let is_empty = body.is_end_stream() || body.size_hint().exact() == Some(0);
    match *method {
        Method::GET | Method::HEAD if is_empty => Ok(None),
        Method::GET | Method::HEAD => Err(invalid("the request", "GET and HEAD have no body")),
        Method::OPTIONS | Method::DELETE if is_empty => Ok(None),
        _ => Ok(Some(body)),
    }
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn invalid(what: &'static str, why: impl ToString) -> EgressError {
    EgressError::Invalid {
        what,
        why: why.to_string(),
    }
}

pub(crate) fn timed_out(
    target: &Target,
    what: &'static str,
    limit: std::time::Duration,
) -> EgressError {
    EgressError::TimedOut {
        target: target.to_string(),
        what,
        limit,
    }
}

pub(crate) fn connect_error(target: &Target, failure: &ConnectFailure) -> EgressError {
    let (target, why) = (target.to_string(), failure.to_string());
    match failure {
        ConnectFailure::Tcp(_) => EgressError::Connect { target, why },
        ConnectFailure::Tls(_) => EgressError::Tls { target, why },
    }
}
