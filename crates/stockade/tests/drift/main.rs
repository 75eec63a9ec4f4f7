//! The system calls that workers make are the ones that the rules of `stockade-jail` let through, no more and
//! no fewer.
//!
//! strace(1) writes down every call of a real workload, [`workload.js`](workload.js); what workers call after
//! they are sealed is compared with each rule with its arguments. A rule that no workload uses has its
//! reason in `unused.json`. Where there is no strace, or it may not trace, the test says so and passes.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it left out"
)]

mod rules;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use rules::{Match, Rules};
use trace::{Call, calls_when_sealed};

#[test]
fn drift_of_rules_with_a_compiler() {
    try_mode("jit");
}

#[test]
fn drift_of_rules_without_one() {
    try_mode("strict");
}

fn try_mode(wx: &str) {
    if let Err(why) = can_trace() {
        eprintln!("left out: {why}");
        return;
    }
    let rules = Rules::read(wx);
    let reasons: BTreeMap<String, String> =
        serde_json::from_str(include_str!("unused.json")).unwrap();
    let mut used = BTreeSet::new();
    let mut strangers: BTreeMap<String, usize> = BTreeMap::new();
    for level in ["process", "container"] {
        for call in run(level, wx) {
            match rules.find(&call) {
                Match::Allowed(names) => used.extend(names),
                Match::Refused => {}
                Match::None => *strangers.entry(call.to_string()).or_default() += 1,
            }
        }
    }
    assert!(
        strangers.is_empty(),
        "a workload makes calls that no rule names:\n{strangers:#?}"
    );
    let unused: Vec<_> = (rules.allowed())
        .filter(|name| !used.contains(*name) && !reasons.contains_key(*name))
        .collect();
    assert!(
        unused.is_empty(),
        "no workload uses these rules; remove them, or say in unused.json who does:\n{unused:#?}"
    );
    let all = Rules::read("jit");
    let stale: Vec<_> = (reasons.keys())
        .filter(|name| {
            !rules
                .allowed()
                .chain(all.allowed())
                .any(|rule| rule == *name)
        })
        .collect();
    assert!(stale.is_empty(), "unused.json names no rules: {stale:#?}");
}

/// Runs the workload, which must succeed, and gives what its workers called.
fn run(level: &str, wx: &str) -> Vec<Call> {
    let trace = temporary(&format!("drift-{level}-{wx}-{}", std::process::id()));
    let workload = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drift/workload.js");
    let output = Command::new("strace")
        .args(["-f", "-qq", "--decode-pids=pidns"])
        .args(["-e", "raw=!clone,clone3", "-o"])
        .arg(&trace)
        // One that hangs fails.
        .args(["timeout", "900", env!("CARGO_BIN_EXE_stockade"), "run"])
        .arg(workload)
        .args(["--", level, wx])
        .output()
        .unwrap();
    let text = std::fs::read(&trace).unwrap();
    std::fs::remove_file(&trace).unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && printed == "done\n",
        "{level}, {wx}: {}\n{printed}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let calls = calls_when_sealed(&String::from_utf8_lossy(&text));
    assert!(calls.len() > 1000, "{level}, {wx}: {} calls", calls.len());
    calls
}

fn can_trace() -> Result<(), String> {
    let trace = temporary(&format!("drift-try-{}", std::process::id()));
    let tried = Command::new("strace")
        .arg("-o")
        .arg(&trace)
        .arg("true")
        .output();
    let _ = std::fs::remove_file(trace);
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(format!("strace: {error} (install the package strace)")),
    }
}

fn temporary(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}
