//! One connection: HTTP/1.1, until it becomes a WebSocket.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jsonrpsee::core::server::MethodResponse;
use jsonrpsee::server::http::{call_with_service, content_type_is_json, response};
use jsonrpsee::server::ws::is_upgrade_request;
use jsonrpsee::server::{BatchRequestConfig, HttpBody, HttpRequest, HttpResponse};
use jsonrpsee::types::error::ErrorCode;
use jsonrpsee::types::{ErrorObjectOwned, Id};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use crate::BoxError;
use crate::listen::Stream;
use crate::message::{Checked, check};
use crate::methods::{Exports, Shared, Silent};
use crate::websocket;

/// For all headers of a request, and between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// For the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Most that is read ahead of a connection.
const BUFFER: usize = 64 << 10;

/// One client, on one connection.
pub(crate) struct Client {
    pub(crate) shared: Arc<Shared>,
    /// It reached a Unix socket: no browser did.
    pub(crate) local: bool,
    /// Set when the server is to come to its end.
    pub(crate) stop: watch::Receiver<bool>,
    /// The connection's place among those that may be open.
    pub(crate) _place: OwnedSemaphorePermit,
    /// The server waits until nobody holds one.
    pub(crate) _alive: mpsc::Sender<Infallible>,
}

impl Client {
    /// Done when the server is to come to its end.
    pub(crate) async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // Without a server it is over as well.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

/// Serves a connection to its end, or to the server's.
pub(crate) async fn serve(stream: Stream, client: Client) {
    match stream {
        Stream::Tcp(stream) => drive(stream, client).await,
        Stream::Unix(stream) => drive(stream, client).await,
    }
}

async fn drive(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, client: Client) {
    let client = Arc::new(client);
    let service = {
        let client = Arc::clone(&client);
        service_fn(move |request| {
            let client = Arc::clone(&client);
            async move { Ok::<_, Infallible>(respond(client, request).await) }
        })
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = client.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("a connection ended: {error}");
    }
}

async fn respond(client: Arc<Client>, request: HttpRequest<Incoming>) -> HttpResponse {
    if !client.local && !client.shared.hosts.admit(&request) {
        return text(
            StatusCode::FORBIDDEN,
            "requests to this host, or from this origin, are not allowed\n",
        );
    }
    if is_upgrade_request(&request) {
        return websocket::open(client, request);
    }
    if request.method() != Method::POST {
        let mut response = response::method_not_allowed();
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    if !content_type_is_json(&request) {
        return response::unsupported_content_type();
    }
    answer(&client.shared, request).await
}

/// Answers one request or batch. [`is_silent`] says whether there is anything to send.
pub(crate) async fn answer<B>(shared: &Arc<Shared>, request: HttpRequest<B>) -> HttpResponse
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let limits = &shared.limits;
    let (parts, body) = request.into_parts();
    if body.size_hint().lower() > u64::from(limits.request_bytes) {
        return response::too_large(limits.request_bytes);
    }
    let reading = Limited::new(body, limits.request_bytes as usize).collect();
    let body = match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(read)) => Vec::from(read.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return response::too_large(limits.request_bytes);
        }
        Ok(Err(_)) => {
            return text(StatusCode::BAD_REQUEST, "the request's body ended early\n");
        }
        Err(_) => {
            return text(
                StatusCode::REQUEST_TIMEOUT,
                "the request's body came too slowly\n",
            );
        }
    };
    let body = match check(body) {
        Checked::Pass(body) => body,
        Checked::Invalid => return refusal(ErrorCode::InvalidRequest),
        Checked::Malformed(true) => return refusal(ErrorCode::ParseError),
        Checked::Malformed(false) => return response::malformed(),
    };
    let request = HttpRequest::from_parts(parts, HttpBody::from(body));
    let batches = BatchRequestConfig::Limit(limits.batch);
    let exports = Exports::new(Arc::clone(shared));
    let mut response = call_with_service(request, batches, limits.request_bytes, exports).await;
    if is_silent(&response) {
        *response.status_mut() = StatusCode::NO_CONTENT;
        *response.body_mut() = HttpBody::empty();
        response.headers_mut().remove(CONTENT_TYPE);
    }
    response
}

fn refusal(code: ErrorCode) -> HttpResponse {
    let error = ErrorObjectOwned::from(code);
    response::from_method_response(MethodResponse::error(Id::Null, error))
}

/// Nothing but notifications: no reply.
pub(crate) fn is_silent(response: &HttpResponse) -> bool {
    response.extensions().get::<Silent>().is_some()
}

pub(crate) fn text(status: StatusCode, message: &'static str) -> HttpResponse {
    let mut response = HttpResponse::new(HttpBody::from(message));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
