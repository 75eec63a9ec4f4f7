//! Many callers at once.

use super::*;
use crate::{ChangeKind, Selector, Watched};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn counters_by_compare_and_put_lose_no_count() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let keyspace = Arc::clone(&keyspace);
        tasks.push(tokio::spawn(async move {
            for _ in 0..50 {
                loop {
                    let entry = keyspace.get(key("count")).await.unwrap();
                    let count: u64 = entry.as_ref().map_or(0, |entry| {
                        std::str::from_utf8(&entry.value.data)
                            .unwrap()
                            .parse()
                            .unwrap()
                    });
                    let next = Value::text(&(count + 1).to_string());
                    let version = entry.map(|entry| entry.version);
                    let put = keyspace.compare_and_put(key("count"), version, next, None);
                    if put.await.unwrap().is_some() {
                        break;
                    }
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(text(&keyspace.get(key("count")).await.unwrap()), "400");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn committed_write_is_seen_by_every_later_read() {
    let bench = Bench::new();
    let writer = bench.keyspace("site").await;
    let reader = bench.keyspace("site").await;
    for number in 0..300 {
        let version = write(&writer, "k", &number.to_string()).await;
        let entry = reader.get(key("k")).await.unwrap().unwrap();
        assert_eq!(entry.version, version);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commits_at_once_share_transactions_and_stay_apart() {
    let bench = Bench::new();
    let limits = Limits {
        writes_per_second: u32::MAX,
        ..Limits::default()
    };
    let keyspace = bench.limited("site", limits).await;
    let mut tasks = Vec::new();
    for number in 0..500 {
        let keyspace = Arc::clone(&keyspace);
        tasks.push(tokio::spawn(async move {
            let mutations = vec![put("shared", "x"), put(&format!("own{number}"), "x")];
            // Every second one must fail, in the middle of the others' transactions.
            let checks: &[_] = if number % 2 == 0 {
                &[]
            } else {
                &[("none", Some(1))]
            };
            commit(&keyspace, checks, mutations).await.unwrap()
        }));
    }
    let mut committed = 0;
    for task in tasks {
        committed += u64::from(matches!(task.await.unwrap(), Outcome::Committed { .. }));
    }
    assert_eq!(committed, 250);
    assert_eq!(keyspace.usage().entries, 251);
    assert_eq!(keyspace.usage().version, 250);
    let stats = bench.store.stats();
    assert!(stats.groups < stats.commits, "{stats:?}");
}

#[tokio::test]
async fn caller_that_went_away_leaves_the_store_usable() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    for number in 0..50 {
        drop(keyspace.put_now(number));
        drop(keyspace.read(vec![key("k")]));
    }
    write(&keyspace, "last", "x").await;
    assert!(keyspace.get(key("last")).await.unwrap().is_some());
}

trait PutNow {
    fn put_now(
        &self,
        number: usize,
    ) -> futures_util::future::BoxFuture<'static, Result<Outcome, StateError>>;
}

impl PutNow for Arc<dyn Keyspace> {
    fn put_now(
        &self,
        number: usize,
    ) -> futures_util::future::BoxFuture<'static, Result<Outcome, StateError>> {
        self.commit(Atomic {
            checks: Vec::new(),
            mutations: vec![put(&format!("k{number}"), "x")],
        })
    }
}

#[tokio::test]
async fn flood_of_one_keyspace_is_refused_and_another_goes_on() {
    let bench = Bench::new();
    let limits = Limits {
        writes_per_second: 10,
        pending: 100,
        ..Limits::default()
    };
    let flood = bench.limited("flood", limits).await;
    let calm = bench.keyspace("calm").await;
    let waiting: Vec<_> = (0..500)
        .map(|number| tokio::spawn(flood.put_now(number)))
        .collect();
    write(&calm, "k", "x").await;
    assert!(calm.get(key("k")).await.unwrap().is_some());
    let more: Vec<_> = (0..100).map(|number| flood.put_now(number)).collect();
    let busy = more.into_iter().last().unwrap().await;
    assert!(
        matches!(busy, Err(StateError::Busy { pending: 100 })),
        "{busy:?}"
    );
    for task in waiting {
        task.abort();
    }
}

#[tokio::test]
async fn watch_of_keys_sees_commits_of_others() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    let selector = Selector::keys(vec![key("b"), key("a")]).unwrap();
    let mut watch = keyspace.watch(selector, None).unwrap();
    let other = bench.keyspace("site").await;
    write(&other, "c", "x").await;
    let version = write(&other, "a", "x").await;
    let seen = watch.next().await.unwrap();
    let Watched::Changes { changes, .. } = seen else {
        panic!("{seen:?}")
    };
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].key, key("a"));
    assert_eq!(changes[0].version, version);
    assert_eq!(changes[0].kind, ChangeKind::Put);
    other.delete(key("a")).await.unwrap();
    let seen = watch.next().await.unwrap();
    let Watched::Changes { changes, .. } = seen else {
        panic!("{seen:?}")
    };
    assert_eq!(changes[0].kind, ChangeKind::Deleted);
}

#[tokio::test]
async fn watch_from_a_listed_version_misses_nothing() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    write(&keyspace, "a", "x").await;
    let page = keyspace.list(crate::List::default()).await.unwrap();
    write(&keyspace, "b", "x").await;
    let all = Selector::prefix("").unwrap();
    let mut watch = keyspace.watch(all, Some(page.version)).unwrap();
    let seen = watch.next().await.unwrap();
    let Watched::Changes { changes, version } = seen else {
        panic!("{seen:?}")
    };
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].key, key("b"));
    assert_eq!(version, watch.position());
}

