//! What a request's head says about where it goes, and headers that end at the gateway.

use http::header::{self, HeaderName};
use http::uri::{Authority as UriAuthority, PathAndQuery, Scheme as UriScheme, Uri};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, request};
use stockade_http::{Body, Problem, Scheme};

use crate::access::{Outcome, Refusal};
use crate::limits::Limits;
use crate::route::authority::Authority;

/// Why a request is refused, in words for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) outcome: Outcome,
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
    /// The connection can't be trusted to go on.
    pub(crate) close: bool,
    /// A field that the status demands.
    pub(crate) field: Option<(HeaderName, HeaderValue)>,
}

impl Refused {
    pub(crate) fn new(refusal: Refusal, status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Refused(refusal),
            status,
            detail: detail.into(),
            close: false,
            field: None,
        }
    }

    /// The target took too long.
    pub(crate) fn timed_out(detail: &str) -> Self {
        Self {
            outcome: Outcome::TimedOut,
            status: StatusCode::GATEWAY_TIMEOUT,
            detail: detail.to_owned(),
            close: false,
            field: None,
        }
    }

    /// A response that the gateway completes with a body.
    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = Problem::new(self.status, self.detail).into_response();
        response.headers_mut().extend(self.field);
        response
    }

    /// With a field that the status demands.
    pub(crate) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.field = Some((name, HeaderValue::from_static(value)));
        self
    }

    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    fn malformed(refusal: Refusal, detail: impl Into<String>) -> Self {
        Self::new(refusal, StatusCode::BAD_REQUEST, detail).closing()
    }
}

/// What targets are asked with, as a rule; others are theirs to refuse.
pub(crate) const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Checks what holds for every request, and reads the host that it is for. `fields` is how many header
/// fields the client sent.
pub(crate) fn check(
    parts: &request::Parts,
    fields: usize,
    limits: &Limits,
) -> Result<Authority, Refused> {
    let target = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    if target.len() > limits.uri_bytes {
        return Err(Refused::new(
            Refusal::UriTooLong,
            StatusCode::URI_TOO_LONG,
            format!(
                "The URL's path and query are longer than {} bytes.",
                limits.uri_bytes
            ),
        )
        .closing());
    }
    if fields > limits.headers {
        return Err(Refused::new(
            Refusal::HeadersTooLarge,
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            format!(
                "The request has more than {} header fields.",
                limits.headers
            ),
        )
        .closing());
    }
    let extended = parts.extensions.get::<hyper::ext::Protocol>().is_some();
    if parts.method == Method::TRACE || (parts.method == Method::CONNECT && !extended) {
        return Err(Refused::new(
            Refusal::Method,
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{} is not served here.", parts.method),
        )
        .with(header::ALLOW, METHODS)
        .closing());
    }
    if let Some(scheme) = parts.uri.scheme_str()
        && !matches!(scheme, "http" | "https")
    {
        let detail = format!("The URL's scheme {scheme:?} is not http or https.");
        return Err(Refused::malformed(Refusal::MalformedHead, detail));
    }
    let expectations = parts.headers.get_all(header::EXPECT);
    for expectation in expectations {
        if !expectation.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return Err(Refused::new(
                Refusal::Expectation,
                StatusCode::EXPECTATION_FAILED,
                "The only expectation that can be met is 100-continue.",
            )
            .closing());
        }
    }
    authority(parts)
}

