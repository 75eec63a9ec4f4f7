//! Why something could not be done.

use crate::message::{Answer, Failure, MOST_MESSAGE};

/// A failure, with its message.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) message: String,
}

impl Failed {
    /// The grant's own keys.
    pub(crate) fn grant(message: impl Into<String>) -> Self {
        Self::new(Failure::Grant, message)
    }

    /// What the guest gave.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(Failure::Input, message)
    }

    /// The result is larger than it may be.
    pub(crate) fn large(most: u64) -> Self {
        Self::new(
            Failure::Large,
            format!("the result has more than {most} bytes, which is `limits.max_result`"),
        )
    }

    /// One failure for everything that can be wrong with a message that is to be decrypted: which one it was helps
    /// to forge another message.
    pub(crate) fn decryption() -> Self {
        Self::new(Failure::Decryption, "")
    }

    fn new(failure: Failure, message: impl Into<String>) -> Self {
        Self {
            failure,
            message: message.into(),
        }
    }

    pub(crate) fn answer(self) -> Answer {
        Answer::Failed {
            failure: self.failure,
            message: self.message.chars().take(MOST_MESSAGE).collect(),
        }
    }
}
