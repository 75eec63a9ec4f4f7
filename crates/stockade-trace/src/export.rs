//! The way to a collector: OTLP over HTTP and over gRPC (<https://opentelemetry.io/docs/specs/otlp/>).
//!
//! gRPC needs one method with one message in each direction. That is an HTTP/2 request with five bytes in front of the
//! message and the status in the trailers (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>), so that
//! both protocols share one client.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use prost::Message;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::options::{Protocol, TraceError, TraceOptions};

/// Bytes of an answer.
const MOST_ANSWER: usize = 64 << 10;

/// How long a connection that is not used stays open.
const IDLE: Duration = Duration::from_secs(60);

/// The method of the service that takes spans.
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

const GRPC_STATUS: &str = "grpc-status";

/// Sends spans.
pub(crate) struct Exporter {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    protocol: Protocol,
    headers: HeaderMap,
    resource: ResourceAttributesWithSchema,
    timeout: Duration,
}

/// Why a batch was not accepted. Contains nothing of the collector's texts.
pub(crate) struct Failure {
    why: Why,
    /// Another attempt may be accepted.
    pub(crate) may_pass: bool,
    /// When the collector wants it.
    pub(crate) retry_after: Option<Duration>,
}

enum Why {
    Timeout(Duration),
    Connection(String),
    Status(StatusCode),
    Grpc(String),
    Answer,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::Timeout(limit) => write!(f, "it did not answer within {} s", limit.as_secs()),
            Why::Connection(error) => f.write_str(error),
            Why::Status(status) => write!(f, "it answered with the status {}", status.as_u16()),
            Why::Grpc(status) => write!(f, "it answered with the gRPC status {status}"),
            Why::Answer => f.write_str("its answer is not one of a collector"),
        }
    }
}

impl Failure {
    fn new(why: Why, may_pass: bool) -> Self {
        Self {
            why,
            may_pass,
            retry_after: None,
        }
    }
}

impl Exporter {
    pub(crate) fn new(options: &TraceOptions) -> Result<Self, TraceError> {
        let uri = target(options).ok_or_else(|| TraceError::Endpoint(options.endpoint.clone()))?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(options.ca.as_deref())?)
            .https_or_http();
        let grpc = options.protocol == Protocol::Grpc;
        let connector = if grpc {
            connector.enable_http2().build()
        } else {
            connector.enable_http1().build()
        };
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .http2_only(grpc)
            .build(connector);
        let mut headers = HeaderMap::new();
        for (name, value) in &options.headers {
            let mut value = value.clone();
            value.set_sensitive(true);
            headers.append(name.clone(), value);
        }
        let agent = concat!("stockade/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        let content = if grpc {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            "application/grpc"
        } else {
            "application/x-protobuf"
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
        let attributes = options.resource.iter();
        let attributes = attributes.map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
        let resource = Resource::builder_empty()
            .with_attributes(attributes)
            .build();
        Ok(Self {
            client,
            uri,
            protocol: options.protocol,
            headers,
            resource: (&resource).into(),
            timeout: options.timeout,
        })
    }

    /// The body of a request with these spans.
    pub(crate) fn encode(&self, spans: Vec<SpanData>) -> Bytes {
        let message = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(spans, &self.resource),
        };
        let length = message.encoded_len();
        let mut body = BytesMut::with_capacity(length + 5);
        if self.protocol == Protocol::Grpc {
            // Not compressed. A batch of bounded spans is far below the 4 GiB of a message.
            body.put_u8(0);
            body.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        }
        body.put_slice(&message.encode_to_vec());
        body.freeze()
    }

    /// Sends a body once. Returns the number of spans that were rejected.
    pub(crate) async fn send(&self, body: Bytes) -> Result<u64, Failure> {
        let sending = tokio::time::timeout(self.timeout, self.request(body));
        match sending.await {
            Ok(result) => result,
            Err(_) => Err(Failure::new(Why::Timeout(self.timeout), true)),
        }
    }

    async fn request(&self, body: Bytes) -> Result<u64, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if self.protocol == Protocol::Grpc {
            *request.version_mut() = Version::HTTP_2;
        }
        let response = self.client.request(request).await;
        let response =
            response.map_err(|error| Failure::new(Why::Connection(chain(&error)), true))?;
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            return Err(refused(head.status, &head.headers));
        }
        let body = Limited::new(body, MOST_ANSWER).collect().await;
        let body = body.map_err(|_| Failure::new(Why::Answer, false))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let mut message = body.to_bytes();
        if self.protocol == Protocol::Grpc {
            grpc_status(&head.headers, &trailers)?;
            message = match message.len() {
                0..=5 => Bytes::new(),
                _ => message.slice(5..),
            };
        }
        // The spans are accepted; a message that cannot be read says of none that it was not.
        let answer = ExportTraceServiceResponse::decode(message).unwrap_or_default();
        let rejected = answer.partial_success.map_or(0, |part| part.rejected_spans);
        Ok(u64::try_from(rejected).unwrap_or(0))
    }
}

/// Where spans are sent to.
fn target(options: &TraceOptions) -> Option<Uri> {
    let endpoint = &options.endpoint;
    if !matches!(endpoint.scheme_str(), Some("http" | "https")) || endpoint.host().is_none() {
        return None;
    }
    if options.protocol == Protocol::HttpProtobuf {
        return Some(endpoint.clone());
    }
    let mut parts = endpoint.clone().into_parts();
    parts.path_and_query = Some(GRPC_PATH.parse().ok()?);
    Uri::from_parts(parts).ok()
}

fn tls(ca: Option<&Path>) -> Result<ClientConfig, TraceError> {
    let mut roots = RootCertStore::empty();
    match ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let fail = |why: String| TraceError::Roots {
                path: path.to_owned(),
                why,
            };
            let file = CertificateDer::pem_file_iter(path);
            for certificate in file.map_err(|error| fail(error.to_string()))? {
                let certificate = certificate.map_err(|error| fail(error.to_string()))?;
                let added = roots.add(certificate);
                added.map_err(|error| fail(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(fail("it contains no certificate (PEM)".to_owned()));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TraceError::Tls(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Which answers may become others (OTLP, "Retryable Response Codes").
fn refused(status: StatusCode, headers: &HeaderMap) -> Failure {
    let may_pass = matches!(status.as_u16(), 429 | 502 | 503 | 504);
    let seconds = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    Failure {
        retry_after: seconds.map(Duration::from_secs),
        ..Failure::new(Why::Status(status), may_pass)
    }
}

/// The status in the trailers, or in the head where there is no message.
fn grpc_status(head: &HeaderMap, trailers: &HeaderMap) -> Result<(), Failure> {
    let status = trailers.get(GRPC_STATUS).or_else(|| head.get(GRPC_STATUS));
    let code = status.and_then(|status| status.to_str().ok()?.parse::<u8>().ok());
    match code {
        None => Err(Failure::new(Why::Answer, false)),
        Some(0) => Ok(()),
        Some(code) => {
            let may_pass = matches!(code, 1 | 4 | 8 | 10 | 11 | 14 | 15);
            Err(Failure::new(Why::Grpc(code.to_string()), may_pass))
        }
    }
}

/// An error with what it came of.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
