//! A writer that is killed at any instant leaves a log that is whole, with every line that it had confirmed.

use std::path::PathBuf;

use stockade_audit::{AuditLog, AuditOptions, Record};

use crate::check;
use crate::killed_child::{KilledChild, kills};

const FOLDER: &str = "STOCKADE_AUDIT_TEST_FOLDER";

/// The process that [`killed_writer_loses_nothing_that_it_confirmed`] kills. It prints the number of each confirmed line.
#[test]
#[ignore = "runs until it is killed"]
fn writer() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let options = AuditOptions {
        // Files change often, so that kills meet that, too.
        file_size: 4000,
        files: 5,
        ..AuditOptions::new(PathBuf::from(folder))
    };
    let log = AuditLog::open(options).unwrap();
    loop {
        log.record(Record::new("not confirmed"));
        log.confirm(Record::new("confirmed")).unwrap();
        println!("confirmed {}", log.status().last);
    }
}

#[test]
fn killed_writer_loses_nothing_that_it_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = 0;
    for kill in 0..kills(30) {
        let mut child = KilledChild::start("killed::writer", FOLDER, folder.path());
        // Each is killed after another number of lines, in the middle of whatever comes then.
        for _ in 0..kill * 7 % 50 + 1 {
            last = child.next(|line| line.split_once("confirmed ")?.1.parse::<u64>().ok());
        }
        child.kill();
        let found = check(folder.path()).unwrap();
        assert!(found.last >= last, "{last} was confirmed: {found:?}");
    }
}
