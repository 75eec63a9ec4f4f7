//! What answers or rejects a request before its target: challenges of ACME, the rules of its route.

use http::{HeaderValue, Response, StatusCode, header, request};
use stockade_http::{Body, full_body};
use stockade_tls::{ClientRefused, Misdirected};

use crate::access::Refusal;
use crate::limits::Limits;
use crate::listener::establish::TlsContext;
use crate::rejection::Rejection;
use crate::route::authority::Authority;
use crate::route::table::{Route, TableOptions};
use crate::websocket::handshake::{self, Handshake};

const ACME_PREFIX: &str = "/.well-known/acme-challenge/";

/// The body is larger than it may be: as declared, or as it turned out while it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request's body is larger than {limit} bytes")]
pub(crate) struct BodyTooLarge {
    pub(crate) limit: u64,
}

impl From<BodyTooLarge> for Rejection {
    fn from(BodyTooLarge { limit }: BodyTooLarge) -> Self {
        let detail = format!("The request's body is larger than {limit} bytes.");
        Self::new(Refusal::BodyTooLarge, StatusCode::PAYLOAD_TOO_LARGE, detail).closing()
    }
}

impl From<Misdirected> for Rejection {
    fn from(error: Misdirected) -> Self {
        Self::new(
            Refusal::Misdirected,
            StatusCode::MISDIRECTED_REQUEST,
            format!("This request must come on another connection: {error}."),
        )
    }
}

impl From<ClientRefused> for Rejection {
    fn from(error: ClientRefused) -> Self {
        let detail = format!("Not allowed: {error}.");
        Self::new(Refusal::ClientCertificate, StatusCode::FORBIDDEN, detail)
    }
}

/// The answer to a challenge of ACME, if the path is one of an open order (RFC 8555, section 8.3).
pub(crate) fn challenge(
    options: &TableOptions,
    authority: &Authority,
    path: &str,
) -> Option<Response<Body>> {
    let acme = options.acme.as_ref()?;
    let token = path.strip_prefix(ACME_PREFIX)?;
    let proof = acme.http_answer(&authority.host, token)?;
    let mut response = Response::new(full_body(proof));
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Some(response)
}

/// Checks a request by the rules of its route; returns the handshake of a WebSocket that the route serves.
pub(crate) fn check(
    route: &Route,
    head: &request::Parts,
    authority: &Authority,
    tls: Option<&TlsContext>,
    body_bytes: u64,
    limits: &Limits,
) -> Result<Option<Handshake>, Rejection> {
    if let Some(tls) = tls {
        tls.check(&authority.host)?;
    }
    route.client.check(tls.map(|tls| &tls.connection))?;
    let limit = route.body_limit(limits);
    if body_bytes > limit {
        return Err(BodyTooLarge { limit }.into());
    }
    if route.websocket {
        return Ok(handshake::read(head)?);
    }
    Ok(None)
}
