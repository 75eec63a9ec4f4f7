use super::*;
use crate::scope::Scope;
use crate::store::KeyFields;

fn open(folder: &Path) -> (Store, Keys) {
    let pepper = Pepper::new(&[7; 32]).unwrap();
    let path = folder.join("keys.db");
    let store = Store::open(&path, pepper.clone()).unwrap();
    (store, Keys::open(&path, pepper).unwrap())
}

fn fields(name: &str) -> KeyFields {
    KeyFields {
        name: name.to_owned(),
        scopes: vec![Scope::parse("read").unwrap()],
        ..KeyFields::default()
    }
}

#[tokio::test]
async fn change_of_another_process_is_in_effect_when_refresh_returns() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, keys) = open(folder.path());
    let now = SystemTime::now();
    let made = store.create(&fields("a"), now).unwrap();
    let text = made.key.reveal().as_bytes();
    assert_eq!(keys.refresh().await, Ok(1));
    let granted = Arc::new(keys.check(text, now).unwrap());
    assert_eq!((granted.id, granted.name()), (made.record.id, "a"));
    let waiting = keys.until_invalid(&granted);
    store.revoke(made.record.id, now).unwrap();
    assert_eq!(keys.refresh().await, Ok(0));
    assert_eq!(keys.check(text, now).unwrap_err(), CheckError::Invalid);
    assert!(!keys.is_valid(&granted, now));
    waiting.await;
}

#[tokio::test]
async fn key_that_a_connection_shows_again_is_refused_as_soon_as_it_is_revoked_or_expires() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, keys) = open(folder.path());
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    let lasting = KeyFields {
        expires: Some(seconds(now + hour)),
        ..fields("a")
    };
    let made = store.create(&lasting, now).unwrap();
    let other = store.create(&fields("b"), now).unwrap();
    keys.refresh().await.unwrap();
    let last = LastKey::default();
    let check = |keys: &Keys, key: &ApiKey, at| {
        let granted = keys.check_again(key.reveal().as_bytes(), at, &last);
        granted.ok()
    };
    let first = check(&keys, &made.key, now).unwrap();
    let again = check(&keys, &made.key, now).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    // Another text, and the same text at another store, are looked up.
    assert_eq!(check(&keys, &other.key, now).unwrap().id, other.record.id);
    let (_, elsewhere) = open(tempfile::tempdir().unwrap().path());
    assert!(check(&keys, &made.key, now).is_some());
    assert!(check(&elsewhere, &made.key, now).is_none());
    assert!(check(&keys, &made.key, now).is_some());
    assert!(check(&keys, &made.key, now + hour).is_none());
    assert!(check(&keys, &made.key, now).is_some());
    store.revoke(made.record.id, now).unwrap();
    keys.refresh().await.unwrap();
    assert!(check(&keys, &made.key, now).is_none());
    assert!(!keys.is_valid(&first, now));
}

#[tokio::test]
async fn key_that_is_revoked_ends_those_that_wait_and_do_not_keep_the_store_open() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, keys) = open(folder.path());
    let now = SystemTime::now();
    let made = store.create(&fields("a"), now).unwrap();
    let other = store.create(&fields("b"), now).unwrap();
    keys.refresh().await.unwrap();
    let granted = |key: &ApiKey| Arc::new(keys.check(key.reveal().as_bytes(), now).unwrap());
    let ended = keys.until_invalid_while_open(&granted(&made.key));
    let lasting = keys.until_invalid_while_open(&granted(&other.key));
    store.revoke(made.record.id, now).unwrap();
    keys.refresh().await.unwrap();
    ended.await;
    let shared = Arc::downgrade(&keys.shared);
    drop(keys);
    assert!(shared.upgrade().is_none());
    let mut lasting = std::pin::pin!(lasting);
    for _ in 0..2 {
        let ended = tokio::time::timeout(Duration::ZERO, lasting.as_mut()).await;
        assert!(ended.is_err());
    }
}

#[tokio::test]
async fn connection_keeps_a_fingerprint_of_its_key_that_only_the_key_has() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, keys) = open(folder.path());
    let now = SystemTime::now();
    let made = store.create(&fields("a"), now).unwrap();
    keys.refresh().await.unwrap();
    let text = made.key.reveal().as_bytes();
    let fingerprint = keys.shared.fingerprint(text);
    assert!(keys.shared.is_of(text, &fingerprint));
    let mut near = text.to_vec();
    near[10] ^= 1;
    let longer = [text, b"x"].concat();
    for wrong in [&near, &longer[..], &fingerprint.hash, &text[1..], b""] {
        assert!(!keys.shared.is_of(wrong, &fingerprint));
    }
    // Another process has other fingerprints.
    let (_, other) = open(folder.path());
    assert!(!other.shared.is_of(text, &fingerprint));
    // A wrong key in between makes a connection forget the right one.
    let last = LastKey::default();
    let first = keys.check_again(text, now, &last).unwrap();
    assert!(keys.check_again(&near, now, &last).is_err());
    let again = keys.check_again(text, now, &last).unwrap();
    assert!(!Arc::ptr_eq(&first, &again));
    assert!(Arc::ptr_eq(
        &keys.check_again(text, now, &last).unwrap(),
        &again
    ));
}

