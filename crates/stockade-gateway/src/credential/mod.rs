//! API keys and tokens in requests: where a request has one, how it is taken out, and what it opens.
//!
//! Invariants:
//! 1. What a target and a log receive has no API key: neither at the place that the route names nor at another one.
//! 2. A request has one key or token. With several, two readers could see another client each.

mod validity;

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, WWW_AUTHENTICATE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, request};
use memchr::memmem;
use percent_encoding::percent_decode_str;
use stockade_auth::{
    FailureLimiter, Granted, JwtVerifier, KeyId, Keys, LastKey, PREFIX, Scope, Token, redact,
};
use stockade_http::PathPattern;
use stockade_tls::{ClientRule, ConnectionTls};

use crate::access::Refusal;
use crate::http::headers::remove_those;
use crate::rejection::Rejection;

pub(crate) use validity::{KeyWaiter, KeyWatch, Validity};

/// Finds the beginning of a key. Each request is searched, and setting the search up costs more than a short text.
static BEGINNING: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(PREFIX));

/// Which credentials a route accepts, and where a request has one. Any of them lets a request in.
#[derive(Debug, Clone)]
pub struct KeyRule {
    /// The API keys; `None`: none is accepted.
    pub keys: Option<Keys>,
    /// Tokens behind `Bearer` in `authorization`; `None`: none is accepted.
    pub tokens: Option<Arc<JwtVerifier>>,
    /// Client certificates of the connection, for requests with no other credential; `None`: they let nobody in.
    pub certificates: Option<ClientRule>,
    /// Bounds the wrong credentials of each address.
    pub failures: Arc<FailureLimiter>,
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
    #[error("{needed} is needed.")]
    Missing {
        needed: &'static str,
        challenge: HeaderValue,
    },
    #[error("The request has more than one API key or token, or one that is not text.")]
    Several,
    #[error("The token is not valid.")]
    Token { challenge: HeaderValue },
    #[error("The API key is not valid.")]
    Invalid { challenge: HeaderValue },
    #[error("The API key or token is no longer valid.")]
    Ended,
    #[error("The API key does not allow this: the scope {scope} is needed.")]
    Scope {
        scope: String,
        challenge: HeaderValue,
    },
    #[error("Too many wrong API keys or tokens came from this address.")]
    Guesses { wait: std::time::Duration },
}

