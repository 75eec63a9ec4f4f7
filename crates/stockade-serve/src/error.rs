//! Why there is no server, no new configuration, or no site.

use std::path::PathBuf;

use stockade_audit::AuditError;
use stockade_auth::{JwksError, PepperError, QuotaError, StoreError};
use stockade_broker::{BrokerError, FileError, SecretsError};
use stockade_config::Diagnostics;
use stockade_gateway::{AssetsError, InheritError, ListenError, TableError};
use stockade_grants::GrantError;
use stockade_instance::FetchError;
use stockade_state::{KeyError, OpenError, StateError};
use stockade_transpile::{ModuleError, ModuleFilesError};

use crate::deployments::DeployError;
use crate::log::{Destination, LogError};
use crate::tls::CertificatesError;

/// Why there is no server, or no new configuration.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration has errors.
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
    /// The audit log cannot be opened.
    #[error("cannot open the audit log: {0}{fix}", fix = audit_fix(.0))]
    Audit(#[from] AuditError),
    /// The store of usage cannot be opened.
    #[error("cannot open the store of usage: {0}")]
    Usage(#[from] stockade_usage::StoreError),
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
    /// A socket that the service manager gave.
    #[error(transparent)]
    Inherit(#[from] InheritError),
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
    /// Uploaded code.
    #[error("cannot open what was deployed: {0}")]
    Deployments(#[from] DeployError),
    /// The shared state.
    #[error("cannot open the shared state: {0}")]
    State(#[from] OpenError),
    /// The API keys.
    #[error("cannot open the API keys: {0}")]
    Keys(#[from] StoreError),
    /// The pepper of the API keys.
    #[error("cannot open the API keys: {0}")]
    Pepper(#[from] PepperError),
    /// The public keys of tokens.
    #[error("cannot use the keys of tokens: {0}")]
    Tokens(#[from] JwksError),
    /// What quotas count.
    #[error("cannot open the quotas: {0}")]
    Quotas(#[from] QuotaError),
    /// Traces.
    #[error("requests cannot be traced: {0}")]
    Tracing(#[from] TracingError),
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

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Somebody listens already.
    #[error(
        "cannot listen on {path}: another server is listening there, probably of the same configuration\n  fix: stop that one, or give this one another 'control' path"
    )]
    Taken {
        /// Where.
        path: PathBuf,
    },
    /// The system refused.
    #[error(
        "cannot listen on {path}: {source}\n  fix: give 'control' a path in a folder that this user may write to"
    )]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Why requests cannot be traced.
#[derive(Debug, thiserror::Error)]
pub enum TracingError {
    /// A variable of OpenTelemetry.
    #[error("the environment variable {name} cannot be used; it takes {allowed}")]
    Variable {
        /// Which.
        name: String,
        /// What it can be.
        allowed: &'static str,
    },
    /// A header for the collector.
    #[error(
        "the value of tracing.headers.{0} is not one of a header\n  fix: give it one line of printable ASCII"
    )]
    Header(String),
    /// What the configuration says cannot be used.
    #[error(transparent)]
    Options(#[from] stockade_trace::TraceError),
}

/// Why a site cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// Its code cannot be read.
    #[error("its code cannot be read: {0}")]
    Code(#[from] ModuleFilesError),
    /// Its code does not compile, or imports what is not there.
    #[error("its code has an error: {0}")]
    Module(#[from] ModuleError),
    /// A secret cannot be used.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// A secret was not read.
    #[error("the secret {0} has no value")]
    SecretMissing(String),
    /// A granted folder.
    #[error(transparent)]
    Folder(#[from] FileError),
    /// Roots of trust.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// One of its `grants`.
    #[error("the grant {name} cannot be opened: {source}")]
    Grant {
        /// Its name in `env`.
        name: String,
        /// Why.
        source: GrantError,
    },
    /// The shared state.
    #[error("its state cannot be opened: {0}")]
    State(#[from] StateError),
    /// The name of its keyspace.
    #[error("its state cannot be opened: {0}")]
    Keyspace(#[from] KeyError),
    /// Its files.
    #[error(transparent)]
    Assets(#[from] AssetsError),
    /// Work that was given to another thread.
    #[error("{0}")]
    BrokeOff(String),
    /// The key that signs its receipts.
    #[error("the key of its receipts cannot be used: {0}")]
    Receipts(#[from] AuditError),
    /// It did not start.
    #[error("it does not start: {0}")]
    Start(FetchError),
}

impl ServeError {
    pub(crate) fn site(name: &str, source: SiteError) -> Self {
        Self::Site {
            name: name.to_owned(),
            source: Box::new(source),
        }
    }

    pub(crate) fn log(error: LogError) -> Self {
        let path = match error.destination {
            Destination::File(path) => path,
            Destination::StandardError => "standard error".into(),
        };
        let source = error.source;
        Self::Log { path, source }
    }
}

/// What to do about an audit log that cannot be gone on with.
fn audit_fix(error: &AuditError) -> &'static str {
    match error {
        AuditError::Broken { .. } | AuditError::Cut { .. } => {
            "\n  fix: move its folder away for an investigation, and start again"
        }
        _ => "",
    }
}
