//! The way of one request, from its head to a target and back.
//!
//! 1. [`Origin::establish`] finds out who sent it, and rewrites the headers that say so.
//! 2. [`UnroutedRequest::find_answerer`] checks the head, brings the path into normal form, and takes the request through the filters
//!    and to its route.
//! 3. [`TargetCall`] gives it to the route's target, and waits for the head of the response.
//! 4. [`answer`] takes the response through the filters, and makes it right by HTTP.

use std::sync::Arc;
use std::time::Instant;

use http::header;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, request};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use stockade_auth::redact;
use stockade_http::{Body, NormalPath, Problem, empty_body};

use crate::access::{AccessRecord, Outcome};
use crate::filter::{Flow, Notes, RequestContext};
use crate::http::connection::Connection;
use crate::http::connection_state::UpgradeDecision;
use crate::http::forwarded::Origin;
use crate::http::headers;
use crate::http::request_head::{self, HeadError};
use crate::http::request_in_flight::RequestInFlight;
use crate::http::response_body::ResponseBody;
use crate::http::response_head::{self, ResponseForm};
use crate::http::target_call::{TargetCall, TargetRequest};
use crate::rejection::Rejection;
use crate::route::lookup::{self, Destination, RouteError};
use crate::state::ActiveConfig;

/// Answers one request. Never fails: an error is a response too.
pub(crate) async fn answer(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let began = Instant::now();
    let config = connection.gateway.config.load_full();
    let (mut head, body) = request.into_parts();
    let (is_head, version) = (head.method == Method::HEAD, head.version);

    // Who sent it. What the client sent is counted before the gateway writes headers of its own.
    let asks_upgrade = asks_upgrade(&head, &body);
    let fields = headers::count_fields(&head);
    let options = &config.table.options;
    let origin = Origin::establish(
        connection.peer,
        connection.peer_text.as_ref(),
        connection.scheme(),
        &options.trusted_proxies,
        &mut head.headers,
    );
    let mut flight = RequestInFlight::begin(&connection, options, &head, &origin, began);
    let accept = accept_only(&head.headers);

    // Whether it is the last one of its connection.
    let mut close = flight.number >= config.limits.requests_per_connection;
    if close {
        connection.state.requests.make_last();
    }
    close |= connection.gateway.draining();

    // Filters, route and target. What filters leave for the response stays here.
    let unrouted = UnroutedRequest {
        connection: &connection,
        config: &config,
        origin: &origin,
        fields,
        body_bytes: body.size_hint().lower(),
    };
    let mut notes = Notes::default();
    let answerer = unrouted.find_answerer(&mut head, &mut notes, &mut flight);
    let mut extensions = std::mem::take(&mut head.extensions);
    let outcome = match answerer {
        Ok(Answerer::Target(request)) => {
            flight.record.route = Some(Arc::clone(&request.route.label));
            let upgrade = extensions.remove::<OnUpgrade>();
            flight.charges = notes.charges.take();
            let call = TargetCall {
                caller: notes.caller.take(),
                connection: &connection,
                config: &config,
                origin: &origin,
            };
            call.run(&request, head, body, upgrade, &mut flight).await
        }
        Ok(Answerer::Gateway(response)) => {
            flight.leave(body);
            Ok(response)
        }
        Err(rejection) => {
            flight.leave(body);
            Err(rejection)
        }
    };
    let mut response = outcome.unwrap_or_else(|rejection| {
        close |= rejection.close;
        if let Outcome::Refused(refusal) = rejection.outcome {
            connection.report_refused(refusal);
        }
        flight.record.outcome = rejection.outcome;
        rejection.into_response()
    });

    // What becomes of the connection.
    if asks_upgrade && version <= Version::HTTP_11 {
        let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        connection.state.upgrade.decide(if upgraded {
            UpgradeDecision::Accepted
        } else {
            UpgradeDecision::Refused
        });
    }
    if close && version <= Version::HTTP_11 {
        connection.state.close.linger();
    }

    // The response: the text of a problem, then filters, then the form that HTTP demands.
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = complete(problem, response, &accept, &origin.request_id);
    }
    if flight.record.outcome != Outcome::Upgraded {
        headers::remove_hop_by_hop(response.headers_mut());
    }
    let filters = &config.filters;
    filters.on_response(&flight.record, &mut notes, &mut response);
    let form = ResponseForm {
        head: is_head,
        version,
        close,
    };
    response_head::finish(response, flight, form)
}

