//! What single operations do.

use futures_util::FutureExt;
use tokio::task::unconstrained;

use super::*;
use crate::{Kind, List, MAX_OPERATIONS, Page};

#[tokio::test]
async fn get_of_written_entry_gives_value_kind_and_version() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    assert_eq!(keyspace.get(key("k")).await.unwrap(), None);
    for kind in [Kind::Text, Kind::Json, Kind::Bytes] {
        let value = Value {
            kind,
            data: vec![b'1'; 5000],
        };
        let version = keyspace.put(key("k"), value.clone(), None).await.unwrap();
        let entry = keyspace.get(key("k")).await.unwrap().unwrap();
        assert_eq!((entry.value, entry.version), (value, version));
        assert_eq!(entry.expires_ms, None);
    }
}

#[tokio::test]
async fn empty_value_is_a_value() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    write(&keyspace, "k", "").await;
    assert_eq!(text(&keyspace.get(key("k")).await.unwrap()), "");
}

#[tokio::test]
async fn versions_grow_also_over_deletion() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    let first = write(&keyspace, "k", "a").await;
    assert!(keyspace.delete(key("k")).await.unwrap());
    assert!(!keyspace.delete(key("k")).await.unwrap());
    let second = write(&keyspace, "k", "b").await;
    assert!(second > first);
    let stale = keyspace
        .compare_and_put(key("k"), Some(first), Value::text("c"), None)
        .await
        .unwrap();
    assert_eq!(stale, None);
}

#[tokio::test]
async fn put_if_absent_is_done_once() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    let once = keyspace.compare_and_put(key("k"), None, Value::text("a"), None);
    assert!(once.await.unwrap().is_some());
    let twice = keyspace.compare_and_put(key("k"), None, Value::text("b"), None);
    assert_eq!(twice.await.unwrap(), None);
    assert_eq!(text(&keyspace.get(key("k")).await.unwrap()), "a");
}

#[tokio::test]
async fn commit_with_failed_check_changes_nothing() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    let version = write(&keyspace, "a", "1").await;
    let outcome = commit(
        &keyspace,
        &[("a", Some(version)), ("b", Some(7))],
        vec![put("a", "2"), put("b", "2"), delete("c")],
    )
    .await
    .unwrap();
    assert_eq!(
        outcome,
        Outcome::Conflict {
            check: 1,
            found: None
        }
    );
    assert_eq!(text(&keyspace.get(key("a")).await.unwrap()), "1");
    assert_eq!(keyspace.usage().version, version);
}

#[tokio::test]
async fn commit_gives_all_entries_one_version() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    write(&keyspace, "gone", "1").await;
    let outcome = commit(
        &keyspace,
        &[("a", None)],
        vec![put("a", "1"), put("b", "1"), delete("gone"), delete("none")],
    )
    .await
    .unwrap();
    let Outcome::Committed { version, existed } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(existed, [false, false, true, false]);
    let entries = keyspace
        .read(vec![key("a"), key("b"), key("gone")])
        .await
        .unwrap();
    assert_eq!(entries[0].as_ref().unwrap().version, version);
    assert_eq!(entries[1].as_ref().unwrap().version, version);
    assert_eq!(entries[2], None);
}

#[tokio::test]
async fn commit_that_changes_a_key_twice_keeps_the_last() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    let mutations = vec![put("a", "1"), put("b", "1"), put("a", "2"), delete("b")];
    commit(&keyspace, &[], mutations).await.unwrap();
    assert_eq!(text(&keyspace.get(key("a")).await.unwrap()), "2");
    assert_eq!(keyspace.get(key("b")).await.unwrap(), None);
    assert_eq!(keyspace.usage().entries, 1);
    assert_eq!(keyspace.usage().bytes, Limits::entry_bytes(1, 1));
}

