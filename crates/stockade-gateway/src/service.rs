//! One request: from its head to a target and back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, request};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use stockade_instance::{Body, Client, ServedBy, Upgrade as GuestUpgrade};

use crate::access::{AccessRecord, Outcome, Refusal};
use crate::authority::Authority;
use crate::body::Received;
use crate::forwarded::Origin;
use crate::gate::Entered;
use crate::gateway::{Current, Shared};
use crate::head::{self, Refused};
use crate::path::NormalPath;
use crate::pattern::Scheme;
use crate::problem::{self, Problem};
use crate::pulse::{Pulse, Upgrade};
use crate::response::{Exchange, Sent};
use crate::route::{Route, Table, Wanted};
use crate::tls::{ConnectionTls, TlsStore};
use crate::websocket::{self, Handshake};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ACME_PREFIX: &str = "/.well-known/acme-challenge/";

/// What all requests of a connection share.
pub(crate) struct Conversation {
    pub(crate) shared: Arc<Shared>,
    pub(crate) listener: Arc<str>,
    /// The other end, or whom the PROXY protocol names.
    pub(crate) peer: SocketAddr,
    pub(crate) secure: Option<Secure>,
    pub(crate) pulse: Arc<Pulse>,
    /// Kept as long as anything of the connection lives.
    pub(crate) entered: Arc<Entered>,
}

/// The TLS of a connection.
pub(crate) struct Secure {
    pub(crate) store: Arc<TlsStore>,
    pub(crate) connection: ConnectionTls,
}

/// A request that may go to a route's target.
struct Admitted {
    route: Arc<Route>,
    authority: Authority,
    path: NormalPath,
    handshake: Option<Handshake>,
}

/// What becomes of a request.
enum Verdict {
    Admitted(Box<Admitted>),
    Answered(Response<Body>),
}

