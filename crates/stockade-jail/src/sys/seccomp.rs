//! seccomp(2) and the ioctls of its listeners (seccomp_unotify(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use seccompiler::sock_filter;

/// Puts a filter over all threads of the process. Calls for which it returns `SECCOMP_RET_USER_NOTIF` wait
/// for the process that has the descriptor.
///
/// The calling thread must have no new privileges, and the others no filters but those it has.
pub(crate) fn set_filter(program: &[sock_filter]) -> io::Result<OwnedFd> {
    const {
        assert!(size_of::<sock_filter>() == size_of::<libc::sock_filter>());
        assert!(align_of::<sock_filter>() == align_of::<libc::sock_filter>());
    }
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // With TSYNC_ESRCH a thread that cannot follow is an error as any other, not its id as the result.
    let flags = libc::SECCOMP_FILTER_FLAG_TSYNC
        | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH
        | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // SAFETY: `program` points to as many instructions as it says, of the kernel's layout (both types are
    // repr(C) of the fields of linux/filter.h). The kernel copies them and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: with NEW_LISTENER the call returns a new descriptor, which nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Bytes of a notification in this kernel, at least those of `libc::seccomp_notif`.
pub(crate) fn notification_size() -> io::Result<usize> {
    let mut sizes = libc::seccomp_notif_sizes {
        seccomp_notif: 0,
        seccomp_notif_resp: 0,
        seccomp_data: 0,
    };
    // SAFETY: the kernel writes one `seccomp_notif_sizes`, which is alive.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_NOTIF_SIZES,
            0,
            &raw mut sizes,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::from(sizes.seccomp_notif).max(size_of::<libc::seccomp_notif>()))
}

/// Takes one notification from a listener; waits while there is none.
///
/// `size` is that of [`notification_size`].
pub(crate) fn receive_notification(
    listener: impl AsFd,
    size: usize,
) -> io::Result<libc::seccomp_notif> {
    let size = size.max(size_of::<libc::seccomp_notif>());
    // Words, so that it is aligned as the structure is. The kernel demands zeros.
    let mut buffer = vec![0_u64; size.div_ceil(size_of::<u64>())];
    const { assert!(align_of::<libc::seccomp_notif>() <= align_of::<u64>()) };
    // SAFETY: the kernel writes a notification of its own size, and the buffer has at least that.
    let result = unsafe {
        libc::ioctl(
            listener.as_fd().as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            buffer.as_mut_ptr(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the buffer is aligned and large enough for one `seccomp_notif`, for which any bytes are valid.
    Ok(unsafe { buffer.as_ptr().cast::<libc::seccomp_notif>().read() })
}
