//! `stockade init`, `dev`, `test` and `types`: the real program, on loopback.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::server::{PATIENCE, stockade, write};

/// A running `stockade dev`. It ends with the test.
struct Dev {
    child: Child,
    port: u16,
    out: Receiver<String>,
    log: Receiver<String>,
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { break };
            if send.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// Waits for a line with this text.
fn wait_for(lines: &Receiver<String>, text: &str) -> String {
    let mut seen = String::new();
    loop {
        let line = lines.recv_timeout(PATIENCE);
        let line = line.unwrap_or_else(|error| panic!("no line has {text:?} ({error}):\n{seen}"));
        if line.contains(text) {
            return line;
        }
        seen.push_str(&line);
        seen.push('\n');
    }
}

impl Dev {
    fn start(path: &Path, options: &[&str]) -> Self {
        let mut child = stockade()
            .arg("dev")
            .arg(path)
            .args(["--port", "0"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = lines(child.stdout.take().unwrap());
        let log = lines(child.stderr.take().unwrap());
        let line = wait_for(&out, "://localhost:");
        let (_, rest) = line.split_once("localhost:").unwrap();
        let port = rest.split('/').next().unwrap().parse().unwrap();
        Self {
            child,
            port,
            out,
            log,
        }
    }

    /// The status and the whole response of a request.
    fn get(&self, path: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let host = match headers.contains("host:") {
            true => String::new(),
            false => format!("host: localhost:{}\r\n", self.port),
        };
        let request = format!("GET {path} HTTP/1.1\r\n{host}{headers}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let status = response.get(9..12).and_then(|text| text.parse().ok());
        (status.unwrap_or_default(), response)
    }

    fn body(&self, path: &str) -> String {
        let (_, response) = self.get(path, "");
        response.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It removes its temporary folder.
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::INT);
        }
        let _ = self.child.wait();
    }
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files);
    folder
}

fn answering(text: &str) -> String {
    format!("export default {{ fetch: () => new Response({text:?}) }};\n")
}

const PAGE: &str = "accept: text/html\r\n";

#[test]
fn code_is_replaced_when_it_changes_and_stays_when_it_has_errors() {
    let folder = folder(&[("site.ts", &answering("one"))]);
    let dev = Dev::start(&folder.path().join("site.ts"), &[]);
    assert!(dev.body("/").ends_with("one"));
    write(folder.path(), &[("site.ts", &answering("two"))]);
    wait_for(&dev.log, "configuration reloaded: changed");
    assert!(dev.body("/").ends_with("two"));
    write(folder.path(), &[("site.ts", "const broken = ;\n")]);
    wait_for(&dev.log, "site.ts:1:16: SyntaxError");
    assert!(dev.body("/").ends_with("two"));
    // A file that an import waits for mends the error.
    let text = format!(
        "import {{ text }} from './later.ts';\n{}",
        answering("x").replace("\"x\"", "text")
    );
    write(folder.path(), &[("site.ts", &text)]);
    wait_for(&dev.log, "later.ts");
    write(
        folder.path(),
        &[("later.ts", "export const text: string = 'three';")],
    );
    wait_for(&dev.log, "configuration reloaded: changed");
    assert!(dev.body("/").ends_with("three"));
    // A module that throws is not taken, either.
    write(
        folder.path(),
        &[(
            "later.ts",
            "throw new Error('thrown while loading');\nexport const text = 'x';",
        )],
    );
    wait_for(&dev.log, "thrown while loading");
    assert!(dev.body("/").ends_with("three"));
    dev.signal(Signal::INT);
    let mut dev = dev;
    assert_eq!(dev.child.wait().unwrap().code(), Some(130));
    drop(dev.out.recv());
    // What is cut off did not crash.
    let said: Vec<String> = dev.log.iter().collect();
    assert!(
        !said.iter().any(|line| line.contains("without a reason")),
        "{said:?}"
    );
}

#[test]
fn server_waits_for_code_that_works() {
    let folder = folder(&[("index.ts", "export default { fetch: ( };")]);
    let dev = Dev::start(folder.path(), &["--isolation", "process"]);
    let (status, page) = dev.get("/", PAGE);
    assert_eq!(status, 500);
    assert!(page.contains("index.ts:1:27: SyntaxError"), "{page}");
    write(folder.path(), &[("index.ts", &answering("mended"))]);
    wait_for(&dev.log, "configuration reloaded: changed");
    assert!(dev.body("/").ends_with("mended"));
}

#[test]
fn error_is_a_page_without_markup_of_the_site() {
    let code = "export default {\n  fetch(request: Request): Response {\n    if (request.url.endsWith('/page')) return new Response('<p>',\
                {headers: {'content-type': 'text/html'}});\n    throw new TypeError('<script>alert(1)</script>');\n  },\n};\n";
    let folder = folder(&[("index.ts", code)]);
    let dev = Dev::start(folder.path(), &[]);
    let (status, page) = dev.get("/", PAGE);
    assert_eq!(status, 500);
    assert!(
        page.contains("TypeError: &lt;script&gt;alert(1)&lt;/script&gt;"),
        "{page}"
    );
    assert!(page.contains("index.ts:4:11"), "{page}");
    assert!(page.contains("throw new TypeError("), "{page}");
    assert_eq!(page.matches("<script").count(), 1, "{page}");
    assert!(
        page.contains("content-security-policy: default-src 'none'"),
        "{page}"
    );
    let (status, text) = dev.get("/", "accept: */*\r\n");
    assert_eq!(status, 500);
    assert!(text.contains("content-type: text/plain"), "{text}");
    wait_for(&dev.log, "alert(1)");
    // Pages of the site load again, and other responses stay as they are.
    let (_, page) = dev.get("/page", PAGE);
    assert!(
        page.contains("<p>") && page.contains("src=\"/.stockade/dev/live.js\""),
        "{page}"
    );
    let (_, page) = dev.get("/page", "accept: */*\r\n");
    assert!(page.contains("<p>") && !page.contains("live.js"), "{page}");
    let (_, script) = dev.get("/.stockade/dev/live.js", "");
    assert!(script.contains("EventSource"), "{script}");
    // A page of a stranger whose name leads here gets nothing.
    let (status, page) = dev.get("/", "host: stranger.example\r\naccept: text/html\r\n");
    assert_eq!(status, 404);
    assert!(!page.contains("alert"), "{page}");
}

#[test]
fn wrangler_file_is_served_with_what_it_grants() {
    let code = "export default { async fetch(request, env) {\n  await env.CACHE.put('a', 1);\n  return Response.json([env.GREETING, await env.CACHE.get('a')]);\n} };";
    let folder = folder(&[
        ("src/index.js", code),
        (
            "wrangler.jsonc",
            "// a site\n{ \"name\": \"w\", \"main\": \"src/index.js\", \"vars\": {\"GREETING\": \"file\"},\n\
             \"kv_namespaces\": [{\"binding\": \"CACHE\", \"id\": \"1\"}], \"queues\": {}, }",
        ),
        (".dev.vars", "GREETING = mine\n"),
    ]);
    let dev = Dev::start(folder.path(), &[]);
    assert!(dev.body("/").ends_with("[\"mine\",1]"), "{}", dev.body("/"));
    assert!(folder.path().join(".stockade/state.db").exists());
    let made = stockade()
        .args(["init", "--from"])
        .arg(folder.path().join("wrangler.jsonc"))
        .output()
        .unwrap();
    assert!(made.status.success());
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(said.contains("missing  queues"), "{said}");
    let checked = stockade()
        .arg("check")
        .arg(folder.path().join("stockade.yaml"))
        .output();
    assert!(checked.unwrap().status.success());
}

/// A site that keeps what `scheduled` was called with, and shows it.
const SCHEDULED: &str = "let last = 'nothing';
export default {
  fetch: () => new Response(last),
  async scheduled(controller) {
    last = `NAME ${controller.cron} ${controller.scheduledTime}`;
    if (controller.cron === '0 0 * * *') throw new Error('no \\u001b[2J midnight');
  },
};
";

#[test]
fn scheduled_runs_when_it_is_asked_for_and_after_a_reload() {
    let code = |name: &str| SCHEDULED.replace("NAME", name);
    let config = "version: \"1.0\"\ninstances:\n  web: {code: ./web.ts, urls: [localhost], crons: ['*/5 * * * *', '0 0 * * *']}\n  \
                  jobs: {code: ./jobs.ts, crons: ['1 1 1 1 *']}\n";
    let folder = folder(&[
        ("stockade.yaml", config),
        ("web.ts", &code("one")),
        ("jobs.ts", &code("jobs")),
    ]);
    let dev = Dev::start(folder.path(), &[]);
    let ask = |query: &str| dev.get(&format!("/.stockade/dev/scheduled?{query}"), "");
    // Its entry and time are those of the request.
    let (status, answer) = ask("cron=*/5+*+*+*+*&time=1000");
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("\r\n\r\ndone in "), "{answer}");
    assert!(answer.contains("time 1970-01-01T00:00:01.000Z"), "{answer}");
    assert!(dev.body("/").ends_with("one */5 * * * * 1000"));
    wait_for(&dev.log, "outcome=done");
    // An outcome that is a failure, and what cannot be run.
    let (status, answer) = ask("cron=0+0+*+*+*");
    assert_eq!(status, 500, "{answer}");
    assert!(
        answer.contains("failed: no \\u{1b}[2J midnight"),
        "{answer}"
    );
    let (status, answer) = ask("");
    assert_eq!(status, 400);
    assert!(answer.contains("several crons"), "{answer}");
    let (status, answer) = ask("instance=none");
    assert_eq!(status, 404);
    assert!(answer.contains("name one of jobs, web"), "{answer}");
    let path = "/.stockade/dev/scheduled?cron=*+*+*+*+*";
    let (status, _) = dev.get(path, "sec-fetch-site: cross-site\r\n");
    assert_eq!(status, 403);
    // A site that no host leads to, by the path of wrangler.
    let (status, answer) = dev.get("/cdn-cgi/handler/scheduled?instance=jobs", "");
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("cron 1 1 1 1 *"), "{answer}");
    // The code that a reload took.
    write(folder.path(), &[("web.ts", &code("two"))]);
    wait_for(&dev.log, "configuration reloaded: changed");
    let (status, answer) = ask("cron=*+*+*+*+*&time=2000");
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("does not have this entry"), "{answer}");
    assert!(dev.body("/").ends_with("two * * * * * 2000"));
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let output = stockade().current_dir(folder).args(arguments).output();
    output.unwrap()
}