impl Conversation {
    /// Answers one request. Never fails: what goes wrong is a response too.
    pub(crate) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Sent> {
        let began = Instant::now();
        let number = self.pulse.begin();
        let current = self.shared.current.load_full();
        let (mut parts, body) = request.into_parts();
        let asks_upgrade = asks_upgrade(&parts, &body);
        let scheme = match self.secure {
            Some(_) => Scheme::Https,
            None => Scheme::Http,
        };
        let proxies = &current.table.options.trusted_proxies;
        let origin = Origin::establish(self.peer, scheme, proxies, &mut parts.headers);
        let mut exchange = self.exchange(&parts, &origin, began);
        let head = parts.method == Method::HEAD;
        let version = parts.version;
        let accept = accept_only(&parts.headers);

        let mut close = number >= current.limits.requests_per_connection;
        if close {
            self.pulse.make_last();
        }
        close |= self.shared.draining();
        let outcome = match self.judge(&current, &parts, &origin, &body, &mut exchange.record) {
            Ok(Verdict::Admitted(admitted)) => {
                exchange.record.route = Some(Arc::clone(&admitted.route.label));
                self.give(&current, *admitted, parts, body, &origin, &mut exchange).await
            }
            Ok(Verdict::Answered(response)) => Ok(response),
            Err(refused) => Err(refused),
        };
        let mut response = match outcome {
            Ok(response) => response,
            Err(refused) => {
                close |= refused.close;
                exchange.record.outcome = match refused.refusal {
                    None => Outcome::TimedOut,
                    Some(refusal) => {
                        self.shared.observer.refused(refusal, Some(self.peer.ip()));
                        Outcome::Refused(refusal)
                    }
                };
                refused.problem.into_response()
            }
        };
        if asks_upgrade && version <= Version::HTTP_11 {
            let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            self.pulse.decide(if upgraded { Upgrade::Yes } else { Upgrade::No });
        }
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            let mut rendered = problem.render(&accept, &origin.request_id);
            for (name, value) in response.headers() {
                rendered.headers_mut().insert(name, value.clone());
            }
            rendered.extensions_mut().extend(std::mem::take(response.extensions_mut()));
            response = rendered;
        }
        if close && version <= Version::HTTP_11 {
            self.pulse.linger();
        }
        finish(response, exchange, Ending { head, version, close, id: &origin.request_id })
    }

    fn exchange(&self, parts: &request::Parts, origin: &Origin, began: Instant) -> Exchange {
        let text = |name: HeaderName| {
            let value = parts.headers.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        Exchange {
            record: Box::new(AccessRecord {
                started: SystemTime::now(),
                request_id: origin.request_id.clone(),
                listener: Arc::clone(&self.listener),
                route: None,
                client: origin.client,
                peer: self.peer,
                tls: self.secure.as_ref().map(|secure| Arc::clone(&secure.connection.client)),
                method: parts.method.clone(),
                scheme: origin.scheme.name(),
                host: None,
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().map(str::to_owned),
                version: parts.version,
                user_agent: text(header::USER_AGENT),
                referer: text(header::REFERER),
                status: StatusCode::OK,
                bytes_in: 0,
                bytes_out: 0,
                first_byte: Duration::ZERO,
                duration: Duration::ZERO,
                served_by: None,
                outcome: Outcome::ClientGone,
            }),
            began,
            intake: Arc::default(),
            pulse: Arc::clone(&self.pulse),
            observer: Arc::clone(&self.shared.observer),
            _running: self.shared.gate.run(),
        }
    }

    /// Finds the route, and decides whether the request may go there.
    fn judge(
        &self,
        current: &Current,
        parts: &request::Parts,
        origin: &Origin,
        body: &Incoming,
        record: &mut AccessRecord,
    ) -> Result<Verdict, Refusing> {
        if let Some(refusal) = self.pulse.spoilt() {
            let detail = "The request is malformed, or could be read in more than one way.";
            return Err(Refused::new(refusal, StatusCode::BAD_REQUEST, detail).closing().into());
        }
        let authority = head::check(parts, &current.limits)?;
        record.host = Some(authority.host.clone());
        if parts.uri.path() == "*" {
            return if parts.method == Method::OPTIONS {
                Ok(Verdict::Answered(server_options()))
            } else {
                Err(bad_path("only OPTIONS may ask for *").into())
            };
        }
        let table = &current.table;
        let slashes = table.options.slashes;
        let raw = match parts.uri.path() {
            "" => "/",
            path => path,
        };
        let mut path = NormalPath::parse(raw, slashes).map_err(bad_path)?;
        record.path = path.as_str().to_owned();
        if let Some(answer) = challenge(table, &authority, path.as_str()) {
            return Ok(Verdict::Answered(answer));
        }
        let wanted = |scheme: Scheme, path: &'_ NormalPath| {
            let port = authority.port.unwrap_or(scheme.port());
            let host = authority.host.as_str();
            table.find(Wanted { scheme, host, port, path: path.as_str() }).cloned()
        };
        let Some(route) = wanted(origin.scheme, &path) else {
            let secure = table.options.https_redirect.filter(|_| origin.scheme == Scheme::Http);
            if let Some(port) = secure
                && wanted(Scheme::Https, &path).is_some()
            {
                let query = parts.uri.query();
                return redirect(&authority, port, path.as_str(), query).map(Verdict::Answered);
            }
            let detail = "Nothing is served at this URL.";
            return Err(Refused::new(Refusal::NoRoute, StatusCode::NOT_FOUND, detail).into());
        };
        if path.apply(route.encoded_slashes, slashes).map_err(bad_path)? {
            record.path = path.as_str().to_owned();
            let again = wanted(origin.scheme, &path);
            if !again.is_some_and(|again| Arc::ptr_eq(&again, &route)) {
                return Err(bad_path("the path is another site's once it is decoded").into());
            }
        }
        self.check_client(&route, &authority)?;
        let most = route.max_body.unwrap_or(current.limits.max_body);
        if body.size_hint().lower() > most {
            return Err(too_large(most).into());
        }
        let handshake = if route.websocket { websocket::read(parts)? } else { None };
        Ok(Verdict::Admitted(Box::new(Admitted {
            route,
            authority,
            path,
            handshake,
        })))
    }

    /// The host and the route may ask for another connection or another certificate.
    fn check_client(&self, route: &Route, authority: &Authority) -> Result<(), Refused> {
        let mut certificate = None;
        if let Some(secure) = &self.secure {
            if let Err(error) = secure.store.check(&authority.host, &secure.connection) {
                let status = StatusCode::MISDIRECTED_REQUEST;
                return Err(Refused::new(
                    Refusal::Misdirected,
                    status,
                    format!("This request must come on another connection: {error}."),
                ));
            }
            certificate = secure.connection.client.certificate.as_ref();
        }
        route.client.check(certificate).map_err(|error| {
            let detail = format!("Not allowed: {error}.");
            Refused::new(Refusal::ClientCertificate, StatusCode::FORBIDDEN, detail)
        })
    }

    /// Gives the request to the target and waits for the head of its response.
    async fn give(
        self: &Arc<Self>,
        current: &Current,
        admitted: Admitted,
        mut parts: request::Parts,
        body: Incoming,
        origin: &Origin,
        exchange: &mut Exchange,
    ) -> Result<Response<Body>, Refusing> {
        let Admitted { route, authority, path, handshake } = admitted;
        let query = parts.uri.query();
        let uri = head::absolute_uri(origin.scheme, &authority, path.as_str(), query);
        parts.uri = uri.ok_or_else(|| bad_path("it has a character that URLs cannot have"))?;
        let waiting = handshake.as_ref().and_then(|_| websocket::pending(&mut parts));
        head::clean_request(&mut parts.headers, origin.scheme, &authority);
        if let Some(handshake) = &handshake {
            handshake.announce(&mut parts);
        }
        let most = route.max_body.unwrap_or(current.limits.max_body);
        let body = if body.is_end_stream() {
            problem::empty()
        } else {
            let pulse = Arc::clone(&self.pulse);
            let intake = Arc::clone(&exchange.intake);
            Received::new(body, most, &current.limits, pulse, intake).boxed_unsync()
        };
        parts.extensions = http::Extensions::new();
        parts.extensions.insert(Client {
            address: origin.client,
            request_id: origin.request_id.clone(),
            secure: self.secure.as_ref().map(|secure| Arc::clone(&secure.connection.client)),
            upgrade: handshake.is_some(),
        });
        let timeout = route.timeout.unwrap_or(current.limits.request_timeout);
        let answer = route.target.handle(Request::from_parts(parts, body));
        let answered = tokio::time::timeout(timeout, answer).await;
        if let Some(refusal) = exchange.intake.fault() {
            return Err(body_refused(refusal, most).into());
        }
        let Ok(mut response) = answered else {
            let detail = "The site did not answer in time.";
            return Err(Refusing {
                refusal: None,
                problem: Problem::new(StatusCode::GATEWAY_TIMEOUT, detail),
                close: false,
            });
        };
        exchange.record.served_by = response.extensions_mut().remove::<ServedBy>();
        let guest = response.extensions_mut().remove::<GuestUpgrade>();
        if !response.status().is_informational() {
            return Ok(response);
        }
        let accepted = match (handshake, waiting, guest.and_then(|guest| guest.take())) {
            (Some(handshake), Some(waiting), Some(guest))
                if response.status() == StatusCode::SWITCHING_PROTOCOLS =>
            {
                let opened = websocket::Opened {
                    waiting,
                    guest,
                    route: Arc::clone(&route.label),
                    request_id: origin.request_id.clone(),
                    client: origin.client,
                };
                websocket::accept(self, handshake, response, opened, &current.limits.sockets)?
            }
            _ => {
                let detail = "The site answered with an interim response and nothing else.";
                return Ok(Problem::new(StatusCode::BAD_GATEWAY, detail).into_response());
            }
        };
        exchange.record.outcome = Outcome::Upgraded;
        Ok(accepted)
    }
}

