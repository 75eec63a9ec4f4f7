//! The answer to one request or batch, over HTTP or in a message of a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::body::{Body, Bytes};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use jsonrpsee::core::server::MethodResponse;
use jsonrpsee::server::http::{call_with_service, response};
use jsonrpsee::server::{BatchRequestConfig, HttpBody, HttpRequest, HttpResponse};
use jsonrpsee::types::error::ErrorCode;
use jsonrpsee::types::{ErrorObjectOwned, Id};
use stockade_callers::{Caller, Noted};

use crate::BoxError;
use crate::message::{Checked, check};
use crate::methods::{Exports, ServerContext, Silent};

/// For the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers one request or batch. [`is_silent`] says whether there is anything to send.
pub(crate) async fn answer<B>(
    shared: &Arc<ServerContext>,
    caller: Option<Caller>,
    request: HttpRequest<B>,
) -> HttpResponse
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
    let exports = Exports::new(Arc::clone(shared), caller);
    let mut response = call_with_service(request, batches, limits.request_bytes, exports).await;
    if let Some(noted) = response.extensions_mut().remove::<Noted>() {
        noted.apply(&mut response);
    }
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
