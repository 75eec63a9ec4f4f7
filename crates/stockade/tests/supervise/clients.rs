//! Hostile clients. The control in each case is another client, which is served.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::Command;

use serde_json::{Value, json};

use super::{Client, Server};

/// The other client, which must be served at any time.
fn is_served(server: &Server) {
    let mut client = server.client();
    let sandbox = client.open(json!({ "pool": 0 }));
    assert_eq!(client.run(&sandbox, "1 + 1")["result"], 2);
}

fn kind(answer: &Value) -> &str {
    answer["error"]["data"]["kind"].as_str().unwrap_or_default()
}

#[test]
fn client_with_a_line_without_end_is_refused_and_closed() {
    let server = Server::start();
    let mut client = server.client();
    let block = vec![b'x'; 1 << 20];
    // The server may close before all of it is written.
    for _ in 0..20 {
        if client.stream.write_all(&block).is_err() {
            break;
        }
    }
    is_served(&server);
    // After the answer, or with the rest of the line lost, there is the end.
    while let Some(answer) = client.receive() {
        assert_eq!(kind(&answer), "too_large");
    }
}

#[test]
fn client_that_writes_no_messages_is_informed_and_goes_on() {
    let server = Server::start();
    let mut client = server.client();
    for (line, expected) in [
        ("{\"jsonrpc\":\"2.0\",", "parse"),
        ("", "parse"),
        ("[]", "invalid_request"),
        ("null", "invalid_request"),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"nothing"}"#,
            "unknown_method",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"open","params":[]}"#,
            "invalid_params",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"open","params":{"memroy":"1gb"}}"#,
            "invalid_params",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"run","params":{"sandbox":"s9","code":"1"}}"#,
            "no_such_sandbox",
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"run","params":{"sandbox":"s9"}}"#,
            "invalid_params",
        ),
    ] {
        client.write(line);
        let answer = client.receive().unwrap();
        assert_eq!(kind(&answer), expected, "{line}: {answer}");
        assert!(answer["error"]["data"]["fix"].is_string());
    }
    // Answers to nothing, notifications and deep JSON have no answer, or one.
    client.write(r#"{"jsonrpc":"2.0","id":999,"result":1}"#);
    client.write(r#"{"jsonrpc":"2.0","method":"nothing"}"#);
    client.write(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
    assert!(["parse", "invalid_request"].contains(&kind(&client.receive().unwrap())));
    let sandbox = client.open(json!({}));
    assert_eq!(client.run(&sandbox, "3")["result"], 3);
}

#[test]
fn client_that_is_not_utf8_is_refused_and_closed() {
    let server = Server::start();
    let mut client = server.client();
    client.stream.write_all(b"\xff\xfe\n").unwrap();
    assert_eq!(kind(&client.receive().unwrap()), "parse");
    assert!(client.receive().is_none());
    is_served(&server);
}

#[test]
fn client_that_opens_ten_thousand_sandboxes_gets_some() {
    let server = Server::start();
    let mut client = server.client();
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..10_000 {
        let answer = client.call("open", json!({ "pool": 0 }));
        match kind(&answer) {
            "" => opened += 1,
            kind => {
                assert_eq!(
                    (kind, &answer["error"]["data"]["limit"]),
                    ("too_many", &json!(256))
                );
                refused += 1;
            }
        }
    }
    assert_eq!((opened, refused), (256, 10_000 - 256));
    is_served(&server);
    assert_eq!(
        client.call("close", json!({ "sandbox": "s1" }))["result"]["closed"],
        true
    );
    assert_eq!(
        kind(&client.call("open", json!({ "pool": 33 }))),
        "invalid_params"
    );
    assert_eq!(kind(&client.call("open", json!({ "pool": 0 }))), "");
}

#[test]
fn client_that_does_not_read_stalls_itself_alone() {
    let server = Server::start();
    let mut client = server.client();
    let sandbox = client.open(json!({ "output": "16mb", "timeout": "1s" }));
    let code = "for (;;) console.log('x'.repeat(10_000))";
    let params = json!({ "sandbox": sandbox, "code": code, "stream": true });
    let id = client.send("run", params);
    is_served(&server);
    // Once it reads, everything comes, in order, with the outcome at its end.
    let outcome = client.answer_with(id, |_| Err(String::new()));
    let kind = outcome["result"]["error"]["kind"].as_str().unwrap();
    assert!(["timeout", "cpu_limit_exceeded"].contains(&kind), "{kind}");
}

#[test]
fn client_that_goes_takes_its_isolates_along() {
    let server = Server::start();
    let mut client = server.client();
    let sandbox = client.open(json!({ "tools": { "t": {} }, "timeout": 0 }));
    for _ in 0..5 {
        client.send(
            "run",
            json!({ "sandbox": sandbox, "code": "await tools.t()" }),
        );
        assert_eq!(client.receive().unwrap()["method"], "tool");
    }
    let workers = || {
        // Children of the launcher, which is a child of the supervisor.
        let parents: Vec<(u32, u32)> = (std::fs::read_dir("/proc").unwrap())
            .filter_map(|entry| {
                let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
                Some((pid, parent))
            })
            .collect();
        let children = |of: u32| {
            (parents.iter())
                .filter(move |(_, parent)| *parent == of)
                .map(|(pid, _)| *pid)
        };
        children(server.id()).flat_map(children).count()
    };
    let before = workers();
    client.stream.shutdown(Shutdown::Both).unwrap();
    drop(client);
    // It is over when the supervisor no longer counts the client; this one is counted.
    while server.clients() > 1 {
        std::thread::yield_now();
    }
    if cfg!(target_os = "linux") {
        assert!(before >= 5, "{before}");
        while workers() > before - 5 {
            std::thread::yield_now();
        }
    }
    is_served(&server);
}

#[test]
fn runs_and_names_are_bounded() {
    let server = Server::start();
    let mut client = server.client();
    let sandbox = client.open(json!({ "tools": { "t": {} }, "session": true, "timeout": 0 }));
    let mut refused = None;
    for _ in 0..257 {
        // Those of a session wait for the first.
        client.send(
            "run",
            json!({ "sandbox": sandbox, "code": "await tools.t()" }),
        );
    }
    for _ in 0..2 {
        let message = client.receive().unwrap();
        if message.get("method").is_none() {
            refused = Some(message);
        }
    }
    let refused = refused.unwrap();
    assert_eq!(
        (kind(&refused), &refused["error"]["data"]["limit"]),
        ("too_many", &json!(256))
    );
    let long = client.call(
        "run",
        json!({ "sandbox": sandbox, "code": "1", "run": "x".repeat(65) }),
    );
    assert_eq!(kind(&long), "invalid_params");
}

/// Set in the process that is another client: the path of the socket.
const OTHER_PROCESS: &str = "STOCKADE_TEST_SOCKET";

/// No test by itself: what another process does for the test that starts it.
#[test]
fn client_in_another_process() {
    let Some(path) = std::env::var_os(OTHER_PROCESS) else {
        return;
    };
    let mut client = Client::connect(path.as_ref());
    let sandbox = client.open(json!({ "pool": 1 }));
    assert_eq!(client.run(&sandbox, "1 + 1")["result"], 2);
    println!("was served");
}

fn is_served_in_another_process(server: &Server) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "clients::client_in_another_process",
            "--nocapture",
        ])
        .env(OTHER_PROCESS, server.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("was served"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn process_with_many_connections_leaves_some_to_others() {
    let server = Server::start();
    let mut open: Vec<Client> = (0..64).map(|_| server.client()).collect();
    for client in &mut open {
        assert_eq!(kind(&client.call("initialize", json!({}))), "");
    }
    let mut refused = server.client();
    let answer = refused.receive().unwrap();
    assert_eq!(
        (kind(&answer), &answer["error"]["data"]["limit"]),
        ("too_many", &json!(64))
    );
    assert!(refused.receive().is_none());
    is_served_in_another_process(&server);
    // The place of one that goes is free for the next.
    open.pop();
    loop {
        let mut next = server.client();
        // One that is refused may be closed before it is written to.
        let asked = next
            .stream
            .write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\"}\n");
        match next.receive() {
            Some(answer) if asked.is_ok() && answer["id"] == 1 => break,
            _ => std::thread::yield_now(),
        }
    }
}

#[test]
fn process_with_many_sandboxes_leaves_some_to_others() {
    let server = Server::start();
    // More than one connection may have, and as many as one process may.
    let mut clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
    let mut last = Value::Null;
    let mut opened = 0;
    for client in &mut clients {
        for _ in 0..256 {
            last = client.call("open", json!({ "pool": 0 }));
            opened += usize::from(kind(&last).is_empty());
        }
    }
    assert_eq!(
        (opened, kind(&last), &last["error"]["data"]["limit"]),
        (512, "too_many", &json!(512))
    );
    is_served_in_another_process(&server);
}

#[test]
fn process_with_many_runs_leaves_some_to_others() {
    let server = Server::start();
    let mut clients: Vec<Client> = (0..2).map(|_| server.client()).collect();
    for client in &mut clients {
        // Runs of a session wait for the first, which waits for its tool.
        let sandbox =
            client.open(json!({ "session": true, "pool": 0, "tools": { "t": {} }, "timeout": 0 }));
        for _ in 0..200 {
            client.send(
                "run",
                json!({ "sandbox": sandbox, "code": "await tools.t()" }),
            );
        }
    }
    let refused = loop {
        let message = clients[1].receive().unwrap();
        if message.get("method").is_none() {
            break message;
        }
    };
    assert_eq!(
        (kind(&refused), &refused["error"]["data"]["limit"]),
        ("too_many", &json!(256))
    );
    is_served_in_another_process(&server);
}

#[test]
fn process_with_many_unfinished_lines_leaves_room_to_others() {
    let server = Server::start();
    let (refusals, refused) = std::sync::mpsc::channel();
    // Five times 15 MiB are more than a quarter of 256 MiB.
    for _ in 0..5 {
        let (mut client, refusals) = (server.client(), refusals.clone());
        std::thread::spawn(move || {
            // The server may close before all of it is written.
            let _ = client.stream.write_all(&vec![b'x'; 15 << 20]);
            if let Some(answer) = client.receive() {
                let _ = refusals.send(answer);
            }
        });
    }
    let refused = refused.recv().unwrap();
    assert_eq!(
        (kind(&refused), &refused["error"]["data"]["limit"]),
        ("too_many", &json!(64 << 20))
    );
    is_served_in_another_process(&server);
}

#[test]
fn second_supervisor_at_a_path_is_refused_and_a_signal_ends_the_first() {
    let server = Server::start();
    let second = Command::new(env!("CARGO_BIN_EXE_stockade"))
        .args(["supervise", "--socket"])
        .arg(server.path())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        text.contains("listens on") && text.contains("fix:"),
        "{text}"
    );
    is_served(&server);
    let mut client: Client = server.client();
    let path = server.path().clone();
    server.terminate();
    let mut rest = Vec::new();
    assert_eq!(client.reader.read_to_end(&mut rest).unwrap_or(0), 0);
    assert!(!path.exists());
}
