//! Names of entries and of keyspaces, checked.

use std::fmt;
use std::sync::Arc;

/// The longest key, in bytes of UTF-8.
pub const MAX_KEY_BYTES: usize = 2048;

/// The longest name of a keyspace, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 255;

/// The name of an entry: 1 to [`MAX_KEY_BYTES`] bytes of UTF-8. Keys are ordered by their bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

/// The name of a keyspace: 1 to [`MAX_NAME_BYTES`] bytes, without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyspaceName(Arc<str>);

/// A text that cannot be a key or the name of a keyspace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No text at all.
    #[error("a key needs at least one character")]
    Empty,
    /// More bytes than a key may have.
    #[error("a key of {bytes} bytes is too long: at most {MAX_KEY_BYTES} are allowed")]
    TooLong {
        /// Its length in bytes of UTF-8.
        bytes: usize,
    },
    /// Not the name of a keyspace.
    #[error(
        "a keyspace's name has 1 to {MAX_NAME_BYTES} bytes and no control characters, not {name:?}"
    )]
    Name {
        /// The beginning of the name.
        name: String,
    },
}

impl Key {
    /// Checks a key.
    ///
    /// # Errors
    /// When `text` is empty or longer than [`MAX_KEY_BYTES`].
    pub fn new(text: &str) -> Result<Self, KeyError> {
        match text.len() {
            0 => Err(KeyError::Empty),
            1..=MAX_KEY_BYTES => Ok(Self(text.into())),
            bytes => Err(KeyError::TooLong { bytes }),
        }
    }

    /// The text of the key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl KeyspaceName {
    /// Checks a name.
    ///
    /// # Errors
    /// When `text` is empty, longer than [`MAX_NAME_BYTES`] or has control characters.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        if text.is_empty() || text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) {
            return Err(KeyError::Name {
                name: text.chars().take(40).collect(),
            });
        }
        Ok(Self(text.into()))
    }

    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for KeyspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for KeyspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_at_its_bounds_is_checked() {
        assert_eq!(Key::new(""), Err(KeyError::Empty));
        assert!(Key::new(&"k".repeat(MAX_KEY_BYTES)).is_ok());
        assert_eq!(
            Key::new(&"é".repeat(MAX_KEY_BYTES / 2 + 1)),
            Err(KeyError::TooLong { bytes: 2050 })
        );
    }

    #[test]
    fn key_with_any_character_is_taken() {
        for text in [
            "\0",
            "\u{ffff}",
            "'; DROP TABLE entries; --",
            "a/b%\\_",
            "🦀",
        ] {
            assert_eq!(Key::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn name_with_control_character_is_refused() {
        assert!(KeyspaceName::new("shop").is_ok());
        assert!(KeyspaceName::new("shop\n").is_err());
        assert!(KeyspaceName::new("").is_err());
        assert!(KeyspaceName::new(&"n".repeat(256)).is_err());
    }
}
