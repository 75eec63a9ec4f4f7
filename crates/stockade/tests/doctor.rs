//! `stockade doctor` on the machine as it is. What it says where layers are missing is tried in
//! `fail_closed`.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::process::{Command, Output};

use serde_json::Value;

fn doctor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stockade"))
        .arg("doctor")
        .args(arguments)
        .output()
        .unwrap()
}

fn json(arguments: &[&str]) -> (Value, Option<i32>) {
    let output = doctor(&[&["--json"], arguments].concat());
    let out = String::from_utf8(output.stdout).unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(err, "");
    assert_eq!(out.lines().count(), 1, "one document on one line: {out}");
    (serde_json::from_str(&out).unwrap(), output.status.code())
}

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn json_has_the_documented_keys() {
    let (found, code) = json(&[]);
    let mut expected = [
        "version",
        "v8",
        "kernel",
        "architecture",
        "ok",
        "layers",
        "levels",
        "attack",
    ];
    expected.sort_unstable();
    let mut given = keys(&found);
    given.sort_unstable();
    assert_eq!(given, expected);
    assert_eq!(found["attack"], Value::Null);
    let v8 = &found["v8"];
    assert!(v8["version"].as_str().unwrap().contains('.'));
    assert!(v8["patches"].is_array());
    assert_eq!(v8["old"], v8["ageDays"].as_u64().unwrap() > 30);
    let whole = |level: &Value| level["works"] == true || level["optional"] == true;
    let ok = found["levels"].as_array().unwrap().iter().all(whole);
    assert_eq!(found["ok"], ok);
    assert_eq!(code, Some(i32::from(found["ok"] == false)));
    let layers = found["layers"].as_array().unwrap();
    assert!(layers.len() > 15);
    for layer in layers {
        let mut given = keys(layer);
        given.sort_unstable();
        let expected = ["available", "fix", "kernel", "name", "neededBy", "tested"];
        assert_eq!(given, expected);
        // What is there needs no fix, and what is not has one.
        assert_eq!(layer["available"] == true, layer["fix"] == "", "{layer}");
        assert_ne!(layer["tested"], "", "{layer}");
    }
    let levels = found["levels"].as_array().unwrap();
    assert_eq!(levels.len(), 7);
    for level in levels {
        let mut given = keys(level);
        given.sort_unstable();
        let expected = [
            "cgroup",
            "error",
            "evaluateMs",
            "isolation",
            "missing",
            "optional",
            "startMs",
            "works",
            "wx",
        ];
        assert_eq!(given, expected);
        assert_eq!(level["works"] == true, level["error"].is_null(), "{level}");
        assert!(level["works"] == false || level["evaluateMs"].is_f64());
        assert_eq!(level["optional"] == true, level["cgroup"] == "require");
    }
}

#[test]
fn level_and_mode_narrow_what_is_tried() {
    let (found, _) = json(&["--level", "container", "--wx", "strict"]);
    let levels = found["levels"].as_array().unwrap();
    assert_eq!(levels.len(), 1);
    assert_eq!(levels[0]["isolation"], "container");
    assert_eq!(levels[0]["wx"], "strict");
}

#[test]
fn attack_tries_a_group_at_every_level_that_works() {
    let (found, code) = json(&["--attack", "14"]);
    let attack = &found["attack"];
    let works: BTreeSet<(&str, &str)> = found["levels"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|level| level["works"] == true && level["cgroup"] == "auto")
        .filter(|level| level["isolation"] != "thread")
        .map(|level| {
            let name = |key: &str| level[key].as_str().unwrap();
            (name("isolation"), name("wx"))
        })
        .collect();
    let attempts = attack["attempts"].as_array().unwrap();
    let tried: BTreeSet<(&str, &str)> = attempts
        .iter()
        .map(|attempt| {
            let name = |key: &str| attempt[key].as_str().unwrap();
            (name("level"), name("wx"))
        })
        .collect();
    assert_eq!(tried, works);
    for attempt in attempts {
        assert_eq!(attempt["group"], 14);
        match attempt["verdict"].as_str().unwrap() {
            "held" => assert_eq!(attempt["why"], Value::Null),
            // Executable memory is what this mode gives up.
            "givenUp" => assert_eq!(attempt["wx"], "jit", "{attempt}"),
            _ => assert_eq!(attempt["verdict"], "held", "{attempt}"),
        }
    }
    let summary = &attack["summary"];
    let count = |key: &str| usize::try_from(summary[key].as_u64().unwrap()).unwrap();
    assert_eq!(count("held") + count("givenUp"), attempts.len());
    assert_eq!(count("broken"), 0);
    assert_eq!(code, Some(i32::from(found["ok"] == false)));
}

#[test]
fn attack_prints_its_result() {
    let output = doctor(&["--attack", "keyctl", "--level", "process", "--wx", "jit"]);
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("process, wx: jit "), "{out}");
    assert!(out.contains("keyrings"), "{out}");
    // Before everything else.
    let mut lines = out.lines();
    assert_eq!(
        lines.next(),
        Some("Every level of isolation works here."),
        "{out}"
    );
    assert!(
        lines
            .take(2)
            .any(|line| line.starts_with("All levels held: ")),
        "{out}"
    );
    assert_eq!(output.stderr, b"", "progress is for terminals");
}

#[test]
fn output_that_is_no_terminal_has_no_escapes() {
    let output = doctor(&["--level", "process"]);
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(
        out.starts_with("Every level of isolation works here.\n"),
        "{out}"
    );
    assert!(out.contains("ok       seccomp "), "{out}");
    assert!(out.contains("tested: "), "{out}");
    assert!(out.contains("works    process  "), "{out}");
    assert!(!out.contains('\x1b'));
}

#[test]
fn bad_usage_is_refused_before_anything_is_tried() {
    for arguments in [
        &["--level", "vm"][..],
        &["--wx", "none"],
        &["--attack", "no such attempt"],
        &["--attack", "40"],
        &["process"],
    ] {
        let output = doctor(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(output.stdout, b"", "{arguments:?}");
        assert!(output.stderr.starts_with(b"error: "), "{arguments:?}");
    }
}
