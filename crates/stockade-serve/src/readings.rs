//! Figures that are read from other parts when somebody asks.

use stockade_state::SqliteStore;

use crate::metrics::Reading;

fn one(name: &'static str, help: &'static str, counter: bool, value: f64) -> Reading {
    Reading {
        name,
        help,
        counter,
        values: vec![(Vec::new(), value)],
    }
}

/// Lines of the log that were dropped.
pub(crate) fn dropped_lines(lines: u64) -> Reading {
    one(
        "stockade_log_lines_dropped",
        "Lines of the log that came faster than they could be written",
        true,
        lines as f64,
    )
}

/// Of the shared state.
pub(crate) fn store(store: &SqliteStore) -> Vec<Reading> {
    let stats = store.stats();
    vec![
        one(
            "stockade_state_commits",
            "Commits answered",
            true,
            stats.commits as f64,
        ),
        one(
            "stockade_state_transactions",
            "Transactions of the database, each of one or more commits",
            true,
            stats.groups as f64,
        ),
        one(
            "stockade_state_failures",
            "Transactions of the database that failed",
            true,
            stats.failures as f64,
        ),
        one(
            "stockade_state_pending_writes",
            "Commits that wait",
            false,
            stats.pending_writes as f64,
        ),
        one(
            "stockade_state_pending_reads",
            "Reads that wait",
            false,
            stats.pending_reads as f64,
        ),
        one(
            "stockade_state_file_bytes",
            "Size of the database and its log",
            false,
            stats.file_bytes as f64,
        ),
        one(
            "stockade_state_writable",
            "1 while the database can be written",
            false,
            f64::from(u8::from(stats.writable)),
        ),
    ]
}
