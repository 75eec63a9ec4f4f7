//! Runs a case's program to its end, or to its timeout.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

use crate::case::Case;

/// What became of it.
pub(crate) struct Finished {
    /// `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) timed_out: bool,
}

/// Runs the case's program.
pub(crate) fn run(case: &Case) -> Result<Finished, String> {
    let mut child = Command::new(&case.program)
        .args(&case.arguments)
        .current_dir(&case.folder)
        .envs(&case.settings.env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", case.program.display()))?;
    let deadline = Instant::now() + case.settings.timeout;
    let (closed, all_closed) = mpsc::channel();
    let stdout = collect(child.stdout.take(), closed.clone());
    let stderr = collect(child.stderr.take(), closed);
    feed(&mut child, case.settings.stdin.clone());
    // Each sender goes when its pipe is closed.
    let timed_out = matches!(
        all_closed.recv_timeout(deadline.saturating_duration_since(Instant::now())),
        Err(mpsc::RecvTimeoutError::Timeout)
    );
    if timed_out {
        child.kill().map_err(|error| error.to_string())?;
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    Ok(Finished {
        code: status.code(),
        stdout: stdout.text(),
        stderr: stderr.text(),
        timed_out,
    })
}

struct Collected(Arc<Mutex<Vec<u8>>>);

impl Collected {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Reads a pipe to its end on a thread of its own; holds `closed` until then.
fn collect(pipe: Option<impl Read + Send + 'static>, closed: mpsc::Sender<()>) -> Collected {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&bytes);
    std::thread::spawn(move || {
        let mut chunk = [0; 16 * 1024];
        let Some(mut pipe) = pipe else { return };
        while let Ok(count @ 1..) = pipe.read(&mut chunk) {
            let mut bytes = shared.lock().unwrap_or_else(PoisonError::into_inner);
            bytes.extend_from_slice(&chunk[..count]);
        }
        drop(closed);
    });
    Collected(bytes)
}

/// Gives the child its standard input; one that does not read it is fine.
fn feed(child: &mut Child, text: String) {
    if let Some(mut stdin) = child.stdin.take() {
        std::thread::spawn(move || drop(stdin.write_all(text.as_bytes())));
    }
}
