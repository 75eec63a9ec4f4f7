//! Changes reported to a guest that watches.

use std::fs;
use std::os::unix::fs::symlink;

use stockade_broker::{ChangeKind, FileChange, FileChanges, Mode, Reason};

use crate::setting::{Grant, append, rename, write};

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