#[tokio::test]
async fn use_of_a_key_that_a_connection_shows_again_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, keys) = open(folder.path());
    let now = SystemTime::now();
    let made = store.create(&fields("a"), now).unwrap();
    keys.refresh().await.unwrap();
    let last = LastKey::default();
    for _ in 0..3 {
        let text = made.key.reveal().as_bytes();
        keys.check_again(text, now, &last).unwrap();
        assert_eq!(keys.shared.used.lock().len(), 1);
        write_uses(&keys.shared, &mut store);
        assert_eq!(keys.shared.used.lock().len(), 0);
    }
}

#[tokio::test]
async fn change_is_seen_without_being_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, keys) = open(folder.path());
    let now = SystemTime::now();
    let made = store.create(&fields("a"), now).unwrap();
    keys.refresh().await.unwrap();
    let granted = Arc::new(keys.check(made.key.reveal().as_bytes(), now).unwrap());
    let waiting = tokio::spawn(keys.until_invalid(&granted));
    store.revoke(made.record.id, now).unwrap();
    waiting.await.unwrap();
}

#[tokio::test]
async fn revocation_is_seen_where_only_what_waits_for_it_has_the_keys() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, keys) = open(folder.path());
    let now = SystemTime::now();
    let made = store.create(&fields("a"), now).unwrap();
    keys.refresh().await.unwrap();
    let granted = Arc::new(keys.check(made.key.reveal().as_bytes(), now).unwrap());
    let waiting = tokio::spawn(keys.until_invalid(&granted));
    drop(keys);
    store.revoke(made.record.id, now).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    ended.unwrap().unwrap();
}

#[tokio::test]
async fn rotated_key_is_valid_until_the_overlap_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, keys) = open(folder.path());
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    let old = store.create(&fields("a"), now).unwrap();
    let new = store.rotate(old.record.id, hour, now).unwrap();
    keys.refresh().await.unwrap();
    let check = |key: &ApiKey, at| keys.check(key.reveal().as_bytes(), at).is_ok();
    assert!(check(&old.key, now) && check(&new.key, now));
    assert!(!check(&old.key, now + hour) && check(&new.key, now + hour));
    let last = store.rotate(old.record.id, Duration::ZERO, now).unwrap();
    keys.refresh().await.unwrap();
    assert!(!check(&old.key, now) && !check(&new.key, now) && check(&last.key, now));
}

#[tokio::test]
async fn what_a_text_has_opened_before_it_was_rotated_ends_with_the_overlap() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, keys) = open(folder.path());
    let now = SystemTime::now();
    let old = store.create(&fields("a"), now).unwrap();
    keys.refresh().await.unwrap();
    // Found while the text had no end.
    let granted = Arc::new(keys.check(old.key.reveal().as_bytes(), now).unwrap());
    let waiting = [
        tokio::spawn(keys.until_invalid(&granted)),
        tokio::spawn(keys.until_invalid_while_open(&granted)),
    ];
    let overlap = Duration::from_secs(2);
    store.rotate(old.record.id, overlap, now).unwrap();
    keys.refresh().await.unwrap();
    assert!(keys.is_valid(&granted, now));
    for ended in waiting {
        let ended = tokio::time::timeout(Duration::from_secs(30), ended).await;
        ended.unwrap().unwrap();
    }
    assert!(SystemTime::now() >= now + overlap - Duration::from_secs(1));
}

#[tokio::test]
async fn each_action_is_reported_once_and_again_until_it_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let pepper = Pepper::new(&[7; 32]).unwrap();
    let path = folder.path().join("keys.db");
    let mut store = Store::open(&path, pepper.clone()).unwrap();
    let now = SystemTime::now();
    // While nothing follows the store.
    let made = store.create(&fields("a"), now).unwrap();
    let (sender, reports) = std::sync::mpsc::channel();
    let fails = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let broken = Arc::clone(&fails);
    let report = Box::new(move |action: &KeyAction| {
        if broken.load(std::sync::atomic::Ordering::Relaxed) {
            return Err("the disk is full".to_owned());
        }
        sender
            .send((action.id, action.action.clone()))
            .map_err(|error| error.to_string())
    });
    let keys = Keys::open_reporting(&path, pepper, report).unwrap();
    keys.refresh().await.unwrap();
    let id = made.record.id;
    assert_eq!(
        reports.try_iter().collect::<Vec<_>>(),
        [(id, "created".to_owned())]
    );
    fails.store(true, std::sync::atomic::Ordering::Relaxed);
    store.rotate(id, Duration::ZERO, now).unwrap();
    store.revoke(id, now).unwrap();
    let error = keys.refresh().await.unwrap_err();
    assert_eq!(error, "the disk is full");
    // It is in effect though it could not be reported.
    assert_eq!(keys.count(), 0);
    fails.store(false, std::sync::atomic::Ordering::Relaxed);
    keys.refresh().await.unwrap();
    let reported: Vec<_> = reports.try_iter().map(|(_, action)| action).collect();
    assert_eq!(reported, ["rotated", "revoked"]);
    keys.refresh().await.unwrap();
    assert_eq!(reports.try_iter().count(), 0);
}

