//! Version 2: one hierarchy, whose controllers a parent turns on for its children.
//!
//! A cgroup other than the root may turn controllers on for its children only while no process is in it
//! itself (cgroups(7), "no internal processes"). In a cgroup delegated to this user alone (systemd's
//! `Delegate=yes`), supervisor and launcher are in it: they move to a leaf of their own,
//! `stockade-<pid>-<start time>/supervisor`. Where any other process is in it too, nothing is moved and the
//! controllers are not available.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{CPU_PERIOD, Controller, Limits, Version, locate, make, mounts};

/// Where supervisor and launcher go when their cgroup must be without processes.
const LEAF: &str = "supervisor";

/// The hierarchy, with those of our controllers that the caller's own cgroup has.
pub(super) fn hierarchy(own: &str, mountinfo: &str) -> Option<(Version, Vec<Controller>, PathBuf)> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let place = mounts(mountinfo)
        .filter(|(_, _, kind, _)| *kind == "cgroup2")
        .find_map(|(root, at, ..)| locate(path, &root, &at))?;
    // A launcher that follows another of the same supervisor finds itself in the leaf.
    let place = match (place.file_name(), place.parent().and_then(Path::parent)) {
        (Some(name), Some(above)) if name == LEAF && is_ours(&place) => above.to_owned(),
        _ => place,
    };
    let names = fs::read_to_string(place.join("cgroup.controllers")).ok()?;
    let controllers: Vec<Controller> = Controller::ALL
        .into_iter()
        .filter(|controller| {
            names
                .split_whitespace()
                .any(|name| name == controller.name())
        })
        .collect();
    (!controllers.is_empty()).then_some((Version::Two, controllers, place))
}

fn is_ours(leaf: &Path) -> bool {
    leaf.parent()
        .and_then(Path::file_name)
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with("stockade-"))
}

/// Turns a controller on for the children of `base` and of `directory`, the supervisor's below it.
pub(super) fn delegate(
    base: &Path,
    directory: &Path,
    controller: Controller,
    supervisor: i32,
) -> Result<(), String> {
    let turn_on = |at: &Path| turn_on(at, controller);
    let explained = |at: &Path, error: &io::Error| {
        format!(
            "writing +{} to {}/cgroup.subtree_control: {error}",
            controller.name(),
            at.display()
        )
    };
    match turn_on(base) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            move_to_leaf(base, directory, supervisor)?;
            turn_on(base).map_err(|error| explained(base, &error))?;
        }
        other => other.map_err(|error| explained(base, &error))?,
    }
    turn_on(directory).map_err(|error| explained(directory, &error))
}

/// Turns a controller on for the children of this cgroup.
pub(super) fn turn_on(at: &Path, controller: Controller) -> io::Result<()> {
    let file = at.join("cgroup.subtree_control");
    let on = fs::read_to_string(&file)?;
    if on.split_whitespace().any(|name| name == controller.name()) {
        return Ok(());
    }
    fs::write(file, format!("+{}", controller.name()))
}

/// Moves supervisor and launcher out of `base`, if nobody else is in it.
fn move_to_leaf(base: &Path, directory: &Path, supervisor: i32) -> Result<(), String> {
    let ours = [supervisor.to_string(), std::process::id().to_string()];
    let processes = fs::read_to_string(base.join("cgroup.procs")).map_err(|e| e.to_string())?;
    if let Some(other) = processes
        .lines()
        .find(|pid| !ours.iter().any(|own| own == pid))
    {
        return Err(format!(
            "{} also holds process {other}, so that no controller can be turned on below it",
            base.display()
        ));
    }
    let leaf = directory.join(LEAF);
    make(&leaf)
        .and_then(|()| {
            ours.iter()
                .try_for_each(|pid| fs::write(leaf.join("cgroup.procs"), pid))
        })
        .map_err(|error| format!("moving to {}: {error}", leaf.display()))
}

