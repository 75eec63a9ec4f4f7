//! What a request's head says about where it goes.

use http::header;
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Version, request};

use crate::access::Refusal;
use crate::limits::Limits;
use crate::rejection::Rejection;
use crate::route::authority::{Authority, AuthorityError};

/// Why the head of a request is refused, whatever its route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("The request is malformed, or could be read in more than one way.")]
    Ambiguous(Refusal),
    #[error("The URL's path and query are longer than {0} bytes.")]
    UriTooLong(usize),
    #[error("The request has more than {0} header fields.")]
    TooManyFields(usize),
    #[error("{0} is not served here.")]
    Method(Method),
    #[error("The URL's scheme {0:?} is not http or https.")]
    Scheme(String),
    #[error("The only expectation that can be met is 100-continue.")]
    Expectation,
    #[error("The request names more than one host.")]
    SeveralHosts,
    #[error("The request names no host.")]
    NoHost,
    #[error("The host is not ASCII.")]
    HostEncoding,
    #[error("In {text:?} {source}.")]
    Host {
        text: String,
        source: AuthorityError,
    },
    #[error("The host in the URL is not the host in the header.")]
    HostsDiffer,
}

impl From<HeadError> for Rejection {
    fn from(error: HeadError) -> Self {
        let detail = error.to_string();
        let (refusal, status) = match error {
            HeadError::Ambiguous(refusal) => (refusal, StatusCode::BAD_REQUEST),
            HeadError::UriTooLong(_) => (Refusal::UriTooLong, StatusCode::URI_TOO_LONG),
            HeadError::TooManyFields(_) => (
                Refusal::HeadersTooLarge,
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ),
            HeadError::Method(_) => {
                return Self::new(Refusal::Method, StatusCode::METHOD_NOT_ALLOWED, detail)
                    .with(header::ALLOW, METHODS)
                    .closing();
            }
            HeadError::Scheme(_) => (Refusal::MalformedHead, StatusCode::BAD_REQUEST),
            HeadError::Expectation => (Refusal::Expectation, StatusCode::EXPECTATION_FAILED),
            HeadError::SeveralHosts
            | HeadError::NoHost
            | HeadError::HostEncoding
            | HeadError::Host { .. }
            | HeadError::HostsDiffer => (Refusal::Host, StatusCode::BAD_REQUEST),
        };
        Self::new(refusal, status, detail).closing()
    }
}

/// The methods that most targets serve. Targets answer other methods themselves.
pub(crate) const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Checks what holds for every request, and reads the host that it is for. `fields` is how many header
/// fields the client sent.
pub(crate) fn check(
    head: &request::Parts,
    fields: usize,
    limits: &Limits,
) -> Result<Authority, HeadError> {
    let target = head.uri.path_and_query().map_or("", PathAndQuery::as_str);
    if target.len() > limits.uri_bytes {
        return Err(HeadError::UriTooLong(limits.uri_bytes));
    }
    if fields > limits.headers {
        return Err(HeadError::TooManyFields(limits.headers));
    }
    let extended = head.extensions.get::<hyper::ext::Protocol>().is_some();
    if head.method == Method::TRACE || (head.method == Method::CONNECT && !extended) {
        return Err(HeadError::Method(head.method.clone()));
    }
    if let Some(scheme) = head.uri.scheme_str()
        && !matches!(scheme, "http" | "https")
    {
        return Err(HeadError::Scheme(scheme.to_owned()));
    }
    for expectation in head.headers.get_all(header::EXPECT) {
        if !expectation.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return Err(HeadError::Expectation);
        }
    }
    authority(head)
}

/// The host of the request: in the target's absolute form or `:authority`, or else in `host`. Given twice
/// it must be the same (RFC 9112, section 3.2; RFC 9113, section 8.3.1).
fn authority(head: &request::Parts) -> Result<Authority, HeadError> {
    let read = |text: &str| {
        Authority::parse(text).map_err(|source| HeadError::Host {
            text: text.to_owned(),
            source,
        })
    };
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(HeadError::SeveralHosts);
    }
    if host.is_none() && head.version == Version::HTTP_11 {
        return Err(HeadError::NoHost);
    }
    let host = match host {
        None => None,
        Some(value) => Some(read(value.to_str().map_err(|_| HeadError::HostEncoding)?)?),
    };
    let target = head
        .uri
        .authority()
        .map(|authority| read(authority.as_str()))
        .transpose()?;
    match (target, host) {
        (Some(target), Some(host)) if target != host => Err(HeadError::HostsDiffer),
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) => Err(HeadError::NoHost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    use crate::access::Outcome;

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
                .map_err(|error| Rejection::from(error).outcome);
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
}
