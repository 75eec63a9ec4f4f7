//! Granted folders, used and attacked. The folders are real ones.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use parking_lot::Mutex;
use stockade_broker::{
    Audit, Broker, BrokerOptions, ChangeKind, EntryKind, FileChange, FileChanges, FileError,
    Folder, FolderOptions, Mode, Reason, Refusal, WriteOptions,
};
use stockade_http::Body;

#[derive(Default)]
struct Recorded(Mutex<Vec<Refusal>>);

impl Audit for Recorded {
    fn refused(&self, refusal: &Refusal) {
        self.0.lock().push(refusal.clone());
    }
}

struct Grant {
    outer: tempfile::TempDir,
    broker: Broker,
    recorded: Arc<Recorded>,
}

impl Grant {
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir(outer.path().join("granted")).unwrap();
        fs::write(outer.path().join("outside"), "outside's secret").unwrap();
        let recorded = Arc::new(Recorded::default());
        let options = BrokerOptions {
            audit: recorded.clone(),
            ..BrokerOptions::default()
        };
        Self {
            outer,
            broker: Broker::new(options).unwrap(),
            recorded,
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.outer.path().join("granted")
    }

    fn open(&self, mode: Mode, change: impl FnOnce(&mut FolderOptions)) -> Arc<Folder> {
        let mut options = FolderOptions::new("FILES", self.path(), mode);
        change(&mut options);
        self.broker.folder("acme", options).unwrap()
    }

    fn reasons(&self) -> Vec<Reason> {
        self.recorded
            .0
            .lock()
            .drain(..)
            .map(|refusal| refusal.reason)
            .collect()
    }
}

fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

async fn read(folder: &Arc<Folder>, path: &str) -> Result<Bytes, FileError> {
    let (_, body) = folder.clone().read(path.to_owned(), None).await?;
    Ok(body.collect().await.unwrap().to_bytes())
}

