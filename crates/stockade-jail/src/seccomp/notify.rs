//! Calls that the rules do not allow, on the supervisor's side (seccomp_unotify(2)).

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use syscalls::Sysno;

use crate::event::Denial;
use crate::sys;

/// Set in the numbers of the x32 ABI, which x86_64 kernels may offer besides their own.
const X32: i32 = 0x4000_0000;

/// Where a worker's refused calls arrive.
///
/// It never answers. The calling thread waits until the worker is killed, so nothing it passes can be
/// replaced by something else in the meantime, and nothing is carried out.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: OwnedFd,
    size: usize,
}

impl Listener {
    /// Listens at a descriptor that a worker's `install` made.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let size = sys::seccomp::notification_size()?;
        Ok(Self { fd, size })
    }

    /// Becomes readable when there is a denial, and hangs up when the last thread under the rules is gone.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The next denial, without waiting. One caller at a time.
    pub(crate) fn receive(&self) -> Option<Denial> {
        let mut poll = [PollFd::new(&self.fd, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // A caller that is gone by now leaves an error behind (ENOENT), not a wait.
        rustix::event::poll(&mut poll, Some(&now)).ok()?;
        if !poll[0].revents().contains(PollFlags::IN) {
            return None;
        }
        let notification = sys::seccomp::receive_notification(&self.fd, self.size).ok()?;
        Some(Denial {
            syscall: name(notification.data.nr),
            number: notification.data.nr,
            args: notification.data.args,
            thread: notification.pid.cast_signed(),
        })
    }
}

/// The name of a call of this architecture.
fn name(number: i32) -> String {
    let known = usize::try_from(number).ok().and_then(Sysno::new);
    match known {
        Some(known) => known.name().to_owned(),
        None if cfg!(target_arch = "x86_64") && number > 0 && number & X32 != 0 => {
            format!("x32 syscall {}", number & !X32)
        }
        None => format!("number {number}"),
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.syscall)?;
        match hint(&self.syscall, &self.args) {
            Some(hint) => write!(f, " {hint}"),
            None => Ok(()),
        }
    }
}

/// What the arguments show, for calls where that is the point.
fn hint(syscall: &str, args: &[u64; 6]) -> Option<String> {
    let int = |index: usize| low(args[index]).cast_signed();
    Some(match syscall {
        "mmap" if low(args[2]) & PROT_EXEC != 0 => "with PROT_EXEC".to_owned(),
        "mmap" if low(args[3]) & MAP_ANONYMOUS == 0 => format!("of descriptor {}", int(4)),
        "mmap" if low(args[3]) & MAP_TYPE != MAP_PRIVATE => "with MAP_SHARED".to_owned(),
        "mmap" => format!("with flags {:#x}", args[3]),
        "mprotect" | "pkey_mprotect" if low(args[2]) & PROT_EXEC != 0 => {
            "with PROT_EXEC".to_owned()
        }
        "clone" | "unshare" => match namespaces(args[0]) {
            Some(names) => format!("with {names}"),
            None if syscall == "clone" && args[0] & THREAD != 0 => "of a thread".to_owned(),
            None if syscall == "clone" => "of a process".to_owned(),
            None => format!("with flags {:#x}", args[0]),
        },
        "socket" | "socketpair" => format!("of family {}", family(int(0))),
        "kill" => format!("with signal {} to {}", int(1), int(0)),
        "tkill" => format!("with signal {} to thread {}", int(1), int(0)),
        "tgkill" => format!("with signal {} to thread {} of {}", int(2), int(1), int(0)),
        "ioctl" => format!("{:#x} on descriptor {}", low(args[1]), int(0)),
        "prctl" => format!("with option {}", int(0)),
        "rt_sigaction" => format!("of signal {}", int(0)),
        "fcntl" => format!("{} on descriptor {}", int(1), int(0)),
        "read" | "write" | "readv" | "writev" | "recvfrom" | "sendto" | "recvmsg" | "sendmsg"
        | "pread64" | "pwrite64" | "close" | "dup" | "dup2" | "dup3" | "connect" | "bind" => {
            format!("on descriptor {}", int(0))
        }
        _ => return None,
    })
}

const PROT_EXEC: u32 = libc::PROT_EXEC.cast_unsigned();
const MAP_ANONYMOUS: u32 = libc::MAP_ANONYMOUS.cast_unsigned();
const MAP_PRIVATE: u32 = libc::MAP_PRIVATE.cast_unsigned();
const MAP_TYPE: u32 = libc::MAP_TYPE.cast_unsigned();
const THREAD: u64 = libc::CLONE_THREAD.cast_unsigned() as u64;

/// What the kernel sees of an argument that it takes as `int`.
fn low(argument: u64) -> u32 {
    (argument & u64::from(u32::MAX)) as u32
}

fn namespaces(flags: u64) -> Option<String> {
    let all = [
        (libc::CLONE_NEWUSER, "CLONE_NEWUSER"),
        (libc::CLONE_NEWNS, "CLONE_NEWNS"),
        (libc::CLONE_NEWPID, "CLONE_NEWPID"),
        (libc::CLONE_NEWNET, "CLONE_NEWNET"),
        (libc::CLONE_NEWIPC, "CLONE_NEWIPC"),
        (libc::CLONE_NEWUTS, "CLONE_NEWUTS"),
        (libc::CLONE_NEWCGROUP, "CLONE_NEWCGROUP"),
    ];
    let names: Vec<&str> = all
        .into_iter()
        .filter(|&(flag, _)| low(flags) & flag.cast_unsigned() != 0)
        .map(|(_, name)| name)
        .collect();
    (!names.is_empty()).then(|| names.join("|"))
}

fn family(number: i32) -> String {
    let name = match number {
        libc::AF_UNIX => "AF_UNIX",
        libc::AF_INET => "AF_INET",
        libc::AF_INET6 => "AF_INET6",
        libc::AF_NETLINK => "AF_NETLINK",
        libc::AF_PACKET => "AF_PACKET",
        libc::AF_VSOCK => "AF_VSOCK",
        libc::AF_ALG => "AF_ALG",
        libc::AF_BLUETOOTH => "AF_BLUETOOTH",
        libc::AF_CAN => "AF_CAN",
        libc::AF_XDP => "AF_XDP",
        _ => return number.to_string(),
    };
    name.to_owned()
}
