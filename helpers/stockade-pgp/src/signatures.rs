//! Whether signatures are valid.

use std::time::SystemTime;

use pgp::composed::SignedPublicKey;
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, SignatureVersion};
use pgp::types::{KeyDetails, KeyVersion};

use crate::certificates::{Component, Usable, usable};
use crate::message;

/// Seconds by which the clock of a signer may be ahead.
const AHEAD: u64 = 300;

/// Whether the digest of a signature has 256 bits or more: others are found twice, or soon will be.
pub(crate) fn is_strong(signature: &Signature) -> bool {
    matches!(
        signature.hash_alg(),
        Some(
            HashAlgorithm::Sha256
                | HashAlgorithm::Sha384
                | HashAlgorithm::Sha512
                | HashAlgorithm::Sha3_256
                | HashAlgorithm::Sha3_512
        )
    )
}

/// The keys that signatures may be of.
pub(crate) struct Signers<'a> {
    /// Each with the fingerprint of its certificate.
    keys: Vec<(String, Usable<'a>)>,
    now: u64,
}

impl<'a> Signers<'a> {
    pub(crate) fn of(certificates: impl Iterator<Item = &'a SignedPublicKey>) -> Self {
        let mut keys = Vec::new();
        for certificate in certificates {
            let fingerprint = fingerprint(certificate);
            let signing = usable(certificate).into_iter().filter(|key| key.signs);
            keys.extend(signing.map(|key| (fingerprint.clone(), key)));
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            keys,
            now: now.map_or(0, |now| now.as_secs()),
        }
    }

    /// What a signature of data is worth. `fits` checks its digest with a key.
    pub(crate) fn check(
        &self,
        signature: &Signature,
        fits: impl Fn(Component<'_>) -> bool,
    ) -> message::Signature {
        let created = signature.created();
        let created = created.map(|created| u64::from(created.as_secs()));
        let maker = self.keys.iter().find(|(_, key)| {
            is_of_version(signature, key.key) && key.key.may_have_made(signature) && fits(key.key)
        });
        let of_data = matches!(
            signature.typ(),
            Some(SignatureType::Binary | SignatureType::Text)
        );
        let valid = of_data
            && is_strong(signature)
            && maker.is_some_and(|(_, key)| {
                created.is_some_and(|created| {
                    key.is_good_at(created) && self.lasts(signature, created)
                })
            });
        message::Signature {
            valid,
            fingerprint: maker.map_or_else(String::new, |(fingerprint, _)| fingerprint.clone()),
            created,
        }
    }

    /// Whether a signature is neither of the future nor expired.
    fn lasts(&self, signature: &Signature, created: u64) -> bool {
        let lasts = signature.signature_expiration_time();
        let lasts = lasts.map_or(0, |lasts| u64::from(lasts.as_secs()));
        created <= self.now + AHEAD && (lasts == 0 || self.now < created + lasts)
    }
}

/// Keys of version 6 make signatures of version 6, and no other key does.
fn is_of_version(signature: &Signature, key: Component<'_>) -> bool {
    (signature.version() == SignatureVersion::V6)
        == (key.as_verifying().version() == KeyVersion::V6)
}

/// The fingerprint of a certificate in lower-case hexadecimal digits.
pub(crate) fn fingerprint(certificate: &SignedPublicKey) -> String {
    let fingerprint = certificate.primary_key.fingerprint();
    let digits = fingerprint.as_bytes().iter();
    digits.map(|byte| format!("{byte:02x}")).collect()
}
