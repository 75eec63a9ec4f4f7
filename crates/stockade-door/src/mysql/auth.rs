//! The logins of MySQL and MariaDB that the supervisor can do.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;

use crate::server::ServerError;

/// A method of login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plugin {
    Native,
    CachingSha2,
    ClearText,
}

impl Plugin {
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"mysql_native_password" => Some(Self::Native),
            b"caching_sha2_password" => Some(Self::CachingSha2),
            b"mysql_clear_password" => Some(Self::ClearText),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "mysql_native_password",
            Self::CachingSha2 => "caching_sha2_password",
            Self::ClearText => "mysql_clear_password",
        }
    }

    /// The first answer to the server's salt. Empty for an empty password.
    pub(crate) fn response(self, password: &str, salt: &[u8]) -> Vec<u8> {
        match self {
            Self::ClearText => clear(password),
            _ if password.is_empty() => Vec::new(),
            Self::Native => native(password.as_bytes(), salt),
            Self::CachingSha2 => caching_sha2(password.as_bytes(), salt),
        }
    }
}

/// `SHA1(password) ^ SHA1(salt, SHA1(SHA1(password)))`
fn native(password: &[u8], salt: &[u8]) -> Vec<u8> {
    let sha1 = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let once = sha1(password);
    let mask = sha1(&[salt, sha1(once.as_ref()).as_ref()].concat());
    xor(once.as_ref(), mask.as_ref())
}

/// `SHA256(password) ^ SHA256(SHA256(SHA256(password)), salt)`
fn caching_sha2(password: &[u8], salt: &[u8]) -> Vec<u8> {
    let once = digest(&SHA256, password);
    let twice = digest(&SHA256, once.as_ref());
    let mask = digest(&SHA256, &[twice.as_ref(), salt].concat());
    xor(once.as_ref(), mask.as_ref())
}

fn xor(bytes: &[u8], mask: &[u8]) -> Vec<u8> {
    let mask = mask.iter().cycle();
    bytes
        .iter()
        .zip(mask)
        .map(|(byte, mask)| byte ^ mask)
        .collect()
}

/// The password itself, for a stream with TLS.
pub(crate) fn clear(password: &str) -> Vec<u8> {
    [password.as_bytes(), &[0]].concat()
}

/// The password for the owner of a public key, which is in PEM.
///
/// # Errors
/// When there is no such key in it.
pub(crate) fn encrypted(password: &str, salt: &[u8], pem: &[u8]) -> Result<Vec<u8>, ServerError> {
    let invalid = || ServerError::Protocol("the server's public key cannot be used");
    let key = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| invalid())?;
    let key = PublicEncryptingKey::from_der(&key).map_err(|_| invalid())?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| invalid())?;
    let mut encrypted = vec![0; key.ciphertext_size()];
    let masked = xor(&clear(password), salt);
    key.encrypt(&OAEP_SHA1_MGF1SHA1, &masked, &mut encrypted, None)
        .map_err(|_| invalid())?;
    Ok(encrypted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn response_is_the_one_that_servers_expect() {
        // What a server checks: the stored hash, masked with the salt and the answer, hashes to the stored hash.
        let salt = b"12345678901234567890";
        let sha1 = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec();
        let stored = sha1(&sha1(b"secret"));
        let answer = Plugin::Native.response("secret", salt);
        let mask = sha1(&[&salt[..], &stored].concat());
        assert_eq!(sha1(&xor(&answer, &mask)), stored);
        // PASSWORD('secret') of MariaDB.
        assert_eq!(hex(&stored), "14e65567abdb5135d0cfd9a70b3032c179a49ee7");
        let sha256 = |bytes: &[u8]| digest(&SHA256, bytes).as_ref().to_vec();
        let stored = sha256(&sha256(b"secret"));
        let answer = Plugin::CachingSha2.response("secret", salt);
        let mask = sha256(&[&stored, &salt[..]].concat());
        assert_eq!(sha256(&xor(&answer, &mask)), stored);
        assert!(Plugin::Native.response("", salt).is_empty());
    }

    #[test]
    fn password_is_encrypted_for_a_key_in_pem() {
        use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
        use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};
        use base64::Engine as _;

        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let public: PublicKeyX509Der<'_> = private.public_key().as_der().unwrap();
        let base64 = base64::prelude::BASE64_STANDARD.encode(public.as_ref());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----\n");
        let sent = encrypted("secret", b"12345678901234567890", pem.as_bytes()).unwrap();
        let private = OaepPrivateDecryptingKey::new(private).unwrap();
        let mut buffer = vec![0; private.min_output_size()];
        let masked = private
            .decrypt(&OAEP_SHA1_MGF1SHA1, &sent, &mut buffer, None)
            .unwrap();
        assert_eq!(xor(masked, b"12345678901234567890"), b"secret\0");
        assert!(encrypted("secret", b"1", b"no key").is_err());
    }
}
