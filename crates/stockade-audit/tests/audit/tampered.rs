//! Each change that somebody without the key can make to a log is found. The log before the change is whole.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use stockade_audit::{AuditError, AuditLog, AuditOptions, PublicKey};

use crate::{check, files, lines, write};

fn after(change: impl FnOnce(&mut Vec<String>)) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 5);
    check(folder.path()).unwrap();
    let mut changed = lines(folder.path());
    change(&mut changed);
    rewrite(folder.path(), &changed);
    let found = check(folder.path()).unwrap_err().to_string();
    (folder, found)
}

fn rewrite(folder: &Path, lines: &[String]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(files(folder).pop().unwrap(), text).unwrap();
}

#[test]
fn edit_is_found() {
    let (_folder, found) = after(|lines| lines[2] = lines[2].replace("shop", "shoq"));
    assert!(
        found.contains(":4: the line before it is not the one"),
        "{found}"
    );
}

#[test]
fn gap_is_found() {
    let (_folder, found) = after(|lines| drop(lines.remove(2)));
    assert!(
        found.contains(":3: this is line 4, and line 3 is expected"),
        "{found}"
    );
}

#[test]
fn reorder_is_found() {
    let (_folder, found) = after(|lines| lines.swap(1, 2));
    assert!(
        found.contains(":2: this is line 3, and line 2 is expected"),
        "{found}"
    );
}

#[test]
fn added_line_is_found() {
    let (_folder, found) = after(|lines| lines.insert(2, lines[1].clone()));
    assert!(found.contains(":3: this is line 2"), "{found}");
}

#[test]
fn truncation_is_found_and_the_log_does_not_go_on() {
    let (folder, found) = after(|lines| lines.truncate(3));
    assert!(
        found.contains("ends with line 3, but a checkpoint was line 6"),
        "{found}"
    );
    let opened = AuditLog::open(AuditOptions::new(folder.path().to_owned()));
    assert!(matches!(opened, Err(AuditError::Cut { .. })));
}

#[test]
fn removed_first_lines_are_found() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 5);
    let rest = lines(folder.path()).split_off(2);
    fs::remove_file(files(folder.path()).pop().unwrap()).unwrap();
    fs::write(
        folder.path().join("audit-000000000003.jsonl"),
        rest.join("\n") + "\n",
    )
    .unwrap();
    let found = check(folder.path()).unwrap_err().to_string();
    assert!(found.contains("lines 1 to 2 are missing"), "{found}");
}

#[test]
fn chain_that_was_made_again_is_not_signed() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 5);
    let key = PublicKey::open(&folder.path().join("key.pub")).unwrap();
    // Somebody else's log, whole in itself, with its own key.
    let other = tempfile::tempdir().unwrap();
    write(other.path(), 5);
    check(other.path()).unwrap();
    let found = stockade_audit::verify(other.path(), &key).unwrap_err();
    assert!(
        found.to_string().contains("not signed by this key"),
        "{found}"
    );
}

#[test]
fn line_that_was_being_written_is_cut_off_and_named() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 5);
    let file = files(folder.path()).pop().unwrap();
    let mut appended = fs::OpenOptions::new().append(true).open(file).unwrap();
    appended.write_all(b"{\"n\":7,\"at\":").unwrap();
    assert!(check(folder.path()).unwrap().partial);
    write(folder.path(), 1);
    let found = check(folder.path()).unwrap();
    assert!(!found.partial);
    assert!(lines(folder.path())[6].contains("\"event\":\"audit_recovered\""));
}

#[test]
fn garbage_is_an_error_and_costs_little() {
    for garbage in [
        &b"\xff\xfe\n"[..],
        b"{}\n",
        b"[[[[\n",
        &[b'x'; 1 << 20],
        b"\0\n",
    ] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 1);
        fs::write(files(folder.path()).pop().unwrap(), garbage).unwrap();
        let error = check(folder.path()).unwrap_err();
        assert!(
            matches!(error, AuditError::Broken { line: 1, .. }),
            "{error}"
        );
    }
}
