//! Logs and metrics.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::fields::Fields;
use crate::keys::{ADDRESS, Format, HEADER, Key, Kind, NEW, Section, TEXT};
use crate::network;
use crate::tree::Remark;

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// The least serious lines that are written.
    pub level: Level,
    /// How a line looks.
    pub format: LogFormat,
    /// `None` is standard error.
    pub file: Option<PathBuf>,
    /// One line a request; `None` writes none.
    pub access: Option<AccessLog>,
    /// Lines of guests' `console`.
    pub console: ConsoleLog,
    /// Headers whose values are never written, lower case.
    pub redact_headers: Vec<String>,
    /// Names in a query whose values are never written, lower case.
    pub redact_query: Vec<String>,
}

/// How serious a line is, least serious first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// What a developer of Stockade needs.
    Debug,
    /// What an operator may want to know.
    Info,
    /// What may need him.
    Warn,
    /// What needs him.
    Error,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// One line a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// `None` is where all other lines go.
    pub file: Option<PathBuf>,
    /// What is written of the query.
    pub query: Query,
    /// What is written of the client's address.
    pub client_address: ClientAddress,
    /// Request headers that are written, lower case.
    pub headers: Vec<String>,
}

/// What is written of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query {
    /// All but redacted values.
    Full,
    /// Names alone.
    Names,
    /// Nothing.
    None,
}

/// What is written of a client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAddress {
    /// All of it.
    Full,
    /// The network alone: /24, for IPv6 /48.
    Network,
    /// Nothing.
    None,
}

/// How much guests may write through `console`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleLog {
    /// The least serious lines that are written; `None` writes none.
    pub level: Option<Level>,
    /// Lines a second of one instance; the rest is counted.
    pub lines_per_second: u32,
    /// Bytes of one line; the rest is cut.
    pub line_bytes: usize,
}

/// Where metrics and health are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Address and port; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Path of the metrics; `/healthz` and `/readyz` are beside it.
    pub path: String,
}

const LEVELS: &[(&str, Level)] = &[
    ("trace", Level::Trace),
    ("debug", Level::Debug),
    ("info", Level::Info),
    ("warn", Level::Warn),
    ("error", Level::Error),
];

/// `logging`.
pub(crate) const LOGGING: Section = Section {
    name: "logging",
    doc: "What is logged, and how.",
    keys: &[
        Key::with(
            "level",
            Kind::Words(&["trace", "debug", "info", "warn", "error"]),
            "info",
            "The least serious lines that are written.",
        ),
        Key::with(
            "format",
            Kind::Words(&["json", "text"]),
            "text",
            "One JSON object a line, or lines for people.",
        ),
        Key::derived(
            "file",
            Kind::Text(NEW),
            "standard error",
            "A file to append to; opened again on SIGHUP.",
        ),
        Key::derived(
            "access",
            Kind::Either(&[Kind::Flag, Kind::Section(&ACCESS)]),
            "`true`",
            "One line a request; `false` writes none.",
        ),
        Key::maybe(
            "console",
            Kind::Section(&CONSOLE),
            "How much guests may write through `console`.",
        ),
        Key::maybe(
            "redact",
            Kind::Section(&REDACT),
            "Values that are never written.",
        ),
    ],
};

const ACCESS: Section = Section {
    name: "access",
    doc: "One line a request.",
    keys: &[
        Key::derived(
            "file",
            Kind::Text(NEW),
            "where all other lines go",
            "A file to append to.",
        ),
        Key::with(
            "query",
            Kind::Words(&["full", "names", "none"]),
            "names",
            "What is written of the query: all but redacted values, names alone, or nothing.",
        ),
        Key::with(
            "client_address",
            Kind::Words(&["full", "network", "none"]),
            "full",
            "What is written of the client's address: all, its /24 (IPv6: /48), or nothing.",
        ),
        Key::maybe(
            "headers",
            Kind::List(&Kind::Text(HEADER)),
            "Request headers that are written.",
        )
        .like(&["[user-agent, referer]"]),
    ],
};

const CONSOLE: Section = Section {
    name: "console",
    doc: "How much guests may write through `console`.",
    keys: &[
        Key::with(
            "level",
            Kind::Words(&["trace", "debug", "info", "warn", "error", "off"]),
            "debug",
            "The least serious lines that are written; `off` writes none.",
        ),
        Key::with(
            "lines_per_second",
            Kind::Whole(1, 1_000_000),
            "200",
            "Lines a second of one instance; the rest is counted.",
        ),
        Key::with(
            "line_bytes",
            Kind::Size(64, 1 << 20),
            "8kb",
            "Bytes of one line; the rest is cut.",
        ),
    ],
};

