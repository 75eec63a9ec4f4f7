//! One request: from its head to a target and back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use http::header;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, request};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use stockade_http::{Body, Client, Problem, Scheme, ServedBy, Upgrade as GuestUpgrade, empty_body};

use crate::access::{AccessRecord, Outcome, Refusal};
use crate::filter::admission::{Admitted, Asking, Verdict, bad_path, body_refused};
use crate::gateway::{Current, Shared};
use crate::http::connection::Report;
use crate::http::forwarded::Origin;
use crate::http::request_body::Received;
use crate::http::request_head::{self, Refused};
use crate::http::response_body::{Exchange, Sent};
use crate::http::response_head::{Ending, finish};
use crate::http::timeouts::{Pulse, Upgrade};
use crate::listener::connection_limits::Entered;
use crate::listener::options::Listener;
use crate::websocket::handshake;
use stockade_tls::{ConnectionTls, Misdirected, TlsStore};

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
    pub(crate) _report: Report,
}

/// The TLS of a connection.
pub(crate) struct Secure {
    /// Made the handshake.
    pub(crate) store: Arc<TlsStore>,
    /// As it is now: a reload may have changed whom it trusts.
    pub(crate) listener: Arc<ArcSwap<Listener>>,
    pub(crate) connection: ConnectionTls,
}

impl Secure {
    /// Checks that a request for `host` may be answered on this connection.
    pub(crate) fn check(&self, host: &str) -> Result<(), Misdirected> {
        let listener = self.listener.load();
        let store = listener.tls.as_ref().unwrap_or(&self.store);
        store.check(host, &self.connection)
    }
}

impl Conversation {
    /// Tells that the client was refused.
    pub(crate) fn refused(&self, refusal: Refusal) {
        let peer = self.peer.ip();
        self.shared.observer.refused(refusal, Some(peer));
    }

    /// The client takes nothing any more.
    pub(crate) fn stalled(&self) {
        self.pulse.stall();
        self.refused(Refusal::Stalled);
    }

