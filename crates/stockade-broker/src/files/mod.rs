//! Granted folders.
//!
//! Invariants: every path is looked up beneath the folder's own descriptor, by `openat2` with
//! `RESOLVE_BENEATH` where the kernel has it (openat2(2)); nothing that happens to links or folders
//! meanwhile leads out. Only regular files are opened, never waiting for one. What is written is on
//! the disk before success is reported, and readers see the old file or the new one.

mod error;
mod folder;
mod path;
mod storage;

pub use error::FileError;
pub use folder::{
    EntryKind, Folder, FolderEntry, FolderOptions, Listing, Metadata, Mode, WriteOptions,
};
pub(crate) use storage::Ledgers;
