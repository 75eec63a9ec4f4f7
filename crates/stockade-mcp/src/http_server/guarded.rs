//! The body of an answer: it ends when the API key of its request does, and holds what the request holds as long as it is
//! read.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::connections::InUse;

/// A body that is read as long as it may be.
pub(super) struct Guarded {
    pub(super) inner: BoxBody<Bytes, Infallible>,
    /// Done when the body is to end.
    pub(super) until: BoxFuture<'static, ()>,
    pub(super) _connection: Option<InUse>,
    pub(super) _permit: OwnedSemaphorePermit,
}

/// The key of the request has ended. The connection ends with it, so that the client does not take the answer for complete.
#[derive(Debug, thiserror::Error)]
#[error("the API key is no longer valid")]
pub(super) struct KeyEnded;

impl Body for Guarded {
    type Data = Bytes;
    type Error = KeyEnded;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, KeyEnded>>> {
        if self.until.poll_unpin(cx).is_ready() {
            return Poll::Ready(Some(Err(KeyEnded)));
        }
        Pin::new(&mut self.inner)
            .poll_frame(cx)
            .map_err(|never| match never {})
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
