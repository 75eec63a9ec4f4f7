//! What operators see: metrics, health, logs.

use std::io::{BufRead, BufReader};

use serde_json::json;

use crate::client::{get, run, send};
use crate::server::{PLAIN, Server};

const TALKS: &str = "export default { fetch(request) {
  const { pathname } = new URL(request.url);
  if (pathname === '/talk') { console.log('said', { a: 1 }); console.error('bad\\n{\"event\":\"forged\"}'); }
  if (pathname === '/flood') { for (let i = 0; i < 500; i++) console.log('line', i); }
  if (pathname === '/uncaught') Promise.reject(new Error('nobody caught me'));
  return new Response('ok', { status: pathname === '/missing' ? 404 : 200 });
} };";

#[test]
fn metrics_count_requests_and_mirrors() {
    let server = Server::site(TALKS, "    mirrors: 2\n");
    run(async {
        for path in ["/", "/", "/missing"] {
            server.get("a", path).await;
        }
        let requests = |status: &str| {
            format!(
                "stockade_requests_total{{instance=\"site\",method=\"GET\",status=\"{status}\"}}"
            )
        };
        server.until(&requests("2xx"), |count| count == 2.0).await;
        server.until(&requests("4xx"), |count| count == 1.0).await;
        server
            .until(
                "stockade_mirrors{instance=\"site\",state=\"ready\"}",
                |ready| ready == 2.0,
            )
            .await;
        let count = "stockade_request_duration_seconds_count{instance=\"site\"}";
        assert_eq!(server.metric(count).await, 3.0);
        assert!(
            server
                .metric("stockade_isolate_memory_bytes{instance=\"site\"}")
                .await
                > 1e5
        );
        assert!(
            server
                .metric("stockade_isolate_cpu_seconds_total{instance=\"site\"}")
                .await
                > 0.0
        );
        let text = server.status("/metrics").await.text();
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(server.status("/healthz").await.text(), "ok\n");
        assert_eq!(server.status("/readyz").await.text(), "ready\n");
        // What clients make up is no label.
        server.get("made-up.example", "/made-up?made=up").await;
        send(
            server.address(),
            crate::client::with_body("MADEUP", "a", "/", ""),
        )
        .await;
        assert!(
            !server
                .status("/metrics")
                .await
                .text()
                .to_lowercase()
                .contains("made")
        );
    });
}

/// Dashboards and alerts name series by these: one that is renamed or missing breaks them in silence.
#[test]
fn metrics_have_their_names_and_labels() {
    let code = "export default { async fetch() {
      await fetch('http://other.example/').catch(() => {});
      return new Response('ok');
    } };";
    let server = Server::site(code, "    state: true\n");
    run(async {
        server.get("a", "/").await;
        let requests = "stockade_requests_total{instance=\"site\",method=\"GET\",status=\"2xx\"}";
        server.until(requests, |count| count == 1.0).await;
        let text = server.status("/metrics").await.text();
        let series = text.lines().filter(|line| !line.starts_with('#'));
        let mut series: Vec<_> = series
            .map(|line| line.rsplit_once(' ').unwrap().0)
            .collect();
        series.sort_unstable();
        let mut expected: Vec<_> = include_str!("metrics.txt").lines().collect();
        expected.sort_unstable();
        assert_eq!(series, expected, "{text}");
    });
}

#[test]
fn site_that_does_not_start_is_not_ready_and_others_are_served() {
    let config = format!(
        "{PLAIN}instances:
  broken: {{code: ./broken.js, urls: [broken.example]}}
  good: {{code: ./good.js, urls: [good.example]}}
"
    );
    let files = [
        ("broken.js", "throw new Error('at the start')"),
        ("good.js", TALKS),
    ];
    let server = Server::start(&config, &files);
    run(async {
        let ready = server.status("/readyz").await;
        assert_eq!(
            (ready.status, ready.text().as_str()),
            (503, "broken: no mirror is ready\n")
        );
        assert_eq!(server.get("good.example", "/").await.status, 200);
        let answer = server.get("broken.example", "/").await;
        assert_eq!(answer.status, 503);
        assert!(!answer.text().contains("at the start"));
    });
    let line = server.logged(|line| line["event"] == "mirror_start_failed");
    assert!(
        line["error"].as_str().unwrap().contains("at the start"),
        "{line}"
    );
}

