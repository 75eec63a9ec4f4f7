//! Rejects clients whose certificate a route does not allow.

use http::StatusCode;

use super::{Filter, Flow, RequestContext};
use stockade_tls::ClientRefused;

use crate::access::Refusal;
use crate::rejection::Rejection;
use crate::route::table::Route;

/// Checks the client's certificate by [`Route::client`].
pub(super) struct ClientCertificate;

impl Filter for ClientCertificate {
    fn after_route(
        &self,
        request: &mut RequestContext<'_>,
        route: &Route,
    ) -> Result<Flow, Rejection> {
        route.client.check(request.tls.map(|tls| &tls.connection))?;
        Ok(Flow::Continue)
    }
}

impl From<ClientRefused> for Rejection {
    fn from(error: ClientRefused) -> Self {
        let detail = format!("Not allowed: {error}.");
        Self::new(Refusal::ClientCertificate, StatusCode::FORBIDDEN, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_request::{TestRequest, route};
    use super::*;

    #[test]
    fn client_without_certificate_is_rejected_where_the_route_requires_one() {
        let mut request = TestRequest::get("/");
        let mut route = route();
        let open = ClientCertificate.after_route(&mut request.context(), &route);
        assert!(matches!(open, Ok(Flow::Continue)));
        route.client.required = true;
        let rejection = ClientCertificate
            .after_route(&mut request.context(), &route)
            .unwrap_err();
        assert_eq!(rejection.status, StatusCode::FORBIDDEN);
        assert!(!rejection.close);
    }
}
