//! Upstream servers over HTTP: the client of this program, hyper with rustls and the roots of webpki, as rmcp's
//! transport wants it. Redirects are not followed, so headers go only where the configuration says.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, BodyStream, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rmcp::model::{ClientJsonRpcMessage, ErrorData, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::{
    AuthRequiredError, StreamableHttpClient, StreamableHttpClientTransportConfig,
    StreamableHttpError, StreamableHttpPostResponse,
};
use rustls::{ClientConfig, RootCertStore};
use sse_stream::{Sse, SseStream};
use thiserror::Error;
use url::Url;

use crate::bounds::{ERROR_BYTES, MESSAGE_BYTES};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";

/// The client.
#[derive(Clone)]
pub(super) struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// Why a request failed. Addresses and headers are not in it.
#[derive(Debug, Error)]
pub(super) enum HttpError {
    #[error("the server cannot be reached")]
    Request(#[source] hyper_util::client::legacy::Error),
    #[error("the answer ended early or is larger than {MESSAGE_BYTES} bytes")]
    Body,
    #[error("a header or the address cannot be sent")]
    Form(#[from] http::Error),
    #[error("a message cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

type Failure = StreamableHttpError<HttpError>;

impl HttpClient {
    pub(super) fn new() -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(builder.with_root_certificates(roots).with_no_client_auth())
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    pub(super) fn transport(
        self,
        url: &Url,
        headers: &HashMap<HeaderName, HeaderValue>,
    ) -> StreamableHttpClientTransport<Self> {
        let config = StreamableHttpClientTransportConfig::with_uri(url.as_str())
            .custom_headers(headers.clone())
            .max_sse_event_size(MESSAGE_BYTES)
            .max_json_response_size(MESSAGE_BYTES)
            .max_error_response_size(ERROR_BYTES);
        StreamableHttpClientTransport::with_client(self, config)
    }

    async fn send(&self, request: Wanted<'_>) -> Result<Response<Incoming>, Failure> {
        let mut all = HeaderMap::new();
        all.extend(request.headers);
        let accept = HeaderValue::from_static("application/json, text/event-stream");
        all.insert(header::ACCEPT, accept);
        if !request.body.is_empty() {
            all.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
        }
        let optional = [(SESSION, request.session), (LAST_EVENT, request.last_event)];
        for (name, value) in optional {
            if let Some(value) = value {
                let value = HeaderValue::try_from(value).map_err(|error| form(error.into()))?;
                all.insert(name, value);
            }
        }
        let built = Request::builder().method(request.method).uri(request.uri);
        let mut built = built.body(Full::new(request.body)).map_err(form)?;
        *built.headers_mut() = all;
        let response = self.client.request(built).await;
        let response =
            response.map_err(|error| StreamableHttpError::Client(HttpError::Request(error)))?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = response.headers().get(header::WWW_AUTHENTICATE);
            let challenge = challenge
                .and_then(|value| value.to_str().ok())
                .unwrap_or("");
            return Err(StreamableHttpError::AuthRequired(AuthRequiredError::new(
                cut(challenge),
            )));
        }
        Ok(response)
    }
}

fn form(error: http::Error) -> Failure {
    StreamableHttpError::Client(HttpError::Form(error))
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(200)].to_owned()
}

/// What is to be sent.
struct Wanted<'a> {
    method: Method,
    uri: &'a str,
    headers: HashMap<HeaderName, HeaderValue>,
    session: Option<&'a str>,
    last_event: Option<&'a str>,
    body: Bytes,
}

fn media_type(response: &Response<Incoming>) -> String {
    let value = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value
        .and_then(|value| value.split(';').next())
        .unwrap_or("");
    essence.trim().to_ascii_lowercase()
}

/// The whole body, up to `most` bytes.
async fn body(response: Response<Incoming>, most: usize) -> Result<Bytes, Failure> {
    let read = Limited::new(response.into_body(), most).collect().await;
    Ok(read
        .map_err(|_| StreamableHttpError::Client(HttpError::Body))?
        .to_bytes())
}

