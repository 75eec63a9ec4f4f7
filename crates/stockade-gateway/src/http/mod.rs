//! From a client's byte stream to requests, and from responses back to bytes.
//!
//! Towards the target: [`connection`] speaks the version of HTTP that the client chose; the bytes pass
//! [`inspected_stream`], where [`h1_framing`] or [`h2_frame_limiter`] checks them before hyper reads them;
//! [`service`] takes each request, [`forwarded`] says who sent it, [`request_head`] checks its head, and
//! [`request_body`] bounds its body. Towards the client: [`response_head`], then [`response_body`].
//! [`timeouts`] has how long the connection waits for its client.

pub(crate) mod connection;
pub(crate) mod forwarded;
pub(crate) mod h1_framing;
pub(crate) mod h2_frame_limiter;
pub(crate) mod inspected_stream;
pub(crate) mod request_body;
pub(crate) mod request_head;
pub(crate) mod response_body;
pub(crate) mod response_head;
pub(crate) mod service;
pub(crate) mod timeouts;