#[tokio::test]
async fn commit_that_changes_nothing_makes_no_version() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    let version = write(&keyspace, "a", "1").await;
    let outcome = commit(&keyspace, &[("a", Some(version))], vec![delete("none")]).await;
    let expected = Outcome::Committed {
        version,
        existed: vec![false],
    };
    assert_eq!(outcome.unwrap(), expected);
}

#[tokio::test]
async fn commit_above_its_bounds_is_refused() {
    let bench = Bench::new();
    let keyspace = bench
        .limited(
            "site",
            Limits {
                value_bytes: 1000,
                commit_bytes: 4000,
                ..Limits::default()
            },
        )
        .await;
    let long = "x".repeat(1001);
    let error = commit(&keyspace, &[], vec![put("a", &long)]).await;
    assert_eq!(
        error.unwrap_err(),
        StateError::ValueTooLarge {
            key: key("a"),
            bytes: 1001,
            limit: 1000
        }
    );
    let many = (0..5)
        .map(|number| put(&format!("k{number}"), &long[..1000]))
        .collect();
    let error = commit(&keyspace, &[], many).await.unwrap_err();
    assert!(matches!(
        error,
        StateError::CommitTooLarge {
            bytes: 5010,
            limit: 4000
        }
    ));
    let many = (0..=MAX_OPERATIONS).map(|_| delete("k")).collect();
    let error = commit(&keyspace, &[], many).await.unwrap_err();
    assert_eq!(
        error,
        StateError::TooManyOperations {
            operations: MAX_OPERATIONS + 1
        }
    );
    let error = keyspace.read(vec![key("k"); 129]).await.unwrap_err();
    assert_eq!(error, StateError::TooManyKeys { keys: 129 });
}

#[tokio::test]
async fn read_of_too_many_bytes_is_refused() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    let value = Value::bytes(vec![0; 1 << 20]);
    keyspace.put(key("k"), value, None).await.unwrap();
    assert!(keyspace.read(vec![key("k"); 8]).await.is_ok());
    let error = keyspace.read(vec![key("k"); 9]).await.unwrap_err();
    assert!(matches!(error, StateError::ReadTooLarge { .. }));
}

#[tokio::test]
async fn storage_above_the_limit_is_refused_with_its_numbers() {
    let bench = Bench::new();
    let limits = Limits {
        storage_bytes: 1000,
        ..Limits::default()
    };
    let keyspace = bench.limited("site", limits).await;
    write(&keyspace, "a", &"x".repeat(600)).await;
    let error = keyspace
        .put(key("b"), Value::text(&"x".repeat(300)), None)
        .await
        .unwrap_err();
    assert_eq!(
        error,
        StateError::QuotaExceeded {
            used: 665,
            needed: 365,
            limit: 1000
        }
    );
    // What replaces or frees is done.
    write(&keyspace, "a", &"x".repeat(500)).await;
    write(&keyspace, "b", &"x".repeat(300)).await;
    assert!(keyspace.delete(key("a")).await.unwrap());
    assert_eq!(keyspace.usage().bytes, 365);
}

#[tokio::test]
async fn storage_above_a_lowered_limit_may_shrink() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    write(&keyspace, "a", &"x".repeat(600)).await;
    let limits = Limits {
        storage_bytes: 100,
        ..Limits::default()
    };
    let again = bench.limited("site", limits).await;
    write(&again, "a", &"x".repeat(599)).await;
    let error = keyspace.put(key("b"), Value::text(""), None).await;
    assert!(matches!(error, Err(StateError::QuotaExceeded { .. })));
}

#[tokio::test]
async fn keyspaces_do_not_see_each_other() {
    let bench = Bench::new();
    let one = bench.keyspace("one").await;
    let other = bench.keyspace("other").await;
    write(&one, "k", "1").await;
    assert_eq!(other.get(key("k")).await.unwrap(), None);
    assert!(!other.delete(key("k")).await.unwrap());
    assert!(other.list(List::default()).await.unwrap().keys.is_empty());
    assert_eq!(other.usage().entries, 0);
}

