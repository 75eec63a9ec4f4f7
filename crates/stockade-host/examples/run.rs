//! Runs one script in the host isolate, without isolates: `run [--inspect-brk <address>] <script> [args…]`.

use std::process::ExitCode;

use stockade_host::{HostOptions, InspectOptions, InspectStart, block_on};
use stockade_inspector::Inspector;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let mut script = args.next();
    let mut inspect = None;
    if script.as_deref() == Some("--inspect-brk") {
        inspect = args.next().and_then(|address| address.parse().ok());
        script = args.next();
    }
    let Some(script) = script else {
        return ExitCode::from(2);
    };
    let inspect = inspect.and_then(|address| {
        let inspector = Inspector::listen(address, |target, url| {
            say(&format!("{} at {url}", target.title));
        });
        Some(InspectOptions {
            inspector: inspector.ok()?,
            start: InspectStart::Paused,
        })
    });
    let options = HostOptions {
        script: script.into(),
        args: args.collect(),
        sandbox: stockade_limits::SandboxOptions::default(),
        backends: Vec::new(),
        inspect,
    };
    match block_on(options) {
        Ok(code) => ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)),
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::from(1)
        }
    }
}

fn say(line: &str) {
    let mut stderr = std::io::stderr();
    // When standard error is closed, there is nowhere to report that.
    let _ = std::io::Write::write_all(&mut stderr, format!("{line}\n").as_bytes());
}
