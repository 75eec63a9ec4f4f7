//! Why a request does not reach its target, in words for its client.

use std::borrow::Cow;
use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderValue, Response, StatusCode};
use stockade_http::{Body, Problem};

use crate::access::{Outcome, Refusal};

/// What a request is answered with instead of its target's response. Errors of the pipeline and of filters become
/// one by `From`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// For the access record.
    pub(crate) outcome: Outcome,
    pub(crate) status: StatusCode,
    /// One or two sentences for the client.
    pub(crate) detail: Cow<'static, str>,
    /// The connection is closed after the response: what the client sends next has no certain meaning.
    pub(crate) close: bool,
    /// A header that the status demands.
    header: Option<(HeaderName, HeaderValue)>,
    retry_after: Option<Duration>,
}

impl Rejection {
    pub(crate) fn new(
        refusal: Refusal,
        status: StatusCode,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            outcome: Outcome::Refused(refusal),
            status,
            detail: detail.into(),
            close: false,
            header: None,
            retry_after: None,
        }
    }

    /// The target did not answer in time.
    pub(crate) fn timed_out() -> Self {
        Self {
            outcome: Outcome::TimedOut,
            status: StatusCode::GATEWAY_TIMEOUT,
            detail: "The site did not answer in time.".into(),
            close: false,
            header: None,
            retry_after: None,
        }
    }

    /// Adds a header that the status demands.
    pub(crate) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, HeaderValue::from_static(value)));
        self
    }

    /// Adds a header whose value was made for this request.
    pub(crate) fn with_value(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    /// Says when the client may try again.
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Closes the connection after the response.
    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// A response that the gateway completes with a body.
    pub(crate) fn into_response(self) -> Response<Body> {
        let mut problem = Problem::new(self.status, self.detail);
        problem.retry_after = self.retry_after;
        let mut response = problem.into_response();
        response.headers_mut().extend(self.header);
        response
    }
}
