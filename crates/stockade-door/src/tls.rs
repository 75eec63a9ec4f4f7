//! TLS to a server, and the hash of its certificate for channel binding.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use x509_parser::oid_registry::{
    OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA384,
    OID_SIG_ECDSA_WITH_SHA512,
};
use x509_parser::parse_x509_certificate;

use crate::server::{ServerError, ServerStream};

/// TLS with which a server is reached.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// TLS by `config`, to a server that proves `name`, a host's name or address.
    ///
    /// # Errors
    /// When `name` is neither.
    pub fn new(config: Arc<ClientConfig>, name: &str) -> Result<Self, ServerError> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| ServerError::Tls("the server's name is not one for TLS".to_owned()))?;
        Ok(Self {
            connector: TlsConnector::from(config),
            name,
        })
    }

    /// Begins TLS. Also gives the hash of the server's certificate, for `tls-server-end-point` of RFC 5929.
    pub(crate) async fn start(
        &self,
        stream: ServerStream,
    ) -> Result<(ServerStream, Option<Vec<u8>>), ServerError> {
        let connected = self.connector.connect(self.name.clone(), stream).await;
        let stream = connected.map_err(|error| describe(&error))?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let end_point = certificates.first().and_then(|leaf| end_point(leaf));
        Ok((Box::new(stream), end_point))
    }
}

fn describe(error: &io::Error) -> ServerError {
    let inner = error.get_ref();
    ServerError::Tls(
        match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => error.to_string(),
            None => error.kind().to_string(),
        },
    )
}

/// RFC 5929, 4.1: "the hash of the TLS server's certificate" with the hash function of its signature, and SHA-256
/// where that is MD5 or SHA-1. `None` for signatures that have no single hash function, such as Ed25519's.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let signed = &parsed.signature_algorithm.algorithm;
    let hash = if [OID_PKCS1_SHA384WITHRSA, OID_SIG_ECDSA_WITH_SHA384].contains(signed) {
        &digest::SHA384
    } else if [OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA512].contains(signed) {
        &digest::SHA512
    } else if *signed == x509_parser::oid_registry::OID_SIG_ED25519
        || *signed == x509_parser::oid_registry::OID_PKCS1_RSASSAPSS
    {
        return None;
    } else {
        &digest::SHA256
    };
    Some(digest::digest(hash, certificate).as_ref().to_vec())
}
