//! Who may sign clients' certificates, and which of those are revoked.
//!
//! 1. An authority whose own certificate has expired is not trusted; webpki would not check its
//!    dates, since it takes anchors as given.
//! 2. Where there is a list, a client whose status no list states is refused, and so is every client of
//!    a list that has ended, unless the options say otherwise.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::expiry::End;
use super::leaf::{certificates, dates, der_problem, weakness};
use super::options::{ClientAuth, ClientAuthMode};
use super::pem;
use super::problem::{TlsProblem, Wrong};
use super::subject::{fingerprint, rfc3339, rfc4514, system_time};

/// Authorities and lists, ready to verify.
#[derive(Debug)]
pub(crate) struct Trust {
    pub(crate) verifier: Arc<dyn ClientCertVerifier>,
    /// The digest of everything that was read.
    pub(crate) digest: [u8; 32],
    pub(crate) ends: Vec<End>,
    pub(crate) authorities: usize,
    pub(crate) lists: usize,
}

/// What was read, and what is wrong with its dates, which the caller judges.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) trust: Trust,
    pub(crate) dates: Vec<TlsProblem>,
}

/// Reads all files of `auth`.
pub(crate) fn load(
    auth: &ClientAuth,
    provider: &Arc<CryptoProvider>,
    now: SystemTime,
) -> Result<Checked, Vec<TlsProblem>> {
    let mut reading = Reading {
        now,
        digest: Sha256::new(),
        roots: RootCertStore::empty(),
        lists: Vec::new(),
        ends: Vec::new(),
        dates: Vec::new(),
        problems: Vec::new(),
    };
    if auth.ca.is_empty() {
        reading.problems.push(TlsProblem {
            file: None,
            line: None,
            what: Wrong::NoAuthority,
        });
    }
    for file in &auth.ca {
        reading.authorities(file);
    }
    for file in &auth.crl {
        reading.lists(file);
    }
    reading.finish(auth, provider)
}

struct Reading {
    now: SystemTime,
    digest: Sha256,
    roots: RootCertStore,
    lists: Vec<CertificateRevocationListDer<'static>>,
    ends: Vec<End>,
    dates: Vec<TlsProblem>,
    problems: Vec<TlsProblem>,
}

impl Reading {
    fn authorities(&mut self, file: &Path) {
        let blocks = pem::read(file, pem::CERTIFICATES_LIMIT, "certificate")
            .and_then(|bytes| certificates(file, &bytes));
        let blocks = match blocks {
            Ok(blocks) => blocks,
            Err(problem) => return self.problems.push(problem),
        };
        for block in blocks {
            self.digest.update(&block.der);
            let certificate = match X509Certificate::from_der(&block.der) {
                Ok((_, certificate)) => certificate,
                Err(e) => {
                    self.problems
                        .push(der_problem(file, block.line, e.to_string()));
                    continue;
                }
            };
            let subject = rfc4514(certificate.subject());
            if !certificate.is_ca() {
                let what = Wrong::NotAuthority { subject };
                self.problems.push(TlsProblem::at(file, block.line, what));
                continue;
            }
            if let Some(what) = weakness(&certificate) {
                self.problems.push(TlsProblem::at(file, block.line, what));
                continue;
            }
            let validity = certificate.validity();
            self.ends.push(End {
                key: fingerprint(&block.der),
                what: format!("the authority of clients {subject}"),
                file: Some(file.to_owned()),
                not_before: system_time(&validity.not_before),
                not_after: system_time(&validity.not_after),
            });
            if let Some(what) = dates(&certificate, self.now) {
                self.dates.push(TlsProblem::at(file, block.line, what));
            } else if let Err(e) = self
                .roots
                .add(CertificateDer::from(block.der.as_slice()).into_owned())
            {
                self.problems
                    .push(der_problem(file, block.line, e.to_string()));
            }
        }
    }

