//! The URL of a request, as its target and its client see it.

use http::uri::{Authority as UriAuthority, PathAndQuery, Scheme as UriScheme, Uri};
use stockade_http::Scheme;

use crate::route::authority::Authority;

/// The path, and the query of `uri`; none if a part has a character that URLs cannot have.
pub(crate) fn path_and_query(path: &str, uri: &Uri) -> Option<PathAndQuery> {
    // Most paths are in normal form as they come.
    if let Some(same) = uri.path_and_query().filter(|given| given.path() == path) {
        return Some(same.clone());
    }
    let made = match uri.query() {
        None => PathAndQuery::try_from(path),
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
    };
    made.ok()
}

/// The absolute URL; none if its parts do not make one.
pub(crate) fn absolute_uri(
    scheme: Scheme,
    authority: UriAuthority,
    path_and_query: PathAndQuery,
) -> Option<Uri> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(match scheme {
        Scheme::Http => UriScheme::HTTP,
        Scheme::Https => UriScheme::HTTPS,
    });
    parts.authority = Some(authority);
    parts.path_and_query = Some(path_and_query);
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
