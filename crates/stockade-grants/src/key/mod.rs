//! `env.NAME` of kind `key`: a `CryptoKey` whose secret stays with the host.
//!
//! The guest's script makes the `CryptoKey` from what [`GrantKind::describe`] gives, and `crypto.subtle` asks here for what such a
//! key is used for. A method is the usage that it needs, by its name in Web Cryptography. It takes one object:
//!
//! | method | takes | gives |
//! |---|---|---|
//! | `sign` | `data`, with ECDSA `hash`, with RSA-PSS `saltLength` | bytes |
//! | `verify` (HMAC) | `data`, `signature` | a boolean |
//! | `encrypt`, `wrapKey` (AES-GCM) | `data`, `iv`, `additionalData?`, `tagLength?` | bytes |
//! | `decrypt`, `unwrapKey` (AES-GCM) | the same | bytes |
//! | `decrypt`, `unwrapKey` (RSA-OAEP) | `data`, `label?` | bytes |
//!
//! Errors have the names of Web Cryptography: `InvalidAccessError`, `NotSupportedError`, `OperationError`.
//!
//! Invariants:
//! 1. No method gives the key or a part of its secret half, and no error does.
//! 2. A usage that the grant does not name is refused here, whatever the guest's `CryptoKey` says of itself.
//!
//! Deliberately absent: operations of the public half. The guest has it, and does them itself.

mod material;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};
use stockade_capability::{Attachments, CallContext, CallPayload, Capability, ErrorName, Reply};
use stockade_config::{CallLimits, KeyAlgorithm, KeyGrant, KeyUsage, SecretRef};
use stockade_protocol::GuestError;

use material::{Material, Shown};

use crate::{Finding, GrantError, GrantKind, Ground};

/// Bytes of JSON that are read for one call. The bytes of data are not counted.
const MAX_ARGUMENTS: usize = 4 << 10;

/// Bits of the tag of AES-GCM, the only ones that are given and taken.
const TAG_BITS: u32 = 128;

pub(crate) const METHODS: &[&str] = &[
    "sign",
    "verify",
    "encrypt",
    "decrypt",
    "wrapKey",
    "unwrapKey",
];
pub(crate) const EVERY_CALL: bool = true;

impl GrantKind for KeyGrant {
    fn limits(&self) -> &CallLimits {
        &self.limits
    }

    fn open(&self, _ground: &Ground) -> Result<Arc<dyn Capability>, GrantError> {
        let (held, _) = Held::read(self)?;
        Ok(Arc::new(Key(Arc::new(held))))
    }

    /// What the guest's script makes the `CryptoKey` of: `algorithm` as for `importKey`, `type`, `usages`, and the
    /// public half as `spki` in base64, of a key that has one.
    fn describe(&self) -> Result<Value, GrantError> {
        let (_, shown) = Held::read(self)?;
        let usages: Vec<&str> = self.usages.iter().map(|usage| usage.word()).collect();
        Ok(json!({
            "algorithm": web_algorithm(self.algorithm, &shown),
            "type": if shown.spki.is_some() { "private" } else { "secret" },
            "usages": usages,
            "spki": shown.spki.as_deref().map(material::base64),
        }))
    }

