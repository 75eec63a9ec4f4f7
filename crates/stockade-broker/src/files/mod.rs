//! Granted folders.

mod folder;

pub use folder::{
    Entry, EntryKind, FileError, Folder, FolderOptions, Listing, Metadata, Mode, WriteOptions,
};
