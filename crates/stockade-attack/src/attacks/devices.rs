//! The kernel's back doors: io_uring, bpf, keys, ioctls, devices.

use libc::{AT_FDCWD, O_RDONLY, O_RDWR, S_IFBLK, S_IFCHR, S_IFIFO, TIOCSTI};
use syscalls::Sysno;

use crate::attack::{Attack, Expect, attack, denied};
use crate::controls::{CLOSED, MESSAGES, RANDOM, WAKE};
use crate::sys::{at, call, into, text};

const TIOCLINUX: u32 = 0x541c;
const HIGH_BITS: u64 = 0x1_0000_0000;

pub(super) static ATTACKS: &[Attack] = &[
    denied!(11, "io_uring_setup", MESSAGES, io_uring_setup [8, into(&mut [0_u8; 120])]),
    denied!(
        11, "io_uring_setup with a polling thread", MESSAGES,
        io_uring_setup [8, at(&[0_u32, 0, 2, 0, 0])]
    ),
    denied!(11, "io_uring_enter", MESSAGES, io_uring_enter [3, 1, 1, 1, 0, 0]),
    denied!(11, "io_uring_register", MESSAGES, io_uring_register [3, 0, 0, 0]),
    denied!(11, "io_setup of the older interface", MESSAGES, io_setup [8, into(&mut 0_u64)]),
    denied!(11, "io_submit of the older interface", MESSAGES, io_submit [0, 0, 0]),
    //
    denied!(12, "bpf BPF_MAP_CREATE", WAKE, bpf [0, at(&[2_u32, 4, 4, 1, 0, 0, 0, 0]), 32]),
    denied!(12, "bpf BPF_PROG_LOAD", WAKE, bpf [5, at(&[0_u64; 16]), 128]),
    denied!(12, "perf_event_open", WAKE, perf_event_open [at(&[0_u64; 16]), 0, -1_i32, -1_i32, 0]),
    denied!(12, "userfaultfd", WAKE, userfaultfd[1]),
    denied!(
        12, "open /dev/userfaultfd", WAKE,
        openat [AT_FDCWD, text(c"/dev/userfaultfd"), O_RDWR]
    ),
    denied!(
        12, "open tracefs", WAKE,
        openat [AT_FDCWD, text(c"/sys/kernel/tracing/trace_pipe"), O_RDONLY]
    ),
    #[cfg(target_arch = "x86_64")]
    attack(
        12,
        "the processor's performance counters",
        WAKE,
        Expect::Signaled(&[libc::SIGSEGV]),
        |_targets| crate::sys::fault(crate::sys::Fault::Counters),
    ),
    //
    denied!(13, "add_key", RANDOM, add_key [text(c"user"), text(c"x"), at(b"x"), 1, -3_i32]),
    denied!(13, "request_key", RANDOM, request_key [text(c"user"), text(c"x"), 0, 0]),
    denied!(13, "keyctl KEYCTL_GET_KEYRING_ID", RANDOM, keyctl [0, -3_i32, 0]),
    denied!(13, "keyctl KEYCTL_JOIN_SESSION_KEYRING", RANDOM, keyctl [1, 0]),
    denied!(13, "keyctl KEYCTL_INSTANTIATE", RANDOM, keyctl [12, 0, 0, 0, 0]),
    //
    denied!(18, "ioctl TIOCSTI", CLOSED, ioctl [0, TIOCSTI, at(b"x")]),
    denied!(18, "ioctl TIOCSTI with high bits", CLOSED, ioctl [0, HIGH_BITS | TIOCSTI, at(b"x")]),
    denied!(18, "ioctl TIOCLINUX", CLOSED, ioctl [0, TIOCLINUX, at(&[2_u8, 0])]),
    denied!(
        18, "ioctl TIOCLINUX with high bits", CLOSED,
        ioctl [0, HIGH_BITS | u64::from(TIOCLINUX), at(&[2_u8, 0])]
    ),
    denied!(18, "ioctl TIOCSCTTY", CLOSED, ioctl [0, libc::TIOCSCTTY, 0]),
    denied!(
        18, "ioctl FIONREAD of the message socket", CLOSED,
        ioctl [3, libc::FIONREAD, into(&mut 0_i32)]
    ),
    denied!(
        18, "ioctl SIOCGIFCONF of the message socket", CLOSED,
        ioctl [3, 0x8912, into(&mut [0_u64; 4])]
    ),
    denied!(18, "ioctl SIOCUNIXFILE of the message socket", CLOSED, ioctl [3, 0x89e0, 0]),
    //
    denied!(
        22, "mknodat of /dev/mem", MESSAGES,
        mknodat [AT_FDCWD, text(c"stockade-mem"), S_IFCHR | 0o600, 0x101]
    ),
    denied!(
        22, "mknodat of a disk", MESSAGES,
        mknodat [AT_FDCWD, text(c"stockade-disk"), S_IFBLK | 0o600, 0x800]
    ),
    denied!(
        22, "mknodat of a pipe", MESSAGES,
        mknodat [AT_FDCWD, text(c"stockade-pipe"), S_IFIFO | 0o600, 0]
    ),
    #[cfg(target_arch = "x86_64")]
    denied!(
        22, "mknod of /dev/kmem", MESSAGES,
        mknod [text(c"stockade-kmem"), S_IFCHR | 0o600, 0x102]
    ),
    denied!(22, "open /dev/mem", MESSAGES, openat [AT_FDCWD, text(c"/dev/mem"), O_RDONLY]),
    denied!(22, "open /dev/kmsg", MESSAGES, openat [AT_FDCWD, text(c"/dev/kmsg"), O_RDONLY]),
    denied!(22, "open /dev/tty", MESSAGES, openat [AT_FDCWD, text(c"/dev/tty"), O_RDWR]),
    denied!(22, "open /dev/ptmx", MESSAGES, openat [AT_FDCWD, text(c"/dev/ptmx"), O_RDWR]),
    denied!(22, "open /dev/fuse", MESSAGES, openat [AT_FDCWD, text(c"/dev/fuse"), O_RDWR]),
    denied!(22, "open /dev/kvm", MESSAGES, openat [AT_FDCWD, text(c"/dev/kvm"), O_RDWR]),
    denied!(22, "open /dev/null", MESSAGES, openat [AT_FDCWD, text(c"/dev/null"), O_RDWR]),
    #[cfg(target_arch = "x86_64")]
    denied!(22, "iopl", MESSAGES, iopl[3]),
    #[cfg(target_arch = "x86_64")]
    denied!(22, "ioperm", MESSAGES, ioperm [0x80, 1, 1]),
    #[cfg(target_arch = "x86_64")]
    attack(
        22,
        "an instruction for the kernel only",
        MESSAGES,
        Expect::Signaled(&[libc::SIGSEGV]),
        |_targets| crate::sys::fault(crate::sys::Fault::Privileged),
    ),
    attack(
        22,
        "mknodat by a thread that was there before",
        MESSAGES,
        Expect::Denied("mknodat"),
        |targets| {
            crate::other_thread::on_other_thread(
                |_targets| {
                    call(
                        Sysno::mknodat,
                        [
                            AT_FDCWD as u64,
                            text(c"stockade-mem"),
                            u64::from(S_IFCHR | 0o600),
                            0x101,
                        ],
                    )
                },
                targets,
            )
        },
    ),
];
