//! The opening handshake of WebSockets: RFC 6455 on HTTP/1.1, RFC 8441 on HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, request};
use hyper::upgrade::OnUpgrade;
use stockade_http::{Body, GuestSocket, empty_body};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::access::Refusal;
use crate::http::request_head::{self, Refused};
use crate::http::service::Conversation;
use crate::limits::SocketLimits;
use crate::listener::connection_limits::OpenSocket;
use crate::websocket::relay::{self, Relay};

/// A client's wish for a WebSocket that may be granted.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// The value of `sec-websocket-accept`; none on HTTP/2.
    accept: Option<HeaderValue>,
    /// The subprotocols that the client offers.
    offered: Vec<String>,
}

/// What is known once the guest has accepted.
pub(crate) struct Opened {
    pub(crate) waiting: OnUpgrade,
    pub(crate) guest: GuestSocket,
    pub(crate) route: Arc<str>,
    pub(crate) request_id: String,
    pub(crate) client: SocketAddr,
}

/// Reads a handshake; none if the request does not ask for a WebSocket.
pub(crate) fn read(parts: &request::Parts) -> Result<Option<Handshake>, Refused> {
    let bad = |detail: &str| {
        Refused::new(
            Refusal::WebSocket,
            StatusCode::BAD_REQUEST,
            format!("WebSocket: {detail}."),
        )
    };
    let headers = &parts.headers;
    let accept = if parts.version == Version::HTTP_2 {
        match parts.extensions.get::<hyper::ext::Protocol>() {
            None => return Ok(None),
            Some(protocol) if protocol.as_str() == "websocket" => None,
            Some(_) => {
                let detail = "The only protocol served by CONNECT is websocket.";
                return Err(Refused::new(
                    Refusal::Method,
                    StatusCode::NOT_IMPLEMENTED,
                    detail,
                ));
            }
        }
    } else {
        let asks = parts.version == Version::HTTP_11
            && has_token(headers, &header::UPGRADE, "websocket")
            && has_token(headers, &header::CONNECTION, "upgrade");
        if !asks {
            return Ok(None);
        }
        if parts.method != Method::GET {
            return Err(bad("the method must be GET"));
        }
        let has_body = headers.contains_key(header::TRANSFER_ENCODING)
            || headers
                .get(header::CONTENT_LENGTH)
                .is_some_and(|length| length != "0");
        if has_body {
            return Err(bad("the request must have no body"));
        }
        let key = single(headers, &header::SEC_WEBSOCKET_KEY)
            .ok_or_else(|| bad("there must be one sec-websocket-key"))?;
        if !STANDARD
            .decode(key.as_bytes())
            .is_ok_and(|key| key.len() == 16)
        {
            return Err(bad("sec-websocket-key must be 16 bytes in Base64"));
        }
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
        Some(accept.map_err(|_| bad("sec-websocket-key is not usable"))?)
    };
    if single(headers, &header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut refused = bad("the only version is 13");
        refused.status = StatusCode::UPGRADE_REQUIRED;
        return Err(refused.with(header::SEC_WEBSOCKET_VERSION, "13"));
    }
    Ok(Some(Handshake {
        accept,
        offered: tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL)
            .map(str::to_owned)
            .collect(),
    }))
}

/// Takes the promise of the connection's bytes out of a request.
pub(crate) fn pending(parts: &mut request::Parts) -> Option<OnUpgrade> {
    parts.extensions.remove::<OnUpgrade>()
}

impl Handshake {
    /// Shows the wish to the target, in the form that it has on HTTP/1.1 on every version.
    pub(crate) fn announce(&self, parts: &mut request::Parts) {
        parts.method = Method::GET;
        let websocket = HeaderValue::from_static("websocket");
        parts.headers.insert(header::UPGRADE, websocket);
        // Extensions of the protocol are the gateway's to agree on, and it agrees on none.
        parts.headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    }
}

