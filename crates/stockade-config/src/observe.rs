//! Logs and metrics.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;

use crate::fields::Fields;
use crate::keys::{
    ADDRESS, Format, HEADER, Key, Kind, NEW, TEXT, boolean, either, integer, list, size, text, time,
};
use crate::section::{Parse, Record, Words, section, words};
use crate::tree::Message;

words! {
    /// How serious a line is, least serious first.
    pub enum Level {
        /// Every step.
        Trace = "trace",
        /// What a developer of Stockade needs.
        Debug = "debug",
        /// What an operator may want to know.
        Info = "info",
        /// What may need an operator.
        Warn = "warn",
        /// What needs an operator.
        Error = "error",
    }
}

words! {
    /// How a line looks.
    pub enum LogFormat {
        /// One JSON object a line.
        Json = "json",
        /// For people.
        Text = "text",
        /// For a person who looks on: short lines, with colours where standard error is a terminal.
        Terminal = "terminal",
    }
}

words! {
    /// What is written of a query.
    pub enum Query {
        /// All but redacted values.
        Full = "full",
        /// Names alone.
        Names = "names",
        /// Nothing.
        None = "none",
    }
}

words! {
    /// What is written of a client's address.
    pub enum ClientAddress {
        /// All of it.
        Full = "full",
        /// The network alone: /24, for IPv6 /48.
        Network = "network",
        /// Nothing.
        None = "none",
    }
}

section! {
    /// The content, format and destination of the log.
    pub struct Logging "logging" {
        /// The minimum level of lines that are written.
        pub level: Level = Key::of(Level::KIND).default("info"),
        /// One JSON object per line, text for people, or short lines as on a terminal.
        pub format: Option<LogFormat> = Key::of(LogFormat::KIND)
            .derived("`text` if standard error is a terminal and there is no `file`, else `json`"),
        /// A file to append to. SIGHUP reopens it.
        pub file: Option<PathBuf> = text(NEW).derived("standard error"),
        /// One line per request. `false` writes none.
        pub access: Option<AccessLog> = either(&[Kind::Bool, AccessLog::KIND]).derived("`true`") => access,
        /// Limits of the guests' `console`.
        pub console: ConsoleLog = Key::of(ConsoleLog::KIND),
        /// Values that are never logged.
        pub redact: Redact = Key::of(Redact::KIND),
    }
}

section! {
    /// The access log, with one line per request.
    pub struct AccessLog "access" {
        /// A file to append to.
        pub file: Option<PathBuf> = text(NEW).derived("where all other lines go"),
        /// How much of the query is logged: all except redacted values, only names, or
        /// nothing.
        pub query: Query = Key::of(Query::KIND).default("names"),
        /// How much of the client's address is logged: all, its /24 (IPv6: /48), or
        /// nothing.
        pub client_address: ClientAddress = Key::of(ClientAddress::KIND).default("full"),
        /// Request headers to log.
        pub headers: Vec<HeaderName> = list(&Kind::Text(HEADER)).like(&["[user-agent, referer]"]),
    }
}

section! {
    /// Limits of the guests' `console`.
    pub struct ConsoleLog "console" {
        /// The minimum level of lines that are written. `off` writes none.
        pub level: Option<Level> = Key::of(CONSOLE_LEVELS).default("debug") => console_level,
        /// Lines per second of one instance. Further lines are counted.
        pub lines_per_second: u32 = integer(1, 1_000_000).default("200"),
        /// Size of one line. The rest is cut.
        pub line_bytes: usize = size(64, 1 << 20).default("8kb"),
    }
}

section! {
    /// Values that are never logged. These lists add to the built-in ones: the headers
    /// `authorization`, `cookie`, `set-cookie`, `proxy-authorization` and `x-api-key`, and
    /// in queries `token`, `access_token`, `api_key`, `key`, `password`, `secret`,
    /// `signature`, `sig` and `code`.
    pub struct Redact "redact" {
        /// Additional headers to redact.
        pub headers: Vec<HeaderName> = list(&Kind::Text(HEADER)) => redacted_headers,
        /// Additional names in a query to redact.
        pub query: Vec<String> = list(&Kind::Text(TEXT)) => redacted_names,
    }
}

section! {
    /// The listener for metrics and health. It has no TLS.
    pub struct Metrics "metrics" {
        /// Address and port.
        pub listen: SocketAddr = text(ADDRESS).required().like(&["127.0.0.1:9900"]) => metrics_address,
        /// Path of the metrics. `/healthz` and `/readyz` are on the same address.
        pub path: String = text(ABSOLUTE).default("/metrics") => metrics_path,
    }
}

