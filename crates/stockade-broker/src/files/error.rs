//! Why an operation on a granted folder failed.

use crate::audit::Refusal;

/// An operation on a file that failed. Its text may be shown to the guest.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Policy refused it. The operator's audit has heard of it.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// Not there.
    #[error("{binding}: {path:?} does not exist")]
    NotFound {
        /// The binding.
        binding: String,
        /// The guest's path.
        path: String,
    },
    /// Already there.
    #[error("{binding}: {path:?} exists already")]
    Exists {
        /// The binding.
        binding: String,
        /// The guest's path.
        path: String,
    },
    /// A file where a folder must be, or the other way round, or a folder that is not empty.
    #[error("{binding}: {path:?} {why}")]
    Kind {
        /// The binding.
        binding: String,
        /// The guest's path.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The machine's fault, not the guest's.
    #[error("{binding}: {what} {path:?} failed: {why}")]
    Failed {
        /// The binding.
        binding: String,
        /// The operation.
        what: &'static str,
        /// The guest's path.
        path: String,
        /// What the kernel said.
        why: String,
    },
}

impl FileError {
    /// The name that JavaScript gives such an error.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Refused(_) => "NotAllowedError",
            Self::NotFound { .. } => "NotFoundError",
            Self::Exists { .. } => "InvalidModificationError",
            Self::Kind { .. } => "TypeMismatchError",
            Self::Failed { .. } => "OperationError",
        }
    }
}