/// The events of a body. One that is larger than `most` bytes ends the stream with an error, before it is kept.
fn events(
    response: Response<Incoming>,
    most: usize,
) -> BoxStream<'static, Result<Sse, sse_stream::Error>> {
    // Bytes since the last empty line, which ends an event.
    let mut since = 0usize;
    let mut line_is_empty = true;
    let chunks = BodyStream::new(response.into_body())
        .try_filter_map(|frame| async { Ok(frame.into_data().ok()) });
    let bounded = chunks.map_err(|_| HttpError::Body).and_then(move |chunk| {
        for byte in &chunk {
            since += 1;
            match byte {
                b'\n' if line_is_empty => since = 0,
                b'\n' => line_is_empty = true,
                b'\r' => {}
                _ => line_is_empty = false,
            }
            if since > most {
                return std::future::ready(Err(HttpError::Body));
            }
        }
        std::future::ready(Ok(chunk))
    });
    SseStream::from_bytes_stream(bounded).boxed()
}

/// The answer of an error status: the server's own JSON-RPC error where there is one.
async fn refused(
    message: &ClientJsonRpcMessage,
    response: Response<Incoming>,
    session: Option<String>,
) -> Result<StreamableHttpPostResponse, Failure> {
    let status = response.status();
    let is_json = media_type(&response) == JSON;
    let bytes = body(response, MESSAGE_BYTES).await?;
    if is_json
        && let Ok(error @ JsonRpcMessage::Error(_)) =
            serde_json::from_slice::<ServerJsonRpcMessage>(&bytes)
    {
        return Ok(StreamableHttpPostResponse::Json(error, session));
    }
    // A request gets its error; a notification has nobody who waits.
    match message {
        JsonRpcMessage::Request(request) => {
            let error = ErrorData::invalid_request(format!("HTTP {status}"), None);
            let error = ServerJsonRpcMessage::error(error, Some(request.id.clone()));
            Ok(StreamableHttpPostResponse::Json(error, session))
        }
        _ => Err(StreamableHttpError::UnexpectedServerResponse(Cow::Owned(
            format!("HTTP {status}"),
        ))),
    }
}

impl StreamableHttpClient for HttpClient {
    type Error = HttpError;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        _auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Failure> {
        let text = serde_json::to_vec(&message)
            .map_err(|error| StreamableHttpError::Client(error.into()))?;
        let wanted = Wanted {
            method: Method::POST,
            uri: &uri,
            headers: custom_headers,
            session: session_id.as_deref(),
            last_event: None,
            body: Bytes::from(text),
        };
        let response = self.send(wanted).await?;
        // Statuses first.
        let status = response.status();
        if status == StatusCode::NOT_FOUND && session_id.is_some() {
            return Err(StreamableHttpError::SessionExpired);
        }
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        let session = response.headers().get(SESSION);
        let session = session
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        if !status.is_success() {
            return refused(&message, response, session).await;
        }
        // Then the answer, which only a request waits for.
        if !matches!(message, JsonRpcMessage::Request(_)) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        match media_type(&response).as_str() {
            EVENTS => Ok(StreamableHttpPostResponse::Sse(
                events(response, MESSAGE_BYTES),
                session,
            )),
            JSON => {
                let bytes = body(response, MESSAGE_BYTES).await?;
                Ok(StreamableHttpPostResponse::Json(
                    serde_json::from_slice(&bytes)?,
                    session,
                ))
            }
            other => Err(StreamableHttpError::UnexpectedContentType(Some(cut(other)))),
        }
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        _auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Failure> {
        let wanted = Wanted {
            method: Method::DELETE,
            uri: &uri,
            headers: custom_headers,
            session: Some(&session_id),
            last_event: None,
            body: Bytes::new(),
        };
        // A server that keeps its sessions answers 405, which is as good.
        self.send(wanted).await.map(drop)
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        _auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, sse_stream::Error>>, Failure> {
        let wanted = Wanted {
            method: Method::GET,
            uri: &uri,
            headers: custom_headers,
            session: session_id.as_deref(),
            last_event: last_event_id.as_deref(),
            body: Bytes::new(),
        };
        let response = self.send(wanted).await?;
        match response.status() {
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_FOUND => {
                Err(StreamableHttpError::ServerDoesNotSupportSse)
            }
            status if !status.is_success() => Err(StreamableHttpError::UnexpectedServerResponse(
                Cow::Owned(format!("HTTP {status}")),
            )),
            _ if media_type(&response) != EVENTS => {
                Err(StreamableHttpError::ServerDoesNotSupportSse)
            }
            _ => Ok(events(response, MESSAGE_BYTES)),
        }
    }
}
