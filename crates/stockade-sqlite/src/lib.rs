//! SQLite databases for guests.
//!
//! SQL of a guest is hostile, and SQLite is C. So SQLite runs in a worker of its own ([`worker_main`]), a sealed process
//! which has three open files (the database, its write-ahead log and its rollback journal), can open no other, and
//! whose system calls are those of a worker without executable memory and what SQLite does with open files. The
//! supervisor's half is [`Database`]: it opens and locks the files, starts the worker for the first statement, ends
//! it when it was idle, and kills it when a statement lasts longer than it may.
//!
//! Invariants:
//! 1. The supervisor never runs SQLite on these files and never reads them.
//! 2. What a worker answers is bounded before it is read, in bytes and in time.
//! 3. One statement, or one transaction, at a time: what waits is bounded in number and time.
//! 4. A transaction that nobody ends is rolled back at its deadline, or when its handle is dropped.
//!
//! Deliberately absent: who may use a database, and how a guest's values become these.
#![cfg(target_os = "linux")]

mod database;
mod error;
mod files;
mod link;
mod message;
mod options;
#[expect(
    unsafe_code,
    reason = "SQLite and the kernel take functions and pointers of C"
)]
mod sys;
mod worker;

pub use database::{Database, Transaction};
pub use error::{OpenError, SqlError};
pub use files::Access;
pub use message::{Column, Rows, Statement, Value};
pub use options::DatabaseOptions;
pub use worker::main as worker_main;
