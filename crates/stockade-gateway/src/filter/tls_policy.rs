//! Rejects requests for a host on a connection that was made under the rules of another one (RFC 9110, section
//! 15.5.20).

use http::StatusCode;

use super::{Filter, Flow, RequestContext};
use stockade_tls::Misdirected;

use crate::access::Refusal;
use crate::rejection::Rejection;
use crate::route::table::Route;

/// Checks that the host that a request names asks for the same client certificates as the host that the TLS handshake
/// named, and that the client's certificate is still trusted.
pub(super) struct TlsPolicy;

impl Filter for TlsPolicy {
    fn after_route(
        &self,
        request: &mut RequestContext<'_>,
        _route: &Route,
    ) -> Result<Flow, Rejection> {
        if let Some(tls) = request.tls {
            tls.check(&request.authority.host)?;
        }
        Ok(Flow::Continue)
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

#[cfg(test)]
mod tests {
    use super::super::test_request::{TestRequest, route};
    use super::*;

    #[test]
    fn plain_connection_has_no_policy_to_keep() {
        let mut request = TestRequest::get("/");
        let passed = TlsPolicy.after_route(&mut request.context(), &route());
        assert!(matches!(passed, Ok(Flow::Continue)));
    }

    #[test]
    fn host_of_another_policy_is_misdirected() {
        let rejection = Rejection::from(Misdirected::OtherPolicy("a.example".to_owned()));
        assert_eq!(rejection.status, StatusCode::MISDIRECTED_REQUEST);
        assert!(!rejection.close);
    }
}