#[tokio::test]
async fn clock_that_jumps_ends_keys_and_brings_them_back_as_it_is_set_right() {
    let folder = tempfile::tempdir().unwrap();
    let pepper = Pepper::new(&[7; 32]).unwrap();
    let path = folder.path().join("keys.db");
    let mut store = Store::open(&path, pepper.clone()).unwrap();
    let now = SystemTime::now();
    let (hour, year) = (Duration::from_secs(3600), Duration::from_secs(365 * 86_400));
    let lasting = KeyFields {
        expires: Some(seconds(now + hour)),
        ..fields("a")
    };
    let made = store.create(&lasting, now).unwrap();
    let old = store.rotate(made.record.id, hour, now).unwrap();
    // The server starts while the clock is a year ahead.
    let clock = Arc::new(AtomicU64::new(seconds(now + year)));
    let shown = Arc::clone(&clock);
    let read = Box::new(move || shown.load(Ordering::SeqCst));
    let keys = Keys::follow(&path, pepper, None, read).unwrap();
    let last = LastKey::default();
    let check = |key: &ApiKey, at| {
        let text = key.reveal().as_bytes();
        let found = keys.check_again(text, at, &last).is_ok();
        assert_eq!(keys.check(text, at).is_ok(), found);
        found
    };
    assert!(!check(&made.key, now + year) && !check(&old.key, now + year));
    // It is set right, and nobody has changed the file.
    clock.store(seconds(now), Ordering::SeqCst);
    keys.refresh().await.unwrap();
    for key in [&made.key, &old.key] {
        assert!(check(key, now));
        // Ahead and back again, and before the key was made.
        assert!(!check(key, now + hour) && check(key, now) && check(key, now - year));
    }
    // A key that is revoked stays revoked, whatever the clock shows.
    store.revoke(made.record.id, now).unwrap();
    clock.store(seconds(now - year), Ordering::SeqCst);
    keys.refresh().await.unwrap();
    assert!(!check(&made.key, now - year) && !check(&old.key, now));
}

#[tokio::test]
async fn last_use_is_written_once_and_not_for_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, keys) = open(folder.path());
    let now = SystemTime::now();
    let made = store.create(&fields("a"), now).unwrap();
    keys.refresh().await.unwrap();
    for _ in 0..100 {
        keys.check(made.key.reveal().as_bytes(), now).unwrap();
    }
    assert_eq!(keys.shared.used.lock().len(), 1);
    assert_eq!(store.show(made.record.id).unwrap().last_used, None);
    drop(keys);
    assert!(store.show(made.record.id).unwrap().last_used.is_some());
}

#[tokio::test]
async fn last_use_is_a_time_at_which_the_key_was_used_and_not_that_of_the_writing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, keys) = open(folder.path());
    let used = SystemTime::now() - Duration::from_secs(50);
    let made = store.create(&fields("a"), used).unwrap();
    keys.refresh().await.unwrap();
    keys.check(made.key.reveal().as_bytes(), used).unwrap();
    write_uses(&keys.shared, &mut store);
    let last_used = store.show(made.record.id).unwrap().last_used;
    assert_eq!(last_used, Some(seconds(used)));
}

#[tokio::test]
async fn server_that_is_far_behind_reads_everything() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, keys) = open(folder.path());
    let now = SystemTime::now();
    let first = store.create(&fields("a"), now).unwrap();
    keys.refresh().await.unwrap();
    store.revoke(first.record.id, now).unwrap();
    store.create(&fields("b"), now).unwrap();
    let raw = rusqlite::Connection::open(folder.path().join("keys.db")).unwrap();
    raw.execute("DELETE FROM changes WHERE number < 3", [])
        .unwrap();
    assert_eq!(keys.refresh().await, Ok(1));
    assert!(keys.check(first.key.reveal().as_bytes(), now).is_err());
}

#[test]
fn text_that_is_no_key_is_not_hashed() {
    let folder = tempfile::tempdir().unwrap();
    let (_, keys) = open(folder.path());
    for text in ["", "x", "sk_stockade_", &"x".repeat(100_000)] {
        let error = keys.check(text.as_bytes(), SystemTime::now()).unwrap_err();
        assert!(matches!(error, CheckError::Form(_)), "{error}");
    }
    let unknown = ApiKey::generate().unwrap();
    let error = keys.check(unknown.reveal().as_bytes(), SystemTime::now());
    assert_eq!(error.unwrap_err(), CheckError::Invalid);
}
