//! An authority that signs certificates into files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, RevokedCertParams, SerialNumber, SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use x509_parser::time::ASN1Time;

use crate::{CertificateFiles, ClientAuth, ClientAuthMode};

pub(super) const DAY: i64 = 24 * 60 * 60;

static SERIAL: AtomicU64 = AtomicU64::new(100);

/// What a certificate says.
pub(super) struct Wish<'a> {
    pub(super) names: &'a [&'a str],
    pub(super) subject: &'a str,
    /// Seconds from now.
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) algorithm: &'static SignatureAlgorithm,
    pub(super) client: bool,
    /// In place of a new one.
    pub(super) key: Option<KeyPair>,
}

impl Default for Wish<'_> {
    fn default() -> Self {
        Self {
            names: &["a.example"],
            subject: "someone",
            from: -DAY,
            to: 90 * DAY,
            algorithm: &PKCS_ECDSA_P256_SHA256,
            client: false,
            key: None,
        }
    }
}

/// A signed certificate.
pub(super) struct Signed {
    pub(super) der: CertificateDer<'static>,
    pub(super) pem: String,
    pub(super) key: KeyPair,
    pub(super) serial: u64,
}

impl Signed {
    pub(super) fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }
}

/// Signs, and keeps its own certificate as `NAME-ca.pem` in a folder of its own.
pub(super) struct Authority {
    pub(super) folder: TempDir,
    pub(super) der: CertificateDer<'static>,
    pub(super) pem: String,
    pub(super) file: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// Reads the clock in the form that rcgen wants; its type is of a crate that is not a dependency.
macro_rules! moment {
    ($seconds:expr) => {{
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs() as i64;
        ASN1Time::from_timestamp(now + $seconds)
            .unwrap()
            .to_datetime()
    }};
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        Self::valid(name, -365 * DAY, 3650 * DAY)
    }

    /// One whose own certificate has these dates.
    pub(super) fn valid(name: &str, from: i64, to: i64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = moment!(from);
        params.not_after = moment!(to);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        let file = folder.path().join(format!("{name}-ca.pem"));
        std::fs::write(&file, own.pem()).unwrap();
        Self {
            folder,
            der: own.der().clone(),
            pem: own.pem(),
            file,
            issuer: Issuer::new(params, key),
        }
    }

    pub(super) fn sign(&self, wish: Wish<'_>) -> Signed {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let names: Vec<String> = wish.names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Tests");
        params
            .distinguished_name
            .push(DnType::CommonName, wish.subject);
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = moment!(wish.from);
        params.not_after = moment!(wish.to);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![if wish.client {
            ExtendedKeyUsagePurpose::ClientAuth
        } else {
            ExtendedKeyUsagePurpose::ServerAuth
        }];
        let key = wish
            .key
            .unwrap_or_else(|| KeyPair::generate_for(wish.algorithm).unwrap());
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        Signed {
            der: signed.der().clone(),
            pem: signed.pem(),
            key,
            serial,
        }
    }

    /// Signs a server's certificate into `LABEL.crt` and `LABEL.key`.
    pub(super) fn server(&self, label: &str, wish: Wish<'_>) -> CertificateFiles {
        let signed = self.sign(wish);
        write_pair(self.folder.path(), label, &signed)
    }

    /// Signs a client's certificate.
    pub(super) fn client(&self, subject: &str) -> Signed {
        self.sign(Wish {
            subject,
            names: &["client.example"],
            client: true,
            ..Wish::default()
        })
    }

    /// Writes a revocation list that ends in a number of seconds.
    pub(super) fn revoke(&self, file: &str, serials: &[u64], next_update: i64) -> PathBuf {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: moment!(-60),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: moment!(-2 * DAY),
            next_update: moment!(next_update),
            crl_number: SerialNumber::from(SERIAL.fetch_add(1, Ordering::Relaxed)),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let file = self.folder.path().join(file);
        replace(&file, &list.signed_by(&self.issuer).unwrap().pem().unwrap());
        file
    }

    /// Asks clients for certificates of this authority.
    pub(super) fn asks(&self, mode: ClientAuthMode) -> ClientAuth {
        ClientAuth {
            mode,
            ca: vec![self.file.clone()],
            ..ClientAuth::default()
        }
    }
}

pub(super) fn write_pair(folder: &Path, label: &str, signed: &Signed) -> CertificateFiles {
    let files = CertificateFiles {
        cert: folder.join(format!("{label}.crt")),
        key: folder.join(format!("{label}.key")),
        ocsp: None,
    };
    replace(&files.cert, &signed.pem);
    replace(&files.key, &signed.key.serialize_pem());
    files
}

/// Replaces a file at once, as careful programs do.
pub(super) fn replace(file: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let mut replacement = tempfile::NamedTempFile::new_in(file.parent().unwrap()).unwrap();
    std::io::Write::write_all(&mut replacement, text.as_bytes()).unwrap();
    std::fs::set_permissions(replacement.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    replacement.persist(file).unwrap();
}
