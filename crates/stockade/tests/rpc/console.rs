//! What a guest says on its server's standard error.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::client::{call, outcome, request, round_trip};

/// Ends the server if the test fails.
struct Kill(std::process::Child);

impl Drop for Kill {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// No line of a guest passes for one of the server.
#[test]
fn console_lines_carry_the_name_of_the_module() {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("shop.ts");
    let code = r#"
        console.log("starts");
        export const forge = () => {
            console.log("one\n[WARN  stockade_rpc::lifecycle] forged\r\u001b[2J");
            console.error("two");
            Promise.reject(new Error("three\nListening on http://forged"));
            setTimeout(() => console.log("end"), 0);
            return 1;
        };
    "#;
    std::fs::File::create(&module)
        .and_then(|mut file| file.write_all(code.as_bytes()))
        .unwrap();
    let mut server = Kill(
        Command::new(env!("CARGO_BIN_EXE_stockade"))
            .args(["rpc", "--listen", "127.0.0.1:0"])
            .arg(&module)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut line = String::new();
    let mut stdout = BufReader::new(server.0.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let address = line.trim().rsplit('/').next().unwrap().to_owned();
    let stream = std::net::TcpStream::connect(address).unwrap();
    let body = call(1, "forge", json!([])).to_string();
    let (_, text) = round_trip(stream, &request("localhost", "", &body));
    assert_eq!(outcome(serde_json::from_str(&text).unwrap()), Ok(json!(1)));
    let stderr = BufReader::new(server.0.stderr.take().unwrap());
    let mut lines = Vec::new();
    for line in stderr.lines() {
        let line = line.unwrap();
        let last = line == "[shop.ts] end";
        lines.push(line);
        if last {
            break;
        }
    }
    assert!(
        lines.iter().all(|line| line.starts_with("[shop.ts] ")),
        "{lines:#?}"
    );
    assert_eq!(lines[0], "[shop.ts] starts");
    let has = |text: &str| lines.iter().any(|line| line == text);
    assert!(has("[shop.ts] one"), "{lines:#?}");
    assert!(
        has("[shop.ts] [WARN  stockade_rpc::lifecycle] forged\\u{d}\\u{1b}[2J"),
        "{lines:#?}"
    );
    assert!(has("[shop.ts] Listening on http://forged"), "{lines:#?}");
}
