//! User, PID, mount, network, IPC, UTS and cgroup namespaces of a container, and the ids of workers.
//!
//! All namespaces are made by the one call that makes the process. The network namespace keeps its
//! loopback down, so there is no network at all in it.

use std::convert::Infallible;
use std::fs;
use std::io;

use rustix::fs::{Gid, Uid};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::JailError;
use crate::sys::clone::{Child, clone_process};

/// The namespaces of a container, as flags of clone3(2).
pub(crate) const CONTAINER: u64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// User and group id of a worker, as seen inside its user namespace.
pub(crate) const INSIDE: u32 = 1000;

/// Where ids of workers begin where all ids are ours to give. No account or subordinate range of a
/// distribution lies there.
const FIRST: u32 = 1_900_000_000;
const COUNT: u32 = 100_000_000;

/// Where ids of workers begin inside a user namespace that has not all ids: the end of the 65,536 that runtimes hand out.
const FIRST_OF_FEW: u32 = 60_000;
const COUNT_OF_FEW: u32 = 5_000;

/// Gives each worker a user and group id of its own, where this process may.
#[derive(Debug)]
pub(crate) struct Ids {
    range: Option<(u32, u32)>,
    next: u32,
}

impl Ids {
    /// Finds out which ids there are to give. Without privilege to change ids there are none, and workers
    /// keep the user's own.
    pub(crate) fn detect() -> Self {
        let privileged = rustix::process::geteuid().is_root();
        let range = [(FIRST, COUNT), (FIRST_OF_FEW, COUNT_OF_FEW)]
            .into_iter()
            .find(|&(first, count)| {
                privileged
                    && ["/proc/self/uid_map", "/proc/self/gid_map"]
                        .iter()
                        .all(|map| {
                            fs::read_to_string(map).is_ok_and(|map| has_ids(&map, first, count))
                        })
            });
        let mut seed = [0; 4];
        let seeded = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::NONBLOCK);
        // Where the ids begin is random, so that two supervisors of one machine seldom share one.
        let next = match (range, seeded) {
            (Some((_, count)), Ok(_)) => u32::from_ne_bytes(seed) % count,
            _ => 0,
        };
        Self { range, next }
    }

    /// Whether there are ids to give.
    pub(crate) fn are_there(&self) -> bool {
        self.range.is_some()
    }

    /// An id that `taken` denies; `None` where workers keep the user's own.
    pub(crate) fn give(&mut self, taken: impl Fn(u32) -> bool) -> Option<u32> {
        let (first, count) = self.range?;
        (0..count).find_map(|_| {
            let id = first + self.next;
            self.next = (self.next + 1) % count;
            (!taken(id)).then_some(id)
        })
    }
}

/// Whether a map of user_namespaces(7) covers these ids.
fn has_ids(map: &str, first: u32, count: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(inside)), Some(Ok(_)), Some(Ok(length))) => {
                inside <= u64::from(first) && u64::from(first) + u64::from(count) <= inside + length
            }
            _ => false,
        }
    })
}

/// Makes a process in these new namespaces, with its ids mapped, that runs `main`. It has to wait until it
/// is notified that this returned.
///
/// # Errors
///
/// The process cannot be made, or has been killed and reaped because its ids cannot be mapped.
pub(crate) fn clone_into(
    namespaces: u64,
    own: Option<u32>,
    main: impl FnOnce() -> Infallible,
) -> Result<Child, JailError> {
    let child = clone_by(namespaces, || clone_process(namespaces, main))?;
    finish(child, namespaces, own)
}

/// Has `clone` make a process in these new namespaces; [`finish`] then maps its ids.
///
/// # Errors
///
/// The process cannot be made.
pub(crate) fn clone_by(
    namespaces: u64,
    clone: impl FnOnce() -> io::Result<Child>,
) -> Result<Child, JailError> {
    let mapped = namespaces & libc::CLONE_NEWUSER as u64 != 0;
    let dumpable =
        |state| set_dumpable_behavior(state).map_err(|error| explain(&error.into(), namespaces));
    // The maps of ids of a process that is not dumpable belong to root (proc(5)), so that an ordinary user
    // could not write them. A worker turns this off again itself.
    if mapped {
        dumpable(DumpableBehavior::Dumpable)?;
    }
    let child = clone();
    if mapped {
        dumpable(DumpableBehavior::NotDumpable)?;
    }
    child.map_err(|error| explain(&error, namespaces))
}

