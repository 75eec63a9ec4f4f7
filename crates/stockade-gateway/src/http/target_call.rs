//! The call of a target: the request as targets get it, the wait for the response, and the start of a WebSocket.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http::{Request, Response, StatusCode, request};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use stockade_auth::KeyId;
use stockade_http::{
    Body, Client, GuestSocket, NormalPath, Problem, Scheme, ServedBy, Upgrade, empty_body,
};

use crate::access::Outcome;
use crate::credential::{Caller, CredentialError, Validity};
use crate::http::connection::Connection;
use crate::http::forwarded::Origin;
use crate::http::headers;
use crate::http::request_body::RequestBody;
use crate::http::request_in_flight::RequestInFlight;
use crate::rate::Charges;
use crate::rejection::Rejection;
use crate::route::authority::Authority;
use crate::route::lookup::RouteError;
use crate::route::table::Route;
use crate::route::url::{absolute_uri, path_and_query, uri_authority};
use crate::state::ActiveConfig;
use crate::websocket::handshake::{Handshake, HandshakeError};
use crate::websocket::relay::{self, Relay};

/// A request that may go to its route's target.
pub(crate) struct TargetRequest {
    pub(crate) route: Arc<Route>,
    pub(crate) authority: Authority,
    pub(crate) path: NormalPath,
    /// The request asks for a WebSocket that the route serves.
    pub(crate) handshake: Option<Handshake>,
}

/// One call of a target.
pub(crate) struct TargetCall<'a> {
    pub(crate) connection: &'a Arc<Connection>,
    pub(crate) config: &'a ActiveConfig,
    pub(crate) origin: &'a Origin,
    /// Set where an API key or a token let the client in.
    pub(crate) caller: Option<Caller>,
}

impl TargetCall<'_> {
    /// Gives the request to the target and waits for the head of its response.
    pub(crate) async fn run(
        &self,
        request: &TargetRequest,
        head: request::Parts,
        body: Incoming,
        upgrade: Option<OnUpgrade>,
        flight: &mut RequestInFlight,
    ) -> Result<Response<Body>, Rejection> {
        let route = &request.route;
        // The body first: a client whose head is refused may still be sending it.
        let body = self.target_body(route, body, flight);
        let head = self.target_head(request, head, flight)?;

        let config = self.config;
        let timeout = route.timeout.unwrap_or(config.limits.request_timeout);
        let answer = route.target.handle(Request::from_parts(head, body));
        let validity = |caller| Validity::of(caller, &self.connection.state.key_watch);
        let mut validity = self.caller.as_ref().map(validity);
        let answered = while_valid(&mut validity, tokio::time::timeout(timeout, answer)).await?;
        // A fault of the body is the client's, whatever the target made of it.
        if let Some(fault) = flight.body.as_ref().and_then(|body| body.fault()) {
            return Err(fault.into());
        }
        let Ok(mut response) = answered else {
            return Err(Rejection::timed_out());
        };

        flight.record.served_by = response.extensions_mut().remove::<ServedBy>();
        let guest = response.extensions_mut().remove::<Upgrade>();
        if !response.status().is_informational() {
            flight.validity = validity;
            return Ok(response);
        }
        // A WebSocket, where client, gateway and target agree on one.
        match (
            &request.handshake,
            upgrade,
            guest.and_then(|guest| guest.take()),
        ) {
            (Some(handshake), Some(upgrade), Some(guest))
                if response.status() == StatusCode::SWITCHING_PROTOCOLS =>
            {
                self.open_websocket(route, guest, upgrade, flight.charges.clone())?;
                flight.record.outcome = Outcome::Upgraded;
                Ok(handshake.accept(response))
            }
            _ => {
                let detail = "The site answered with an interim response and nothing else.";
                Ok(Problem::new(StatusCode::BAD_GATEWAY, detail).into_response())
            }
        }
    }

    /// The head as targets get it: an absolute URL, no field that ends here, a WebSocket as on HTTP/1.1, and the client.
    fn target_head(
        &self,
        request: &TargetRequest,
        mut head: request::Parts,
        flight: &RequestInFlight,
    ) -> Result<request::Parts, RouteError> {
        let scheme = self.origin.scheme;
        let in_urls = uri_authority(scheme, &request.authority).ok_or(RouteError::Host)?;
        headers::clean_request(&mut head.headers, &in_urls);
        let target = path_and_query(request.path.as_str(), &head.uri);
        let target = target.ok_or(RouteError::Character)?;
        head.uri = absolute_uri(scheme, in_urls, target).ok_or(RouteError::Character)?;
        if let Some(handshake) = &request.handshake {
            handshake.announce(&mut head);
        }
        let caller = self.caller.as_ref();
        head.extensions.insert(Client {
            address: self.origin.client,
            request_id: Arc::clone(&self.origin.request_id),
            https: scheme == Scheme::Https,
            secure: flight.record.tls.clone(),
            upgrade: request.handshake.is_some(),
            api_key: caller.and_then(Caller::api_key),
            key: caller.and_then(Caller::key).map(KeyId::number),
            token: caller.and_then(Caller::token),
            account: flight.charges.as_ref().and_then(Charges::account),
        });
        if let Some(trace) = &flight.record.trace {
            head.extensions.insert(trace.clone());
        }
        Ok(head)
    }

    /// The body, bounded, timed and charged.
    fn target_body(&self, route: &Route, body: Incoming, flight: &mut RequestInFlight) -> Body {
        if body.is_end_stream() {
            return empty_body();
        }
        let limits = &self.config.limits;
        let limit = route.body_limit(limits);
        let state = Arc::clone(&self.connection.state);
        let progress = Arc::clone(flight.body.get_or_insert_default());
        RequestBody::new(body, limit, limits, state, flight.number, progress)
            .charged(flight.charges.clone())
            .boxed_unsync()
    }

    /// Starts the relay of a WebSocket, if another one may be open.
    fn open_websocket(
        &self,
        route: &Route,
        guest: GuestSocket,
        upgrade: OnUpgrade,
        charges: Option<Arc<Charges>>,
    ) -> Result<(), HandshakeError> {
        let connection = Arc::clone(self.connection);
        let limits = &self.config.limits.sockets;
        let gateway = &connection.gateway;
        let permit = gateway
            .connections
            .acquire_websocket(limits.open)
            .ok_or(HandshakeError::TooMany)?;
        let relay = Relay {
            guest,
            limits: limits.clone(),
            route: Arc::clone(&route.label),
            api_key: self.caller.as_ref().and_then(Caller::key),
            request_id: Arc::clone(&self.origin.request_id),
            client: self.origin.client,
            charges,
            phase: gateway.phase.clone(),
            credential_ends: match &self.caller {
                Some(caller) => caller.until_invalid(),
                None => Box::pin(std::future::pending()),
            },
            observer: Arc::clone(&gateway.observer),
            connection: Arc::clone(&connection.state),
        };
        relay::start(relay, upgrade, (permit, connection));
        Ok(())
    }
}

/// Waits for an answer, and not longer than the credential of the request is valid.
async fn while_valid<T>(
    validity: &mut Option<Validity>,
    answer: impl Future<Output = T>,
) -> Result<T, CredentialError> {
    let mut answer = pin!(answer);
    let answered = poll_fn(|cx| {
        if let Poll::Ready(answered) = answer.as_mut().poll(cx) {
            return Poll::Ready(Ok(answered));
        }
        match validity {
            Some(validity) => validity
                .poll_ended(cx)
                .map(|()| Err(CredentialError::Ended)),
            None => Poll::Pending,
        }
    });
    answered.await
}
