//! Runs one script in the host isolate: `run <script> [args…]`.

use std::process::ExitCode;

use stockade_host::{HostOptions, block_on};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(script) = args.next() else {
        return ExitCode::from(2);
    };
    let options = HostOptions {
        script: script.into(),
        args: args.collect(),
        sandbox: stockade_policy::SandboxOptions::default(),
        walls: Vec::new(),
        inspect: None,
    };
    match block_on(options) {
        Ok(code) => ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)),
        Err(error) => {
            log::error!("{error}");
            std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("error: {error}\n").as_bytes(),
            )
            .ok();
            ExitCode::from(1)
        }
    }
}
