//! Answers that say what went wrong, as `text/plain` or as `application/problem+json` (RFC 9457), by what
//! the client accepts.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::body::{Body, empty_body, full_body};

/// Why a request failed, in words meant for its client.
///
/// As an extension of a response with an empty body it makes the gateway write the body in the form that
/// the client accepts; [`Problem::into_response`] gives such a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    /// One or two sentences. Holds nothing of the guest's and nothing of the machine's.
    pub detail: Cow<'static, str>,
    /// When the client may try again.
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// A problem without a time to try again.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            retry_after: None,
        }
    }

    /// Sets when the client may try again; sent in whole seconds, rounded up (RFC 9110, section 10.2.3).
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// A response that the gateway completes with a body.
    #[must_use]
    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(empty_body());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(self);
        response
    }

    /// The complete response to a request with `headers`.
    #[must_use]
    pub fn render(self, headers: &HeaderMap, request_id: &str) -> Response<Body> {
        let (content_type, text) = if accepts_json(headers) {
            let body = serde_json::json!({
                "type": "about:blank",
                "title": self.status.canonical_reason().unwrap_or("Error"),
                "status": self.status.as_u16(),
                "detail": self.detail,
                "instance": format!("urn:uuid:{request_id}"),
            });
            ("application/problem+json", body.to_string())
        } else {
            let reason = self.status.canonical_reason().unwrap_or("Error");
            let status = self.status.as_u16();
            let detail = &self.detail;
            (
                "text/plain; charset=utf-8",
                format!("{status} {reason}\n{detail}\nrequest {request_id}\n"),
            )
        };
        let mut response = Response::new(full_body(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(
            http::header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        );
        headers.insert(
            http::header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        if let Some(after) = self.retry_after {
            let seconds = after.as_millis().div_ceil(1000).max(1);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                headers.insert(RETRY_AFTER, value);
            }
        }
        response
    }
}

/// A client that names JSON and not plain text or HTML before it wants JSON.
fn accepts_json(headers: &HeaderMap) -> bool {
    let mut json = false;
    for value in headers.get_all(ACCEPT) {
        for range in value.as_bytes().split(|byte| *byte == b',') {
            let kind = range
                .split(|byte| *byte == b';')
                .next()
                .unwrap_or_default()
                .trim_ascii();
            if kind.eq_ignore_ascii_case(b"text/html") || kind.eq_ignore_ascii_case(b"text/plain") {
                return false;
            }
            json |= kind.eq_ignore_ascii_case(b"application/json")
                || kind.eq_ignore_ascii_case(b"application/problem+json");
        }
    }
    json
}
