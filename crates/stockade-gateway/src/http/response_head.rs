//! Makes a target's response one that is right by HTTP.

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;
use stockade_http::{Body, empty_body};

use crate::access::Outcome;
use crate::http::request_head;
use crate::http::response_body::{Exchange, Sent};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How a response goes out.
pub(crate) struct Ending<'a> {
    /// To a HEAD request.
    pub(crate) head: bool,
    pub(crate) version: Version,
    pub(crate) close: bool,
    pub(crate) id: &'a str,
}

/// Makes a response that is right by HTTP, whatever the target said.
pub(crate) fn finish(
    response: Response<Body>,
    mut exchange: Exchange,
    ending: Ending<'_>,
) -> Response<Sent> {
    let (mut parts, mut body) = response.into_parts();
    let status = parts.status;
    exchange.record.status = status;
    exchange.record.first_byte = exchange.began.elapsed();
    let headers = &mut parts.headers;
    // On HTTP/2 a WebSocket is accepted with 200.
    let switching = exchange.record.outcome == Outcome::Upgraded;
    if !switching {
        request_head::remove_hop_by_hop(headers);
    }
    if let Ok(id) = HeaderValue::from_str(ending.id) {
        headers.insert(REQUEST_ID, id);
    }
    if status == StatusCode::UPGRADE_REQUIRED {
        // The one status that demands it (RFC 9110, section 15.5.22).
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    if ending.close && !switching && ending.version <= Version::HTTP_11 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if switching {
        parts.extensions.remove::<ReasonPhrase>();
    } else if parts.extensions.get::<ReasonPhrase>().is_none()
        && status.canonical_reason().is_none()
    {
        // The library would make one up. None is allowed (RFC 9112, section 4).
        parts.extensions.insert(ReasonPhrase::from_static(b""));
    }
    let exact = body.size_hint().exact();
    let mut declared = None;
    if switching || status == StatusCode::NO_CONTENT || status == StatusCode::RESET_CONTENT {
        headers.remove(header::CONTENT_LENGTH);
        body = empty_body();
    } else if status == StatusCode::NOT_MODIFIED || ending.head {
        // The length is that of the response to GET, if it is known: that of the body where there is one,
        // whatever the target says, else what the target says (RFC 9110, section 8.6).
        if let Some(exact) = exact.filter(|exact| ending.head && *exact > 0) {
            headers.insert(header::CONTENT_LENGTH, exact.into());
        } else if single_length(headers).is_none() {
            headers.remove(header::CONTENT_LENGTH);
        }
        body = empty_body();
    } else if let Some(exact) = exact {
        headers.insert(header::CONTENT_LENGTH, exact.into());
    } else {
        declared = single_length(headers);
        if declared.is_none() {
            headers.remove(header::CONTENT_LENGTH);
        }
    }
    Response::from_parts(parts, Sent::new(body, declared, exchange))
}

fn single_length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let value = values.next()?.to_str().ok()?;
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    (digits && values.next().is_none()).then(|| value.parse().ok())?
}
