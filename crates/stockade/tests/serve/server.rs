//! A running `stockade serve` with a folder of its own.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What each configuration of these tests begins with.
const HEAD: &str = r#"version: "1.0"
metrics: {listen: "127.0.0.1:0"}
logging: {format: json, level: debug}
drain_timeout: 10s
"#;

/// Listens where the system likes, in plain text.
pub(crate) const PLAIN: &str = "listeners: [{address: \"127.0.0.1:0\"}]\n";

/// Lines that the server writes while it runs.
#[derive(Default)]
struct Lines {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Lines {
    fn read(self: &Arc<Self>, from: impl Read + Send + 'static) {
        let lines = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines() {
                let Ok(line) = line else { break };
                lines.lines.lock().unwrap().push(line);
                lines.more.notify_all();
            }
            lines.lines.lock().unwrap().push(END.to_owned());
            lines.more.notify_all();
        });
    }

    /// The first that `pick` takes, from this line on.
    fn find<T>(&self, mut pick: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lines.lock().unwrap();
        let mut from = 0;
        loop {
            while let Some(line) = lines.get(from) {
                if let Some(found) = pick(line) {
                    return Some(found);
                }
                if line == END {
                    return None;
                }
                from += 1;
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            lines = self.more.wait_timeout(lines, left).unwrap().0;
        }
    }

    fn all(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}

/// Stands after the last line.
const END: &str = "\0end";

/// The program under test.
pub(crate) fn stockade() -> Command {
    Command::new(env!("CARGO_BIN_EXE_stockade"))
}

/// Writes files into a folder; makes the folders between.
pub(crate) fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// A running server. It is killed when the test is over.
pub(crate) struct Server {
    child: Child,
    pub(crate) folder: TempDir,
    /// Its listeners, in the order of the configuration.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) metrics: SocketAddr,
    out: Arc<Lines>,
    log: Arc<Lines>,
}

/// A folder with a configuration and sites.
pub(crate) fn folder(config: &str, files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files);
    write(
        folder.path(),
        &[("stockade.yaml", &format!("{HEAD}{config}"))],
    );
    folder
}

impl Server {
    /// One site on a listener in plain text. `options` are further keys of the instance, each line indented
    /// by four spaces.
    pub(crate) fn site(code: &str, options: &str) -> Self {
        let config = format!(
            "{PLAIN}instances:\n  site:\n    code: ./site/main.ts\n    urls: [\"/*\"]\n{options}"
        );
        Self::start(&config, &[("site/main.ts", code)])
    }

    /// With this configuration, to which a head is added, and these files next to it.
    pub(crate) fn start(config: &str, files: &[(&str, &str)]) -> Self {
        Self::start_in(folder(config, files), &BTreeMap::new())
    }

    /// In a folder with `stockade.yaml` in it.
    pub(crate) fn start_in(folder: TempDir, environment: &BTreeMap<&str, &str>) -> Self {
        Self::start_with(folder, environment, &[])
    }

    /// The same, with further arguments.
    pub(crate) fn start_with(
        folder: TempDir,
        environment: &BTreeMap<&str, &str>,
        arguments: &[&str],
    ) -> Self {
        let mut command = stockade();
        command.envs(environment);
        Self::start_with_arguments(command, folder, arguments)
    }

    /// By this command, which gets the arguments of the program.
    pub(crate) fn start_program(command: Command, folder: TempDir) -> Self {
        Self::start_with_arguments(command, folder, &[])
    }

    fn start_with_arguments(mut command: Command, folder: TempDir, arguments: &[&str]) -> Self {
        let mut child = command
            .arg("serve")
            .arg(folder.path().join("stockade.yaml"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, log) = (Arc::new(Lines::default()), Arc::new(Lines::default()));
        out.read(child.stdout.take().unwrap());
        log.read(child.stderr.take().unwrap());
        let mut addresses = Vec::new();
        let mut metrics = None;
        let started = out.find(|line| {
            if let Some((_, address)) = line.split_once("  listening on ") {
                let (address, _) = address.split_once(", ").unwrap();
                addresses.push(address.parse().unwrap());
            }
            if let Some((_, url)) = line.split_once("  metrics on http://") {
                metrics = url
                    .split('/')
                    .next()
                    .map(|address| address.parse().unwrap());
            }
            (line.starts_with("ready in") || line.starts_with("started in")).then_some(())
        });
        let server = Self {
            child,
            folder,
            addresses,
            metrics: metrics.unwrap_or(([127, 0, 0, 1], 1).into()),
            out,
            log,
        };
        assert!(started.is_some(), "it did not start: {}", server.log_text());
        server
    }

    /// All it has written, for a test that fails.
    pub(crate) fn log_text(&self) -> String {
        format!("{}\n{}", self.out.all(), self.log.all())
    }

    /// What it said when it started.
    pub(crate) fn announced(&self) -> String {
        self.out.all()
    }

    /// Its first listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line of the log that fits, waited for.
    pub(crate) fn logged(&self, fits: impl Fn(&Value) -> bool) -> Value {
        let found = self.log.find(|line| {
            let value: Value = serde_json::from_str(line).ok()?;
            fits(&value).then_some(value)
        });
        found.unwrap_or_else(|| panic!("not in the log: {}", self.log_text()))
    }

    /// All lines of the log until now that fit.
    pub(crate) fn log(&self, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        let lines = self.log.lines.lock().unwrap();
        let values = lines
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok());
        values.filter(fits).collect()
    }

    /// Another configuration, with the same head.
    pub(crate) fn configure(&self, config: &str) {
        write(
            self.folder.path(),
            &[("stockade.yaml", &format!("{HEAD}{config}"))],
        );
    }

    /// `stockade reload`.
    pub(crate) fn reload(&self) -> Output {
        let mut command = stockade();
        command.arg("reload").arg(self.path("stockade.yaml"));
        command.output().unwrap()
    }

    /// `stockade reload`, which must work.
    pub(crate) fn reloaded(&self) -> String {
        let output = self.reload();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{}\n{}",
            text(&output.stderr),
            self.log_text()
        );
        text(&output.stdout)
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A signal by its name, such as `TERM`.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end: {}",
                self.log_text()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The same folder, served again.
    pub(crate) fn again(mut self) -> Self {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        Self::start_in(folder, &BTreeMap::new())
    }

    /// Processes that are children of the server, at any depth.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut all = vec![self.child.id()];
        let mut at = 0;
        while at < all.len() {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", all[at]));
            for task in tasks.into_iter().flatten().flatten() {
                let children = std::fs::read_to_string(task.path().join("children"));
                let children = children.unwrap_or_default();
                all.extend(
                    children
                        .split_whitespace()
                        .filter_map(|pid| pid.parse::<u32>().ok()),
                );
            }
            at += 1;
        }
        let is_template = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.trim_end() == "stockade-templ")
        };
        let mut all = all.split_off(1);
        all.retain(|pid| !is_template(pid));
        all
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
