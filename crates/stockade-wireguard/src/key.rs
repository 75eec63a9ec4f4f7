//! Keys of WireGuard: 32 bytes, written as Base64.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519::{PublicKey, StaticSecret};

/// A key: public, private or preshared. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; 32]);

/// A text is not a key. The text is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a key: 32 bytes as Base64, which are 44 characters")]
pub struct KeyError;

impl Key {
    /// Reads a key from Base64.
    ///
    /// # Errors
    /// It is not 32 bytes in the standard alphabet, with padding.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut bytes = [0; 33];
        match STANDARD.decode_slice(text.trim(), &mut bytes) {
            Ok(32) => bytes.first_chunk().copied().map(Self).ok_or(KeyError),
            _ => Err(KeyError),
        }
    }

    /// A key of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The text of the key. A public key may be shown; the others may not.
    #[must_use]
    pub fn reveal(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// The public key of this private key.
    #[must_use]
    pub fn public(&self) -> Self {
        Self(PublicKey::from(&StaticSecret::from(self.0)).to_bytes())
    }

    /// A private key of random bytes.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = random::<32>()?;
        // As curve25519 wants it (RFC 7748, 5), and as `wg genkey` prints it.
        bytes[0] &= 248;
        bytes[31] = (bytes[31] & 127) | 64;
        Ok(Self(bytes))
    }
}

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let got = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    // Up to 256 bytes are given at once (getrandom(2)).
    if got < N {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_that_is_not_32_bytes_is_refused() {
        for text in ["", "AAAA", "not base64 at all, with spaces in the middle.."] {
            assert_eq!(Key::parse(text), Err(KeyError), "{text}");
        }
        let long = STANDARD.encode([1; 33]);
        assert_eq!(Key::parse(&long), Err(KeyError));
        let key = Key::from_bytes([7; 32]);
        assert_eq!(Key::parse(&key.reveal()), Ok(key.clone()));
        assert_eq!(format!("{key:?}"), "Key(…)");
    }
}
