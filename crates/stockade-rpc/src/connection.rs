//! One connection: HTTP/1.1, until it becomes a WebSocket.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jsonrpsee::server::http::{content_type_is_json, response};
use jsonrpsee::server::ws::is_upgrade_request;
use jsonrpsee::server::{HttpBody, HttpRequest, HttpResponse};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::answer::{answer, text};
use crate::client::Client;
use crate::listen::Stream;
use crate::websocket;

/// For all headers of a request, and between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Most that is read ahead of a connection.
const BUFFER: usize = 64 << 10;

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
    let caller = match &client.shared.authority {
        Some(authority) => match authority.authenticate(request.headers(), client.address) {
            Ok(caller) => Some(caller),
            Err(response) => return response.map(HttpBody::new),
        },
        None => None,
    };
    if is_upgrade_request(&request) {
        return websocket::open(client, caller, request);
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
    let Some(caller) = caller else {
        return answer(&client.shared, None, request).await;
    };
    let headers = request.headers().clone();
    tokio::select! {
        biased;
        response = answer(&client.shared, Some(caller.clone()), request) => response,
        () = caller.until_invalid() => caller.ended(&headers).map(HttpBody::new),
    }
}
