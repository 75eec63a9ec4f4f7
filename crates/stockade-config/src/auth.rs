//! Who may send requests to an instance: `auth`.

use http::{HeaderName, Method, header};
use stockade_http::PathPattern;

use crate::fields::Fields;
use crate::keys::{Format, HEADER, Key, Kind, METHOD, list, map, text};
use crate::reader::Located;
use crate::section::{Parse, Record, section};
use crate::tree::Message;
use crate::url::path_pattern;

/// A scope that a request needs.
const SCOPE: Format = Format {
    what: "a scope: lower case letters, digits, '.', ':', '_' and '-', beginning with a letter, at most 64 characters",
    pattern: Some("^[a-z][a-z0-9.:_-]{0,63}$"),
    expect: None,
};

/// A parameter of a query, or a cookie.
const PARAMETER: Format = Format {
    what: "a name of letters, digits, '.', '_' and '-', at most 64 characters",
    pattern: Some("^[A-Za-z0-9._-]{1,64}$"),
    expect: None,
};

/// A path of an instance.
pub(crate) const PATH: Format = Format {
    what: "a path such as /about, or one that ends with /* for it and all below it",
    pattern: Some(r"^/\S*$"),
    expect: None,
};

const SCOPES: Kind = Kind::List(&Kind::Text(SCOPE));

section! {
    /// Which clients may send requests to an instance: those with an API key of `stockade keys`. All methods need one,
    /// `OPTIONS` and WebSockets included. Requests of other instances through `bindings`, and `crons`, need none.
    pub struct Auth "auth" {
        /// Where a request has its key, and what the key must allow.
        pub api_key: ApiKeyAuth = Key::of(ApiKeyAuth::KIND),
        /// Paths that need no key.
        pub open: Vec<PathPattern> = list(&Kind::Text(PATH)).like(&["[/health, /public/*]"]) => open,
    }
}

section! {
    /// Where a request has its API key, and what the key must allow. A request with several keys gets 400, one without
    /// a valid key 401, and one whose key has not the scopes 403. The guest never receives the key: it gets
    /// `request.cf.apiKey` with `id`, `name`, `scopes` and `metadata`.
    pub struct ApiKeyAuth "api_key" {
        /// The header that has the key. In `authorization` it stands behind `Bearer`.
        pub header: Option<HeaderName> = text(HEADER)
            .derived("`authorization`, unless there is `query` or `cookie`")
            .like(&["x-api-key"]) => header,
        /// The parameter of the query that has the key. It is removed from the URL before the guest and the log receive
        /// it.
        pub query: Option<String> = text(PARAMETER).like(&["api_key"]),
        /// The cookie that has the key.
        pub cookie: Option<String> = text(PARAMETER).like(&["api_key"]),
        /// Scopes that a key must have, all of them. Without it, a key needs `read` for `GET`, `HEAD` and `OPTIONS`, and
        /// `write` for other methods and for WebSockets. `write` includes `read`, and `admin` includes both.
        pub scopes: Vec<String> = list(&Kind::Text(SCOPE)).like(&["[orders]"]).nonempty(),
        /// Scopes that a key must have for some methods, instead of those above.
        pub methods: Vec<(Method, Vec<String>)> = map(METHOD, &SCOPES)
            .like(&["{DELETE: [admin]}"]) => methods,
        /// Scopes that a key must have for some paths, in addition to those above.
        pub paths: Vec<(PathPattern, Vec<String>)> = map(PATH, &SCOPES)
            .like(&["{\"/reports/*\": [reports]}"]) => paths,
    }
}

/// Reads `auth` of an instance: `true`, `false` or a section.
pub(crate) fn auth(fields: &Fields<'_>) -> Option<Auth> {
    fields.switch("auth", false).map(|auth| Auth::read(&auth))
}

fn open(fields: &Fields<'_>) -> Vec<PathPattern> {
    fields.texts("open", path_pattern)
}

fn header(fields: &Fields<'_>) -> Option<HeaderName> {
    if !fields.has("header") {
        let elsewhere = fields.has("query") || fields.has("cookie");
        return (!elsewhere).then_some(header::AUTHORIZATION);
    }
    let name = fields.value("header", HeaderName::parse)?;
    // Headers that decide where a request goes, or that the gateway writes.
    let taken = [
        "host",
        "cookie",
        "connection",
        "upgrade",
        "content-length",
        "transfer-encoding",
        "x-request-id",
    ];
    let of_gateway = name.as_str().starts_with("x-forwarded-") || name.as_str().starts_with("cf-");
    if of_gateway || taken.contains(&name.as_str()) {
        let what = format!("the header {name} has another meaning");
        let allowed = "authorization, x-api-key, or a name of your own";
        fields.refuse("header", Message::allowed(what, allowed));
        return None;
    }
    Some(name)
}

/// The entries of a mapping to lists of scopes. An empty list is refused: it would allow what it seems to limit.
fn scopes_by<T>(
    fields: &Fields<'_>,
    name: &str,
    read: fn(&str) -> Result<T, Message>,
) -> Vec<(T, Vec<String>)> {
    let reader = fields.reader();
    let entries = fields.entries(name).into_iter();
    let read = entries.filter_map(|(key, found): (&str, Located<'_>)| {
        let key = match read(key) {
            Ok(key) => key,
            Err(message) => {
                reader.refuse(&found, message);
                return None;
            }
        };
        let items = match found.node.list() {
            Some(items) if !items.is_empty() => items,
            _ => {
                reader.wrong(&found, &SCOPES);
                return None;
            }
        };
        let scopes = items.iter().enumerate().filter_map(|(index, node)| {
            let item = Located {
                node,
                at: node.span,
                path: format!("{}[{index}]", found.path),
            };
            String::parse(reader, &item, &Kind::Text(SCOPE))
        });
        Some((key, scopes.collect()))
    });
    read.collect()
}

fn methods(fields: &Fields<'_>) -> Vec<(Method, Vec<String>)> {
    scopes_by(fields, "methods", method)
}

/// Reads a method.
pub(crate) fn method(text: &str) -> Result<Method, Message> {
    Method::from_bytes(text.as_bytes())
        .ok()
        .filter(|_| !text.contains(|c: char| c.is_ascii_lowercase()))
        .ok_or_else(|| Message::allowed("it is not a method", "a method in upper case, as GET"))
}

fn paths(fields: &Fields<'_>) -> Vec<(PathPattern, Vec<String>)> {
    scopes_by(fields, "paths", path_pattern)
}
