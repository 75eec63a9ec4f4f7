//! The launcher's process, as its supervisor starts it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::server::{NAME, is_prepared};
use crate::JailError;

/// The launcher's process.
pub(super) struct Running {
    pub(super) process: Child,
    pub(super) control: OwnedFd,
}

/// Starts the launcher's process: this program again, under another name, with an empty environment and
/// nothing but its control socket.
pub(super) fn start_launcher() -> Result<Running, JailError> {
    if !is_prepared() {
        return Err(JailError::new(
            "launcher",
            "this program cannot be started again as the process that starts workers",
            "whether run_if_launcher was called",
            "call stockade_jail::run_if_launcher (or what a library that embeds it offers) first in main",
        ));
    }
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| start_failed(&error.into()))?;
    let process = std::process::Command::new("/proc/self/exe")
        .arg0(NAME)
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| start_failed(&error))?;
    Ok(Running {
        process,
        control: ours,
    })
}

pub(super) fn start_failed(error: &io::Error) -> JailError {
    JailError::new(
        "launcher",
        format!("starting the process that starts workers failed: {error}"),
        format!("running /proc/self/exe as {}", NAME.trim_end()),
        "mount /proc; raise the limits of processes and open files of this user (ulimit -u, ulimit -n)",
    )
}
