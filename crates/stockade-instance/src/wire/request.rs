//! `http.request`, as the guest gets it.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, HeaderMap};
use http::{Extensions, Method, Request, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use stockade_http::{Body, Client, ClientCertificate};
use stockade_protocol::{Attachment, Payload, push_displayed, push_string, push_text};
use stockade_trace::{TRACEPARENT, TRACESTATE, Trace};

use crate::error::FetchError;
use crate::limits::InstanceLimits;

/// Bodies up to this size go with the request; larger ones are streams. In bytes.
const INLINE: u64 = 64 << 10;

/// The body of a request.
pub(crate) enum RequestBody {
    None,
    Whole(Bytes),
    /// Taken by the first attempt.
    Stream(Option<Body>),
}

/// A request, ready to be given to a mirror.
pub(crate) struct Prepared {
    pub(crate) method: Method,
    pub(crate) body: RequestBody,
    pub(crate) upgrade: bool,
    /// Who asks, if a client does.
    pub(crate) client: Option<Arc<Client>>,
    /// Set where the request is traced.
    pub(crate) trace: Option<Trace>,
    /// Empty. The response's extensions take their memory.
    pub(crate) extensions: Extensions,
    /// `,"GET","https://…",["name","value"`, without the end of the headers.
    head: String,
    /// What follows the body in the message: `cf` as JSON.
    cf: String,
}

impl Prepared {
    /// Encodes the head and collects a small body.
    ///
    /// # Errors
    /// When the body is too large, or comes to nothing.
    pub(crate) async fn new(
        request: Request<Body>,
        limits: &InstanceLimits,
    ) -> Result<Self, FetchError> {
        let (mut parts, body) = request.into_parts();
        let asks = parts.extensions.remove::<Client>().map(Arc::new);
        let trace = parts.extensions.remove::<Trace>();
        parts.extensions.clear();
        // The span that the guest continues from does not exist yet.
        if trace.as_ref().is_some_and(Trace::is_recorded) {
            stockade_trace::remove_context(&mut parts.headers);
        }
        let client = asks.as_deref();
        let mut head = String::with_capacity(512);
        head.push(',');
        push_string(&mut head, parts.method.as_str());
        head.push(',');
        push_url(&mut head, &parts.uri, &parts.headers, client);
        head.push(',');
        push_headers(&mut head, &parts.headers);
        head.pop();
        let cf = client.map_or_else(|| "null".to_owned(), |client| cf(client, parts.version));
        let upgrade = client.is_some_and(|client| client.upgrade);
        Ok(Self {
            body: take_body(body, limits).await?,
            method: parts.method,
            upgrade,
            client: asks,
            trace,
            extensions: parts.extensions,
            head,
            cf,
        })
    }

    /// Whether another mirror may have it after one has failed: doing it twice is as doing it once
    /// (RFC 9110, section 9.2.2), and all of it is still here.
    pub(crate) fn is_replayable(&self) -> bool {
        !self.upgrade && self.method.is_idempotent() && self.is_whole()
    }

    /// Whether no part of it was taken away by an attempt.
    pub(crate) fn is_whole(&self) -> bool {
        !matches!(self.body, RequestBody::Stream(_))
    }

    /// The message; `stream` names the body's stream where it is one, and `span` is the one of the guest's work where it
    /// is recorded.
    pub(crate) fn message(&self, id: u64, stream: Option<u64>, span: Option<&Trace>) -> Payload {
        let mut json = String::with_capacity(self.head.len() + self.cf.len() + 48);
        let _ = write!(json, "[{id}");
        json.push_str(&self.head);
        if let Some(span) = span {
            push_context(&mut json, span);
        }
        json.push(']');
        let mut bytes = Vec::new();
        match (&self.body, stream) {
            (_, Some(stream)) => {
                let _ = write!(json, ",{},", Attachment::Stream(stream).json());
            }
            (RequestBody::Whole(body), None) => {
                let _ = write!(json, ",{},", Attachment::Bytes(0).json());
                bytes.push(body.to_vec());
            }
            (RequestBody::None | RequestBody::Stream(_), None) => json.push_str(",null,"),
        }
        json.push_str(&self.cf);
        json.push_str(if self.trace.is_some() { ",true]" } else { "]" });
        Payload {
            marked: stream.is_some() || !bytes.is_empty(),
            json,
            bytes,
        }
    }
}

/// Adds the headers that name a span to a list of headers that is not closed yet.
fn push_context(out: &mut String, span: &Trace) {
    let parent = Some((TRACEPARENT, span.traceparent()));
    let state = span.tracestate().map(|state| (TRACESTATE, state));
    for (name, value) in parent.into_iter().chain(state) {
        if !out.ends_with('[') {
            out.push(',');
        }
        push_string(out, name.as_str());
        out.push(',');
        push_string(out, &value);
    }
}

async fn take_body(mut body: Body, limits: &InstanceLimits) -> Result<RequestBody, FetchError> {
    if body.is_end_stream() {
        return Ok(RequestBody::None);
    }
    let hint = body.size_hint();
    if let Some(limit) = limits.request_body
        && hint.lower() > limit
    {
        return Err(FetchError::RequestTooLarge { limit });
    }
    if hint.upper().is_none_or(|upper| upper > INLINE) {
        return Ok(RequestBody::Stream(Some(body)));
    }
    let mut whole = Vec::with_capacity(usize::try_from(hint.lower()).unwrap_or(0));
    loop {
        let frame = tokio::time::timeout(limits.stall, body.frame()).await;
        match frame {
            Ok(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    whole.extend_from_slice(data);
                }
                if whole.len() as u64 > INLINE {
                    // A body that says less than it holds.
                    return Err(FetchError::RequestTooLarge { limit: INLINE });
                }
            }
            Ok(None) => return Ok(RequestBody::Whole(whole.into())),
            Ok(Some(Err(_))) | Err(_) => return Err(FetchError::ClientGone),
        }
    }
}

