//! Logs in real folders: what is written can be verified, and what was done to it afterwards is found.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod killed;
#[path = "../killed_child/mod.rs"]
mod killed_child;
mod tampered;
mod written;

use std::fs;
use std::path::{Path, PathBuf};

use stockade_audit::{AuditError, AuditLog, AuditOptions, PublicKey, Record, Verified, verify};

/// Writes `count` records, each of which is on the disk when this returns, and a checkpoint.
fn write(folder: &Path, count: u64) {
    let log = AuditLog::open(AuditOptions::new(folder.to_owned())).unwrap();
    for number in 0..count {
        let record = Record::new("egress_refused")
            .text("instance", "shop")
            .number("number", number);
        match number + 1 == count {
            true => log.confirm(record).unwrap(),
            false => log.record(record),
        }
    }
}

fn check(folder: &Path) -> Result<Verified, AuditError> {
    verify(folder, &PublicKey::open(&folder.join("key.pub"))?)
}

/// The files of a log, the oldest first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .collect();
    files.sort();
    files
}

fn lines(folder: &Path) -> Vec<String> {
    let file = files(folder).pop().unwrap();
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(str::to_owned).collect()
}
