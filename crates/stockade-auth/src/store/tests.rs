use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::scope::Scope;
use std::time::SystemTime;

fn open(folder: &Path) -> Store {
    Store::open(&folder.join("keys.db"), Pepper::new(&[7; 32]).unwrap()).unwrap()
}

fn fields(name: &str, scopes: &[&str]) -> KeyFields {
    KeyFields {
        name: name.to_owned(),
        owner: "me".to_owned(),
        scopes: scopes
            .iter()
            .map(|text| Scope::parse(text).unwrap())
            .collect(),
        ..KeyFields::default()
    }
}

#[test]
fn key_is_found_by_its_text_and_its_id_and_its_text_is_not_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let now = SystemTime::now();
    let made = store
        .create(&fields("first", &["write", "read"]), now)
        .unwrap();
    assert_eq!(made.record.scopes, ["read", "write"]);
    assert_eq!(store.show(made.record.id).unwrap(), made.record);
    assert_eq!(
        KeyId::parse(&made.record.id.to_string()),
        Some(made.record.id)
    );
    let verified = store.verify(&made.key, now).unwrap().unwrap();
    assert_eq!(
        (verified.record, verified.status),
        (made.record.clone(), Status::Active)
    );
    assert!(
        store
            .verify(&ApiKey::generate().unwrap(), now)
            .unwrap()
            .is_none()
    );
    assert_eq!(store.list(Some("me")).unwrap(), [made.record]);
    assert_eq!(store.list(Some("other")).unwrap(), []);
    // The text of the key, without its beginning, is nowhere; files are for this user only.
    let secret = &made.key.reveal().as_bytes()[20..];
    for file in fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}

#[test]
fn revocation_is_final() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let now = SystemTime::now();
    let made = store.create(&fields("a", &[]), now).unwrap();
    let id = made.record.id;
    let revoked = store.revoke(id, now).unwrap();
    let later = now + Duration::from_secs(60);
    assert_eq!(store.revoke(id, later).unwrap(), revoked);
    assert_eq!(
        store.verify(&made.key, now).unwrap().unwrap().status,
        Status::Revoked
    );
    assert!(matches!(
        store.rotate(id, Duration::ZERO, now),
        Err(StoreError::Revoked(_))
    ));
    let unknown = KeyId(1);
    assert!(matches!(
        store.revoke(unknown, now),
        Err(StoreError::NoKey(_))
    ));
    assert!(matches!(
        store.rotate(unknown, Duration::ZERO, now),
        Err(StoreError::NoKey(_))
    ));
    assert!(matches!(store.show(unknown), Err(StoreError::NoKey(_))));
    // What was refused left no change behind.
    assert_eq!(store.last_change().unwrap(), 3);
}

#[test]
fn expired_and_rotated_texts_are_known_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let now = SystemTime::now();
    let at = |seconds| now + Duration::from_secs(seconds);
    let mut limited = fields("a", &[]);
    limited.expires = Some(seconds(now) + 100);
    let made = store.create(&limited, now).unwrap();
    let status = |store: &Store, key, at| store.verify(key, at).unwrap().unwrap().status;
    assert_eq!(status(&store, &made.key, at(99)), Status::Active);
    assert_eq!(status(&store, &made.key, at(100)), Status::Expired);
    let next = store
        .rotate(made.record.id, Duration::from_secs(10), now)
        .unwrap();
    assert_eq!(status(&store, &made.key, at(9)), Status::Active);
    assert_eq!(status(&store, &made.key, at(10)), Status::Expired);
    assert_eq!(status(&store, &next.key, at(10)), Status::Active);
    for _ in 0..6 {
        store
            .rotate(made.record.id, Duration::from_secs(10), now)
            .unwrap();
    }
    let full = store.rotate(made.record.id, Duration::from_secs(10), now);
    assert!(
        matches!(full, Err(StoreError::TooManySecrets { .. })),
        "{full:?}"
    );
    store.rotate(made.record.id, Duration::ZERO, now).unwrap();
}

#[test]
fn fields_that_cannot_be_kept_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let now = SystemTime::now();
    for name in ["", "a\nb", &"x".repeat(129)] {
        let refused = store.create(&fields(name, &[]), now);
        assert!(matches!(refused, Err(StoreError::Text { .. })), "{name}");
    }
    let mut large = fields("a", &[]);
    large
        .metadata
        .insert("a".to_owned(), "x".repeat(5000).into());
    assert!(matches!(
        store.create(&large, now),
        Err(StoreError::Metadata(_))
    ));
    for expires in [0, seconds(now), u64::MAX] {
        let mut over = fields("a", &[]);
        over.expires = Some(expires);
        assert!(matches!(
            store.create(&over, now),
            Err(StoreError::Expiry(_))
        ));
    }
    assert_eq!(store.list(None).unwrap(), []);
}

