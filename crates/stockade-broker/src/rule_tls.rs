//! TLS of one rule, from files of certificates that may change while it is used.
//!
//! Invariants: files are read on threads for blocking work, and a connection waits for them for a moment only. A file
//! that cannot be used never replaces one that can.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::connect::{self, BrokerError};

/// How often files are checked, while there are new connections.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a connection waits for that.
const MOST_WAITED: Duration = Duration::from_secs(1);

/// Files in PEM of a certificate and its key, with which the broker proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, and those between it and its root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What TLS is made of.
struct Parts {
    /// Trusted besides those of `ca`.
    base: Arc<RootCertStore>,
    ca: Vec<PathBuf>,
    client: Option<ClientCertificate>,
    /// Protocols to agree on by ALPN, the preferred first.
    protocols: Vec<Vec<u8>>,
}

/// When a file was last changed, and its length, as far as it is there.
type Stamp = Option<(SystemTime, u64)>;

struct Current {
    connector: TlsConnector,
    stamps: Vec<Stamp>,
    looked_at: Instant,
}

/// TLS of one rule.
pub(crate) struct RuleTls {
    parts: Arc<Parts>,
    current: Arc<Mutex<Current>>,
}

impl Parts {
    fn files(&self) -> impl Iterator<Item = &Path> {
        let of_client = self
            .client
            .iter()
            .flat_map(|client| [&client.certificate, &client.key]);
        self.ca.iter().chain(of_client).map(PathBuf::as_path)
    }

    fn stamps(&self) -> Vec<Stamp> {
        let stamp = |path: &Path| {
            let about = fs::metadata(path).ok()?;
            Some((about.modified().ok()?, about.len()))
        };
        self.files().map(stamp).collect()
    }

    fn read(&self) -> Result<ClientConfig, BrokerError> {
        let roots = match self.ca.as_slice() {
            [] => Arc::clone(&self.base),
            ca => Arc::new(connect::with(RootCertStore::clone(&self.base), ca)?),
        };
        let identity = self.client.as_ref().map(identity).transpose()?;
        connect::client_config(roots, identity, &self.protocols).map_err(|why| {
            let path = self.client.as_ref().map(|client| client.key.clone());
            match path {
                Some(path) => BrokerError::Client { path, why },
                None => BrokerError::Tls(why),
            }
        })
    }
}

/// The certificates and the key of two files.
fn identity(client: &ClientCertificate) -> Result<connect::ClientCertificate, BrokerError> {
    let at = |path: &Path, why: String| BrokerError::Client {
        path: path.to_owned(),
        why,
    };
    let certificates = CertificateDer::pem_file_iter(&client.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| at(&client.certificate, error.to_string()))?;
    if certificates.is_empty() {
        let why = "no certificate in it (PEM: -----BEGIN CERTIFICATE-----)";
        return Err(at(&client.certificate, why.to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&client.key)
        .map_err(|error| at(&client.key, error.to_string()))?;
    Ok((certificates, key))
}

impl RuleTls {
    /// Trusts `base` and the certificates of `ca`. The files are read now.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(crate) fn open(
        base: Arc<RootCertStore>,
        ca: &[PathBuf],
        client: Option<&ClientCertificate>,
        protocols: &[&[u8]],
    ) -> Result<Self, BrokerError> {
        let parts = Parts {
            base,
            ca: ca.to_vec(),
            client: client.cloned(),
            protocols: protocols.iter().map(|protocol| protocol.to_vec()).collect(),
        };
        // The stamps are taken first: a change in between is seen the next time.
        let stamps = parts.stamps();
        let config = parts.read()?;
        Ok(Self {
            parts: Arc::new(parts),
            current: Arc::new(Mutex::new(Current {
                connector: TlsConnector::from(Arc::new(config)),
                stamps,
                looked_at: Instant::now(),
            })),
        })
    }

    /// What puts TLS into a connection, from the files as they are now.
    pub(crate) async fn connector(&self) -> TlsConnector {
        if self.is_to_be_looked_at() {
            let (parts, current) = (Arc::clone(&self.parts), Arc::clone(&self.current));
            let reading = tokio::task::spawn_blocking(move || reread(&parts, &current));
            let _ = tokio::time::timeout(MOST_WAITED, reading).await;
        }
        self.current.lock().connector.clone()
    }

    fn is_to_be_looked_at(&self) -> bool {
        let mut current = self.current.lock();
        let is_due =
            self.parts.files().next().is_some() && current.looked_at.elapsed() >= LOOK_EVERY;
        if is_due {
            current.looked_at = Instant::now();
        }
        is_due
    }
}

/// Reads the files again if one has changed.
fn reread(parts: &Parts, current: &Mutex<Current>) {
    let stamps = parts.stamps();
    if current.lock().stamps == stamps {
        return;
    }
    match parts.read() {
        Ok(config) => {
            let connector = TlsConnector::from(Arc::new(config));
            let mut current = current.lock();
            current.connector = connector;
            current.stamps = stamps;
        }
        Err(error) => {
            // A file that is being replaced is whole when it is checked again.
            let error: &dyn std::error::Error = &error;
            tracing::warn!(
                error,
                "changed certificates of a rule are not used; the former ones stay in use"
            );
        }
    }
}
