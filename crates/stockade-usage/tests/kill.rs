//! A process that counts is killed at any instant: what it reported as written is in the file once, and nothing is there
//! that it did not count.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "../../stockade-audit/tests/killed_child/mod.rs"]
mod killed_child;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stockade_usage::{Counts, Ledger, LedgerOptions, Query, Store};

use crate::killed_child::{KilledChild, kills};

const STORE: &str = "STOCKADE_TEST_USAGE_STORE";

/// Requests that the child counts before it says so.
const STEP: u64 = 50;

/// In the child: counts for ever, and says how much it is about to count and how much is written.
fn count_for_ever(path: &Path) {
    let options = LedgerOptions {
        path: path.to_owned(),
        interval: Duration::from_millis(1),
        keep_days: Some(1),
        keys: 20,
        key_totals: false,
    };
    let ledger = Ledger::open(options).unwrap();
    let mut out = std::io::stdout();
    let shop: Arc<str> = "shop".into();
    let one = Counts {
        requests: 1,
        bytes_out: 10,
        ..Counts::default()
    };
    for step in 1.. {
        writeln!(out, "counts {}", step * STEP).unwrap();
        for number in 0..STEP {
            // Some have keys, and some of those are too many for their day.
            ledger.add(&shop, (number % 2 == 0).then_some(number % 30), &one);
        }
        if step % 3 == 0 {
            ledger.flush().unwrap();
            writeln!(out, "written {}", step * STEP).unwrap();
        }
    }
}

/// The requests in the file. Bytes were counted with each.
fn requests(path: &Path) -> u64 {
    if !path.exists() {
        return 0;
    }
    let rows = Store::open(path).unwrap().rows(&Query::default()).unwrap();
    let sum = rows.iter().fold(Counts::default(), |mut sum, row| {
        sum.add(&row.counts);
        sum
    });
    assert_eq!(sum.bytes_out, 10 * sum.requests);
    sum.requests
}

#[test]
fn killed_process_loses_nothing_that_was_written_and_counts_nothing_twice() {
    if let Ok(path) = std::env::var(STORE) {
        return count_for_ever(Path::new(&path));
    }
    let kills = kills(30);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("usage.db");
    let mut before = 0;
    for round in 0..kills {
        let test = "killed_process_loses_nothing_that_was_written_and_counts_nothing_twice";
        let mut child = KilledChild::start(test, STORE, &path);
        let (mut counted, mut written) = (0_u64, 0_u64);
        let mut note = |line: &str| {
            let mut words = line.split_whitespace().rev();
            let (number, word) = (words.next(), words.next());
            match (word, number.and_then(|number| number.parse().ok())) {
                (Some("counts"), Some(number)) => counted = counted.max(number),
                (Some("written"), Some(number)) => written = written.max(number),
                _ => {}
            }
        };
        // Another number of lines each time, and then at once, wherever it is.
        for _ in 0..4 + round % 9 {
            note(&child.next(Some));
        }
        child.kill().iter().for_each(|line| note(line));
        let now = requests(&path);
        assert!(
            now >= before + written,
            "{now} after {before}, {written} written"
        );
        assert!(
            now <= before + counted,
            "{now} after {before}, {counted} counted"
        );
        before = now;
    }
    assert!(before > 0);
}
