//! Rejects requests beyond the limits of a route, or of the API key that they have, and states what is left.

use http::Response;
use http::header::HeaderName;
use stockade_http::Body;
use stockade_limits::Now;

use super::{Filter, Flow, Notes, RequestContext};
use crate::access::AccessRecord;
use crate::rate::{Admitted, LimitedRequest};
use crate::rejection::Rejection;
use crate::route::table::Route;

/// Names of the fields (draft-ietf-httpapi-ratelimit-headers-10, section 3).
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// Counts requests by [`Route::limits`].
pub(super) struct RateLimit;

impl Filter for RateLimit {
    fn after_route(
        &self,
        request: &mut RequestContext<'_>,
        route: &Route,
    ) -> Result<Flow, Rejection> {
        let Some(limits) = &route.limits else {
            return Ok(Flow::Continue);
        };
        let limited = LimitedRequest {
            client: request.record.client.ip(),
            head: request.head,
            path: request.path.as_str(),
            caller: request.notes.caller.as_ref(),
            now: Now::of(request.began, request.record.started),
        };
        match limits.admit(limited, &request.connection.last_charges) {
            Ok(Some(Admitted { charges, fields })) => {
                request.notes.charges = Some(charges);
                request.notes.limits = fields;
                Ok(Flow::Continue)
            }
            Ok(None) => Ok(Flow::Continue),
            Err(mut exceeded) => {
                request.notes.limits = exceeded.fields.take();
                Err(exceeded.into())
            }
        }
    }