/// The host of the request: in the target's absolute form or `:authority`, or else in `host`. Given twice
/// it must be the same (RFC 9112, section 3.2; RFC 9113, section 8.3.1).
fn authority(parts: &request::Parts) -> Result<Authority, Refused> {
    let bad = |detail: String| Refused::malformed(Refusal::Host, detail);
    let read =
        |text: &str| Authority::parse(text).map_err(|error| bad(format!("In {text:?} {error}.")));
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad("The request names more than one host.".to_owned()));
    }
    if host.is_none() && parts.version == Version::HTTP_11 {
        return Err(bad("The request names no host.".to_owned()));
    }
    let host = match host {
        None => None,
        Some(value) => {
            let text = value
                .to_str()
                .map_err(|_| bad("The host is not ASCII.".to_owned()))?;
            Some(read(text)?)
        }
    };
    let target = parts
        .uri
        .authority()
        .map(|authority| read(authority.as_str()))
        .transpose()?;
    match (target, host) {
        (Some(target), Some(host)) if target != host => Err(bad(
            "The host in the URL is not the host in the header.".to_owned(),
        )),
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) => Err(bad("The request names no host.".to_owned())),
    }
}

/// The URL as a target sees it.
pub(crate) fn absolute_uri(
    scheme: Scheme,
    authority: UriAuthority,
    path: &str,
    query: Option<&str>,
) -> Option<Uri> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(match scheme {
        Scheme::Http => UriScheme::HTTP,
        Scheme::Https => UriScheme::HTTPS,
    });
    parts.authority = Some(authority);
    let path_and_query = match query {
        None => PathAndQuery::try_from(path),
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
    };
    parts.path_and_query = Some(path_and_query.ok()?);
    Uri::from_parts(parts).ok()
}

/// The authority as it stands in URLs and in `host`: without the scheme's own port.
pub(crate) fn uri_authority(scheme: Scheme, authority: &Authority) -> Option<UriAuthority> {
    match authority.port {
        Some(port) if port != scheme.default_port() => {
            UriAuthority::try_from(format!("{}:{port}", authority.host)).ok()
        }
        _ => UriAuthority::try_from(authority.host.as_str()).ok(),
    }
}

/// Fields that hold for one connection only (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
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
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// What a connection's change to another protocol is asked with; of these the gateway removes what is for
/// it alone.
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

/// Brings the headers of a request into the form in which targets get them. What `connection` names is gone
/// by then, and what says who the client is has been written after that: it stays.
pub(crate) fn clean_request(headers: &mut HeaderMap, authority: &UriAuthority) {
    remove_of_one_hop(headers);
    headers.remove(header::EXPECT);
    headers.remove("http2-settings");
    let said = headers
        .get(header::HOST)
        .is_some_and(|host| host == authority.as_str());
    if !said && let Ok(host) = HeaderValue::from_str(authority.as_str()) {
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

    fn parts(uri: &str, version: Version, headers: &[(&str, &str)]) -> request::Parts {
        let mut builder = Request::builder().uri(uri).version(version);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn host_is_named_once() {
        let check = |uri: &str, version, hosts: &[&str], expected: Option<&str>| {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            let found = check(&parts(uri, version, &headers), 1, &Limits::default());
            let found = found
                .map(|authority| authority.host)
                .map_err(|refused| refused.outcome);
            let expected = expected
                .map(str::to_owned)
                .ok_or(Outcome::Refused(Refusal::Host));
            assert_eq!(found, expected, "{uri} {hosts:?}");
        };
        let one = Version::HTTP_11;
        check("/", one, &["A.com:80"], Some("a.com"));
        check("/", one, &[], None);
        check("/", one, &["a.com", "a.com"], None);
        check("/", one, &["a.com, b.com"], None);
        check("/", one, &[""], None);
        check("/", one, &["u@a.com"], None);
        check("http://a.com/", one, &["a.com"], Some("a.com"));
        check("http://a.com/", one, &["b.com"], None);
        check("http://a.com/", one, &[], None);
        check("http://u@a.com/", one, &["a.com"], None);
        check("/", Version::HTTP_10, &[], None);
        check("http://a.com/", Version::HTTP_2, &[], Some("a.com"));
        check("http://a.com/", Version::HTTP_2, &["a.com"], Some("a.com"));
        check("http://a.com/", Version::HTTP_2, &["b.com"], None);
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
