//! The site that tests ask: a development server of this program, with state of its own.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use stockade_protocol::harmless;

/// Bytes of a line of the server, and of its messages.
const MAX_LINE_BYTES: u64 = 4096;
const MAX_MESSAGE_BYTES: u64 = 16 << 10;

/// A site that runs until it is dropped.
pub(super) struct TestSite {
    /// Such as `http://127.0.0.1:40123/`.
    pub(super) url: String,
    child: Child,
    /// When this is closed, the server stops.
    input: Option<ChildStdin>,
    /// Removed when the server has stopped.
    _data: tempfile::TempDir,
}

impl TestSite {
    /// Starts the site of a project. Blocks until it listens.
    ///
    /// # Errors
    /// Why it cannot start.
    pub(super) fn start(root: &Path, level: &str, is_shown: bool) -> Result<Self, String> {
        let failed =
            |why: &dyn std::fmt::Display| format!("cannot start the site of the tests: {why}");
        let private = Permissions::from_mode(0o700);
        let data = tempfile::Builder::new()
            .prefix("stockade-test-")
            .permissions(private)
            .tempdir();
        let data = data.map_err(|error| failed(&error))?;
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let mut command = Command::new(program);
        command
            .arg("dev")
            .arg(root)
            .args(["--port", "0", "--until-input-ends", "--isolation", level])
            .arg("--data")
            .arg(data.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(if is_shown {
                Stdio::inherit()
            } else {
                Stdio::piped()
            });
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let input = child.stdin.take();
        let mut lines = child.stdout.take().map(BufReader::new);
        let messages = child.stderr.take();
        // What it prints later is read, so that it never waits.
        let messages = messages.map(|mut messages| {
            let first = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
            let kept = std::sync::Arc::clone(&first);
            let reader = std::thread::spawn(move || {
                let mut part = [0; 4096];
                while let Ok(read @ 1..) = messages.read(&mut part) {
                    let mut kept = kept.lock();
                    let room = (MAX_MESSAGE_BYTES as usize).saturating_sub(kept.len());
                    kept.extend_from_slice(part.get(..read.min(room)).unwrap_or_default());
                }
            });
            (first, reader)
        });
        let port = lines.as_mut().and_then(port_of);
        let Some(port) = port else {
            let _ = child.kill();
            let _ = child.wait();
            let said = messages.map_or_else(Vec::new, |(first, reader)| {
                let _ = reader.join();
                std::mem::take(&mut *first.lock())
            });
            let said = String::from_utf8_lossy(&said).into_owned();
            return Err(failed(&harmless(said.trim(), MAX_MESSAGE_BYTES as usize)));
        };
        std::thread::spawn(move || {
            let _ = lines.map(|mut lines| std::io::copy(&mut lines, &mut std::io::sink()));
        });
        Ok(Self {
            url: format!("http://127.0.0.1:{port}/"),
            child,
            input,
            _data: data,
        })
    }

    /// The host and the port, as `--allow-fetch` takes them.
    pub(super) fn host(&self) -> String {
        let host = self.url.trim_start_matches("http://");
        host.trim_end_matches('/').to_owned()
    }
}

impl Drop for TestSite {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// The port in the first line with an address of a site.
fn port_of(lines: &mut BufReader<std::process::ChildStdout>) -> Option<u16> {
    loop {
        let mut line = String::new();
        let read = lines
            .by_ref()
            .take(MAX_LINE_BYTES)
            .read_line(&mut line)
            .ok()?;
        if read == 0 {
            return None;
        }
        let address = line.trim_start().strip_prefix("http://");
        let port = address.and_then(|address| {
            let (authority, _) = address.split_once('/')?;
            authority.rsplit_once(':')?.1.parse().ok()
        });
        if port.is_some() {
            return port;
        }
    }
}