impl From<CredentialError> for Rejection {
    fn from(error: CredentialError) -> Self {
        let detail = error.to_string();
        let new = |refusal, status| Self::new(refusal, status, detail);
        match error {
            CredentialError::Missing { challenge, .. } | CredentialError::Invalid { challenge } => {
                new(Refusal::ApiKey, StatusCode::UNAUTHORIZED)
                    .with_value(WWW_AUTHENTICATE, challenge)
            }
            CredentialError::Token { challenge } => new(Refusal::Token, StatusCode::UNAUTHORIZED)
                .with_value(WWW_AUTHENTICATE, challenge),
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

/// The client of a request that a credential let in.
#[derive(Clone)]
pub(crate) enum Caller {
    Key { keys: Keys, granted: Arc<Granted> },
    Token(Arc<Token>),
}

impl Caller {
    /// What sites get to know of the API key.
    pub(crate) fn api_key(&self) -> Option<Arc<str>> {
        self.granted().map(|granted| granted.json())
    }

    /// The API key, as it was found valid.
    pub(crate) fn granted(&self) -> Option<&Arc<Granted>> {
        match self {
            Self::Key { granted, .. } => Some(granted),
            Self::Token(_) => None,
        }
    }

    /// The id of the API key, by which use is counted.
    pub(crate) fn key(&self) -> Option<KeyId> {
        self.granted().map(|granted| granted.id)
    }

    /// What sites get to know of the token.
    pub(crate) fn token(&self) -> Option<Arc<str>> {
        match self {
            Self::Key { .. } => None,
            Self::Token(token) => Some(token.to_json().into()),
        }
    }

    /// Ends when the key is revoked, rotated away or expired, or the token has expired.
    pub(crate) fn until_invalid(&self) -> BoxFuture<'static, ()> {
        match self {
            Self::Key { keys, granted } => Box::pin(keys.until_invalid(granted)),
            Self::Token(token) => Box::pin(token.until_expired()),
        }
    }
}

impl KeyRule {
    /// Whether a path needs no key.
    pub(crate) fn is_open(&self, path: &str) -> bool {
        self.open.iter().any(|pattern| pattern.matches(path))
    }

    /// The credentials, in words.
    pub(crate) fn needed(&self) -> &'static str {
        match (&self.keys, &self.tokens, &self.certificates) {
            (Some(_), None, None) => "An API key",
            (None, Some(_), None) => "A token",
            (None, None, _) => "A client certificate",
            (Some(_), Some(_), None) => "An API key or a token",
            (Some(_), None, Some(_)) => "An API key or a client certificate",
            (None, Some(_), Some(_)) => "A token or a client certificate",
            (Some(_), Some(_), Some(_)) => "An API key, a token or a client certificate",
        }
    }

    /// Whether the certificate of a connection lets its requests in.
    pub(crate) fn accepts_certificate(&self, connection: Option<&ConnectionTls>) -> bool {
        let shown = connection.is_some_and(|one| one.client.certificate.is_some());
        let rule = self.certificates.as_ref();
        shown && rule.is_some_and(|rule| rule.check(connection).is_ok())
    }

    /// What a client is asked for (RFC 9110, section 11.6.1; RFC 6750, section 3).
    pub(crate) fn challenge(&self, more: &str) -> HeaderValue {
        let scheme = match &self.header {
            Some(name) if *name == AUTHORIZATION => "Bearer",
            _ if self.tokens.is_some() => "Bearer",
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

    /// Takes every key and token out of a request. Gives the one at the places of this rule.
    pub(crate) fn take(
        &self,
        head: &mut request::Parts,
    ) -> Result<Option<Credential>, CredentialError> {
        let mut found = Found::default();
        let in_authorization = self.header.as_ref() == Some(&AUTHORIZATION);
        if in_authorization || self.tokens.is_some() {
            let is_token = |text: &[u8]| {
                self.tokens.is_some() && !(in_authorization && text.starts_with(PREFIX.as_bytes()))
            };
            take_bearer(&mut head.headers, &mut found, is_token);
        }
        if let Some(name) = self.header.as_ref().filter(|_| !in_authorization) {
            for value in head.headers.get_all(name) {
                found.add(value.as_bytes());
            }
            head.headers.remove(name);
        }
        take_cookies(&mut head.headers, self.cookie.as_deref(), &mut found);
        take_parameters(&mut head.uri, self.query.as_deref(), &mut found)?;
        // A key at another place opens nothing, and is no less secret.
        let finder = &*BEGINNING;
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
            Found { found, .. } => Ok(found),
        }
    }

    /// Checks the credential of a request. `last` is the key that its connection has shown last.
    pub(crate) fn check(
        &self,
        credential: &Credential,
        now: SystemTime,
        last: &LastKey,
    ) -> Result<Caller, CredentialError> {
        let challenge = || self.challenge(", error=\"invalid_token\"");
        match credential {
            Credential::Key(key) => {
                let keys = self.keys.as_ref();
                let checked =
                    keys.and_then(|keys| Some((keys, keys.check_again(key, now, last).ok()?)));
                let (keys, granted) = checked.ok_or_else(|| CredentialError::Invalid {
                    challenge: challenge(),
                })?;
                Ok(Caller::Key {
                    keys: keys.clone(),
                    granted,
                })
            }
            Credential::Token(token) => {
                let tokens = self.tokens.as_ref();
                let checked = tokens.and_then(|tokens| tokens.check(token, now).ok());
                let token = checked.ok_or_else(|| CredentialError::Token {
                    challenge: challenge(),
                })?;
                Ok(Caller::Token(Arc::new(token)))
            }
        }
    }
}

/// A text that a request has at a place for credentials.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    Key(Vec<u8>),
    Token(Vec<u8>),
}

/// What was found at the places of a rule.
#[derive(Default)]
struct Found {
    found: Option<Credential>,
    several: bool,
}

impl Found {
    fn add(&mut self, key: &[u8]) {
        self.add_credential(Credential::Key(key.to_vec()));
    }

    fn add_credential(&mut self, credential: Credential) {
        self.several |= self.found.replace(credential).is_some();
    }
}

/// Takes `Bearer` out of `authorization` (RFC 6750, section 2.1). Other schemes are the site's own.
fn take_bearer(headers: &mut HeaderMap, found: &mut Found, is_token: impl Fn(&[u8]) -> bool) {
    let bearer = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        let scheme = bytes.get(..6)?;
        let rest = bytes.get(6..)?;
        let is_bearer = scheme.eq_ignore_ascii_case(b"bearer") && rest.first() != Some(&b'_');
        is_bearer.then(|| rest.trim_ascii().to_vec())
    };
    let mut values = 0;
    let mut taken = false;
    for value in headers.get_all(AUTHORIZATION) {
        values += 1;
        if let Some(text) = bearer(value) {
            taken = true;
            found.add_credential(match is_token(&text) {
                true => Credential::Token(text),
                false => Credential::Key(text),
            });
        }
    }
    if taken {
        // Two fields of `authorization` are two credentials, whatever their schemes.
        found.several |= values > 1;
        headers.remove(AUTHORIZATION);
    }
}

/// Takes cookies of a name, and all with a key, out of `cookie`.
fn take_cookies(headers: &mut HeaderMap, name: Option<&str>, found: &mut Found) {
    if !headers.contains_key(COOKIE) {
        return;
    }
    let finder = &*BEGINNING;
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
    let finder = &*BEGINNING;
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
    BEGINNING.find(query.as_bytes()).is_some()
        || (query.contains('%') && BEGINNING.find(&decoded(query)).is_some())
}

/// A query as logs have it: a parameter with a key has no value.
pub(crate) fn logged_query(query: &str) -> String {
    if !may_have_key(query) {
        return query.to_owned();
    }
    let finder = &*BEGINNING;
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