section! {
    /// The audit log: JSON lines of what was refused to guests, of workers that were ended,
    /// and of changes of the configuration, in which an edit, a gap or a cut is found.
    pub struct Audit "audit" {
        /// The folder for its files. It is created with mode 0750 if it does not exist.
        pub folder: PathBuf = text(NEW).required().like(&["./audit"]),
        /// The file with the Ed25519 key that signs checkpoints, in PKCS#8 (DER). It is created
        /// with mode 0600 if it does not exist.
        pub key: Option<PathBuf> = text(NEW).derived("`key` in the folder"),
        /// Also records outbound requests and calls of grants that were not refused.
        pub uses: bool = boolean().default("false"),
        /// How long a line may wait for a signed checkpoint.
        pub checkpoint: Duration = time(1000, 3_600_000).default("1m"),
        /// Size of a file from which the next one is begun.
        pub file_size: u64 = size(64 << 10, 1 << 40).default("64mb"),
        /// The number of files that are kept. The oldest are removed.
        pub files: usize = integer(2, 100_000).default("100"),
        /// How long a file is kept after its last line. Without it, age removes no file.
        pub keep: Option<Duration> = time(60_000, 3_155_760_000_000),
    }
}

section! {
    /// What instances and API keys used on each day: requests, CPU, memory, bytes, calls.
    pub struct Usage "usage" {
        /// The file, an SQLite database. It is created with mode 0600 if it does not exist.
        pub path: PathBuf = text(NEW).required().like(&["./usage.db"]),
        /// How often counts are written to the file. A server that is killed loses what it
        /// counted since the last time.
        pub interval: Duration = time(1000, 3_600_000).default("5s"),
        /// How long the counts of a day are kept, in whole days.
        pub keep: Duration = time(86_400_000, 3_155_760_000_000).default("400days"),
        /// The number of API keys that are counted apart on one day. All above it are counted
        /// together, as the key `*`.
        pub keys: u64 = integer(0, 10_000_000).default("100000"),
        /// Has a series for each API key in the metrics, not only for each instance.
        pub key_metrics: bool = boolean().default("false"),
    }
}

const CONSOLE_LEVELS: Kind = Kind::Enum(&["trace", "debug", "info", "warn", "error", "off"]);

const ABSOLUTE: Format = Format {
    what: "a path such as /metrics, neither /healthz nor /readyz",
    pattern: Some(r"^/[A-Za-z0-9._~/-]*$"),
    expect: None,
};

/// Headers that are never written.
const SECRET_HEADERS: [HeaderName; 5] = [
    http::header::AUTHORIZATION,
    http::header::COOKIE,
    http::header::PROXY_AUTHORIZATION,
    http::header::SET_COOKIE,
    HeaderName::from_static("x-api-key"),
];

/// Names in a query whose values are never written.
const SECRET_NAMES: [&str; 9] = [
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

fn access(fields: &Fields<'_>) -> Option<AccessLog> {
    fields
        .switch("access", true)
        .map(|access| AccessLog::read(&access))
}

fn console_level(fields: &Fields<'_>) -> Option<Level> {
    let level = fields.value("level", |reader, value, kind| match value.node.text() {
        Some("off") => Some(None),
        _ => Level::parse(reader, value, kind).map(Some),
    });
    level.flatten()
}

fn redacted_headers(fields: &Fields<'_>) -> Vec<HeaderName> {
    let mut all: Vec<HeaderName> = fields.get("headers");
    all.extend(SECRET_HEADERS);
    all.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    all.dedup();
    all
}

fn redacted_names(fields: &Fields<'_>) -> Vec<String> {
    let mut all: Vec<String> = fields.get("query");
    all.iter_mut().for_each(|name| name.make_ascii_lowercase());
    all.extend(SECRET_NAMES.map(str::to_owned));
    all.sort_unstable();
    all.dedup();
    all
}

fn metrics_address(fields: &Fields<'_>) -> SocketAddr {
    let listen: SocketAddr = fields.get("listen");
    if !listen.ip().is_loopback() {
        let what =
            "everyone who reaches this address can read the metrics: nothing asks who they are";
        fields.warn("listen", what.to_owned());
    }
    listen
}

fn metrics_path(fields: &Fields<'_>) -> String {
    let path: String = fields.get("path");
    if matches!(path.as_str(), "/healthz" | "/readyz") {
        let what = format!("{path} is taken by the state of health");
        fields.refuse("path", Message::allowed(what, ABSOLUTE.what));
    }
    path
}

/// Reads `audit` of the file.
pub(crate) fn audit(top: &Fields<'_>) -> Option<Audit> {
    top.switch("audit", false).map(|audit| Audit::read(&audit))
}

/// Reads `usage` of the file.
pub(crate) fn usage(top: &Fields<'_>) -> Option<Usage> {
    top.switch("usage", false).map(|usage| Usage::read(&usage))
}

/// Reads `metrics` of the file.
pub(crate) fn metrics(top: &Fields<'_>) -> Option<Metrics> {
    // `true` names no address: the section then misses its required key.
    top.switch("metrics", false)
        .map(|metrics| Metrics::read(&metrics))
}
