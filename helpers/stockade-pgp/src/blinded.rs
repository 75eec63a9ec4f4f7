//! Operations with secret keys, with blinding where they are RSA.
//!
//! rPGP works with an RSA key directly on what a guest chose, in a time that depends on both (RUSTSEC-2023-0071). A guest
//! that measures many operations could find the key. Here a random number is mixed into the operand first, and taken out
//! of the result.
//!
//! Invariant: no other module decrypts or signs with a secret key.

use pgp::composed::{Esk, PlainSessionKey, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::crypto::sym::SymmetricKeyAlgorithm;
use pgp::errors::Result;
use pgp::packet::{PublicKeyEncryptedSessionKey, SecretKey, SecretSubkey};
use pgp::types::{
    DecryptionKey, EskType, Fingerprint, KeyDetails, KeyId, KeyVersion, Mpi, Password, PkeskBytes,
    PkeskVersion, PlainSecretParams, PublicParams, SecretParams, SignatureBytes, SigningKey,
    Timestamp,
};
use rand::rngs::OsRng;
use rsa::sha2::{Sha256, Sha384, Sha512};
use rsa::traits::PublicKeyParts as _;
use rsa::{BigUint, Pkcs1v15Encrypt, Pkcs1v15Sign, RsaPrivateKey};

/// An unlocked key that signs.
#[derive(Debug)]
pub(crate) struct Signing<'a> {
    key: &'a dyn SigningKey,
    rsa: Option<RsaPrivateKey>,
}

impl<'a> Signing<'a> {
    /// `None` if the key is locked.
    pub(crate) fn primary(key: &'a SecretKey) -> Option<Self> {
        Self::new(key, key.secret_params())
    }

    /// `None` if the key is locked.
    pub(crate) fn subkey(key: &'a SecretSubkey) -> Option<Self> {
        Self::new(key, key.secret_params())
    }

    fn new(key: &'a dyn SigningKey, params: &SecretParams) -> Option<Self> {
        let SecretParams::Plain(params) = params else {
            return None;
        };
        let rsa = match params {
            PlainSecretParams::RSA(_) => Some(private_key(params, key.public_params())?),
            _ => None,
        };
        Some(Self { key, rsa })
    }
}

impl SigningKey for Signing<'_> {
    fn sign(
        &self,
        password: &Password,
        hash: HashAlgorithm,
        data: &[u8],
    ) -> Result<SignatureBytes> {
        let Some(key) = &self.rsa else {
            return self.key.sign(password, hash, data);
        };
        let padding = match hash {
            HashAlgorithm::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
            HashAlgorithm::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
            HashAlgorithm::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
            _ => return Err(format!("RSA signatures by {hash} are not made").into()),
        };
        let signature = key.sign_with_rng(&mut OsRng, padding, data)?;
        Ok(SignatureBytes::Mpis(vec![Mpi::from_slice(&signature)]))
    }

    fn hash_alg(&self) -> HashAlgorithm {
        self.key.hash_alg()
    }
}

impl KeyDetails for Signing<'_> {
    fn version(&self) -> KeyVersion {
        self.key.version()
    }

    fn legacy_key_id(&self) -> KeyId {
        self.key.legacy_key_id()
    }

    fn fingerprint(&self) -> Fingerprint {
        self.key.fingerprint()
    }

    fn algorithm(&self) -> PublicKeyAlgorithm {
        self.key.algorithm()
    }

    fn created_at(&self) -> Timestamp {
        self.key.created_at()
    }

    fn legacy_v3_expiration_days(&self) -> Option<u16> {
        self.key.legacy_v3_expiration_days()
    }

    fn public_params(&self) -> &PublicParams {
        self.key.public_params()
    }
}

/// The session key of a message, from the first packet that one of a secret key's unlocked keys decrypts.
pub(crate) fn session_key(secret: &SignedSecretKey, esks: &[Esk]) -> Option<PlainSessionKey> {
    esks.iter().find_map(|esk| {
        let Esk::PublicKeyEncryptedSessionKey(esk) = esk else {
            return None;
        };
        let primary = &secret.primary_key;
        let by_primary = esk
            .match_identity(primary.public_key())
            .then(|| decrypted(esk, primary, primary.secret_params()));
        by_primary.flatten().or_else(|| {
            secret.secret_subkeys.iter().find_map(|subkey| {
                let key = &subkey.key;
                esk.match_identity(key.public_key())
                    .then(|| decrypted(esk, key, key.secret_params()))
                    .flatten()
            })
        })
    })
}

fn decrypted(
    esk: &PublicKeyEncryptedSessionKey,
    key: &dyn DecryptionKey,
    params: &SecretParams,
) -> Option<PlainSessionKey> {
    let form = match esk.version() {
        PkeskVersion::V3 => EskType::V3_4,
        PkeskVersion::V6 => EskType::V6,
        PkeskVersion::Other(_) => return None,
    };
    let SecretParams::Plain(params) = params else {
        return None;
    };
    match (params, esk.values().ok()?) {
        (PlainSecretParams::RSA(_), PkeskBytes::Rsa { mpi }) => {
            let key = private_key(params, key.public_params())?;
            let plain = key.decrypt_blinded(&mut OsRng, Pkcs1v15Encrypt, mpi.as_ref());
            unpacked(&plain.ok()?, form)
        }
        (_, values) => key.decrypt(&Password::empty(), values, form).ok()?.ok(),
    }
}

/// What RSA encrypted (RFC 9580, section 5.1.3): in version 3 the algorithm first, then the session key, and the sum of its
/// bytes modulo 65,536.
fn unpacked(plain: &[u8], form: EskType) -> Option<PlainSessionKey> {
    let (content, sum) = plain.split_last_chunk::<2>()?;
    let (algorithm, key) = match form {
        EskType::V3_4 => {
            let (algorithm, key) = content.split_first()?;
            (Some(SymmetricKeyAlgorithm::from(*algorithm)), key)
        }
        EskType::V6 => (None, content),
    };
    let counted = key
        .iter()
        .fold(0_u16, |sum, byte| sum.wrapping_add(u16::from(*byte)));
    // The keys of algorithms that are not known have no size.
    if key.is_empty() || counted != u16::from_be_bytes(*sum) {
        return None;
    }
    match algorithm {
        None => Some(PlainSessionKey::V6 { key: key.into() }),
        Some(SymmetricKeyAlgorithm::Plaintext) => None,
        Some(sym_alg) => (sym_alg.key_size() == key.len()).then(|| PlainSessionKey::V3_4 {
            sym_alg,
            key: key.into(),
        }),
    }
}

/// An RSA key in the form of the crate `rsa`. `None` for other keys.
fn private_key(params: &PlainSecretParams, public: &PublicParams) -> Option<RsaPrivateKey> {
    let (PlainSecretParams::RSA(secret), PublicParams::RSA(public)) = (params, public) else {
        return None;
    };
    let (d, p, q, _) = secret.to_bytes();
    let [d, p, q] = [d, p, q].map(|number| BigUint::from_bytes_be(&number));
    let (n, e) = (public.key.n().clone(), public.key.e().clone());
    RsaPrivateKey::from_components(n, e, d, vec![p, q]).ok()
}
