//! Cgroups of containers: memory, CPU and number of threads, where the machine lets this user have them.
//!
//! Below the launcher's own cgroup, in each hierarchy that has a controller we use, lies one directory
//! for the supervisor, `stockade-<pid>-<start time>`, and in it one for each worker, `w<id>`. What a dead
//! supervisor has left is removed by the next launcher.
//!
//! Deliberately absent: changing anything of a cgroup that is not ours, except in the one case of a
//! delegated cgroup of version 2 described in `v2`.

mod v1;
mod v2;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::{CgroupUse, JailError, JailSpec, OVERHEAD};

/// What a cgroup limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Controller {
    Memory,
    Cpu,
    Pids,
}

impl Controller {
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    /// The kernel's name of the controller.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }
}

/// The two interfaces of the kernel; cgroups(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The supervisor's directory in one hierarchy.
#[derive(Debug)]
struct Place {
    version: Version,
    /// The controllers of it that we use.
    controllers: Vec<Controller>,
    directory: PathBuf,
}

impl Place {
    /// Creates the directory of a worker, and the supervisor's again if another program has removed it.
    fn make(&self, directory: &Path) -> io::Result<()> {
        match make(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(&self.directory)?;
                if self.version == Version::Two {
                    for controller in &self.controllers {
                        v2::turn_on(&self.directory, *controller)?;
                    }
                }
                make(directory)
            }
            other => other,
        }
    }
}

/// The numbers that a worker's cgroups enforce.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Limits {
    /// Bytes, swap included.
    memory: Option<u64>,
    /// Share of one core.
    cpu: Option<f64>,
    /// Tasks: processes and threads.
    tasks: u64,
}

/// Files by which a worker moves into its cgroups, at most: one for each hierarchy.
pub(crate) const MOST_DOORS: usize = Controller::ALL.len();

/// Microseconds over which the share of a core is counted.
const CPU_PERIOD: u64 = 100_000;

/// The least that the kernel takes as a quota, in microseconds.
const LEAST_QUOTA: u64 = 1_000;

impl Limits {
    /// CPU time in microseconds for each [`CPU_PERIOD`].
    fn cpu_quota(&self) -> Option<u64> {
        self.cpu
            .map(|share| ((share * CPU_PERIOD as f64) as u64).max(LEAST_QUOTA))
    }
}

/// Bytes that the kernel lets a worker have whose guests may use this much.
pub(crate) fn kernel_limit(memory: u64) -> u64 {
    memory.saturating_add(OVERHEAD)
}

/// The cgroups of one supervisor.
#[derive(Debug)]
pub(crate) struct Cgroups {
    places: Vec<Place>,
    /// Why a controller is not available.
    lacking: Vec<(Controller, String)>,
    /// Directories of workers that could not be removed yet.
    leftover: Vec<PathBuf>,
}

/// The cgroups of one worker, one for each hierarchy.
#[derive(Debug)]
pub(crate) struct WorkerCgroup {
    directories: Vec<(Version, Vec<Controller>, PathBuf)>,
}

impl Cgroups {
    /// Finds what is there for the calling process, makes the supervisor's directories and removes what
    /// dead supervisors have left. `supervisor` is its process id.
    pub(crate) fn detect(supervisor: i32) -> Self {
        let mut found = Self {
            places: Vec::new(),
            lacking: Vec::new(),
            leftover: Vec::new(),
        };
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let name = format!(
            "stockade-{supervisor}-{}",
            start_time(supervisor).unwrap_or(0)
        );
        let mut hierarchies = v1::hierarchies(&own, &mounts);
        hierarchies.extend(v2::hierarchy(&own, &mounts));
        for controller in Controller::ALL {
            let Some((version, base)) = hierarchies
                .iter()
                .find(|(_, controllers, _)| controllers.contains(&controller))
                .map(|(version, _, base)| (*version, base.clone()))
            else {
                found
                    .lacking
                    .push((controller, "no mounted hierarchy has it".to_owned()));
                continue;
            };
            if let Err(why) = found.add(version, controller, &base, &name, supervisor) {
                found.lacking.push((controller, why));
            }
        }
        found
    }

