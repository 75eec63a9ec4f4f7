//! The keyed hash of a key, and the pepper that it is made with.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::{constant_time, hmac, rand};

use crate::key::ApiKey;

/// The least bytes of a pepper.
const MIN_PEPPER: usize = 32;

/// The most bytes of a pepper's file.
const MAX_PEPPER: u64 = 4096;

/// HMAC-SHA-256 (RFC 2104) of a key's text with the pepper. A key has 256 random bits, so a slow hash would protect
/// nothing that a fast one does not.
#[derive(Clone, Copy)]
pub struct KeyHash(pub(crate) [u8; 32]);

impl KeyHash {
    /// The first half, which the memory has of each key: 128 bits (RFC 2104, section 5).
    pub(crate) fn half(&self) -> [u8; 16] {
        let mut half = [0; 16];
        half.iter_mut()
            .zip(self.0)
            .for_each(|(to, from)| *to = from);
        half
    }

    pub(crate) fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl PartialEq for KeyHash {
    /// Takes the same time wherever the two differ.
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

/// The secret with which keys are hashed: without it, a copy of the store is of no use.
#[derive(Clone)]
pub struct Pepper(hmac::Key);

/// Why there is no pepper.
#[derive(Debug, thiserror::Error)]
pub enum PepperError {
    /// Too short to be a secret.
    #[error(
        "the pepper has {0} bytes; the least is {MIN_PEPPER}\n  fix: openssl rand -hex 32 writes a good one"
    )]
    Short(usize),
    /// Its environment variable is not set.
    #[error(
        "the environment variable {0}, which api_keys.pepper_variable names, is not set to text\n  fix: set it to the pepper"
    )]
    Variable(String),
    /// Its file cannot be read.
    #[error("cannot read the pepper {path}: {source}")]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its file cannot be made.
    #[error("cannot make the pepper {path}: {source}")]
    Make {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Pepper {
    /// Takes a secret of at least 32 bytes. One line break at its end does not belong to it.
    ///
    /// # Errors
    /// [`PepperError::Short`].
    pub fn new(secret: &[u8]) -> Result<Self, PepperError> {
        let secret = secret.strip_suffix(b"\n").unwrap_or(secret);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        if secret.len() < MIN_PEPPER {
            return Err(PepperError::Short(secret.len()));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// Reads the pepper of a file.
    ///
    /// # Errors
    /// When the file cannot be read, or is too short.
    pub fn read(path: &Path) -> Result<Self, PepperError> {
        let mut secret = Vec::new();
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(MAX_PEPPER).read_to_end(&mut secret));
        read.map_err(|source| PepperError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::new(&secret)
    }

    /// The pepper of an environment variable where one is named, else that of a file, which is made if there is none.
    ///
    /// # Errors
    /// When there is none, or it is too short.
    pub fn load(file: &Path, variable: Option<&str>) -> Result<Self, PepperError> {
        let Some(variable) = variable else {
            return Self::read_or_make(file);
        };
        match std::env::var(variable) {
            Ok(secret) => Self::new(secret.as_bytes()),
            Err(_) => Err(PepperError::Variable(variable.to_owned())),
        }
    }

    /// Makes a file with a random pepper that only this user can read, unless there is one, and reads it. A process
    /// that is killed here leaves a whole file or none.
    ///
    /// # Errors
    /// When the file can be neither made nor read.
    pub fn read_or_make(path: &Path) -> Result<Self, PepperError> {
        if path.exists() {
            return Self::read(path);
        }
        Self::make(path).map_err(|source| PepperError::Make {
            path: path.to_owned(),
            source,
        })?;
        Self::read(path)
    }

    fn make(path: &Path) -> io::Result<()> {
        let mut random = [0; 32];
        let no_random = |_| io::Error::other("the operating system gave no random numbers");
        rand::fill(&mut random).map_err(no_random)?;
        let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut unique = [0; 8];
        rand::fill(&mut unique).map_err(no_random)?;
        let unique: String = unique.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{unique}"));
        let draft = path.with_file_name(name);
        let written = (|| {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&draft)?;
            writeln!(file, "{text}")?;
            file.sync_all()?;
            // A link, because it never replaces the pepper of another process that was faster.
            match std::fs::hard_link(&draft, path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                other => other,
            }
        })();
        let _ = std::fs::remove_file(&draft);
        written?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    /// The hash of a key.
    #[must_use]
    pub fn hash(&self, key: &ApiKey) -> KeyHash {
        self.hash_bytes(key.reveal().as_bytes())
    }

    pub(crate) fn hash_bytes(&self, bytes: &[u8]) -> KeyHash {
        let tag = hmac::sign(&self.0, bytes);
        let mut hash = [0; 32];
        hash.iter_mut()
            .zip(tag.as_ref())
            .for_each(|(to, from)| *to = *from);
        KeyHash(hash)
    }

    /// What a store keeps, so that it is not used with another pepper. No key has this text.
    pub(crate) fn fingerprint(&self) -> KeyHash {
        self.hash_bytes(b"stockade: the fingerprint of a pepper")
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn pepper_is_made_once_and_only_its_user_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pepper");
        let first = Pepper::read_or_make(&path).unwrap();
        let again = Pepper::read_or_make(&path).unwrap();
        assert!(first.fingerprint() == again.fingerprint());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(matches!(Pepper::new(b"short"), Err(PepperError::Short(5))));
    }

    #[test]
    fn hash_depends_on_pepper_and_key() {
        let (a, b) = ([1; 32], [2; 32]);
        let (a, b) = (Pepper::new(&a).unwrap(), Pepper::new(&b).unwrap());
        let key = ApiKey::generate().unwrap();
        assert!(a.hash(&key) == a.hash(&key));
        assert!(a.hash(&key) != b.hash(&key));
        assert!(a.hash(&key) != a.hash(&ApiKey::generate().unwrap()));
        let hash = a.hash(&key);
        assert!(KeyHash::from_hex(&hash.to_hex()) == Some(hash));
        assert!(KeyHash::from_hex("00").is_none());
    }
}
