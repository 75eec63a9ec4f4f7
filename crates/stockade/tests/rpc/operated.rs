//! What an operator has of a server: limits of CPU time by key, and an audit log.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use stockade_audit::{Lines, PublicKey, verify};

use crate::client::call;
use crate::keys::{KeyStore, none};

#[test]
fn key_that_used_its_cpu_time_is_refused_and_other_keys_go_on() {
    let mut keys = KeyStore::new();
    let [busy, other] = [1; 2].map(|_| keys.key(&["write"], none()));
    // A burst of 40 ms, and then 40 ms an hour.
    let keyed = keys.serve(&["--cpu-rate", "40ms/h", "--cpu-limit", "10s"]);
    let burn = |millions| call(1, "burn", json!([millions]));
    let answer = keyed.ask_with(&busy.key, &burn(400));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let policy = answer.header("ratelimit-policy").unwrap();
    for part in ["\"key-cpu\"", "qu=\"cpu-milliseconds\"", "q=40", "w=3600"] {
        assert!(policy.contains(part), "{policy}");
    }
    // What it computed is charged with its answer.
    let answer = keyed.ask_with(&busy.key, &call(2, "add", json!([1, 2])));
    assert_eq!(answer.status, 429, "{}", answer.body);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(wait > 60, "{wait}");
    assert!(answer.body.contains("key-cpu"), "{}", answer.body);
    for _ in 0..5 {
        let answer = keyed.ask_with(&other.key, &call(3, "add", json!([1, 2])));
        assert_eq!(answer.json()["result"], 3);
    }
}

#[test]
fn call_whose_client_has_left_is_charged_to_its_key() {
    let mut keys = KeyStore::new();
    let busy = keys.key(&["write"], none());
    let keyed = keys.serve(&["--cpu-rate", "1300ms/h", "--cpu-limit", "60s"]);
    for id in [1, 2] {
        keyed.ask_and_leave(&busy.key, &call(id, "burn", json!([1000])));
    }
    // No function of the guest has this name, so that only what is counted decides.
    let asked = call(3, "rpc.none", json!([]));
    let begun = Instant::now();
    while keyed.ask_with(&busy.key, &asked).status != 429 {
        assert!(begun.elapsed() < Duration::from_secs(60), "not charged");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn amounts_of_cpu_time_are_read_as_in_a_configuration() {
    for (amount, works) in [
        ("30s/m", true),
        ("2h/day", true),
        ("1us/s", false),
        ("5/s", false),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_stockade"));
        // The keys are missing, which is found later than a wrong amount.
        command.args(["rpc", "none.ts", "--keys", "none.db", "--cpu-rate", amount]);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            !text.contains("expected a CPU time"),
            works,
            "{amount}: {text}"
        );
    }
}

#[test]
fn audit_log_has_refusals_ends_start_and_stop_and_is_whole() {
    let mut keys = KeyStore::new();
    let reader = keys.key(&["read"], none());
    let writer = keys.key(&["write"], none());
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit");
    let audit = [
        "--audit",
        log.to_str().unwrap(),
        "--rate",
        "5/h",
        "--cpu-limit",
        "200ms",
    ];
    let mut keyed = keys.serve(&audit);
    let add = call(1, "add", json!([2, 3]));
    // Refused: without a key, many times; without the scope; beyond the rate.
    for _ in 0..50 {
        assert_eq!(keyed.ask("", &add).status, 401);
    }
    assert_eq!(keyed.ask_with(&reader.key, &add).status, 403);
    let reach = call(
        2,
        "reach",
        json!(["http://elsewhere.example:81/secret-path"]),
    );
    assert_eq!(
        keyed.ask_with(&writer.key, &reach).json()["result"],
        "refused"
    );
    let spin = keyed.ask_with(&writer.key, &call(3, "spin", json!([])));
    assert!(spin.json()["error"].is_object(), "{}", spin.body);
    for _ in 0..3 {
        // Of the next isolate.
        assert_eq!(keyed.ask_with(&writer.key, &add).json()["result"], 5);
    }
    assert_eq!(keyed.ask_with(&writer.key, &add).status, 429);
    keyed.server.signal(Signal::SIGTERM);
    keyed.server.code();

    let lines = lines_of(&log);
    let of = |event: &str| -> Vec<&Value> {
        lines.iter().filter(|line| line["event"] == event).collect()
    };
    for event in [
        "server_started",
        "server_stopped",
        "isolate_ended",
        "egress_refused",
    ] {
        assert_eq!(of(event).len(), 1, "{event}: {lines:#?}");
    }
    assert_eq!(of("isolate_ended")[0]["reason"], "cpu_limit_exceeded");
    assert_eq!(of("egress_refused")[0]["target"], "elsewhere.example:81");
    let refused = of("client_refused");
    let reasons = |reason: &str| {
        refused
            .iter()
            .filter(|line| line["reason"] == reason)
            .count()
    };
    assert_eq!(
        (reasons("scope"), reasons("rate_limit")),
        (1, 1),
        "{refused:#?}"
    );
    // A flood is one record a second.
    assert!((1..20).contains(&reasons("api_key")), "{refused:#?}");
    let by_scope = refused
        .iter()
        .find(|line| line["reason"] == "scope")
        .unwrap();
    assert_eq!(
        (&by_scope["key"], &by_scope["function"], &by_scope["client"]),
        (
            &json!(reader.record.id.to_string()),
            &json!("add"),
            &json!("127.0.0.1")
        )
    );
    let text = serde_json::to_string(&lines).unwrap();
    assert!(
        !text.contains("secret-path") && !text.contains(writer.key.reveal()),
        "{text}"
    );
    let key = PublicKey::open(&log.join("key.pub")).unwrap();
    assert!(verify(&log, &key).unwrap().last >= lines.len() as u64);
}

#[test]
fn host_that_was_refused_just_before_the_end_is_on_record_before_the_stop() {
    let mut keys = KeyStore::new();
    let key = keys.key(&["write"], none());
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit");
    let path = log.to_str().unwrap();
    let mut keyed = keys.serve(&["--audit", path, "--once", "--cpu-limit", "200ms"]);
    let reach = call(1, "reach", json!(["http://elsewhere.example/"]));
    let calls = json!([reach, call(2, "spin", json!([]))]);
    assert_eq!(
        keyed.ask_with(&key.key, &calls).json()[0]["result"],
        "refused"
    );
    keyed.server.code();
    let lines = lines_of(&log);
    let place = |event: &str| lines.iter().position(|line| line["event"] == event);
    let (refused, stopped) = (place("egress_refused"), place("server_stopped"));
    assert!(refused.is_some() && refused < stopped, "{lines:#?}");
}

fn lines_of(log: &std::path::Path) -> Vec<Value> {
    let mut lines = Lines::of(log);
    let mut found = Vec::new();
    while let Some(line) = lines.next_line().unwrap() {
        found.push(Value::Object(line.fields));
    }
    found
}
