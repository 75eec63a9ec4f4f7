//! One certificate of the server with its key: read, checked, ready to be shown.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use rustls::sign::CertifiedKey;
use rustls::{Error, SignatureAlgorithm};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::event::CertificateFacts;
use super::names::pattern_form;
use super::ocsp::Staple;
use super::options::CertificateFiles;
use super::pem::{self, Block};
use super::problem::{TlsProblem, Wrong};
use super::subject::{address, fingerprint, rfc3339, rfc4514, system_time};

/// Least bits of an RSA key (RFC 9325, section 4.2.1).
const RSA_BITS: usize = 2048;

/// A certificate that passed all checks but the one of its dates.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) facts: Arc<CertificateFacts>,
    /// Host patterns made by [`pattern_form`].
    pub(crate) hosts: Vec<String>,
    /// Which signatures its key makes.
    pub(crate) algorithm: SignatureAlgorithm,
    /// Where it was read; `None` for one by ACME.
    pub(crate) files: Option<CertificateFiles>,
    pub(crate) staple: Option<Staple>,
}

/// A loaded leaf and what is wrong with its dates, which the caller judges.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) leaf: Leaf,
    pub(crate) dates: Option<TlsProblem>,
    pub(crate) warnings: Vec<String>,
}

/// Reads and checks a pair of files.
pub(crate) fn load(
    files: &CertificateFiles,
    provider: &CryptoProvider,
    now: SystemTime,
) -> Result<Checked, Vec<TlsProblem>> {
    let chain = pem::read(&files.cert, pem::CERTIFICATES_LIMIT, "certificate")
        .and_then(|bytes| certificates(&files.cert, &bytes));
    let key = pem::read(&files.key, pem::CERTIFICATES_LIMIT, "key")
        .and_then(|bytes| private_key(&files.key, &bytes));
    let (chain, key) = match (chain, key) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => return Err([chain.err(), key.err()].into_iter().flatten().collect()),
    };
    let mut checked = check(&files.cert, &files.key, chain, key, provider, now)?;
    checked.leaf.files = Some(files.clone());
    checked.warnings.extend(open_to_all(&files.key));
    if let Some(file) = &files.ocsp {
        checked.leaf.staple = Some(Staple::load(file, now).map_err(|problem| vec![problem])?);
    }
    Ok(checked)
}

/// Checks what an ACME server gave; `cert` and `key` name where it is kept.
pub(crate) fn from_pem(
    cert: &Path,
    cert_pem: &[u8],
    key: &Path,
    key_pem: &[u8],
    provider: &CryptoProvider,
    now: SystemTime,
) -> Result<Checked, Vec<TlsProblem>> {
    let chain = certificates(cert, cert_pem).map_err(|problem| vec![problem])?;
    let parsed = private_key(key, key_pem).map_err(|problem| vec![problem])?;
    check(cert, key, chain, parsed, provider, now)
}

/// The certificates of a file, at least one.
pub(crate) fn certificates(file: &Path, bytes: &[u8]) -> Result<Vec<Block>, TlsProblem> {
    let blocks = pem::blocks(file, bytes)?;
    let found = pem::found(bytes, &blocks);
    let request = blocks
        .iter()
        .find(|block| block.label.ends_with("CERTIFICATE REQUEST"));
    let request_line = request.map(|block| block.line);
    let trusted = blocks
        .iter()
        .find(|block| block.label == "TRUSTED CERTIFICATE");
    let trusted_line = trusted.map(|block| block.line);
    let certificates: Vec<_> = blocks
        .into_iter()
        .filter(|block| block.label == "CERTIFICATE" || block.label == "X509 CERTIFICATE")
        .collect();
    if !certificates.is_empty() {
        return Ok(certificates);
    }
    let fix = if request_line.is_some() {
        "\n  fix: give what the authority sent back for this request"
    } else if trusted_line.is_some() {
        "\n  fix: openssl x509 -in FILE -out NEW-FILE"
    } else if bytes.starts_with(&[0x30]) {
        "\n  fix: openssl x509 -inform der -in FILE -out NEW-FILE"
    } else {
        "\n  fix: give the file with -----BEGIN CERTIFICATE-----"
    };
    let what = Wrong::Kind {
        found,
        wanted: "a certificate (PEM)",
        fix,
    };
    Err(TlsProblem {
        line: request_line.or(trusted_line),
        ..TlsProblem::of(file, what)
    })
}

