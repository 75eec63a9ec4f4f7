//! A granted folder and what a guest may do in it.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::audit::{Audit, Refusal};
use crate::body::Body;

/// What a guest may do in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// List, stat and read.
    Read,
    /// Write, delete and make folders as well.
    Write,
}

/// A grant.
#[derive(Clone, Debug)]
pub struct FolderOptions {
    /// The binding's name in the guest's environment, for messages.
    pub binding: String,
    /// The folder. May be a symbolic link itself; nothing inside leads out of it.
    pub path: PathBuf,
    /// What may be done.
    pub mode: Mode,
    /// Bytes of all files together, each counted as at least 512; `None` for no limit.
    pub storage_limit: Option<u64>,
    /// Bytes of one file that is written.
    pub max_file_bytes: u64,
    /// Files and folders in all that writing may lead to.
    pub max_entries: u64,
    /// Operations at the same time; more wait.
    pub concurrent: usize,
}

impl FolderOptions {
    /// A grant for reading, with default bounds.
    #[must_use]
    pub fn new(binding: &str, path: PathBuf, mode: Mode) -> Self {
        Self {
            binding: binding.to_owned(),
            path,
            mode,
            storage_limit: Some(1024 * 1024 * 1024),
            max_file_bytes: 256 * 1024 * 1024,
            max_entries: 100_000,
            concurrent: 8,
        }
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
}

/// What is known of a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: EntryKind,
    /// Bytes; 0 for a folder.
    pub size: u64,
    /// When it was last written.
    pub modified: Option<SystemTime>,
}

/// A file or folder in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the listed folder.
    pub name: String,
    /// What is known of it.
    pub metadata: Metadata,
}

/// Entries of a folder, ordered by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Up to the limit asked for.
    pub entries: Vec<Entry>,
    /// There are more after the last one.
    pub more: bool,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Fails if it is there already.
    pub create_new: bool,
    /// Makes the folders that it lies in.
    pub make_folders: bool,
}

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

/// A granted folder. All paths are relative to it, with `/` between names.
pub struct Folder {
    options: FolderOptions,
}

impl Folder {
    pub(crate) fn open(
        instance: Arc<str>,
        options: FolderOptions,
        audit: Arc<dyn Audit>,
    ) -> Result<Arc<Self>, FileError> {
        let _ = (instance, audit);
        Ok(Arc::new(Self { options }))
    }

    fn unbuilt(&self, path: &str) -> FileError {
        FileError::NotFound {
            binding: self.options.binding.clone(),
            path: path.to_owned(),
        }
    }

    /// What is known of a file or folder; `""` is the granted folder itself.
    ///
    /// # Errors
    /// It is not there, or may not be looked at.
    pub async fn stat(self: Arc<Self>, path: String) -> Result<Metadata, FileError> {
        Err(self.unbuilt(&path))
    }

    /// Entries of a folder by name, those after `after`, at most `limit` and 1,000.
    ///
    /// # Errors
    /// It is not there, no folder, or may not be looked at.
    pub async fn list(
        self: Arc<Self>,
        path: String,
        after: Option<String>,
        limit: usize,
    ) -> Result<Listing, FileError> {
        let _ = (after, limit);
        Err(self.unbuilt(&path))
    }

    /// A file's bytes, or a range of them cut to its size, as a stream of up to 64 KiB a piece.
    ///
    /// # Errors
    /// It is not there, no file, or may not be read.
    pub async fn read(
        self: Arc<Self>,
        path: String,
        range: Option<Range<u64>>,
    ) -> Result<(Metadata, Body), FileError> {
        let _ = range;
        Err(self.unbuilt(&path))
    }

    /// Writes a whole file: readers see the old one or the new one, never a part. It is on the disk
    /// when this is done.
    ///
    /// # Errors
    /// The folder is for reading, a limit is reached, or the body failed.
    pub async fn write(
        self: Arc<Self>,
        path: String,
        body: Body,
        options: WriteOptions,
    ) -> Result<Metadata, FileError> {
        let _ = (body, options);
        Err(self.unbuilt(&path))
    }

    /// Deletes a file or an empty folder. Whether it was there.
    ///
    /// # Errors
    /// The folder is for reading, or it is not empty.
    pub async fn delete(self: Arc<Self>, path: String) -> Result<bool, FileError> {
        Err(self.unbuilt(&path))
    }

    /// Makes a folder and those that it lies in. One that is there already is fine.
    ///
    /// # Errors
    /// The folder is for reading, a file is in the way, or a limit is reached.
    pub async fn make_folder(self: Arc<Self>, path: String) -> Result<(), FileError> {
        Err(self.unbuilt(&path))
    }

    /// Bytes counted against the storage limit.
    #[must_use]
    pub fn used(&self) -> u64 {
        0
    }
}
