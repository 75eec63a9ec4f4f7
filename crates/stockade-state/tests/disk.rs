//! A disk without room, and a log that was cut off.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says why it is skipped"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use stockade_state::{
    Atomic, Key, Keyspace, KeyspaceName, Limits, Mutation, OpenError, Outcome, SqliteOptions,
    SqliteStore, StateError, Store, Value,
};

async fn keyspace(store: &SqliteStore) -> Arc<dyn Keyspace> {
    let name = KeyspaceName::new("site").unwrap();
    store.open(name, Limits::default()).await.unwrap()
}

fn key(number: usize) -> Key {
    Key::new(&format!("k{number:05}")).unwrap()
}

/// A small file system in memory.
struct Small(PathBuf);

impl Small {
    fn mount(folder: &Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"])
            .arg(folder)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(folder.to_owned())),
            other => {
                println!("skipped: a tmpfs cannot be mounted here: {other:?}");
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[tokio::test]
async fn disk_full_refuses_writes_and_keeps_what_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_small) = Small::mount(folder.path()) else {
        return;
    };
    let path = folder.path().join("state.db");
    let filler = folder.path().join("filler");
    let store = SqliteStore::open(SqliteOptions::new(&path)).unwrap();
    let state = keyspace(&store).await;
    fs::write(&filler, vec![0; 4 << 20]).unwrap();
    let mut written = 0;
    let error = loop {
        match state
            .put(key(written), Value::bytes(vec![7; 20_000]), None)
            .await
        {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1000);
    };
    assert!(matches!(error, StateError::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("no room is left on the disk"));
    assert!(written > 10);
    // Reads go on, and so does the store once there is room.
    assert!(state.get(key(0)).await.unwrap().is_some());
    assert!(state.get(key(written)).await.unwrap().is_none());
    assert!(!store.stats().writable);
    fs::remove_file(&filler).unwrap();
    for number in written..written + 5 {
        state
            .put(key(number), Value::bytes(vec![7; 20_000]), None)
            .await
            .unwrap();
    }
    assert!(store.stats().writable);
    store.close().await;
    let store = SqliteStore::open(SqliteOptions::new(&path)).unwrap();
    let state = keyspace(&store).await;
    assert_eq!(state.usage().entries, written as u64 + 5);
    for number in 0..written + 5 {
        let entry = state.get(key(number)).await.unwrap().unwrap();
        assert_eq!(entry.value.data, vec![7; 20_000]);
    }
}

#[tokio::test]
async fn commit_too_large_for_the_disk_does_not_fail_its_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_small) = Small::mount(folder.path()) else {
        return;
    };
    let filler = folder.path().join("filler");
    fs::write(&filler, vec![0; 3 << 20]).unwrap();
    let store = SqliteStore::open(SqliteOptions::new(folder.path().join("state.db"))).unwrap();
    let state = keyspace(&store).await;
    state.put(key(0), Value::text("first"), None).await.unwrap();
    let put = |number: usize, bytes: usize| {
        state.commit(Atomic {
            checks: Vec::new(),
            mutations: vec![Mutation::Put {
                key: key(number),
                value: Value::bytes(vec![1; bytes]),
                ttl: None,
            }],
        })
    };
    let large = Atomic {
        checks: Vec::new(),
        mutations: (10..14)
            .map(|number| Mutation::Put {
                key: key(number),
                value: Value::bytes(vec![1; 1 << 20]),
                ttl: None,
            })
            .collect(),
    };
    let large = Atomic {
        mutations: large.mutations[..3].to_vec(),
        ..large
    };
    let small: Vec<_> = (1..5).map(|number| put(number, 100)).collect();
    let large = state.commit(large);
    let more: Vec<_> = (5..9).map(|number| put(number, 100)).collect();
    for commit in small.into_iter().chain(more) {
        assert!(matches!(commit.await, Ok(Outcome::Committed { .. })));
    }
    assert!(matches!(large.await, Err(StateError::DiskFull { .. })));
    assert_eq!(state.usage().entries, 9);
}

#[tokio::test]
async fn read_only_file_system_is_reported_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_small) = Small::mount(folder.path()) else {
        return;
    };
    let path = folder.path().join("state.db");
    let store = SqliteStore::open(SqliteOptions::new(&path)).unwrap();
    store.close().await;
    let remounted = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(folder.path())
        .status();
    assert!(remounted.unwrap().success());
    let error = SqliteStore::open(SqliteOptions::new(&path)).unwrap_err();
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error}");
}

#[tokio::test]
async fn log_stays_bounded_under_steady_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = SqliteStore::open(SqliteOptions::new(&path)).unwrap();
    let name = KeyspaceName::new("site").unwrap();
    let limits = Limits {
        write_bytes_per_second: u64::MAX,
        ..Limits::default()
    };
    let state = store.open(name, limits).await.unwrap();
    let mut longest = 0;
    for number in 0..80 {
        let value = Value::bytes(vec![1; 1 << 20]);
        state.put(key(number % 5), value, None).await.unwrap();
        state.get(key(number % 5)).await.unwrap();
        let log = fs::metadata(folder.path().join("state.db-wal")).unwrap();
        longest = longest.max(log.len());
    }
    assert!(longest < 24 << 20, "{longest}");
    assert!(fs::metadata(&path).unwrap().len() < 16 << 20);
    store.close().await;
    assert_eq!(
        fs::metadata(folder.path().join("state.db-wal")).map_or(0, |log| log.len()),
        0
    );
}

#[tokio::test]
async fn log_cut_off_anywhere_gives_whole_commits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let store = SqliteStore::open(SqliteOptions::new(&path)).unwrap();
    let state = keyspace(&store).await;
    for number in 1..=40 {
        let mutations = (0..3)
            .map(|place| Mutation::Put {
                key: key(place),
                value: Value::bytes(format!("{number} ").repeat(number * 20).into_bytes()),
                ttl: None,
            })
            .collect();
        let atomic = Atomic {
            checks: Vec::new(),
            mutations,
        };
        state.commit(atomic).await.unwrap();
    }
    let file = fs::read(&path).unwrap();
    let log = fs::read(folder.path().join("state.db-wal")).unwrap();
    assert!(log.len() > 40 * 4096);
    let mut seen = Vec::new();
    for step in 0..60 {
        // What the disk did not get is missing, or is anything.
        let cut = log.len() * step / 60 + step * 7 % 4096;
        let mut left = log[..cut.min(log.len())].to_vec();
        if step % 2 == 0 {
            left.extend(std::iter::repeat_n(0xa5, 5000));
        }
        let other = tempfile::tempdir().unwrap();
        let path = other.path().join("state.db");
        fs::write(&path, &file).unwrap();
        fs::write(other.path().join("state.db-wal"), left).unwrap();
        let Ok(store) = SqliteStore::open(SqliteOptions::new(&path)) else {
            // Cut off within the very first transaction, which lays the file out.
            assert!(step < 5, "{step}");
            continue;
        };
        let state = keyspace(&store).await;
        let entries = state.read((0..3).map(key).collect()).await.unwrap();
        assert!(
            entries.iter().all(|entry| *entry == entries[0]),
            "torn at {cut}"
        );
        seen.push(entries[0].as_ref().map_or(0, |entry| entry.version));
        store.close().await;
    }
    assert!(seen.is_sorted(), "{seen:?}");
    assert!(seen.last().is_some_and(|last| *last >= 38), "{seen:?}");
}
