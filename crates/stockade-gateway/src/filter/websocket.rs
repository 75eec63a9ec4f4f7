//! Reads the handshake of requests that ask for a WebSocket, and rejects malformed ones (RFC 6455, section 4.2.1).

use super::{Filter, Flow, RequestContext};
use crate::rejection::Rejection;
use crate::route::table::Route;
use crate::websocket::handshake;

/// Reads the handshake where [`Route::websocket`] allows one. Elsewhere the request is an ordinary one.
pub(super) struct WebSocket;

impl Filter for WebSocket {
    fn after_route(
        &self,
        request: &mut RequestContext<'_>,
        route: &Route,
    ) -> Result<Flow, Rejection> {
        if route.websocket {
            request.websocket = handshake::read(request.head)?;
        }
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_request::{TestRequest, route};
    use super::*;
    use http::{HeaderValue, StatusCode, header};

    #[test]
    fn handshake_is_read_where_the_route_serves_websockets() {
        let mut request = TestRequest::get("/");
        let headers = &mut request.head.headers;
        for (name, value) in [
            (header::CONNECTION, "upgrade"),
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_VERSION, "12"),
            (header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let mut route = route();
        let rejection = WebSocket
            .after_route(&mut request.context(), &route)
            .unwrap_err();
        assert_eq!(rejection.status, StatusCode::UPGRADE_REQUIRED);
        let version = HeaderValue::from_static("13");
        let headers = &mut request.head.headers;
        headers.insert(header::SEC_WEBSOCKET_VERSION, version);
        let mut context = request.context();
        assert!(WebSocket.after_route(&mut context, &route).is_ok());
        assert!(context.websocket.is_some());
        route.websocket = false;
        let mut context = request.context();
        assert!(WebSocket.after_route(&mut context, &route).is_ok());
        assert!(context.websocket.is_none());
    }
}
