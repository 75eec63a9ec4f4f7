//! Files that are there already.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::OpenError;

fn open_error(options: SqliteOptions) -> OpenError {
    SqliteStore::open(options).unwrap_err()
}

#[tokio::test]
async fn file_is_for_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/deep/state.db");
    let store = SqliteStore::open(SqliteOptions::new(&path)).unwrap();
    let keyspace = store
        .open(KeyspaceName::new("site").unwrap(), Limits::default())
        .await
        .unwrap();
    write(&keyspace, "k", "x").await;
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        assert_eq!(mode(name.as_ref()), 0o600, "{name:?}");
    }
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    store.close().await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let store = SqliteStore::open(SqliteOptions::new(&path)).unwrap();
    assert_eq!(mode(&path), 0o600);
    store.close().await;
}

#[tokio::test]
async fn file_of_a_running_process_is_locked() {
    let bench = Bench::new();
    let error = open_error(options(&bench.folder, &bench.clock));
    let OpenError::Locked { process, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*process, std::process::id().to_string());
    let text = error.to_string();
    assert!(text.contains("fix: stop that process"), "{text}");
}

#[tokio::test]
async fn file_of_another_kind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::standing(START_MS);
    let path = folder.path().join("state.db");
    fs::write(
        &path,
        "just some text that is long enough to be no header".repeat(100),
    )
    .unwrap();
    let error = open_error(options(&folder, &clock));
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");

    fs::remove_file(&path).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE t (x)").unwrap();
    drop(other);
    let error = open_error(options(&folder, &clock));
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = open_error(options(&folder, &clock));
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}

#[tokio::test]
async fn file_of_a_later_version_is_refused() {
    let bench = Bench::new();
    bench.store.close().await;
    let path = bench.folder.path().join("state.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(other);
    let error = open_error(options(&bench.folder, &bench.clock));
    assert!(
        matches!(error, OpenError::Newer { found: 99, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn damaged_file_is_refused_with_the_damage() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    for number in 0..200 {
        write(&keyspace, &format!("k{number}"), &"x".repeat(500)).await;
    }
    bench.store.close().await;
    let path = bench.folder.path().join("state.db");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let error = open_error(options(&bench.folder, &bench.clock));
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
    assert!(
        error.to_string().contains("restore it from a backup"),
        "{error}"
    );
}

#[tokio::test]
async fn cut_off_file_is_refused() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    for number in 0..100 {
        write(&keyspace, &format!("k{number}"), &"x".repeat(500)).await;
    }
    bench.store.close().await;
    let path = bench.folder.path().join("state.db");
    let whole = fs::read(&path).unwrap();
    for length in [1, 50, 100, 4095, 4097, whole.len() / 2, whole.len() - 4096] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = SqliteStore::open(options(&bench.folder, &bench.clock));
        let Err(error) = error else {
            panic!("{length} bytes of {} were taken", whole.len())
        };
        assert!(
            matches!(error, OpenError::Corrupt { .. } | OpenError::Foreign { .. }),
            "{length}: {error}"
        );
    }
}

#[tokio::test]
async fn wrong_sums_are_counted_again() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    let version = write(&keyspace, "k", "12345").await;
    drop(keyspace);
    bench.store.close().await;
    let path = bench.folder.path().join("state.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute_batch("UPDATE keyspaces SET bytes = 99999, entries = 7, version = 0")
        .unwrap();
    drop(other);
    let bench = bench.again().await;
    let usage = bench.keyspace("site").await.usage();
    assert_eq!(usage.bytes, Limits::entry_bytes(1, 5));
    assert_eq!((usage.entries, usage.version), (1, version));
}

#[tokio::test]
async fn entries_and_versions_are_there_after_a_restart() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    let version = write(&keyspace, "k", "x").await;
    drop(keyspace);
    let bench = bench.again().await;
    let keyspace = bench.keyspace("site").await;
    assert_eq!(
        keyspace.get(key("k")).await.unwrap().unwrap().version,
        version
    );
    assert!(write(&keyspace, "k", "y").await > version);
}
