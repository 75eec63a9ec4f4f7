//! How traces are sampled, and where they are sent.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

/// How spans are sent to a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// OTLP over HTTP, in the binary form.
    #[default]
    HttpProtobuf,
    /// OTLP over gRPC.
    Grpc,
}

/// How to trace.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceOptions {
    /// The collector: `http` or `https`, and a host. With [`Protocol::HttpProtobuf`] the path is the whole path to which
    /// spans are sent; with [`Protocol::Grpc`] it is ignored.
    pub endpoint: Uri,
    /// How spans are sent.
    pub protocol: Protocol,
    /// Headers of each request to the collector, such as its credentials.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Certificates (PEM) to trust in place of the public ones.
    pub ca: Option<PathBuf>,
    /// The share of traces to record, from 0 to 1, of those that no trusted client has decided about.
    pub ratio: f64,
    /// What describes this program in each span, `service.name` among it.
    pub resource: Vec<(String, String)>,
    /// How long the collector may take to answer.
    pub timeout: Duration,
    /// How long a batch that was not accepted waits before it is sent again. Each further wait is twice as long.
    pub retry_after: Duration,
    /// Spans that may wait for the collector.
    pub queue: usize,
}

/// Why nothing can be traced.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The endpoint is no URL to which spans could be sent.
    #[error(
        "the collector's URL {0} cannot be used\n  fix: give it http:// or https:// and a host, such as http://127.0.0.1:4318"
    )]
    Endpoint(Uri),
    /// The certificates to trust cannot be used.
    #[error("{path} cannot be used as certificates of the collector's authority: {why}")]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// TLS cannot be set up.
    #[error("TLS to the collector cannot be set up: {0}")]
    Tls(String),
}
