//! From a request's host and path to the route that answers it.

use std::sync::Arc;

use http::{HeaderValue, StatusCode, Uri};
use stockade_http::{NormalPath, PathError, Scheme};

use crate::access::Refusal;
use crate::rejection::Rejection;
use crate::route::authority::Authority;
use crate::route::table::{Route, RouteTable, Wanted};
use crate::route::url::{absolute_uri, path_and_query, uri_authority};

/// Why no route answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RouteError {
    #[error("Nothing is served at this URL.")]
    NoRoute,
    #[error("The URL is not served: {0}.")]
    Path(#[from] PathError),
    #[error("The URL is not served: only OPTIONS may ask for *.")]
    Asterisk,
    #[error("The URL is not served: the path is another site's once it is decoded.")]
    OtherRoute,
    #[error("The URL is not served: its host cannot stand in URLs.")]
    Host,
    #[error("The URL is not served: it has a character that URLs cannot have.")]
    Character,
}

impl From<RouteError> for Rejection {
    fn from(error: RouteError) -> Self {
        let (refusal, status) = match error {
            RouteError::NoRoute => (Refusal::NoRoute, StatusCode::NOT_FOUND),
            RouteError::Path(_)
            | RouteError::Asterisk
            | RouteError::OtherRoute
            | RouteError::Host
            | RouteError::Character => (Refusal::Path, StatusCode::BAD_REQUEST),
        };
        Self::new(refusal, status, error.to_string())
    }
}

/// What answers a request.
#[derive(Debug)]
pub(crate) enum Destination {
    Route(Arc<Route>),
    /// The request's URL with TLS.
    HttpsUrl(HeaderValue),
}

/// Finds the route of a request. `path` is in normal form, and becomes what the route's rule for encoded slashes
/// makes of it.
pub(crate) fn find(
    table: &RouteTable,
    scheme: Scheme,
    authority: &Authority,
    path: &mut NormalPath,
    uri: &Uri,
) -> Result<Destination, RouteError> {
    let find = |scheme: Scheme, path: &NormalPath| {
        table.find(Wanted {
            scheme,
            host: authority.host.as_str(),
            port: authority.port.unwrap_or(scheme.default_port()),
            path: path.as_str(),
        })
    };
    let Some(route) = find(scheme, path) else {
        // A plain request is redirected where a route answers its URL with TLS.
        let port = table.options.https_redirect;
        return match port.filter(|_| scheme == Scheme::Http) {
            Some(port) if find(Scheme::Https, path).is_some() => {
                https_url(authority, port, path.as_str(), uri).map(Destination::HttpsUrl)
            }
            _ => Err(RouteError::NoRoute),
        };
    };
    // The decoded path must lead to the same route: rules of another one may not be passed by encoding.
    if path.apply(route.encoded_slashes, table.options.slashes)?
        && !find(scheme, path).is_some_and(|again| Arc::ptr_eq(again, route))
    {
        return Err(RouteError::OtherRoute);
    }
    Ok(Destination::Route(Arc::clone(route)))
}

fn https_url(
    authority: &Authority,
    port: u16,
    path: &str,
    uri: &Uri,
) -> Result<HeaderValue, RouteError> {
    let authority = Authority {
        host: authority.host.clone(),
        port: Some(port),
    };
    uri_authority(Scheme::Https, &authority)
        .zip(path_and_query(path, uri))
        .and_then(|(authority, target)| absolute_uri(Scheme::Https, authority, target))
        .and_then(|uri| HeaderValue::try_from(uri.to_string()).ok())
        .ok_or(RouteError::Character)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use stockade_http::{Body, EncodedSlashes, HostPattern, PathPattern, Slashes, empty_body};

    use crate::route::pattern::Pattern;
    use crate::route::table::TableOptions;

    fn route(label: &str, scheme: Option<Scheme>, path: &str, slashes: EncodedSlashes) -> Route {
        let target = |_: Request<Body>| async { Response::new(empty_body()) };
        let pattern = Pattern {
            scheme,
            host: HostPattern::Any,
            port: None,
            path: PathPattern::Under(path.to_owned()),
        };
        let mut route = Route::new(label, vec![pattern], Arc::new(target));
        route.encoded_slashes = slashes;
        route
    }

    fn table() -> RouteTable {
        let routes = vec![
            route("all", None, "", EncodedSlashes::Decode),
            route("api", None, "/api", EncodedSlashes::Reject),
        ];
        RouteTable::new(routes, TableOptions::default()).unwrap()
    }

    /// The label of the route, or the URL of the redirect, and the path that it is asked for.
    fn found(table: &RouteTable, path: &str) -> Result<(String, String), RouteError> {
        let authority = Authority::parse("a.example").unwrap();
        let uri = Uri::try_from(format!("{path}?q=1")).unwrap();
        let mut path = NormalPath::parse(path, Slashes::Merge)?;
        let found = find(table, Scheme::Http, &authority, &mut path, &uri)?;
        let found = match found {
            Destination::Route(route) => route.label.to_string(),
            Destination::HttpsUrl(url) => url.to_str().unwrap().to_owned(),
        };
        Ok((found, path.as_str().to_owned()))
    }

    #[test]
    fn path_is_what_the_rule_of_its_route_makes_of_it() {
        let check = |path, expected: Result<(&str, &str), RouteError>| {
            let expected = expected.map(|(label, path)| (label.to_owned(), path.to_owned()));
            assert_eq!(found(&table(), path), expected, "{path}");
        };
        check("/a", Ok(("all", "/a")));
        check("/a%2Fb", Ok(("all", "/a/b")));
        check("/api%2Fb", Err(RouteError::OtherRoute));
        check("/api/a%2Fb", Err(PathError::EncodedSlash.into()));
    }

    #[test]
    fn plain_request_is_redirected_where_only_tls_has_a_route() {
        let secure = route(
            "secure",
            Some(Scheme::Https),
            "/secure",
            EncodedSlashes::Keep,
        );
        let redirect = |https_redirect, path| {
            let options = TableOptions {
                https_redirect,
                ..TableOptions::default()
            };
            let table = RouteTable::new(vec![secure.clone()], options).unwrap();
            found(&table, path).map(|(found, _)| found)
        };
        let url = "https://a.example:8443/secure/b?q=1".to_owned();
        assert_eq!(redirect(Some(8443), "/secure/b"), Ok(url));
        assert_eq!(redirect(Some(8443), "/other"), Err(RouteError::NoRoute));
        assert_eq!(redirect(None, "/secure/b"), Err(RouteError::NoRoute));
    }
}
