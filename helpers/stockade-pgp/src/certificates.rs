//! Which keys of a certificate may do what, by its own signatures (RFC 9580, sections 5.2.3.10 and 10.1).
//!
//! Of the signatures that a certificate's primary key made about itself, the newest one that is valid counts. A key
//! that is revoked is never used, and an expired one only for signatures of its time. Signatures by digests shorter
//! than 256 bits count for nothing.

use pgp::composed::{Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::packet::{KeyFlags, PublicKey, PublicSubkey, Signature, SignatureType};
use pgp::types::{KeyDetails, KeyVersion, Tag, Timestamp, VerifyingKey};

use crate::message::MOST_KEY_BLOCKS;
use crate::signatures::is_strong;

/// A key of a certificate that may be used.
pub(crate) struct Usable<'a> {
    pub(crate) key: Component<'a>,
    /// When it can no more be used, in seconds since 1970.
    pub(crate) expires: Option<u64>,
    pub(crate) signs: bool,
    pub(crate) encrypts: bool,
    /// Whether it can read messages with authenticated encryption (SEIPD v2).
    pub(crate) reads_v2: bool,
    /// When its newest signature was made: of several keys, the newest is used.
    pub(crate) bound: u32,
}

/// The primary key, or one of the others.
#[derive(Clone, Copy)]
pub(crate) enum Component<'a> {
    Primary(&'a PublicKey),
    Subkey(&'a PublicSubkey),
}

impl Component<'_> {
    /// Checks a digest with this key.
    pub(crate) fn as_verifying(&self) -> &dyn VerifyingKey {
        match self {
            Self::Primary(key) => *key,
            Self::Subkey(key) => *key,
        }
    }

    /// Whether a signature says that it was made by this key, or does not say by which.
    pub(crate) fn may_have_made(&self, signature: &Signature) -> bool {
        let ids = signature.issuer_key_id();
        let fingerprints = signature.issuer_fingerprint();
        let key = self.as_verifying();
        (ids.is_empty() && fingerprints.is_empty())
            || ids.iter().any(|id| **id == key.legacy_key_id())
            || fingerprints.iter().any(|of| **of == key.fingerprint())
    }
}

impl Usable<'_> {
    /// Whether the key could be used at a time.
    pub(crate) fn is_good_at(&self, seconds: u64) -> bool {
        let made = u64::from(self.key.as_verifying().created_at().as_secs());
        made <= seconds && self.expires.is_none_or(|expires| seconds < expires)
    }
}

/// How a block of armor begins.
const ARMOR: &[u8] = b"-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// Reads certificates: blocks of armor, or packets, with one or several of them. `what` names them in an error.
pub(crate) fn read(text: &[u8], what: &str) -> Result<Vec<SignedPublicKey>, String> {
    let failed = |error: &dyn std::fmt::Display| {
        format!("{what} cannot be read: it is not an OpenPGP certificate: {error}")
    };
    let mut keys = Vec::new();
    let mut add = |found: pgp::errors::Result<SignedPublicKey>| {
        if keys.len() == MOST_KEY_BLOCKS {
            return Err(format!(
                "{what} has more than {MOST_KEY_BLOCKS} certificates"
            ));
        }
        keys.push(found.map_err(|error| failed(&error))?);
        Ok(())
    };
    // A packet begins with a byte that no text has.
    if text.first().is_some_and(|byte| byte & 0x80 != 0) {
        let found = SignedPublicKey::from_bytes_many(text).map_err(|error| failed(&error))?;
        found.into_iter().try_for_each(&mut add)?;
    } else {
        for block in blocks(text) {
            let found = SignedPublicKey::from_armor_many_buf(block);
            let (found, _) = found.map_err(|error| failed(&error))?;
            found.into_iter().try_for_each(&mut add)?;
        }
    }
    if keys.is_empty() {
        return Err(failed(&"there is none in it"));
    }
    Ok(keys)
}

/// The blocks of armor in a text, each up to the next one.
fn blocks(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let begins = |at: &usize| text.get(*at..).is_some_and(|rest| rest.starts_with(ARMOR));
    let starts: Vec<usize> = (0..text.len()).filter(begins).collect();
    let ends = starts.clone().into_iter().skip(1).chain([text.len()]);
    starts
        .into_iter()
        .zip(ends)
        .map(|(start, end)| &text[start..end])
}

