//! Files read and written whole, listed and deleted; paths and links that lead out.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use stockade_broker::{EntryKind, FileError, Mode, Reason, WriteOptions};

use crate::setting::{Grant, Swapping, body, names, read, write};

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
        let read = tokio::time::timeout(std::time::Duration::from_secs(60), read(&folder, path));
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

/// A guest reads and writes through a name that is a folder and a link that leads out in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn link_swapped_in_while_in_use_never_leads_out() {
    let grant = Grant::new();
    let swapping = Swapping::start(&grant);
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
    let swaps = swapping.stop();
    assert!(swaps > 1000 && good > 0, "{swaps} swaps, {good} good reads");
}
