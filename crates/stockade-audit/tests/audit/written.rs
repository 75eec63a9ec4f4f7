use std::time::{Duration, Instant};

use stockade_audit::{AuditError, AuditLog, AuditOptions, Filter, Lines, Record};

use crate::{check, files, lines, write};

#[test]
fn log_written_by_several_processes_is_one_chain() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 3);
    write(folder.path(), 4);
    let found = check(folder.path()).unwrap();
    // Each of the two ended with a checkpoint.
    assert_eq!((found.lines, found.first, found.last), (9, 1, 9));
    assert_eq!((found.checkpoints, found.unsigned), (2, 0));
    let first: serde_json::Value = serde_json::from_str(&lines(folder.path())[0]).unwrap();
    assert_eq!(first["n"], 1);
    assert_eq!(first["event"], "egress_refused");
    assert_eq!(first["instance"], "shop");
}

#[test]
fn second_writer_is_refused_while_the_first_lives() {
    let folder = tempfile::tempdir().unwrap();
    let options = AuditOptions::new(folder.path().to_owned());
    let first = AuditLog::open(options.clone()).unwrap();
    assert!(matches!(
        AuditLog::open(options.clone()),
        Err(AuditError::Locked { .. })
    ));
    drop(first);
    drop(AuditLog::open(options).unwrap());
}

#[test]
fn files_begin_by_size_and_the_oldest_are_removed_with_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let options = AuditOptions {
        file_size: 2000,
        files: 3,
        ..AuditOptions::new(folder.path().to_owned())
    };
    let log = AuditLog::open(options).unwrap();
    for number in 0..100 {
        log.confirm(Record::new("x").number("number", number))
            .unwrap();
    }
    drop(log);
    assert_eq!(files(folder.path()).len(), 3);
    let found = check(folder.path()).unwrap();
    assert!(found.first > 1 && found.last > 100, "{found:?}");
    // The log goes on after that.
    write(folder.path(), 1);
    check(folder.path()).unwrap();
}

#[test]
fn old_files_are_removed_by_age() {
    let folder = tempfile::tempdir().unwrap();
    let options = AuditOptions {
        file_size: 1000,
        keep: Some(Duration::ZERO),
        ..AuditOptions::new(folder.path().to_owned())
    };
    let log = AuditLog::open(options).unwrap();
    for _ in 0..40 {
        log.confirm(Record::new("x")).unwrap();
    }
    drop(log);
    assert_eq!(files(folder.path()).len(), 1);
    check(folder.path()).unwrap();
}

#[test]
fn full_disk_refuses_to_confirm_and_loses_nothing_that_it_has_room_for() {
    let folder = tempfile::tempdir().unwrap();
    // As if the disk had no room for the second file: the kernel answers ENOSPC to every write.
    let file = folder.path().join("audit-000000000002.jsonl");
    let options = AuditOptions {
        file_size: 100,
        ..AuditOptions::new(folder.path().to_owned())
    };
    let log = AuditLog::open(options).unwrap();
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();
    log.confirm(Record::new("first")).unwrap();
    log.record(Record::new("before"));
    let refused = log.confirm(Record::new("while")).unwrap_err().to_string();
    assert!(refused.contains("No space left"), "{refused}");
    assert!(log.status().failing.is_some());

    // Nobody waits for it, however much there is.
    let text = "x".repeat(2000);
    let began = Instant::now();
    for _ in 0..10_000 {
        log.record(Record::new("flood").text("text", &text));
    }
    assert!(began.elapsed() < Duration::from_secs(120));
    let dropped = log.status().dropped;
    assert!(dropped > 0);

    // There is room again.
    std::fs::remove_file(&file).unwrap();
    while log.confirm(Record::new("after")).is_err() {}
    assert_eq!(log.status().failing, None);
    drop(log);
    check(folder.path()).unwrap();
    let mut events = Vec::new();
    let mut lines = Lines::of(folder.path());
    while let Some(line) = lines.next_line().unwrap() {
        events.extend(line.text_of("event").map(str::to_owned));
    }
    for expected in ["before", "while", "flood", "audit_dropped", "after"] {
        assert!(events.iter().any(|event| event == expected), "{expected}");
    }
}

#[test]
fn lines_are_found_by_what_they_have() {
    let folder = tempfile::tempdir().unwrap();
    let log = AuditLog::open(AuditOptions::new(folder.path().to_owned())).unwrap();
    log.record(Record::new("a").text("instance", "one"));
    log.record(Record::new("b").text("instance", "two"));
    log.confirm(
        Record::new("b")
            .text("instance", "one")
            .text("host", "evil.example"),
    )
    .unwrap();
    let count = |filter: &Filter| {
        let mut lines = Lines::of(folder.path());
        let mut count = 0;
        while let Some(line) = lines.next_line().unwrap() {
            count += usize::from(filter.wants(&line));
        }
        count
    };
    let filter = Filter::default;
    assert_eq!(count(&filter()), 3);
    assert_eq!(
        count(&Filter {
            events: vec!["b".into()],
            ..filter()
        }),
        2
    );
    assert_eq!(
        count(&Filter {
            instance: Some("one".into()),
            ..filter()
        }),
        2
    );
    assert_eq!(
        count(&Filter {
            text: Some("evil".into()),
            ..filter()
        }),
        1
    );
    let now = std::time::SystemTime::now();
    assert_eq!(
        count(&Filter {
            since: Some(now),
            ..filter()
        }),
        0
    );
    assert_eq!(
        count(&Filter {
            until: Some(now),
            ..filter()
        }),
        3
    );
}

#[test]
fn log_that_is_followed_goes_on_in_the_next_file() {
    let folder = tempfile::tempdir().unwrap();
    let options = AuditOptions {
        file_size: 500,
        ..AuditOptions::new(folder.path().to_owned())
    };
    let log = AuditLog::open(options).unwrap();
    let path = folder.path().to_owned();
    let reading = std::thread::spawn(move || {
        let mut lines = Lines::of(&path).follow();
        let mut seen = 0;
        while seen < 20 {
            let line = lines.next_line().unwrap().unwrap();
            if line.text_of("event") == Some("x") {
                assert_eq!(line.fields["number"], seen);
                seen += 1;
            }
        }
    });
    for number in 0..20 {
        log.confirm(Record::new("x").number("number", number))
            .unwrap();
    }
    reading.join().unwrap();
    assert!(files(folder.path()).len() > 1);
}
