//! The certificate of `stockade dev --tls`: for this machine alone, made once for each user.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// After this time it is made again. Browsers refuse what is valid for more than 398 days.
const MADE_AGAIN: Duration = Duration::from_secs(300 * 24 * 3600);

/// How long it is valid.
const VALID: Duration = Duration::from_secs(390 * 24 * 3600);

/// Names that it is for.
const NAMES: [&str; 4] = ["localhost", "*.localhost", "127.0.0.1", "::1"];

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCertificate {
    /// The certificate (PEM), which is its own authority.
    pub certificate: PathBuf,
    /// Its key (PEM), with the mode 0600.
    pub key: PathBuf,
    /// It was made just now, so nothing trusts it yet.
    pub is_new: bool,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// There is no folder for it.
    #[error(
        "there is no folder for the certificate: neither XDG_DATA_HOME nor HOME is set\n  fix: set HOME"
    )]
    NoFolder,
    /// A file cannot be written.
    #[error("cannot write to {folder}: {source}")]
    Unwritable {
        /// Where.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be made.
    #[error("cannot make a certificate: {0}")]
    Failed(#[from] rcgen::Error),
}

/// The user's folder for it: `$XDG_DATA_HOME/stockade/dev`, by default below `~/.local/share`.
fn folder() -> Result<PathBuf, CertificateError> {
    let named = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let data = named("XDG_DATA_HOME").or_else(|| Some(named("HOME")?.join(".local/share")));
    let data = data.ok_or(CertificateError::NoFolder)?;
    Ok(data.join("stockade/dev"))
}

/// The user's certificate, made where there is none or where the one that is there is old.
///
/// # Errors
/// When it cannot be made or written.
pub fn local_certificate() -> Result<LocalCertificate, CertificateError> {
    in_folder(&folder()?)
}

fn in_folder(folder: &Path) -> Result<LocalCertificate, CertificateError> {
    let unwritable = |source| CertificateError::Unwritable {
        folder: folder.to_owned(),
        source,
    };
    let mut files = LocalCertificate {
        certificate: folder.join("localhost.crt"),
        key: folder.join("localhost.key"),
        is_new: false,
    };
    let age = |path: &Path| {
        path.metadata()?
            .modified()
            .map(|made| made.elapsed().unwrap_or_default())
    };
    let is_fresh = |path: &Path| age(path).is_ok_and(|age| age < MADE_AGAIN);
    if is_fresh(&files.certificate) && is_fresh(&files.key) {
        return Ok(files);
    }
    let names = NAMES.map(str::to_owned);
    let mut wanted = rcgen::CertificateParams::new(names.to_vec())?;
    wanted.distinguished_name = rcgen::DistinguishedName::new();
    wanted
        .distinguished_name
        .push(rcgen::DnType::CommonName, "stockade dev");
    let now = SystemTime::now();
    wanted.not_before = (now - Duration::from_secs(3600)).into();
    wanted.not_after = (now + VALID).into();
    wanted.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = rcgen::KeyPair::generate()?;
    let certificate = wanted.self_signed(&key)?;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(folder).map_err(unwritable)?;
    // The key first: a certificate without its key is made again.
    replace(&files.key, &key.serialize_pem(), 0o600).map_err(unwritable)?;
    replace(&files.certificate, &certificate.pem(), 0o644).map_err(unwritable)?;
    files.is_new = true;
    Ok(files)
}

/// Puts a text in the place of a file.
fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let next = path.with_extension(format!("new-{}", std::process::id()));
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&next)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&next, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn certificate_is_made_once_and_its_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a/b");
        let first = in_folder(&place).unwrap();
        assert!(first.is_new);
        let mode = first.key.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read_to_string(&first.certificate).unwrap();
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----"));
        let second = in_folder(&place).unwrap();
        assert!(!second.is_new);
        assert_eq!(fs::read_to_string(&second.certificate).unwrap(), text);
        let long_ago = SystemTime::now() - MADE_AGAIN;
        let file = fs::File::open(&first.certificate).unwrap();
        file.set_modified(long_ago).unwrap();
        assert!(in_folder(&place).unwrap().is_new);
    }
}