fn private_key(file: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, TlsProblem> {
    let blocks = pem::blocks(file, bytes)?;
    let found = pem::found(bytes, &blocks);
    for block in blocks {
        if block.encrypted || block.label == "ENCRYPTED PRIVATE KEY" {
            return Err(TlsProblem::at(file, block.line, Wrong::EncryptedKey));
        }
        match block.label.as_str() {
            "PRIVATE KEY" => return Ok(PrivatePkcs8KeyDer::from(block.der).into()),
            "RSA PRIVATE KEY" => return Ok(PrivatePkcs1KeyDer::from(block.der).into()),
            "EC PRIVATE KEY" => return Ok(PrivateSec1KeyDer::from(block.der).into()),
            _ => {}
        }
    }
    let fix = if bytes.starts_with(&[0x30]) {
        "\n  fix: openssl pkey -inform der -in FILE -out NEW-FILE"
    } else {
        "\n  fix: give the file with -----BEGIN PRIVATE KEY-----"
    };
    let what = Wrong::Kind {
        found,
        wanted: "a private key (PEM)",
        fix,
    };
    Err(TlsProblem::of(file, what))
}

fn check(
    cert: &Path,
    key: &Path,
    blocks: Vec<Block>,
    private: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
    now: SystemTime,
) -> Result<Checked, Vec<TlsProblem>> {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let mut parsed = Vec::new();
    for block in &blocks {
        match X509Certificate::from_der(&block.der) {
            Ok(([], certificate)) => parsed.push((block.line, certificate)),
            Ok(_) => problems.push(der_problem(cert, block.line, "bytes follow it".to_owned())),
            Err(e) => problems.push(der_problem(cert, block.line, e.to_string())),
        }
    }
    let Some((line, own)) = parsed.first() else {
        return Err(problems);
    };
    let line = *line;
    let (hosts, names) = host_names(own);
    problems.extend(own_problems((cert, line), own, &names));
    if own.is_ca() {
        let subject = rfc4514(own.subject());
        warnings.push(format!(
            "{}: the certificate of {subject} is that of an authority; some clients refuse it for a server",
            cert.display()
        ));
    }
    chain_order(cert, &parsed, &mut problems);
    for (line, certificate) in &parsed {
        problems.extend(weakness(certificate).map(|what| TlsProblem::at(cert, *line, what)));
    }
    let dates = parsed.iter().find_map(|(line, certificate)| {
        Some(TlsProblem::at(cert, *line, dates(certificate, now)?))
    });
    let key = match provider.key_provider.load_private_key(private) {
        Ok(loaded) => {
            let chain = blocks
                .iter()
                .map(|block| CertificateDer::from(block.der.clone()));
            let certified = CertifiedKey::new(chain.collect(), loaded);
            problems.extend(key_mismatch((cert, line), key, &certified));
            Some(certified)
        }
        Err(e) => {
            problems.push(TlsProblem::of(key, Wrong::Key(e.to_string())));
            None
        }
    };
    let (Some(key), true) = (key, problems.is_empty()) else {
        return Err(problems);
    };
    // The whole chain ends when its first certificate does.
    let validities = || parsed.iter().map(|(_, certificate)| certificate.validity());
    let starts = validities().map(|validity| system_time(&validity.not_before));
    let ends = validities().map(|validity| system_time(&validity.not_after));
    let facts = CertificateFacts {
        names,
        key: key_text(own),
        not_before: starts.max().unwrap_or(now),
        not_after: ends.min().unwrap_or(now),
        fingerprint_sha256: fingerprint(&blocks[0].der),
        file: Some(cert.to_owned()),
    };
    let leaf = Leaf {
        algorithm: key.key.algorithm(),
        key: Arc::new(key),
        facts: Arc::new(facts),
        hosts,
        files: None,
        staple: None,
    };
    Ok(Checked {
        leaf,
        dates,
        warnings,
    })
}

/// What shows that a key is not that of its certificate, at this line of this file.
fn key_mismatch(
    (cert, line): (&Path, usize),
    key: &Path,
    certified: &CertifiedKey,
) -> Option<TlsProblem> {
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => None,
        Err(Error::InconsistentKeys(_)) => {
            let cert = cert.display().to_string();
            Some(TlsProblem::of(key, Wrong::KeyMismatch { cert }))
        }
        Err(e) => Some(der_problem(cert, line, e.to_string())),
    }
}

/// What is wrong with a server's own certificate: that it names no host, or is not for servers.
fn own_problems(
    (cert, line): (&Path, usize),
    own: &X509Certificate<'_>,
    names: &[String],
) -> Vec<TlsProblem> {
    let mut problems = Vec::new();
    let subject = || rfc4514(own.subject());
    if names.is_empty() {
        let what = Wrong::NoNames { subject: subject() };
        problems.push(TlsProblem::at(cert, line, what));
    }
    if let Ok(Some(usage)) = own.extended_key_usage()
        && !usage.value.server_auth
        && !usage.value.any
    {
        let what = Wrong::NotForServers { subject: subject() };
        problems.push(TlsProblem::at(cert, line, what));
    }
    problems
}

