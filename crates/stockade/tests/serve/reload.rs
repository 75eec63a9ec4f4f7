//! The configuration read again: by command, by signal, by itself.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::Method;
use rustix::process::Signal;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{get, run, send, websocket};
use crate::server::{PLAIN, Server, stockade, write};

/// Two sites that answer with a text and say which isolate they are.
fn sites(rest: &str) -> String {
    format!(
        "{PLAIN}instances:
  a: {{code: ./a.js, urls: [a.example]}}
  b: {{code: ./b.js, urls: [b.example]}}
{rest}"
    )
}

fn code(text: &str) -> String {
    format!(
        "const me = Math.random(); export default {{ async fetch(request) {{
           if (request.headers.get('upgrade')) {{
             const [client, server] = Object.values(new WebSocketPair());
             server.accept();
             server.addEventListener('message', ({{ data }}) => server.send(`{text} ${{data}}`));
             return new Response(null, {{ status: 101, webSocket: client }});
           }}
           if (new URL(request.url).pathname === '/slow') await new Promise(done => setTimeout(done, 1500));
           return Response.json({{ text: '{text}', me }});
         }} }};"
    )
}

fn start() -> Server {
    // Reloads are requested by command here.
    Server::start(
        &format!("watch: false\n{}", sites("")),
        &[("a.js", &code("a1")), ("b.js", &code("b1"))],
    )
}

async fn text(server: &Server, host: &str) -> String {
    let answer = server.get(host, "/").await;
    assert_eq!(
        answer.status,
        200,
        "{} {}",
        answer.text(),
        server.log_text()
    );
    answer.json()["text"].as_str().unwrap().to_owned()
}

async fn me(server: &Server, host: &str) -> String {
    server.get(host, "/").await.json()["me"].to_string()
}

#[test]
fn reload_changes_what_changed_and_nothing_else() {
    let server = start();
    run(async {
        let unchanged = me(&server, "b.example").await;
        assert_eq!(text(&server, "a.example").await, "a1");
        // A request and a WebSocket of the site that changes, and one of the other.
        let slow = send(server.address(), get("a.example", "/slow"));
        let slow = tokio::spawn(slow);
        let in_flight = "stockade_requests_in_flight{instance=\"a\"}";
        server.until(in_flight, |now| now >= 1.0).await;
        let mut socket = websocket(server.address(), "b.example").await;

        write(server.folder.path(), &[("a.js", &code("a2"))]);
        server.configure(&format!(
            "watch: false\n{}",
            sites("  c: {code: ./b.js, urls: [c.example]}\n")
        ));
        let reported = server.reloaded();
        assert_eq!(reported.trim(), "added: c; changed: a; unchanged: 1");
        assert_eq!(text(&server, "a.example").await, "a2");
        assert_eq!(text(&server, "c.example").await, "b1");
        assert_eq!(me(&server, "b.example").await, unchanged);
        // The old one answers what it was asked before.
        let old = slow.await.unwrap();
        assert_eq!((old.status, old.json()["text"].as_str()), (200, Some("a1")));
        socket.send(Message::text("on")).await.unwrap();
        let echoed = socket.next().await.unwrap().unwrap();
        assert_eq!(echoed, Message::text("b1 on"));

        server.configure(&format!(
            "watch: false\n{PLAIN}instances:\n  b: {{code: ./b.js, urls: [b.example]}}\n"
        ));
        let reported = server.reloaded();
        assert_eq!(reported.trim(), "removed: a, c; unchanged: 1");
        assert_eq!(server.get("a.example", "/").await.status, 404);
        assert_eq!(me(&server, "b.example").await, unchanged);
        // Series of sites that are gone go too.
        let metrics = server.status("/metrics").await.text();
        assert!(!metrics.contains("instance=\"a\""), "{metrics}");
    });
}

