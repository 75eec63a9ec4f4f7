//! Files changed in place, renamed and copied.

use std::fs;
use std::os::unix::fs::symlink;

use stockade_broker::{FileError, Mode, Reason, WriteOptions};

use crate::setting::{
    Grant, Swapping, append, copy, counted, names, read, rename, write, write_at,
};

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

/// A guest changes files in place and renames them through a name that is a folder and a link that leads out in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn link_swapped_in_never_leads_a_change_out() {
    let grant = Grant::new();
    fs::write(grant.path().join("mine"), "mine").unwrap();
    let swapping = Swapping::start(&grant);
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
    let swaps = swapping.stop();
    assert!(swaps > 300 && good > 0, "{swaps} swaps, {good} good writes");
}
