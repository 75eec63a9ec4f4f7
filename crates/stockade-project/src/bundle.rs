//! Bundles code that imports packages into one module, by the developer's own esbuild.
//!
//! The bundler is a program of the developer's, as trusted as the developer's editor, but its output is as bounded as
//! any: it may hang, or write without end.
//!
//! Invariants:
//! 1. No bundler outlives the call that started it by more than its kill, nor the program: [`end_bundlers`] ends it.
//! 2. A call takes no longer than [`TIMEOUT`] and keeps no more than [`MAX_MODULE_BYTES`] of output.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use stockade_limits::{MAX_MODULE_BYTES, NODE_MODULES};

/// How long a bundler may take.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of a bundler's messages that are kept.
const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// Folders above the code in which a bundler is looked for.
const MAX_FOLDERS: usize = 32;

/// The endings of files that a bundle has as text.
pub(crate) const TEXTS: [&str; 3] = ["html", "txt", "sql"];

/// Where a source map stands in a bundle.
const MAP: &str = "\n//# sourceMappingURL=data:application/json;base64,";

/// A bundle, and what it was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// One module, with a source map whose sources are paths from the folder that it was made in.
    pub code: String,
    /// The files of the developer that are in it; those of packages are left out.
    pub sources: Vec<PathBuf>,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The bundler is not installed.
    #[error(
        "code that imports packages or texts, or leaves out endings of files, needs esbuild, and there is none in node_modules or PATH\n  \
         fix: npm install --save-dev esbuild"
    )]
    NoBundler,
    /// The bundler cannot be started.
    #[error("cannot start {program}: {why}")]
    NotStarted {
        /// Which.
        program: String,
        /// Why.
        why: String,
    },
    /// The code has errors: the bundler's own messages.
    #[error("{0}")]
    Refused(String),
    /// The bundler hung.
    #[error("the bundler did not end within {} s, and was killed\n  checked: {program}", TIMEOUT.as_secs())]
    TimedOut {
        /// Which.
        program: String,
    },
    /// The bundle, or what the bundler wrote in place of one, is too large.
    #[error("the bundle is larger than {} MiB, the most that a site may have", MAX_MODULE_BYTES >> 20)]
    TooLarge,
}

/// What runs now, so that it can be ended.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Ends the bundlers that run. Another one can start afterwards, so the program must end next.
pub fn end_bundlers() {
    if let Ok(running) = RUNNING.lock() {
        for group in running.iter() {
            let _ = kill_process_group(*group, Signal::KILL);
        }
    }
}