    /// Makes the supervisor's directory in this hierarchy ready for this controller.
    fn add(
        &mut self,
        version: Version,
        controller: Controller,
        base: &Path,
        name: &str,
        supervisor: i32,
    ) -> Result<(), String> {
        let directory = base.join(name);
        if let Some(place) = self.places.iter_mut().find(|p| p.directory == directory) {
            if version == Version::Two {
                v2::delegate(base, &directory, controller, supervisor)?;
            }
            place.controllers.push(controller);
            return Ok(());
        }
        sweep(base, name);
        make(&directory).map_err(|error| format!("mkdir {}: {error}", directory.display()))?;
        self.places.push(Place {
            version,
            controllers: Vec::new(),
            directory: directory.clone(),
        });
        // What an earlier launcher of the same supervisor has left.
        self.leftover.extend(workers(&directory));
        if version == Version::Two {
            v2::delegate(base, &directory, controller, supervisor)?;
        }
        if let Some(place) = self.places.last_mut() {
            place.controllers.push(controller);
        }
        Ok(())
    }

    /// Checks that this controller is available.
    ///
    /// # Errors
    ///
    /// It is not.
    pub(crate) fn needs(&self, controller: Controller) -> Result<(), JailError> {
        match self.lacking.iter().find(|(c, _)| *c == controller) {
            Some((_, why)) => Err(lacking(controller, why)),
            None => Ok(()),
        }
    }

    /// Where this controller is used.
    pub(crate) fn directory(&self, controller: Controller) -> Option<&Path> {
        self.places
            .iter()
            .find(|place| place.controllers.contains(&controller))
            .map(|place| place.directory.as_path())
    }

    /// Makes the cgroups of a worker, with its limits set.
    ///
    /// # Errors
    ///
    /// They are required and not available, or a limit cannot be set in an available cgroup.
    pub(crate) fn make(&self, id: u64, spec: &JailSpec) -> Result<WorkerCgroup, JailError> {
        if spec.cgroup == CgroupUse::Require {
            for controller in [Controller::Memory, Controller::Pids] {
                self.needs(controller)?;
            }
        }
        let limits = Limits {
            memory: spec.memory.map(kernel_limit),
            cpu: spec.cpu_share,
            tasks: u64::from(spec.threads) + 1,
        };
        let mut made = WorkerCgroup {
            directories: Vec::new(),
        };
        for place in self.places.iter().filter(|p| !p.controllers.is_empty()) {
            let directory = place.directory.join(format!("w{id}"));
            let limited = place.make(&directory).and_then(|()| {
                // Listed first: it has to be removed whatever comes.
                made.directories.push((
                    place.version,
                    place.controllers.clone(),
                    directory.clone(),
                ));
                match place.version {
                    Version::One => v1::limit(&directory, &place.controllers, &limits),
                    Version::Two => v2::limit(&directory, &place.controllers, &limits),
                }
            });
            if let Err(error) = limited {
                made.remove();
                return Err(failed("limiting a worker", &directory, &error));
            }
        }
        Ok(made)
    }

    /// Removes the cgroups of a worker that has been reaped, at once or a little later.
    pub(crate) fn remove(&mut self, worker: &WorkerCgroup) {
        self.leftover.extend(worker.remove());
    }

    /// Tries again to remove what is left over. Whether something still is.
    pub(crate) fn tidy(&mut self) -> bool {
        self.leftover.retain(|directory| !gone(directory));
        !self.leftover.is_empty()
    }

    /// Removes the supervisor's directories; the workers' are gone by now or never will be.
    pub(crate) fn remove_all(&self) {
        for place in &self.places {
            for directory in workers(&place.directory) {
                let _ = fs::remove_dir(directory);
            }
            let _ = fs::remove_dir(&place.directory);
        }
    }
}

/// Moves the calling process, which has one thread, into the cgroups of these [doors](WorkerCgroup::doors).
pub(crate) fn go_through(doors: &[File]) -> Result<(), JailError> {
    for mut door in doors {
        door.write_all(b"0").map_err(|error| {
            failed(
                "moving into the cgroup of a worker",
                Path::new("tasks"),
                &error,
            )
        })?;
    }
    Ok(())
}