/// Maps the ids of a process that was just made in these namespaces.
///
/// # Errors
///
/// The kernel refuses; the process has been killed and reaped.
pub(crate) fn finish(child: Child, namespaces: u64, own: Option<u32>) -> Result<Child, JailError> {
    let mapped = namespaces & libc::CLONE_NEWUSER as u64 != 0;
    if mapped && let Err(error) = map_ids(child.pid, own) {
        child.kill();
        return Err(error);
    }
    Ok(child)
}

/// Maps [`INSIDE`] of the process's new user namespace to `own`, or to the caller's ids.
///
/// # Errors
///
/// The kernel refuses.
fn map_ids(pid: i32, own: Option<u32>) -> Result<(), JailError> {
    let uid = own.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let gid = own.unwrap_or_else(|| rustix::process::getegid().as_raw());
    for (file, text) in [
        // Without this the kernel takes no group map of an unprivileged process.
        ("setgroups", "deny".to_owned()),
        ("gid_map", format!("{INSIDE} {gid} 1")),
        ("uid_map", format!("{INSIDE} {uid} 1")),
    ] {
        let path = format!("/proc/{pid}/{file}");
        fs::write(&path, &text).map_err(|error| {
            JailError::new(
                "user namespace",
                format!("mapping the worker's ids failed: {error}"),
                format!("writing \"{text}\" to {path}"),
                "mount /proc as procfs, writable for this user",
            )
        })?;
    }
    Ok(())
}

/// Takes this user and group id in all their forms. For a process of one thread.
pub(crate) fn become_id(id: u32) -> Result<(), JailError> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .and_then(|()| rustix::thread::set_thread_res_uid(uid, uid, uid))
        .map_err(|error| {
            let what = format!("taking the id of a worker failed: {error}");
            if id == INSIDE {
                // The namespace was made, but gives no privileges in it.
                let (checked, fix) = powerless();
                return JailError::new("user namespace", what, checked, fix);
            }
            JailError::new(
                "user id",
                what,
                format!("setresgid and setresuid to {id}"),
                "run as root with CAP_SETUID and CAP_SETGID, or as an ordinary user",
            )
        })
}

/// Forbids user namespaces below the caller's own, from inside it. Whether it worked: some containers
/// mount /proc/sys read-only. The worker has no capabilities and may not call unshare, clone or setns
/// anyway.
pub(crate) fn forbid_nested() -> bool {
    fs::write("/proc/sys/user/max_user_namespaces", "0").is_ok()
}

/// Names this UTS namespace.
pub(crate) fn set_host_name() -> Result<(), JailError> {
    rustix::system::sethostname(b"stockade")
        .and_then(|()| rustix::system::setdomainname(b"(none)"))
        .map_err(|error| {
            JailError::new(
                "uts namespace",
                format!("setting the host name failed: {error}"),
                "sethostname and setdomainname in the new namespace",
                "inside a container, have its engine allow both calls (docs/containers.md), or choose isolation: process",
            )
        })
}