/// The esbuild of a project: that of its packages, or the one in PATH.
pub(crate) fn find_bundler(folder: &Path) -> Option<PathBuf> {
    let installed = folder.ancestors().take(MAX_FOLDERS);
    let installed = installed.map(|folder| folder.join("node_modules/.bin/esbuild"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    let in_path: Vec<PathBuf> = in_path.map(|folder| folder.join("esbuild")).collect();
    // Root, this user, and the one whose project it is.
    let mut owners = vec![0, rustix::process::geteuid().as_raw()];
    owners.extend(folder.metadata().map(|data| data.uid()));
    installed
        .chain(in_path)
        .find(|file| is_program(file, &owners))
}

/// Whether the file is a program of one of these users. Another user's, in a folder above such as `/tmp`, is not run.
fn is_program(file: &Path, owners: &[u32]) -> bool {
    file.metadata().is_ok_and(|data| {
        data.is_file() && data.permissions().mode() & 0o111 != 0 && owners.contains(&data.uid())
    })
}

/// Bundles a module and all that it imports. `folder` is that of the project, from which paths begin; `external` are
/// further names that stay imports.
///
/// # Errors
/// When there is no bundler, or it makes no bundle.
pub fn bundle(folder: &Path, entry: &Path, external: &[&str]) -> Result<Bundle, BundleError> {
    let program = find_bundler(folder).ok_or(BundleError::NoBundler)?;
    let mut command = Command::new(&program);
    command.arg(entry).args([
        "--bundle",
        "--format=esm",
        "--target=esnext",
        "--conditions=workerd,worker,browser",
        "--main-fields=browser,module,main",
        "--sourcemap=inline",
        "--sources-content=false",
        "--keep-names",
        "--charset=utf8",
        "--log-level=warning",
        "--color=false",
        "--define:process.env.NODE_ENV=\"development\"",
        "--external:node:*",
        "--external:cloudflare:*",
        "--external:stockade:*",
    ]);
    for ending in TEXTS {
        command.arg(format!("--loader:.{ending}=text"));
    }
    for name in NODE_MODULES.iter().chain(external) {
        command.arg(format!("--external:{name}"));
    }
    command.current_dir(folder);
    let code = run(command, &program.display().to_string(), TIMEOUT)?;
    let sources = sources(&code, folder);
    Ok(Bundle { code, sources })
}

/// What a bundler did, as its threads report it.
enum Did {
    Wrote(Result<Vec<u8>, ()>),
    Complained(Vec<u8>),
    Ended(Option<ExitStatus>),
}

/// Runs a bundler that writes to its standard output.
fn run(mut command: Command, program: &str, timeout: Duration) -> Result<String, BundleError> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let not_started = |why: &dyn std::fmt::Display| BundleError::NotStarted {
        program: program.to_owned(),
        why: why.to_string(),
    };
    let mut child = command.spawn().map_err(|error| not_started(&error))?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let group = group.ok_or_else(|| not_started(&"it has no process id"))?;
    if let Ok(mut running) = RUNNING.lock() {
        running.push(group);
    }
    let (report, reports) = channel();
    let (out, errors) = (child.stdout.take(), child.stderr.take());
    // Not scoped: who leaves the group and keeps a pipe open holds a thread, and not the call.
    let wrote = report.clone();
    std::thread::spawn(move || {
        let read = out.map_or(Ok(Vec::new()), |out| bounded(out, MAX_MODULE_BYTES));
        let _ = wrote.send(Did::Wrote(read));
    });
    let complained = report.clone();
    std::thread::spawn(move || {
        let read = errors.map_or_else(Vec::new, first_of);
        let _ = complained.send(Did::Complained(read));
    });
    std::thread::spawn(move || {
        let _ = report.send(Did::Ended(child.wait().ok()));
    });
    let result = collect(&reports, program, timeout);
    // What it left behind ends, too.
    let _ = kill_process_group(group, Signal::KILL);
    if let Ok(mut running) = RUNNING.lock() {
        running.retain(|other| *other != group);
    }
    result
}

fn collect(
    reports: &Receiver<Did>,
    program: &str,
    timeout: Duration,
) -> Result<String, BundleError> {
    let deadline = Instant::now() + timeout;
    let (mut wrote, mut complained, mut ended) = (None, None, None);
    while wrote.is_none() || complained.is_none() || ended.is_none() {
        let left = deadline.saturating_duration_since(Instant::now());
        match reports.recv_timeout(left) {
            Ok(Did::Wrote(Ok(bytes))) => wrote = Some(bytes),
            Ok(Did::Wrote(Err(()))) => return Err(BundleError::TooLarge),
            Ok(Did::Complained(bytes)) => complained = Some(bytes),
            Ok(Did::Ended(status)) => ended = Some(status),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(BundleError::TimedOut {
                    program: program.to_owned(),
                });
            }
        }
    }
    let status = ended.flatten();
    if status.is_some_and(|status| status.success()) {
        let code = String::from_utf8(wrote.unwrap_or_default());
        return code.map_err(|_| BundleError::Refused("the bundle is not UTF-8 text".to_owned()));
    }
    let complaint = complained.unwrap_or_default();
    let complaint = String::from_utf8_lossy(&complaint);
    let complaint = complaint.trim();
    if complaint.is_empty() {
        let how = match status {
            Some(status) => match status.signal() {
                Some(signal) => format!("by signal {signal}"),
                None => format!("with the code {}", status.code().unwrap_or(-1)),
            },
            None => "in an unknown way".to_owned(),
        };
        let message = format!("the bundler ended {how} and wrote no message\n  checked: {program}");
        return Err(BundleError::Refused(message));
    }
    Err(BundleError::Refused(complaint.to_owned()))
}

/// All of it, unless it is more than this.
fn bounded(input: impl Read, most: usize) -> Result<Vec<u8>, ()> {
    let mut bytes = Vec::new();
    let read = input.take(most as u64 + 1).read_to_end(&mut bytes);
    match read {
        Ok(read) if read <= most => Ok(bytes),
        Ok(_) => Err(()),
        Err(_) => Ok(bytes),
    }
}

