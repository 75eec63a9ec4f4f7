//! From a socket that listens to a client's byte stream.
//!
//! A connection passes, in this order:
//!
//! 1. [`accept`] takes it from the kernel,
//! 2. [`connection_limits`] counts it, in all and for its client's address,
//! 3. [`establish`] reads who the client is where a proxy says so ([`proxy_protocol`]), and makes the TLS
//!    handshake.
//!
//! What comes out is a [`stream`] whose next bytes are HTTP. [`options`] has what a listener is opened with, and
//! [`inherited`] the sockets that the process was started with. Datagrams over UDP go another way: [`flows`].

pub(crate) mod accept;
pub(crate) mod connection_limits;
pub(crate) mod establish;
pub(crate) mod flows;
pub(crate) mod inherited;
pub(crate) mod options;
pub(crate) mod proxy_protocol;
pub(crate) mod stream;
