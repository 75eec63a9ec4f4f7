//! What an entry holds.

/// Names one commit of a keyspace. Versions begin at 1 and only grow; 0 is before all commits.
///
/// They stay below 2^53, so JavaScript numbers hold them exactly.
pub type Version = u64;

/// How a guest wants the bytes of a value to be read. The store itself never looks into them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// JSON text.
    Json,
    /// Bytes.
    Bytes,
}

impl Kind {
    /// The letter that stands for it on the wire and in the file: `t`, `j` or `b`.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Text => "t",
            Self::Json => "j",
            Self::Bytes => "b",
        }
    }

    /// The kind of a letter.
    #[must_use]
    pub fn from_tag(tag: &str) -> Option<Self> {
        match tag {
            "t" => Some(Self::Text),
            "j" => Some(Self::Json),
            "b" => Some(Self::Bytes),
            _ => None,
        }
    }
}

/// A value to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// What the bytes are.
    pub kind: Kind,
    /// The bytes.
    pub data: Vec<u8>,
}

impl Value {
    /// Text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self {
            kind: Kind::Text,
            data: text.as_bytes().to_vec(),
        }
    }

    /// Bytes.
    #[must_use]
    pub fn bytes(data: Vec<u8>) -> Self {
        Self {
            kind: Kind::Bytes,
            data,
        }
    }
}

/// A value as it stands in a keyspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEntry {
    /// The value.
    pub value: Value,
    /// The commit that wrote it.
    pub version: Version,
    /// When it becomes absent, in milliseconds since 1970-01-01 UTC.
    pub expires_ms: Option<i64>,
}