/// Answers the handshake and starts the relay between client and guest.
pub(crate) fn accept(
    conversation: &Arc<Conversation>,
    handshake: Handshake,
    response: Response<Body>,
    opened: Opened,
    limits: &SocketLimits,
) -> Result<Response<Body>, Refused> {
    let Some(open) = conversation.shared.gate.open_socket(limits.open) else {
        let detail = "As many WebSockets are open as may be.";
        return Err(Refused::new(
            Refusal::WebSockets,
            StatusCode::SERVICE_UNAVAILABLE,
            detail,
        ));
    };
    let (mut parts, _) = response.into_parts();
    let chosen = parts.headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    request_head::remove_hop_by_hop(&mut parts.headers);
    for name in [
        header::SEC_WEBSOCKET_ACCEPT,
        header::SEC_WEBSOCKET_EXTENSIONS,
        header::SEC_WEBSOCKET_KEY,
        header::SEC_WEBSOCKET_VERSION,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
    ] {
        parts.headers.remove(name);
    }
    // A protocol that was not offered would make the client fail (RFC 6455, section 4.1).
    if let Some(chosen) = chosen
        && chosen
            .to_str()
            .is_ok_and(|chosen| handshake.offered.iter().any(|one| one == chosen))
    {
        parts.headers.insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    match handshake.accept {
        Some(accept) => {
            parts.status = StatusCode::SWITCHING_PROTOCOLS;
            parts
                .headers
                .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            parts
                .headers
                .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            parts.headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        None => parts.status = StatusCode::OK,
    }
    start(conversation, opened, open, limits.clone());
    Ok(Response::from_parts(parts, empty_body()))
}

fn start(conversation: &Arc<Conversation>, opened: Opened, open: OpenSocket, limits: SocketLimits) {
    let relay = Relay {
        guest: opened.guest,
        limits,
        route: opened.route,
        request_id: opened.request_id,
        client: opened.client,
        phase: conversation.shared.phase.subscribe(),
        observer: Arc::clone(&conversation.shared.observer),
        pulse: Arc::clone(&conversation.pulse),
    };
    let conversation = Arc::clone(conversation);
    let waiting = opened.waiting;
    tokio::spawn(async move {
        match waiting.await {
            Ok(upgraded) => relay::run(relay, upgraded).await,
            Err(error) => relay.not_opened(&error),
        }
        drop((open, conversation));
    });
}

/// The elements of all fields of a name (RFC 9110, section 5.6.1).
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|other| other.eq_ignore_ascii_case(token))
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    const GOOD: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn read_with(change: &[(&str, &str)]) -> Result<Option<Handshake>, Refused> {
        let mut builder = Request::builder();
        for (name, value) in GOOD
            .iter()
            .filter(|(name, _)| change.iter().all(|(n, _)| n != name))
        {
            builder = builder.header(*name, *value);
        }
        for (name, value) in change.iter().filter(|(_, value)| !value.is_empty()) {
            builder = builder.header(*name, *value);
        }
        read(&builder.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn handshake_of_the_rfc_is_accepted() {
        let handshake = read_with(&[("sec-websocket-protocol", "chat, superchat")])
            .unwrap()
            .unwrap();
        assert_eq!(handshake.accept.unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(handshake.offered, ["chat", "superchat"]);
    }

    #[test]
    fn request_without_wish_is_none() {
        assert!(read_with(&[("upgrade", "h2c")]).unwrap().is_none());
        assert!(read_with(&[("upgrade", "")]).unwrap().is_none());
        assert!(
            read_with(&[("connection", "keep-alive")])
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn malformed_handshake_is_refused() {
        let check = |change: &[(&str, &str)], status: u16| {
            let refused = read_with(change).unwrap_err();
            assert_eq!(refused.status.as_u16(), status, "{change:?}");
        };
        check(&[("sec-websocket-version", "8")], 426);
        check(&[("sec-websocket-version", "")], 426);
        check(&[("sec-websocket-key", "")], 400);
        check(&[("sec-websocket-key", "c2hvcnQ=")], 400);
        check(&[("sec-websocket-key", "not base64")], 400);
        check(&[("content-length", "5")], 400);
    }
}
