//! What a guest asks for.

use std::io::Read as _;
use std::time::SystemTime;

use pgp::armor::DearmorOptions;
use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, DecryptionOptions, Deserializable, DetachedSignature,
    Encryption, Message, MessageBuilder, SignedPublicKey, TheRing,
};
use pgp::crypto::aead::{AeadAlgorithm, ChunkSize};
use pgp::crypto::sym::SymmetricKeyAlgorithm;
use pgp::types::{Password, Seipdv1ReadMode, SigningKey as _};
use rand::rngs::OsRng;

use crate::blinded;
use crate::certificates::{self, Component, Usable, usable};
use crate::failure::Failed;
use crate::keys::Keys;
use crate::message::{MOST_KEY_BLOCKS, MOST_SIGNATURES, Request, Signature, SignatureForm};
use crate::signatures::Signers;

/// Layers of a message: encryption, compression and signatures in each other. Usual messages have three.
const MOST_LAYERS: usize = 8;

/// How a message begins whose text stays readable.
const CLEARTEXT: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";

/// The signatures that were checked, and the result.
pub(crate) type Done = (Vec<Signature>, Vec<u8>);

/// Does what a request asks for. It is none that opens keys.
pub(crate) fn perform(keys: &Keys, request: Request, data: Vec<u8>) -> Result<Done, Failed> {
    let (signatures, result) = match request {
        Request::Open(_) => return Err(Failed::grant("the keys are open already")),
        Request::PublicKey => (Vec::new(), keys.secret()?.armored()?),
        Request::Sign { form, armor } => (Vec::new(), sign(keys, form, armor, data)?),
        Request::Encrypt {
            recipients,
            sign,
            armor,
        } => (Vec::new(), encrypt(keys, &recipients, sign, armor, data)?),
        Request::Verify {
            signature,
            keys: given,
        } => {
            let given = given_keys(&given)?;
            let signers = Signers::of(keys.certificates().chain(&given));
            match signature {
                Some(signature) => (verify_detached(&signers, &signature, &data)?, Vec::new()),
                None => verify(&signers, &data, keys.most_result)?,
            }
        }
        Request::Decrypt { keys: given } => {
            let given = given_keys(&given)?;
            let signers = Signers::of(keys.certificates().chain(&given));
            decrypt(keys, &signers, &data)?
        }
    };
    if result.len() as u64 > keys.most_result {
        return Err(Failed::large(keys.most_result));
    }
    Ok((signatures, result))
}

/// Certificates that the guest gave.
fn given_keys(blocks: &[Vec<u8>]) -> Result<Vec<SignedPublicKey>, Failed> {
    let mut all = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        all.extend(certificates::read(block, &format!("key {index}")).map_err(Failed::input)?);
    }
    if all.len() > MOST_KEY_BLOCKS {
        return Err(Failed::input(format!(
            "{} keys were given, at most {MOST_KEY_BLOCKS} are allowed",
            all.len()
        )));
    }
    Ok(all)
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

