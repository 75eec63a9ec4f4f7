//! Entries whose time is over.

use super::*;
use crate::{ChangeKind, List, Selector, Watched};

async fn mortal(keyspace: &Arc<dyn Keyspace>, name: &str, ms: u64) -> Version {
    let ttl = Some(Duration::from_millis(ms));
    keyspace
        .put(key(name), Value::text("x"), ttl)
        .await
        .unwrap()
}

#[tokio::test]
async fn expired_entry_is_absent_at_once_everywhere() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    let version = mortal(&keyspace, "k", 1000).await;
    bench.clock.advance(999);
    let entry = keyspace.get(key("k")).await.unwrap().unwrap();
    assert_eq!(entry.expires_ms, Some(START_MS + 1000));
    bench.clock.advance(1);
    assert_eq!(keyspace.get(key("k")).await.unwrap(), None);
    assert!(
        keyspace
            .list(List::default())
            .await
            .unwrap()
            .keys
            .is_empty()
    );
    let stale = commit(&keyspace, &[("k", Some(version))], vec![put("k", "y")]).await;
    assert!(matches!(stale, Ok(Outcome::Conflict { found: None, .. })));
    let fresh = commit(&keyspace, &[("k", None)], vec![put("k", "y")]).await;
    assert!(matches!(fresh, Ok(Outcome::Committed { version: new, .. }) if new > version));
}

#[tokio::test]
async fn put_without_time_to_live_takes_it_away() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    mortal(&keyspace, "k", 1000).await;
    write(&keyspace, "k", "stays").await;
    bench.clock.advance(5000);
    assert_eq!(text(&keyspace.get(key("k")).await.unwrap()), "stays");
}

#[tokio::test]
async fn delete_of_expired_entry_finds_none() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    mortal(&keyspace, "k", 1000).await;
    bench.clock.advance(1000);
    assert!(!keyspace.delete(key("k")).await.unwrap());
}

#[tokio::test]
async fn expired_entries_are_swept_and_reported() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    let mut watch = keyspace
        .watch(Selector::prefix("m").unwrap(), None)
        .unwrap();
    for number in 0..1300 {
        mortal(&keyspace, &format!("m{number:04}"), 1000).await;
    }
    bench.clock.advance(1000);
    let mut puts = 0;
    let mut expired = 0;
    // Each commit is followed by one sweep.
    write(&keyspace, "z", "").await;
    while expired < 1300 {
        write(&keyspace, "z", "").await;
        match watch.next().await.unwrap() {
            Watched::Changes { changes, .. } => {
                for change in changes {
                    match change.kind {
                        ChangeKind::Put => puts += 1,
                        ChangeKind::Expired => expired += 1,
                        ChangeKind::Deleted => panic!("{change:?}"),
                    }
                }
            }
            Watched::Lagged { .. } => panic!("lagged"),
        }
    }
    assert_eq!(puts, 1300);
    assert_eq!(bench.store.stats().swept, 1300);
    assert_eq!(keyspace.usage().entries, 1);
    assert_eq!(keyspace.usage().bytes, Limits::entry_bytes(1, 0));
}

#[tokio::test]
async fn storage_of_expired_entries_makes_room_when_needed() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::standing(START_MS);
    let store = SqliteStore::open(SqliteOptions {
        sweep_every: Duration::from_secs(3600),
        ..options(&folder, &clock)
    })
    .unwrap();
    let bench = Bench {
        folder,
        clock,
        store,
    };
    let limits = Limits {
        storage_bytes: 1000,
        ..Limits::default()
    };
    let keyspace = bench.limited("site", limits).await;
    // A first expiry has the only sweep of this hour.
    mortal(&keyspace, "first", 1).await;
    bench.clock.advance(1);
    write(&keyspace, "k", "").await;
    for round in 0..5 {
        let ttl = Some(Duration::from_secs(1));
        let value = Value::text(&"x".repeat(800));
        let name = key(&format!("m{round}"));
        keyspace.put(name, value, ttl).await.unwrap();
        bench.clock.advance(1000);
    }
    assert!(keyspace.usage().bytes <= 1000);
}

#[tokio::test]
async fn longest_time_to_live_does_not_overflow() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    keyspace
        .put(key("k"), Value::text("x"), Some(Duration::MAX))
        .await
        .unwrap();
    keyspace
        .put(key("z"), Value::text("x"), Some(Duration::ZERO))
        .await
        .unwrap();
    assert!(keyspace.get(key("k")).await.unwrap().is_some());
    assert!(keyspace.get(key("z")).await.unwrap().is_some());
    bench.clock.advance(1);
    assert!(keyspace.get(key("z")).await.unwrap().is_none());
}

#[tokio::test]
async fn expiry_is_kept_over_a_restart() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    mortal(&keyspace, "k", 1000).await;
    drop(keyspace);
    let bench = bench.again().await;
    let keyspace = bench.keyspace("site").await;
    assert!(keyspace.get(key("k")).await.unwrap().is_some());
    bench.clock.advance(1000);
    assert!(keyspace.get(key("k")).await.unwrap().is_none());
}
