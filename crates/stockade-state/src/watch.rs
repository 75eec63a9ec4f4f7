//! Changes of keys, as they are committed.

use futures_util::future::BoxFuture;

use crate::key::{Key, MAX_KEY_BYTES};
use crate::value::Version;

/// Most keys that one watch may name.
pub const MAX_WATCHED_KEYS: usize = 128;

/// Which keys a watch is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Selected);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Selected {
    Keys(Vec<Key>),
    Prefix(String),
}

/// A selector that is too large.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// No key, or too many.
    #[error("a watch is for 1 to {MAX_WATCHED_KEYS} keys, not {0}; or for a prefix")]
    Keys(usize),
    /// A prefix that is longer than any key.
    #[error(
        "a prefix of {0} bytes is longer than a key may be: at most {MAX_KEY_BYTES} are allowed"
    )]
    Prefix(usize),
}

impl Selector {
    /// Watches these keys.
    ///
    /// # Errors
    /// When there are none, or more than [`MAX_WATCHED_KEYS`].
    pub fn keys(mut keys: Vec<Key>) -> Result<Self, SelectorError> {
        if keys.is_empty() || keys.len() > MAX_WATCHED_KEYS {
            return Err(SelectorError::Keys(keys.len()));
        }
        keys.sort();
        Ok(Self(Selected::Keys(keys)))
    }

    /// All keys that begin so; all keys, if empty.
    ///
    /// # Errors
    /// When it is longer than a key.
    pub fn prefix(prefix: &str) -> Result<Self, SelectorError> {
        if prefix.len() > MAX_KEY_BYTES {
            return Err(SelectorError::Prefix(prefix.len()));
        }
        Ok(Self(Selected::Prefix(prefix.to_owned())))
    }

    pub(crate) fn selects(&self, key: &Key) -> bool {
        match &self.0 {
            Selected::Keys(keys) => keys.binary_search(key).is_ok(),
            Selected::Prefix(prefix) => key.as_str().starts_with(prefix.as_str()),
        }
    }
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was written.
    Put,
    /// It was deleted.
    Deleted,
    /// Its time was over. Reported when the entry is swept, about a second after it became absent.
    Expired,
}

/// A change of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// The commit.
    pub version: Version,
    /// What happened.
    pub kind: ChangeKind,
}

/// What a watch saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// Changes in the order of their commits; never empty, never part of a commit.
    Changes {
        /// The changes.
        changes: Vec<Change>,
        /// Everything up to this version was seen.
        version: Version,
    },
    /// Changes were missed: the watch was too slow, or began before what is still known. The watcher
    /// must list its keys again. The watch goes on after `version`.
    Lagged {
        /// Everything after this version will be seen.
        version: Version,
    },
}

/// An open watch; dropping it ends it.
pub trait Watch: Send {
    /// The version up to which everything was seen.
    fn position(&self) -> Version;

    /// Waits for the next changes; `None`: the store is closed. May be dropped and called again
    /// without losing anything.
    fn next(&mut self) -> BoxFuture<'_, Option<Watched>>;
}