    /// A key has no server; whether its text is one of the algorithm, opening it shows.
    fn check<'a>(&'a self, _ground: &'a Ground) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

/// The `algorithm` of the `CryptoKey`.
fn web_algorithm(algorithm: KeyAlgorithm, shown: &Shown) -> Value {
    let hash = hash_of(algorithm);
    match algorithm {
        KeyAlgorithm::Rs256 | KeyAlgorithm::Rs384 | KeyAlgorithm::Rs512 => {
            json!({ "name": "RSASSA-PKCS1-v1_5", "hash": hash })
        }
        KeyAlgorithm::Ps256 | KeyAlgorithm::Ps384 | KeyAlgorithm::Ps512 => {
            json!({ "name": "RSA-PSS", "hash": hash })
        }
        KeyAlgorithm::RsaOaep
        | KeyAlgorithm::RsaOaep256
        | KeyAlgorithm::RsaOaep384
        | KeyAlgorithm::RsaOaep512 => json!({ "name": "RSA-OAEP", "hash": hash }),
        KeyAlgorithm::Es256 => json!({ "name": "ECDSA", "namedCurve": "P-256" }),
        KeyAlgorithm::Es384 => json!({ "name": "ECDSA", "namedCurve": "P-384" }),
        KeyAlgorithm::Ed25519 => json!({ "name": "Ed25519" }),
        KeyAlgorithm::Hs256 | KeyAlgorithm::Hs384 | KeyAlgorithm::Hs512 => {
            json!({ "name": "HMAC", "hash": hash, "length": shown.bits })
        }
        KeyAlgorithm::A128Gcm | KeyAlgorithm::A192Gcm | KeyAlgorithm::A256Gcm => {
            json!({ "name": "AES-GCM", "length": shown.bits })
        }
    }
}

/// The digest that belongs to an algorithm; empty where there is none.
fn hash_of(algorithm: KeyAlgorithm) -> &'static str {
    match algorithm {
        KeyAlgorithm::RsaOaep => "SHA-1",
        KeyAlgorithm::Rs256
        | KeyAlgorithm::Ps256
        | KeyAlgorithm::RsaOaep256
        | KeyAlgorithm::Es256
        | KeyAlgorithm::Hs256 => "SHA-256",
        KeyAlgorithm::Rs384
        | KeyAlgorithm::Ps384
        | KeyAlgorithm::RsaOaep384
        | KeyAlgorithm::Es384
        | KeyAlgorithm::Hs384 => "SHA-384",
        KeyAlgorithm::Rs512
        | KeyAlgorithm::Ps512
        | KeyAlgorithm::RsaOaep512
        | KeyAlgorithm::Hs512 => "SHA-512",
        KeyAlgorithm::Ed25519
        | KeyAlgorithm::A128Gcm
        | KeyAlgorithm::A192Gcm
        | KeyAlgorithm::A256Gcm => "",
    }
}

/// What a key of an algorithm can be used for by the host. The public half is used by the guest.
fn usages_of(material: &Material) -> &'static [KeyUsage] {
    match material {
        Material::Rsa(..) | Material::Ecdsa(_) | Material::Ed25519(_) => &[KeyUsage::Sign],
        Material::Oaep(..) => &[KeyUsage::Decrypt, KeyUsage::UnwrapKey],
        Material::Hmac(_) => &[KeyUsage::Sign, KeyUsage::Verify],
        Material::Gcm(_) => &[
            KeyUsage::Encrypt,
            KeyUsage::Decrypt,
            KeyUsage::WrapKey,
            KeyUsage::UnwrapKey,
        ],
    }
}

struct Key(Arc<Held>);

impl Capability for Key {
    fn call(
        &self,
        context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let held = Arc::clone(&self.0);
        let usage = held.usage(method);
        Box::pin(async move {
            let usage = usage.inspect_err(|_| context.notes.refused("usage"))?;
            let (request, attachments) = arguments.read::<KeyRequest>(MAX_ARGUMENTS)?;
            let operation = Operation::read(request, attachments)?;
            if !held.in_domain(usage, &operation.data) {
                context.notes.refused("domain");
                return Err(ErrorName::Own("InvalidAccessError").error(format!(
                    "the key signs data that begins with the {} bytes of its `domain`",
                    held.domain.len()
                )));
            }
            // A signature of RSA takes milliseconds, and a digest as long as its data.
            let place = context.place;
            let working = tokio::task::spawn_blocking(move || {
                let _place = place;
                held.perform(usage, operation)
            });
            let done = working
                .await
                .map_err(|_| operation_error("the operation was stopped"))??;
            match done {
                Outcome::Bytes(bytes) => {
                    let mut reply = Reply::default();
                    let bytes = reply.bytes(bytes);
                    reply.finish(&bytes)
                }
                Outcome::Valid(valid) => Reply::plain(&valid),
            }
        })
    }
}

