//! Descriptors by number.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// Makes `number` refer to what `from` refers to, without close-on-exec; what was there is closed.
///
/// For a process that is arranging its descriptors and holds no owner of `number`.
pub(crate) fn place(from: impl AsFd, number: RawFd) -> io::Result<()> {
    // SAFETY: dup2 takes numbers and touches no memory. That no owner of `number` exists is the caller's
    // duty; in a fresh clone nothing but the code that calls this uses descriptors.
    match unsafe { libc::dup2(from.as_fd().as_raw_fd(), number) } {
        ..0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Takes the descriptor of this number, which must be open and owned by nobody.
pub(crate) fn take(number: RawFd) -> OwnedFd {
    // SAFETY: the caller has just placed it and takes it once.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// The descriptor of this number, if it is open.
pub(crate) fn borrow(number: RawFd) -> Option<BorrowedFd<'static>> {
    // SAFETY: F_GETFD of any number has no effect but its result.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: it is open now, and the caller reads it while nobody closes descriptors.
    Some(unsafe { BorrowedFd::borrow_raw(number) })
}

/// Closes every descriptor from `first` on. Owners of one must be forgotten, not dropped.
pub(crate) fn close_from(first: RawFd) -> io::Result<()> {
    close_range(first, RawFd::MAX)
}

/// Closes every descriptor from `first` to `last`. Owners of one must be forgotten, not dropped.
pub(crate) fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    // SAFETY: close_range takes numbers and touches no memory. Only called where every later descriptor is
    // foreign (inherited through exec) or its owner will never run again (in a clone).
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
