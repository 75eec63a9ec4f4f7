//! Begins the trace of a request, or continues one of a client that may decide about traces.

use ipnet::IpNet;

use super::{Filter, Flow, RequestContext};
use crate::http::forwarded::trusts;
use crate::rejection::Rejection;
use crate::route::table::{TraceParents, TraceRule};

/// Writes `traceparent` for the target, and removes what other clients sent.
pub(super) struct TraceContext {
    rule: TraceRule,
    proxies: Vec<IpNet>,
}

impl TraceContext {
    pub(super) fn new(rule: &TraceRule, proxies: Vec<IpNet>) -> Self {
        let rule = rule.clone();
        Self { rule, proxies }
    }
}

impl Filter for TraceContext {
    fn before_route(&self, request: &mut RequestContext<'_>) -> Result<Flow, Rejection> {
        let headers = &mut request.head.headers;
        let continues = match self.rule.parents {
            TraceParents::Everyone => true,
            TraceParents::Nobody => false,
            TraceParents::Trusted => trusts(&self.proxies, request.record.peer.ip()),
        };
        let trace = self.rule.tracing.begin(continues.then_some(&*headers));
        trace.write(headers);
        request.record.trace = Some(trace);
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use stockade_trace::{Protocol, TRACEPARENT, TRACESTATE, TraceCounts, TraceOptions, Tracing};

    use super::super::test_request::TestRequest;
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[tokio::test]
    async fn trace_of_a_client_is_continued_where_the_rule_says_so() {
        let options = TraceOptions {
            endpoint: "http://127.0.0.1:1/".parse().unwrap(),
            protocol: Protocol::HttpProtobuf,
            headers: Vec::new(),
            ca: None,
            ratio: 0.0,
            resource: Vec::new(),
            timeout: Duration::from_secs(1),
            retry_after: Duration::from_secs(1),
            queue: 1,
        };
        let tracing = Tracing::start(&options, Arc::new(TraceCounts::default())).unwrap();
        let near: Vec<IpNet> = vec!["192.0.2.0/24".parse().unwrap()];
        for (parents, proxies, continues) in [
            (TraceParents::Everyone, Vec::new(), true),
            (TraceParents::Trusted, near.clone(), true),
            (TraceParents::Trusted, Vec::new(), false),
            (TraceParents::Nobody, near, false),
        ] {
            let rule = TraceRule {
                tracing: tracing.clone(),
                parents,
            };
            let mut request = TestRequest::get("/");
            let headers = &mut request.head.headers;
            headers.insert(TRACEPARENT, PARENT.parse().unwrap());
            headers.insert(TRACESTATE, "a=1".parse().unwrap());
            let filter = TraceContext::new(&rule, proxies);
            filter.before_route(&mut request.context()).unwrap();
            // The target gets a span of the gateway's own, and never the client's.
            let sent = request.head.headers[TRACEPARENT].to_str().unwrap();
            assert_eq!(sent[..36] == PARENT[..36], continues, "{parents:?}");
            assert_ne!(sent[36..52], PARENT[36..52]);
            let state = request.head.headers.contains_key(TRACESTATE);
            assert_eq!(state, continues, "{parents:?}");
            // The client that is believed has decided that it is recorded; the ratio is 0.
            let trace = request.record.trace.unwrap();
            assert_eq!(trace.is_recorded(), continues, "{parents:?}");
        }
    }
}
