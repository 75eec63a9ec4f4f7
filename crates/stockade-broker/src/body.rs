//! The body type of everything that flows through the broker.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

/// An error of a body, whatever its source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A streamed body. Nothing flows unless it is polled: back-pressure reaches the other end.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
