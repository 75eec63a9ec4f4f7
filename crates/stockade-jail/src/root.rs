//! The root directory of a container: a tmpfs without anything in it, read-only.
//!
//! No directory of the machine has to be writable: the tmpfs is mounted over one that exists and hides
//! it only in the container's own mount namespace. The old root is detached, so that nothing of it can
//! be reached, neither by path nor by descriptor (all are closed).

use std::ffi::CStr;
use std::fs;

use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::process::{chdir, pivot_root};

use crate::{JailError, namespaces};

/// Directories to mount over; each is on practically every machine.
const PLACES: [&str; 4] = ["/proc", "/tmp", "/dev", "/sys"];

/// One page, one inode: there is no room for anything.
const OPTIONS: &CStr = c"size=4k,nr_inodes=1,mode=555";

/// Makes an empty directory the root of the calling process, which must have a mount namespace of its own.
///
/// # Errors
///
/// A step fails, or the root is not what it should be afterwards.
pub(crate) fn empty() -> Result<(), JailError> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(|error| failed("making all mounts private", error))?;
    let flags = MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC
        | MountFlags::NOATIME;
    let mut mounted = Err(Errno::NOENT);
    for place in PLACES {
        mounted = mount("stockade", place, "tmpfs", flags, OPTIONS).and_then(|()| chdir(place));
        if mounted.is_ok() {
            break;
        }
    }
    mounted.map_err(|error| failed("mounting an empty tmpfs", error))?;
    // With both paths the same, the old root ends up mounted over the new one (pivot_root(2), NOTES).
    pivot_root(".", ".").map_err(|error| failed("pivot_root", error))?;
    unmount(".", UnmountFlags::DETACH).map_err(|error| failed("detaching the old root", error))?;
    chdir("/").map_err(|error| failed("chdir to the new root", error))?;
    check()
}

/// Sees for itself that the root is empty and read-only.
fn check() -> Result<(), JailError> {
    let wrong = |found: String| {
        JailError::new(
            "root",
            "the root of the worker is not what it should be",
            found,
            "report this as a defect; meanwhile choose isolation: process",
        )
    };
    let entries = fs::read_dir("/")
        .map_err(|error| wrong(error.to_string()))?
        .count();
    let flags = statvfs("/")
        .map_err(|error| wrong(error.to_string()))?
        .f_flag;
    let needed = StatVfsMountFlags::RDONLY
        | StatVfsMountFlags::NOSUID
        | StatVfsMountFlags::NODEV
        | StatVfsMountFlags::NOEXEC;
    if entries != 0 || !flags.contains(needed) {
        return Err(wrong(format!("{entries} entries, mount flags {flags:?}")));
    }
    Ok(())
}

fn failed(what: &str, error: Errno) -> JailError {
    let (mut checked, mut fix) = namespaces::powerless();
    if error == Errno::INVAL && what == "pivot_root" {
        checked = "pivot_root from the present root".to_owned();
        fix = "the root may not be the initial ramfs: start from a mounted root file system"
            .to_owned();
    }
    JailError::new("root", format!("{what} failed: {error}"), checked, fix)
}
