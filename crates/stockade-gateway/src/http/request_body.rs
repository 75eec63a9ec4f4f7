//! The body of a request, bounded and timed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http::header;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use stockade_http::BoxError;
use tokio::time::Sleep;

use crate::access::Refusal;
use crate::http::forwarded::remove_identity;
use crate::http::timeouts::Pulse;
use crate::limits::Limits;

/// What a request's body came to, shared with whoever answers the request.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    bytes: AtomicU64,
    fault: Mutex<Option<Refusal>>,
}

impl Intake {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Why the body was refused.
    pub(crate) fn fault(&self) -> Option<Refusal> {
        *self.fault.lock()
    }
}

/// Why reading a request's body failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the request's body is larger than {0} bytes")]
    TooLarge(u64),
    #[error("the request's body made too little progress")]
    TooSlow,
    #[error("the request's body is malformed")]
    Malformed,
    #[error("the client went away: {0}")]
    Gone(#[source] hyper::Error),
}

/// A request's body as it comes from a client.
pub(crate) struct Received {
    body: Incoming,
    intake: Arc<Intake>,
    pulse: Arc<Pulse>,
    /// The request's number on its connection.
    number: u64,
    most: u64,
    left: u64,
    timeout: Duration,
    rate: u64,
    /// All the time that was spent waiting for the client.
    waited: Duration,
    waiting: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl Received {
    pub(crate) fn new(
        body: Incoming,
        most: u64,
        limits: &Limits,
        pulse: Arc<Pulse>,
        number: u64,
        intake: Arc<Intake>,
    ) -> Self {
        Self {
            body,
            intake,
            pulse,
            number,
            most,
            left: most,
            timeout: limits.body_timeout,
            rate: limits.body_rate,
            waited: Duration::ZERO,
            waiting: None,
            timer: None,
            over: false,
        }
    }

    fn fail(&mut self, refusal: Refusal, error: BodyError) -> BoxError {
        self.over = true;
        self.intake.fault.lock().get_or_insert(refusal);
        error.into()
    }

    /// Whether the client is slower than it may be. The first stretch of waiting is free.
    fn too_slow(&self) -> bool {
        let needed = self.waited.as_secs_f64() * self.rate as f64;
        self.waited > self.timeout && (self.intake.bytes() as f64) < needed
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

impl http_body::Body for Received {
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
        let Poll::Ready(frame) = http_body::Body::poll_frame(Pin::new(&mut this.body), cx) else {
            ready!(this.poll_timer(cx));
            let error = this.fail(Refusal::BodyTimeout, BodyError::TooSlow);
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
                let error = match this.pulse.spoilt(this.number) {
                    Some(refusal) => this.fail(refusal, BodyError::Malformed),
                    None => BodyError::Gone(error).into(),
                };
                Poll::Ready(Some(Err(error)))
            }
            Some(Ok(frame)) => {
                let frame = match frame.into_data() {
                    Ok(data) => {
                        let length = data.len() as u64;
                        this.intake.bytes.fetch_add(length, Relaxed);
                        if length > this.left {
                            let error = BodyError::TooLarge(this.most);
                            return Poll::Ready(Some(Err(this.fail(Refusal::BodyTooLarge, error))));
                        }
                        this.left -= length;
                        if this.too_slow() {
                            let error = this.fail(Refusal::BodyTimeout, BodyError::TooSlow);
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
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Received {
    /// The HTTP library then closes the connection after the response, while the client may still be sending.
    fn drop(&mut self) {
        if !http_body::Body::is_end_stream(self) {
            self.pulse.linger();
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