const REDACT: Section = Section {
    name: "redact",
    doc: "Values that are never written. These lists add to what is never written anyway: `authorization`, `cookie`, `set-cookie`, `proxy-authorization` and `x-api-key`; `token`, `access_token`, `api_key`, `key`, `password`, `secret`, `signature`, `sig` and `code` in queries.",
    keys: &[
        Key::maybe(
            "headers",
            Kind::List(&Kind::Text(HEADER)),
            "Further headers.",
        ),
        Key::maybe(
            "query",
            Kind::List(&Kind::Text(TEXT)),
            "Further names in a query.",
        ),
    ],
};

/// `metrics`.
pub(crate) const METRICS: Section = Section {
    name: "metrics",
    doc: "Where metrics and health are asked for. They are on a listener of their own, without TLS.",
    keys: &[
        Key::needed("listen", Kind::Text(ADDRESS), "Address and port.").like(&["127.0.0.1:9900"]),
        Key::with(
            "path",
            Kind::Text(ABSOLUTE),
            "/metrics",
            "Path of the metrics; `/healthz` and `/readyz` are beside it.",
        ),
    ],
};

const ABSOLUTE: Format = Format {
    what: "a path such as /metrics, neither /healthz nor /readyz",
    pattern: Some(r"^/[A-Za-z0-9._~/-]*$"),
    expect: None,
};

const SECRET_HEADERS: &[&str] = &[
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "x-api-key",
];

const SECRET_NAMES: &[&str] = &[
    "access_token",
    "api_key",
    "code",
    "key",
    "password",
    "secret",
    "sig",
    "signature",
    "token",
];

/// Reads `logging`.
pub(crate) fn logging(fields: &Fields<'_>) -> Logging {
    let redact = fields.section("redact");
    let lower = |text: &str| Ok(text.to_ascii_lowercase());
    let with = |known: &[&str], more: Vec<String>| {
        let mut all: Vec<_> = known
            .iter()
            .map(|name| (*name).to_owned())
            .chain(more)
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    Logging {
        level: fields.word("level", LEVELS).unwrap_or(Level::Info),
        format: fields.word("format", &formats).unwrap_or(LogFormat::Text),
        file: fields.path("file"),
        access: access(fields),
        console: console(&fields.section("console")),
        redact_headers: with(SECRET_HEADERS, redact.texts("headers", lower)),
        redact_query: with(SECRET_NAMES, redact.texts("query", lower)),
    }
}

fn access(fields: &Fields<'_>) -> Option<AccessLog> {
    if let Some(found) = fields.find("access")
        && found.node.map().is_none()
    {
        match found.node.flag() {
            Some(true) => {}
            Some(false) => return None,
            None => fields
                .reader()
                .wrong(&found, &Kind::Either(&[Kind::Flag, Kind::Section(&ACCESS)])),
        }
    }
    let inner = fields.section("access");
    let queries = [
        ("full", Query::Full),
        ("names", Query::Names),
        ("none", Query::None),
    ];
    let addresses = [
        ("full", ClientAddress::Full),
        ("network", ClientAddress::Network),
        ("none", ClientAddress::None),
    ];
    Some(AccessLog {
        file: inner.path("file"),
        query: inner.word("query", &queries).unwrap_or(Query::Names),
        client_address: inner
            .word("client_address", &addresses)
            .unwrap_or(ClientAddress::Full),
        headers: inner.texts("headers", |text| Ok(text.to_ascii_lowercase())),
    })
}

fn console(fields: &Fields<'_>) -> ConsoleLog {
    let levels: Vec<_> = LEVELS
        .iter()
        .map(|(word, level)| (*word, Some(*level)))
        .chain([("off", None)])
        .collect();
    ConsoleLog {
        level: fields.word("level", &levels).unwrap_or(Some(Level::Debug)),
        lines_per_second: fields.count32("lines_per_second"),
        line_bytes: fields.size_here("line_bytes"),
    }
}

/// Reads `metrics`.
pub(crate) fn metrics(top: &Fields<'_>) -> Option<Metrics> {
    let found = top.find("metrics")?;
    if found.node.flag() == Some(false) {
        return None;
    }
    let fields = top.section("metrics");
    let path = fields.text("path").unwrap_or_default();
    if matches!(path.as_str(), "/healthz" | "/readyz") {
        let what = format!("{path} is taken by the state of health");
        fields.refuse("path", Remark::allowed(what, ABSOLUTE.what));
    }
    let listen = network::address(&fields, "listen")?;
    if !listen.ip().is_loopback() {
        let what =
            "everyone who reaches this address can read the metrics: nothing asks who they are";
        fields.warn("listen", what.to_owned());
    }
    Some(Metrics { listen, path })
}
