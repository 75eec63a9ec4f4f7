//! `sqlite`: a database in a file.

use std::path::PathBuf;
use std::time::Duration;

use super::GrantSection;
use super::files::FileMode;
use super::limits::{self, CallLimits, call_limits};
use crate::fields::Fields;
use crate::keys::{Key, NEW, size, text, time};
use crate::section::{Words, section, words};
use crate::tree::Message;

call_limits! {
    "sqlite_limits",
    rate: "10000",
    concurrent: "64",
    queue: "1024",
    timeout: "30s",
    max_request: "4mb",
    max_result: "16mb",
    handles: Some("16"),
}

section! {
    /// A database of SQLite, with the interface of Cloudflare's D1 and with transactions in which
    /// the guest's code may wait. SQLite runs in a process of its own that can open no file.
    pub struct SqliteGrant "sqlite" {
        /// The database. Its write-ahead log and its journal lie next to it. It is made where
        /// there is none.
        pub file: PathBuf = text(NEW).required().like(&["./data/notes.db"]),
        /// `write` allows reading and changing.
        pub mode: FileMode = Key::of(FileMode::KIND).default("write"),
        /// Size of the database. The log may need as much again during a transaction.
        pub storage: u64 = size(1 << 20, 1 << 40).default("100mb"),
        /// Memory of SQLite.
        pub memory: u64 = size(4 << 20, 4 << 30).default("32mb"),
        /// Time of one call, and of each call in a transaction. A statement that takes longer
        /// has no effect.
        pub statement: Duration = time(1, 3_600_000).default("5s"),
        /// Time of a transaction, during which all other calls wait. A longer one is rolled
        /// back.
        pub transaction: Duration = time(1, 3_600_000).default("10s"),
        /// The process of the database ends when there was no call for this long. The next call
        /// starts another one.
        pub idle: Duration = time(1000, 86_400_000).default("60s"),
        /// How the process of the database is confined.
        pub isolation: SqliteIsolation = Key::of(SqliteIsolation::KIND).default("container"),
        /// Bounds of the calls.
        pub limits: CallLimits = LIMITS_KEY => call_limits,
    }
}

impl GrantSection for SqliteGrant {}

words! {
    /// How the process of a database is confined.
    pub enum SqliteIsolation {
        /// In namespaces of its own as well.
        Container = "container",
        /// As a process.
        Process = "process",
    }
}

/// A call that waits for a transaction has a place, and so must the transaction's next call.
fn call_limits(grant: &Fields<'_>) -> CallLimits {
    let limits = limits::read(grant);
    if limits.concurrent < 2 {
        let what = "a database needs two concurrent calls: one waits while a transaction goes on";
        grant.refuse("limits", Message::allowed(what, "concurrent: 2 or more"));
    }
    limits
}
