//! Granted folders.
//!
//! Invariants: every path is looked up beneath the folder's own descriptor, by `openat2` with
//! `RESOLVE_BENEATH` where the kernel has it (openat2(2)); nothing that happens to links or folders
//! meanwhile leads out. Only regular files are opened, never waiting for one. What is written is on
//! the disk before success is reported. Of a whole file that is written, readers see the old version or
//! the new one.

mod error;
mod folder;
mod path;
mod storage;

pub use error::{FileError, Misfit};
pub(crate) use folder::Watcher;
pub use folder::{
    ChangeKind, EntryKind, FileChange, FileChanges, Folder, FolderEntry, FolderOptions, Listing,
    Metadata, Mode, StopChanges, WriteOptions,
};
pub(crate) use storage::Ledgers;