#[test]
fn reload_of_a_bad_file_keeps_the_old_and_says_so() {
    let server = start();
    let bad = [
        // Errors of the file itself.
        (
            "instances: {a: {code: ./a.js, urls: [a.example], memroy: 1}}\n",
            "memroy",
        ),
        // Code that is not there.
        (
            "instances: {a: {code: ./gone.js, urls: [a.example]}}\n",
            "gone.js",
        ),
        // Code that does not run.
        (
            "instances: {a: {code: ./broken.js, urls: [a.example]}}\n",
            "instance a",
        ),
        // No YAML at all.
        ("instances: [\n", "stockade.yaml"),
    ];
    write(
        server.folder.path(),
        &[("broken.js", "throw new Error('at the start')")],
    );
    run(async {
        let before = me(&server, "a.example").await;
        for (at, (config, part)) in bad.into_iter().enumerate() {
            server.configure(&format!("watch: false\n{PLAIN}{config}"));
            let output = server.reload();
            assert_eq!(output.status.code(), Some(1));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains(part), "{said}");
            assert!(said.contains("stays in use"), "{said}");
            assert_eq!(me(&server, "a.example").await, before);
            assert_eq!(text(&server, "b.example").await, "b1");
            let errors = "stockade_config_reload_total{result=\"error\"}";
            assert_eq!(server.metric(errors).await, (at + 1) as f64);
            assert_eq!(
                server
                    .metric("stockade_config_last_reload_successful")
                    .await,
                0.0
            );
        }
        let line = server.logged(|line| {
            line["message"]
                .as_str()
                .is_some_and(|text| text.contains("was not reloaded"))
        });
        assert_eq!(line["level"], "error");
        server.configure(&format!("watch: false\n{}", sites("")));
        assert_eq!(server.reloaded().trim(), "unchanged: 2");
        assert_eq!(
            server
                .metric("stockade_config_last_reload_successful")
                .await,
            1.0
        );
        // Two and no more: what was started for files that were refused is gone.
        server
            .until(
                "stockade_mirrors{instance=\"a\",state=\"ready\"}",
                |ready| ready == 1.0,
            )
            .await;
    });
}

#[test]
fn reload_moves_a_listener_and_connections_live_on() {
    let server = start();
    run(async {
        let mut socket = websocket(server.address(), "a.example").await;
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let moved = sites("").replace("127.0.0.1:0", &free.to_string());
        server.configure(&format!("watch: false\n{moved}"));
        server.reloaded();
        assert_eq!(send(free, get("a.example", "/")).await.status, 200);
        assert!(
            tokio::net::TcpStream::connect(server.address())
                .await
                .is_err()
        );
        socket.send(Message::text("on")).await.unwrap();
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::text("a1 on")
        );
        // An address that somebody else has.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let refused = sites("").replace("127.0.0.1:0", &address);
        server.configure(&format!("watch: false\n{refused}"));
        let output = server.reload();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(&address));
        assert_eq!(send(free, get("a.example", "/")).await.status, 200);
    });
}