#[tokio::test]
async fn hostile_keys_are_only_keys() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    let long = "é".repeat(crate::MAX_KEY_BYTES / 2);
    let mut keys = vec![
        "\0",
        "\0\0",
        "'; DROP TABLE entries; --",
        "%",
        "_",
        "..",
        "a/b",
        "\u{10ffff}",
        "\u{feff}k",
        "🦀",
        &long,
    ];
    for text in &keys {
        write(&keyspace, text, text).await;
    }
    for name in &keys {
        assert_eq!(text(&keyspace.get(key(name)).await.unwrap()), *name);
    }
    keys.sort_unstable();
    assert_eq!(names(&keyspace.list(List::default()).await.unwrap()), keys);
}

fn names(page: &Page) -> Vec<&str> {
    page.keys.iter().map(|info| info.key.as_str()).collect()
}

#[tokio::test]
async fn list_gives_ranges_in_both_directions() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    for name in ["a", "u/1", "u/2", "u/20", "u/3", "u0", "v"] {
        write(&keyspace, name, "xyz").await;
    }
    let prefix = List {
        prefix: "u/".into(),
        ..List::default()
    };
    let page = keyspace.list(prefix.clone()).await.unwrap();
    assert_eq!(names(&page), ["u/1", "u/2", "u/20", "u/3"]);
    assert_eq!(page.keys[0].size, 3);
    assert_eq!(page.cursor, None);
    assert_eq!(page.version, keyspace.usage().version);
    let narrow = List {
        start: Some("u/2".into()),
        end: Some("u/3".into()),
        reverse: true,
        ..prefix.clone()
    };
    assert_eq!(
        names(&keyspace.list(narrow).await.unwrap()),
        ["u/20", "u/2"]
    );
    let empty = List {
        start: Some("z".into()),
        end: Some("a".into()),
        ..List::default()
    };
    assert!(keyspace.list(empty).await.unwrap().keys.is_empty());
}

#[tokio::test]
async fn list_in_pages_gives_each_key_once() {
    let bench = Bench::new();
    let keyspace = bench.keyspace("site").await;
    for number in 0..25 {
        write(&keyspace, &format!("k{number:02}"), "").await;
    }
    for reverse in [false, true] {
        let mut seen = Vec::new();
        let mut list = List {
            limit: 10,
            reverse,
            ..List::default()
        };
        loop {
            let page = keyspace.list(list.clone()).await.unwrap();
            seen.extend(page.keys.into_iter().map(|info| info.key));
            list.cursor = page.cursor;
            if list.cursor.is_none() {
                break;
            }
        }
        let mut expected: Vec<String> = (0..25).map(|number| format!("k{number:02}")).collect();
        if reverse {
            expected.reverse();
        }
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn answers_that_nobody_takes_are_bounded_and_hold_up_no_other_keyspace() {
    let bench = Bench::new();
    let greedy = bench.keyspace("greedy").await;
    let value = Value::text(&"v".repeat(Limits::default().value_bytes));
    greedy.put(key("k"), value, None).await.unwrap();
    let ask = || greedy.read(vec![key("k")]).fuse();
    let (mut reads, last): (Vec<_>, _) = ((0..500).map(|_| ask()).collect(), ask());
    // Each future is polled once, so that all reads are asked for.
    for read in &mut reads {
        drop(unconstrained(read).now_or_never());
    }
    let other = bench.keyspace("other").await;
    write(&other, "k", "1").await;
    assert_eq!(text(&other.get(key("k")).await.unwrap()), "1");
    while bench.store.stats().pending_reads > 0 {
        tokio::task::yield_now().await;
    }
    let mut answered = 0;
    for read in &mut reads {
        answered += usize::from(unconstrained(read).now_or_never().is_some());
    }
    assert!(answered <= 64, "{answered} answers of 1 MiB waited");
    drop(reads);
    // The first ones have given their room back.
    assert!(last.await.unwrap().first().is_some_and(Option::is_some));
}
