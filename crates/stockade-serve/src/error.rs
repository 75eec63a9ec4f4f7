//! Why there is no server, or no new configuration.

use std::path::PathBuf;

use stockade_config::Diagnostics;
use stockade_gateway::{ListenError, TableError};
use stockade_state::OpenError;

use crate::control::ControlError;
use crate::log::Destination;
use crate::site::SiteError;
use crate::tls::CertificatesError;

/// Why there is no server, or no new configuration.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration has mistakes.
    #[error("{0}")]
    Config(Diagnostics),
    /// The log cannot be written.
    #[error(
        "cannot write the log to {path}: {source}\n  fix: correct logging.file, or let this user write there"
    )]
    Log {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A site cannot be made.
    #[error("instance {name}: {source}")]
    Site {
        /// Which.
        name: String,
        /// Why.
        source: Box<SiteError>,
    },
    /// Certificates, keys, authorities or revocation lists.
    #[error(transparent)]
    Tls(#[from] CertificatesError),
    /// A listener.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// Routes that are ambiguous.
    #[error("{0}")]
    Routes(#[from] TableError),
    /// The listener for metrics.
    #[error(
        "cannot listen on {address} for metrics: {source}\n  fix: correct metrics.listen, or end what listens there"
    )]
    Status {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The shared state.
    #[error("cannot open the shared state: {0}")]
    State(#[from] OpenError),
    /// What cannot change while the server runs.
    #[error("{0} cannot change while the server runs\n  fix: restart it")]
    Fixed(&'static str),
    /// Something of the system.
    #[error("{what}: {source}")]
    System {
        /// What failed.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

impl ServeError {
    pub(crate) fn site(name: &str, source: SiteError) -> Self {
        Self::Site {
            name: name.to_owned(),
            source: Box::new(source),
        }
    }

    pub(crate) fn log(destination: Destination, source: std::io::Error) -> Self {
        let path = match destination {
            Destination::File(path) => path,
            Destination::StandardError => "standard error".into(),
        };
        Self::Log { path, source }
    }
}
