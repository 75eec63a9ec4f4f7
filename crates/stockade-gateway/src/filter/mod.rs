//! The filters that each request passes between its head and its target, and each response on its way back.
//!
//! [`FilterChain::new`] states their order. A filter has a file of its own with its error and its test, reads its own
//! part of the options of the table, of a route, or of the limits, and knows no other filter.
//!
//! Invariants:
//! 1. Filters never wait: none is a future. What takes time belongs to a target, or into a task that prepares what a
//!    filter reads.
//! 2. Each response to a request that the HTTP library could read passes all filters, in reverse order, whatever made
//!    the response.
//! 3. A request is charged for no filter that its options do not ask for: such a filter is not in the chain.

mod acme_challenge;
mod api_key;
pub(crate) mod body_limit;
mod client_certificate;
mod rate_limit;
mod request_id;
#[cfg(test)]
mod test_request;
mod tls_policy;
mod trace_context;
mod websocket;

use std::sync::Arc;
use std::time::Instant;

use http::{Response, request};
use stockade_http::{Body, NormalPath};

use crate::access::AccessRecord;
use crate::credential::Caller;
use crate::http::connection_state::ConnectionState;
use crate::limits::Limits;
use crate::listener::establish::TlsContext;
use crate::rate::{Charges, RateLimitFields};
use crate::rejection::Rejection;
use crate::route::authority::Authority;
use crate::route::table::{Route, TableOptions};
use crate::websocket::handshake::Handshake;

/// One step that requests and responses pass. Each method passes them on unless a filter overrides it.
///
/// The methods are called for each request of the gateway: they must not block, and should not allocate where they
/// have nothing to say.
pub(crate) trait Filter: Send + Sync {
    /// Sees a request whose head is valid, before its route is looked up.
    fn before_route(&self, _request: &mut RequestContext<'_>) -> Result<Flow, Rejection> {
        Ok(Flow::Continue)
    }

    /// Sees a request that is for `route`.
    fn after_route(
        &self,
        _request: &mut RequestContext<'_>,
        _route: &Route,
    ) -> Result<Flow, Rejection> {
        Ok(Flow::Continue)
    }

    /// Sees the response to a request before it is made right by HTTP, and may take what it left in the notes.
    fn on_response(
        &self,
        _request: &AccessRecord,
        _notes: &mut Notes,
        _response: &mut Response<Body>,
    ) {
    }
}

/// Whether a request goes on to its target.
#[derive(Debug)]
pub(crate) enum Flow {
    Continue,
    /// The filter answers in place of the target.
    Answer(Box<Response<Body>>),
}

/// A request as filters see it.
pub(crate) struct RequestContext<'a> {
    /// The head as the client sent it, except headers that say who the client is, which the gateway wrote.
    /// A filter may add headers for the target.
    pub(crate) head: &'a mut request::Parts,
    pub(crate) authority: &'a Authority,
    /// In normal form; after the route was found, by the route's rule for encoded slashes.
    pub(crate) path: NormalPath,
    /// The least size of the body in bytes: its length where the head has one, else 0.
    pub(crate) body_bytes: u64,
    /// None without TLS.
    pub(crate) tls: Option<&'a TlsContext>,
    pub(crate) limits: &'a Limits,
    /// When its head had been read.
    pub(crate) began: Instant,
    /// What the connection remembers of its last request.
    pub(crate) connection: &'a ConnectionState,
    pub(crate) notes: &'a mut Notes,
    /// What logs, metrics and traces get to know of the request.
    pub(crate) record: &'a mut AccessRecord,
    /// Set where the request asks for a WebSocket that its route serves.
    pub(crate) websocket: Option<Handshake>,
}

/// What filters leave of a request for what comes after them. No target sees it.
#[derive(Default)]
pub(crate) struct Notes {
    /// Who was let in, where the route asks.
    pub(crate) caller: Option<Caller>,
    /// What the request counts against; none where nothing is limited over time.
    pub(crate) charges: Option<Arc<Charges>>,
    /// What the response states of limits, also where the request is beyond one.
    pub(crate) limits: Option<RateLimitFields>,
}

/// All filters in their order. Built for each configuration, so that a request allocates nothing for it.
pub(crate) struct FilterChain(Vec<Box<dyn Filter>>);

impl FilterChain {
    /// Makes the filters that these options ask for.
    pub(crate) fn new(options: &TableOptions) -> Self {
        let mut filters: Vec<Box<dyn Filter>> = Vec::new();
        // Outermost, so that each response has an id: also one that another filter makes.
        filters.push(Box::new(request_id::RequestId));
        // Whatever answers, the request is traced.
        if let Some(rule) = &options.tracing {
            let proxies = options.trusted_proxies.clone();
            filters.push(Box::new(trace_context::TraceContext::new(rule, proxies)));
        }
        // Before routes: a certificate authority asks whatever routes there are.
        if let Some(acme) = &options.acme {
            filters.push(Box::new(acme_challenge::AcmeChallenge::new(acme)));
        }
        // Who may ask, before what is asked: a client that is not let in learns nothing of the route's limits.
        filters.push(Box::new(tls_policy::TlsPolicy));
        filters.push(Box::new(client_certificate::ClientCertificate));
        filters.push(Box::new(api_key::ApiKeyFilter));
        // After the client is known, and before anything is done for it.
        filters.push(Box::new(rate_limit::RateLimit));
        filters.push(Box::new(body_limit::BodyLimit));
        filters.push(Box::new(websocket::WebSocket));
        Self(filters)
    }