fn sign(keys: &Keys, form: SignatureForm, armor: bool, data: Vec<u8>) -> Result<Vec<u8>, Failed> {
    let key = keys.secret()?.signing(now())?;
    let failed = |error: pgp::errors::Error| Failed::grant(format!("signing failed: {error}"));
    match form {
        SignatureForm::Inline => {
            let mut builder = MessageBuilder::from_bytes("", data);
            builder.sign(&key, Password::empty(), key.hash_alg());
            write(builder, armor).map_err(failed)
        }
        SignatureForm::Detached => {
            let password = Password::empty();
            let signature = DetachedSignature::sign_binary_data(
                OsRng,
                &key,
                &password,
                key.hash_alg(),
                &data[..],
            )
            .map_err(failed)?;
            if armor {
                signature.to_armored_bytes(ArmorOptions::default())
            } else {
                pgp::ser::Serialize::to_bytes(&signature)
            }
            .map_err(failed)
        }
        SignatureForm::Cleartext => {
            let text = String::from_utf8(data)
                .map_err(|_| Failed::input("only text can be signed so that it stays readable"))?;
            // The last end of a line belongs to the form, not to what is signed (RFC 9580, section 7.2).
            let text = text.strip_suffix('\n').unwrap_or(&text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            CleartextSignedMessage::sign(OsRng, text, &key, &Password::empty())
                .and_then(|message| message.to_armored_bytes(ArmorOptions::default()))
                .map_err(failed)
        }
    }
}

fn encrypt(
    keys: &Keys,
    recipients: &[Vec<u8>],
    sign: bool,
    armor: bool,
    data: Vec<u8>,
) -> Result<Vec<u8>, Failed> {
    let given = given_keys(recipients)?;
    let now = now();
    let chosen = keys
        .recipients
        .iter()
        .chain(&given)
        .map(|certificate| {
            recipient(certificate, now).ok_or_else(|| {
                let fingerprint = crate::signatures::fingerprint(certificate);
                Failed::input(format!(
                    "nothing can be encrypted to {fingerprint}: it is expired or revoked, or none of its keys is for \
                     encryption"
                ))
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    if chosen.is_empty() {
        return Err(Failed::input(
            "a message needs a recipient, and there is none",
        ));
    }
    let failed = |error: pgp::errors::Error| Failed::input(format!("encryption failed: {error}"));
    let signing = match sign {
        true => Some(keys.secret()?.signing(now)?),
        false => None,
    };
    let mut builder = MessageBuilder::from_bytes("", data);
    if let Some(key) = &signing {
        builder.sign(key, Password::empty(), key.hash_alg());
    }
    let algorithm = SymmetricKeyAlgorithm::AES256;
    // With one recipient who cannot read authenticated encryption, nobody gets it.
    if chosen.iter().all(|key| key.reads_v2) {
        let mut builder =
            builder.seipd_v2(OsRng, algorithm, AeadAlgorithm::Ocb, ChunkSize::default());
        for key in &chosen {
            match key.key {
                Component::Primary(key) => builder.encrypt_to_key(OsRng, key),
                Component::Subkey(key) => builder.encrypt_to_key(OsRng, key),
            }
            .map_err(failed)?;
        }
        return write(builder, armor).map_err(failed);
    }
    let mut builder = builder.seipd_v1(OsRng, algorithm);
    for key in &chosen {
        match key.key {
            Component::Primary(key) => builder.encrypt_to_key(OsRng, key),
            Component::Subkey(key) => builder.encrypt_to_key(OsRng, key),
        }
        .map_err(failed)?;
    }
    write(builder, armor).map_err(failed)
}

/// The newest key of a certificate that may encrypt now.
fn recipient(certificate: &SignedPublicKey, now: u64) -> Option<Usable<'_>> {
    let usable = usable(certificate).into_iter();
    let encrypting = usable.filter(|key| key.encrypts && key.is_good_at(now));
    encrypting.max_by_key(|key| key.bound)
}

fn write<E: Encryption>(
    builder: MessageBuilder<'_, pgp::composed::DummyReader, E>,
    armor: bool,
) -> pgp::errors::Result<Vec<u8>> {
    let mut out = Vec::new();
    if armor {
        builder.to_armored_writer(OsRng, ArmorOptions::default(), &mut out)?;
    } else {
        builder.to_writer(OsRng, &mut out)?;
    }
    Ok(out)
}

fn verify_detached(
    signers: &Signers<'_>,
    signature: &[u8],
    data: &[u8],
) -> Result<Vec<Signature>, Failed> {
    let failed =
        |error: pgp::errors::Error| Failed::input(format!("the signature cannot be read: {error}"));
    let (found, _) = DetachedSignature::from_reader_many_buf(signature).map_err(failed)?;
    let mut checked = Vec::new();
    for signature in found {
        if checked.len() == MOST_SIGNATURES {
            return Err(too_many_signatures());
        }
        let signature = signature.map_err(failed)?.signature;
        checked.push(signers.check(&signature, |key| match key {
            Component::Primary(key) => signature.verify(key, data).is_ok(),
            Component::Subkey(key) => signature.verify(key, data).is_ok(),
        }));
    }
    if checked.is_empty() {
        return Err(Failed::input(
            "the signature cannot be read: there is none in it",
        ));
    }
    Ok(checked)
}

fn too_many_signatures() -> Failed {
    Failed::input(format!(
        "there are more than {MOST_SIGNATURES} signatures, which is the limit"
    ))
}

/// Checks a signed message; its data is the result.
fn verify(signers: &Signers<'_>, data: &[u8], most: u64) -> Result<Done, Failed> {
    if data.trim_ascii_start().starts_with(CLEARTEXT) {
        return verify_cleartext(signers, data);
    }
    let failed = |error: &dyn std::fmt::Display| {
        Failed::input(format!("the message cannot be read: {error}"))
    };
    let (message, _) = Message::from_reader(data).map_err(|error| failed(&error))?;
    if message.is_encrypted() {
        return Err(failed(&"it is encrypted, which is for `decrypt`"));
    }
    let (signatures, result) = read(message, signers, most).map_err(|unread| match unread {
        Unread::Large => Failed::large(most),
        Unread::Signatures => too_many_signatures(),
        Unread::Broken(why) => failed(&why),
    })?;
    if signatures.is_empty() {
        return Err(failed(&"it is not signed"));
    }
    Ok((signatures, result))
}

fn verify_cleartext(signers: &Signers<'_>, data: &[u8]) -> Result<Done, Failed> {
    let options = DearmorOptions::new().set_limit(data.len());
    let (message, _) = CleartextSignedMessage::from_armor_buf(data, options)
        .map_err(|error| Failed::input(format!("the message cannot be read: {error}")))?;
    if message.signatures().len() > MOST_SIGNATURES {
        return Err(too_many_signatures());
    }
    let text = message.signed_text();
    let signatures = message.signatures().iter().map(|signature| {
        signers.check(signature, |key| match key {
            Component::Primary(key) => signature.verify(key, text.as_bytes()).is_ok(),
            Component::Subkey(key) => signature.verify(key, text.as_bytes()).is_ok(),
        })
    });
    let signatures = signatures.collect();
    let mut text = text.replace("\r\n", "\n");
    text.push('\n');
    Ok((signatures, text.into_bytes()))
}

fn decrypt(keys: &Keys, signers: &Signers<'_>, data: &[u8]) -> Result<Done, Failed> {
    let secret = keys.secret()?;
    let failed = |_| Failed::decryption();
    let (message, _) = Message::from_reader(data).map_err(failed)?;
    let Message::Encrypted { esk, .. } = &message else {
        return Err(Failed::decryption());
    };
    let session_key = blinded::session_key(&secret.key, esk).ok_or_else(Failed::decryption)?;
    // Nothing of a message is read before its integrity is checked. Data without any is never decrypted.
    let max_message_size = data.len();
    let options = DecryptionOptions::new()
        .enable_gnupg_aead()
        .set_seipdv1_read_mode(Seipdv1ReadMode::CheckFirst { max_message_size });
    let ring = TheRing {
        session_keys: vec![session_key],
        decrypt_options: options,
        ..TheRing::default()
    };
    let (message, _) = message.decrypt_the_ring(ring, true).map_err(failed)?;
    read(message, signers, keys.most_result).map_err(|unread| match unread {
        // Only a message that could be decrypted is large.
        Unread::Large => Failed::large(keys.most_result),
        Unread::Signatures | Unread::Broken(_) => Failed::decryption(),
    })
}

/// Why the data of a message is not available.
enum Unread {
    Large,
    Signatures,
    Broken(String),
}

/// Reads the data of a message that is not encrypted, and checks its signatures.
fn read(mut message: Message<'_>, signers: &Signers<'_>, most: u64) -> Result<Done, Unread> {
    let broken = |error: pgp::errors::Error| Unread::Broken(error.to_string());
    let mut layers = 0;
    while is_compressed(&message) {
        layers += 1;
        if layers > MOST_LAYERS {
            return Err(Unread::Broken(format!(
                "it has more than {MOST_LAYERS} layers"
            )));
        }
        message = message.decompress().map_err(broken)?;
    }
    // Each signature is a digest of all data.
    if count_signatures(&message, 0) > MOST_SIGNATURES {
        return Err(Unread::Signatures);
    }
    let mut data = Vec::new();
    (&mut message)
        .take(most.saturating_add(1))
        .read_to_end(&mut data)
        .map_err(|error| Unread::Broken(error.to_string()))?;
    if data.len() as u64 > most {
        return Err(Unread::Large);
    }
    let mut signatures = Vec::new();
    if let Message::Signed { reader, .. } = &message {
        for index in 0..reader.num_signatures() {
            let Some(signature) = reader.signature(index) else {
                return Err(Unread::Broken("a signature is missing".to_owned()));
            };
            signatures.push(signers.check(signature, |key| {
                let key = key.as_verifying();
                message.verify_nested_explicit(index, key).is_ok()
            }));
        }
    }
    Ok((signatures, data))
}

/// Whether a layer of the message is compressed, from the outside in.
fn is_compressed(message: &Message<'_>) -> bool {
    match message {
        Message::Compressed { .. } => true,
        Message::Signed { reader, .. } => is_compressed(reader.get_ref()),
        Message::Literal { .. } | Message::Encrypted { .. } => false,
    }
}

/// Signatures of all layers.
fn count_signatures(message: &Message<'_>, before: usize) -> usize {
    match message {
        Message::Signed { reader, .. } if before <= MOST_SIGNATURES => {
            count_signatures(reader.get_ref(), before + reader.num_signatures())
        }
        _ => before,
    }
}
