//! The version of Landlock, which the `landlock` crate keeps to itself.

use std::io;

/// `LANDLOCK_CREATE_RULESET_VERSION` of linux/landlock.h.
const VERSION: libc::c_uint = 1;

/// The ABI of the running kernel.
pub(crate) fn abi() -> io::Result<i32> {
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the call takes no attributes and only returns a number.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION) };
    if abi < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(abi).map_err(io::Error::other)
}
