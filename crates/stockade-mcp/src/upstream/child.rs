//! Upstream servers that are programs: started with few variables of the environment, in a process group that is
//! killed when the connection ends. Lines of their standard error go to the log.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use rmcp::service::RoleClient;
use rmcp::transport::async_rw::AsyncRwTransport;
use rustix::process::{Pid, Signal, kill_process_group};
use stockade_limits::LineLimiter;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::bounds::{
    END_TIME, LOG_LINE_BYTES, LOG_LINES_PER_SECOND, LOG_READ_BYTES, LOG_READ_EVERY, MESSAGE_BYTES,
};
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
        said: &Arc<Said>,
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
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => format!(
                    "cannot start {command}: there is no such program; is it in PATH, and does `cwd` exist?"
                ),
                _ => format!("cannot start {command}: {error}"),
            })?;
        let (Some(input), Some(output), Some(errors)) = (
            process.stdin.take(),
            process.stdout.take(),
            process.stderr.take(),
        ) else {
            return Err(format!("cannot start {command}: it has no pipes"));
        };
        *said.task.lock() = Some(tokio::spawn(log(name.to_owned(), errors, Arc::clone(said))));
        Ok((Self { process }, input, output))
    }
}

/// What a program last wrote to its standard error.
#[derive(Default)]
pub(super) struct Said {
    line: Mutex<String>,
    /// What reads it.
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Said {
    /// The last line of a program that has ended.
    pub(super) async fn last(&self) -> String {
        let task = self.task.lock().take();
        if let Some(task) = task {
            // Another process could have the descriptor.
            let _ = tokio::time::timeout(END_TIME, task).await;
        }
        self.line.lock().clone()
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

/// Writes lines to the log, as many as the bound. Where there are more, what the program has written is dropped and the
/// rest is read later, and the last line is in `said`: a flood costs this program a read of [`LOG_READ_BYTES`] every [`LOG_READ_EVERY`].
async fn log(server: String, errors: ChildStderr, said: Arc<Said>) {
    let mut reader = BufReader::with_capacity(LOG_READ_BYTES, errors);
    let mut line = Vec::new();
    let mut limiter = LineLimiter::new(Instant::now());
    loop {
        line.clear();
        let mut limited = (&mut reader).take(LOG_LINE_BYTES as u64);
        match limited.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let Some(dropped) = limiter.admit(LOG_LINES_PER_SECOND, Instant::now()) else {
            let bytes = reader.buffer().len();
            reader.consume(bytes);
            tokio::time::sleep(LOG_READ_EVERY).await;
            continue;
        };
        if dropped > 0 {
            tracing::warn!(
                server,
                "an upstream server wrote more than {LOG_LINES_PER_SECOND} lines a second; some are left out"
            );
        }
        let text = one_line(&String::from_utf8_lossy(&line), LOG_LINE_BYTES);
        if !text.is_empty() {
            said.line.lock().clone_from(&text);
        }
        tracing::info!(server, "{text}");
    }
}

/// Messages as lines.
pub(super) fn transport(
    output: ChildStdout,
    input: ChildStdin,
) -> AsyncRwTransport<RoleClient, ChildStdout, ChildStdin> {
    AsyncRwTransport::new_client(output, input).with_max_line_length(MESSAGE_BYTES)
}
