//! What `exec` and `call` print, and what becomes of it where nobody takes it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

const LEVELS: &[&str] = if cfg!(target_os = "linux") {
    &["thread", "process", "container"]
} else {
    &["thread"]
};

/// A guest that comes by standard input.
fn exec(code: &str, options: &[&str]) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_stockade"))
        .args(["exec", "-"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(code.as_bytes()).unwrap();
    child
}

/// Ends it if the test fails.
struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The end of what was printed, for messages.
fn tail(text: &str) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(300))..]
}

#[test]
fn exec_prints_every_line_and_long_lines_whole() {
    const CODE: &str = r#"
        for (let i = 0; i < 5000; i++) console.log(`line ${i}`);
        console.log("x".repeat(100_000) + "\n" + "é\u{1f600}".repeat(40_000));
        console.log("a\u{1b}[31m" + "\u{202e}".repeat(20_000));
        console.log();
    "#;
    let mut expected = String::new();
    for i in 0..5000 {
        expected += &format!("line {i}\n");
    }
    expected += &"x".repeat(100_000);
    expected += "\n";
    expected += &"é\u{1f600}".repeat(40_000);
    expected += "\na\\u{1b}[31m";
    expected += &"\\u{202e}".repeat(20_000);
    expected += "\n\n";
    for level in LEVELS {
        let options = ["--isolation", level, "--cpu-limit", "0"];
        let output = exec(CODE, &options).wait_with_output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), errors.as_str()),
            (Some(0), ""),
            "{level}"
        );
        assert!(printed == expected, "{level}: {}", tail(&printed));
    }
}

/// Far more than pipe and queues hold: the guest waits for its reader and is not ended for it.
#[test]
fn exec_output_that_is_taken_slowly_is_whole() {
    const LINES: usize = 40_000;
    let code = format!("for (let i = 0; i < {LINES}; i++) console.log('y'.repeat(999));");
    for level in LEVELS {
        let mut child = Kill(exec(&code, &["--isolation", level, "--cpu-limit", "0"]));
        let mut stdout = child.0.stdout.take().unwrap();
        let mut bytes = 0;
        let mut chunk = [0; 1000];
        loop {
            let read = stdout.read(&mut chunk).unwrap();
            if read == 0 {
                break;
            }
            bytes += read;
        }
        assert_eq!(bytes, LINES * 1000, "{level}");
        assert_eq!(child.0.wait().unwrap().code(), Some(0), "{level}");
    }
}

#[test]
fn exec_what_was_printed_before_a_limit_is_there() {
    const CODE: &str = "for (let i = 0; i < 3000; i++) console.log(i); for (;;);";
    for level in LEVELS {
        let options = ["--isolation", level, "--cpu-limit", "1000"];
        let output = exec(CODE, &options).wait_with_output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(121), "{level}");
        assert_eq!(printed.lines().count(), 3000, "{level}: {}", tail(&printed));
    }
}

#[test]
fn exec_whose_reader_goes_ends() {
    const ENDLESS: &str = "for (;;) console.log('y');";
    let options = ["--cpu-limit", "0", "--wall-limit", "0", "--timeout", "0"];
    let mut child = Kill(exec(ENDLESS, &options));
    let mut line = String::new();
    let mut stdout = BufReader::new(child.0.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "y\n");
    drop(stdout);
    assert_eq!(child.0.wait().unwrap().code(), Some(141));
    let mut errors = String::new();
    child
        .0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    assert_eq!(errors, "");
    let control = exec("console.log('y')", &options)
        .wait_with_output()
        .unwrap();
    assert_eq!(
        (control.status.code(), control.stdout.as_slice()),
        (Some(0), &b"y\n"[..])
    );
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error() {
    for arguments in [
        &["exec", "-"][..],
        &["exec", "-", "--json"],
        &["call", "-", "main"],
        &["schema"],
        &["completions", "bash"],
    ] {
        let full = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_stockade"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(full)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let code = b"export const main = () => console.log('lost')";
        // Not every command reads it.
        let _ = child.stdin.take().unwrap().write_all(code);
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
        assert!(
            errors.contains("error: cannot write to standard output: "),
            "{arguments:?}: {errors}"
        );
    }
}

/// `script` of util-linux gives it a terminal.
#[cfg(target_os = "linux")]
#[test]
fn terminal_gets_colours_unless_no_color_is_set() {
    let program = env!("CARGO_BIN_EXE_stockade");
    let commands = [
        format!("{program} exec missing.ts"),
        format!("{program} run missing.ts"),
        format!("{program} missing.ts"),
    ];
    for command in commands {
        let on_a_terminal = |no_color: &str| {
            Command::new("script")
                .args(["-qec", &command, "/dev/null"])
                .env("TERM", "xterm-256color")
                .env("NO_COLOR", no_color)
                .stdin(Stdio::null())
                .output()
        };
        let Ok(output) = on_a_terminal("") else {
            // There is no `script` here.
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains("\u{1b}[1;31merror\u{1b}[0m: "),
            "{command}: {text:?}"
        );
        let output = on_a_terminal("1").unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains("error: ") && !text.contains('\u{1b}'),
            "{command}: {text:?}"
        );
    }
}

#[test]
fn exec_grants_what_its_options_name_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "text").unwrap();
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let body = "x".repeat(200_000);
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let code = format!(
        "const {{ env }} = NETWORK;
        const failed = (promise) => promise.then((value) => value, (error) => error.name);
        console.log(env.NAME, await failed(env.FILES?.read('a.txt', 'text') ?? Promise.reject(new Error())));
        const body = fetch('http://127.0.0.1:{port}/').then((response) => response.text());
        console.log((await failed(body)).length);
        console.log(await failed(fetch('http://127.0.0.1:1/')));
        console.log(await failed(env.NAMES?.resolve('evil.example') ?? Promise.reject(new Error())));"
    );
    let read = folder.path().display().to_string();
    let fetch = format!("127.0.0.1:{port}");
    let granted = [
        "--env",
        "NAME=Ada",
        "--allow-read",
        &read,
        "--allow-fetch",
        &fetch,
        "--grant",
        "NAMES=dns:{names: [a.example]}",
    ];
    for level in LEVELS {
        let options = [&["--isolation", level][..], &granted].concat();
        let output = exec(&code, &options).wait_with_output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            printed, "Ada text\n200000\nTypeError\nTypeError\n",
            "{level}: {errors}"
        );
    }
    let output = exec(&code, &[]).wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, "undefined Error\n9\nTypeError\nError\n");
}

#[test]
fn options_that_grant_nothing_that_there_is_are_bad_usage() {
    for (option, value, reported) in [
        ("--grant", "NAMES", "takes NAME=KIND"),
        ("--grant", "NAMES=ftp:{}", "grants.NAMES"),
        (
            "--grant",
            "NAMES=dns:{names: [a.example], limits: {rate: 0}}",
            "1000000",
        ),
        ("--allow-read", "/none/such", "/none/such"),
        ("--allow-fetch", "a b", "a b"),
        ("--env", "NAME", "takes NAME=VALUE"),
    ] {
        let output = exec("console.log(1)", &[option, value])
            .wait_with_output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{option} {value}: {errors}");
        assert!(errors.contains(reported), "{option} {value}: {errors}");
    }
}