#[tokio::test]
async fn watch_over_a_restart_lags() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    let version = write(&keyspace, "a", "x").await;
    write(&keyspace, "a", "y").await;
    let all = || Selector::prefix("").unwrap();
    let mut open = keyspace.watch(all(), None).unwrap();
    drop(keyspace);
    let bench = bench.again().await;
    assert_eq!(open.next().await, None);
    let keyspace = bench.keyspace("site").await;
    let mut watch = keyspace.watch(all(), Some(version)).unwrap();
    assert!(matches!(watch.next().await, Some(Watched::Lagged { .. })));
}

#[tokio::test]
async fn closed_store_refuses_and_has_kept_everything() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    let waiting: Vec<_> = (0..100)
        .map(|number| tokio::spawn(keyspace.put_now(number)))
        .collect();
    tokio::task::yield_now().await;
    bench.store.close().await;
    let mut done = 0;
    for task in waiting {
        done += usize::from(task.await.unwrap().is_ok());
    }
    assert_eq!(keyspace.get(key("k1")).await, Err(StateError::Closed));
    assert_eq!(keyspace.put_now(1).await, Err(StateError::Closed));
    let bench = bench.again().await;
    let keyspace = bench.keyspace("site").await;
    assert_eq!(keyspace.usage().entries, done as u64);
}

/// A backup, or `sqlite3`, reads in a transaction that lasts. Where the writer waited for it, each of these commits would take
/// seconds.
#[tokio::test]
async fn reader_of_another_process_holds_up_no_commit_and_the_log_is_emptied_after_it() {
    const LOG_MOST: u64 = 64 << 20;
    let bench = Bench::new();
    let path = bench.folder.path().join("state.db");
    let log = || {
        std::fs::metadata(bench.folder.path().join("state.db-wal"))
            .unwrap()
            .len()
    };
    let limits = Limits {
        storage_bytes: 1 << 30,
        write_bytes_per_second: 1 << 30,
        ..Limits::default()
    };
    let keyspace = bench.limited("site", limits).await;
    // What is written again as it was, is not in the log again.
    let mebibytes = ["x", "y"].map(|letter| letter.repeat(1 << 20));
    write(&keyspace, "first", "1").await;

    let reader = rusqlite::Connection::open(&path).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM entries;")
        .unwrap();
    let mut commits = 0;
    while log() < LOG_MOST + (8 << 20) {
        write(&keyspace, "k", &mebibytes[commits % 2]).await;
        commits += 1;
        assert!(commits < 1000, "the log does not grow");
    }
    // It sees what there was when it began.
    let seen: i64 = reader
        .query_row("SELECT count(*) FROM entries", [], |row| row.get(0))
        .unwrap();
    assert_eq!(seen, 1);

    reader.execute_batch("COMMIT").unwrap();
    let mut waited = 0;
    while log() > LOG_MOST {
        write(&keyspace, "last", "1").await;
        waited += 1;
        assert!(waited < 100_000, "the log stays long");
    }
}

#[tokio::test]
async fn lock_keeps_the_store_from_being_opened_and_verify_names_what_a_file_is() {
    let bench = Bench::new();
    let path = bench.folder.path().join("state.db");
    let keyspace = bench.keyspace("site").await;
    write(&keyspace, "k", "x").await;
    assert!(matches!(
        crate::lock(&path),
        Err(crate::OpenError::Locked { .. })
    ));
    bench.store.close().await;
    let lock = crate::lock(&path).unwrap();
    let refused = SqliteStore::open(options(&bench.folder, &bench.clock));
    assert!(matches!(refused, Err(crate::OpenError::Locked { .. })));
    drop(lock);
    crate::verify(&path).unwrap();
    let other = bench.folder.path().join("other.db");
    rusqlite::Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE t (a)")
        .unwrap();
    assert!(matches!(
        crate::verify(&other),
        Err(crate::OpenError::Foreign { .. })
    ));
}