    pub(crate) fn before_route(&self, request: &mut RequestContext<'_>) -> Result<Flow, Rejection> {
        for filter in &self.0 {
            if let answer @ Flow::Answer(_) = filter.before_route(request)? {
                return Ok(answer);
            }
        }
        Ok(Flow::Continue)
    }

    pub(crate) fn after_route(
        &self,
        request: &mut RequestContext<'_>,
        route: &Route,
    ) -> Result<Flow, Rejection> {
        for filter in &self.0 {
            if let answer @ Flow::Answer(_) = filter.after_route(request, route)? {
                return Ok(answer);
            }
        }
        Ok(Flow::Continue)
    }

    pub(crate) fn on_response(
        &self,
        request: &AccessRecord,
        notes: &mut Notes,
        response: &mut Response<Body>,
    ) {
        for filter in self.0.iter().rev() {
            filter.on_response(request, notes, response);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::test_request::{TestRequest, route};
    use super::*;
    use http::{HeaderValue, StatusCode};
    use stockade_http::empty_body;

    use crate::access::Refusal;

    /// Counts requests, as a rate limit would, and says in the response how many there were.
    struct Numbered(std::sync::atomic::AtomicU16);

    impl Filter for Numbered {
        fn before_route(&self, request: &mut RequestContext<'_>) -> Result<Flow, Rejection> {
            let number = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let value = HeaderValue::from(number);
            request.notes.limits.get_or_insert(RateLimitFields {
                policy: value.clone(),
                state: value,
            });
            if number > 0 {
                let status = StatusCode::TOO_MANY_REQUESTS;
                return Err(Rejection::new(Refusal::Method, status, "One is enough."));
            }
            Ok(Flow::Continue)
        }

        fn on_response(
            &self,
            _request: &AccessRecord,
            notes: &mut Notes,
            response: &mut Response<Body>,
        ) {
            if let Some(fields) = &notes.limits {
                let state = fields.state.clone();
                response.headers_mut().append("ratelimit", state);
            }
        }
    }

    /// Answers in place of the target.
    struct Answers;

    impl Filter for Answers {
        fn after_route(
            &self,
            _request: &mut RequestContext<'_>,
            _route: &Route,
        ) -> Result<Flow, Rejection> {
            Ok(Flow::Answer(Box::new(Response::new(empty_body()))))
        }
    }

    #[test]
    fn filter_rejects_answers_and_sees_the_response() {
        let first = Numbered(0.into());
        let second = Numbered(0.into());
        let chain = FilterChain(vec![Box::new(first), Box::new(Answers), Box::new(second)]);
        let mut request = TestRequest::get("/");
        let passed = chain.before_route(&mut request.context());
        assert!(matches!(passed, Ok(Flow::Continue)));
        let answered = chain.after_route(&mut request.context(), &route());
        let Ok(Flow::Answer(mut response)) = answered else {
            panic!("{answered:?}");
        };
        chain.on_response(&request.record, &mut request.notes, &mut response);
        assert_eq!(response.headers()["ratelimit"], "0");
        assert_eq!(response.headers().get_all("ratelimit").iter().count(), 2);
        let rejected = chain.before_route(&mut request.context()).unwrap_err();
        assert_eq!(rejected.status, StatusCode::TOO_MANY_REQUESTS);
    }

    #[test]
    fn chain_checks_the_client_before_the_request_and_names_each_response() {
        let chain = FilterChain::new(&TableOptions::default());
        let mut request = TestRequest::get("/.well-known/acme-challenge/token");
        request.body_bytes = request.limits.max_body + 1;
        // Without ACME no path is answered before its route.
        let passed = chain.before_route(&mut request.context());
        assert!(matches!(passed, Ok(Flow::Continue)), "{passed:?}");
        let mut rejected = |required| {
            let mut route = route();
            route.client.required = required;
            let rejected = chain.after_route(&mut request.context(), &route);
            rejected.unwrap_err().status
        };
        assert_eq!(rejected(true), StatusCode::FORBIDDEN);
        assert_eq!(rejected(false), StatusCode::PAYLOAD_TOO_LARGE);
        let mut response = Response::new(empty_body());
        chain.on_response(&request.record, &mut request.notes, &mut response);
        assert_eq!(
            response.headers()["x-request-id"],
            *request.record.request_id
        );
    }
}