pub(crate) fn der_problem(file: &Path, line: usize, why: String) -> TlsProblem {
    let kind = "certificate";
    TlsProblem::at(file, line, Wrong::Der { kind, why })
}

/// Host patterns for SNI, and all names for people.
fn host_names(certificate: &X509Certificate<'_>) -> (Vec<String>, Vec<String>) {
    let mut hosts = Vec::new();
    let mut names = Vec::new();
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => {
                    if let Some(pattern) = pattern_form(name) {
                        names.push(pattern.clone());
                        hosts.push(pattern);
                    }
                }
                GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
                _ => {}
            }
        }
    }
    (hosts, names)
}

/// Each certificate must have issued the one before it. Compares names and key identifiers; that the
/// signatures fit is for clients to verify.
fn chain_order(
    file: &Path,
    chain: &[(usize, X509Certificate<'_>)],
    problems: &mut Vec<TlsProblem>,
) {
    for (i, pair) in chain.windows(2).enumerate() {
        let [(_, before), (line, issuer)] = pair else {
            continue;
        };
        let names_fit = before.issuer().as_raw() == issuer.subject().as_raw();
        let keys_fit = match (authority_key(before), subject_key(issuer)) {
            (Some(wanted), Some(has)) => wanted == has,
            _ => true,
        };
        if !names_fit || !keys_fit {
            let what = Wrong::ChainOrder {
                position: i + 2,
                subject: rfc4514(issuer.subject()),
                before: rfc4514(before.subject()),
                issuer: rfc4514(before.issuer()),
            };
            problems.push(TlsProblem::at(file, *line, what));
        }
    }
}

fn authority_key<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                id.key_identifier.as_ref().map(|id| id.0)
            }
            _ => None,
        })
}

fn subject_key<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        })
}

/// Keys and signatures that RFC 9325, section 4.2 and 4.3, forbids.
pub(crate) fn weakness(certificate: &X509Certificate<'_>) -> Option<Wrong> {
    let subject = || rfc4514(certificate.subject());
    if let Ok(PublicKey::RSA(key)) = certificate.public_key().parsed()
        && rsa_bits(key.modulus) < RSA_BITS
    {
        return Some(Wrong::Weak {
            subject: subject(),
            found: format!("an RSA key of {} bits", rsa_bits(key.modulus)),
            fix: "use ECDSA P-256, or RSA with at least 2048 bits",
        });
    }
    // Nobody verifies the signature that a root makes over itself.
    if certificate.subject().as_raw() == certificate.issuer().as_raw() {
        return None;
    }
    let signature = certificate.signature_algorithm.algorithm.to_id_string();
    let found = match signature.as_str() {
        "1.2.840.113549.1.1.2" | "1.2.840.113549.1.1.3" | "1.2.840.113549.1.1.4" => "MD5",
        "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" | "1.2.840.10040.4.3" => "SHA-1",
        _ => return None,
    };
    Some(Wrong::Weak {
        subject: subject(),
        found: format!("a signature made with {found}"),
        fix: "have it issued again; authorities use SHA-256 or better",
    })
}

fn rsa_bits(modulus: &[u8]) -> usize {
    let significant: &[u8] = &modulus[modulus.iter().take_while(|b| **b == 0).count()..];
    let unused = significant
        .first()
        .map_or(0, |b| b.leading_zeros() as usize);
    significant.len() * 8 - unused
}

fn key_text(certificate: &X509Certificate<'_>) -> String {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA {}", rsa_bits(key.modulus)),
        Ok(PublicKey::EC(point)) => format!("EC {}", point.key_size()),
        _ => match certificate
            .public_key()
            .algorithm
            .algorithm
            .to_id_string()
            .as_str()
        {
            "1.3.101.112" => "Ed25519".to_owned(),
            other => other.to_owned(),
        },
    }
}

/// What is wrong with the dates at `now`.
pub(crate) fn dates(certificate: &X509Certificate<'_>, now: SystemTime) -> Option<Wrong> {
    let validity = certificate.validity();
    if system_time(&validity.not_after) < now {
        return Some(Wrong::Expired {
            subject: rfc4514(certificate.subject()),
            not_after: rfc3339(&validity.not_after),
        });
    }
    (system_time(&validity.not_before) > now).then(|| Wrong::NotYetValid {
        subject: rfc4514(certificate.subject()),
        not_before: rfc3339(&validity.not_before),
    })
}

fn open_to_all(key: &Path) -> Option<String> {
    let mode = std::fs::metadata(key).ok()?.permissions().mode() & 0o777;
    (mode & 0o007 != 0).then(|| {
        format!(
            "{}: every user of this machine may open this private key (mode {mode:04o})\n  fix: chmod \
             0600, and count the key as known to others",
            key.display()
        )
    })
}