/// The beginning of what is read to its end.
fn first_of(mut input: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let first = (&mut input).take(MAX_MESSAGE_BYTES as u64);
    if { first }.read_to_end(&mut kept).is_ok() {
        // The writer must not wait for a reader.
        let _ = std::io::copy(&mut input, &mut std::io::sink());
    }
    kept
}

/// The files that a bundle's source map names, without those of packages.
fn sources(code: &str, folder: &Path) -> Vec<PathBuf> {
    #[derive(Deserialize)]
    struct SourceMap {
        sources: Vec<String>,
    }
    let map = code.rsplit_once(MAP).map(|(_, map)| map.trim_end());
    let map = map.and_then(|map| STANDARD.decode(map).ok());
    let map = map.and_then(|map| serde_json::from_slice::<SourceMap>(&map).ok());
    let named = map.map_or_else(Vec::new, |map| map.sources);
    let packages = OsStr::new("node_modules");
    let own = named.iter().map(|name| joined(folder, name));
    own.filter(|path| !path.iter().any(|part| part == packages))
        .collect()
}

/// A path without `.` and `..`.
fn joined(folder: &Path, name: &str) -> PathBuf {
    let mut path = folder.to_owned();
    for part in Path::new(name).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(part) => path.push(part),
            Component::RootDir => path = PathBuf::from("/"),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, create_dir_all, set_permissions, write};

    use super::*;

    /// A folder with a bundler that is this script.
    fn project(script: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("node_modules/.bin");
        create_dir_all(&bin).unwrap();
        let file = bin.join("esbuild");
        write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
        folder
    }

    fn bundled(script: &str) -> Result<Bundle, BundleError> {
        let folder = project(script);
        bundle(folder.path(), Path::new("src/index.ts"), &["left"])
    }

    #[test]
    fn bundle_is_what_the_bundler_of_the_project_writes() {
        let map = STANDARD.encode(
            r#"{"version":3,"sources":["src/a.ts","../b.ts","node_modules/x/c.js"],"mappings":""}"#,
        );
        let folder = project(&format!(
            "echo \"// $1 $(echo \"$@\" | grep -c -- --external:left)\"\nprintf '\\n//# sourceMappingURL=data:application/json;base64,{map}\\n'"
        ));
        let nested = folder.path().join("x/y");
        create_dir_all(&nested).unwrap();
        let made = bundle(&nested, Path::new("src/index.ts"), &["left"]).unwrap();
        assert!(
            made.code.starts_with("// src/index.ts 1\n"),
            "{}",
            made.code
        );
        assert_eq!(
            made.sources,
            [nested.join("src/a.ts"), folder.path().join("x/b.ts")]
        );
    }

    #[test]
    fn refusal_is_the_message_of_the_bundler() {
        let error = bundled("echo 'error: no' >&2; exit 1").unwrap_err();
        assert_eq!(error.to_string(), "error: no");
        let error = bundled("kill -9 $$").unwrap_err().to_string();
        assert!(error.contains("by signal 9"), "{error}");
        let error = bundled("exit 3").unwrap_err().to_string();
        assert!(error.contains("with the code 3"), "{error}");
    }

    #[test]
    fn bundler_that_floods_is_ended() {
        assert!(matches!(
            bundled("exec yes").unwrap_err(),
            BundleError::TooLarge
        ));
        let error = bundled("yes no | head -c 10000000 >&2; exit 1").unwrap_err();
        assert!(error.to_string().len() <= MAX_MESSAGE_BYTES);
    }

    #[test]
    fn bundler_that_hangs_is_ended_with_its_children() {
        for script in [
            "sleep 1000",
            "exec >&- 2>&-; sleep 1000",
            "sleep 1000 & exit 0",
        ] {
            let folder = project(script);
            let mut command = Command::new(folder.path().join("node_modules/.bin/esbuild"));
            command.current_dir(folder.path());
            let error = run(command, "esbuild", Duration::from_millis(100)).unwrap_err();
            assert!(matches!(error, BundleError::TimedOut { .. }), "{script}");
        }
        assert!(RUNNING.lock().unwrap().is_empty());
    }
}