impl WorkerCgroup {
    /// Opens what a clone of the caller moves itself in by, with [`go_through`], where that is possible.
    ///
    /// Under version 1 only: the kernel moves a process that somebody names under a lock that holds up
    /// every fork and exit of the machine for milliseconds, and a thread that names itself (0, in
    /// `tasks`) under none.
    pub(crate) fn doors(&self) -> Result<Vec<File>, JailError> {
        let own = |version: &Version| matches!(version, Version::One);
        (self.directories.iter())
            .filter(|(version, _, _)| own(version))
            .map(|(_, _, directory)| {
                (File::options().write(true).open(directory.join("tasks")))
                    .map_err(|error| failed("opening the cgroup of a worker", directory, &error))
            })
            .collect()
    }

    /// Moves the process into those that have no door.
    pub(crate) fn enter(&self, pid: i32) -> Result<(), JailError> {
        for (version, _, directory) in &self.directories {
            if matches!(version, Version::Two) {
                fs::write(directory.join("cgroup.procs"), pid.to_string()).map_err(|error| {
                    failed("moving a worker into its cgroup", directory, &error)
                })?;
            }
        }
        Ok(())
    }

    /// Replaces the limit of memory.
    pub(crate) fn set_memory(&self, memory: Option<u64>) -> Result<(), JailError> {
        let bytes = memory.map(kernel_limit);
        for (version, controllers, directory) in &self.directories {
            if controllers.contains(&Controller::Memory) {
                match version {
                    Version::One => v1::set_memory(directory, bytes),
                    Version::Two => v2::set_memory(directory, bytes),
                }
                .map_err(|error| failed("setting a limit of memory", directory, &error))?;
            }
        }
        Ok(())
    }

    /// Whether the kernel has killed a process in it for want of memory.
    pub(crate) fn oom_killed(&self) -> bool {
        self.directories
            .iter()
            .filter(|(_, controllers, _)| controllers.contains(&Controller::Memory))
            .any(|(version, _, directory)| {
                // memory.oom_control and memory.events have lines of a key and a number.
                let file = match version {
                    Version::One => "memory.oom_control",
                    Version::Two => "memory.events",
                };
                let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
                value(&text, "oom_kill").is_some_and(|kills| kills > 0)
            })
    }

    /// Removes what can be removed; gives what cannot yet.
    fn remove(&self) -> Vec<PathBuf> {
        self.directories
            .iter()
            .map(|(_, _, directory)| directory)
            .filter(|directory| !gone(directory))
            .cloned()
            .collect()
    }
}

/// The number after this key in lines of `key value`.
fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (found, number) = line.split_once(' ')?;
        if found == key {
            number.trim().parse().ok()
        } else {
            None
        }
    })
}

/// Makes a directory, or finds it made.
fn make(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Removes a cgroup. Whether it is gone.
fn gone(directory: &Path) -> bool {
    match fs::remove_dir(directory) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The cgroups directly below this one.
fn below(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// The cgroups of workers below a supervisor's.
fn workers(directory: &Path) -> impl Iterator<Item = PathBuf> {
    below(directory).into_iter().filter(|path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with('w'))
    })
}

/// Removes what dead supervisors have left below `base`. Cgroups with a process in them stay: the kernel
/// does not remove them.
fn sweep(base: &Path, own: &str) {
    for directory in below(base) {
        let Some(name) = directory.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if name == own || !is_dead(name) {
            continue;
        }
        for worker in below(&directory) {
            let _ = fs::remove_dir(worker);
        }
        let _ = fs::remove_dir(&directory);
    }
}

/// Whether this is the name of a supervisor's directory whose supervisor is no more.
fn is_dead(name: &str) -> bool {
    let Some((pid, start)) = name
        .strip_prefix("stockade-")
        .and_then(|rest| rest.split_once('-'))
    else {
        return false;
    };
    match (pid.parse(), start.parse()) {
        (Ok(pid), Ok(start)) => start_time(pid) != Some(start),
        _ => false,
    }
}

/// When this process started, in clock ticks since boot; `None` when there is none. Together with the id it
/// names one process for good.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc_pid_stat(5): the second field is in parentheses and may hold anything; the start is field 22.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// A path of mountinfo without its octal escapes; proc_pid_mountinfo(5).
fn unescape(path: &str) -> String {
    path.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

/// One line of mountinfo: root within the file system, mount point, type, options of the file system.
fn mounts(mountinfo: &str) -> impl Iterator<Item = (String, PathBuf, &str, &str)> {
    mountinfo.lines().filter_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let mut system = system.split(' ');
        Some((
            unescape(mount.next()?),
            PathBuf::from(unescape(mount.next()?)),
            system.next()?,
            system.nth(1)?,
        ))
    })
}

