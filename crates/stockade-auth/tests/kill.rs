//! A process that makes, rotates and revokes keys is killed at any instant: what it acknowledged is there, and nothing
//! is there in part.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "../../stockade-audit/tests/killed_child/mod.rs"]
mod killed_child;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use stockade_auth::{ApiKey, KeyFields, Keys, Pepper, Status, Store};

use crate::killed_child::{KilledChild, kills};

const STORE: &str = "STOCKADE_TEST_KEYS_STORE";

fn pepper() -> Pepper {
    Pepper::new(&[7; 32]).unwrap()
}

/// In the child: changes the store for ever, and writes what is done to standard output.
fn change_for_ever(path: &Path) {
    let mut store = Store::open(path, pepper()).unwrap();
    let mut out = std::io::stdout();
    loop {
        let fields = KeyFields {
            name: "a".to_owned(),
            ..KeyFields::default()
        };
        let now = SystemTime::now();
        let made = store.create(&fields, now).unwrap();
        let id = made.record.id;
        writeln!(out, "active {}", made.key.reveal()).unwrap();
        let next = store.rotate(id, Duration::ZERO, now).unwrap();
        writeln!(out, "expired {}", made.key.reveal()).unwrap();
        writeln!(out, "active {}", next.key.reveal()).unwrap();
        store.revoke(id, now).unwrap();
        writeln!(out, "revoked {}", next.key.reveal()).unwrap();
    }
}

#[test]
fn killed_process_loses_nothing_that_it_acknowledged() {
    if let Ok(path) = std::env::var(STORE) {
        return change_for_ever(Path::new(&path));
    }
    let kills = kills(30);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.db");
    let mut acknowledged = 0;
    for round in 0..kills {
        let test = "killed_process_loses_nothing_that_it_acknowledged";
        let mut child = KilledChild::start(test, STORE, &path);
        let of_a_key = |line: String| line.contains(" sk_stockade_").then_some(line);
        // Another number of changes each time, and then at once, wherever it is.
        let changes = 0..1 + round % 7;
        let mut said: Vec<_> = changes.map(|_| child.next(of_a_key)).collect();
        said.extend(child.kill().into_iter().filter_map(of_a_key));
        let store = Store::open(&path, pepper()).unwrap();
        for line in &said {
            // The first line stands behind words of the test's own.
            let mut words = line.rsplit(' ');
            let (Some(key), Some(status)) = (words.next(), words.next()) else {
                continue;
            };
            // A line that was cut off acknowledges nothing.
            let Ok(key) = ApiKey::parse(key) else {
                continue;
            };
            let known = store.verify(&key, SystemTime::now()).unwrap().unwrap();
            acknowledged += 1;
            // Later changes, with or without their line, may have gone further, and none goes back.
            let rank = |word: &str| {
                ["active", "expired", "revoked"]
                    .iter()
                    .position(|one| *one == word)
            };
            assert!(
                rank(known.status.word()) >= rank(status) && rank(status).is_some(),
                "{line}"
            );
            // A rotation adds a text and ends the other one, or does neither.
            let open = known
                .record
                .secrets
                .iter()
                .filter(|secret| secret.ends.is_none());
            assert_eq!(open.count(), 1, "{line}");
        }
        // What is there is whole: each key has a text, and a revoked one lets nobody in.
        let keys = Keys::open(&path, pepper()).unwrap();
        let now = SystemTime::now();
        let records = store.list(None).unwrap();
        assert!(records.iter().all(|record| !record.secrets.is_empty()));
        let active = records
            .iter()
            .filter(|record| record.status(1) == Status::Active);
        assert_eq!(keys.count(), active.count());
        for line in said.iter().filter(|line| line.starts_with("revoked ")) {
            assert!(keys.check(&line.as_bytes()[8..], now).is_err());
        }
    }
    assert!(acknowledged > kills);
}