#[test]
fn reload_comes_by_signal_and_by_itself() {
    let server = Server::start(&sites(""), &[("a.js", &code("a1")), ("b.js", &code("b1"))]);
    run(async {
        let until = async |host: &str, wanted: &str| {
            while text(&server, host).await != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // Code alone.
        write(server.folder.path(), &[("a.js", &code("a2"))]);
        until("a.example", "a2").await;
        // The configuration.
        write(server.folder.path(), &[("c.js", &code("c1"))]);
        server.configure(&sites("").replace("./b.js", "./c.js"));
        until("b.example", "c1").await;
        server.configure(&format!("watch: false\n{}", sites("")));
        until("b.example", "b1").await;
        server.configure(&format!(
            "watch: false\n{}",
            sites("").replace("./b.js", "./c.js")
        ));
        server.signal(Signal::HUP);
        until("b.example", "c1").await;
    });
}

#[test]
fn reload_many_times_leaves_nothing_behind() {
    let server = start();
    let resident = || {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", server.pid())).unwrap();
        let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
        pages * 4096
    };
    let descriptors = || {
        std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
            .unwrap()
            .count()
    };
    run(async {
        let reload = async |times: usize| {
            for round in 0..times {
                let variable = format!("  c: {{code: ./b.js, urls: [c{}.example]}}\n", round % 2);
                server.configure(&format!("watch: false\n{}", sites(&variable)));
                let control = server.path("stockade.sock");
                // Without a process for each.
                let client = stockade_serve::AdminClient::at_socket(&control);
                let reloading = client.json::<serde_json::Value>(Method::POST, "/v1/reload", None);
                assert!(reloading.await.is_ok());
            }
        };
        let settle = async || {
            let workers = server.processes().len();
            let mut stable = 0;
            while stable < 10 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                stable = if server.processes().len() <= workers.min(5) {
                    stable + 1
                } else {
                    0
                };
            }
        };
        reload(40).await;
        settle().await;
        let (memory, open) = (resident(), descriptors());
        reload(200).await;
        settle().await;
        let (memory_after, open_after) = (resident(), descriptors());
        assert!(
            memory_after < memory + (8 << 20),
            "{memory} bytes, after 200 reloads {memory_after}"
        );
        assert!(
            open_after <= open + 8,
            "{open} descriptors, then {open_after}"
        );
    });
}

#[test]
fn start_with_errors_names_them_all() {
    let folder = crate::server::folder(
        "listners: []\ninstances: {a: {code: ./gone.js, urls: [\"/*\"], memroy: 1}}\n",
        &[],
    );
    let path = folder.path().join("stockade.yaml");
    let output = stockade().arg("serve").arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for part in ["listners", "memroy", "gone.js", "did you mean listeners"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let check = stockade()
        .args(["check", "--json"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(check.status.code(), Some(2));
    let reported: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(reported["ok"], false);
    assert_eq!(reported["mistakes"][0]["line"], 5);
}

#[test]
fn second_server_of_the_same_configuration_is_refused() {
    let server = start();
    let path = server.path("stockade.yaml");
    let output = stockade().arg("serve").arg(path).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("another server"), "{said}");
    run(async { assert_eq!(text(&server, "a.example").await, "a1") });
}

#[test]
fn check_of_files_names_what_serve_would_refuse() {
    let config = format!(
        "{PLAIN}instances:
  a:
    code: ./site/main.js
    urls: [a.example]
  b:
    code: ./b.js
    urls: [b.example]
    secrets: {{KEY: {{file: ./key.txt, hosts: [api.example.com]}}}}
    data_guard: {{ca: [./ca.crt]}}
"
    );
    let files = [
        ("site/main.js", "import '../outside.js'; export default {};"),
        ("outside.js", ""),
        ("b.js", "export default { fetch() {} };"),
        ("key.txt", "two\nlines"),
        ("ca.crt", "no certificate"),
    ];
    let folder = crate::server::folder(&config, &files);
    let path = folder.path().join("stockade.yaml");
    let check = |files: &[&str]| {
        let output = stockade()
            .arg("check")
            .args(files)
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    // The file itself is in order.
    assert_eq!(check(&[]).0, Some(0));
    let (code, said) = check(&["--files"]);
    assert_eq!(code, Some(2));
    for part in [
        "instance a",
        "outside of the folder",
        "instance b",
        "ca.crt",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    write(folder.path(), &[("site/main.js", "export default {};")]);
    let config = config.replace("    data_guard: {ca: [./ca.crt]}\n", "");
    let text = std::fs::read_to_string(&path).unwrap();
    let head = text.split("listeners").next().unwrap();
    std::fs::write(&path, format!("{head}{config}")).unwrap();
    let (code, said) = check(&["--files"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("KEY") && !said.contains("lines"), "{said}");
    write(folder.path(), &[("key.txt", "one")]);
    assert_eq!(check(&["--files"]).0, Some(0));
}
