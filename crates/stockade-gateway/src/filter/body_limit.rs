//! Rejects requests that declare a body larger than the gateway or the route allows. Bodies without a declared length
//! are bounded while they are read.

use http::StatusCode;

use super::{Filter, Flow, RequestContext};
use crate::access::Refusal;
use crate::rejection::Rejection;
use crate::route::table::Route;

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

/// Checks the declared size of the body by [`Route::max_body`] and
/// [`Limits::max_body`](crate::limits::Limits::max_body).
pub(super) struct BodyLimit;

impl Filter for BodyLimit {
    fn after_route(
        &self,
        request: &mut RequestContext<'_>,
        route: &Route,
    ) -> Result<Flow, Rejection> {
        let limit = route.body_limit(request.limits);
        if request.body_bytes > limit {
            return Err(BodyTooLarge { limit }.into());
        }
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_request::{TestRequest, route};
    use super::*;
    use crate::access::Outcome;

    #[test]
    fn declared_size_is_held_to_the_smaller_limit() {
        let check = |declared, of_route, of_gateway, rejected: bool| {
            let mut request = TestRequest::get("/");
            request.limits.max_body = of_gateway;
            request.body_bytes = declared;
            let mut route = route();
            route.max_body = of_route;
            let result = BodyLimit.after_route(&mut request.context(), &route);
            match result {
                Ok(_) => assert!(!rejected, "{declared} {of_route:?} {of_gateway}"),
                Err(rejection) => {
                    assert!(rejected, "{declared} {of_route:?} {of_gateway}");
                    let refusal = Outcome::Refused(Refusal::BodyTooLarge);
                    assert_eq!((rejection.outcome, rejection.close), (refusal, true));
                }
            }
        };
        check(10, None, 10, false);
        check(11, None, 10, true);
        check(11, Some(20), 10, true);
        check(11, Some(10), 20, true);
        check(10, Some(10), 20, false);
    }
}
