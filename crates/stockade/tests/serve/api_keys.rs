//! API keys: made by the command line, checked by the server, seen by sites, revoked while it runs.

use std::path::Path;
use std::process::{Command, Stdio};

use futures_util::StreamExt;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{get, run, send};
use crate::server::{PLAIN, Server, stockade};

const CODE: &str = "export default { async fetch(request) {
  if (request.headers.get('upgrade')) {
    const [client, server] = Object.values(new WebSocketPair());
    server.accept();
    return new Response(null, { status: 101, webSocket: client });
  }
  return Response.json({ key: request.cf.apiKey ?? null, url: request.url, headers: [...request.headers] });
} };";

fn keys(folder: &Path, arguments: &[&str], input: &str) -> (bool, String, String) {
    let mut child = command(folder, arguments);
    std::fs::write(folder.join("input"), input).unwrap();
    child.stdin(std::fs::File::open(folder.join("input")).unwrap());
    let output = child.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = stockade();
    command
        .arg("keys")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null());
    command
}

fn done(folder: &Path, arguments: &[&str]) -> String {
    let (success, out, error) = keys(folder, arguments, "");
    assert!(success, "{arguments:?}: {out}{error}");
    out.trim().to_owned()
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&done(folder, arguments)).unwrap()
}

#[test]
fn commands_work_in_an_empty_folder_and_print_a_key_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let key = done(
        folder,
        &["create", "ci", "--scope", "read", "--expires", "90d"],
    );
    assert!(key.starts_with("sk_stockade_") && key.len() == 61, "{key}");
    let list = json(folder, &["list", "--json"]);
    let id = list[0]["id"].as_str().unwrap();
    assert_eq!(list[0]["status"], "active");
    for arguments in [
        vec!["list"],
        vec!["show", id],
        vec!["export"],
        vec!["list", "--json"],
    ] {
        let out = done(folder, &arguments);
        assert!(out.contains(id) && !out.contains(&key[20..]), "{out}");
    }
    let verify = |key: &str| keys(folder, &["verify"], key);
    assert_eq!(
        verify(&format!("{key}\n")).1.trim(),
        format!("active: {id} (ci)")
    );
    let made = json(folder, &["rotate", id, "--overlap", "0s", "--json"]);
    let next = made["key"].as_str().unwrap();
    assert_eq!(
        verify(&key),
        (false, format!("expired: {id} (ci)\n"), String::new())
    );
    assert!(verify(next).0);
    let export = done(folder, &["export"]);
    std::fs::write(folder.join("keys.json"), export).unwrap();
    assert_eq!(done(folder, &["revoke", id]), format!("revoked {id} (ci)"));
    assert!(!verify(next).0);
    let (imported, _, error) = keys(folder, &["import", "keys.json"], "");
    assert!(!imported && error.contains("--replace"), "{error}");
    assert_eq!(
        done(folder, &["import", "keys.json", "--replace"]),
        "added 0, replaced 1"
    );
    // No hash of a damaged export is in a message.
    let text = std::fs::read_to_string(folder.join("keys.json")).unwrap();
    let damaged = text.replacen("\"keys\":[", "\"keys\":[\"hunter2\",", 1);
    std::fs::write(folder.join("damaged.json"), damaged).unwrap();
    let (imported, _, error) = keys(folder, &["import", "damaged.json"], "");
    assert!(
        !imported && error.contains("damaged.json: invalid type: string, expected"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
    // A revocation is final.
    assert!(!verify(next).0);
    let store = ["import", "keys.json", "--store", "other.db"];
    assert_eq!(done(folder, &store), "added 1, replaced 0");
    for (arguments, message) in [
        (vec!["create", "a", "--scope", "READ"], "is not a scope"),
        (
            vec!["create", "a", "--metadata", "[]"],
            "expected a JSON object",
        ),
        (vec!["create", ""], "the name is empty"),
        (vec!["show", "key_00000000000"], "there is no key"),
        (vec!["revoke", "x"], "expected the id of a key"),
        (vec!["list", "--pepper", "keys.json"], "another pepper"),
    ] {
        let (success, _, error) = keys(folder, &arguments, "");
        assert!(
            !success && error.contains(message),
            "{arguments:?}: {error}"
        );
    }
    let (made, _, said) = keys(folder, &["create", "nowhere"], "");
    assert!(made && said.contains("has no scope"), "{said}");
}

#[test]
fn site_sees_who_calls_and_a_revocation_holds_when_the_command_returns() {
    let config = format!(
        "{PLAIN}instances:\n  site:\n    code: ./main.js\n    urls: [\"/*\"]\n    \
         auth: {{api_key: {{header: x-api-key, query: api_key}}, open: [/health]}}\n"
    );
    let server = Server::start(&config, &[("main.js", CODE)]);
    let folder = server.folder.path();
    let metadata = r#"{"plan":"pro"}"#;
    let made = json(
        folder,
        &[
            "create",
            "ci",
            "--scope",
            "site/write",
            "--metadata",
            metadata,
            "--json",
        ],
    );
    let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    run(async {
        let address = server.addresses[0];
        let with_key = || {
            let mut request = get("a.example", "/a");
            request
                .headers_mut()
                .insert("x-api-key", key.parse().unwrap());
            request
        };
        let refused = send(address, get("a.example", "/a")).await;
        assert_eq!(
            (refused.status, refused.header("www-authenticate")),
            (401, "ApiKey realm=\"site\"")
        );
        assert_eq!(send(address, get("a.example", "/health")).await.status, 200);
        let query = format!("/a?x=1&api_key={key}");
        for request in [with_key(), get("a.example", &query)] {
            let answer = send(address, request).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(!answer.text().contains(&key[12..]), "{}", answer.text());
            let seen = answer.json()["key"].clone();
            let expected = serde_json::json!({
                "id": id, "name": "ci", "scopes": ["site/write"], "metadata": {"plan": "pro"},
            });
            assert_eq!(seen, expected);
        }
        let stream = TcpStream::connect(address).await.unwrap();
        let url = format!("ws://a.example/?api_key={key}");
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        done(folder, &["revoke", id]);
        assert_eq!(send(address, with_key()).await.status, 401);
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(Some(frame)))) => {
                    break assert_eq!(u16::from(frame.code), 1008);
                }
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    });
    server.logged(|line| line["api_key"] == id && line["status"] == 101);
    let log = server.log_text();
    assert!(!log.contains(&key[12..]), "{log}");
}

