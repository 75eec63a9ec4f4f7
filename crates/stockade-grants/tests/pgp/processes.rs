//! Life of the processes of the helper.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::guest::{Guest, TEXT, everything, run};
use crate::programs::Gpg;

/// Process ids of the helper's workers.
fn workers() -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap();
    let ids = processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| {
        let title = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        title.starts_with(b"stockade-worker pgp") && is_ours(*id)
    })
    .collect()
}

/// Whether a process descends from this one.
fn is_ours(mut id: u32) -> bool {
    while id > 1 {
        if id == std::process::id() {
            return true;
        }
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        id = parent
            .and_then(|parent| parent.trim().parse().ok())
            .unwrap_or(0);
    }
    false
}

fn wait_for(workers_left: usize) {
    let until = Instant::now() + Duration::from_secs(60);
    while workers().len() != workers_left {
        assert!(
            Instant::now() < until,
            "{:?}, not {workers_left}",
            workers()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn idle() {
    let gpg = Gpg::new();
    let mut grant = everything(&gpg.key("a@example.com", "ed25519", "cv25519", ""));
    grant["idle"] = json!("1s");
    grant["isolation"] = json!("process");
    let guest = Guest::new(&grant);
    let sign = || {
        guest
            .text("sign", &json!({ "data": "\0b0" }), &[TEXT])
            .unwrap()
    };
    wait_for(0);
    sign();
    wait_for(1);
    wait_for(0);
    sign();
    // One that is killed is replaced, and only the call that it had fails.
    let killed = workers();
    run("kill", &["-9", &killed[0].to_string()], b"").unwrap();
    wait_for(0);
    let again = || guest.text("sign", &json!({ "data": "\0b0" }), &[TEXT]);
    let _ = again();
    again().unwrap();
}

pub(crate) fn deadline() {
    let gpg = Gpg::new();
    let mut grant = everything(&gpg.key("a@example.com", "rsa4096", "rsa4096", ""));
    grant["time"] = json!("100ms");
    grant["limits"] = json!({ "max_request": "64mb", "max_result": "64mb" });
    let guest = Guest::new(&grant);
    let detached = json!({ "data": "\0b0", "form": "detached", "armor": false });
    guest.bytes("sign", &detached, &[TEXT]);
    // Signatures, each of which is a digest of everything: hours of work, if there were no limit of their number;
    // and one digest of much data by hundreds of signatures.
    let signature = guest.bytes("sign", &detached, &[TEXT]);
    let request = json!({ "data": "\0b0", "signature": "\0b1" });
    let error = guest.checked(
        "verify",
        &request,
        &[&vec![0; 60 << 20], &signature.repeat(64)],
    );
    let error = error.unwrap_err();
    assert_eq!(error.name, "TimeoutError", "{error}");
    guest.bytes("sign", &detached, &[TEXT]);
}

pub(crate) fn confined() {
    let gpg = Gpg::new();
    let grant = everything(&gpg.key("a@example.com", "ed25519", "cv25519", ""));
    let guest = Guest::new(&grant);
    guest.public_key();
    let ids = workers();
    assert_eq!(ids.len(), 1);
    let status = std::fs::read_to_string(format!("/proc/{}/status", ids[0])).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("CapEff:"), "0000000000000000");
    // Standard streams that lead nowhere, and the socket.
    if let Ok(open) = std::fs::read_dir(format!("/proc/{}/fd", ids[0])) {
        let mut open: Vec<String> = open
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        open.sort();
        assert_eq!(open, ["0", "1", "2", "3"]);
    }
    drop(guest);
    wait_for(0);
}
