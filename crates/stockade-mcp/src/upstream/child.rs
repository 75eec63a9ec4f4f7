//! Upstream servers that are programs: started with few variables of the environment, in a process group that is
//! killed when the connection ends. Lines of their standard error go to the log.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use rmcp::service::RoleClient;
use rmcp::transport::async_rw::AsyncRwTransport;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};

use crate::bounds::{LOG_LINE_BYTES, MESSAGE_BYTES};
use crate::declare::one_line;

/// Variables that programs need and that hold nothing secret. Others are given by `env` of the configuration.
const INHERITED: [&str; 9] = [
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "TZ", "TMPDIR",
];

/// A running program. Dropping it kills its process group.
pub(super) struct Child {
    process: tokio::process::Child,
}

impl Child {
    pub(super) fn start(
        name: &str,
        command: &str,
        args: &[String],
        env: &BTreeMap<String, String>,
        cwd: Option<&Path>,
    ) -> Result<(Self, ChildStdin, ChildStdout), String> {
        let mut builder = Command::new(command);
        builder.args(args).env_clear();
        for variable in INHERITED {
            if let Some(value) = std::env::var_os(variable) {
                builder.env(variable, value);
            }
        }
        builder.envs(env);
        if let Some(cwd) = cwd {
            builder.current_dir(cwd);
        }
        builder
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut process = builder
            .spawn()
            .map_err(|error| format!("cannot start {command}: {error}"))?;
        let (Some(input), Some(output), Some(errors)) = (
            process.stdin.take(),
            process.stdout.take(),
            process.stderr.take(),
        ) else {
            return Err(format!("cannot start {command}: it has no pipes"));
        };
        tokio::spawn(log(name.to_owned(), errors));
        Ok((Self { process }, input, output))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let id = self
            .process
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        if let Some(id) = id {
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

/// Writes each line to the log, as far as the bound.
async fn log(server: String, errors: ChildStderr) {
    let mut reader = BufReader::new(errors);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut reader).take(LOG_LINE_BYTES as u64);
        match limited.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = one_line(&String::from_utf8_lossy(&line), LOG_LINE_BYTES);
                tracing::info!(server, "{text}");
            }
        }
    }
}

/// Messages as lines.
pub(super) fn transport(
    output: ChildStdout,
    input: ChildStdin,
) -> AsyncRwTransport<RoleClient, ChildStdout, ChildStdin> {
    AsyncRwTransport::new_client(output, input).with_max_line_length(MESSAGE_BYTES)
}
