//! Headers that end at the gateway, and the form in which targets get the others.

use http::header::{self, HeaderName};
use http::uri::Authority as UriAuthority;
use http::{HeaderMap, HeaderValue, Version, request};

/// Fields that hold for one connection only (RFC 9110, section 7.6.1).
static HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes fields that hold for one connection only, and those that `connection` names.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    remove_named_by_connection(headers);
    remove_of_one_hop(headers);
}

/// Removes the fields that `connection` names. Those by which this connection may become another one stay
/// until that is decided.
pub(crate) fn remove_named_by_connection(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !is_end_to_end(name) && !is_of_the_handshake(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
}

fn remove_of_one_hop(headers: &mut HeaderMap) {
    remove_those(headers, |name| HOP_BY_HOP.contains(name));
}

/// Removes the fields whose names are meant. Most heads have none of them: comparing costs less than looking each of
/// them up.
pub(crate) fn remove_those(headers: &mut HeaderMap, meant: impl Fn(&HeaderName) -> bool) {
    let named: Vec<HeaderName> = headers.keys().filter(|name| meant(name)).cloned().collect();
    for name in named {
        headers.remove(name);
    }
}

/// Fields of a request that asks for another protocol on its connection. The gateway removes them itself where
/// they are for it alone.
fn is_of_the_handshake(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name) || name.as_str().starts_with("sec-websocket-")
}

/// What a client must not take away from its request by naming it in `connection`: without these the
/// request would mean something else.
fn is_end_to_end(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::HOST
            | header::CONTENT_LENGTH
            | header::CONTENT_TYPE
            | header::CONTENT_ENCODING
            | header::AUTHORIZATION
            | header::COOKIE
            | header::ORIGIN
            | header::RANGE
    )
}

/// Brings the headers of a request into the form in which targets get them. Fields that `connection` names were
/// removed before, and the gateway's own headers were written after that: they stay.
pub(crate) fn clean_request(headers: &mut HeaderMap, authority: &UriAuthority) {
    static HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
    remove_those(headers, |name| {
        HOP_BY_HOP.contains(name) || *name == header::EXPECT || *name == HTTP2_SETTINGS
    });
    let same = headers
        .get(header::HOST)
        .is_some_and(|host| host == authority.as_str());
    if !same && let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        headers.insert(header::HOST, host);
    }
    join_cookies(headers);
}

/// How many header fields a client sent. Cookies in pieces, which HTTP/2 allows for the sake of compression
/// (RFC 9113, section 8.2.3), are one.
pub(crate) fn count_fields(parts: &request::Parts) -> usize {
    let pieces = match parts.version {
        Version::HTTP_2 => parts.headers.get_all(header::COOKIE).iter().count(),
        _ => 0,
    };
    parts.headers.len() - pieces.saturating_sub(1)
}

/// HTTP/2 clients may send cookies in pieces (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    let (Some(_), Some(_)) = (cookies.next(), cookies.next()) else {
        return;
    };
    let cookies: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&cookies.join(b"; ".as_slice())) {
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use stockade_http::Scheme;

    use crate::route::authority::Authority;
    use crate::route::url::uri_authority;

    fn parts(uri: &str, version: Version, headers: &[(&str, &str)]) -> request::Parts {
        let mut builder = Request::builder().uri(uri).version(version);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn hop_by_hop_fields_are_removed() {
        let mut headers = parts(
            "/",
            Version::HTTP_11,
            &[
                ("connection", "x-own, Host"),
                ("connection", "close , authorization"),
                ("x-own", "1"),
                ("host", "a"),
                ("authorization", "b"),
                ("te", "trailers"),
                ("upgrade", "h2c"),
                ("proxy-authorization", "c"),
                ("expect", "100-continue"),
                ("accept", "d"),
            ],
        )
        .headers;
        let authority = Authority::parse("A:80").unwrap();
        let authority = uri_authority(Scheme::Http, &authority).unwrap();
        remove_named_by_connection(&mut headers);
        clean_request(&mut headers, &authority);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "authorization", "host"]);
        assert_eq!(headers["host"], "a");
    }

    #[test]
    fn cookies_in_pieces_are_joined() {
        let mut headers = parts(
            "/",
            Version::HTTP_2,
            &[("cookie", "a=1"), ("cookie", "b=2; c=3")],
        )
        .headers;
        join_cookies(&mut headers);
        assert_eq!(headers["cookie"], "a=1; b=2; c=3");
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn cookies_in_pieces_count_as_one_field_where_pieces_are_allowed() {
        let mut fields = vec![("cookie", "a=1"); 150];
        fields.push(("accept", "*/*"));
        let count = |version| count_fields(&parts("/", version, &fields));
        assert_eq!(count(Version::HTTP_2), 2);
        assert_eq!(count(Version::HTTP_11), 151);
        assert_eq!(count_fields(&parts("/", Version::HTTP_2, &[("a", "1")])), 1);
        assert_eq!(count_fields(&parts("/", Version::HTTP_2, &[])), 0);
    }

    #[test]
    fn handshake_stays_though_connection_names_it() {
        let mut headers = parts(
            "/",
            Version::HTTP_11,
            &[
                ("connection", "upgrade, sec-websocket-key, x-own"),
                ("upgrade", "websocket"),
                ("sec-websocket-key", "k"),
                ("x-own", "1"),
            ],
        )
        .headers;
        remove_named_by_connection(&mut headers);
        assert!(headers.contains_key("upgrade") && headers.contains_key("sec-websocket-key"));
        assert!(headers.contains_key("connection") && !headers.contains_key("x-own"));
    }
}