    /// Answers one request. Never fails: what goes wrong is a response too.
    pub(crate) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Sent> {
        let began = Instant::now();
        let number = self.pulse.begin();
        let current = self.shared.current.load_full();
        let (mut parts, body) = request.into_parts();
        let asks_upgrade = asks_upgrade(&parts, &body);
        let fields = request_head::count_fields(&parts);
        let scheme = match self.secure {
            Some(_) => Scheme::Https,
            None => Scheme::Http,
        };
        let proxies = &current.table.options.trusted_proxies;
        let origin = Origin::establish(self.peer, scheme, proxies, &mut parts.headers);
        let mut exchange = self.exchange(&parts, &origin, began, number);
        let head = parts.method == Method::HEAD;
        let version = parts.version;
        let accept = accept_only(&parts.headers);

        let mut close = number >= current.limits.requests_per_connection;
        if close {
            self.pulse.make_last();
        }
        close |= self.shared.draining();
        let asking = Asking {
            conversation: &self,
            current: &current,
            parts: &parts,
            fields,
            origin: &origin,
            body: &body,
        };
        let outcome = match asking.judge(&mut exchange) {
            Ok(Verdict::Admitted(admitted)) => {
                exchange.record.route = Some(Arc::clone(&admitted.route.label));
                self.give(&current, *admitted, parts, body, &origin, &mut exchange)
                    .await
            }
            Ok(Verdict::Answered(response)) => Ok(response),
            Err(refused) => Err(refused),
        };
        let mut response = match outcome {
            Ok(response) => response,
            Err(refused) => {
                close |= refused.close;
                if let Outcome::Refused(refusal) = refused.outcome {
                    self.refused(refusal);
                }
                exchange.record.outcome = refused.outcome;
                refused.into_response()
            }
        };
        if asks_upgrade && version <= Version::HTTP_11 {
            let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            self.pulse
                .decide(if upgraded { Upgrade::Yes } else { Upgrade::No });
        }
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            let mut rendered = problem.render(&accept, &origin.request_id);
            for (name, value) in response.headers() {
                rendered.headers_mut().insert(name, value.clone());
            }
            rendered
                .extensions_mut()
                .extend(std::mem::take(response.extensions_mut()));
            response = rendered;
        }
        if close && version <= Version::HTTP_11 {
            self.pulse.linger();
        }
        finish(
            response,
            exchange,
            Ending {
                head,
                version,
                close,
                id: &origin.request_id,
            },
        )
    }

    fn exchange(
        &self,
        parts: &request::Parts,
        origin: &Origin,
        began: Instant,
        number: u64,
    ) -> Exchange {
        let current = self.shared.current.load();
        let logged = current.table.options.logged_headers.iter();
        let logged = logged.flat_map(|name| {
            let values = parts.headers.get_all(name).iter();
            values.map(move |value| {
                let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.clone(), text)
            })
        });
        Exchange {
            record: Box::new(AccessRecord {
                started: SystemTime::now(),
                request_id: origin.request_id.clone(),
                listener: Arc::clone(&self.listener),
                route: None,
                client: origin.client,
                peer: self.peer,
                tls: self
                    .secure
                    .as_ref()
                    .map(|secure| Arc::clone(&secure.connection.client)),
                method: parts.method.clone(),
                scheme: origin.scheme.as_str(),
                host: None,
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().map(str::to_owned),
                version: parts.version,
                headers: logged.collect(),
                status: StatusCode::OK,
                bytes_in: 0,
                bytes_out: 0,
                first_byte: Duration::ZERO,
                duration: Duration::ZERO,
                served_by: None,
                outcome: Outcome::ClientGone,
            }),
            began,
            number,
            intake: Arc::default(),
            pulse: Arc::clone(&self.pulse),
            observer: Arc::clone(&self.shared.observer),
            _running: self.shared.gate.run(),
        }
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
    ) -> Result<Response<Body>, Refused> {
        let Admitted {
            route,
            authority,
            path,
            handshake,
        } = admitted;
        let in_urls = request_head::uri_authority(origin.scheme, &authority);
        let in_urls = in_urls.ok_or_else(|| bad_path("its host cannot stand in URLs"))?;
        request_head::clean_request(&mut parts.headers, &in_urls);
        let query = parts.uri.query();
        let uri = request_head::absolute_uri(origin.scheme, in_urls, path.as_str(), query);
        parts.uri = uri.ok_or_else(|| bad_path("it has a character that URLs cannot have"))?;
        let waiting = handshake
            .as_ref()
            .and_then(|_| handshake::pending(&mut parts));
        if let Some(handshake) = &handshake {
            handshake.announce(&mut parts);
        }
        let most = route.most_body(&current.limits);
        let body = if body.is_end_stream() {
            empty_body()
        } else {
            let pulse = Arc::clone(&self.pulse);
            let intake = Arc::clone(&exchange.intake);
            let number = exchange.number;
            Received::new(body, most, &current.limits, pulse, number, intake).boxed_unsync()
        };
        parts.extensions = http::Extensions::new();
        parts.extensions.insert(Client {
            address: origin.client,
            request_id: origin.request_id.clone(),
            https: origin.scheme == Scheme::Https,
            secure: self
                .secure
                .as_ref()
                .map(|secure| Arc::clone(&secure.connection.client)),
            upgrade: handshake.is_some(),
        });
        let timeout = route.timeout.unwrap_or(current.limits.request_timeout);
        let answer = route.target.handle(Request::from_parts(parts, body));
        let answered = tokio::time::timeout(timeout, answer).await;
        if let Some(refusal) = exchange.intake.fault() {
            return Err(body_refused(refusal, most));
        }
        let Ok(mut response) = answered else {
            return Err(Refused::timed_out("The site did not answer in time."));
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
                let opened = handshake::Opened {
                    waiting,
                    guest,
                    route: Arc::clone(&route.label),
                    request_id: origin.request_id.clone(),
                    client: origin.client,
                };
                handshake::accept(self, handshake, response, opened, &current.limits.sockets)?
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
