//! Who may send requests to an instance: `auth`.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Method, Uri, header};
use ipnet::IpNet;
use stockade_http::PathPattern;

use crate::fields::Fields;
use crate::keys::{
    FILE, Format, HEADER, Key, Kind, METHOD, NETWORK, TEXT, either, list, map, text, time,
};
use crate::reader::{Located, Reader};
use crate::section::{Parse, Record, Words, section, words};
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

/// Where a set of keys is.
const JWKS_URL: Format = Format {
    what: "a URL with https:// and a host, as https://id.example.com/.well-known/jwks.json",
    pattern: Some(r"^https://\S+$"),
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
    /// Which clients may send requests to an instance: those with an API key of `stockade keys`, with a token (JWT), or
    /// with a client certificate, whichever of these is there. All methods need one, `OPTIONS` and WebSockets included.
    /// Requests of other instances through `bindings`, and `crons`, need none.
    pub struct Auth "auth" {
        /// Where a request has its key, and what the key must allow.
        pub api_key: Option<ApiKeyAuth> = either(&[Kind::Bool, ApiKeyAuth::KIND])
            .derived("`true`, unless there is `jwt` or `client_certificate`") => api_key,
        /// Tokens that are accepted.
        pub jwt: Option<JwtAuth> = Key::of(JwtAuth::KIND) => jwt,
        /// Client certificates that let in requests with no key and no token. `client_auth` has the authorities.
        pub client_certificate: Option<CertificateAuth> = either(&[Kind::Bool, CertificateAuth::KIND])
            .derived("`false`") => |fields| fields.switch("client_certificate", false).map(|own| CertificateAuth::read(&own)),
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

words! {
    /// An algorithm of a token's signature (RFC 7518, RFC 8037).
    pub enum TokenAlgorithm {
        /// RSASSA-PKCS1-v1_5 with SHA-256.
        Rs256 = "RS256",
        /// The same with SHA-384.
        Rs384 = "RS384",
        /// The same with SHA-512.
        Rs512 = "RS512",
        /// RSASSA-PSS with SHA-256.
        Ps256 = "PS256",
        /// The same with SHA-384.
        Ps384 = "PS384",
        /// The same with SHA-512.
        Ps512 = "PS512",
        /// ECDSA with P-256.
        Es256 = "ES256",
        /// ECDSA with P-384.
        Es384 = "ES384",
        /// Ed25519.
        EdDsa = "EdDSA",
    }
}

section! {
    /// Tokens (JWT, RFC 7519) that are accepted behind `Bearer` in `authorization`. A request without a valid one gets
    /// 401. The guest never receives the token: it gets `request.cf.jwt` with `subject` and `claims`.
    pub struct JwtAuth "jwt" {
        /// The file with the public keys of the issuer, a JWK Set (RFC 7517). It is read again when it changes. It must
        /// have no private key and no secret. There must be either `jwks` or `jwks_url`.
        pub jwks: Option<PathBuf> = text(FILE).like(&["./jwks.json"]),
        /// The address from which the server takes this set. The keys of the last answer that could be read stay in use
        /// while the address does not answer. Tokens are refused until there was one.
        pub jwks_url: Option<Uri> = text(JWKS_URL).like(&["https://id.example.com/.well-known/jwks.json"]) => jwks_url,
        /// How often the set is taken from `jwks_url`. `cache-control: max-age` of the answer can make it more often,
        /// and a token with a key that is not in the set does, but not twice in 30 seconds.
        pub jwks_refresh: Duration = time(60_000, 86_400_000).default("15m"),
        /// Non-public networks that `jwks_url` may lead to.
        pub jwks_allow_private: Vec<IpNet> = list(&Kind::Text(NETWORK)).like(&["[\"10.0.0.0/8\"]"]),
        /// Root certificates (PEM) to trust for `jwks_url`, in addition to the public ones.
        pub jwks_ca: Vec<PathBuf> = list(&Kind::Text(FILE)),
        /// Algorithms of signatures that are accepted.
        pub algorithms: Vec<TokenAlgorithm> = list(&TokenAlgorithm::KIND).required().nonempty().like(&["[RS256]", "[ES256, EdDSA]"]),
        /// Issuers, of which one must be the claim `iss`. The default accepts all whose keys are in `jwks`.
        pub issuer: Vec<String> = either(TEXTS).like(&["https://id.example.com"]) => |fields| texts(fields, "issuer"),
        /// Audiences, of which one must be in the claim `aud`.
        pub audience: Vec<String> = either(TEXTS).like(&["https://shop.example.com"]) => |fields| texts(fields, "audience"),
        /// How far the clocks of this machine and of the issuer may differ, for the claims `exp`, which must be there,
        /// and `nbf`.
        pub leeway: Duration = time(0, 600_000).default("1m"),
        /// Claims that must be there, each with the values that are accepted. A claim that is a list must have one of
        /// them.
        pub claims: Vec<(String, Vec<String>)> = map(TEXT, &Kind::Either(TEXTS)).like(&["{role: [admin, staff]}"]) => claims,
    }
}

section! {
    /// Client certificates that let a client in. The default is each that the handshake accepted.
    pub struct CertificateAuth "certificate_auth" {
        /// Accepted subjects, in the form of RFC 4514.
        pub subjects: Vec<String> = list(&Kind::Text(TEXT)).nonempty().like(&["[\"CN=billing,O=Example\"]"]),
        /// Accepted subject alternative names.
        pub san: Vec<String> = list(&Kind::Text(TEXT)).nonempty().like(&["[\"DNS:billing.internal\"]"]),
    }
}

/// A text, or several.
const TEXTS: &[Kind] = &[Kind::Text(TEXT), Kind::List(&Kind::Text(TEXT))];

fn api_key(fields: &Fields<'_>) -> Option<ApiKeyAuth> {
    let others = fields.has("jwt") || fields.switch("client_certificate", false).is_some();
    let own = fields.switch("api_key", !others);
    if own.is_none() && !others {
        let allowed = "`api_key`, `jwt` or `client_certificate`; or `auth: false`";
        let message = Message::allowed("no client could ever be let in", allowed);
        fields.refuse("api_key", message);
    }
    own.map(|own| ApiKeyAuth::read(&own))
}

fn jwt(fields: &Fields<'_>) -> Option<JwtAuth> {
    let found = fields.find("jwt")?;
    if found.node.map().is_none() {
        fields.reader().wrong(&found, &JwtAuth::KIND);
        return None;
    }
    let own = fields.section("jwt");
    if !own.has("algorithms") {
        own.missing("algorithms");
    }
    if own.has("jwks") == own.has("jwks_url") {
        let what = "the public keys of the issuer come from one place";
        let message = Message::allowed(what, "either `jwks` or `jwks_url`");
        own.reader().source.error(own.at, &own.path, message);
    }
    for key in ["jwks_refresh", "jwks_allow_private", "jwks_ca"] {
        if own.has(key) && !own.has("jwks_url") {
            own.refuse(key, Message::allowed("it is for `jwks_url`", "`jwks_url`"));
        }
    }
    if !own.has("audience") {
        let what = "a token that the issuer made for another service is accepted, too";
        own.warn(
            if own.has("jwks") { "jwks" } else { "jwks_url" },
            Message::allowed(what, "`audience`, as the issuer names this service"),
        );
    }
    Some(JwtAuth::read(&own))
}

fn jwks_url(fields: &Fields<'_>) -> Option<Uri> {
    let found = fields.find("jwks_url")?;
    let reader = fields.reader();
    reader.parsed(&found, &Kind::Text(JWKS_URL), |text| {
        let found = text.parse::<Uri>().ok();
        let found = found.filter(|uri| {
            let has_host = uri.host().is_some_and(|host| !host.is_empty());
            uri.scheme_str() == Some("https") && has_host && !text.contains('@')
        });
        let what = "it is not the URL of a set of keys";
        found.ok_or_else(|| Message::allowed(what, JWKS_URL.what))
    })
}

/// The texts of a value that is one or a list.
fn each_text(reader: Reader<'_>, found: &Located<'_>) -> Vec<String> {
    let one = |item: &Located<'_>| String::parse(reader, item, &Kind::Text(TEXT));
    match found.node.list() {
        None => one(found).into_iter().collect(),
        Some([]) => {
            let message = Message::allowed("an empty list allows nothing", "at least one text");
            reader.refuse(found, message);
            Vec::new()
        }
        Some(items) => {
            let items = items.iter().enumerate().map(|(index, node)| Located {
                node,
                at: node.span,
                path: format!("{}[{index}]", found.path),
            });
            items.filter_map(|item| one(&item)).collect()
        }
    }
}

fn texts(fields: &Fields<'_>, name: &str) -> Vec<String> {
    let found = fields.find(name);
    found.map_or(Vec::new(), |found| each_text(fields.reader(), &found))
}

fn claims(fields: &Fields<'_>) -> Vec<(String, Vec<String>)> {
    let reader = fields.reader();
    let entries = fields.entries("claims").into_iter();
    entries
        .map(|(name, found)| (name.to_owned(), each_text(reader, &found)))
        .collect()
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
