//! Putting the rules in force.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::thread::SecureComputingMode;

use super::LAYER;
use super::compile::Filters;
use crate::JailError;
use crate::sys;

/// Puts the rules over all threads of the process and gives the descriptor that refused calls come from.
///
/// All threads must have been made. One that has not got far yet finishes its start under the rules: what
/// glibc, Rust and V8 ask for then is allowed, or refused in a way that they live with. The calling thread
/// must not be the main one, see [`settle_libraries`].
pub(crate) fn install(filters: &Filters) -> Result<OwnedFd, JailError> {
    settle_libraries();
    let process = rustix::process::getpid().as_raw_pid().cast_unsigned();
    let program = filters.fit(process).map_err(|what| {
        JailError::new(
            LAYER,
            format!("the rules cannot be fitted to this process: {what}"),
            format!("process {process}"),
            "this is a fault of Stockade: report it",
        )
    })?;
    sys::seccomp::set_filter(&program).map_err(failed)
}

fn failed(error: std::io::Error) -> JailError {
    let (checked, fix) = match error.raw_os_error() {
        Some(libc::ESRCH) => (
            "a thread of the worker has filters of its own",
            "this is a fault of Stockade: report it",
        ),
        Some(libc::EBUSY) => (
            "a filter of the process that started Stockade already has a listener",
            "start Stockade outside of that sandbox, or choose isolation: thread",
        ),
        _ => (
            "seccomp(SECCOMP_SET_MODE_FILTER, TSYNC | NEW_LISTENER)",
            "run a kernel of at least 5.7 with CONFIG_SECCOMP_FILTER, and let a sandbox around it allow seccomp(2)",
        ),
    };
    JailError::new(
        LAYER,
        format!("the kernel does not take the rules ({error})"),
        checked,
        fix,
    )
}

/// Has libraries ask now what they would ask later, once for the process.
fn settle_libraries() {
    sys::memory::limit_arenas();
    // The first time that an arena other than the main one shrinks, glibc reads
    // /proc/sys/vm/overcommit_memory (`check_may_shrink_heap`). It does when blocks are freed that lie at
    // the arena's end: each below the 128 KiB from which glibc maps them by themselves, all above what it
    // keeps.
    let blocks: Vec<Vec<u8>> = (0..16).map(|_| Vec::with_capacity(100 << 10)).collect();
    drop(std::hint::black_box(blocks));
    // rustix looks for the vDSO with PR_GET_AUXV.
    let _ = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let _ = rustix::param::page_size();
}

/// Returns whether the rules hold: the kernel says so, and a call that they refuse fails as they say.
pub(crate) fn self_test() -> Result<(), JailError> {
    let open = |checked: String| {
        JailError::new(
            LAYER,
            "the rules were installed and do not hold",
            checked,
            "this is a fault of the kernel or of a sandbox that stands in for it; run on a plain Linux kernel",
        )
    };
    match rustix::thread::secure_computing_mode() {
        Ok(SecureComputingMode::Filter) => {}
        other => return Err(open(format!("PR_GET_SECCOMP gives {other:?}"))),
    }
    // Descriptor 2 is open; without the rules the kernel gives another error, or none.
    match rustix::io::write(std::io::stderr().as_fd(), b"") {
        Err(Errno::BADF) => Ok(()),
        other => Err(open(format!(
            "write to descriptor 2 gives {other:?}, not EBADF"
        ))),
    }
}