async fn write(folder: &Arc<Folder>, path: &str, bytes: &[u8]) -> Result<(), FileError> {
    let body = body(bytes.to_vec());
    let written = folder
        .clone()
        .write(path.to_owned(), body, WriteOptions::default())
        .await;
    written.map(|_| ())
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn file_written_is_read_listed_and_deleted() {
    let grant = Grant::new();
    let folder = grant.open(Mode::Write, |_| ());
    folder.clone().make_folder("a/b".to_owned()).await.unwrap();
    write(&folder, "a/b/one", b"first").await.unwrap();
    write(&folder, "/a/b/one", b"second").await.unwrap();
    write(&folder, "a/b/two", &[7; 200_000]).await.unwrap();
    assert_eq!(read(&folder, "a/b/one").await.unwrap(), "second");
    assert_eq!(read(&folder, "a/b/two").await.unwrap().len(), 200_000);
    let ranged = folder
        .clone()
        .read("a/b/one".to_owned(), Some(2..4))
        .await
        .unwrap();
    assert_eq!(ranged.0.size, 6);
    assert_eq!(ranged.1.collect().await.unwrap().to_bytes(), "co");
    let beyond = folder
        .clone()
        .read("a/b/one".to_owned(), Some(4..u64::MAX))
        .await
        .unwrap();
    assert_eq!(beyond.1.collect().await.unwrap().to_bytes(), "nd");
    let listing = folder
        .clone()
        .list("a/b".to_owned(), None, 10)
        .await
        .unwrap();
    let listed: Vec<_> = listing
        .entries
        .iter()
        .map(|entry| (&*entry.name, entry.metadata.size))
        .collect();
    assert_eq!(listed, [("one", 6), ("two", 200_000)]);
    assert!(!listing.more);
    let stat = folder.clone().stat("a".to_owned()).await.unwrap();
    assert_eq!(stat.kind, EntryKind::Folder);
    assert!(folder.clone().delete("a/b/one".to_owned()).await.unwrap());
    assert!(!folder.clone().delete("a/b/one".to_owned()).await.unwrap());
    let full = folder.clone().delete("a/b".to_owned()).await.unwrap_err();
    assert!(full.to_string().contains("is not empty"), "{full}");
    assert!(folder.clone().delete("a/b/two".to_owned()).await.unwrap());
    assert!(folder.clone().delete("a/b".to_owned()).await.unwrap());
    assert!(matches!(
        read(&folder, "a/b").await,
        Err(FileError::NotFound { .. })
    ));
    assert_eq!(names(&grant.path()), ["a"]);
    assert_eq!(grant.reasons(), []);
}

#[tokio::test]
async fn listing_goes_on_after_a_name() {
    let grant = Grant::new();
    for n in 0..25 {
        fs::write(grant.path().join(format!("f{n:02}")), "").unwrap();
    }
    let expected = names(&grant.path());
    for n in 0..30 {
        symlink("nowhere", grant.path().join(format!("f05-{n:02}"))).unwrap();
    }
    let folder = grant.open(Mode::Read, |_| ());
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let listing = folder.clone().list(String::new(), after, 10).await.unwrap();
        seen.extend(listing.entries.iter().map(|entry| entry.name.clone()));
        after = seen.last().cloned();
        if !listing.more {
            break;
        }
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn folder_for_reading_refuses_every_change() {
    let grant = Grant::new();
    fs::write(grant.path().join("file"), "here").unwrap();
    let folder = grant.open(Mode::Read, |_| ());
    assert_eq!(read(&folder, "file").await.unwrap(), "here");
    assert!(write(&folder, "file", b"changed").await.is_err());
    assert!(folder.clone().delete("file".to_owned()).await.is_err());
    assert!(folder.clone().make_folder("new".to_owned()).await.is_err());
    assert_eq!(
        grant.reasons(),
        [Reason::ReadOnly, Reason::ReadOnly, Reason::ReadOnly]
    );
    assert_eq!(fs::read(grant.path().join("file")).unwrap(), b"here");
}

#[tokio::test]
async fn path_that_leads_out_is_refused() {
    let grant = Grant::new();
    let folder = grant.open(Mode::Write, |_| ());
    for path in [
        "../outside",
        "a/../../outside",
        "..",
        "/../outside",
        "./../outside",
        "a\0",
    ] {
        assert!(read(&folder, path).await.is_err(), "{path:?}");
        assert!(write(&folder, path, b"x").await.is_err(), "{path:?}");
        assert!(
            folder.clone().delete(path.to_owned()).await.is_err(),
            "{path:?}"
        );
    }
    let absolute = grant.outer.path().join("outside").display().to_string();
    assert!(
        read(&folder, &absolute).await.is_err(),
        "read as a path inside the folder"
    );
    let reasons = grant.reasons();
    assert!(
        reasons.iter().all(|reason| *reason == Reason::Path),
        "{reasons:?}"
    );
    assert_eq!(
        fs::read(grant.outer.path().join("outside")).unwrap(),
        b"outside's secret"
    );
}

#[tokio::test]
async fn link_inside_is_followed_and_link_out_is_refused() {
    let grant = Grant::new();
    fs::create_dir(grant.path().join("releases")).unwrap();
    fs::write(grant.path().join("releases/1"), "inside").unwrap();
    symlink("releases", grant.path().join("current")).unwrap();
    symlink("../outside", grant.path().join("out")).unwrap();
    symlink("/etc", grant.path().join("etc")).unwrap();
    symlink("/etc/passwd", grant.path().join("passwd")).unwrap();
    symlink("loop", grant.path().join("loop")).unwrap();
    // It leads back inside, by way of the root.
    let inside = grant.path().join("releases/1");
    symlink(&inside, grant.path().join("absolute")).unwrap();
    let folder = grant.open(Mode::Write, |_| ());
    assert_eq!(read(&folder, "current/1").await.unwrap(), "inside");
    for path in ["out", "etc/passwd", "passwd", "loop", "absolute"] {
        assert!(
            matches!(read(&folder, path).await, Err(FileError::Refused(_))),
            "{path}"
        );
        assert!(write(&folder, path, b"changed").await.is_err(), "{path}");
    }
    assert!(
        folder
            .clone()
            .list("etc".to_owned(), None, 10)
            .await
            .is_err()
    );
    assert!(
        folder
            .clone()
            .make_folder("etc/new".to_owned())
            .await
            .is_err()
    );
    assert!(folder.clone().delete("out".to_owned()).await.is_err());
    let listing = folder.clone().list(String::new(), None, 10).await.unwrap();
    let listed: Vec<_> = listing.entries.iter().map(|entry| &*entry.name).collect();
    assert_eq!(listed, ["current", "releases"]);
    assert_eq!(
        fs::read(grant.outer.path().join("outside")).unwrap(),
        b"outside's secret"
    );
    assert!(
        names(&grant.path())
            .iter()
            .all(|name| !name.starts_with(".stockade"))
    );
}

#[tokio::test]
async fn pipe_socket_and_device_are_refused_without_waiting() {
    let grant = Grant::new();
    let made = std::process::Command::new("mkfifo")
        .arg(grant.path().join("pipe"))
        .status();
    assert!(made.unwrap().success());
    let _socket = UnixListener::bind(grant.path().join("socket")).unwrap();
    let folder = grant.open(Mode::Write, |_| ());
    for path in ["pipe", "socket"] {
        let read = tokio::time::timeout(std::time::Duration::from_secs(5), read(&folder, path));
        assert!(
            matches!(read.await.unwrap(), Err(FileError::Refused(_))),
            "{path}"
        );
        assert!(
            matches!(write(&folder, path, b"x").await, Err(FileError::Refused(_))),
            "{path}"
        );
        assert!(
            folder.clone().delete(path.to_owned()).await.is_err(),
            "{path}"
        );
    }
    assert!(
        grant
            .reasons()
            .iter()
            .all(|reason| *reason == Reason::SpecialFile)
    );
    assert!(grant.path().join("pipe").exists());
}

#[tokio::test]
async fn write_beyond_the_storage_limit_leaves_nothing_behind() {
    let grant = Grant::new();
    fs::write(grant.path().join("old"), [0; 1000]).unwrap();
    let folder = grant.open(Mode::Write, |options| options.storage_limit = Some(5000));
    let before = folder.used();
    assert_eq!(before, 1512);
    assert!(write(&folder, "big", &[1; 4000]).await.is_err());
    assert_eq!(grant.reasons(), [Reason::Storage { limit: 5000 }]);
    assert_eq!(folder.used(), before);
    assert_eq!(names(&grant.path()), ["old"]);
    write(&folder, "fits", &[1; 2976]).await.unwrap();
    assert_eq!(folder.used(), 5000);
    assert!(write(&folder, "empty", b"").await.is_err());
    assert!(folder.clone().make_folder("sub".to_owned()).await.is_err());
    assert!(folder.clone().delete("old".to_owned()).await.unwrap());
    write(&folder, "empty", b"").await.unwrap();
    write(&folder, "empty", b"more").await.unwrap();
    assert_eq!(folder.used(), 5000 - 1512 + 516);
}

#[tokio::test]
async fn two_grants_of_one_folder_share_its_storage() {
    let grant = Grant::new();
    let one = grant.open(Mode::Write, |options| options.storage_limit = Some(2000));
    let two = grant.open(Mode::Write, |options| options.storage_limit = Some(2000));
    write(&one, "a", &[0; 1000]).await.unwrap();
    assert_eq!(two.used(), 1512);
    assert!(write(&two, "b", &[0; 1000]).await.is_err());
}

#[tokio::test]
async fn files_in_number_and_size_are_bounded() {
    let grant = Grant::new();
    let folder = grant.open(Mode::Write, |options| {
        options.max_entries = 3;
        options.max_file_bytes = 10;
    });
    assert!(write(&folder, "big", &[0; 11]).await.is_err());
    for name in ["a", "b", "c"] {
        write(&folder, name, &[0; 10]).await.unwrap();
    }
    assert!(write(&folder, "d", b"").await.is_err());
    write(&folder, "c", b"replaced").await.unwrap();
    let reasons = grant.reasons();
    assert_eq!(
        reasons[0],
        Reason::TooLarge {
            what: "the file",
            limit: 10
        }
    );
    assert_eq!(reasons[1], Reason::TooMany { limit: 3 });
}

#[tokio::test]
async fn file_whose_body_breaks_off_is_not_changed() {
    let grant = Grant::new();
    let folder = grant.open(Mode::Write, |_| ());
    write(&folder, "file", b"old").await.unwrap();
    let pieces = futures_util::stream::iter([
        Ok(Frame::data(Bytes::from_static(b"new"))),
        Err("the guest is gone".into()),
    ]);
    let body = StreamBody::new(pieces).boxed_unsync();
    let broken = folder
        .clone()
        .write("file".to_owned(), body, WriteOptions::default())
        .await;
    assert!(broken.is_err());
    assert_eq!(read(&folder, "file").await.unwrap(), "old");
    assert_eq!(names(&grant.path()), ["file"]);
    assert_eq!(folder.used(), 515);
}

#[tokio::test]
async fn file_created_new_does_not_replace() {
    let grant = Grant::new();
    let folder = grant.open(Mode::Write, |_| ());
    let options = WriteOptions {
        create_new: true,
        make_folders: true,
    };
    folder
        .clone()
        .write("x/y".to_owned(), body("one"), options)
        .await
        .unwrap();
    let again = folder
        .clone()
        .write("x/y".to_owned(), body("two"), options)
        .await;
    assert!(matches!(again, Err(FileError::Exists { .. })));
    assert_eq!(read(&folder, "x/y").await.unwrap(), "one");
    // Of many at once exactly one wins.
    let racing = (0..16).map(|n| {
        let folder = folder.clone();
        tokio::spawn(async move {
            let body = body(format!("{n}"));
            folder
                .write("raced".to_owned(), body, options)
                .await
                .is_ok()
        })
    });
    let won = futures_util::future::join_all(racing).await;
    assert_eq!(
        won.into_iter().filter(|won| *won.as_ref().unwrap()).count(),
        1
    );
    assert_eq!(
        folder.used(),
        512 * 3 + 3 + read(&folder, "raced").await.unwrap().len() as u64
    );
}

/// A folder and a link that leads out take each other's place as fast as they can, while a guest reads
/// and writes through the name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn link_swapped_in_while_in_use_never_leads_out() {
    let grant = Grant::new();
    let outside = grant.outer.path().join("target");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "outside's secret").unwrap();
    let root = grant.path();
    fs::create_dir(root.join("name")).unwrap();
    fs::write(root.join("name/file"), "inside").unwrap();
    symlink(&outside, root.join("evil")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = {
        let (root, stop) = (fs::File::open(&root).unwrap(), stop.clone());
        std::thread::spawn(move || {
            let mut count = 0_u64;
            while !stop.load(Ordering::Relaxed) || count % 2 == 1 {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&root, "name", &root, "evil", flags).unwrap();
                count += 1;
            }
            count
        })
    };
    let folder = grant.open(Mode::Write, |_| ());
    let mut good = 0;
    for n in 0..500 {
        if let Ok(bytes) = read(&folder, "name/file").await {
            assert_eq!(bytes, "inside");
            good += 1;
        }
        let _ = write(&folder, "name/written", b"by the guest").await;
        let _ = folder.clone().delete("name/written".to_owned()).await;
        let _ = folder.clone().make_folder(format!("name/made{n}")).await;
    }
    stop.store(true, Ordering::Relaxed);
    let swaps = swapper.join().unwrap();
    assert_eq!(names(&outside), ["file"], "nothing was written outside");
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"outside's secret");
    assert!(swaps > 1000 && good > 0, "{swaps} swaps, {good} good reads");
}