#[test]
fn new_projects_pass_their_tests() {
    for kind in ["site", "plugins", "rpc", "agent"] {
        let folder = tempfile::tempdir().unwrap();
        let made = run(folder.path(), &["init", kind, "new"]);
        assert!(made.status.success(), "{made:?}");
        let project = folder.path().join("new");
        let tested = run(&project, &["test", "--json"]);
        assert_eq!(tested.status.code(), Some(0), "{kind}: {tested:?}");
        let report: Value = serde_json::from_slice(&tested.stdout).unwrap();
        assert!(report["passed"].as_u64().unwrap() >= 2, "{report}");
        let again = run(folder.path(), &["init", kind, "new"]);
        assert_eq!(again.status.code(), Some(1));
        if kind == "site" {
            let checked = run(&project, &["check", "--files"]);
            assert!(checked.status.success(), "{checked:?}");
            let types = run(&project, &["types", "--out", "-"]);
            let text = String::from_utf8_lossy(&types.stdout).into_owned();
            assert!(text.contains("readonly GREETING: string;"), "{text}");
            assert!(run(&project, &["types"]).status.success());
        }
    }
}

#[test]
fn failures_of_tests_name_their_place_and_limits_end_a_file_alone() {
    let good = "import { test, expect } from 'stockade:test';\ntest('good', () => expect({ a: [1] }).toEqual({ a: [1] }));\n";
    let bad = "import { afterEach, describe, expect, test } from \"stockade:test\";\n\
        interface A { a: number }\n\
        describe('group', () => {\n  test('differs', () => {\n    const one: A = { a: 1 };\n    expect(one).toEqual({ a: 2 });\n  });\n\
        \x20 test('waits', () => new Promise(() => {}), { timeout: 20 });\n  test.skip('skipped', () => {});\n  test.todo('later');\n});\n\
        test('forges \\u001b[2J # SKIP', () => {});\n";
    let loops = "import { test } from 'stockade:test';\ntest('loops', () => { for (;;); });\ntest('never', () => {});\n";
    let folder = folder(&[
        ("package.json", "{}"),
        ("a/good.test.ts", good),
        ("b/bad_test.ts", bad),
        ("c/loops.test.js", loops),
        ("d/syntax.test.ts", "let a = ;"),
        ("node_modules/x/no.test.ts", loops),
    ]);
    let at = |arguments: &[&str]| {
        run(
            folder.path(),
            &[&["test", "--cpu-limit", "1s"], arguments].concat(),
        )
    };
    let output = at(&["--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let files = report["files"].as_array().unwrap();
    assert_eq!(files.len(), 4, "{report}");
    assert_eq!(files[0]["tests"][0]["outcome"], "passed");
    let tests = files[1]["tests"].as_array().unwrap();
    let outcomes: Vec<&str> = tests
        .iter()
        .map(|test| test["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["failed", "failed", "skipped", "todo", "passed"]);
    let error = &tests[0]["error"];
    assert!(
        error["stack"]
            .as_str()
            .unwrap()
            .contains("b/bad_test.ts:6:17"),
        "{error}"
    );
    assert!(
        error["diff"].as_str().unwrap().contains("-   \"a\": 2"),
        "{error}"
    );
    assert!(
        error["excerpt"].as_str().unwrap().contains("expect(one)"),
        "{error}"
    );
    assert!(
        tests[1]["error"]["message"]
            .as_str()
            .unwrap()
            .contains("within 20 ms")
    );
    let loops = &files[2];
    assert_eq!(loops["tests"].as_array().unwrap().len(), 1);
    assert!(
        loops["tests"][0]["error"]["message"]
            .as_str()
            .unwrap()
            .contains("cpuLimitMs 1000"),
        "{loops}"
    );
    assert!(
        loops["error"].is_string()
            && files[3]["error"]
                .as_str()
                .unwrap()
                .contains("d/syntax.test.ts:1:9"),
        "{report}"
    );
    let output = at(&["--tap", "b"]);
    let tap = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        tap.starts_with("TAP version 14\n") && tap.ends_with("1..5\n"),
        "{tap}"
    );
    assert!(
        tap.contains("not ok 1 - ") && tap.contains("\\# SKIP") && !tap.contains('\u{1b}'),
        "{tap}"
    );
    assert_eq!(at(&["--filter", "good", "a"]).status.code(), Some(0));
    assert_eq!(at(&["--filter", "nothing", "a"]).status.code(), Some(2));
    assert_eq!(run(folder.path(), &["test", "none"]).status.code(), Some(2));
}