/// The argument of any method.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyRequest {
    data: String,
    signature: Option<String>,
    hash: Option<String>,
    salt_length: Option<u32>,
    iv: Option<String>,
    additional_data: Option<String>,
    tag_length: Option<u32>,
    label: Option<String>,
}

/// The argument, with the bytes that it names.
struct Operation {
    data: Vec<u8>,
    signature: Option<Vec<u8>>,
    hash: Option<String>,
    salt_length: Option<u32>,
    iv: Option<Vec<u8>>,
    additional_data: Option<Vec<u8>>,
    tag_length: Option<u32>,
    label: Option<Vec<u8>>,
}

impl Operation {
    fn read(request: KeyRequest, mut attachments: Attachments) -> Result<Self, GuestError> {
        let mut bytes =
            |mark: Option<String>| mark.map(|mark| attachments.bytes(&mark)).transpose();
        Ok(Self {
            data: bytes(Some(request.data))?.unwrap_or_default(),
            signature: bytes(request.signature)?,
            iv: bytes(request.iv)?,
            additional_data: bytes(request.additional_data)?,
            label: bytes(request.label)?,
            hash: request.hash,
            salt_length: request.salt_length,
            tag_length: request.tag_length,
        })
    }
}

enum Outcome {
    Bytes(Vec<u8>),
    Valid(bool),
}

/// A key, and what it may be used for.
struct Held {
    material: Material,
    hash: &'static str,
    usages: Vec<KeyUsage>,
    /// What data must begin with to be signed.
    domain: Vec<u8>,
}

impl Held {
    fn read(grant: &KeyGrant) -> Result<(Self, Shown), GrantError> {
        let text = grant.secret.as_ref().map_or("", SecretRef::reveal);
        let (material, shown) = material::read(text, grant.algorithm, grant.encoding)
            .map_err(|why| GrantError::Invalid(format!("{}: {why}", grant.algorithm.word())))?;
        let possible = usages_of(&material);
        if let Some(usage) = grant.usages.iter().find(|usage| !possible.contains(usage)) {
            let words: Vec<&str> = possible.iter().map(|usage| usage.word()).collect();
            return Err(GrantError::Invalid(format!(
                "a key for {} is not used to {}: its usages are {}; the guest does with the public half what that can do",
                grant.algorithm.word(),
                usage.word(),
                words.join(", ")
            )));
        }
        if grant.domain.is_some() && !grant.usages.contains(&KeyUsage::Sign) {
            let what = "`domain` is what signed data begins with, and `usages` has no `sign`";
            return Err(GrantError::Invalid(what.to_owned()));
        }
        let held = Self {
            material,
            hash: hash_of(grant.algorithm),
            usages: grant.usages.clone(),
            domain: grant.domain.clone().unwrap_or_default().into_bytes(),
        };
        Ok((held, shown))
    }

    /// The usage that a method is, where the grant has it.
    fn usage(&self, method: &str) -> Result<KeyUsage, GuestError> {
        let found = self.usages.iter().find(|usage| usage.word() == method);
        found.copied().ok_or_else(|| {
            let words: Vec<&str> = self.usages.iter().map(|usage| usage.word()).collect();
            ErrorName::Own("InvalidAccessError").error(format!(
                "the key is granted for {}, not for this operation",
                words.join(", ")
            ))
        })
    }

    fn in_domain(&self, usage: KeyUsage, data: &[u8]) -> bool {
        usage != KeyUsage::Sign || data.starts_with(&self.domain)
    }

    fn perform(&self, usage: KeyUsage, operation: Operation) -> Result<Outcome, GuestError> {
        let bytes = match (&self.material, usage) {
            (Material::Hmac(key), KeyUsage::Verify) => {
                let signature = operation.signature.unwrap_or_default();
                let valid = hmac::verify(key, &operation.data, &signature).is_ok();
                return Ok(Outcome::Valid(valid));
            }
            (_, KeyUsage::Sign) => self.sign(&operation)?,
            (Material::Gcm(_), KeyUsage::Encrypt | KeyUsage::WrapKey) => self.seal(operation)?,
            (Material::Gcm(_) | Material::Oaep(..), KeyUsage::Decrypt | KeyUsage::UnwrapKey) => {
                self.unseal(operation)?
            }
            // `Held::read` makes no such key.
            _ => return Err(operation_error("the key cannot do this")),
        };
        Ok(Outcome::Bytes(bytes))
    }