async fn append(folder: &Arc<Folder>, path: &str, bytes: &[u8]) -> Result<(), FileError> {
    let options = WriteOptions::default();
    let appending = folder
        .clone()
        .append(path.to_owned(), body(bytes.to_vec()), options);
    appending.await.map(|_| ())
}

async fn write_at(
    folder: &Arc<Folder>,
    path: &str,
    bytes: &[u8],
    offset: u64,
) -> Result<(), FileError> {
    let (data, options) = (body(bytes.to_vec()), WriteOptions::default());
    let writing = folder
        .clone()
        .write_at(path.to_owned(), data, offset, options);
    writing.await.map(|_| ())
}

async fn rename(folder: &Arc<Folder>, from: &str, to: &str) -> Result<(), FileError> {
    let options = WriteOptions::default();
    folder
        .clone()
        .rename(from.to_owned(), to.to_owned(), options)
        .await
}

async fn copy(folder: &Arc<Folder>, from: &str, to: &str) -> Result<(), FileError> {
    let options = WriteOptions::default();
    let copying = folder.clone().copy(from.to_owned(), to.to_owned(), options);
    copying.await.map(|_| ())
}

/// What the ledger counts, found by counting again.
fn counted(path: &Path) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        bytes += 512;
        if kind.is_file() {
            bytes += entry.metadata().unwrap().len();
        } else if kind.is_dir() {
            bytes += counted(&entry.path());
        }
    }
    bytes
}

