//! What of a guest's header fields goes out, and what of a server's comes in.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::error::EgressError;
use crate::pool::{MAX_FIELDS, MAX_HEAD};

/// Fields that belong to one connection (RFC 9110, 7.6.1), and those by which a request speaks to a
/// proxy. A guest's are dropped in silence, as browsers do; the broker sets its own.
const OF_THE_CONNECTION: [HeaderName; 10] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// What a request that names no agent is sent with: many servers refuse one without.
const USER_AGENT: &str = "Stockade";

fn remove_those_of_the_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&OF_THE_CONNECTION) {
        headers.remove(name);
    }
    let is_proxys = |name: &&HeaderName| name.as_str().starts_with("proxy-");
    let proxys: Vec<HeaderName> = headers.keys().filter(is_proxys).cloned().collect();
    for name in proxys {
        headers.remove(name);
    }
}

/// Cleans a guest's fields for the way out. Gives the length that the guest declared.
///
/// The broker frames the body and names the host itself: a guest's Host, Content-Length and
/// Transfer-Encoding never reach the wire. Nothing that identifies the machine is added; `Accept` and
/// `User-Agent` are, where the guest has none (<https://fetch.spec.whatwg.org/#fetching>).
pub(crate) fn clean_request(headers: &mut HeaderMap) -> Result<Option<u64>, EgressError> {
    let declared = declared_length(headers)?;
    remove_those_of_the_connection(headers);
    for name in [header::HOST, header::CONTENT_LENGTH, header::EXPECT] {
        headers.remove(name);
    }
    if !headers.contains_key(header::ACCEPT_ENCODING) {
        // Parts of a file are parts of it as it is (https://fetch.spec.whatwg.org/#http-network-or-cache-fetch).
        let coding = if headers.contains_key(header::RANGE) {
            "identity"
        } else {
            "gzip, br"
        };
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(coding));
    }
    for (name, value) in [(header::ACCEPT, "*/*"), (header::USER_AGENT, USER_AGENT)] {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if headers.len() > MAX_FIELDS || bytes > MAX_HEAD {
        return Err(EgressError::Invalid {
            what: "the request's header",
            why: format!(
                "{} fields with {bytes} bytes; at most {MAX_FIELDS} and {MAX_HEAD} are allowed",
                headers.len()
            ),
        });
    }
    Ok(declared)
}

fn declared_length(headers: &HeaderMap) -> Result<Option<u64>, EgressError> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let number = value
        .to_str()
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    match (number.and_then(|text| text.parse().ok()), values.next()) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err(EgressError::Invalid {
            what: "the header Content-Length",
            why: "it is not one number".to_owned(),
        }),
    }
}

/// Cleans a server's fields for the guest.
pub(crate) fn clean_response(headers: &mut HeaderMap) {
    remove_those_of_the_connection(headers);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn request_keeps_only_what_is_for_the_server() {
        let mut headers = map(&[
            ("host", "evil.example"),
            ("connection", "close, x-secret-hop"),
            ("x-secret-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("proxy-authorization", "Basic eA=="),
            ("proxy-foo", "1"),
            ("expect", "100-continue"),
            ("authorization", "Bearer x"),
            ("x-kept", "1"),
        ]);
        assert_eq!(clean_request(&mut headers).unwrap(), Some(5));
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "accept",
                "accept-encoding",
                "authorization",
                "user-agent",
                "x-kept"
            ]
        );
    }

    #[test]
    fn request_keeps_what_the_guest_says_of_itself() {
        let mut headers = map(&[("accept", "text/css"), ("user-agent", "robot/1")]);
        clean_request(&mut headers).unwrap();
        assert_eq!(headers[header::ACCEPT], "text/css");
        assert_eq!(headers[header::USER_AGENT], "robot/1");
        let mut headers = HeaderMap::new();
        clean_request(&mut headers).unwrap();
        assert_eq!(headers[header::ACCEPT], "*/*");
        assert_eq!(headers[header::USER_AGENT], "Stockade");
    }

    #[test]
    fn request_with_a_length_that_is_not_one_number_is_refused() {
        for fields in [
            &[("content-length", "5"), ("content-length", "6")][..],
            &[("content-length", "5"), ("content-length", "5")],
            &[("content-length", "+5")],
            &[("content-length", "5, 5")],
            &[("content-length", "-1")],
            &[("content-length", "")],
            &[("content-length", "99999999999999999999")],
        ] {
            assert!(clean_request(&mut map(fields)).is_err(), "{fields:?}");
        }
    }

    #[test]
    fn request_with_too_many_or_too_large_fields_is_refused() {
        let many: Vec<(String, String)> = (0..MAX_FIELDS)
            .map(|n| (format!("x-{n}"), "1".to_owned()))
            .collect();
        let many: Vec<_> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert!(clean_request(&mut map(&many)).is_err());
        assert!(clean_request(&mut map(&many[3..])).is_ok());
        assert!(clean_request(&mut map(&[("x", &"v".repeat(MAX_HEAD))])).is_err());
    }

    #[test]
    fn request_for_a_range_asks_for_no_compression() {
        let mut headers = map(&[("range", "bytes=0-1")]);
        clean_request(&mut headers).unwrap();
        assert_eq!(headers[header::ACCEPT_ENCODING], "identity");
        let mut headers = map(&[("accept-encoding", "br")]);
        clean_request(&mut headers).unwrap();
        assert_eq!(headers[header::ACCEPT_ENCODING], "br");
    }
}