#[test]
fn quota_of_a_key_and_of_an_address_goes_on_after_a_restart() {
    let config = format!(
        "{PLAIN}rate_limits: [{{by: address, requests: 7/month}}]\ninstances:\n  site:\n    code: ./main.js\n    \
         urls: [\"/*\"]\n    auth: true\n"
    );
    let mut server = Server::start(&config, &[("main.js", CODE)]);
    let folder = server.folder.path().to_owned();
    let create = [
        "create", "trial", "--scope", "read", "--quota", "4/month", "--rate", "1000/s",
    ];
    let trial = done(&folder, &create);
    let free = done(&folder, &["create", "free", "--scope", "read"]);
    let list = json(&folder, &["list", "--json"]);
    let mut list = list.as_array().unwrap().iter();
    let of_trial = list.find(|key| key["name"] == "trial").unwrap();
    let shown = done(&folder, &["show", of_trial["id"].as_str().unwrap()]);
    assert!(
        shown.contains("limits    rate 1000/s, quota 4/month"),
        "{shown}"
    );
    let (success, _, error) = keys(&folder, &["create", "a", "--quota", "4/s"], "");
    assert!(!success && error.contains("10000/day"), "{error}");
    let status = |server: &Server, key: &str| {
        let mut request = get("a", "/");
        let bearer = format!("Bearer {key}").parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        let answer = run(send(server.address(), request));
        (answer.status, answer.headers.contains_key("retry-after"))
    };
    for _ in 0..3 {
        assert_eq!(status(&server, &trial), (200, false));
    }
    // What was counted is written when the server ends.
    server.signal(rustix::process::Signal::TERM);
    server.ended();
    let server = server.again();
    assert_eq!(status(&server, &trial), (200, false));
    assert_eq!(status(&server, &trial), (429, true));
    // The refused one took nothing from the other quota, of which three are left.
    for _ in 0..3 {
        assert_eq!(status(&server, &free).0, 200);
    }
    assert_eq!(status(&server, &free).0, 429);
}