#[test]
fn store_of_another_pepper_or_kind_is_refused_and_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let path = folder.path().join("keys.db");
    let other = Store::open(&path, Pepper::new(&[8; 32]).unwrap());
    assert!(matches!(other, Err(StoreError::OtherPepper { .. })));
    let text = folder.path().join("text");
    fs::write(
        &text,
        "this is a text, and longer than a header of a database: ".repeat(20),
    )
    .unwrap();
    let before = fs::read(&text).unwrap();
    let refused = Store::open(&text, Pepper::new(&[7; 32]).unwrap());
    assert!(matches!(refused, Err(StoreError::NotAStore { .. })));
    assert_eq!(fs::read(&text).unwrap(), before);
    let database = folder.path().join("database");
    let connection = Connection::open(&database).unwrap();
    connection.execute_batch("CREATE TABLE t (a)").unwrap();
    let refused = Store::open(&database, Pepper::new(&[7; 32]).unwrap());
    assert!(matches!(refused, Err(StoreError::NotAStore { .. })));
}

#[test]
fn export_is_imported_whole_or_not_at_all() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut from, mut to) = (open(one.path()), open(two.path()));
    let now = SystemTime::now();
    let a = from.create(&fields("a", &["read"]), now).unwrap();
    let b = from.create(&fields("b", &["shop/write"]), now).unwrap();
    from.revoke(b.record.id, now).unwrap();
    let text = serde_json::to_string(&from.export().unwrap()).unwrap();
    assert!(!text.contains(&a.key.reveal()[20..]));
    let export: Export = serde_json::from_str(&text).unwrap();
    let report = to.import(&export, false).unwrap();
    assert_eq!(
        report,
        ImportReport {
            added: 2,
            replaced: 0
        }
    );
    let status = |store: &Store, key| store.verify(key, now).unwrap().unwrap().status;
    assert_eq!(status(&to, &a.key), Status::Active);
    assert_eq!(status(&to, &b.key), Status::Revoked);
    assert_eq!(to.list(None).unwrap(), from.list(None).unwrap());
    // Again: nothing is added twice, and without `replace` nothing is changed.
    assert!(matches!(
        to.import(&export, false),
        Err(StoreError::Import(_))
    ));
    from.rotate(a.record.id, Duration::ZERO, now).unwrap();
    let rotated = from.export().unwrap();
    assert_eq!(to.import(&rotated, true).unwrap().replaced, 2);
    assert_eq!(status(&to, &a.key), Status::Expired);
    // An export that is older than a revocation does not undo it.
    to.revoke(a.record.id, now).unwrap();
    to.import(&export, true).unwrap();
    assert_eq!(status(&to, &a.key), Status::Revoked);
    // A fault in the last key: none of them is taken.
    let mut broken = from.export().unwrap();
    broken
        .keys
        .insert(0, from.create(&fields("c", &[]), now).unwrap().record);
    assert!(matches!(
        to.import(&broken, true),
        Err(StoreError::Import(_))
    ));
    let mut other = from.export().unwrap();
    other.pepper = "0".repeat(64);
    assert!(matches!(
        to.import(&other, true),
        Err(StoreError::Import(_))
    ));
    assert_eq!(to.list(None).unwrap().len(), 2);
}

#[test]
fn store_of_the_first_layout_is_brought_to_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let made = open(folder.path())
        .create(&fields("old", &["read"]), SystemTime::now())
        .unwrap();
    let raw = Connection::open(folder.path().join("keys.db")).unwrap();
    raw.execute_batch(
        "ALTER TABLE keys DROP COLUMN limits; ALTER TABLE changes DROP COLUMN action;
         ALTER TABLE changes DROP COLUMN at; DROP TABLE reported; PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(raw);
    let mut store = open(folder.path());
    assert_eq!(store.show(made.record.id).unwrap(), made.record);
    let limited = KeyFields {
        limits: KeyLimits::parse(Some("10/s"), None, Some("7/day")).unwrap(),
        ..fields("new", &["read"])
    };
    let limited = store.create(&limited, SystemTime::now()).unwrap().record;
    let record = store.show(limited.id).unwrap();
    assert_eq!(
        record.limits,
        KeyLimits::parse(Some("10/s"), None, Some("7/day")).unwrap()
    );
    // Limits are carried with the key.
    let other = tempfile::tempdir().unwrap();
    let mut other = open(other.path());
    other.import(&store.export().unwrap(), false).unwrap();
    assert_eq!(other.show(limited.id).unwrap().limits, record.limits);
}
