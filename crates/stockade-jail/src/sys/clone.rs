//! Makes a process that goes on in the same program: clone3(2) without `CLONE_VM`.

use std::convert::Infallible;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, pidfd_send_signal, waitpid};

use super::process::exit_now;

/// `struct clone_args` of linux/sched.h in its first published size, CLONE_ARGS_SIZE_VER0.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// How long the end of a killed process is waited for.
const KILL_TIME: Timespec = Timespec {
    tv_sec: 2,
    tv_nsec: 0,
};

/// A process just made, not reaped yet.
pub(crate) struct Child {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

impl Child {
    /// Kills and reaps it. One that the kernel does not end within [`KILL_TIME`], for it is inside a call that cannot
    /// be interrupted, is reaped with all others when it has ended.
    pub(crate) fn kill(&self) {
        let pid = Pid::from_raw(self.pid);
        if pidfd_send_signal(&self.pidfd, Signal::KILL).is_err()
            && let Some(pid) = pid
        {
            // Not reaped yet, so the id is its own.
            let _ = kill_process(pid, Signal::KILL);
        }
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let _ = rustix::io::retry_on_intr(|| poll(&mut ended, Some(&KILL_TIME)));
        let _ = waitpid(pid, WaitOptions::NOHANG);
    }
}

/// Makes a process with these `CLONE_NEW…` flags that runs `main` and ends with it.
///
/// No other thread of the calling process may hold a lock: the new one has a copy of the calling thread alone,
/// and such a lock would stay locked for good.
pub(crate) fn clone_process(
    namespaces: u64,
    main: impl FnOnce() -> Infallible,
) -> io::Result<Child> {
    clone_with(
        namespaces,
        CloneArgs {
            exit_signal: libc::SIGCHLD as u64,
            ..CloneArgs::default()
        },
        main,
    )
}

/// As [`clone_process`], but the new process is a child of this process's parent, which reaps it, and its thread
/// goes on as the calling thread: the C library's notion of the thread's id is right.
pub(crate) fn clone_sibling(
    namespaces: u64,
    main: impl FnOnce() -> Infallible,
) -> io::Result<Child> {
    clone_with(
        namespaces,
        CloneArgs {
            flags: (libc::CLONE_PARENT | libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID)
                as u64,
            child_tid: thread_id_address()?,
            ..CloneArgs::default()
        },
        main,
    )
}

/// Where the C library keeps the calling thread's id: it had the kernel clear it there when the thread ends.
fn thread_id_address() -> io::Result<u64> {
    let mut address: u64 = 0;
    // SAFETY: PR_GET_TID_ADDRESS writes one pointer to where the second argument points.
    match unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut address) } {
        0 if address != 0 => Ok(address),
        0 => Err(io::Error::other("the thread's id is kept nowhere")),
        _ => Err(io::Error::last_os_error()),
    }
}

fn clone_with(
    namespaces: u64,
    args: CloneArgs,
    main: impl FnOnce() -> Infallible,
) -> io::Result<Child> {
    let mut pidfd: libc::c_int = -1;
    let flags = args.flags | namespaces | libc::CLONE_PIDFD as u64;
    let args = CloneArgs {
        flags,
        pidfd: (&raw mut pidfd) as u64,
        ..args
    };
    // SAFETY: `args` is a clone_args of the size passed, `pidfd` outlives the call. Without CLONE_VM the
    // child has a copy of this memory and stack and shares nothing with us, like after fork(2); no other
    // thread holds a lock (the caller's duty). `child_tid` is null, or a word of this thread that the
    // C library keeps for this.
    let mut pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const args,
            std::mem::size_of::<CloneArgs>(),
        )
    };
    // Seccomp filters of container runtimes answer ENOSYS to clone3 because they cannot read its flags.
    if pid < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
        // The last two are the address of the thread's id and that of its own data, in an order of each architecture.
        let (fourth, fifth) = match cfg!(target_arch = "aarch64") {
            true => (args.tls, args.child_tid),
            false => (args.child_tid, args.tls),
        };
        // SAFETY: clone(2) with the same meaning; a null stack means a copy of this one, and with
        // CLONE_PIDFD the third argument is where the descriptor goes, on x86_64 as on aarch64.
        pid = unsafe {
            libc::syscall(
                libc::SYS_clone,
                flags | args.exit_signal,
                std::ptr::null::<u8>(),
                &raw mut pidfd,
                fourth,
                fifth,
            )
        };
    }
    match pid {
        ..0 => Err(io::Error::last_os_error()),
        0 => {
            // The stack below belongs to the launcher's loop: it must neither unwind nor return into it.
            let _ = catch_unwind(AssertUnwindSafe(main));
            exit_now(crate::worker::EXIT_ABORT)
        }
        pid => Ok(Child {
            pid: pid as i32,
            // SAFETY: the kernel has just put a new descriptor there, and nobody else knows it.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// Moves the calling process to a new user namespace.
pub(crate) fn unshare_user() -> io::Result<()> {
    // SAFETY: takes flags and touches no memory; descriptors and address space stay shared as they are.
    match unsafe { libc::unshare(libc::CLONE_NEWUSER) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