    fn on_response(&self, _: &AccessRecord, notes: &mut Notes, response: &mut Response<Body>) {
        if let Some(fields) = notes.limits.take() {
            let headers = response.headers_mut();
            headers.insert(POLICY, fields.policy);
            headers.insert(STATE, fields.state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::num::NonZeroU64;
    use std::sync::Arc;

    use http::StatusCode;
    use stockade_http::{PathPattern, Problem, empty_body};
    use stockade_limits::{Allowance, Counters, Period};

    use super::super::test_request::{TestRequest, route};
    use super::*;
    use crate::access::{Outcome, Refusal};
    use crate::rate::{LimitBy, RateRule, RouteLimits, Unit};

    fn rule(by: &[LimitBy], amount: u64, period: Period) -> RateRule {
        let amount = NonZeroU64::new(amount).unwrap();
        RateRule {
            by: by.to_vec(),
            methods: Vec::new(),
            paths: Vec::new(),
            allowances: vec![(Unit::Requests, Allowance::new(amount, period, None))],
        }
    }

    fn limited(rules: Vec<RateRule>) -> Route {
        let rules = rules.into_iter().map(|rule| ("a".to_owned(), rule));
        let counters = Arc::new(Counters::new(1024, [7; 16]));
        let mut route = route();
        route.limits = Some(Arc::new(RouteLimits::new(counters, 64, rules)));
        route
    }

    fn request(address: &str, headers: &[(&'static str, &str)]) -> TestRequest {
        let mut request = TestRequest::get("/a");
        request.record.client = SocketAddr::new(address.parse().unwrap(), 1);
        for (name, value) in headers {
            let value = value.parse().unwrap();
            request.head.headers.append(*name, value);
        }
        request
    }

    fn status(route: &Route, request: &mut TestRequest) -> u16 {
        match RateLimit.after_route(&mut request.context(), route) {
            Ok(_) => 200,
            Err(rejection) => {
                let refused = Outcome::Refused(Refusal::RateLimit);
                assert_eq!((rejection.outcome, rejection.close), (refused, false));
                assert_eq!(rejection.status, StatusCode::TOO_MANY_REQUESTS);
                429
            }
        }
    }

    #[test]
    fn address_has_its_rate_and_a_network_of_ipv6_is_one_client() {
        let route = limited(vec![rule(&[LimitBy::Address], 2, Period::Hour)]);
        let of = |address: &str| status(&route, &mut request(address, &[]));
        assert_eq!([1; 3].map(|_| of("192.0.2.1")), [200, 200, 429]);
        assert_eq!(of("192.0.2.2"), 200);
        assert_eq!(of("2001:db8::1"), 200);
        assert_eq!(of("2001:db8::ffff:1"), 200);
        // Each request comes from another address of the same /64.
        let rotated = (0..1000).map(|n| of(&format!("2001:db8::{n:x}")));
        assert!(rotated.into_iter().all(|status| status == 429));
        assert_eq!(of("2001:db8:0:1::1"), 200);
    }

    #[test]
    fn header_counts_as_a_whole_and_without_it_the_address_does() {
        let tenant = LimitBy::Header("x-tenant".parse().unwrap());
        let route = limited(vec![rule(&[tenant], 1, Period::Day)]);
        let of = |values: &[&str]| {
            let headers: Vec<_> = values.iter().map(|value| ("x-tenant", *value)).collect();
            status(&route, &mut request("192.0.2.1", &headers))
        };
        assert_eq!([of(&["a"]), of(&["a"])], [200, 429]);
        // No other way to write two values is the same subject.
        assert_eq!([of(&["a", "b"]), of(&["a", "b"])], [200, 429]);
        assert_eq!([of(&["a, b"]), of(&["ab"]), of(&["", "ab"])], [200; 3]);
        assert_eq!([of(&[]), of(&[])], [200, 429]);
    }

    #[test]
    fn request_that_one_limit_refuses_takes_nothing_from_the_others() {
        let mut narrow = rule(&[LimitBy::Address], 1, Period::Hour);
        narrow.paths = vec![PathPattern::Exact("/a".to_owned())];
        let route = limited(vec![rule(&[LimitBy::Instance], 3, Period::Hour), narrow]);
        let of = |address| status(&route, &mut request(address, &[]));
        let taken = [1; 10].map(|_| of("192.0.2.1"));
        assert_eq!(taken.iter().filter(|status| **status == 200).count(), 1);
        assert_eq!(
            [of("192.0.2.2"), of("192.0.2.3"), of("192.0.2.4")],
            [200, 200, 429]
        );
    }

    #[test]
    fn refused_request_waits_for_the_limit_that_takes_longest() {
        let both = |one: Period, other: Period| {
            let rules = [one, other].map(|period| rule(&[LimitBy::Address], 1, period));
            limited(rules.into())
        };
        for route in [
            both(Period::Minute, Period::Hour),
            both(Period::Hour, Period::Minute),
        ] {
            let one = || request("192.0.2.1", &[]);
            assert_eq!(status(&route, &mut one()), 200);
            for _ in 0..2 {
                let mut refused = one();
                let outcome = RateLimit.after_route(&mut refused.context(), &route);
                let mut response = outcome.unwrap_err().into_response();
                RateLimit.on_response(&refused.record, &mut refused.notes, &mut response);
                let problem = response.extensions().get::<Problem>().unwrap();
                let wait = problem.retry_after.unwrap().as_secs();
                assert!((3500..=3600).contains(&wait), "{wait}");
                assert_eq!(
                    response.headers()[POLICY],
                    "\"address-requests\";q=1;w=3600"
                );
            }
        }
    }

    /// `RateLimit-Policy` and `RateLimit` of the response to a request.
    fn stated(route: &Route, headers: &[(&'static str, &str)]) -> Option<(String, String)> {
        let mut request = request("192.0.2.1", headers);
        let _ = status(route, &mut request);
        let mut response = Response::new(empty_body());
        RateLimit.on_response(&request.record, &mut request.notes, &mut response);
        let text = |name| Some(response.headers().get(name)?.to_str().unwrap().to_owned());
        text(POLICY).zip(text(STATE))
    }

    #[test]
    fn request_that_others_used_up_is_stated_what_is_left_of_its_own_limits() {
        let own = rule(&[LimitBy::Address], 5, Period::Hour);
        let route = limited(vec![rule(&[LimitBy::Instance], 1, Period::Hour), own]);
        for _ in 0..3 {
            let (policy, state) = stated(&route, &[]).unwrap();
            assert_eq!(policy, "\"address-requests\";q=5;w=3600");
            assert!(state.starts_with("\"address-requests\";r=4;"), "{state}");
        }
    }

    #[test]
    fn limit_with_the_smallest_share_is_stated_and_of_equal_ones_the_first() {
        let tenant = LimitBy::Header("x-tenant".parse().unwrap());
        let rules = [(LimitBy::Address, 4), (tenant, 8), (LimitBy::Address, 2)];
        let rules = rules.map(|(by, amount)| rule(&[by], amount, Period::Hour));
        let route = limited(rules.into());
        // 3 of 4, 7 of 8, 1 of 2; then 2 of 4, 7 of 8 (another tenant), 0 of 2.
        for (tenant, left) in [("a", "1;t=1800"), ("b", "0;t=3600")] {
            let (policy, state) = stated(&route, &[("x-tenant", tenant)]).unwrap();
            assert_eq!(policy, "\"address-requests\";q=2;w=3600");
            assert_eq!(state, format!("\"address-requests\";r={left}"));
        }
        let rules = [(LimitBy::Address, 8), (LimitBy::Address, 4)];
        let rules = rules.map(|(by, amount)| rule(&[by], amount, Period::Day));
        let mut bytes = rules.clone();
        for rule in &mut bytes {
            rule.allowances[0].0 = Unit::BytesOut;
        }
        // Nothing is taken of them before the response.
        let (policy, _) = stated(&limited(bytes.into()), &[]).unwrap();
        assert_eq!(
            policy,
            "\"address-bytes_out\";q=8;qu=\"content-bytes\";w=86400"
        );
    }

    #[test]
    fn response_states_what_is_left_of_the_clients_own_limits() {
        let rules = vec![
            rule(&[LimitBy::Instance], 100, Period::Second),
            rule(&[LimitBy::Address], 2, Period::Minute),
        ];
        let route = limited(rules);
        let mut fields = Vec::new();
        for _ in 0..3 {
            let mut request = request("192.0.2.1", &[]);
            let _ = status(&route, &mut request);
            let mut response = Response::new(empty_body());
            RateLimit.on_response(&request.record, &mut request.notes, &mut response);
            let headers = response.headers();
            assert_eq!(headers[POLICY], "\"address-requests\";q=2;w=60");
            fields.push(headers[STATE].to_str().unwrap().to_owned());
        }
        assert_eq!(
            fields,
            [
                "\"address-requests\";r=1;t=30",
                "\"address-requests\";r=0;t=60",
                "\"address-requests\";r=0;t=30",
            ]
        );
    }

    #[test]
    fn bytes_that_were_used_are_refused_to_the_next_request() {
        let mut rule = rule(&[LimitBy::Address], 1000, Period::Hour);
        let hour = Allowance::new(NonZeroU64::new(1000).unwrap(), Period::Hour, None);
        rule.allowances = vec![(Unit::BytesOut, hour)];
        let route = limited(vec![rule]);
        let mut first = request("192.0.2.1", &[]);
        assert_eq!(status(&route, &mut first), 200);
        let charges = first.notes.charges.take().unwrap();
        let used = |unit, bytes| charges.used(unit, bytes, Now::read());
        assert!(used(Unit::BytesIn, 5000).is_zero());
        assert!(used(Unit::BytesOut, 999).is_zero());
        assert_eq!(status(&route, &mut request("192.0.2.1", &[])), 200);
        assert!(!used(Unit::BytesOut, 5000).is_zero());
        assert_eq!(status(&route, &mut request("192.0.2.1", &[])), 429);
        assert_eq!(status(&route, &mut request("192.0.2.2", &[])), 200);
    }
}
