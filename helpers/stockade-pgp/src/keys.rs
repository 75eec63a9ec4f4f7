//! The keys of a grant.

use pgp::composed::{ArmorOptions, Deserializable, SignedPublicKey, SignedSecretKey};
use pgp::types::{KeyDetails, Password};

use crate::blinded::Signing;
use crate::certificates::{self, Usable, usable};
use crate::failure::Failed;
use crate::message::{MOST_KEY_BLOCKS, Settings};

/// The keys of a grant, unlocked.
pub(crate) struct Keys {
    pub(crate) secret: Option<Secret>,
    /// The grant's recipients and signers.
    pub(crate) recipients: Vec<SignedPublicKey>,
    /// Bytes of a result.
    pub(crate) most_result: u64,
}

/// The grant's secret key.
pub(crate) struct Secret {
    pub(crate) key: SignedSecretKey,
    /// Its public half.
    pub(crate) certificate: SignedPublicKey,
}

impl Keys {
    /// Reads and unlocks the keys. `secret` is empty where the grant has none.
    pub(crate) fn read(secret: &[u8], settings: Settings) -> Result<Self, Failed> {
        let secret = if secret.is_empty() {
            None
        } else {
            Some(Secret::read(secret, &settings.passphrase)?)
        };
        let mut recipients = Vec::new();
        for (index, block) in settings.recipients.iter().enumerate() {
            let what = format!("recipients[{index}]");
            recipients.extend(certificates::read(block, &what).map_err(Failed::grant)?);
        }
        if recipients.len() > MOST_KEY_BLOCKS {
            return Err(Failed::grant(format!(
                "recipients has {} certificates, at most {MOST_KEY_BLOCKS} are allowed",
                recipients.len()
            )));
        }
        Ok(Self {
            secret,
            recipients,
            most_result: settings.most_result,
        })
    }

    /// The grant's own key.
    pub(crate) fn secret(&self) -> Result<&Secret, Failed> {
        self.secret
            .as_ref()
            .ok_or_else(|| Failed::grant("the grant has no secret key"))
    }

    /// The certificates of the grant, its own first.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &SignedPublicKey> {
        let own = self.secret.iter().map(|secret| &secret.certificate);
        own.chain(&self.recipients)
    }
}

impl Secret {
    fn read(block: &[u8], passphrase: &str) -> Result<Self, Failed> {
        let failed = |why: String| Failed::grant(format!("secret cannot be used: {why}"));
        let (found, _) = SignedSecretKey::from_reader_many_buf(block)
            .map_err(|error| failed(format!("it is not an OpenPGP secret key: {error}")))?;
        let mut found = found.collect::<Vec<_>>().into_iter();
        let (Some(key), None) = (found.next(), found.next()) else {
            return Err(failed("it must hold exactly one secret key".to_owned()));
        };
        let mut key =
            key.map_err(|error| failed(format!("it is not an OpenPGP secret key: {error}")))?;
        let password = Password::from(passphrase);
        // A part may be missing, as the primary key that its owner keeps elsewhere: it stays locked.
        let mut locked = 0;
        let mut open = 0;
        let mut count = |is_locked| match is_locked {
            true => locked += 1,
            false => open += 1,
        };
        count(key.primary_key.remove_password(&password).is_err());
        for subkey in &mut key.secret_subkeys {
            count(subkey.key.remove_password(&password).is_err());
        }
        if open == 0 {
            return Err(failed(match passphrase {
                "" => "it is locked, and the grant has no `passphrase`".to_owned(),
                _ => format!("`passphrase` unlocks none of its {locked} keys"),
            }));
        }
        let certificate = key.to_public_key();
        Ok(Self { key, certificate })
    }

    /// The newest key that may sign now and is unlocked.
    pub(crate) fn signing(&self, now: u64) -> Result<Signing<'_>, Failed> {
        let of = |usable: &Usable<'_>| -> Option<Signing<'_>> {
            let fingerprint = usable.key.as_verifying().fingerprint();
            let primary = &self.key.primary_key;
            if primary.fingerprint() == fingerprint {
                return Signing::primary(primary);
            }
            let mut subkeys = self.key.secret_subkeys.iter().map(|subkey| &subkey.key);
            Signing::subkey(subkeys.find(|key| key.fingerprint() == fingerprint)?)
        };
        let usable = usable(&self.certificate);
        let signing = usable
            .iter()
            .filter(|key| key.signs && key.is_good_at(now))
            .filter_map(|key| Some((key.bound, of(key)?)));
        let newest = signing.max_by_key(|(bound, _)| *bound);
        newest.map(|(_, key)| key).ok_or_else(|| {
            Failed::grant(
                "secret has no key that may sign: it is expired, revoked, or for other uses",
            )
        })
    }

    /// The public half as armor.
    pub(crate) fn armored(&self) -> Result<Vec<u8>, Failed> {
        self.certificate
            .to_armored_bytes(ArmorOptions::default())
            .map_err(|error| Failed::grant(format!("secret has no public half: {error}")))
    }
}