/// A refusal on its way to the client; without reason it is a timeout of the target.
struct Refusing {
    refusal: Option<Refusal>,
    problem: Problem,
    close: bool,
}

impl From<Refused> for Refusing {
    fn from(refused: Refused) -> Self {
        Self {
            refusal: Some(refused.refusal),
            problem: Problem::new(refused.status, refused.detail),
            close: refused.close,
        }
    }
}

fn bad_path(error: impl std::fmt::Display) -> Refused {
    let detail = format!("The URL is not served: {error}.");
    Refused::new(Refusal::Path, StatusCode::BAD_REQUEST, detail)
}

fn too_large(most: u64) -> Refused {
    let detail = format!("The request's body is larger than {most} bytes.");
    Refused::new(Refusal::BodyTooLarge, StatusCode::PAYLOAD_TOO_LARGE, detail).closing()
}

fn body_refused(refusal: Refusal, most: u64) -> Refused {
    let (status, detail) = match refusal {
        Refusal::BodyTooLarge => return too_large(most),
        Refusal::BodyTimeout => {
            (StatusCode::REQUEST_TIMEOUT, "The request's body made too little progress.")
        }
        _ => (StatusCode::BAD_REQUEST, "The request's body is malformed."),
    };
    Refused::new(refusal, status, detail).closing()
}