/// Where a cgroup lies in the file system, by its path in the hierarchy and a mount of it.
fn locate(path: &str, root: &str, mount_point: &Path) -> Option<PathBuf> {
    let inside = path.strip_prefix(root.trim_end_matches('/'))?;
    // Out of the cgroup namespace that /proc shows it from: unreachable.
    if inside.split('/').any(|part| part == "..") {
        return None;
    }
    Some(mount_point.join(inside.trim_start_matches('/')))
}

fn lacking(controller: Controller, why: &str) -> JailError {
    JailError::new(
        &format!("cgroup {}", controller.name()),
        format!(
            "a cgroup with the controller {} is not available",
            controller.name()
        ),
        why,
        "run as root, or in a delegated cgroup (systemd-run --user --scope -p Delegate=yes), or do not \
         require cgroups",
    )
}

fn failed(what: &str, directory: &Path, error: &io::Error) -> JailError {
    JailError::new(
        "cgroup",
        format!("{what} failed: {error}"),
        directory.display().to_string(),
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files (ulimit -n)",
            _ => "see that this user may write there and that the parent's own limits leave room",
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_dead_only_for_names_of_ours_whose_process_is_gone() {
        let own = std::process::id();
        let start = start_time(own as i32).unwrap();
        assert!(!is_dead(&format!("stockade-{own}-{start}")));
        assert!(is_dead(&format!("stockade-{own}-{}", start + 1)));
        for other in ["stockade", "stockade-1", "stockade-x-y", "system.slice"] {
            assert!(!is_dead(other), "{other}");
        }
    }

    #[test]
    fn locate_follows_the_root_of_the_mount() {
        let at = Path::new("/sys/fs/cgroup/memory");
        assert_eq!(locate("/a/b", "/", at), Some(at.join("a/b")));
        assert_eq!(locate("/docker/x/y", "/docker/x", at), Some(at.join("y")));
        assert_eq!(locate("/", "/", at), Some(at.join("")));
        assert_eq!(locate("/other", "/docker/x", at), None);
        assert_eq!(locate("/../up", "/", at), None);
    }

    /// A directory with these empty files, in place of a cgroup.
    pub(super) fn stand_in(name: &str, files: &[&str]) -> PathBuf {
        let directory =
            std::env::temp_dir().join(format!("stockade-test-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for file in files {
            fs::write(directory.join(file), "").unwrap();
        }
        directory
    }

    pub(super) const LIMITS: Limits = Limits {
        memory: Some(100 << 20),
        cpu: Some(0.25),
        tasks: 9,
    };

    #[test]
    fn oom_kill_is_read_among_other_keys() {
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n";
        assert_eq!(value(v1, "oom_kill"), Some(1));
        let v2 = "low 0\nhigh 0\nmax 7\noom 1\noom_kill 0\noom_group_kill 0\n";
        assert_eq!(value(v2, "oom_kill"), Some(0));
        assert_eq!(value("", "oom_kill"), None);
    }

    #[test]
    fn cpu_quota_is_within_what_the_kernel_takes() {
        let quota = |cpu| {
            Limits {
                memory: None,
                cpu,
                tasks: 1,
            }
            .cpu_quota()
        };
        assert_eq!(quota(None), None);
        assert_eq!(quota(Some(0.5)), Some(50_000));
        assert_eq!(quota(Some(0.000_1)), Some(1_000));
    }
}
