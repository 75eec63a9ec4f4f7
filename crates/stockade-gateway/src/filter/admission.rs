//! Whether a request may go to a target, and to which.

use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode, header, request};
use http_body::Body as _;
use hyper::body::Incoming;
use stockade_http::{Body, NormalPath, Scheme, empty_body, full_body};

use crate::access::Refusal;
use crate::gateway::Current;
use crate::http::forwarded::Origin;
use crate::http::request_head::{self, Refused};
use crate::http::response_body::Exchange;
use crate::http::service::Conversation;
use crate::route::authority::Authority;
use crate::route::table::{Route, Table, Wanted};
use crate::websocket::handshake::{self, Handshake};

const ACME_PREFIX: &str = "/.well-known/acme-challenge/";

/// A request that may go to a route's target.
pub(crate) struct Admitted {
    pub(crate) route: Arc<Route>,
    pub(crate) authority: Authority,
    pub(crate) path: NormalPath,
    pub(crate) handshake: Option<Handshake>,
}

/// What becomes of a request.
pub(crate) enum Verdict {
    Admitted(Box<Admitted>),
    Answered(Response<Body>),
}

/// A request that asks to be let in.
pub(crate) struct Asking<'a> {
    pub(crate) conversation: &'a Conversation,
    pub(crate) current: &'a Current,
    pub(crate) parts: &'a request::Parts,
    /// How many header fields the client sent.
    pub(crate) fields: usize,
    pub(crate) origin: &'a Origin,
    pub(crate) body: &'a Incoming,
}

impl Asking<'_> {
    /// Finds the route, and decides whether the request may go there.
    pub(crate) fn judge(&self, exchange: &mut Exchange) -> Result<Verdict, Refused> {
        let Self {
            conversation,
            current,
            parts,
            origin,
            ..
        } = *self;
        let record = &mut exchange.record;
        if let Some(refusal) = conversation.pulse.spoilt(exchange.number) {
            let detail = "The request is malformed, or could be read in more than one way.";
            return Err(Refused::new(refusal, StatusCode::BAD_REQUEST, detail).closing());
        }
        let authority = request_head::check(parts, self.fields, &current.limits)?;
        record.host = Some(authority.host.clone());
        if parts.uri.path() == "*" {
            return if parts.method == Method::OPTIONS {
                Ok(Verdict::Answered(server_options()))
            } else {
                Err(bad_path("only OPTIONS may ask for *"))
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
            let port = authority.port.unwrap_or(scheme.default_port());
            let host = authority.host.as_str();
            table
                .find(Wanted {
                    scheme,
                    host,
                    port,
                    path: path.as_str(),
                })
                .cloned()
        };
        let Some(route) = wanted(origin.scheme, &path) else {
            let secure = table
                .options
                .https_redirect
                .filter(|_| origin.scheme == Scheme::Http);
            if let Some(port) = secure
                && wanted(Scheme::Https, &path).is_some()
            {
                let query = parts.uri.query();
                return redirect(&authority, port, path.as_str(), query).map(Verdict::Answered);
            }
            let detail = "Nothing is served at this URL.";
            return Err(Refused::new(
                Refusal::NoRoute,
                StatusCode::NOT_FOUND,
                detail,
            ));
        };
        if path
            .apply(route.encoded_slashes, slashes)
            .map_err(bad_path)?
        {
            record.path = path.as_str().to_owned();
            let again = wanted(origin.scheme, &path);
            if !again.is_some_and(|again| Arc::ptr_eq(&again, &route)) {
                return Err(bad_path("the path is another site's once it is decoded"));
            }
        }
        self.check_client(&route, &authority)?;
        let most = route.most_body(&current.limits);
        if self.body.size_hint().lower() > most {
            return Err(too_large(most));
        }
        let handshake = if route.websocket {
            handshake::read(parts)?
        } else {
            None
        };
        Ok(Verdict::Admitted(Box::new(Admitted {
            route,
            authority,
            path,
            handshake,
        })))
    }

    /// The host and the route may ask for another connection or another certificate.
    fn check_client(&self, route: &Route, authority: &Authority) -> Result<(), Refused> {
        let secure = self.conversation.secure.as_ref();
        if let Some(Err(error)) = secure.map(|secure| secure.check(&authority.host)) {
            return Err(Refused::new(
                Refusal::Misdirected,
                StatusCode::MISDIRECTED_REQUEST,
                format!("This request must come on another connection: {error}."),
            ));
        }
        let connection = secure.map(|secure| &secure.connection);
        route.client.check(connection).map_err(|error| {
            let detail = format!("Not allowed: {error}.");
            Refused::new(Refusal::ClientCertificate, StatusCode::FORBIDDEN, detail)
        })
    }
}

pub(crate) fn bad_path(error: impl std::fmt::Display) -> Refused {
    let detail = format!("The URL is not served: {error}.");
    Refused::new(Refusal::Path, StatusCode::BAD_REQUEST, detail)
}

fn too_large(most: u64) -> Refused {
    let detail = format!("The request's body is larger than {most} bytes.");
    Refused::new(Refusal::BodyTooLarge, StatusCode::PAYLOAD_TOO_LARGE, detail).closing()
}

pub(crate) fn body_refused(refusal: Refusal, most: u64) -> Refused {
    let (status, detail) = match refusal {
        Refusal::BodyTooLarge => return too_large(most),
        Refusal::BodyTimeout => (
            StatusCode::REQUEST_TIMEOUT,
            "The request's body made too little progress.",
        ),
        _ => (StatusCode::BAD_REQUEST, "The request's body is malformed."),
    };
    Refused::new(refusal, status, detail).closing()
}

/// `OPTIONS *` asks about the server as a whole (RFC 9110, section 9.3.7).
fn server_options() -> Response<Body> {
    let mut response = Response::new(empty_body());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(
        header::ALLOW,
        HeaderValue::from_static(request_head::METHODS),
    );
    response
}

fn challenge(table: &Table, authority: &Authority, path: &str) -> Option<Response<Body>> {
    let acme = table.options.acme.as_ref()?;
    let token = path.strip_prefix(ACME_PREFIX)?;
    let proof = acme.http_answer(&authority.host, token)?;
    let mut response = Response::new(full_body(proof));
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Some(response)
}

fn redirect(
    authority: &Authority,
    port: u16,
    path: &str,
    query: Option<&str>,
) -> Result<Response<Body>, Refused> {
    let authority = Authority {
        host: authority.host.clone(),
        port: Some(port),
    };
    let uri = request_head::uri_authority(Scheme::Https, &authority)
        .and_then(|authority| request_head::absolute_uri(Scheme::Https, authority, path, query))
        .and_then(|uri| HeaderValue::try_from(uri.to_string()).ok())
        .ok_or_else(|| bad_path("it has a character that URLs cannot have"))?;
    let mut response = Response::new(empty_body());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, uri);
    Ok(response)
}
