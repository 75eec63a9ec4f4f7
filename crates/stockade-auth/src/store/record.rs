//! What the store knows of keys.

use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};

use crate::key::{ApiKey, RandomError, read_digits, write_digits};
use crate::limits::KeyLimits;
use crate::scope::Scope;

/// Names a key for people and programs. It is not secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(pub(crate) u64);

impl KeyId {
    /// Reads `key_` and eleven letters and digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        read_digits(text.strip_prefix("key_")?).map(Self)
    }

    pub(super) fn generate() -> Result<Self, RandomError> {
        let mut bytes = [0; 8];
        rand::fill(&mut bytes).map_err(|_| RandomError)?;
        Ok(Self(u64::from_ne_bytes(bytes)))
    }

    /// The number that the id is of, for those who count by keys.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// The inverse of [`KeyId::number`].
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }

    pub(super) fn column(self) -> i64 {
        self.0.cast_signed()
    }

    pub(super) fn of_column(number: i64) -> Self {
        Self(number.cast_unsigned())
    }
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key_{}", write_digits(self.0))
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for KeyId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is not the id of a key"))
    }
}

/// What is chosen when a key is made.
#[derive(Debug, Clone, Default)]
pub struct KeyFields {
    /// For people: at most 128 characters.
    pub name: String,
    /// Whose it is: at most 128 characters.
    pub owner: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// For the sites that it is used at: at most 4,096 bytes as JSON.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// When it ends, in seconds since 1970.
    pub expires: Option<u64>,
    /// How many requests it may send.
    pub limits: KeyLimits,
}

/// A key that was just made, or rotated: the only time that its text is known.
#[derive(Debug)]
pub struct NewKey {
    /// The key.
    pub key: ApiKey,
    /// What the store knows of it.
    pub record: KeyRecord,
}

/// What the store knows of a key. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// Its id.
    pub id: KeyId,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// What it may do, sorted.
    pub scopes: Vec<String>,
    /// For sites.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// How many requests it may send.
    #[serde(default)]
    pub limits: KeyLimits,
    /// When it was made.
    pub created: u64,
    /// When it ends by itself.
    pub expires: Option<u64>,
    /// When it was revoked.
    pub revoked: Option<u64>,
    /// When it was last used, to some minutes.
    pub last_used: Option<u64>,
    /// Its texts: one, and during a rotation two.
    pub secrets: Vec<SecretRecord>,
}

/// What the store knows of one text of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretRecord {
    /// How it begins.
    pub hint: String,
    /// When it was made.
    pub created: u64,
    /// When a rotation ends it.
    pub ends: Option<u64>,
    /// Its keyed hash, hexadecimal. Only in exports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// Whether a key may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It may.
    Active,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl Status {
    /// For people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl KeyRecord {
    /// Whether it may be used at a time, in seconds since 1970.
    #[must_use]
    pub fn status(&self, now: u64) -> Status {
        if self.revoked.is_some() {
            Status::Revoked
        } else if self.expires.is_some_and(|expires| expires <= now) {
            Status::Expired
        } else {
            Status::Active
        }
    }
}

/// What the store says of a text.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The key that it is of.
    pub record: KeyRecord,
    /// Whether the key may be used with this text.
    pub status: Status,
}

/// Everything that a store knows, to be imported into another one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// `stockade-keys`.
    pub format: String,
    /// 1.
    pub version: u32,
    /// The keyed hash of a constant: hashes are of no use with another pepper.
    pub pepper: String,
    /// All keys.
    pub keys: Vec<KeyRecord>,
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ImportReport {
    /// Keys that were not there before.
    pub added: usize,
    /// Keys that were there and are as the import has them now.
    pub replaced: usize,
}
