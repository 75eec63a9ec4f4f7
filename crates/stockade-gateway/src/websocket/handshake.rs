//! The opening handshake of WebSockets: RFC 6455 on HTTP/1.1, RFC 8441 on HTTP/2.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, request};
use stockade_http::{Body, empty_body};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::access::Refusal;
use crate::http::headers;
use crate::rejection::Rejection;

/// A client's valid request for a WebSocket.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// The value of `sec-websocket-accept`; none on HTTP/2.
    accept: Option<HeaderValue>,
    /// The subprotocols that the client offers.
    offered: Vec<String>,
}

/// Why a request for a WebSocket is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("The only protocol served by CONNECT is websocket.")]
    Protocol,
    #[error("WebSocket: the method must be GET.")]
    Method,
    #[error("WebSocket: the request must have no body.")]
    Body,
    #[error("WebSocket: there must be one sec-websocket-key.")]
    NoKey,
    #[error("WebSocket: sec-websocket-key must be 16 bytes in Base64.")]
    Key,
    #[error("WebSocket: the only version is 13.")]
    Version,
    #[error("As many WebSockets are open as may be.")]
    TooMany,
}

impl From<HandshakeError> for Rejection {
    fn from(error: HandshakeError) -> Self {
        let (refusal, status) = match error {
            HandshakeError::Protocol => (Refusal::Method, StatusCode::NOT_IMPLEMENTED),
            HandshakeError::Method
            | HandshakeError::Body
            | HandshakeError::NoKey
            | HandshakeError::Key => (Refusal::WebSocket, StatusCode::BAD_REQUEST),
            HandshakeError::Version => {
                let status = StatusCode::UPGRADE_REQUIRED;
                return Self::new(Refusal::WebSocket, status, error.to_string())
                    .with(header::SEC_WEBSOCKET_VERSION, "13");
            }
            HandshakeError::TooMany => (Refusal::WebSockets, StatusCode::SERVICE_UNAVAILABLE),
        };
        Self::new(refusal, status, error.to_string())
    }
}

/// Reads a handshake; none if the request does not ask for a WebSocket.
pub(crate) fn read(head: &request::Parts) -> Result<Option<Handshake>, HandshakeError> {
    let headers = &head.headers;
    let accept = if head.version == Version::HTTP_2 {
        match head.extensions.get::<hyper::ext::Protocol>() {
            None => return Ok(None),
            Some(protocol) if protocol.as_str() == "websocket" => None,
            Some(_) => return Err(HandshakeError::Protocol),
        }
    } else {
        let asks = head.version == Version::HTTP_11
            && has_token(headers, &header::UPGRADE, "websocket")
            && has_token(headers, &header::CONNECTION, "upgrade");
        if !asks {
            return Ok(None);
        }
        Some(accept_key(head)?)
    };
    if single(headers, &header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(HandshakeError::Version);
    }
    Ok(Some(Handshake {
        accept,
        offered: tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL)
            .map(str::to_owned)
            .collect(),
    }))
}

/// Checks a handshake of HTTP/1.1, and makes the proof that it was read (RFC 6455, section 4.2.2).
fn accept_key(head: &request::Parts) -> Result<HeaderValue, HandshakeError> {
    if head.method != Method::GET {
        return Err(HandshakeError::Method);
    }
    let length = head.headers.get(header::CONTENT_LENGTH);
    if head.headers.contains_key(header::TRANSFER_ENCODING)
        || length.is_some_and(|length| length != "0")
    {
        return Err(HandshakeError::Body);
    }
    let key = single(&head.headers, &header::SEC_WEBSOCKET_KEY).ok_or(HandshakeError::NoKey)?;
    if !STANDARD
        .decode(key.as_bytes())
        .is_ok_and(|key| key.len() == 16)
    {
        return Err(HandshakeError::Key);
    }
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| HandshakeError::Key)
}

impl Handshake {
    /// Brings the request for a WebSocket into the form of HTTP/1.1, in which targets get it from every version.
    pub(crate) fn announce(&self, head: &mut request::Parts) {
        head.method = Method::GET;
        let websocket = HeaderValue::from_static("websocket");
        head.headers.insert(header::UPGRADE, websocket);
        // The gateway agrees on extensions of the protocol itself, and it agrees on none.
        head.headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    }

    /// The response that accepts the handshake, from the response of the target.
    pub(crate) fn accept(&self, response: Response<Body>) -> Response<Body> {
        let (mut parts, _) = response.into_parts();
        let chosen = parts.headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
        headers::remove_hop_by_hop(&mut parts.headers);
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
                .is_ok_and(|chosen| self.offered.iter().any(|one| one == chosen))
        {
            parts.headers.insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
        }
        match &self.accept {
            Some(accept) => {
                parts.status = StatusCode::SWITCHING_PROTOCOLS;
                parts
                    .headers
                    .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
                parts
                    .headers
                    .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                parts
                    .headers
                    .insert(header::SEC_WEBSOCKET_ACCEPT, accept.clone());
            }
            None => parts.status = StatusCode::OK,
        }
        Response::from_parts(parts, empty_body())
    }
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

    fn read_with(change: &[(&str, &str)]) -> Result<Option<Handshake>, HandshakeError> {
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
            let rejection = Rejection::from(read_with(change).unwrap_err());
            assert_eq!(rejection.status.as_u16(), status, "{change:?}");
        };
        check(&[("sec-websocket-version", "8")], 426);
        check(&[("sec-websocket-version", "")], 426);
        check(&[("sec-websocket-key", "")], 400);
        check(&[("sec-websocket-key", "c2hvcnQ=")], 400);
        check(&[("sec-websocket-key", "not base64")], 400);
        check(&[("content-length", "5")], 400);
    }
}
