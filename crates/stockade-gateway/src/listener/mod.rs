//! From a socket that listens to a client's byte stream.
//!
//! A connection passes, in this order: [`accept`] takes it from the kernel, [`connection_limits`] counts it,
//! [`proxy_protocol`] reads who the client is where a proxy says so. [`stream`] is what comes out.

pub(crate) mod accept;
pub(crate) mod connection_limits;
pub(crate) mod options;
pub(crate) mod proxy_protocol;
pub(crate) mod stream;
