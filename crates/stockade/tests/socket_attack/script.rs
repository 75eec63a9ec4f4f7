//! A host script whose guest's worker forges what runtimes say to each other.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::Failed;
use stockade::{Isolation, SandboxOptions};
use stockade_host::{HostOptions, block_on};

use crate::attack;

/// Has this program run the script of this name.
pub(crate) const RUN: &str = "STOCKADE_SOCKET_ATTACK_RUN";

/// What the script prints when nothing worked.
const EXPECTED: &str = include_str!("forged_controls.out");

pub(crate) fn main(script: OsString) -> ExitCode {
    stockade::initialize();
    let options = HostOptions {
        script: script.into(),
        args: std::env::args().skip(1).collect(),
        sandbox: SandboxOptions::default(),
        backends: stockade::backends(),
        inspect: None,
    };
    match block_on(options) {
        Ok(code) => std::process::exit(code),
        Err(_) => ExitCode::FAILURE,
    }
}

pub(crate) fn try_controls(level: Isolation) -> Result<(), Failed> {
    let index = attack::all()
        .position(|attack| attack.name == "controls_forged")
        .ok_or("no such attack")?;
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/socket_attack/forged_controls.js");
    let output = Command::new(std::env::current_exe()?)
        .env(RUN, script)
        .args([level.name(), &(attack::limit(index) >> 20).to_string()])
        .output()?;
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if output.status.success() && out == EXPECTED {
        Ok(())
    } else {
        Err(format!(
            "{}\n== printed\n{out}\n== standard error\n{err}",
            output.status
        )
        .into())
    }
}