/// Why the process of a worker could not be made.
fn explain(error: &io::Error, namespaces: u64) -> JailError {
    if namespaces == 0 {
        return JailError::new(
            "process",
            format!("making a process failed: {error}"),
            "clone3 with CLONE_PIDFD",
            "raise the limit of processes of this user (ulimit -u) or of its cgroup (pids.max); Linux 5.9 \
             or newer is needed",
        );
    }
    let mut checked = vec![format!(
        "clone3 with CLONE_PIDFD, {}",
        names(namespaces).join(", ")
    )];
    let mut fixes: Vec<&str> = Vec::new();
    for (knob, off, fix) in KNOBS {
        let Ok(value) = fs::read_to_string(knob) else {
            continue;
        };
        let value = value.trim();
        checked.push(format!("{knob} = {value}"));
        if value == *off {
            fixes.push(fix);
        }
    }
    if fixes.is_empty() {
        fixes.push(match error.raw_os_error() {
            Some(libc::ENOSPC) => "sysctl user.max_{user,pid,mnt,net,ipc,uts,cgroup}_namespaces=15000",
            Some(libc::EINVAL) => {
                "run Linux 5.9 or newer with CONFIG_USER_NS, CONFIG_PID_NS and CONFIG_NET_NS"
            }
            Some(libc::EAGAIN | libc::ENOMEM) => "raise the limits of processes and memory of this user",
            _ => {
                "inside a container, have its runtime allow user namespaces (docker run --security-opt \
                 seccomp=unconfined, or a profile that allows clone with CLONE_NEWUSER); in a chroot, \
                 leave it"
            }
        });
    }
    fixes.push("or choose isolation: process");
    JailError::new(
        "user namespace",
        format!("creating the namespaces of a container failed: {error}"),
        checked.join("; "),
        fixes.join("; "),
    )
}

/// What turns user namespaces off: file, the value that does, the fix.
const KNOBS: &[(&str, &str, &str)] = &[
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "sysctl user.max_user_namespaces=15000",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "sysctl kernel.unprivileged_userns_clone=1",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "give the program an AppArmor profile with `userns,`, or sysctl \
         kernel.apparmor_restrict_unprivileged_userns=0",
    ),
];

/// What to do where a user namespace gives no privileges in it.
pub(crate) fn powerless() -> (String, String) {
    let checked = KNOBS
        .iter()
        .filter_map(|(knob, ..)| {
            let value = fs::read_to_string(knob).ok()?;
            Some(format!("{knob} = {}", value.trim()))
        })
        .collect::<Vec<_>>()
        .join("; ");
    let fix = "where AppArmor restricts user namespaces (Ubuntu 23.10 and later): give the program a \
               profile with `userns,`, or sysctl kernel.apparmor_restrict_unprivileged_userns=0; or choose \
               isolation: process";
    (checked, fix.to_owned())
}

/// The names of these flags.
fn names(flags: u64) -> Vec<&'static str> {
    [
        (libc::CLONE_NEWUSER, "CLONE_NEWUSER"),
        (libc::CLONE_NEWPID, "CLONE_NEWPID"),
        (libc::CLONE_NEWNS, "CLONE_NEWNS"),
        (libc::CLONE_NEWNET, "CLONE_NEWNET"),
        (libc::CLONE_NEWIPC, "CLONE_NEWIPC"),
        (libc::CLONE_NEWUTS, "CLONE_NEWUTS"),
        (libc::CLONE_NEWCGROUP, "CLONE_NEWCGROUP"),
    ]
    .into_iter()
    .filter(|&(flag, _)| flags & flag as u64 != 0)
    .map(|(_, name)| name)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_ids_needs_the_whole_range_in_one_extent() {
        let all = "         0          0 4294967295\n";
        assert!(has_ids(all, FIRST, COUNT));
        let rootless = "0 1000 1\n1 100000 65536\n";
        assert!(!has_ids(rootless, FIRST, COUNT));
        assert!(has_ids(rootless, FIRST_OF_FEW, COUNT_OF_FEW));
        assert!(!has_ids("0 1000 1\n", FIRST_OF_FEW, COUNT_OF_FEW));
        assert!(!has_ids("garbage", 0, 1));
    }

    #[test]
    fn give_skips_taken_and_wraps_around() {
        let mut ids = Ids {
            range: Some((10, 3)),
            next: 2,
        };
        assert_eq!(ids.give(|_| false), Some(12));
        assert_eq!(ids.give(|id| id == 10), Some(11));
        assert_eq!(ids.give(|_| true), None);
        let mut none = Ids {
            range: None,
            next: 0,
        };
        assert_eq!(none.give(|_| false), None);
    }
}
