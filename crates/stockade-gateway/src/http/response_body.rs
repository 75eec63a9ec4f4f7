//! The body of a response on its way to the client. The request ends with it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use stockade_http::{Body, BoxError};

use crate::access::Outcome;
use crate::credential::CredentialError;
use crate::http::request_in_flight::RequestInFlight;
use crate::http::timeouts::{ConnectionTimers, ResponseProgress};

/// Why a response's body was cut off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResponseError {
    #[error("the response's body is longer than its content-length")]
    TooLong,
    #[error("the response's body is shorter than its content-length")]
    TooShort,
}

/// A response's body. Sends exactly as much as the response's head says, or fails.
pub(crate) struct ResponseBody {
    body: Body,
    request: RequestInFlight,
    /// What the head says and has not been sent.
    declared: Option<u64>,
    /// Once there was a piece that is not the last one.
    progress: Option<Arc<ResponseProgress>>,
    over: bool,
}

impl ResponseBody {
    /// `declared`: the value of `content-length`, if the body's own length is not known.
    pub(crate) fn new(body: Body, declared: Option<u64>, request: RequestInFlight) -> Self {
        Self {
            body,
            request,
            declared,
            progress: None,
            over: false,
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.over = true;
        // A request that the gateway refused or made a WebSocket keeps that outcome.
        if self.request.record.outcome == Outcome::ClientGone {
            self.request.record.outcome = outcome;
        }
    }

    fn fail(&mut self, error: BoxError) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.end(Outcome::BodyFailed);
        Poll::Ready(Some(Err(error)))
    }

    fn timers(&self) -> &ConnectionTimers {
        &self.request.state.timers
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
        if this.over {
            return Poll::Ready(None);
        }
        if let Some(progress) = &this.progress {
            this.timers().piece_taken(progress);
        }
        if let Some(validity) = &mut this.request.validity
            && validity.poll_ended(cx).is_ready()
        {
            return this.fail(CredentialError::Ended.into());
        }
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
            this.request.record.bytes_out += length as u64;
            // The library drops a body with its last piece.
            if !this.is_end_stream() {
                let timers = &this.request.state.timers;
                let progress = (this.progress).get_or_insert_with(|| timers.response_begins());
                timers.piece_waits(progress, length);
                this.request.progress();
            }
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

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if !self.over && self.is_end_stream() {
            self.end(Outcome::Complete);
        }
        if let Some(progress) = &self.progress {
            self.timers().response_ends(progress);
        }
    }
}