/// The keys of a certificate that may be used; none of one that is revoked.
pub(crate) fn usable(certificate: &SignedPublicKey) -> Vec<Usable<'_>> {
    let primary = &certificate.primary_key;
    let details = &certificate.details;
    let is_revoked = details.revocation_signatures.iter().any(|signature| {
        signature.typ() == Some(SignatureType::KeyRevocation)
            && signature.verify_key(primary).is_ok()
    });
    if is_revoked {
        return Vec::new();
    }
    let Some(own) = own_signature(certificate) else {
        return Vec::new();
    };
    let expires = expiry(primary.created_at(), own);
    let flags = own.key_flags();
    let reads_v2 = own.features().is_some_and(|features| features.seipd_v2());
    let mut keys = vec![Usable {
        key: Component::Primary(primary),
        expires,
        // A key without flags does what its algorithm can.
        signs: (flags.sign() || is_empty(&flags)) && primary.algorithm().can_sign(),
        encrypts: encrypts(&flags) && primary.algorithm().can_encrypt(),
        reads_v2,
        bound: seconds(own),
    }];
    for subkey in &certificate.public_subkeys {
        if let Some((binding, flags)) = binding(primary, subkey) {
            let own = expiry(subkey.key.created_at(), binding);
            keys.push(Usable {
                key: Component::Subkey(&subkey.key),
                expires: own.into_iter().chain(expires).min(),
                signs: flags.sign() && subkey.key.algorithm().can_sign(),
                encrypts: encrypts(&flags) && subkey.key.algorithm().can_encrypt(),
                reads_v2,
                bound: seconds(binding),
            });
        }
    }
    keys
}

/// The newest valid signature of the primary key about itself: a direct one, or one about a user id, which version 6
/// does not have for this.
fn own_signature(certificate: &SignedPublicKey) -> Option<&Signature> {
    let primary = &certificate.primary_key;
    let direct = certificate.details.direct_signatures.iter();
    let direct = direct.filter(|signature| {
        signature.typ() == Some(SignatureType::Key)
            && is_current(signature)
            && signature.verify_key(primary).is_ok()
    });
    let direct = direct.max_by_key(|signature| signature.created());
    if primary.version() == KeyVersion::V6 {
        return direct;
    }
    let about_users = certificate.details.users.iter().filter_map(|user| {
        let valid = user.signatures.iter().filter(|signature| {
            is_current(signature)
                && signature
                    .verify_certification(primary, Tag::UserId, &user.id)
                    .is_ok()
        });
        let newest = valid.max_by_key(|signature| signature.created())?;
        (newest.typ() != Some(SignatureType::CertRevocation)).then_some(newest)
    });
    let about_users =
        about_users.max_by_key(|signature| (signature.is_primary(), signature.created()));
    // Both may say something; where a user's signature has the flags, as GnuPG writes them, it counts.
    about_users.or(direct)
}

/// The newest valid binding of a subkey, and its flags. `None` for one that is revoked or not bound.
fn binding<'a>(
    primary: &PublicKey,
    subkey: &'a SignedPublicSubKey,
) -> Option<(&'a Signature, KeyFlags)> {
    let valid = |signature: &&Signature| {
        is_strong(signature)
            && signature
                .verify_subkey_binding(primary, &subkey.key)
                .is_ok()
    };
    let mut signatures = subkey.signatures.iter();
    let is_revoked = signatures.any(|signature| {
        signature.typ() == Some(SignatureType::SubkeyRevocation)
            && signature
                .verify_subkey_binding(primary, &subkey.key)
                .is_ok()
    });
    if is_revoked {
        return None;
    }
    let signatures = subkey.signatures.iter();
    let bindings = signatures
        .filter(|signature| signature.typ() == Some(SignatureType::SubkeyBinding))
        .filter(|signature| is_current(signature))
        .filter(valid);
    let newest = bindings.max_by_key(|signature| signature.created())?;
    let flags = newest.key_flags();
    // A key that signs says itself that it belongs here: somebody could bind a key of another one.
    let back = newest.embedded_signature().is_some_and(|back| {
        is_strong(back)
            && back
                .verify_primary_key_binding(&subkey.key, primary)
                .is_ok()
    });
    (!flags.sign() || back).then_some((newest, flags))
}

/// Whether a signature about a key counts: it is not of the future, has not expired and has a strong digest.
fn is_current(signature: &Signature) -> bool {
    let now = Timestamp::now().as_secs();
    let made = seconds(signature);
    let lasts = signature.signature_expiration_time();
    let lasts = lasts.map_or(0, |lasts| lasts.as_secs());
    is_strong(signature)
        && made <= now
        && (lasts == 0 || u64::from(now) < u64::from(made) + u64::from(lasts))
}

/// When a key expires, in seconds since 1970.
fn expiry(made: Timestamp, signature: &Signature) -> Option<u64> {
    let lasts = signature.key_expiration_time()?.as_secs();
    (lasts != 0).then(|| u64::from(made.as_secs()) + u64::from(lasts))
}

fn seconds(signature: &Signature) -> u32 {
    signature.created().map_or(0, |created| created.as_secs())
}

fn encrypts(flags: &KeyFlags) -> bool {
    flags.encrypt_comms() || flags.encrypt_storage()
}

fn is_empty(flags: &KeyFlags) -> bool {
    !(flags.sign() || flags.certify() || encrypts(flags) || flags.authentication())
}
