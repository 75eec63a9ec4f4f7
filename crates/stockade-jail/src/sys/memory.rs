//! Memory of the process: what the kernel refuses (`PR_SET_MDWE` of prctl(2)), and glibc's arenas.

use std::io;

/// From now on nothing that is writable, or that was mapped without `PROT_EXEC`, becomes executable.
/// There is no way back.
pub(crate) fn refuse_exec_gain() -> io::Result<()> {
    let flags = libc::c_ulong::from(libc::PR_MDWE_REFUSE_EXEC_GAIN);
    let zero: libc::c_ulong = 0;
    // SAFETY: plain numbers; the unused arguments are zero, as the call demands.
    if unsafe { libc::prctl(libc::PR_SET_MDWE, flags, zero, zero, zero) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether [`refuse_exec_gain`] is in force.
pub(crate) fn refuses_exec_gain() -> io::Result<bool> {
    let zero: libc::c_ulong = 0;
    // SAFETY: as above.
    let flags = unsafe { libc::prctl(libc::PR_GET_MDWE, zero, zero, zero, zero) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(flags.cast_unsigned() & libc::PR_MDWE_REFUSE_EXEC_GAIN != 0)
}

/// The most arenas that glibc's allocator makes. Without this it counts the machine's cores for the ninth,
/// and reads `/sys/devices/system/cpu/online` for it (malloc/arena.c, `arena_get2`).
#[cfg(target_env = "gnu")]
pub(crate) fn limit_arenas() {
    const MOST: libc::c_int = 64;
    // SAFETY: takes two numbers; glibc holds its own locks.
    let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, MOST) };
    debug_assert_eq!(set, 1, "glibc knows M_ARENA_MAX");
}

/// Other allocators have nothing of the kind.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn limit_arenas() {}
