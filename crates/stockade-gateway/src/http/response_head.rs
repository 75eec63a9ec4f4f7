//! Makes a response right by HTTP, whatever its target wrote.

use http::header;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;
use stockade_http::{Body, empty_body};

use crate::access::Outcome;
use crate::http::request_in_flight::RequestInFlight;
use crate::http::response_body::ResponseBody;

/// What the form of a response depends on.
pub(crate) struct ResponseForm {
    /// The request was HEAD.
    pub(crate) head: bool,
    pub(crate) version: Version,
    /// The connection ends after the response.
    pub(crate) close: bool,
}

/// Makes a response right by HTTP, whatever its target wrote. Hop-by-hop fields were removed before.
pub(crate) fn finish(
    response: Response<Body>,
    mut request: RequestInFlight,
    form: ResponseForm,
) -> Response<ResponseBody> {
    let (mut parts, mut body) = response.into_parts();
    let status = parts.status;
    request.record.status = status;
    request.record.first_byte = request.began.elapsed();
    let headers = &mut parts.headers;
    // On HTTP/2 a WebSocket is accepted with 200.
    let switching = request.record.outcome == Outcome::Upgraded;

    // Fields of this connection, and the text of the status.
    if status == StatusCode::UPGRADE_REQUIRED {
        // The one status that demands it (RFC 9110, section 15.5.22).
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    if form.close && !switching && form.version <= Version::HTTP_11 {
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

    // The length of the body, as the status and the method allow one.
    let exact = body.size_hint().exact();
    let mut declared = None;
    if switching || status == StatusCode::NO_CONTENT || status == StatusCode::RESET_CONTENT {
        headers.remove(header::CONTENT_LENGTH);
        body = empty_body();
    } else if status == StatusCode::NOT_MODIFIED || form.head {
        // The length is that of the response to GET, if it is known: that of the body where there is one,
        // whatever the target says, else what the target says (RFC 9110, section 8.6).
        if let Some(exact) = exact.filter(|exact| form.head && *exact > 0) {
            headers.insert(header::CONTENT_LENGTH, exact.into());
        } else if single_length(headers).is_none() {
            headers.remove(header::CONTENT_LENGTH);
        }
        body = empty_body();
    } else if let Some(exact) = exact {
        // The library writes the length of such a body, but on HTTP/2 not that of an empty one.
        headers.remove(header::CONTENT_LENGTH);
        if exact == 0 && form.version > Version::HTTP_11 {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    } else {
        declared = single_length(headers);
        if declared.is_none() {
            headers.remove(header::CONTENT_LENGTH);
        }
    }
    Response::from_parts(parts, ResponseBody::new(body, declared, request))
}

fn single_length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let value = values.next()?.to_str().ok()?;
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    (digits && values.next().is_none()).then(|| value.parse().ok())?
}
