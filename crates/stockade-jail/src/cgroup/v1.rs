//! Version 1: a hierarchy for each controller, or for a few together.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{CPU_PERIOD, Controller, Limits, Version, locate, mounts};

/// The hierarchies of version 1 with a controller that we use, and the caller's own cgroup in each.
pub(super) fn hierarchies(own: &str, mountinfo: &str) -> Vec<(Version, Vec<Controller>, PathBuf)> {
    let mut found = Vec::new();
    for line in own.lines() {
        // cgroups(7): hierarchy id, controllers, path.
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(names), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let controllers: Vec<Controller> = Controller::ALL
            .into_iter()
            .filter(|controller| names.split(',').any(|name| name == controller.name()))
            .collect();
        let Some(first) = controllers.first() else {
            continue;
        };
        let place = mounts(mountinfo)
            .filter(|(_, _, kind, options)| {
                *kind == "cgroup" && options.split(',').any(|option| option == first.name())
            })
            .find_map(|(root, at, ..)| locate(path, &root, &at));
        if let Some(place) = place {
            found.push((Version::One, controllers, place));
        }
    }
    found
}

/// Sets the limits of a new cgroup.
pub(super) fn limit(
    directory: &Path,
    controllers: &[Controller],
    limits: &Limits,
) -> io::Result<()> {
    for controller in controllers {
        match controller {
            Controller::Memory if limits.memory.is_some() => {
                set_memory(directory, limits.memory)?;
            }
            Controller::Cpu => {
                if let Some(quota) = limits.cpu_quota() {
                    fs::write(directory.join("cpu.cfs_period_us"), CPU_PERIOD.to_string())?;
                    fs::write(directory.join("cpu.cfs_quota_us"), quota.to_string())?;
                }
            }
            Controller::Pids => {
                fs::write(directory.join("pids.max"), limits.tasks.to_string())?;
            }
            Controller::Memory => {}
        }
    }
    Ok(())
}

/// Limits memory, and memory with swap where the kernel counts swap.
pub(super) fn set_memory(directory: &Path, bytes: Option<u64>) -> io::Result<()> {
    let text = bytes.map_or_else(|| "-1".to_owned(), |bytes| bytes.to_string());
    let memory = directory.join("memory.limit_in_bytes");
    let with_swap = directory.join("memory.memsw.limit_in_bytes");
    if !with_swap.exists() {
        return fs::write(memory, text);
    }
    // The kernel refuses a limit without swap over the one with it, so the order depends on the direction.
    fs::write(&memory, &text)
        .and_then(|()| fs::write(&with_swap, &text))
        .or_else(|_| fs::write(&with_swap, &text).and_then(|()| fs::write(&memory, &text)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LIMITS, stand_in};
    use super::*;

    #[test]
    fn hierarchies_are_found_with_joined_and_named_ones() {
        let own = "5:name=systemd:/\n4:cpu,cpuacct:/user\n3:memory:/a b/c\n2:pids:/\n0::/\n";
        let mountinfo = "\
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 31 0:29 /user /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        assert_eq!(
            hierarchies(own, mountinfo),
            [
                (
                    Version::One,
                    vec![Controller::Cpu],
                    PathBuf::from("/sys/fs/cgroup/cpu/")
                ),
                (
                    Version::One,
                    vec![Controller::Memory],
                    PathBuf::from("/sys/fs/cgroup/memory/a b/c")
                ),
            ]
        );
    }

    #[test]
    fn limit_writes_each_controller_in_its_files() {
        let at = stand_in("v1", &["memory.memsw.limit_in_bytes"]);
        limit(&at, &Controller::ALL, &LIMITS).unwrap();
        for (file, text) in [
            ("memory.limit_in_bytes", "104857600"),
            ("memory.memsw.limit_in_bytes", "104857600"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "25000"),
            ("pids.max", "9"),
        ] {
            assert_eq!(fs::read_to_string(at.join(file)).unwrap(), text, "{file}");
        }
        set_memory(&at, None).unwrap();
        let unlimited = fs::read_to_string(at.join("memory.limit_in_bytes")).unwrap();
        assert_eq!(unlimited, "-1");
        fs::remove_dir_all(at).unwrap();
    }
}
