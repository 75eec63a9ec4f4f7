//! Traces, and the collector that they are sent to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use crate::diagnostic::shown;
use crate::fields::Fields;
use crate::keys::{FILE, Format, HEADER, Key, Kind, TEXT, integer, map, number, text, time};
use crate::secret::{SecretRef, SecretSource, SecretText};
use crate::section::{Parse, Record, Words, section, words};
use crate::tree::Message;
use crate::value::from_text;

words! {
    /// How spans are sent.
    pub enum TraceProtocol {
        /// OTLP over HTTP, in the binary form.
        HttpProtobuf = "http/protobuf",
        /// OTLP over gRPC.
        Grpc = "grpc",
    }
}

words! {
    /// Clients whose traces are continued.
    pub enum TraceParents {
        /// The trusted proxies.
        TrustedProxies = "trusted_proxies",
        /// All.
        Everyone = "everyone",
        /// None.
        Nobody = "nobody",
    }
}

section! {
    /// Traces of requests, which are sent to a collector by the OpenTelemetry protocol (OTLP). `tracing: true` takes
    /// everything from the variables `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_PROTOCOL`,
    /// `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_TRACES_SAMPLER_ARG`
    /// of the server, and from the defaults. A key that is set here precedes its variable.
    pub struct Tracing "tracing" {
        /// The URL of the collector. For `http/protobuf`, `/v1/traces` is appended if the URL has no path.
        pub endpoint: Option<Uri> = text(COLLECTOR).like(&["http://127.0.0.1:4318"])
            .derived("`OTEL_EXPORTER_OTLP_ENDPOINT`, else port 4318 of 127.0.0.1, or 4317 for `grpc`"),
        /// How spans are sent.
        pub protocol: Option<TraceProtocol> = Key::of(TraceProtocol::KIND)
            .derived("`OTEL_EXPORTER_OTLP_PROTOCOL`, else `http/protobuf`"),
        /// Headers of each request to the collector. A credential comes from a file or a variable.
        pub headers: BTreeMap<String, SecretRef> = map(HEADER, &Kind::Either(&[Kind::Text(TEXT), SecretRef::KIND]))
            .like(&["{authorization: {file: token.txt}}"]) => headers,
        /// Certificates (PEM) to trust for the collector, in place of the public ones.
        pub ca: Option<PathBuf> = text(FILE),
        /// How long the collector may take to answer.
        pub timeout: Duration = time(100, 60_000).default("10s"),
        /// The share of traces that are recorded, from 0 to 1. If the trace of a client is continued, the client has
        /// decided.
        pub sampling: Option<f64> = number(0.0, 1.0).derived("`OTEL_TRACES_SAMPLER_ARG`, else 1"),
        /// Clients whose `traceparent` is continued. The trace of another client is left out, and a new one begins.
        pub parents: TraceParents = Key::of(TraceParents::KIND).default("trusted_proxies"),
        /// The name of this server in its traces.
        pub service_name: Option<String> = text(TEXT).derived("`OTEL_SERVICE_NAME`, else `stockade`"),
        /// Further attributes of this server in its traces.
        pub attributes: BTreeMap<String, String> = map(TEXT, &Kind::Text(TEXT))
            .like(&["{deployment.environment.name: production}"]) => attributes,
        /// Spans that wait for the collector. Further spans are dropped and counted.
        pub queue: usize = integer(64, 65_536).default("2048"),
    }
}

const COLLECTOR: Format = Format {
    what: "a URL with http:// or https:// and a host, as http://127.0.0.1:4318",
    pattern: Some(r"^https?://\S+$"),
    expect: None,
};

from_text! {
    Uri = collector,
}

fn collector(text: &str) -> Result<Uri, Message> {
    let found = text.parse::<Uri>().ok();
    let found = found.filter(|uri| {
        let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
        is_web && uri.host().is_some_and(|host| !host.is_empty()) && !text.contains('@')
    });
    found.ok_or_else(|| {
        let what = format!("{:?} is not the URL of a collector", shown(text));
        Message::allowed(what, COLLECTOR.what)
    })
}

fn headers(fields: &Fields<'_>) -> BTreeMap<String, SecretRef> {
    let mut out = BTreeMap::new();
    for (name, found) in fields.entries("headers") {
        if let Some(text) = found.node.text() {
            let given = SecretRef {
                source: SecretSource::Given,
                value: Some(SecretText::new(text.to_owned())),
            };
            out.insert(name.to_owned(), given);
        } else if let Some(section) = Fields::new(fields.reader(), SecretRef::SECTION, &found) {
            if section.has("file") ^ section.has("variable") {
                out.insert(name.to_owned(), SecretRef::read(&section));
            } else {
                let what = "a secret comes from one place";
                let allowed = "either file: or variable:";
                let message = Message::allowed(what, allowed);
                fields.reader().refuse(&found, message);
            }
        }
    }
    out
}

fn attributes(fields: &Fields<'_>) -> BTreeMap<String, String> {
    let entries = fields.entries("attributes").into_iter();
    entries
        .filter_map(|(name, found)| {
            let value = String::parse(fields.reader(), &found, &Kind::Text(TEXT))?;
            Some((name.to_owned(), value))
        })
        .collect()
}

/// Reads `tracing` of the file.
pub(crate) fn tracing(top: &Fields<'_>) -> Option<Tracing> {
    top.switch("tracing", false)
        .map(|tracing| Tracing::read(&tracing))
}
