//! The body of a response on its way to the client, and the record of the request that ends with it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use stockade_http::{Body, BoxError};

use crate::access::{AccessRecord, Observer, Outcome};
use crate::http::request_body::Intake;
use crate::http::timeouts::{Outgoing, Pulse};
use crate::listener::connection_limits::Running;

/// A request from its head to the end of its response. Reports the request when it is dropped.
pub(crate) struct Exchange {
    pub(crate) record: Box<AccessRecord>,
    pub(crate) began: Instant,
    /// On its connection, from 1.
    pub(crate) number: u64,
    pub(crate) intake: Arc<Intake>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) _running: Running,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.pulse.end();
        self.record.bytes_in = self.intake.bytes();
        self.record.duration = self.began.elapsed();
        self.observer.request(&self.record);
    }
}

/// Why a response's body was cut off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResponseError {
    #[error("the response's body is longer than its content-length")]
    TooLong,
    #[error("the response's body is shorter than its content-length")]
    TooShort,
}

/// A response's body. Sends exactly as much as the response's head says, or fails.
pub(crate) struct Sent {
    body: Body,
    exchange: Exchange,
    /// What the head says and has not been sent.
    declared: Option<u64>,
    outgoing: Option<Arc<Outgoing>>,
    over: bool,
}

impl Sent {
    /// `declared`: the value of `content-length`, if the body's own length is not known.
    pub(crate) fn new(body: Body, declared: Option<u64>, exchange: Exchange) -> Self {
        let outgoing = (!body.is_end_stream()).then(|| exchange.pulse.outgoing());
        Self {
            body,
            exchange,
            declared,
            outgoing,
            over: false,
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.over = true;
        // What the gateway refused, or passed on as a WebSocket, stays that.
        if self.exchange.record.outcome == Outcome::ClientGone {
            self.exchange.record.outcome = outcome;
        }
    }

    fn fail(&mut self, error: BoxError) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.end(Outcome::BodyFailed);
        Poll::Ready(Some(Err(error)))
    }

    fn handed_on(&self, bytes: usize) {
        if let Some(outgoing) = &self.outgoing {
            self.exchange.pulse.handed_on(outgoing, bytes);
        }
    }
}

impl http_body::Body for Sent {
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
        this.handed_on(0);
        let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            None => {
                if this.declared.is_some_and(|left| left > 0) {
                    return this.fail(ResponseError::TooShort.into());
                }
                this.end(Outcome::Complete);
                return Poll::Ready(None);
            }
            Some(Err(error)) => return this.fail(error),
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref() {
            let length = data.len();
            if let Some(left) = &mut this.declared {
                match left.checked_sub(length as u64) {
                    Some(rest) => *left = rest,
                    None => return this.fail(ResponseError::TooLong.into()),
                }
            }
            this.exchange.record.bytes_out += length as u64;
            this.handed_on(length);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.over || (self.declared.is_none_or(|left| left == 0) && self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self.declared {
            Some(left) => SizeHint::with_exact(left),
            None => self.body.size_hint(),
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if !self.over && self.is_end_stream() {
            self.end(Outcome::Complete);
        }
        if let Some(outgoing) = &self.outgoing {
            self.exchange.pulse.arrived(outgoing);
        }
    }
}
