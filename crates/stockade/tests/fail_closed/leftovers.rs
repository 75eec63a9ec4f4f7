//! What a command that has ended has left on the machine.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the end of what is ending may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Has the orphans of all commands become children of this process.
pub(crate) fn adopt_orphans() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
}

/// Waits until no launcher and no worker lives that has lost its supervisor, and no cgroup of it is there.
pub(crate) fn wait_until_gone(supervisor: u32) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let mut left = orphans();
        cgroups(
            Path::new("/sys/fs/cgroup"),
            &format!("stockade-{supervisor}-"),
            0,
            &mut left,
        );
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(format!("left behind: {left:?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes of a supervisor that is gone.
fn orphans() -> Vec<String> {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| {
            let Some((name, rest)) = stat.rsplit_once(')') else {
                return false;
            };
            let mut rest = rest.split_whitespace();
            let (state, parent) = (rest.next(), rest.next());
            // The trials' own commands are called stockade, as the program is.
            let ours = name.contains("(stockade-");
            ours && state != Some("Z") && parent == Some(own.as_str())
        })
        .collect()
}

fn cgroups(directory: &Path, prefix: &str, depth: usize, left: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            left.push(path.display().to_string());
        } else if depth < 6 {
            cgroups(&path, prefix, depth + 1, left);
        }
    }
}
