//! API keys in requests: where a request has one, how it is taken out, and what it opens.
//!
//! Invariants:
//! 1. What a target and a log receive has no API key: neither at the place that the route names nor at another one.
//! 2. A request has one key. With several, two readers could see another client each.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, WWW_AUTHENTICATE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, request};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use memchr::memmem;
use percent_encoding::percent_decode_str;
use stockade_auth::{Granted, Keys, PREFIX, Scope, redact};
use stockade_http::{Body, BoxError, PathPattern};

use crate::access::Refusal;
use crate::http::headers::remove_those;
use crate::rejection::Rejection;

/// Which API keys a route accepts, and where a request has one.
#[derive(Debug, Clone)]
pub struct KeyRule {
    /// The keys.
    pub keys: Keys,
    /// The instance, whose scopes a key may have alone.
    pub instance: Arc<str>,
    /// The header with the key; in `authorization` it stands behind `Bearer`.
    pub header: Option<HeaderName>,
    /// The parameter of the query with the key.
    pub query: Option<String>,
    /// The cookie with the key.
    pub cookie: Option<String>,
    /// Scopes that a key needs; none: `read` or `write`, by the method.
    pub scopes: Vec<Scope>,
    /// Scopes that a key needs for a method, instead of `scopes`.
    pub methods: Vec<(Method, Vec<Scope>)>,
    /// Scopes that a key needs for a path too.
    pub paths: Vec<(PathPattern, Vec<Scope>)>,
    /// Paths that need no key.
    pub open: Vec<PathPattern>,
}

/// Why an API key does not let a request in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CredentialError {
    #[error("An API key is needed.")]
    Missing { challenge: HeaderValue },
    #[error("The request has more than one API key, or one that is not text.")]
    Several,
    #[error("The API key is not valid.")]
    Invalid { challenge: HeaderValue },
    #[error("The API key is no longer valid.")]
    Ended,
    #[error("The API key does not allow this: the scope {scope} is needed.")]
    Scope {
        scope: String,
        challenge: HeaderValue,
    },
    #[error("Too many wrong API keys came from this address.")]
    Guesses { wait: std::time::Duration },
}

impl From<CredentialError> for Rejection {
    fn from(error: CredentialError) -> Self {
        let detail = error.to_string();
        let new = |refusal, status| Self::new(refusal, status, detail);
        match error {
            CredentialError::Missing { challenge } | CredentialError::Invalid { challenge } => {
                new(Refusal::ApiKey, StatusCode::UNAUTHORIZED)
                    .with_value(WWW_AUTHENTICATE, challenge)
            }
            CredentialError::Ended => new(Refusal::ApiKey, StatusCode::UNAUTHORIZED)
                .with(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\""),
            CredentialError::Several => new(Refusal::ApiKey, StatusCode::BAD_REQUEST),
            CredentialError::Scope { challenge, .. } => {
                new(Refusal::Scope, StatusCode::FORBIDDEN).with_value(WWW_AUTHENTICATE, challenge)
            }
            CredentialError::Guesses { wait } => {
                new(Refusal::ApiKeyGuesses, StatusCode::TOO_MANY_REQUESTS).retry_after(wait)
            }
        }
    }
}

/// The client of a request that an API key let in. The filter leaves it in the request's extensions.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) keys: Keys,
    pub(crate) granted: Arc<Granted>,
}

impl Caller {
    pub(crate) fn to_json(&self) -> Arc<str> {
        self.granted.to_json().into()
    }

    /// Ends when the key is revoked, rotated away or expired.
    pub(crate) fn until_invalid(&self) -> impl Future<Output = ()> + Send + use<> {
        self.keys.until_invalid(&self.granted)
    }

    /// A body that fails when the key is no longer valid.
    pub(crate) fn limit(&self, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        LimitedBody {
            body,
            ended: Box::pin(self.until_invalid()),
        }
        .boxed_unsync()
    }
}

/// A body that fails when the credential of its request ends.
struct LimitedBody {
    body: Body,
    ended: BoxFuture<'static, ()>,
}

impl http_body::Body for LimitedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(CredentialError::Ended.into())));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl KeyRule {
    /// Whether a path needs no key.
    pub(crate) fn is_open(&self, path: &str) -> bool {
        self.open.iter().any(|pattern| pattern.matches(path))
    }

