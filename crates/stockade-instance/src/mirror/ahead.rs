//! A body, and what of it was read before anyone asked.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use stockade_http::{Body, BoxError};

/// A body with its first bytes taken out.
pub(super) struct Source {
    /// `None` once it has ended: what it held is free.
    body: Option<Body>,
    pieces: VecDeque<Bytes>,
    bytes: usize,
    /// What it ended with, given after the pieces.
    failure: Option<BoxError>,
}

impl Source {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body: Some(body),
            pieces: VecDeque::new(),
            bytes: 0,
            failure: None,
        }
    }

    /// Reads until the body ends or `most` bytes are there. Who takes the source meanwhile has it whole.
    pub(super) async fn read_ahead(source: &Mutex<Option<Self>>, most: usize) {
        poll_fn(|cx| match &mut *source.lock() {
            Some(source) => source.poll_ahead(cx, most),
            None => Poll::Ready(()),
        })
        .await;
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<()> {
        while self.bytes < most {
            match ready!(self.poll_body(cx)) {
                Some(Ok(data)) => {
                    self.bytes += data.len();
                    self.pieces.push_back(data);
                }
                Some(Err(error)) => self.failure = Some(error),
                None => break,
            }
        }
        Poll::Ready(())
    }

    /// The next bytes of the body itself; trailers are not for guests.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        loop {
            let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) if data.is_empty() => {}
                Some(Ok(Ok(data))) => {
                    if body.is_end_stream() {
                        self.body = None;
                    }
                    return Poll::Ready(Some(Ok(data)));
                }
                Some(Ok(Err(_trailers))) => {}
                Some(Err(error)) => {
                    self.body = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.body = None;
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        if let Some(data) = self.pieces.pop_front() {
            self.bytes -= data.len();
            return Poll::Ready(Some(Ok(data)));
        }
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Some(Err(failure)));
        }
        self.poll_body(cx)
    }

    /// The next bytes.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, String>> {
        let data = poll_fn(|cx| self.poll_next(cx)).await?;
        Some(data.map_err(|error| error.to_string()))
    }

    /// Whether it is known that nothing more comes.
    pub(super) fn is_over(&self) -> bool {
        self.is_end_stream()
    }

    /// The body as it was.
    pub(super) fn into_body(self) -> Body {
        match self {
            Self {
                body: Some(body),
                bytes: 0,
                ..
            } => body,
            source => source.boxed_unsync(),
        }
    }
}

impl HttpBody for Source {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = self.get_mut().poll_next(cx);
        next.map(|data| data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes == 0
            && self.failure.is_none()
            && self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self
            .body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint);
        let ahead = self.bytes as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::stream;
    use http_body_util::StreamBody;

    use super::*;

    /// A body of these pieces that holds something until it is gone.
    fn body(pieces: Vec<Result<&'static str, &'static str>>, held: Arc<()>) -> Body {
        let frames = pieces.into_iter().map(move |piece| {
            let _held = &held;
            piece
                .map(|text| Frame::data(Bytes::from(text)))
                .map_err(BoxError::from)
        });
        StreamBody::new(stream::iter(frames)).boxed_unsync()
    }

    async fn ahead(pieces: Vec<Result<&'static str, &'static str>>, most: usize) -> (Source, bool) {
        let held = Arc::new(());
        let source = Mutex::new(Some(Source::new(body(pieces, Arc::clone(&held)))));
        Source::read_ahead(&source, most).await;
        let source = source.lock().take().unwrap();
        (source, Arc::strong_count(&held) == 1)
    }

    #[tokio::test]
    async fn small_body_is_over_before_anyone_reads_it() {
        let (source, is_free) = ahead(vec![Ok("a"), Ok(""), Ok("bc")], 100).await;
        assert!(is_free);
        assert!(!source.is_end_stream());
        assert_eq!(source.size_hint().exact(), Some(3));
        let all = source.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(all, "abc");
    }

    #[tokio::test]
    async fn large_body_is_read_no_further_than_allowed() {
        let (mut source, is_free) = ahead(vec![Ok("abc"), Ok("def"), Ok("ghi")], 4).await;
        assert!(!is_free);
        assert_eq!(source.bytes, 6);
        let mut read = Vec::new();
        while let Some(data) = source.next().await {
            read.push(data.unwrap());
        }
        assert_eq!(read, ["abc", "def", "ghi"]);
        assert!(source.is_end_stream());
    }

    #[tokio::test]
    async fn failure_comes_after_what_was_read_before_it() {
        let (mut source, is_free) = ahead(vec![Ok("abc"), Err("broken off")], 100).await;
        assert!(is_free);
        assert_eq!(source.next().await.unwrap().unwrap(), "abc");
        assert_eq!(source.next().await.unwrap().unwrap_err(), "broken off");
        assert!(source.next().await.is_none());
    }
}
