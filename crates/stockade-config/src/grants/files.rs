//! `files`: a folder.

use std::path::PathBuf;

use super::GrantSection;
use super::limits::{self, CallLimits, call_limits};
use crate::keys::{FOLDER, Key, size, text};
use crate::section::{Words, section, words};

call_limits! {
    "files_limits",
    rate: "10000",
    concurrent: "64",
    queue: "1024",
    timeout: "60s",
    max_request: "100mb",
    max_result: "100mb",
    handles: Some("16"),
}

section! {
    /// A folder that may be read or written, with the methods of `env.FILES`. No link in it
    /// leads outside.
    pub struct FilesGrant "granted_files" {
        /// The folder.
        pub path: PathBuf = text(FOLDER).required().like(&["./data"]),
        /// `write` allows reading, creating, changing and deleting.
        pub mode: FileMode = Key::of(FileMode::KIND).default("read"),
        /// Storage of the folder, with `mode: write`.
        pub storage: u64 = size(0, 1 << 50).default("100mb"),
        /// Size of one file.
        pub max_file: u64 = size(1, 1 << 40).default("100mb"),
        /// Bounds of the calls.
        pub limits: CallLimits = LIMITS_KEY => limits::read,
    }
}

impl GrantSection for FilesGrant {}

words! {
    /// What may be done in a granted folder.
    pub enum FileMode {
        /// Read and list.
        Read = "read",
        /// That, and make, change and delete.
        Write = "write",
    }
}