    /// What a client is asked for (RFC 9110, section 11.6.1; RFC 6750, section 3).
    pub(crate) fn challenge(&self, more: &str) -> HeaderValue {
        let scheme = match &self.header {
            Some(name) if *name == AUTHORIZATION => "Bearer",
            _ => "ApiKey",
        };
        let text = format!("{scheme} realm=\"{}\"{more}", self.instance);
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Bearer"))
    }

    /// Checks that a key has the scopes that a request needs.
    pub(crate) fn check_scopes(
        &self,
        granted: &Granted,
        head: &request::Parts,
        path: &str,
    ) -> Result<(), CredentialError> {
        let of_method = self
            .methods
            .iter()
            .find(|(method, _)| *method == head.method);
        let needed = of_method.map_or(&self.scopes, |(_, scopes)| scopes);
        // A WebSocket carries messages of the client, so it may do more than read.
        let reads = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS)
            && !head.headers.contains_key(http::header::UPGRADE);
        let built_in = if reads { "read" } else { "write" };
        let built_in = needed.is_empty().then_some(built_in);
        let of_paths = self
            .paths
            .iter()
            .filter(|(pattern, _)| pattern.matches(path));
        let of_paths = of_paths.flat_map(|(_, scopes)| scopes);
        let named = needed.iter().chain(of_paths).map(Scope::as_str);
        let held = granted.scopes();
        match named
            .chain(built_in)
            .find(|scope| !held.include(scope, &self.instance))
        {
            None => Ok(()),
            Some(scope) => Err(CredentialError::Scope {
                challenge: self.challenge(&format!(
                    ", error=\"insufficient_scope\", scope=\"{scope}\""
                )),
                scope: scope.to_owned(),
            }),
        }
    }

    /// Takes every key out of a request. Gives the one at the places of this rule.
    pub(crate) fn take(
        &self,
        head: &mut request::Parts,
    ) -> Result<Option<Vec<u8>>, CredentialError> {
        let mut found = Found::default();
        match &self.header {
            Some(name) if *name == AUTHORIZATION => take_bearer(&mut head.headers, &mut found),
            Some(name) => {
                for value in head.headers.get_all(name) {
                    found.add(value.as_bytes());
                }
                head.headers.remove(name);
            }
            None => {}
        }
        take_cookies(&mut head.headers, self.cookie.as_deref(), &mut found);
        take_parameters(&mut head.uri, self.query.as_deref(), &mut found)?;
        // A key at another place opens nothing, and is no less secret.
        let finder = memmem::Finder::new(PREFIX);
        let hidden = |value: &HeaderValue| finder.find(value.as_bytes()).is_some();
        if head.headers.values().any(hidden) {
            let named: Vec<HeaderName> = head
                .headers
                .iter()
                .filter(|(_, value)| hidden(value))
                .map(|(name, _)| name.clone())
                .collect();
            remove_those(&mut head.headers, |name| named.contains(name));
        }
        match found {
            Found { several: true, .. } => Err(CredentialError::Several),
            Found { key, .. } => Ok(key),
        }
    }

    /// Checks the key of a request.
    pub(crate) fn check(&self, key: &[u8]) -> Result<Granted, CredentialError> {
        self.keys
            .check(key, SystemTime::now())
            .map_err(|_| CredentialError::Invalid {
                challenge: self.challenge(", error=\"invalid_token\""),
            })
    }
}

/// What was found at the places of a rule.
#[derive(Default)]
struct Found {
    key: Option<Vec<u8>>,
    several: bool,
}

impl Found {
    fn add(&mut self, key: &[u8]) {
        self.several |= self.key.replace(key.to_vec()).is_some();
    }
}

/// Takes `Bearer` out of `authorization` (RFC 6750, section 2.1). Other schemes are the site's own.
fn take_bearer(headers: &mut HeaderMap, found: &mut Found) {
    let bearer = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        let scheme = bytes.get(..6)?;
        let rest = bytes.get(6..)?;
        let is_bearer = scheme.eq_ignore_ascii_case(b"bearer") && rest.first() != Some(&b'_');
        is_bearer.then(|| rest.trim_ascii().to_vec())
    };
    let values: Vec<HeaderValue> = headers.get_all(AUTHORIZATION).iter().cloned().collect();
    let keys: Vec<Vec<u8>> = values.iter().filter_map(bearer).collect();
    if keys.is_empty() {
        return;
    }
    // Two fields of `authorization` are two credentials, whatever their schemes.
    found.several |= values.len() > 1;
    keys.iter().for_each(|key| found.add(key));
    headers.remove(AUTHORIZATION);
}