/// The one predicate by which a connection waits for a decision; `framing` has the same.
fn asks_upgrade(parts: &request::Parts, body: &Incoming) -> bool {
    parts.headers.contains_key(header::UPGRADE) && body.is_end_stream()
}

/// What decides about the form of a problem, kept while the target has the headers.
fn accept_only(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for value in headers.get_all(header::ACCEPT) {
        kept.append(header::ACCEPT, value.clone());
    }
    kept
}

/// `OPTIONS *` asks about the server as a whole (RFC 9110, section 9.3.7).
fn server_options() -> Response<Body> {
    let mut response = Response::new(problem::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let methods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

fn challenge(table: &Table, authority: &Authority, path: &str) -> Option<Response<Body>> {
    let acme = table.options.acme.as_ref()?;
    let token = path.strip_prefix(ACME_PREFIX)?;
    let proof = acme.http_answer(&authority.host, token)?;
    let mut response = Response::new(problem::full(proof));
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Some(response)
}

fn redirect(
    authority: &Authority,
    port: u16,
    path: &str,
    query: Option<&str>,
) -> Result<Response<Body>, Refusing> {
    let authority = Authority { host: authority.host.clone(), port: Some(port) };
    let uri = head::absolute_uri(Scheme::Https, &authority, path, query)
        .and_then(|uri| HeaderValue::try_from(uri.to_string()).ok())
        .ok_or_else(|| bad_path("it has a character that URLs cannot have"))?;
    let mut response = Response::new(problem::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, uri);
    Ok(response)
}

/// How a response goes out.
struct Ending<'a> {
    /// To a HEAD request.
    head: bool,
    version: Version,
    close: bool,
    id: &'a str,
}

/// Makes a response that is right by HTTP, whatever the target said.
fn finish(response: Response<Body>, mut exchange: Exchange, ending: Ending<'_>) -> Response<Sent> {
    let (mut parts, mut body) = response.into_parts();
    let status = parts.status;
    exchange.record.status = status;
    exchange.record.first_byte = exchange.began.elapsed();
    let headers = &mut parts.headers;
    let switching = status == StatusCode::SWITCHING_PROTOCOLS;
    if !switching {
        head::remove_hop_by_hop(headers);
    }
    if let Ok(id) = HeaderValue::from_str(ending.id) {
        headers.insert(REQUEST_ID, id);
    }
    if ending.close && !switching && ending.version <= Version::HTTP_11 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let exact = body.size_hint().exact();
    let mut declared = None;
    if switching || status == StatusCode::NO_CONTENT || status == StatusCode::RESET_CONTENT {
        headers.remove(header::CONTENT_LENGTH);
        body = problem::empty();
    } else if status == StatusCode::NOT_MODIFIED || ending.head {
        // The length is that of the response to GET, if it is known.
        if ending.head
            && !headers.contains_key(header::CONTENT_LENGTH)
            && let Some(exact) = exact.filter(|exact| *exact > 0)
        {
            headers.insert(header::CONTENT_LENGTH, exact.into());
        }
        body = problem::empty();
    } else if let Some(exact) = exact {
        headers.insert(header::CONTENT_LENGTH, exact.into());
    } else {
        declared = single_length(headers);
        if declared.is_none() {
            headers.remove(header::CONTENT_LENGTH);
        }
    }
    Response::from_parts(parts, Sent::new(body, declared, exchange))
}

fn single_length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let value = values.next()?.to_str().ok()?;
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    (digits && values.next().is_none()).then(|| value.parse().ok())?
}
