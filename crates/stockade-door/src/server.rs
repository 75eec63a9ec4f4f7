//! The way to a server, and what goes wrong on it.

use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// A stream of bytes in both directions.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A connection to a server.
pub type ServerStream = Box<dyn Socket>;

/// Makes connections to one server, without TLS: each protocol begins its own way.
pub trait Dial: Send + Sync + 'static {
    /// A new connection.
    fn dial(&self) -> BoxFuture<'static, io::Result<ServerStream>>;
}

/// How long a server may take to accept a cancellation or to reset a session.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// Why there is no connection to the server. The texts are for the operator's log; [`ServerError::for_guest`] gives
/// the guest's.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// There is no connection, or it broke.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// TLS failed, or the server has none.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The server refused the login.
    #[error("the server refused the login: {code} {message}")]
    Refused {
        /// SQLSTATE, or the first word of Redis's error.
        code: String,
        /// The server's words.
        message: String,
    },
    /// The server wants a login that is not there.
    #[error("the server asks for the login method {0:?}, which is not supported")]
    Method(String),
    /// The server sent what does not belong here.
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
    /// The server took too long.
    #[error("the server did not answer within {0:?}")]
    Slow(Duration),
    /// The user may do more than a guest should.
    #[error(
        "the user of the grant may do too much ({0}): create a user without it, or set allow_superuser: true"
    )]
    Superuser(String),
    /// The pool's limits.
    #[error(transparent)]
    Full(#[from] Full),
}

/// A limit of the pool was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// All connections are in use, and too many sessions wait or one waited too long.
    #[error("all {0} connections of this grant are in use")]
    Connections(usize),
    /// One owner has as many as it may.
    #[error("this isolate has {0} connections of this grant open, which is its limit")]
    Owner(usize),
    /// Too many logins within a second.
    #[error("more than {0} connection attempts in a second")]
    Attempts(u32),
}

impl ServerError {
    /// What the guest may know: no address, user, or word of the server.
    #[must_use]
    pub fn for_guest(&self) -> String {
        match self {
            Self::Io(_) | Self::Slow(_) | Self::Protocol(_) => {
                "the database cannot be reached; the operator's log says why".to_owned()
            }
            Self::Tls(_) => {
                "the database's TLS failed; the operator's log says why".to_owned()
            }
            Self::Refused { .. } | Self::Method(_) => {
                "the database refused the login of this grant; the operator's log says why"
                    .to_owned()
            }
            Self::Superuser(_) => {
                "the database user of this grant has more rights than a guest may use; the operator's log says which"
                    .to_owned()
            }
            Self::Full(full) => full.to_string(),
        }
    }

    /// An error of the connection to the server, from one of any kind.
    pub(crate) fn invalid(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                Self::Protocol("a message cannot be read")
            }
            _ => Self::Io(error),
        }
    }
}
