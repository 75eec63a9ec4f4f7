//! A connection that a capability opens for a guest: bytes in both directions.

use std::fmt;

use futures_util::future::BoxFuture;
use stockade_protocol::GuestError;
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes in both directions. The end of reading is the other side's end of its half, and shutting the writer down ends
/// the guest's half; dropping it closes the connection.
pub trait DuplexStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> DuplexStream for T {}

/// Takes the stream of a pipe, between two bytes of it, and the name that the server must prove, where the guest gave
/// one. It gives the same connection with TLS inside.
pub type StartTls = Box<
    dyn FnOnce(
            Box<dyn DuplexStream>,
            Option<String>,
        ) -> BoxFuture<'static, Result<Pipe, GuestError>>
        + Send,
>;

/// An open connection for one guest. The mirror that asked for it owns it: it is dropped with the mirror.
pub struct Pipe {
    /// The bytes. Of an error that is made with [`std::io::Error::other`] the guest is shown the text, or all of a
    /// [`GuestError`]: it holds no address and no secret.
    pub stream: Box<dyn DuplexStream>,
    /// What the guest sees of the connection.
    pub opened: Opened,
    /// How the connection becomes one with TLS; `None` where it cannot.
    pub start_tls: Option<StartTls>,
    /// Completes when the connection is to end whatever the guest does, such as one that reads nothing: with why.
    pub over: Option<BoxFuture<'static, GuestError>>,
}

impl Pipe {
    /// A pipe over `stream` that has no addresses to show, cannot start TLS and has no deadline.
    pub fn new(stream: impl DuplexStream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            opened: Opened::default(),
            start_tls: None,
            over: None,
        }
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe")
            .field("opened", &self.opened)
            .field("start_tls", &self.start_tls.is_some())
            .finish_non_exhaustive()
    }
}

/// What a guest sees of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// The other end as `host:port`, by the name that the guest used: never an address that it did not name.
    pub remote_address: Option<String>,
    /// The guest's end as `host:port`, where there is one that it may know.
    pub local_address: Option<String>,
}