/// The URL as the client sees it: the request's own if that is whole, else put together.
fn push_url(out: &mut String, uri: &Uri, headers: &HeaderMap, client: Option<&Client>) {
    if uri.scheme().is_some() && uri.authority().is_some() {
        return push_displayed(out, uri);
    }
    let scheme = match client {
        Some(client) if client.secure.is_some() => "https",
        _ => "http",
    };
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| uri.authority().map(http::uri::Authority::as_str))
        .unwrap_or("localhost");
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let slash = if path.starts_with('/') { "" } else { "/" };
    push_displayed(out, &format_args!("{scheme}://{host}{slash}{path}"));
}

/// `["name","value",…]`. Bytes of values are characters of the same number, as in the platform's byte
/// strings (<https://webidl.spec.whatwg.org/#idl-ByteString>).
pub(super) fn push_headers(out: &mut String, headers: &HeaderMap) {
    out.push('[');
    for (index, (name, value)) in headers.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_string(out, name.as_str());
        out.push(',');
        push_value(out, value.as_bytes());
    }
    out.push(']');
}

/// A header's value, which never begins with NUL: [`http::HeaderValue`] holds none.
pub(super) fn push_value(out: &mut String, value: &[u8]) {
    match std::str::from_utf8(value) {
        Ok(text) if text.is_ascii() => push_string(out, text),
        _ => {
            let text: String = value.iter().copied().map(char::from).collect();
            push_string(out, &text);
        }
    }
}

/// What the guest reads as `request.cf`, with Cloudflare's names. All texts are escaped as for a message
/// with marks, which changes only texts that begin with NUL.
fn cf(client: &Client, version: Version) -> String {
    let mut out = String::with_capacity(256);
    let mut field = |key: &str, value: &str| {
        out.push_str(if out.is_empty() { "{\"" } else { ",\"" });
        out.push_str(key);
        out.push_str("\":");
        push_text(&mut out, value);
    };
    field("httpProtocol", protocol(version));
    field("requestId", &client.request_id);
    if let Some(tls) = &client.secure {
        field("tlsVersion", &tls.version);
        field("tlsCipher", &tls.cipher);
        if let Some(sni) = &tls.sni {
            field("tlsSni", sni);
        }
    }
    let (ip, port) = (client.address.ip(), client.address.port());
    let _ = write!(out, ",\"clientIp\":\"{ip}\",\"clientPort\":{port}");
    if let Some(tls) = &client.secure {
        out.push_str(",\"tlsClientAuth\":");
        push_client_auth(&mut out, tls.certificate.as_ref());
    }
    if let Some(key) = &client.api_key {
        let _ = write!(out, ",\"apiKey\":{key}");
    }
    if let Some(token) = &client.token {
        let _ = write!(out, ",\"jwt\":{token}");
    }
    out.push('}');
    out
}

fn push_client_auth(out: &mut String, certificate: Option<&ClientCertificate>) {
    let Some(certificate) = certificate else {
        return out.push_str("{\"certPresented\":\"0\",\"certVerified\":\"NONE\"}");
    };
    out.push_str("{\"certPresented\":\"1\",\"certVerified\":\"SUCCESS\"");
    for (key, value) in [
        ("certSubjectDN", &certificate.subject),
        ("certIssuerDN", &certificate.issuer),
        ("certSerial", &certificate.serial),
        ("certFingerprintSHA256", &certificate.fingerprint_sha256),
        ("certNotBefore", &certificate.not_before),
        ("certNotAfter", &certificate.not_after),
    ] {
        let _ = write!(out, ",\"{key}\":");
        push_text(out, value);
    }
    out.push_str(",\"certSan\":[");
    for (index, name) in certificate.san.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_text(out, name);
    }
    out.push_str("]}");
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}
