//! A certificate for `localhost`, and TLS that trusts it or does not.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use stockade_door::Tls;
use tempfile::TempDir;

use crate::servers::{folder, give};

/// Files that a server reads.
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    _folder: TempDir,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = folder();
        let path = |name: &str| folder.path().join(name);
        let (certificate, key) = (path("certificate.pem"), path("key.pem"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        give(&key);
        Self {
            certificate,
            key,
            _folder: folder,
        }
    }

    /// TLS that trusts it.
    pub(crate) fn trusted(&self) -> Tls {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(&self.certificate).unwrap())
            .unwrap();
        tls(roots)
    }
}

/// TLS that trusts no certificate.
pub(crate) fn untrusted() -> Tls {
    tls(RootCertStore::empty())
}

fn tls(roots: RootCertStore) -> Tls {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Tls::new(Arc::new(config), "localhost").unwrap()
}
