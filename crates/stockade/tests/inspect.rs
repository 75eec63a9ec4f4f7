//! `--inspect` and `--inspect-brk`: one process debugs another over the DevTools protocol.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

fn script(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "inspect", name]
        .iter()
        .collect()
}

fn stockade() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
    command.arg("run").stdin(Stdio::null());
    command
}

/// A run that can be debugged.
struct Debuggee {
    process: Child,
    /// `http://address`
    base: String,
    stderr: BufReader<std::process::ChildStderr>,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Drop for Debuggee {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Debuggee {
    fn start(flag: &str, name: &str, level: &str) -> Self {
        let mut process = stockade()
            .arg(format!("{flag}=127.0.0.1:0"))
            .arg(script(name))
            .args(["--", level])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(process.stderr.take().unwrap());
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let base = line.trim().split(' ').next_back().unwrap();
        let base = base.strip_suffix("/json/list").unwrap().to_owned();
        line.clear();
        stderr.read_line(&mut line).unwrap();
        assert!(line.starts_with("Debugger listening on ws://"), "{line}");
        Self {
            process,
            base,
            stderr,
            stdout,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// The rest of what it prints, its exit code, and what it says of debuggers.
    fn end(mut self) -> (Vec<String>, Option<i32>, String) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let code = self.process.wait().unwrap().code();
        let mut reported = String::new();
        self.stderr.read_to_string(&mut reported).unwrap();
        (rest.lines().map(str::to_owned).collect(), code, reported)
    }
}

fn debug(name: &str, base: &str) -> Vec<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = stockade()
        .arg(script(name))
        .args(["--", base])
        .output()
        .unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{status}: {stderr}");
    let stdout = String::from_utf8(stdout).unwrap();
    stdout.lines().map(str::to_owned).collect()
}

#[test]
fn inspect_pauses_are_outside_limits() {
    debug_isolates_of("thread");
}

#[cfg(target_os = "linux")]
#[test]
fn inspect_reaches_into_processes() {
    debug_isolates_of("process");
}

#[cfg(target_os = "linux")]
#[test]
fn inspect_reaches_into_containers() {
    debug_isolates_of("container");
}

/// Pauses, steps, evaluates, leaves and ends isolates of this level.
fn debug_isolates_of(level: &str) {
    let mut debuggee = Debuggee::start("--inspect", "debuggee.js", level);
    assert_eq!(debuggee.line(), "ready");
    let seen = debug("debugger.js", &debuggee.base);
    assert_eq!(
        seen,
        [
            "host, isolate #0 paused, isolate #1 second, isolate #2 left, isolate #3 destroyed, \
             isolate #4 talks, isolate #5 busy",
            "host says function 42",
            "before is 20",
            "a is 1 in line 2, a is 2 in line 3",
            "profiler: string",
            "log an object, side accessor,toString function,deep object, 42",
            "at inner in line 5 of evaluate called in line 7",
            "looked into: found",
            "warning %s | text 1 of 100% | rest boolean",
            "info times: 1",
            "error 65563",
            "table 0 object",
            "assert no",
            "flood of 2500 then trace while objects of before are gone: Could not find object with given id",
            "socket closed with 1001",
            "socket closed with 1001",
            "host, isolate #0 paused, isolate #1 second, isolate #2 left, \
             isolate #4 talks",
        ]
    );
    let (mut lines, code, reported) = debuggee.end();
    lines.sort();
    assert_eq!(code, Some(0), "{reported}");
    let urls = reported
        .lines()
        .filter(|line| line.starts_with("Debugger listening on ws://"));
    assert_eq!(urls.count(), 6, "{reported}");
    assert_eq!(
        lines,
        [
            "busy failed: isolate #5 ended before it replied: cpu_limit_exceeded (cpuLimitMs 200, at evaluate#1:1:1)",
            "destroyed failed: isolate #3 ended before it replied: destroyed",
            "flooded undefined",
            "left went on",
            "paused 42",
            "second 42",
            "talked 1,undefined,function () { [native code] },log",
            "talks printed text 1 of 100% { rest: true }",
            "walked 42",
        ]
    );
}

#[test]
fn inspect_brk_waits_before_first_statement() {
    let debuggee = Debuggee::start("--inspect-brk", "main.js", "thread");
    let seen = debug("break.js", &debuggee.base);
    assert_eq!(seen, ["paused in main.js line 1"]);
    let (lines, code, reported) = debuggee.end();
    assert_eq!(
        (lines, code),
        (vec!["done".to_owned()], Some(0)),
        "{reported}"
    );
}

#[test]
fn inspect_refuses_foreign_hosts() {
    use std::io::Write as _;
    let debuggee = Debuggee::start("--inspect-brk", "main.js", "thread");
    let address = debuggee.base.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET /json/list HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(!answer.contains("ws://"), "{answer}");
}