#[tokio::test]
async fn parts_of_files_are_written_and_counted() {
    let grant = Grant::new();
    let folder = grant.open(Mode::Write, |_| ());
    append(&folder, "log", b"one\n").await.unwrap();
    append(&folder, "log", b"two\n").await.unwrap();
    assert_eq!(read(&folder, "log").await.unwrap(), "one\ntwo\n");
    write_at(&folder, "log", b"TWO", 4).await.unwrap();
    assert_eq!(read(&folder, "log").await.unwrap(), "one\nTWO\n");
    write_at(&folder, "holes", b"x", 3).await.unwrap();
    assert_eq!(read(&folder, "holes").await.unwrap(), "\0\0\0x");
    folder.clone().truncate("log".to_owned(), 3).await.unwrap();
    assert_eq!(read(&folder, "log").await.unwrap(), "one");
    copy(&folder, "log", "copy").await.unwrap();
    copy(&folder, "holes", "copy").await.unwrap();
    assert_eq!(read(&folder, "copy").await.unwrap(), "\0\0\0x");
    rename(&folder, "copy", "log").await.unwrap();
    assert_eq!(read(&folder, "log").await.unwrap(), "\0\0\0x");
    folder.clone().make_folder("a".to_owned()).await.unwrap();
    rename(&folder, "log", "a/log").await.unwrap();
    rename(&folder, "a", "b").await.unwrap();
    rename(&folder, "b/log", "b/log").await.unwrap();
    assert_eq!(read(&folder, "b/log").await.unwrap(), "\0\0\0x");
    assert_eq!(names(&grant.path()), ["b", "holes"]);
    assert_eq!(folder.used(), counted(&grant.path()));
    assert_eq!(grant.reasons(), []);
}

