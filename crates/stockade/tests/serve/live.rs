//! What an operator sees of a running server: `status`, `top` and `logs`, and the routes of the admin API behind them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::Value;
use stockade_serve::{AdminClient, AskError};

use crate::client::run;
use crate::server::{PATIENCE, Server, stockade};

const SITE: &str = "export default { async fetch(request) {
  const { pathname } = new URL(request.url);
  if (pathname === '/log') console.log('said\\u001b[2J\\r\\u202e one\\n12:00:00.000 ERROR forged');
  if (pathname === '/flood') for (let i = 0; i < 150; i++) console.log('x'.repeat(4000));
  if (pathname === '/spin') for (;;);
  return new Response('ok', { status: pathname === '/bad' ? 500 : 200 });
} };";

fn start() -> Server {
    Server::site(SITE, "    limits: {cpu: 200ms}\n")
}

/// A command about this server.
fn about(server: &Server, arguments: &[&str]) -> Command {
    let mut command = stockade();
    command.args(arguments).current_dir(server.folder.path());
    command.stdin(Stdio::null());
    command
}

fn output(server: &Server, arguments: &[&str]) -> String {
    let output = about(server, arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn ask(server: &Server, path: &str) -> Value {
    let client = AdminClient::at_socket(&server.path("stockade.sock"));
    client.json(Method::GET, path, None).await.unwrap()
}

/// Ends a command with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines that a command prints while it runs.
fn running(mut command: Command) -> (Running, impl Iterator<Item = String>) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (Running(child), lines.map_while(Result::ok))
}

#[test]
fn logs_shows_the_last_lines_and_follows() {
    let server = start();
    run(async {
        for path in ["/one", "/log", "/bad"] {
            server.get("a", path).await;
        }
    });
    server.logged(|line| line["path"] == "/bad");
    // Elsewhere than on a terminal, each line is JSON, as in the log.
    let json = output(&server, &["logs", "site"]);
    let lines: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let paths: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["path"].as_str())
        .collect();
    assert_eq!(paths, ["/one", "/log", "/bad"]);
    assert!(
        lines.iter().all(|line| line["instance"] == "site"),
        "{json}"
    );
    let last = output(&server, &["logs", "site", "-n", "1"]);
    assert_eq!(last.lines().count(), 1, "{last}");
    assert!(last.contains("/bad"), "{last}");
    // A warning says that there is no such instance.
    let other = about(&server, &["logs", "other"]).output().unwrap();
    assert!(
        other.status.success() && other.stdout.is_empty(),
        "{other:?}"
    );
    let warning = "warning: there is no instance \"other\"";
    let said = String::from_utf8(other.stderr).unwrap();
    assert!(said.contains(warning), "{said}");
    let serious = output(&server, &["logs", "--level", "error"]);
    assert!(!serious.contains("\"info\""), "{serious}");

    let (follower, mut lines) = running(about(&server, &["logs", "-f", "-n", "0", "site"]));
    // A line that comes while it connects may be the last of another request.
    run(async {
        let client = AdminClient::at_socket(&server.path("stockade.sock"));
        let path = "/v1/logs?follow=false";
        client.send(Method::GET, path, None).await.unwrap();
        let (sender, mut found) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let line = lines.find(|line| line.contains("/later"));
            let _ = sender.send(line);
        });
        loop {
            server.get("a", "/later").await;
            tokio::select! {
                line = found.recv() => {
                    assert!(line.unwrap().is_some());
                    break;
                }
                () = tokio::task::yield_now() => {}
            }
        }
    });
    drop(follower);
}

/// Runs a command on a terminal of 80 columns and 24 rows, types these keys, and gives what it shows.
fn on_a_terminal(server: &Server, command: &str, keys: &str, until: &str) -> String {
    let program = env!("CARGO_BIN_EXE_stockade");
    let mut child = Command::new("script")
        .args(["--quiet", "--flush", "--return", "--command"])
        .arg(format!("stty cols 80 rows 24; exec {program} {command}"))
        .arg("/dev/null")
        .current_dir(server.folder.path())
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut child = Running(child);
    let mut shown = Vec::new();
    let mut typed = false;
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 4096];
    loop {
        let read = out.read(&mut buffer).unwrap();
        shown.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&shown);
        if read == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{text:?}");
        if !typed && text.contains(until) {
            typed = true;
            let input = child.0.stdin.as_mut().unwrap();
            input.write_all(keys.as_bytes()).unwrap();
        }
    }
    let status = child.0.wait().unwrap();
    let text = String::from_utf8_lossy(&shown).into_owned();
    assert!(status.success(), "{text}");
    text
}