    fn sign(&self, operation: &Operation) -> Result<Vec<u8>, GuestError> {
        let random = SystemRandom::new();
        let failed = |_| operation_error("the signature could not be made");
        let data = &operation.data;
        match &self.material {
            Material::Rsa(pair, encoding) => {
                let digest = digest_bytes(self.hash);
                if operation.salt_length.is_some_and(|length| length != digest) {
                    return Err(not_supported(format!(
                        "a key of the host makes RSA-PSS signatures with a saltLength of {digest}, that of its digest"
                    )));
                }
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, data, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
            Material::Ecdsa(pair) => {
                if operation
                    .hash
                    .as_deref()
                    .is_some_and(|hash| hash != self.hash)
                {
                    return Err(not_supported(format!(
                        "a key of the host on this curve signs with {}",
                        self.hash
                    )));
                }
                Ok(pair.sign(&random, data).map_err(failed)?.as_ref().to_vec())
            }
            Material::Ed25519(pair) => Ok(pair.try_sign(data).map_err(failed)?.as_ref().to_vec()),
            Material::Hmac(key) => Ok(hmac::sign(key, data).as_ref().to_vec()),
            Material::Oaep(..) | Material::Gcm(_) => Err(operation_error("the key cannot sign")),
        }
    }

    fn seal(&self, operation: Operation) -> Result<Vec<u8>, GuestError> {
        let Material::Gcm(key) = &self.material else {
            return Err(operation_error("the key cannot encrypt"));
        };
        let nonce = nonce(&operation)?;
        let additional = Aad::from(operation.additional_data.unwrap_or_default());
        let mut data = operation.data;
        key.seal_in_place_append_tag(nonce, additional, &mut data)
            .map_err(|_| operation_error("the data could not be encrypted"))?;
        Ok(data)
    }

    /// One message for every failure: what was wrong with a ciphertext helps to forge another one.
    fn unseal(&self, operation: Operation) -> Result<Vec<u8>, GuestError> {
        let failed = |_| operation_error("decryption failed");
        match &self.material {
            Material::Gcm(key) => {
                let nonce = nonce(&operation)?;
                let additional = Aad::from(operation.additional_data.unwrap_or_default());
                let mut data = operation.data;
                let opened = key
                    .open_in_place(nonce, additional, &mut data)
                    .map_err(failed)?;
                let length = opened.len();
                data.truncate(length);
                Ok(data)
            }
            Material::Oaep(key, algorithm) => {
                let mut plaintext = vec![0; key.min_output_size()];
                let label = operation.label.as_deref();
                let opened = key
                    .decrypt(algorithm, &operation.data, &mut plaintext, label)
                    .map_err(failed)?;
                let length = opened.len();
                plaintext.truncate(length);
                Ok(plaintext)
            }
            _ => Err(operation_error("the key cannot decrypt")),
        }
    }
}

fn nonce(operation: &Operation) -> Result<Nonce, GuestError> {
    if operation.tag_length.is_some_and(|bits| bits != TAG_BITS) {
        return Err(not_supported(format!(
            "a key of the host has tags of {TAG_BITS} bits"
        )));
    }
    let iv = operation.iv.as_deref().unwrap_or_default();
    Nonce::try_assume_unique_for_key(iv).map_err(|_| {
        not_supported(format!(
            "the iv has {} bytes; a key of the host takes {NONCE_LEN}",
            iv.len()
        ))
    })
}

fn digest_bytes(hash: &str) -> u32 {
    match hash {
        "SHA-256" => 32,
        "SHA-384" => 48,
        _ => 64,
    }
}

fn operation_error(message: &str) -> GuestError {
    ErrorName::Own("OperationError").error(message)
}

fn not_supported(message: String) -> GuestError {
    ErrorName::Own("NotSupportedError").error(message)
}
