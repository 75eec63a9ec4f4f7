//! The audit log of a server, as an operator reads it.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::client::run;
use crate::server::{PLAIN, Server, stockade};

const SITE: &str = "export default { async fetch(request) {
  const { pathname } = new URL(request.url);
  if (pathname === '/out') await fetch('http://elsewhere.example/secret-path').catch(() => {});
  if (pathname === '/spin') for (;;);
  if (pathname === '/flood') {
    for (let i = 0; i < 500; i++) await fetch(`http://${i}.example/`).catch(() => {});
  }
  return new Response('ok');
} };";

fn config(more: &str) -> String {
    format!(
        "{PLAIN}audit: {{folder: ./audit}}\ninstances:\n  site: {{code: ./site/main.ts, urls: [\"/*\"], \
         limits: {{cpu: 200ms}}{more}}}\n"
    )
}

fn audit(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = stockade();
    command.current_dir(folder).arg("audit").args(arguments);
    command.output().unwrap()
}

/// The lines of an event that the log has.
fn found(folder: &Path, event: &str) -> Vec<Value> {
    let output = audit(folder, &["search", "--json", "--event", event]);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn audit_log_has_what_was_refused_ended_and_changed_and_an_edit_is_found() {
    let mut server = Server::start(&config(""), &[("site/main.ts", SITE)]);
    run(async {
        server.get("a", "/out").await;
        server.get("a", "/spin").await;
    });
    server.configure(&config(", mirrors: 2"));
    server.reloaded();
    server.configure("instances: 5\n");
    assert!(!server.reload().status.success());
    server.signal(rustix::process::Signal::TERM);
    assert!(server.ended().success());
    // Commands read it to find the log.
    server.configure(&config(""));

    let folder = server.folder.path();
    let refused = found(folder, "egress_refused");
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0]["instance"], "site");
    assert_eq!(refused[0]["target"], "http://elsewhere.example:80");
    let ended = found(folder, "mirror_ended");
    // The request is repeated on another mirror, which it ends as well.
    assert!(!ended.is_empty());
    for end in &ended {
        assert_eq!(end["reason"], "cpu_limit_exceeded");
    }
    for event in [
        "server_started",
        "configuration_applied",
        "configuration_refused",
        "server_stopped",
    ] {
        assert_eq!(found(folder, event).len(), 1, "{event}");
    }
    let all = audit(folder, &["tail", "-n", "100"]);
    let all = String::from_utf8(all.stdout).unwrap();
    assert!(!all.contains("secret-path"), "{all}");

    // The configuration says where it is, wherever the command is typed.
    let elsewhere = tempfile::tempdir().unwrap();
    let config = server.path("stockade.yaml");
    let by_config = |arguments: &[&str]| {
        let config = ["--config", config.to_str().unwrap()];
        audit(elsewhere.path(), &[arguments, &config].concat())
    };
    for arguments in [&["verify"][..], &["tail"]] {
        assert!(by_config(arguments).status.success(), "{arguments:?}");
    }
    let found = by_config(&["search", "--json", "--event", "egress_refused"]);
    assert_eq!(
        found.stdout.iter().filter(|byte| **byte == b'\n').count(),
        1
    );
    let both = by_config(&["verify", "./audit"]);
    assert_eq!(both.status.code(), Some(2), "{both:?}");

    // It is whole, and nobody can make it say something else.
    let verified = audit(folder, &["verify"]);
    let text = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(
        verified.status.success() && text.contains("whole"),
        "{text}"
    );
    let file = folder.join("audit/audit-000000000001.jsonl");
    let lines = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, lines.replace("elsewhere.example", "allowed.example")).unwrap();
    let verified = audit(folder, &["verify", "--json"]);
    assert_eq!(verified.status.code(), Some(1));
    let answer: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(answer["ok"], false);
}

#[test]
fn guest_that_floods_the_audit_log_is_cut_short_and_the_rest_counted() {
    let mut server = Server::start(&config(""), &[("site/main.ts", SITE)]);
    run(async {
        server.get("a", "/flood").await;
        // Once a second is over, the next record gives the count.
        loop {
            server.get("a", "/out").await;
            let lines = found(server.folder.path(), "egress_refused");
            if lines
                .iter()
                .any(|line| line["left_out_before"].as_u64().is_some())
            {
                break;
            }
        }
    });
    server.signal(rustix::process::Signal::TERM);
    server.ended();
    let lines = found(server.folder.path(), "egress_refused");
    assert!(lines.len() < 400, "{}", lines.len());
    assert!(audit(server.folder.path(), &["verify"]).status.success());
}

#[test]
fn audit_log_that_was_cut_keeps_the_server_from_starting() {
    let mut server = Server::start(&config(""), &[("site/main.ts", SITE)]);
    server.signal(rustix::process::Signal::TERM);
    server.ended();
    let file = server.path("audit/audit-000000000001.jsonl");
    std::fs::write(&file, "").unwrap();
    let mut command = stockade();
    let output = command
        .args(["serve"])
        .arg(server.path("stockade.yaml"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("lines were cut off its end"), "{text}");
    assert!(text.contains("fix: move its folder away"), "{text}");
}

#[test]
fn keys_and_refused_clients_are_in_the_audit_log_and_a_flood_is_counted() {
    let mut server = Server::start(&config(", auth: true"), &[("site/main.ts", SITE)]);
    let folder = server.folder.path().to_owned();
    let keys = |arguments: &[&str]| {
        let mut command = stockade();
        let output = command
            .current_dir(&folder)
            .arg("keys")
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    // The record is on the disk when the command returns.
    let made: Value =
        serde_json::from_str(&keys(&["create", "ci", "--scope", "read", "--json"])).unwrap();
    let id = made["id"].as_str().unwrap();
    let recorded = found(&folder, "api_key");
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    assert_eq!(
        (&recorded[0]["action"], &recorded[0]["key"]),
        (&"created".into(), &id.into())
    );
    keys(&["rotate", id]);
    keys(&["revoke", id]);
    let actions = found(&folder, "api_key");
    let actions: Vec<_> = actions
        .iter()
        .map(|line| line["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["created", "rotated", "revoked"]);
    run(async {
        for _ in 0..50 {
            assert_eq!(server.get("a", "/").await.status, 401);
        }
        // Once a second is over, the next record gives the count.
        loop {
            server.get("a", "/").await;
            let lines = found(&folder, "client_refused");
            assert_eq!(
                (&lines[0]["reason"], &lines[0]["instance"]),
                (&"api_key".into(), &"site".into())
            );
            if lines
                .iter()
                .any(|line| line["left_out_before"].as_u64().is_some())
            {
                break;
            }
        }
    });
    server.signal(rustix::process::Signal::TERM);
    server.ended();
    assert!(audit(&folder, &["verify"]).status.success());
    let text = std::fs::read_to_string(folder.join("audit/audit-000000000001.jsonl")).unwrap();
    assert!(!text.contains("sk_stockade"), "{text}");
}
