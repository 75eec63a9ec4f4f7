//! The URL of a request, as its target and its client see it.

use http::uri::{Authority as UriAuthority, PathAndQuery, Scheme as UriScheme, Uri};
use stockade_http::Scheme;

use crate::route::authority::Authority;

/// The absolute URL; none if a part has a character that URLs cannot have.
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

/// The authority as it stands in URLs and in `host`: without the scheme's own port. None if the host cannot stand in
/// URLs.
pub(crate) fn uri_authority(scheme: Scheme, authority: &Authority) -> Option<UriAuthority> {
    match authority.port {
        Some(port) if port != scheme.default_port() => {
            UriAuthority::try_from(format!("{}:{port}", authority.host)).ok()
        }
        _ => UriAuthority::try_from(authority.host.as_str()).ok(),
    }
}
