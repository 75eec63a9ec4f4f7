//! Why an operation on a granted folder failed.

use std::fmt;

use crate::audit::{Reason, Refusal};

/// An operation on a file that failed. Its text may be shown to the guest.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Policy refused it. It has been reported to the operator's audit.
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
        why: Misfit,
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

/// Why an operation does not fit what lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// A file is needed.
    Folder,
    /// A folder is needed.
    NoFolder,
    /// A folder with something in it is not deleted or replaced.
    NotEmpty,
    /// A folder is not moved below itself.
    IntoItself,
    /// What was opened has no name any more.
    Gone,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Folder => "is a folder",
            Self::NoFolder => "is not a folder, or lies in a file",
            Self::NotEmpty => "is not empty",
            Self::IntoItself => "cannot be moved into itself",
            Self::Gone => "was replaced or deleted meanwhile",
        })
    }
}

impl FileError {
    /// The code that Node gives such an error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => match refusal.reason {
                Reason::Storage { .. } | Reason::TooMany { .. } => "EDQUOT",
                Reason::TooLarge { .. } => "EFBIG",
                Reason::ReadOnly => "EROFS",
                Reason::HardLinks => "EPERM",
                Reason::Watches { .. } => "ENOSPC",
                Reason::Concurrency { .. } | Reason::Rate { .. } => "EAGAIN",
                _ => "EACCES",
            },
            Self::NotFound { .. } => "ENOENT",
            Self::Exists { .. } => "EEXIST",
            Self::Kind { why, .. } => match why {
                Misfit::Folder => "EISDIR",
                Misfit::NoFolder => "ENOTDIR",
                Misfit::NotEmpty => "ENOTEMPTY",
                Misfit::IntoItself => "EINVAL",
                Misfit::Gone => "ESTALE",
            },
            Self::Failed { .. } => "EIO",
        }
    }

    /// The name that JavaScript gives such an error.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => name_of(&refusal.reason),
            Self::NotFound { .. } => "NotFoundError",
            Self::Exists { .. } => "InvalidModificationError",
            Self::Kind { .. } => "TypeMismatchError",
            Self::Failed { .. } => "OperationError",
        }
    }
}

/// The kinds of refusals are those of all that a handler asks for: what cannot be, a bound, storage, and what
/// may be tried later.
fn name_of(reason: &Reason) -> &'static str {
    match reason {
        Reason::Storage { .. }
        | Reason::TooMany { .. }
        | Reason::Watches { .. }
        | Reason::Budget { .. } => "QuotaExceededError",
        Reason::Rate { .. } | Reason::Concurrency { .. } => "BusyError",
        Reason::TooLarge { .. } => "RangeError",
        _ => "TypeError",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Action;

    #[test]
    fn refusals_have_the_names_of_their_kinds() {
        let bound = |reason| {
            let refusal = Refusal {
                instance: "shop".into(),
                action: Action::File,
                target: "DATA:a".to_owned(),
                rule: None,
                reason,
                address: None,
            };
            FileError::Refused(Box::new(refusal)).name()
        };
        assert_eq!(bound(Reason::Storage { limit: 1 }), "QuotaExceededError");
        assert_eq!(bound(Reason::TooMany { limit: 1 }), "QuotaExceededError");
        assert_eq!(bound(Reason::Concurrency { limit: 1 }), "BusyError");
        let large = Reason::TooLarge {
            what: "the file",
            limit: 1,
        };
        assert_eq!(bound(large), "RangeError");
        for reason in [Reason::Path, Reason::ReadOnly, Reason::SpecialFile] {
            assert_eq!(bound(reason), "TypeError");
        }
    }
}
