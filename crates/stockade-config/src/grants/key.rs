//! `key`: a key that the host holds for a guest.

use super::GrantSection;
use super::limits::{self, CallLimits, call_limits};
use crate::keys::{Key, TEXT, list, text};
use crate::secret::SecretRef;
use crate::section::{Words, section, words};

call_limits! {
    "key_limits",
    rate: "100",
    concurrent: "16",
    queue: "256",
    timeout: "5s",
    max_request: "1mb",
    max_result: "1mb",
    handles: None,
}

section! {
    /// A key that the host holds, as a `CryptoKey` in `env`. `crypto.subtle` uses it by
    /// asking the host, and no code of the guest can read it.
    pub struct KeyGrant "key" {
        /// The private key or the shared secret: PEM (PKCS#8, PKCS#1 or SEC 1) or a JWK;
        /// for `HS…` and `A…GCM` a JWK, or bytes in an `encoding`.
        pub secret: Option<SecretRef> = SecretRef::key().required() => |grant| SecretRef::of(grant, "secret"),
        /// What the key is for, in the words of JWS and JWE (RFC 7518, RFC 9864).
        pub algorithm: KeyAlgorithm = Key::of(KeyAlgorithm::KIND).required(),
        /// What the guest may use it for: `sign` with `RS…`, `PS…`, `ES…` and `Ed25519`;
        /// `sign` and `verify` with `HS…`; `decrypt` and `unwrapKey` with `RSA-OAEP…`;
        /// these, `encrypt` and `wrapKey` with `A…GCM`. What the public half can do, the
        /// guest does itself.
        pub usages: Vec<KeyUsage> = list(&KeyUsage::KIND).required().nonempty().like(&["[sign]"]),
        /// How the bytes of a shared secret are written down, where it is not a JWK.
        pub encoding: Option<KeyEncoding> = Key::of(KeyEncoding::KIND),
        /// What all data must begin with to be signed, so that a signature for one
        /// purpose is none for another.
        pub domain: Option<String> = text(TEXT).like(&["\"invoice-v1:\""]),
        /// Bounds of the calls.
        pub limits: CallLimits = LIMITS_KEY => limits::read,
    }
}

impl GrantSection for KeyGrant {
    fn secrets(&mut self) -> Vec<&mut SecretRef> {
        self.secret.iter_mut().collect()
    }
}

words! {
    /// What a key is for, by the names of RFC 7518 and RFC 9864.
    pub enum KeyAlgorithm {
        /// ECDSA on P-256 with SHA-256.
        Es256 = "ES256",
        /// ECDSA on P-384 with SHA-384.
        Es384 = "ES384",
        /// EdDSA on Curve25519.
        Ed25519 = "Ed25519",
        /// RSASSA-PKCS1-v1_5 with SHA-256.
        Rs256 = "RS256",
        /// RSASSA-PKCS1-v1_5 with SHA-384.
        Rs384 = "RS384",
        /// RSASSA-PKCS1-v1_5 with SHA-512.
        Rs512 = "RS512",
        /// RSA-PSS with SHA-256.
        Ps256 = "PS256",
        /// RSA-PSS with SHA-384.
        Ps384 = "PS384",
        /// RSA-PSS with SHA-512.
        Ps512 = "PS512",
        /// RSA-OAEP with SHA-1.
        RsaOaep = "RSA-OAEP",
        /// RSA-OAEP with SHA-256.
        RsaOaep256 = "RSA-OAEP-256",
        /// RSA-OAEP with SHA-384.
        RsaOaep384 = "RSA-OAEP-384",
        /// RSA-OAEP with SHA-512.
        RsaOaep512 = "RSA-OAEP-512",
        /// HMAC with SHA-256.
        Hs256 = "HS256",
        /// HMAC with SHA-384.
        Hs384 = "HS384",
        /// HMAC with SHA-512.
        Hs512 = "HS512",
        /// AES-GCM with a key of 128 bits.
        A128Gcm = "A128GCM",
        /// AES-GCM with a key of 192 bits.
        A192Gcm = "A192GCM",
        /// AES-GCM with a key of 256 bits.
        A256Gcm = "A256GCM",
    }
}

words! {
    /// What a key may be used for, by the names of Web Cryptography.
    pub enum KeyUsage {
        /// Signatures, and message authentication codes.
        Sign = "sign",
        /// Whether a message authentication code is right.
        Verify = "verify",
        /// Encryption.
        Encrypt = "encrypt",
        /// Decryption.
        Decrypt = "decrypt",
        /// Encryption of a key of the guest's.
        WrapKey = "wrapKey",
        /// Decryption of a key that becomes the guest's.
        UnwrapKey = "unwrapKey",
    }
}

words! {
    /// How the bytes of a shared secret are written down.
    pub enum KeyEncoding {
        /// The text's own bytes, in UTF-8.
        Text = "text",
        /// Base64 or base64url, with or without padding.
        Base64 = "base64",
        /// Hexadecimal digits.
        Hex = "hex",
    }
}
