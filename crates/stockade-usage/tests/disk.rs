//! A disk without room.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use stockade_usage::{Counts, Ledger, LedgerOptions, Query, Store};

/// A small file system in memory.
struct Small(PathBuf);

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn full_disk_keeps_counts_in_memory_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(folder.path())
        .output();
    if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
        return println!("skipped: a tmpfs cannot be mounted here: {mounted:?}");
    }
    let _small = Small(folder.path().to_owned());
    let path = folder.path().join("usage.db");
    let ledger = Ledger::open(LedgerOptions {
        path: path.clone(),
        interval: Duration::from_secs(3600),
        keep_days: None,
        keys: 100_000,
        key_totals: false,
    })
    .unwrap();
    let shop: Arc<str> = "shop".into();
    let one = Counts {
        requests: 1,
        ..Counts::default()
    };
    let count = |from: u64, to: u64| (from..to).for_each(|key| ledger.add(&shop, Some(key), &one));
    let read = || {
        let rows = Store::open_to_read(&path).unwrap().rows(&Query::default());
        rows.unwrap()
            .iter()
            .map(|row| row.counts.requests)
            .sum::<u64>()
    };
    count(0, 100);
    ledger.flush().unwrap();
    let filler = folder.path().join("filler");
    let mut filling = fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut filling, &[0; 4096]).is_ok() {}

    // Counting goes on, and the reason is stated.
    count(100, 20_000);
    let why = ledger.flush().unwrap_err();
    assert!(why.contains("no room is left on the disk"), "{why}");
    let status = ledger.status();
    assert_eq!((status.batches, status.waiting), (1, 19_900));
    assert!(status.failing.is_some());
    count(0, 100);
    ledger.flush().unwrap_err();
    assert_eq!(read(), 100);

    // Once there is room, each count is written, once.
    fs::remove_file(&filler).unwrap();
    drop(filling);
    count(0, 1);
    let why = ledger.flush();
    // 20,000 rows of keys need more than two megabytes: most of them still have none.
    if why.is_err() {
        let remount = Command::new("mount")
            .args(["-o", "remount,size=64m"])
            .arg(folder.path())
            .status();
        assert!(remount.unwrap().success());
        ledger.flush().unwrap();
    }
    assert_eq!(read(), 20_000 + 100 + 1);
    assert_eq!(ledger.status().failing, None);
    drop(ledger);
    assert_eq!(read(), 20_101);
}
