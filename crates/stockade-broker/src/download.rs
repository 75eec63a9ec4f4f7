//! A server's response body on its way in, as it is on the wire: counted, bounded, timed, paced.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use stockade_http::BoxError;
use tokio::time::{Instant, Sleep};

use crate::audit::Reason;
use crate::error::EgressError;
use crate::in_flight::InFlight;
use crate::pool::{Key, Pool, Sender};

/// Bounds of a download.
pub(crate) struct DownloadLimits {
    pub(crate) bytes: u64,
    pub(crate) idle: Duration,
    pub(crate) total: Duration,
}

/// Dropped before its end, it closes its connection.
pub(crate) struct Download {
    inner: Incoming,
    in_flight: Arc<InFlight>,
    limits: DownloadLimits,
    wait: Option<Pin<Box<Sleep>>>,
    /// Runs while the guest waits for data.
    idle: Option<Pin<Box<Sleep>>>,
    deadline: Pin<Box<Sleep>>,
    connection: Option<(Arc<Pool>, Key, Sender)>,
    is_over: bool,
}

impl Download {
    pub(crate) fn new(
        inner: Incoming,
        in_flight: Arc<InFlight>,
        limits: DownloadLimits,
        connection: (Arc<Pool>, Key, Sender),
    ) -> Self {
        let is_over = inner.is_end_stream();
        let deadline = Box::pin(tokio::time::sleep_until(in_flight.started + limits.total));
        let connection = Some(connection);
        let mut download = Self {
            inner,
            in_flight,
            limits,
            wait: None,
            idle: None,
            deadline,
            connection,
            is_over: false,
        };
        if is_over {
            download.end();
        }
        download
    }

    fn end(&mut self) {
        self.is_over = true;
        self.in_flight.is_done();
        if let Some((pool, key, sender)) = self.connection.take() {
            pool.keep_when_ready(key, sender);
        }
    }

    fn take(&mut self, data: &Bytes) -> Result<(), EgressError> {
        let (total, paced) = self.in_flight.receives(data.len());
        if total > self.limits.bytes {
            let limit = self.limits.bytes;
            return Err(self.in_flight.refuse(Reason::TooLarge {
                what: "the response",
                limit,
            }));
        }
        let until = paced.map_err(|reason| self.in_flight.refuse(reason))?;
        self.wait = until.map(|until| Box::pin(tokio::time::sleep_until(until)));
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, EgressError>> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            let limit = self.limits.total;
            return Poll::Ready(Err(self.in_flight.timed_out("the whole request", limit)));
        }
        if let Some(wait) = &mut self.wait {
            if wait.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.wait = None;
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.idle = None;
                Poll::Ready(match frame.map(|frame| frame.map(Frame::into_data)) {
                    Some(Ok(Ok(data))) => self.take(&data).map(|()| Some(data)),
                    Some(Err(error)) => Err(match self.in_flight.failure() {
                        Some(failure) => failure,
                        None => self.in_flight.upstream(describe(&error)),
                    }),
                    // The end, or trailers, which are not passed on.
                    None | Some(Ok(Err(_))) => Ok(None),
                })
            }
            Poll::Pending => {
                let limit = self.limits.idle;
                let idle = self.idle.get_or_insert_with(|| {
                    Box::pin(tokio::time::sleep_until(Instant::now() + limit))
                });
                if idle.as_mut().poll(cx).is_ready() {
                    let what = "the next piece of the response";
                    return Poll::Ready(Err(self.in_flight.timed_out(what, limit)));
                }
                Poll::Pending
            }
        }
    }
}

/// What hyper says, with the cause behind it.
pub(crate) fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        this.poll(cx).map(|result| match result {
            Ok(Some(data)) => {
                if this.inner.is_end_stream() {
                    this.end();
                }
                Some(Ok(Frame::data(data)))
            }
            Ok(None) => {
                this.end();
                None
            }
            Err(error) => {
                this.is_over = true;
                this.connection = None;
                Some(Err(error.into()))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
