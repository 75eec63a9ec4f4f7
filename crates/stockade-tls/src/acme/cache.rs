//! The folder with the account and the certificates: readable by its owner only, each file written as a
//! whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use instant_acme::AccountCredentials;
use sha2::{Digest, Sha256};

use crate::pem;
use crate::subject::hex;

/// A folder of mode 0700.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    folder: PathBuf,
    /// A name made of the directory's URL, so that two servers share no account.
    server: String,
}

impl Cache {
    pub(crate) fn open(folder: &Path, directory: &str) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let mode = fs::metadata(folder)?.permissions().mode();
        if mode & 0o077 != 0 {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            server: short_digest(&[directory]),
        })
    }

    fn account_file(&self) -> PathBuf {
        self.folder.join(format!("account-{}.json", self.server))
    }

    /// The account that was made earlier, unless its file is damaged.
    pub(crate) fn account(&self) -> Option<AccountCredentials> {
        let bytes = fs::read(self.account_file()).ok()?;
        match serde_json::from_slice(&bytes) {
            Ok(credentials) => Some(credentials),
            Err(e) => {
                let file = self.account_file();
                // What is wrong with it may be a part of the account's key.
                let (line, column) = (e.line(), e.column());
                tracing::warn!(
                    file = %file.display(),
                    "ACME account not readable, a new one is made: wrong at line {line}, column {column}"
                );
                None
            }
        }
    }

    pub(crate) fn keep_account(&self, credentials: &AccountCredentials) -> io::Result<()> {
        let text = serde_json::to_vec(credentials).map_err(io::Error::other)?;
        self.write(&self.account_file(), &text)
    }

    /// The server does not know it any more.
    pub(crate) fn forget_account(&self) {
        let _ = fs::remove_file(self.account_file());
    }

    /// Where the key and the chain for these names are, in one file so that they always fit each other.
    pub(crate) fn certificate_file(&self, names: &[String]) -> PathBuf {
        let mut parts: Vec<&str> = names.iter().map(String::as_str).collect();
        parts.push(&self.server);
        let first = names.first().map_or("", String::as_str);
        self.folder
            .join(format!("{first}-{}.pem", short_digest(&parts)))
    }

    /// Key and chain, if there are any.
    pub(crate) fn certificate(&self, names: &[String]) -> Option<Vec<u8>> {
        pem::read(
            &self.certificate_file(names),
            pem::CERTIFICATES_LIMIT,
            "certificate",
        )
        .ok()
    }

    pub(crate) fn keep_certificate(&self, names: &[String], pem: &[u8]) -> io::Result<()> {
        self.write(&self.certificate_file(names), pem)
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let replacement = file.with_extension("new");
        let _ = fs::remove_file(&replacement);
        let mut new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&replacement)?;
        new.write_all(bytes)?;
        new.sync_all()?;
        fs::rename(&replacement, file)?;
        File::open(&self.folder)?.sync_all()
    }
}

fn short_digest(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    hex(&digest.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_of_their_owner_only() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("a/b");
        let cache = Cache::open(&folder, "https://ca.example/dir").unwrap();
        let names = ["a.example".to_owned()];
        cache.keep_certificate(&names, b"one").unwrap();
        cache.keep_certificate(&names, b"two").unwrap();
        assert_eq!(cache.certificate(&names).unwrap(), b"two");
        assert_eq!(cache.certificate(&["b.example".to_owned()]), None);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&cache.certificate_file(&names)), 0o600);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        let other = Cache::open(&folder, "https://other.example/dir").unwrap();
        assert_eq!(other.certificate(&names), None);
    }

    #[test]
    fn folder_open_to_others_is_closed() {
        let outer = tempfile::tempdir().unwrap();
        fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Cache::open(outer.path(), "x").unwrap();
        assert_eq!(
            fs::metadata(outer.path()).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn damaged_account_is_none() {
        let outer = tempfile::tempdir().unwrap();
        let cache = Cache::open(outer.path(), "x").unwrap();
        fs::write(cache.account_file(), "{").unwrap();
        assert!(cache.account().is_none());
    }
}
