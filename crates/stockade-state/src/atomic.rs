//! Commits: conditions and changes that happen completely or not at all.

use std::time::Duration;

use crate::error::StateError;
use crate::key::Key;
use crate::limits::{Limits, MAX_OPERATIONS, MAX_VALUE_BYTES};
use crate::value::{Value, Version};

/// The longest time to live. A longer one is shortened to it: 100 years.
pub(crate) const MAX_TTL: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// A condition of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The entry.
    pub key: Key,
    /// The version that it must have; `None`: it must be absent.
    pub version: Option<Version>,
}

/// A change of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mutation {
    /// Writes a value, whether or not there is one.
    Put {
        /// The entry.
        key: Key,
        /// The new value.
        value: Value,
        /// How long it lives from the commit on; at least a millisecond, at most 100 years.
        ttl: Option<Duration>,
    },
    /// Removes an entry; it is not an error if there is none.
    Delete {
        /// The entry.
        key: Key,
    },
}

impl Mutation {
    /// The entry that it changes.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let value = match self {
            Self::Put { value, .. } => value.data.len(),
            Self::Delete { .. } => 0,
        };
        self.key().as_str().len().saturating_add(value)
    }
}

/// A commit. Where a key is changed more than once, the last change counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Atomic {
    /// All of them must hold.
    pub checks: Vec<Check>,
    /// What is done then.
    pub mutations: Vec<Mutation>,
}

/// What came of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All checks held, all mutations are durable.
    Committed {
        /// The version that all written entries have now. Where nothing had to change, the
        /// keyspace's version as it was.
        version: Version,
        /// For each mutation: whether there was an entry before.
        existed: Vec<bool>,
    },
    /// A check did not hold; nothing was changed.
    Conflict {
        /// Index of the first check that did not hold.
        check: usize,
        /// The version that its entry has.
        found: Option<Version>,
    },
}

impl Atomic {
    /// Checks sizes and counts; gives the bytes of keys and values.
    ///
    /// # Errors
    /// What is above a limit.
    pub fn check(&self, limits: &Limits) -> Result<usize, StateError> {
        let operations = self.checks.len().saturating_add(self.mutations.len());
        if operations > MAX_OPERATIONS {
            return Err(StateError::TooManyOperations { operations });
        }
        let mut bytes = 0_usize;
        let limit = limits.value_bytes.min(MAX_VALUE_BYTES);
        for mutation in &self.mutations {
            if let Mutation::Put { key, value, .. } = mutation
                && value.data.len() > limit
            {
                return Err(StateError::ValueTooLarge {
                    key: key.clone(),
                    bytes: value.data.len(),
                    limit,
                });
            }
            bytes = bytes.saturating_add(mutation.bytes());
        }
        let limit = limits
            .commit_bytes
            .max(limit.saturating_add(crate::MAX_KEY_BYTES));
        if bytes > limit {
            return Err(StateError::CommitTooLarge { bytes, limit });
        }
        Ok(bytes)
    }
}
