//! A disk without room.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use stockade_auth::{KeyFields, Pepper, Status, Store, StoreError};

/// A small file system in memory.
struct Small(PathBuf);

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn full_disk_refuses_changes_and_keeps_what_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
        .arg(folder.path())
        .output();
    if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
        return println!("skipped: a tmpfs cannot be mounted here: {mounted:?}");
    }
    let _small = Small(folder.path().to_owned());
    let path = folder.path().join("keys.db");
    let mut store = Store::open(&path, Pepper::new(&[7; 32]).unwrap()).unwrap();
    let filler = folder.path().join("filler");
    fs::write(&filler, vec![0; 1 << 20]).unwrap();
    let mut fields = KeyFields {
        name: "a".to_owned(),
        ..KeyFields::default()
    };
    fields
        .metadata
        .insert("a".to_owned(), "x".repeat(4000).into());
    let now = SystemTime::now();
    let mut made = Vec::new();
    let error = loop {
        match store.create(&fields, now) {
            Ok(key) => made.push(key),
            Err(error) => break error,
        }
        assert!(made.len() < 10_000);
    };
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("no room is left on the disk"));
    assert!(made.len() > 10);
    let check = |store: &Store| {
        assert_eq!(store.list(None).unwrap().len(), made.len());
        for key in &made {
            let known = store.verify(&key.key, now).unwrap().unwrap();
            assert_eq!(known.status, Status::Active);
        }
    };
    check(&store);
    drop(store);
    check(&Store::open(&path, Pepper::new(&[7; 32]).unwrap()).unwrap());
    // Once there is room, the store takes changes again.
    fs::remove_file(&filler).unwrap();
    let mut store = Store::open(&path, Pepper::new(&[7; 32]).unwrap()).unwrap();
    store.revoke(made[0].record.id, now).unwrap();
    store.create(&fields, now).unwrap();
}
