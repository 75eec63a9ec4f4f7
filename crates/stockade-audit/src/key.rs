//! The key that signs checkpoints.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::AuditError;
use crate::hex::{from_hex, to_hex};

/// Bytes of a key's file that are read.
const MAX_FILE: u64 = 4096;

/// An Ed25519 key pair.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Reads a key from a file: PKCS#8 in DER, as `openssl genpkey -algorithm ed25519 -outform der` writes it. A file that
    /// does not exist is made, with mode 0600.
    ///
    /// # Errors
    /// When the file can be neither read nor made, or contains something else.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
            Err(error) => return Err(AuditError::file(path)(error)),
        };
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&bytes);
        pair.map(Self).map_err(|_| AuditError::Key {
            path: path.to_owned(),
            why: "it is not an Ed25519 key in PKCS#8\n  fix: make one with `openssl genpkey -algorithm ed25519 -outform der`, \
                  or name a file that does not exist yet",
        })
    }

    /// What others verify with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key().as_ref().to_vec())
    }

    /// Signs a message; 64 bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

/// The public half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        from_hex(text.trim())
            .filter(|bytes| bytes.len() == 32)
            .map(Self)
    }

    /// Reads a file of 64 hexadecimal digits, as the file `key.pub` of an audit folder.
    ///
    /// # Errors
    /// When the file cannot be read or contains something else.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let bytes = read(path).map_err(AuditError::file(path))?;
        let key = std::str::from_utf8(&bytes).ok().and_then(Self::parse);
        key.ok_or_else(|| AuditError::Key {
            path: path.to_owned(),
            why: "it is not 64 hexadecimal digits\n  fix: take the file key.pub of the audit folder",
        })
    }

    /// A short name of the key, by which checkpoints name it.
    #[must_use]
    pub fn id(&self) -> String {
        to_hex(&self.0).get(..16).unwrap_or_default().to_owned()
    }

    /// The key of 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == 32).then(|| Self(bytes.to_vec()))
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The form that [`PublicKey::parse`] reads.
    #[must_use]
    pub fn to_hex(&self) -> String {
        to_hex(&self.0)
    }

    /// Whether the other half of the key has signed this message so.
    #[must_use]
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .is_ok()
    }

    pub(crate) fn to_line(&self) -> String {
        self.to_hex() + "\n"
    }
}

/// Without following what a hostile link would lead to further than a small regular read.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(
        &mut io::Read::take(fs::File::open(path)?, MAX_FILE),
        &mut bytes,
    )?;
    Ok(bytes)
}

fn make(path: &Path) -> Result<Vec<u8>, AuditError> {
    let failed = |what: &'static str| AuditError::Key {
        path: path.to_owned(),
        why: what,
    };
    let pair = Ed25519KeyPair::generate().map_err(|_| failed("no key can be made"))?;
    let document = pair.to_pkcs8().map_err(|_| failed("no key can be made"))?;
    // A name of its own first: a key that is there is whole.
    let part = path.with_extension("new");
    let _ = fs::remove_file(&part);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)
        .map_err(AuditError::file(&part))?;
    file.write_all(document.as_ref())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&part, path))
        .map_err(AuditError::file(path))?;
    Ok(document.as_ref().to_vec())
}
