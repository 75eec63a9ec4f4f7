//! What the supervisor and the helper `stockade-pgp` say to each other. Both are built with this file.
//!
//! A message is two parts, each with its length before it in four bytes, little endian: a postcard value, and the data
//! that belongs to it.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

/// Keys of one request, and of the recipients of a grant.
pub(crate) const MOST_KEY_BLOCKS: usize = 64;

/// Signatures that an answer reports.
pub(crate) const MOST_SIGNATURES: usize = 64;

/// Characters of an error's message.
pub(crate) const MOST_MESSAGE: usize = 500;

/// From the supervisor. Each is answered before the next one is sent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The grant's keys: the first request. The data is the secret key.
    Open(Settings),
    /// The grant's certificate: the public half of its key.
    PublicKey,
    /// Signs the data.
    Sign { form: SignatureForm, armor: bool },
    /// Checks the signatures of the data, which is a signed message, or what `signature` was made for.
    Verify {
        signature: Option<Vec<u8>>,
        keys: Vec<Vec<u8>>,
    },
    /// Encrypts the data to the grant's recipients and to these.
    Encrypt {
        recipients: Vec<Vec<u8>>,
        sign: bool,
        armor: bool,
    },
    /// Decrypts the data, and checks its signatures.
    Decrypt { keys: Vec<Vec<u8>> },
}

/// Where a signature stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SignatureForm {
    /// With the data, in one message.
    Inline,
    /// Alone.
    Detached,
    /// After the data, which stays readable.
    Cleartext,
}

/// What a helper works with.
#[derive(Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The passphrase of the secret key; empty where it has none.
    pub(crate) passphrase: String,
    /// Certificates of the grant's recipients and signers.
    pub(crate) recipients: Vec<Vec<u8>>,
    /// Bytes of the data that an answer may have.
    pub(crate) most_result: u64,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("most_result", &self.most_result)
            .finish_non_exhaustive()
    }
}

/// From the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The data of the answer is the result.
    Done {
        /// The signatures that were checked.
        signatures: Vec<Signature>,
    },
    /// It could not be done.
    Failed { failure: Failure, message: String },
}

/// A signature that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signature {
    /// Whether it was made by one of the keys, for exactly this data, and is not older than the key allows.
    pub(crate) valid: bool,
    /// Fingerprint of the key's certificate, in lower-case hexadecimal digits. Empty where no key fits.
    pub(crate) fingerprint: String,
    /// Seconds since 1970-01-01 UTC. `None` where the signature does not say.
    pub(crate) created: Option<u64>,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// The grant's own keys: the operator's fault. The message is for the log.
    Grant,
    /// What the guest gave: its keys, its message.
    Input,
    /// The result is larger than it may be.
    Large,
    /// A message that cannot be decrypted, for whatever reason.
    Decryption,
}

/// The bytes of a message.
pub(crate) fn write(to: &mut impl Write, value: &impl Serialize, data: &[u8]) -> io::Result<()> {
    let value = postcard::to_allocvec(value).map_err(io::Error::other)?;
    for part in [&value[..], data] {
        let length = u32::try_from(part.len()).map_err(io::Error::other)?;
        to.write_all(&length.to_le_bytes())?;
        to.write_all(part)?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_do_not_show_a_passphrase() {
        let settings = Settings {
            passphrase: "hunter2".to_owned(),
            recipients: Vec::new(),
            most_result: 1,
        };
        assert!(!format!("{:?}", Request::Open(settings)).contains("hunter2"));
    }
}
