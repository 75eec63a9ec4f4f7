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

#[test]
fn error_that_nobody_reads_keeps_its_exit_code() {
    for (arguments, code) in [
        (&["exec", "missing.ts"][..], 1),
        (&["run", "missing.ts"], 1),
        (&["check", "missing.yaml"], 2),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = Command::new(env!("CARGO_BIN_EXE_stockade"))
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(writer)
            .status();
        assert_eq!(status.unwrap().code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn error_does_not_steer_the_terminal() {
    for arguments in [
        &["exec", "a\u{1b}[2J.ts"][..],
        &["run", "a\u{1b}[2J.ts"],
        &["check", "a\u{1b}[2J"],
        &["\u{1b}[2J.ts"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_stockade"))
            .args(arguments)
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains("\\u{1b}[2J"), "{arguments:?}: {errors:?}");
        assert!(!errors.contains('\u{1b}'), "{arguments:?}: {errors:?}");
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

/// A command in a folder: its exit code, and what it printed.
fn in_folder(folder: &std::path::Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_stockade"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// What `stockade verify` says that a receipt states.
fn stated(folder: &std::path::Path, receipt: &str) -> serde_json::Value {
    let (code, out, error) = in_folder(folder, &["verify", receipt, "--json"]);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{out}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn receipt_states_what_was_run_and_used_at_every_level() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let code = "import { n } from './n.ts';
        export function main() {
          let x = 0;
          for (let i = 0; i < 2e7; i++) x = (x * 31 + i) | 0;
          if (x === 0.5) throw x;
          console.log('hello');
          return n;
        }
        export const add = (a: number, b: number) => a + b;
        export const loop = () => { for (;;); };";
    std::fs::write(folder.join("tool.ts"), code).unwrap();
    std::fs::write(folder.join("n.ts"), "export const n = 7;").unwrap();
    let mut digests = Vec::new();
    for level in LEVELS {
        let run = [
            "exec",
            "tool.ts",
            "--receipt",
            "run.receipt",
            "--isolation",
            level,
            "--",
            "a",
        ];
        let (code, out, error) = in_folder(folder, &run);
        assert_eq!(
            (code, out.as_str(), error.as_str()),
            (Some(7), "hello\n", "")
        );
        let receipt = stated(folder, "run.receipt");
        assert_eq!(receipt["command"], "exec");
        assert_eq!(receipt["policy"]["isolation"], *level);
        assert_eq!(receipt["result"]["exit_code"], 7);
        let cpu = receipt["usage"]["cpu_ms"].as_f64().unwrap();
        let elapsed = receipt["usage"]["elapsed_ms"].as_f64().unwrap();
        assert!(cpu >= 5.0 && elapsed > 0.0, "{receipt:#}");
        assert!(
            receipt["usage"]["peak_memory_bytes"].as_u64().unwrap() > 1 << 19,
            "{receipt:#}"
        );
        assert_eq!(receipt["usage"]["console_bytes"], 6);
        // sha256sum of "hello\n", of n.ts, and of ["a"].
        for (digest, expected) in [
            (
                &receipt["result"]["console_sha256"],
                "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            ),
            (
                &receipt["code"]["modules"]["n.ts"],
                "53ea5f352ea79c289fcd8dc6034d018a6be6b25c9e288483f7a890fc6194ae6b",
            ),
            (
                &receipt["arguments_sha256"],
                "0eb5b8d6f81bc677da8a08567cc4fa9a06a57e9ec8da85ed73a7f62727996002",
            ),
        ] {
            assert_eq!(digest, expected);
        }
        digests.push((
            receipt["code"]["sha256"].clone(),
            receipt["policy"]["sha256"].clone(),
        ));
    }
    // The code is the same at each level, and the policy is not.
    assert!(
        digests
            .windows(2)
            .all(|two| two[0].0 == two[1].0 && two[0].1 != two[1].1)
    );

    // A call, a failure, and an end by a limit.
    let call = [
        "call",
        "tool.ts",
        "add",
        "2",
        "3",
        "--receipt",
        "call.receipt",
    ];
    assert_eq!(in_folder(folder, &call).1, "5\n");
    let receipt = stated(folder, "call.receipt");
    assert_eq!(
        (&receipt["function"], &receipt["result"]["reason"]),
        (&"add".into(), &"done".into())
    );
    // sha256sum of "5".
    let five = "ef2d127de37b942baad06145e54b0c619a1f22327b2ebbcfbec78f5564afe39d";
    assert_eq!(receipt["result"]["value_sha256"], five);
    let looping = [
        "call",
        "tool.ts",
        "loop",
        "--cpu-limit",
        "100ms",
        "--receipt",
        "loop.receipt",
    ];
    assert_eq!(in_folder(folder, &looping).0, Some(121));
    let receipt = stated(folder, "loop.receipt");
    assert_eq!(receipt["result"]["exit_code"], 121);
    assert!(
        receipt["usage"]["cpu_ms"].as_f64().unwrap() >= 100.0,
        "{receipt:#}"
    );
}

#[test]
fn receipt_that_was_changed_or_signed_by_another_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("a.js"), "console.log(1)").unwrap();
    let run = [
        "exec",
        "a.js",
        "--isolation",
        "thread",
        "--receipt",
        "a.receipt",
    ];
    assert_eq!(in_folder(folder, &run).0, Some(0));
    let (code, out, _) = in_folder(folder, &["verify", "a.receipt"]);
    assert!(
        code == Some(0) && out.starts_with("valid: signed by the key "),
        "{out}"
    );
    for form in ["jwk", "pem", "hex"] {
        let (_, key, _) = in_folder(folder, &["receipt", "key", "--form", form]);
        std::fs::write(folder.join("public"), key).unwrap();
        let verify = ["verify", "a.receipt", "--key", "public"];
        assert_eq!(in_folder(folder, &verify).0, Some(0), "{form}");
    }
    // The mode of the key is that of a secret.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(folder.join("receipt.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    let receipt = std::fs::read_to_string(folder.join("a.receipt")).unwrap();
    let parts: Vec<&str> = receipt.trim().split('.').collect();
    for at in [
        0,
        parts[1].len() / 3,
        parts[1].len() / 2,
        parts[1].len() - 2,
    ] {
        let mut payload = parts[1].as_bytes().to_vec();
        payload[at] = if payload[at] == b'Z' { b'Y' } else { b'Z' };
        let payload = String::from_utf8(payload).unwrap();
        std::fs::write(
            folder.join("forged"),
            format!("{}.{payload}.{}", parts[0], parts[2]),
        )
        .unwrap();
        let (code, out, error) = in_folder(folder, &["verify", "forged"]);
        assert!(
            code == Some(1) && out.is_empty() && error.contains("signature does not fit"),
            "{error}"
        );
    }
    let other = ["receipt", "key", "--key", "other.key", "--form", "hex"];
    std::fs::write(folder.join("other.pub"), in_folder(folder, &other).1).unwrap();
    for (arguments, message) in [
        (
            vec!["verify", "a.receipt", "--key", "other.pub"],
            "it is signed by the key",
        ),
        (
            vec!["verify", "a.receipt", "--key", "a.js"],
            "is not a public key",
        ),
        (vec!["verify", "a.js"], "not a signed receipt"),
        (vec!["verify", "nothing"], "nothing: No such file"),
        (
            vec!["exec", "a.js", "--receipt", "b", "--receipt-key", "a.js"],
            "not an Ed25519 key",
        ),
    ] {
        let (code, _, error) = in_folder(folder, &arguments);
        assert!(
            code == Some(1) && error.contains(message),
            "{arguments:?}: {error}"
        );
    }
}