    fn lists(&mut self, file: &Path) {
        match lists(file) {
            Ok(lists) => {
                for (line, der) in lists {
                    self.list(file, line, der);
                }
            }
            Err(problem) => self.problems.push(problem),
        }
    }

    fn list(&mut self, file: &Path, line: usize, der: Vec<u8>) {
        let list = match CertificateRevocationList::from_der(&der) {
            Ok((_, list)) => list,
            Err(e) => {
                let kind = "revocation list";
                let why = e.to_string();
                self.problems
                    .push(TlsProblem::at(file, line, Wrong::Der { kind, why }));
                return;
            }
        };
        let issuer = rfc4514(list.issuer());
        if let Some(next) = list.next_update() {
            let end = End {
                key: fingerprint(&der),
                what: format!("the revocation list of {issuer}"),
                file: Some(file.to_owned()),
                not_before: system_time(&list.last_update()),
                not_after: system_time(&next),
            };
            if end.not_after < self.now {
                let next_update = rfc3339(&next);
                let what = Wrong::ListExpired {
                    issuer,
                    next_update,
                };
                self.dates.push(TlsProblem::at(file, line, what));
            }
            self.ends.push(end);
        }
        self.digest.update(&der);
        self.lists.push(der.into());
    }

    fn finish(
        self,
        auth: &ClientAuth,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Checked, Vec<TlsProblem>> {
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        let authorities = self.roots.len();
        let lists = self.lists.len();
        let verifier = if self.roots.is_empty() {
            Ok(Arc::new(NobodyTrusted {
                optional: auth.mode == ClientAuthMode::Optional,
                provider: provider.clone(),
            }) as Arc<dyn ClientCertVerifier>)
        } else {
            let roots = Arc::new(self.roots);
            let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
                .with_crls(self.lists);
            if auth.mode == ClientAuthMode::Optional {
                builder = builder.allow_unauthenticated();
            }
            if !auth.revocation.whole_chain {
                builder = builder.only_check_end_entity_revocation();
            }
            if auth.revocation.allow_unknown {
                builder = builder.allow_unknown_revocation_status();
            }
            if !auth.revocation.allow_expired {
                builder = builder.enforce_revocation_expiration();
            }
            builder.build()
        };
        match verifier {
            Ok(verifier) => Ok(Checked {
                trust: Trust {
                    verifier,
                    digest: self.digest.finalize().into(),
                    ends: self.ends,
                    authorities,
                    lists,
                },
                dates: self.dates,
            }),
            Err(e) => Err(vec![TlsProblem {
                file: auth.crl.first().or(auth.ca.first()).cloned(),
                line: None,
                what: Wrong::Unusable(e.to_string()),
            }]),
        }
    }
}

/// The lists of a file: PEM, or one in DER.
fn lists(file: &Path) -> Result<Vec<(usize, Vec<u8>)>, TlsProblem> {
    let bytes = pem::read(file, pem::LISTS_LIMIT, "revocation list")?;
    if bytes.starts_with(&[0x30]) {
        return Ok(vec![(1, bytes)]);
    }
    let blocks = pem::blocks(file, &bytes)?;
    let found = pem::found(&bytes, &blocks);
    let lists: Vec<_> = blocks
        .into_iter()
        .filter(|block| block.label == "X509 CRL")
        .map(|block| (block.line, block.der))
        .collect();
    if lists.is_empty() {
        let what = Wrong::Kind {
            found,
            wanted: "a revocation list (PEM or DER)",
            fix: "\n  fix: give the file with -----BEGIN X509 CRL-----",
        };
        return Err(TlsProblem::of(file, what));
    }
    Ok(lists)
}

/// Stands in where all authorities have expired.
#[derive(Debug)]
struct NobodyTrusted {
    optional: bool,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for NobodyTrusted {
    fn client_auth_mandatory(&self) -> bool {
        !self.optional
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Err(CertificateError::UnknownIssuer.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