#[test]
fn logs_on_a_terminal_are_for_people_and_guests_do_not_control_it() {
    let server = start();
    run(async {
        server.get("a", "/log").await;
    });
    server.logged(|line| line["path"] == "/log");
    let shown = on_a_terminal(&server, "logs site", "", "\0");
    // What the program itself writes are colours, and nothing else.
    let colours = regex::Regex::new("\u{1b}\\[[0-9;]*m").unwrap();
    let text = colours.replace_all(&shown, "");
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    assert!(
        text.contains("INFO  said\\u{1b}[2J\\u{d}\\u{202e} one instance=site"),
        "{text}"
    );
    assert!(text.contains("\n    12:00:00.000 ERROR forged"), "{text}");
    assert!(text.contains("GET   /log 200 "), "{text}");
}

#[test]
fn status_shows_the_server_and_its_instances() {
    let server = start();
    run(async {
        for _ in 0..5 {
            server.get("a", "/one").await;
        }
        server.get("a", "/bad").await;
        // The history counts each request once.
        let sum = |history: &Value, key: &str| -> u64 {
            let samples = history["instances"]["site"].as_array();
            let counts = samples
                .into_iter()
                .flatten()
                .map(|one| one[key].as_u64().unwrap());
            counts.sum()
        };
        for resolution in [1, 10] {
            let path = format!("/v1/metrics/history?resolution={resolution}");
            let deadline = Instant::now() + PATIENCE;
            loop {
                let history = ask(&server, &path).await;
                assert_eq!(history["resolution_seconds"], resolution);
                if sum(&history, "requests") == 6 {
                    assert_eq!(sum(&history, "errors"), 1);
                    let samples = history["instances"]["site"].as_array().unwrap();
                    assert!(samples.iter().any(|one| one["p99_ms"].as_f64() > Some(0.0)));
                    break;
                }
                assert!(Instant::now() < deadline, "{history}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let text = output(&server, &["status"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("stockade ") && lines[0].contains(", serving for "),
        "{text}"
    );
    assert!(lines[1].contains(&server.address().to_string()), "{text}");
    let site = lines.iter().find(|line| line.starts_with("site ")).unwrap();
    assert!(site.contains(" 1/1 ") && site.ends_with("ready"), "{text}");
    assert!(site.contains("container"), "{text}");
    let document: Value = serde_json::from_str(&output(&server, &["status", "--json"])).unwrap();
    assert_eq!(document["status"]["state"], "serving");
    assert_eq!(document["instances"]["instances"][0]["name"], "site");
    assert!(document["metrics"]["instances"]["site"].is_array());
    // Without a server, the message says what to do.
    drop(server);
    let output = stockade()
        .args(["status", "--control", "/nowhere"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(
        why.contains("no server listens on /nowhere") && why.contains("fix:"),
        "{why}"
    );
    // Neither is a configuration that is not there taken for a server that is not.
    for command in ["status", "reload", "versions"] {
        let file = if command == "reload" {
            vec!["/nowhere/stockade.yaml"]
        } else {
            vec!["--config", "/nowhere/stockade.yaml"]
        };
        let output = stockade().arg(command).args(file).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let why = String::from_utf8(output.stderr).unwrap();
        assert!(
            why.contains("no configuration /nowhere/stockade.yaml"),
            "{why}"
        );
    }
}

#[test]
fn top_fits_into_80_columns_shows_a_kill_and_restores_the_terminal() {
    let server = start();
    run(async {
        server.get("a", "/spin").await;
    });
    server.logged(|line| line["event"] == "mirror_ended");
    let shown = on_a_terminal(&server, "top", "nmq", "site cpu_limit_exceeded");
    assert!(
        shown.contains("INSTANCE") && shown.contains("q quit"),
        "{shown:?}"
    );
    let (entered, left) = ("\u{1b}[?1049h", "\u{1b}[?1049l");
    assert!(
        shown.contains(entered) && shown.ends_with(left),
        "{shown:?}"
    );
    let codes = regex::Regex::new("\u{1b}\\[[?0-9;]*[A-Za-z]").unwrap();
    for line in codes.replace_all(&shown, "").lines() {
        assert!(line.trim_end().chars().count() <= 80, "{line:?}");
    }
    // Elsewhere than on a terminal it says what to use.
    let output = about(&server, &["top"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("stockade status")
    );
}

#[test]
fn status_shows_a_reload_that_was_refused_until_one_is_not() {
    let server = start();
    let configuration = std::fs::read_to_string(server.path("stockade.yaml")).unwrap();
    let shown = |server: &Server| {
        let text = output(server, &["status"]);
        let line = text.lines().find(|line| line.contains(" was refused"));
        line.map(str::to_owned)
    };
    assert_eq!(shown(&server), None);
    let path = server.path("stockade.yaml");
    std::fs::write(&path, format!("{configuration}\nno_such_key: 1\n")).unwrap();
    assert!(!server.reload().status.success());
    let line = shown(&server).unwrap();
    assert!(
        line.starts_with("the reload at ") && line.contains("no_such_key"),
        "{line}"
    );
    std::fs::write(&path, &configuration).unwrap();
    assert!(server.reload().status.success());
    assert_eq!(shown(&server), None);
}

#[test]
fn events_have_what_happens_and_no_requests() {
    let server = start();
    run(async {
        server.get("a", "/one").await;
        server.get("a", "/spin").await;
        let client = AdminClient::at_socket(&server.path("stockade.sock"));
        let path = "/v1/events?instance=site&last=4096";
        let mut response = client.send(Method::GET, path, None).await.unwrap();
        let mut text = String::new();
        while !text.contains("event: mirror_ended") {
            let chunk = response.chunk().await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        assert!(text.contains("event: mirror_started"), "{text}");
        assert!(!text.contains("event: request\n"), "{text}");
        assert!(!text.contains("\"path\""), "{text}");
        // A client that comes back goes on behind the last id that it has.
        let ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
        assert!(ids.count() >= 2, "{text}");
        for query in ["level=loud", "last=x", "unknown=1"] {
            let path = format!("/v1/events?{query}");
            let refused = client.send(Method::GET, &path, None).await;
            assert!(
                matches!(&refused, Err(AskError::Refused { status, .. }) if status.as_u16() == 400),
                "{query}"
            );
        }
    });
}

/// Asks for the log and reads nothing.
fn never_reads(server: &Server) -> UnixStream {
    let mut stream = UnixStream::connect(server.path("stockade.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = "GET /v1/logs HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// The status of its answer, whose head is read alone.
fn status_of(stream: &mut UnixStream) -> u16 {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn subscriber_that_never_reads_stalls_nobody_and_gets_the_count_of_what_it_missed() {
    let config = format!(
        "{}logging: {{format: json, console: {{lines_per_second: 1000000}}}}\ninstances: {{site: {{code: ./a.js, urls: [\"/*\"]}}}}\n",
        crate::server::PLAIN
    );
    let folder = crate::server::folder(&config, &[("a.js", SITE)]);
    let path = folder.path().join("stockade.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replacen("logging: {format: json, level: debug}\n", "", 1),
    )
    .unwrap();
    let server = Server::start_in(folder, &std::collections::BTreeMap::new());
    let mut slow = never_reads(&server);
    assert_eq!(status_of(&mut slow), 200);
    // More than the ring and the socket hold, and the site goes on. A guest's console has a rate of its own.
    run(async {
        let lines = "stockade_console_lines_total{instance=\"site\"}";
        while server.metric(lines).await < 1600.0 {
            assert_eq!(server.get("a", "/flood").await.status, 200);
        }
    });
    let mut lines = BufReader::new(slow).lines();
    let missed = lines.find(|line| line.as_ref().unwrap() == "event: missed");
    assert!(missed.is_some());
    let data = lines.next().unwrap().unwrap();
    let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    assert!(data["lines"].as_u64().unwrap() > 100, "{data}");
}

#[test]
fn streams_are_bounded_and_leave_room_for_commands() {
    let server = start();
    let mut open: Vec<UnixStream> = (0..32).map(|_| never_reads(&server)).collect();
    assert!(open.iter_mut().all(|stream| status_of(stream) == 200));
    assert_eq!(status_of(&mut never_reads(&server)), 503);
    server.reloaded();
    assert!(output(&server, &["status"]).contains("serving"));
    // A place becomes free with the end of a stream.
    drop(open.pop());
    let deadline = Instant::now() + PATIENCE;
    while status_of(&mut never_reads(&server)) != 200 {
        assert!(Instant::now() < deadline);
    }
}
