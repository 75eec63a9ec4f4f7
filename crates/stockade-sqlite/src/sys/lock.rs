//! Locks that belong to an open file, which no library wraps.

use std::io;
use std::os::fd::RawFd;

/// Sets a lock, without waiting.
pub(crate) fn set(file: RawFd, region: &libc::flock) -> io::Result<()> {
    // SAFETY: the kernel reads a flock for this command, and `region` is one.
    match unsafe { libc::fcntl(file, libc::F_OFD_SETLK, std::ptr::from_ref(region)) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
