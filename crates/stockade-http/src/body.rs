//! The body of every request and response.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};

/// An error of a body, whatever its source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A streamed body. Data flows only while the body is polled, so a slow reader slows the sender down.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body without data.
#[must_use]
pub fn empty_body() -> Body {
    full_body(Bytes::new())
}

/// A body whose data is complete.
#[must_use]
pub fn full_body(data: impl Into<Bytes>) -> Body {
    Full::new(data.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}