#[tokio::test]
async fn parts_beyond_a_limit_are_refused_and_count_nothing() {
    let grant = Grant::new();
    let folder = grant.open(Mode::Write, |options| {
        options.storage_limit = Some(10_000);
        options.max_file_bytes = 6000;
    });
    // The control: it fits.
    write_at(&folder, "file", &[1; 1000], 4000).await.unwrap();
    assert_eq!(folder.used(), 5512);
    for offset in [1 << 53, u64::MAX, 5999, 6000] {
        assert!(
            write_at(&folder, "file", b"xy", offset).await.is_err(),
            "{offset}"
        );
    }
    let huge = folder.clone().truncate("file".to_owned(), 1 << 53).await;
    assert!(matches!(huge, Err(FileError::Refused(_))));
    let limit = 6000;
    let what = "the file";
    assert_eq!(grant.reasons(), vec![Reason::TooLarge { what, limit }; 5]);
    // The storage: what a hole skips counts.
    assert!(write_at(&folder, "second", b"x", 5000).await.is_err());
    assert!(append(&folder, "second", &[0; 4000]).await.is_err());
    assert!(copy(&folder, "file", "second").await.is_err());
    assert_eq!(grant.reasons(), vec![Reason::Storage { limit: 10_000 }; 3]);
    assert_eq!(folder.used(), counted(&grant.path()));
    // What is given back can be used.
    folder.clone().truncate("file".to_owned(), 0).await.unwrap();
    append(&folder, "second", &[0; 4000]).await.unwrap();
    assert_eq!(folder.used(), counted(&grant.path()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_is_counted_correctly_while_many_change_one_file() {
    let grant = Grant::new();
    let folder = grant.open(Mode::Write, |options| options.storage_limit = Some(40_000));
    let changes = (0..200_u64).map(|n| {
        let folder = folder.clone();
        tokio::spawn(async move {
            let line = format!("line {n:04} of the file that all write\n");
            match n % 10 {
                0 => drop(write(&folder, "log", b"begins again\n").await),
                1 => drop(folder.clone().delete("log".to_owned()).await),
                2 => drop(copy(&folder, "log", "copy").await),
                3 => drop(rename(&folder, "copy", "log").await),
                4 => drop(folder.clone().truncate("log".to_owned(), n).await),
                5 => drop(write_at(&folder, "log", line.as_bytes(), 16 * n).await),
                _ => drop(append(&folder, "log", line.as_bytes()).await),
            }
        })
    });
    for change in futures_util::future::join_all(changes).await {
        change.unwrap();
    }
    assert_eq!(folder.used(), counted(&grant.path()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appended_pieces_are_not_mixed() {
    let grant = Grant::new();
    let folder = grant.open(Mode::Write, |_| ());
    let appends = (0..64_u8).map(|n| {
        let folder = folder.clone();
        tokio::spawn(async move { append(&folder, "log", &[n; 5000]).await.unwrap() })
    });
    futures_util::future::join_all(appends).await;
    let all = read(&folder, "log").await.unwrap();
    let mut seen: Vec<u8> = Vec::new();
    for piece in all.chunks(5000) {
        assert!(piece.iter().all(|byte| *byte == piece[0]));
        seen.push(piece[0]);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..64).collect::<Vec<u8>>());
}

#[tokio::test]
async fn file_with_a_name_outside_is_not_changed_in_place() {
    let grant = Grant::new();
    let outside = grant.outer.path().join("outside");
    fs::hard_link(&outside, grant.path().join("linked")).unwrap();
    fs::write(grant.path().join("plain"), "mine").unwrap();
    let folder = grant.open(Mode::Write, |_| ());
    assert!(append(&folder, "linked", b"x").await.is_err());
    assert!(write_at(&folder, "linked", b"x", 0).await.is_err());
    assert!(
        folder
            .clone()
            .truncate("linked".to_owned(), 0)
            .await
            .is_err()
    );
    assert_eq!(grant.reasons(), vec![Reason::HardLinks; 3]);
    assert_eq!(fs::read(&outside).unwrap(), b"outside's secret");
    // The controls: a file of one name, and a whole file, which takes the link's place.
    append(&folder, "plain", b"!").await.unwrap();
    assert_eq!(read(&folder, "plain").await.unwrap(), "mine!");
    write(&folder, "linked", b"mine").await.unwrap();
    append(&folder, "linked", b"!").await.unwrap();
    assert_eq!(read(&folder, "linked").await.unwrap(), "mine!");
    assert_eq!(fs::read(&outside).unwrap(), b"outside's secret");
}

#[tokio::test]
async fn change_by_a_path_that_leads_out_is_refused() {
    let grant = Grant::new();
    let outside = grant.outer.path().join("outside");
    symlink("../outside", grant.path().join("out")).unwrap();
    symlink("..", grant.path().join("up")).unwrap();
    fs::write(grant.path().join("file"), "inside").unwrap();
    let folder = grant.open(Mode::Write, |_| ());
    let long = "n".repeat(300);
    for path in [
        "../outside",
        "a/../../outside",
        "out",
        "up/outside",
        "a\0",
        "",
        &long,
    ] {
        assert!(append(&folder, path, b"x").await.is_err(), "{path:?}");
        assert!(write_at(&folder, path, b"x", 0).await.is_err(), "{path:?}");
        assert!(copy(&folder, path, "copied").await.is_err(), "{path:?}");
        assert!(copy(&folder, "file", path).await.is_err(), "{path:?}");
        assert!(rename(&folder, path, "moved").await.is_err(), "{path:?}");
        assert!(rename(&folder, "file", path).await.is_err(), "{path:?}");
        let cut = folder.clone().truncate(path.to_owned(), 0).await;
        assert!(cut.is_err(), "{path:?}");
        if !path.is_empty() {
            let watched = folder.clone().watch(path.to_owned(), true).await;
            assert!(watched.is_err(), "{path:?}");
        }
    }
    assert_eq!(fs::read(&outside).unwrap(), b"outside's secret");
    assert_eq!(names(&grant.path()), ["file", "out", "up"]);
    assert_eq!(folder.used(), counted(&grant.path()));
}

#[tokio::test]
async fn folder_for_reading_refuses_changes_in_place_and_new_names() {
    let grant = Grant::new();
    fs::write(grant.path().join("file"), "here").unwrap();
    let folder = grant.open(Mode::Read, |_| ());
    assert!(append(&folder, "file", b"x").await.is_err());
    assert!(write_at(&folder, "file", b"x", 0).await.is_err());
    assert!(copy(&folder, "file", "other").await.is_err());
    assert!(rename(&folder, "file", "other").await.is_err());
    assert!(folder.clone().truncate("file".to_owned(), 0).await.is_err());
    assert_eq!(grant.reasons(), vec![Reason::ReadOnly; 5]);
    assert_eq!(names(&grant.path()), ["file"]);
    assert!(folder.clone().watch(String::new(), false).await.is_ok());
}

#[tokio::test]
async fn rename_keeps_paths_that_a_guest_can_name() {
    let grant = Grant::new();
    let folder = grant.open(Mode::Write, |_| ());
    let half = ["a"; 15].join("/");
    write(&folder, "file", b"x").await.unwrap();
    folder.clone().make_folder(half.clone()).await.unwrap();
    folder
        .clone()
        .make_folder(format!("b/{half}"))
        .await
        .unwrap();
    folder.clone().make_folder("flat".to_owned()).await.unwrap();
    let into_itself = rename(&folder, "flat", "flat/below").await.unwrap_err();
    assert_eq!(into_itself.code(), "EINVAL");
    // 1 + 15 names fit below 15 others, and then 16 more do not.
    rename(&folder, "b", &format!("{half}/b")).await.unwrap();
    folder
        .clone()
        .make_folder(format!("c/{half}/{half}"))
        .await
        .unwrap();
    let too_deep = rename(&folder, "c", &format!("{half}/c")).await;
    assert!(matches!(too_deep, Err(FileError::Refused(_))));
    assert_eq!(grant.reasons(), [Reason::Path]);
    let over_full = rename(&folder, "c", "a").await.unwrap_err();
    assert_eq!(over_full.code(), "ENOTEMPTY");
    assert_eq!(
        rename(&folder, "file", "a").await.unwrap_err().code(),
        "EISDIR"
    );
    assert_eq!(
        rename(&folder, "none", "x").await.unwrap_err().code(),
        "ENOENT"
    );
    let options = WriteOptions {
        create_new: true,
        make_folders: false,
    };
    let taken = folder
        .clone()
        .rename("file".to_owned(), "c".to_owned(), options)
        .await;
    assert_eq!(taken.unwrap_err().code(), "EEXIST");
    assert_eq!(folder.used(), counted(&grant.path()));
}

/// As [`link_swapped_in_while_in_use_never_leads_out`], for what changes files in place and renames them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn link_swapped_in_never_leads_a_change_out() {
    let grant = Grant::new();
    let outside = grant.outer.path().join("target");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "outside's secret").unwrap();
    let root = grant.path();
    fs::create_dir(root.join("name")).unwrap();
    fs::write(root.join("name/file"), "inside").unwrap();
    fs::write(root.join("mine"), "mine").unwrap();
    symlink(&outside, root.join("evil")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = {
        let (root, stop) = (fs::File::open(&root).unwrap(), stop.clone());
        std::thread::spawn(move || {
            let mut count = 0_u64;
            while !stop.load(Ordering::Relaxed) || count % 2 == 1 {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&root, "name", &root, "evil", flags).unwrap();
                count += 1;
            }
        })
    };
    let folder = grant.open(Mode::Write, |_| ());
    let mut good = 0;
    for _ in 0..300 {
        good += u32::from(write_at(&folder, "name/file", b"inside", 0).await.is_ok());
        let _ = append(&folder, "name/log", b"x").await;
        let _ = copy(&folder, "mine", "name/copy").await;
        let _ = rename(&folder, "name/copy", "name/moved").await;
        let _ = folder.clone().truncate("name/file".to_owned(), 6).await;
        drop(folder.clone().watch("name".to_owned(), true).await);
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert_eq!(names(&outside), ["file"], "nothing was written outside");
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"outside's secret");
    assert!(good > 0);
}

/// The next changes, until one is of `path`.
async fn changes_until(changes: &FileChanges, kind: ChangeKind, path: &str) -> Vec<FileChange> {
    let mut seen = Vec::new();
    loop {
        let next = tokio::time::timeout(std::time::Duration::from_secs(60), changes.next());
        let change = next.await.ok().flatten();
        assert!(change.is_some(), "{path:?} was not reported; only {seen:?}");
        let change = change.unwrap();
        seen.push(change.clone());
        if change.path == path && change.kind == kind {
            return seen;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_reports_changes_of_guests_and_of_others() {
    let grant = Grant::new();
    fs::create_dir_all(grant.path().join("a/b")).unwrap();
    fs::write(grant.path().join("one"), "").unwrap();
    let folder = grant.open(Mode::Write, |_| ());
    let all = folder.clone().watch(String::new(), true).await.unwrap();
    let top = folder.clone().watch(String::new(), false).await.unwrap();
    let one = folder.clone().watch("one".to_owned(), false).await.unwrap();
    write(&folder, "a/b/file", b"x").await.unwrap();
    let seen = changes_until(&all, ChangeKind::Create, "a/b/file").await;
    assert!(seen.iter().all(|change| !change.path.contains(".stockade")));
    fs::write(grant.path().join("a/b/file"), "by another program").unwrap();
    changes_until(&all, ChangeKind::Modify, "a/b/file").await;
    // A folder that appears is watched, and what lies in it already is reported.
    folder
        .clone()
        .make_folder("new/x".to_owned())
        .await
        .unwrap();
    write(&folder, "new/x/y", b"x").await.unwrap();
    changes_until(&all, ChangeKind::Create, "new/x/y").await;
    append(&folder, "new/x/y", b"x").await.unwrap();
    changes_until(&all, ChangeKind::Modify, "new/x/y").await;
    // One that is moved has its new path.
    rename(&folder, "new", "moved").await.unwrap();
    changes_until(&all, ChangeKind::Remove, "new").await;
    changes_until(&all, ChangeKind::Create, "moved/x/y").await;
    append(&folder, "moved/x/y", b"x").await.unwrap();
    changes_until(&all, ChangeKind::Modify, "moved/x/y").await;
    folder.clone().delete("moved/x/y".to_owned()).await.unwrap();
    changes_until(&all, ChangeKind::Remove, "moved/x/y").await;
    append(&folder, "one", b"x").await.unwrap();
    let seen = changes_until(&one, ChangeKind::Modify, "one").await;
    assert!(seen.iter().all(|change| change.path == "one"), "{seen:?}");
    let seen = changes_until(&top, ChangeKind::Modify, "one").await;
    assert!(
        seen.iter().all(|change| !change.path.contains('/')),
        "{seen:?}"
    );
    // An end is an end, for one reader alone.
    drop(top.stop());
    assert_eq!(top.next().await, None);
    append(&folder, "one", b"x").await.unwrap();
    changes_until(&one, ChangeKind::Modify, "one").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_does_not_follow_links_out() {
    let grant = Grant::new();
    let outside = grant.outer.path().join("target");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, grant.path().join("link")).unwrap();
    let folder = grant.open(Mode::Write, |_| ());
    let all = folder.clone().watch(String::new(), true).await.unwrap();
    fs::write(outside.join("secret name"), "x").unwrap();
    symlink(&outside, grant.path().join("later")).unwrap();
    fs::write(outside.join("second secret name"), "x").unwrap();
    write(&folder, "last", b"x").await.unwrap();
    let seen = changes_until(&all, ChangeKind::Create, "last").await;
    assert!(
        seen.iter().all(|change| !change.path.contains("secret")),
        "{seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_are_bounded_in_folders_and_in_what_waits() {
    let grant = Grant::new();
    for n in 0..600 {
        fs::create_dir_all(grant.path().join(format!("many/{n}"))).unwrap();
    }
    let folder = grant.open(Mode::Write, |_| ());
    let refused = folder.clone().watch("many".to_owned(), true).await.err();
    assert_eq!(refused.unwrap().code(), "ENOSPC");
    assert_eq!(grant.reasons(), [Reason::Watches { limit: 512 }]);
    // The folder alone is one.
    let flooded = folder
        .clone()
        .watch("many".to_owned(), false)
        .await
        .unwrap();
    let calm = folder
        .clone()
        .watch("many/1".to_owned(), false)
        .await
        .unwrap();
    for n in 0..3000 {
        fs::write(grant.path().join(format!("many/f{n}")), "").unwrap();
    }
    fs::write(grant.path().join("many/1/last"), "").unwrap();
    changes_until(&calm, ChangeKind::Create, "many/1/last").await;
    // A reader that read nothing learns that it must look again, and goes on from there.
    changes_until(&flooded, ChangeKind::Rescan, "many").await;
    fs::write(grant.path().join("many/end"), "").unwrap();
    changes_until(&flooded, ChangeKind::Create, "many/end").await;
    // Thousands of watches, one after the other and at the same time, share the kernel's.
    let mut open = Vec::new();
    for _ in 0..2000 {
        open.push(
            folder
                .clone()
                .watch("many".to_owned(), false)
                .await
                .unwrap(),
        );
    }
    fs::write(grant.path().join("many/for all"), "").unwrap();
    for changes in &open {
        changes_until(changes, ChangeKind::Create, "many/for all").await;
    }
    drop(open);
    fs::write(grant.path().join("many/again"), "").unwrap();
    changes_until(&flooded, ChangeKind::Create, "many/again").await;
}