/// Sets the limits of a new cgroup.
pub(super) fn limit(
    directory: &Path,
    controllers: &[Controller],
    limits: &Limits,
) -> io::Result<()> {
    for controller in controllers {
        match controller {
            Controller::Memory => {
                set_memory(directory, limits.memory)?;
                // Absent before Linux 4.19; a worker is one process anyway.
                let _ = fs::write(directory.join("memory.oom.group"), "1");
            }
            Controller::Cpu => {
                if let Some(quota) = limits.cpu_quota() {
                    fs::write(directory.join("cpu.max"), format!("{quota} {CPU_PERIOD}"))?;
                }
            }
            Controller::Pids => {
                fs::write(directory.join("pids.max"), limits.tasks.to_string())?;
            }
        }
    }
    Ok(())
}

/// Limits memory and allows no swap in addition.
pub(super) fn set_memory(directory: &Path, bytes: Option<u64>) -> io::Result<()> {
    let text = bytes.map_or_else(|| "max".to_owned(), |bytes| bytes.to_string());
    fs::write(directory.join("memory.max"), &text)?;
    let swap = directory.join("memory.swap.max");
    if swap.exists() {
        fs::write(swap, if bytes.is_some() { "0" } else { "max" })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LIMITS, stand_in};
    use super::*;

    #[test]
    fn hierarchy_gives_the_controllers_of_the_own_cgroup() {
        let at = stand_in("v2", &[]);
        let mountinfo = format!("41 31 0:38 /a {} rw - cgroup2 cgroup2 rw\n", at.display());
        assert_eq!(hierarchy("0::/a\n", &mountinfo), None);
        fs::write(at.join("cgroup.controllers"), "cpuset cpu io pids\n").unwrap();
        assert_eq!(
            hierarchy("0::/a\n", &mountinfo),
            Some((
                Version::Two,
                vec![Controller::Cpu, Controller::Pids],
                at.join("")
            ))
        );
        // Of another cgroup namespace.
        assert_eq!(hierarchy("0::/../b\n", &mountinfo), None);
        fs::remove_dir_all(at).unwrap();
    }

    #[test]
    fn hierarchy_of_a_supervisor_that_moved_is_above_its_leaf() {
        let at = stand_in("v2-leaf", &[]);
        fs::write(at.join("cgroup.controllers"), "memory\n").unwrap();
        let leaf = at.join("stockade-1-2/supervisor");
        fs::create_dir_all(&leaf).unwrap();
        let mountinfo = format!("41 31 0:38 / {} rw - cgroup2 cgroup2 rw\n", at.display());
        let found = hierarchy("0::/stockade-1-2/supervisor\n", &mountinfo).unwrap();
        assert_eq!(found.2, at);
        fs::remove_dir_all(at).unwrap();
    }

    #[test]
    fn delegate_turns_a_controller_on_where_it_is_off() {
        let at = stand_in("v2-on", &["cgroup.subtree_control"]);
        let below = at.join("stockade-1-2");
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("cgroup.subtree_control"), "pids memory\n").unwrap();
        delegate(&at, &below, Controller::Memory, 1).unwrap();
        let written = |at: &Path| fs::read_to_string(at.join("cgroup.subtree_control")).unwrap();
        assert_eq!(written(&at), "+memory");
        assert_eq!(written(&below), "pids memory\n");
        fs::remove_dir_all(at).unwrap();
    }

    #[test]
    fn limit_writes_each_controller_in_its_files() {
        let at = stand_in("v2-limit", &["memory.swap.max"]);
        limit(&at, &Controller::ALL, &LIMITS).unwrap();
        for (file, text) in [
            ("memory.max", "104857600"),
            ("memory.swap.max", "0"),
            ("cpu.max", "25000 100000"),
            ("pids.max", "9"),
        ] {
            assert_eq!(fs::read_to_string(at.join(file)).unwrap(), text, "{file}");
        }
        set_memory(&at, None).unwrap();
        assert_eq!(fs::read_to_string(at.join("memory.max")).unwrap(), "max");
        fs::remove_dir_all(at).unwrap();
    }
}