/// A request whose target is not known yet.
struct UnroutedRequest<'a> {
    connection: &'a Connection,
    config: &'a ActiveConfig,
    origin: &'a Origin,
    /// How many header fields the client sent.
    fields: usize,
    body_bytes: u64,
}

/// What answers a request.
enum Answerer {
    Target(TargetRequest),
    /// The gateway itself.
    Gateway(Response<Body>),
}

impl UnroutedRequest<'_> {
    /// Takes a request through the filters to its route.
    fn find_answerer(
        &self,
        head: &mut request::Parts,
        notes: &mut Notes,
        flight: &mut RequestInFlight,
    ) -> Result<Answerer, Rejection> {
        let ActiveConfig {
            filters, limits, ..
        } = self.config;

        // The head: unambiguous, within its limits, for one host.
        if let Some(refusal) = self.connection.state.input.rejected(flight.number) {
            return Err(HeadError::Ambiguous(refusal).into());
        }
        let authority = request_head::check(head, self.fields, limits)?;
        flight.record.host = Some(authority.host.clone());

        // The path, in the one form that routes, filters, logs and targets see.
        let raw = match head.uri.path() {
            "*" if head.method == Method::OPTIONS => {
                return Ok(Answerer::Gateway(server_options()));
            }
            "*" => return Err(RouteError::Asterisk.into()),
            "" => "/",
            path => path,
        };
        let path = NormalPath::parse(raw, self.config.table.options.slashes);
        let path = path.map_err(RouteError::from)?;
        record_path(&mut flight.record, &path);

        let mut request = RequestContext {
            head,
            authority: &authority,
            path,
            body_bytes: self.body_bytes,
            tls: self.connection.tls.as_ref(),
            limits,
            began: flight.began,
            connection: &self.connection.state,
            notes,
            record: &mut flight.record,
            websocket: None,
        };
        if let Flow::Answer(response) = filters.before_route(&mut request)? {
            return Ok(Answerer::Gateway(*response));
        }

        let route = match self.find_route(&mut request)? {
            Destination::Route(route) => route,
            Destination::HttpsUrl(url) => return Ok(Answerer::Gateway(redirect(url))),
        };
        let passed = filters.after_route(&mut request, &route);
        if passed.is_err() {
            request.record.refused_by = Some(Arc::clone(&route.label));
        }
        if let Flow::Answer(response) = passed? {
            return Ok(Answerer::Gateway(*response));
        }
        let RequestContext {
            path, websocket, ..
        } = request;
        Ok(Answerer::Target(TargetRequest {
            route,
            authority,
            path,
            handshake: websocket,
        }))
    }

    /// Finds the route. Its rule for encoded slashes may change the path, which the record has even if no route answers.
    fn find_route(&self, request: &mut RequestContext<'_>) -> Result<Destination, RouteError> {
        let destination = lookup::find(
            &self.config.table,
            self.origin.scheme,
            request.authority,
            &mut request.path,
            &request.head.uri,
        );
        if request.path.as_str() != request.record.path {
            record_path(request.record, &request.path);
        }
        destination
    }
}

/// Notes a path without the secrets that it may contain.
fn record_path(record: &mut AccessRecord, path: &NormalPath) {
    redact(path.as_str()).as_ref().clone_into(&mut record.path);
}

/// Whether the connection waits for a decision about an upgrade. `h1_framing` decides by the same rule.
fn asks_upgrade(head: &request::Parts, body: &Incoming) -> bool {
    head.headers.contains_key(header::UPGRADE) && body.is_end_stream()
}

/// The headers that the form of a problem depends on, kept while the target has the others.
fn accept_only(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for value in headers.get_all(header::ACCEPT) {
        kept.append(header::ACCEPT, value.clone());
    }
    kept
}

/// Writes the body of a response that is a problem. Headers and extensions of the response stay.
fn complete(
    problem: Problem,
    mut response: Response<Body>,
    accept: &HeaderMap,
    request_id: &str,
) -> Response<Body> {
    let mut rendered = problem.render(accept, request_id);
    for (name, value) in response.headers() {
        rendered.headers_mut().insert(name, value.clone());
    }
    rendered
        .extensions_mut()
        .extend(std::mem::take(response.extensions_mut()));
    rendered
}

/// `OPTIONS *` asks about the server as a whole (RFC 9110, section 9.3.7).
fn server_options() -> Response<Body> {
    let mut response = Response::new(empty_body());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let methods = HeaderValue::from_static(request_head::METHODS);
    response.headers_mut().insert(header::ALLOW, methods);
    response
}

fn redirect(url: HeaderValue) -> Response<Body> {
    let mut response = Response::new(empty_body());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, url);
    response
}