/// Takes cookies of a name, and all with a key, out of `cookie`.
fn take_cookies(headers: &mut HeaderMap, name: Option<&str>, found: &mut Found) {
    if !headers.contains_key(COOKIE) {
        return;
    }
    let finder = memmem::Finder::new(PREFIX);
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let mut changed = false;
    for value in headers.get_all(COOKIE) {
        let mut line: Vec<&[u8]> = Vec::new();
        for pair in value.as_bytes().split(|byte| *byte == b';') {
            let pair = pair.trim_ascii();
            let at = pair.iter().position(|byte| *byte == b'=');
            let (key, value) = at.map_or((pair, None), |at| {
                let (key, value) = pair.split_at(at);
                (key.trim_ascii(), value.get(1..))
            });
            let named = name.is_some_and(|name| key == name.as_bytes());
            if named {
                let value = value.unwrap_or_default().trim_ascii();
                let bare = value
                    .strip_prefix(b"\"")
                    .and_then(|value| value.strip_suffix(b"\""));
                found.add(bare.unwrap_or(value));
            }
            if named || finder.find(pair).is_some() {
                changed = true;
            } else {
                line.push(pair);
            }
        }
        if !line.is_empty() {
            kept.push(line.join(&b"; "[..]));
        }
    }
    if changed {
        headers.remove(COOKIE);
        for value in kept
            .into_iter()
            .filter_map(|line| HeaderValue::try_from(line).ok())
        {
            headers.append(COOKIE, value);
        }
    }
}

/// A part of a query as forms write it, decoded.
fn decoded(text: &str) -> Vec<u8> {
    percent_decode_str(&text.replace('+', " ")).collect()
}

/// Takes parameters of a name, and all with a key, out of the query.
fn take_parameters(
    uri: &mut Uri,
    name: Option<&str>,
    found: &mut Found,
) -> Result<(), CredentialError> {
    let Some(query) = uri.query() else {
        return Ok(());
    };
    if name.is_none() && !may_have_key(query) {
        return Ok(());
    }
    let finder = memmem::Finder::new(PREFIX);
    let mut kept: Vec<&str> = Vec::new();
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let named = name.is_some_and(|name| decoded(key) == name.as_bytes());
        if named {
            found.add(&decoded(value));
        } else if finder.find(&decoded(pair)).is_none() {
            kept.push(pair);
        }
    }
    if kept.len() == query.split('&').count() {
        return Ok(());
    }
    let path = uri.path();
    let text = match kept.join("&") {
        kept if kept.is_empty() => path.to_owned(),
        kept => format!("{path}?{kept}"),
    };
    let mut parts = uri.clone().into_parts();
    // What was part of a URL is one without some of its parameters, too.
    parts.path_and_query =
        Some(PathAndQuery::try_from(text).map_err(|_| CredentialError::Several)?);
    *uri = Uri::from_parts(parts).map_err(|_| CredentialError::Several)?;
    Ok(())
}

/// Whether a query has the beginning of a key, as it is or with escapes.
fn may_have_key(query: &str) -> bool {
    memmem::find(query.as_bytes(), PREFIX.as_bytes()).is_some()
        || (query.contains('%') && memmem::find(&decoded(query), PREFIX.as_bytes()).is_some())
}

/// A query as logs have it: a parameter with a key has no value.
pub(crate) fn logged_query(query: &str) -> String {
    if !may_have_key(query) {
        return query.to_owned();
    }
    let finder = memmem::Finder::new(PREFIX);
    let pairs = query.split('&').map(|pair| {
        let (key, _) = pair.split_once('=').unwrap_or(("", pair));
        if finder.find(&decoded(key)).is_some() {
            "***".to_owned()
        } else if finder.find(&decoded(pair)).is_some() {
            format!("{key}=***")
        } else {
            pair.to_owned()
        }
    });
    let pairs: Vec<String> = pairs.collect();
    redact(&pairs.join("&")).into_owned()
}

#[cfg(test)]
mod tests;
