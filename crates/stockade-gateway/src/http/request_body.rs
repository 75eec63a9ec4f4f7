//! The body of a request, bounded and timed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use stockade_http::BoxError;
use stockade_limits::Now;
use tokio::time::Sleep;

use crate::access::Refusal;
use crate::filter::body_limit::BodyTooLarge;
use crate::http::connection_state::ConnectionState;
use crate::http::forwarded::remove_identity;
use crate::http::unread_body::UnreadBody;
use crate::limits::Limits;
use crate::rate::{Charges, Unit};
use crate::rejection::Rejection;

/// How far a request's body has been read, shared with the task that answers the request.
#[derive(Debug, Default)]
pub(crate) struct BodyProgress {
    bytes: AtomicU64,
    fault: Mutex<Option<BodyFault>>,
    /// The rest of a body on HTTP/2 that nobody reads.
    pub(crate) unread: UnreadBody,
}

impl BodyProgress {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Why the body was refused.
    pub(crate) fn fault(&self) -> Option<BodyFault> {
        *self.fault.lock()
    }
}

/// Why a request's body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyFault {
    #[error(transparent)]
    TooLarge(#[from] BodyTooLarge),
    #[error("the request's body made too little progress")]
    TooSlow,
    #[error("the request's body is malformed")]
    Malformed(Refusal),
}

impl From<BodyFault> for Rejection {
    fn from(fault: BodyFault) -> Self {
        let (refusal, status, detail) = match fault {
            BodyFault::TooLarge(error) => return error.into(),
            BodyFault::TooSlow => (
                Refusal::BodyTimeout,
                StatusCode::REQUEST_TIMEOUT,
                "The request's body made too little progress.",
            ),
            BodyFault::Malformed(refusal) => (
                refusal,
                StatusCode::BAD_REQUEST,
                "The request's body is malformed.",
            ),
        };
        Self::new(refusal, status, detail).closing()
    }
}

/// Why reading a request's body failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error(transparent)]
    Refused(#[from] BodyFault),
    #[error("the client went away: {0}")]
    Gone(#[source] hyper::Error),
}

/// A request's body as it comes from a client.
pub(crate) struct RequestBody {
    /// None once it is dropped.
    body: Option<Incoming>,
    progress: Arc<BodyProgress>,
    charges: Option<Arc<Charges>>,
    state: Arc<ConnectionState>,
    /// The request's number on its connection.
    number: u64,
    /// Bytes that the body may have, and those of them that have not come yet.
    limit: u64,
    left: u64,
    timeout: Duration,
    rate: u64,
    /// All the time that was spent waiting for the client.
    waited: Duration,
    waiting: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl RequestBody {
    pub(crate) fn new(
        body: Incoming,
        limit: u64,
        limits: &Limits,
        state: Arc<ConnectionState>,
        number: u64,
        progress: Arc<BodyProgress>,
    ) -> Self {
        Self {
            body: Some(body),
            progress,
            charges: None,
            state,
            number,
            limit,
            left: limit,
            timeout: limits.body_timeout,
            rate: limits.body_rate,
            waited: Duration::ZERO,
            waiting: None,
            timer: None,
            over: false,
        }
    }

    /// Counts its bytes against what the client may use.
    pub(crate) fn charged(mut self, charges: Option<Arc<Charges>>) -> Self {
        self.charges = charges.filter(|charges| charges.counts(Unit::BytesIn));
        self
    }

    fn fail(&mut self, fault: BodyFault) -> BoxError {
        self.over = true;
        self.progress.fault.lock().get_or_insert(fault);
        BodyError::Refused(fault).into()
    }

    /// Whether the client is slower than it may be. Waiting is free until it has lasted as long as the timeout.
    fn too_slow(&self) -> bool {
        let needed = self.waited.as_secs_f64() * self.rate as f64;
        self.waited > self.timeout && (self.progress.bytes() as f64) < needed
    }

    /// Whether the client has sent all of it.
    fn is_received(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.is_none() {
            let now = Instant::now();
            self.waiting = Some(now);
            let deadline = (now + self.timeout).into();
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(deadline),
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(deadline))),
            }
        }
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
            ready!(this.poll_timer(cx));
            let error = this.fail(BodyFault::TooSlow);
            return Poll::Ready(Some(Err(error)));
        };
        if let Some(since) = this.waiting.take() {
            this.waited += since.elapsed();
        }
        match frame {
            None => {
                this.over = true;
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                this.over = true;
                let error = match this.state.input.rejected(this.number) {
                    Some(refusal) => this.fail(BodyFault::Malformed(refusal)),
                    None => BodyError::Gone(error).into(),
                };
                Poll::Ready(Some(Err(error)))
            }
            Some(Ok(frame)) => {
                let frame = match frame.into_data() {
                    Ok(data) => {
                        let length = data.len() as u64;
                        this.progress.bytes.fetch_add(length, Relaxed);
                        if let Some(charges) = &this.charges {
                            charges.used(Unit::BytesIn, length, Now::read());
                        }
                        if length > this.left {
                            let fault = BodyTooLarge { limit: this.limit };
                            return Poll::Ready(Some(Err(this.fail(fault.into()))));
                        }
                        this.left -= length;
                        if this.too_slow() {
                            let error = this.fail(BodyFault::TooSlow);
                            return Poll::Ready(Some(Err(error)));
                        }
                        Frame::data(data)
                    }
                    Err(frame) => match frame.into_trailers() {
                        Ok(trailers) => Frame::trailers(allowed_trailers(trailers)),
                        Err(frame) => frame,
                    },
                };
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.is_received()
    }

    fn size_hint(&self) -> SizeHint {
        (self.body.as_ref()).map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for RequestBody {
    /// On HTTP/1 the HTTP library then closes the connection after the response, and on HTTP/2 the stream, while the
    /// client may still be sending.
    fn drop(&mut self) {
        if !self.is_end_stream() {
            self.state.close.linger();
        }
        if !self.is_received()
            && self.state.multiplexed
            && let Some(body) = self.body.take()
        {
            self.progress.unread.leave(body);
        }
    }
}

/// Trailers without fields that frame, route, authenticate or explain a message (RFC 9110, section 6.5.1).
fn allowed_trailers(mut trailers: HeaderMap) -> HeaderMap {
    for name in [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::HOST,
        header::CONNECTION,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::EXPECT,
        header::RANGE,
        header::AUTHORIZATION,
        header::PROXY_AUTHORIZATION,
        header::COOKIE,
        header::CONTENT_ENCODING,
        header::CONTENT_TYPE,
        header::CONTENT_RANGE,
        header::FORWARDED,
    ] {
        trailers.remove(name);
    }
    remove_identity(&mut trailers);
    trailers
}