#[test]
fn log_has_a_line_for_each_request_without_secrets() {
    let config = format!(
        "{PLAIN}instances:
  site: {{code: ./main.js, urls: [\"/*\"]}}
"
    )
    .replace("version", "version");
    let folder = crate::server::folder(&config, &[("main.js", TALKS)]);
    let path = folder.path().join("stockade.yaml");
    let text = std::fs::read_to_string(&path).unwrap().replace(
        "logging: {format: json, level: debug}",
        "logging: {format: json, access: {query: full, client_address: network, headers: [user-agent, x-absent, authorization]}, redact: {query: [session]}}",
    );
    std::fs::write(&path, text).unwrap();
    let server = Server::start_in(folder, &std::collections::BTreeMap::new());
    let id = run(async {
        let path = "/path?a=1&session=hidden-one&token=hidden-two";
        let mut request = get("a.example", path);
        let headers = request.headers_mut();
        headers.insert("user-agent", "tester/1".parse().unwrap());
        headers.insert("authorization", "Bearer hidden-three".parse().unwrap());
        let answer = send(server.address(), request).await;
        answer.header("x-request-id").to_owned()
    });
    let line = server.logged(|line| line["event"] == "request");
    assert_eq!(line["request_id"], json!(id));
    assert_eq!(line["client"], "127.0.0.0/24");
    assert_eq!(line["host"], "a.example");
    assert_eq!(
        line["path"],
        "/path?a=1&session=[redacted]&token=[redacted]"
    );
    assert_eq!(line["header.user-agent"], "tester/1");
    assert_eq!(line["header.authorization"], "[redacted]");
    assert_eq!(
        (&line["status"], &line["instance"]),
        (&json!(200), &json!("site"))
    );
    assert!(line["mirror"].is_number() && line["duration_ms"].is_number());
    assert!(
        !server.log_text().contains("hidden"),
        "{}",
        server.log_text()
    );
}

#[test]
fn console_is_logged_by_instance_and_bounded() {
    let server = Server::site(TALKS, "");
    run(async {
        server.get("a", "/talk").await;
        server.get("a", "/flood").await;
        server.get("a", "/uncaught").await;
    });
    let said = server.logged(|line| line["event"] == "console");
    assert_eq!(
        (&said["instance"], &said["level"]),
        (&json!("site"), &json!("info"))
    );
    assert_eq!(said["text"], "said { a: 1 }");
    let bad = server.logged(|line| line["event"] == "console" && line["level"] == "error");
    assert!(bad["text"].as_str().unwrap().starts_with("bad\n"));
    server.logged(|line| line["event"] == "uncaught");
    assert!(server.log(|line| line["event"] == "forged").is_empty());
    let lines = server.log(|line| line["event"] == "console").len();
    assert!(lines < 400, "{lines} lines of one guest in a second");
    run(async {
        let dropped = "stockade_console_lines_dropped_total{instance=\"site\"}";
        server.until(dropped, |dropped| dropped > 0.0).await;
    });
}

#[test]
fn log_names_the_line_and_the_cause_of_what_a_site_throws() {
    let server = Server::site(
        "interface Reason { why: string }
const inner = (reason: Reason): never => {
  throw new RangeError(reason.why);
};
export default { fetch(request: Request): Response {
  const { pathname } = new URL(request.url);
  if (pathname === '/spin') for (;;);
  try {
    inner({ why: 'too far' });
  } catch (cause) {
    const error = new Error('outer', { cause });
    if (pathname === '/uncaught') { Promise.reject(error); return new Response('ok'); }
    throw error;
  }
} };",
        "    limits: {cpu: 100ms}\n",
    );
    run(async {
        server.get("a", "/throw").await;
        server.get("a", "/uncaught").await;
        server.get("a", "/spin").await;
    });
    for event in ["request_failed", "uncaught"] {
        let line = server.logged(|line| line["event"] == event);
        let stack = line["stack"].as_str().unwrap_or_default();
        let lines: Vec<&str> = stack.lines().collect();
        assert_eq!(lines[0], "Error: outer", "{line}");
        assert!(lines[1].contains("guest:///main.ts:11:19"), "{line}");
        assert!(lines.contains(&"Caused by: RangeError: too far"), "{line}");
        assert!(stack.contains("at inner (guest:///main.ts:3:9)"), "{line}");
        assert!(!stack.contains("ext:"), "{line}");
    }
    let line = server.logged(|line| line["event"] == "mirror_ended");
    assert_eq!(line["reason"], "cpu_limit_exceeded", "{line}");
    assert_eq!(line["key"], "limits.cpu", "{line}");
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.starts_with("cpuLimitMs 100"), "{line}");
    assert!(
        line["fix"].is_string() && line["activation_cpu_ms"].is_number(),
        "{line}"
    );
}

/// What `stockade serve` shows on a terminal, after these requests. The terminal is that of `script`, which is on every
/// Debian.
fn on_a_terminal(environment: &[(&str, &str)], paths: &[&str], last: &str) -> String {
    let config = format!("{PLAIN}instances:\n  shop:\n    code: ./main.ts\n    urls: [\"/*\"]\n");
    let folder = crate::server::folder(&config, &[("main.ts", SHOP)]);
    let path = folder.path().join("stockade.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("logging: {format: json, level: debug}\n", "");
    std::fs::write(&path, text).unwrap();
    let program = env!("CARGO_BIN_EXE_stockade");
    let mut child = std::process::Command::new("script")
        .args(["--quiet", "--flush", "--return", "--command"])
        .arg(format!(
            "echo process $$; exec {program} serve {}",
            path.display()
        ))
        .arg("/dev/null")
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .envs(environment.iter().copied())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut address, mut server) = (None, None);
    for line in lines.by_ref() {
        let line = line.unwrap();
        if let Some(pid) = line.trim_end().strip_prefix("process ") {
            server = rustix::process::Pid::from_raw(pid.parse().unwrap());
        }
        if let Some((_, rest)) = line.split_once("  listening on ") {
            address = rest.split_once(',').unwrap().0.parse().ok();
        }
        if line.starts_with("ready in") {
            break;
        }
    }
    run(async {
        for path in paths {
            send(address.unwrap(), get("a.example", path)).await;
        }
    });
    for line in lines {
        let line = line.unwrap();
        shown.push_str(line.trim_end_matches('\r'));
        shown.push('\n');
        if line.contains(last) {
            break;
        }
    }
    rustix::process::kill_process(server.unwrap(), rustix::process::Signal::KILL).unwrap();
    child.wait().unwrap();
    shown
}

const SHOP: &str = "const parse = (text: string): never => {
  throw new RangeError(`no number: ${text}`);
};
export default { fetch(request: Request): Response {
  const { pathname } = new URL(request.url);
  if (pathname === '/log') console.log('one\\n12:00:00.000 ERROR forged\\x1b[2J');
  if (pathname === '/throw') {
    try { parse('x'); } catch (cause) { throw new Error('bad order', { cause }); }
  }
  return new Response('ok');
} };
";

#[test]
fn log_on_a_terminal_is_for_people() {
    let shown = on_a_terminal(&[("NO_COLOR", "1")], &["/log", "/throw", "/last"], "/last");
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let lines: Vec<&str> = shown.lines().collect();
    let at = |part: &str| {
        let found = lines.iter().position(|line| line.contains(part));
        found.unwrap_or_else(|| panic!("{part:?} is not in {shown}"))
    };
    // What a guest wrote stands behind the time and the level, or is indented.
    let said = at(" INFO  one instance=shop mirror=0");
    assert_eq!(
        lines[said + 1],
        "    12:00:00.000 ERROR forged\\u{1b}[2J",
        "{shown}"
    );
    // An error has its stack below it, with places in TypeScript, and its cause.
    let failed = at(" WARN  request_failed: the handler threw Error: bad order");
    assert!(
        lines[failed + 1].contains("at Object.fetch (guest:///main.ts:8:"),
        "{shown}"
    );
    let cause = at("    Caused by: RangeError: no number: x");
    assert!(
        lines[cause + 1].contains("at parse (guest:///main.ts:2:9)"),
        "{shown}"
    );
    // A request is one short line.
    let request = lines[at("/throw ")];
    assert!(request.len() < 60, "{request}");
    let words: Vec<&str> = request.split_whitespace().collect();
    assert_eq!(
        (words[1], words[2], words[3]),
        ("GET", "/throw", "500"),
        "{request}"
    );
    assert!(words[4].ends_with('s') && words[5] == "shop", "{request}");
}

#[test]
fn log_on_a_terminal_has_colours() {
    let shown = on_a_terminal(&[], &["/last"], "/last");
    assert!(
        shown.contains("GET   /last \u{1b}[32m200\u{1b}[0m"),
        "{shown}"
    );
}
