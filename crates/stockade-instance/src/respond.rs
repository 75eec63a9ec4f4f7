//! From a guest's answer to an HTTP response.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use stockade_http::{Body, BoxError, ServedBy, Upgrade, empty_body, full_body};

use crate::error::FetchError;
use crate::mirror::{Buffered, GuestReply, GuestStream, Mirror, OwnedStream, ReplyBody, Slot};
use crate::wire::{Head, Prepared};

pub(crate) fn respond(
    prepared: &mut Prepared,
    reply: GuestReply,
    cold: bool,
    retried: bool,
) -> Result<Response<Body>, FetchError> {
    let mirror = Arc::clone(&reply.slot.mirror);
    let served_by = ServedBy {
        instance: Arc::clone(&mirror.pool.options.name),
        mirror: mirror.number,
        cold,
        retried,
    };
    let mut response =
        build(prepared, reply, &mirror).map_err(|why| FetchError::BadResponse { why })?;
    response.extensions_mut().insert(served_by);
    Ok(response)
}

fn build(
    prepared: &mut Prepared,
    reply: GuestReply,
    mirror: &Arc<Mirror>,
) -> Result<Response<Body>, String> {
    let GuestReply {
        id,
        head,
        body,
        socket,
        request_body,
        slot,
    } = reply;
    let mut head = head?;
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = head.status;
    parts.headers = std::mem::take(&mut head.headers);
    parts.extensions = std::mem::take(&mut prepared.extensions);
    if let Some(reason) = head.reason.take() {
        parts.extensions.insert(reason);
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        if !prepared.upgrade {
            return Err("its status is 101, and the client asked for no WebSocket".to_owned());
        }
        let socket = socket
            .and_then(crate::mirror::AcceptedSocket::open)
            .ok_or("its status is 101, and there is no WebSocket with it")?;
        parts.extensions.insert(Upgrade::new(socket));
        return Ok(Response::from_parts(parts, empty_body()));
    }
    if head.has_no_body(&prepared.method) {
        if let Some(length) = length_without_body(&prepared.method, &head, &body) {
            parts.headers.insert(CONTENT_LENGTH, length.into());
        }
        return Ok(Response::from_parts(parts, empty_body()));
    }
    let limit = mirror.limits().response_body;
    let streamed = |stream, head: &Head, headers: &mut HeaderMap| {
        if let Some(length) = head.content_length {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        ResponseBody {
            stream,
            left: head.content_length,
            sent: 0,
            limit,
            over: false,
            failure: None,
            id,
            slot,
            _request_body: request_body,
        }
        .boxed_unsync()
    };
    let body = match body {
        ReplyBody::None => empty_body(),
        ReplyBody::Whole(bytes, count) => {
            if limit.is_some_and(|limit| bytes.len() as u64 > limit) {
                return Err(format!(
                    "its body has {} bytes; {} are allowed",
                    bytes.len(),
                    limit.unwrap_or(0)
                ));
            }
            whole(bytes, count)
        }
        ReplyBody::Stream(stream) => streamed(Source::Guest(stream), &head, &mut parts.headers),
        ReplyBody::Returned(body) => streamed(Source::Host(body), &head, &mut parts.headers),
    };
    Ok(Response::from_parts(parts, body))
}

/// The `Content-Length` of a response that has no body, where it has one: what the response to GET has, which is the body's
/// own length where that is known, whatever the guest says.
fn length_without_body(method: &Method, head: &Head, body: &ReplyBody) -> Option<u64> {
    let length = match body {
        ReplyBody::Whole(bytes, _) if !bytes.is_empty() => Some(bytes.len() as u64),
        ReplyBody::Whole(..) | ReplyBody::None | ReplyBody::Stream(_) | ReplyBody::Returned(_) => {
            head.content_length
        }
    };
    let has_length = *method == Method::HEAD || head.status == StatusCode::NOT_MODIFIED;
    length.filter(|_| has_length && !no_length(head))
}

/// No `Content-Length` may be sent with these (RFC 9110, section 8.6).
fn no_length(head: &Head) -> bool {
    head.status == StatusCode::NO_CONTENT
}

fn whole(bytes: Bytes, count: Option<Buffered>) -> Body {
    let body = full_body(bytes);
    match count {
        None => body,
        // Counted until it is sent or dropped.
        Some(count) => body
            .map_frame(move |frame| {
                let _ = &count;
                frame
            })
            .boxed_unsync(),
    }
}

/// Where the chunks of a response come from.
enum Source {
    Guest(GuestStream),
    /// A body of the host's that the guest has passed on.
    Host(Body),
}

/// A body that is streamed. It holds the request's place until its end; dropped before, the guest
/// is notified that the client is gone.
struct ResponseBody {
    stream: Source,
    /// Bytes that are still to come, where the guest said how many.
    left: Option<u64>,
    sent: u64,
    limit: Option<u64>,
    over: bool,
    /// What is wrong with the frame that was read last.
    failure: Option<BoxError>,
    id: u64,
    slot: Slot,
    _request_body: Option<OwnedStream>,
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if !self.over {
            self.slot.mirror.notify_abort(self.id);
        }
    }
}

impl ResponseBody {
    fn check(&mut self, bytes: u64) -> Result<(), BoxError> {
        self.sent = self.sent.saturating_add(bytes);
        if let Some(limit) = self.limit
            && self.sent > limit
        {
            return Err(format!("the response's body is larger than {limit} bytes").into());
        }
        if let Some(left) = &mut self.left {
            *left = left
                .checked_sub(bytes)
                .ok_or("the response's body is larger than its content-length")?;
        }
        Ok(())
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(failure) = this.failure.take() {
            return Poll::Ready(Some(Err(failure)));
        }
        let frame = match &mut this.stream {
            Source::Guest(stream) => Pin::new(stream).poll_frame(cx),
            Source::Host(body) => Pin::new(body).poll_frame(cx),
        };
        match std::task::ready!(frame) {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                match this.check(bytes) {
                    Ok(()) => Poll::Ready(Some(Ok(frame))),
                    Err(error) => {
                        // A head that waits to be written goes out before.
                        this.failure = Some(error);
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                }
            }
            Some(Err(error)) => {
                this.over = true;
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.over = true;
                if this.left.is_some_and(|left| left > 0) {
                    this.left = None;
                    let why = "the response's body is smaller than its content-length";
                    return Poll::Ready(Some(Err(why.into())));
                }
                Poll::Ready(None)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn is_end_stream(&self) -> bool {
        self.failure.is_none()
            && match &self.stream {
                Source::Guest(stream) => http_body::Body::is_end_stream(stream),
                Source::Host(body) => http_body::Body::is_end_stream(body),
            }
    }
}
