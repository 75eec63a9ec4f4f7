//! Descriptors: which there are, and what can be made of them.

use libc::{F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, MAP_PRIVATE, MAP_SHARED, PROT_READ, SOL_SOCKET};
use syscalls::Sysno;

use crate::attack::{Attack, Expect, attack, denied};
use crate::controls::{CLOSED, MESSAGES};
use crate::outcome::Outcome;
use crate::sys::{at, call, into};
use crate::targets::Targets;

/// Numbers that the rules let a worker close.
const CLOSABLE: std::ops::RangeInclusive<u64> = 4..=7;

/// Whether closing finds a descriptor in addition to the message socket.
fn close_others(_targets: &Targets) -> Outcome {
    for number in CLOSABLE {
        match call(Sysno::close, [number]) {
            Outcome::Refused(libc::EBADF) => {}
            other => return Outcome::Found(format!("descriptor {number}: {other:?}")),
        }
    }
    Outcome::Clean
}

/// What writing to the standard streams does.
fn write_inert(_targets: &Targets) -> Outcome {
    for number in 1..3 {
        if let Outcome::Allowed(count) = call(Sysno::write, [number, at(b"out of the jail\n"), 16])
        {
            return Outcome::Found(format!("{count} bytes went to descriptor {number}"));
        }
    }
    Outcome::Clean
}

pub(super) static ATTACKS: &[Attack] = &[
    attack(
        5,
        "inspect the worker's descriptors from outside",
        CLOSED,
        Expect::Descriptors(&[0, 1, 2, 3]),
        |_targets| Outcome::Works,
    ),
    attack(
        5,
        "close everything except the message socket",
        CLOSED,
        Expect::Clean,
        close_others,
    ),
    attack(
        5,
        "write to the standard streams",
        CLOSED,
        Expect::Clean,
        write_inert,
    ),
    denied!(5, "ask whether descriptor 4 is open", CLOSED, fcntl [4, F_GETFD]),
    denied!(5, "ask whether descriptor 65535 is open", CLOSED, fcntl [65_535, F_GETFD]),
    denied!(5, "read from descriptor 0", CLOSED, read [0, into(&mut [0_u8; 64]), 64]),
    denied!(
        5, "read from the supervisor's inheritable descriptor", CLOSED,
        |targets| read [targets.descriptor, into(&mut [0_u8; 64]), 64]
    ),
    denied!(5, "write to descriptor 0", CLOSED, write [0, at(b"out"), 3]),
    denied!(
        5,
        "close descriptor 0 to have the next one opened in its place",
        CLOSED,
        close[0]
    ),
    denied!(5, "fstat of the message socket", CLOSED, fstat [3, into(&mut [0_u8; 256])]),
    denied!(5, "seek in descriptor 0", CLOSED, lseek [0, 0, 0]),
    denied!(
        5, "add the message socket to the inert epoll instance", CLOSED,
        epoll_ctl [0, 1, 3, at(&[0_u64; 2])]
    ),
    denied!(
        5, "wait on the inert epoll instance", CLOSED,
        epoll_pwait [0, into(&mut [0_u8; 64]), 1, 0, 0, 8]
    ),
    denied!(5, "epoll_create1", CLOSED, epoll_create1[0]),
    denied!(5, "eventfd2", CLOSED, eventfd2 [0, 0]),
    denied!(
        5, "read the supervisor's inheritable descriptor at an offset", CLOSED,
        |targets| pread64 [targets.descriptor, into(&mut [0_u8; 64]), 64, 0]
    ),
    denied!(5, "dup of the message socket", CLOSED, dup[3]),
    denied!(5, "dup3 of the message socket", CLOSED, dup3 [3, 1000, 0]),
    denied!(5, "fcntl F_DUPFD of the message socket", CLOSED, fcntl [3, F_DUPFD, 100]),
    denied!(5, "fcntl F_DUPFD_CLOEXEC of descriptor 0", CLOSED, fcntl [0, F_DUPFD_CLOEXEC, 0]),
    denied!(5, "close_range of everything", CLOSED, close_range [4, u32::MAX, 0]),
    denied!(5, "pipe2", CLOSED, pipe2 [into(&mut [0_i32; 2]), 0]),
    denied!(5, "signalfd4", CLOSED, signalfd4 [u64::MAX, at(&0_u64), 8, 0]),
    denied!(5, "timerfd_create", CLOSED, timerfd_create [1, 0]),
    denied!(5, "map the message socket", CLOSED, mmap [0, 4096, PROT_READ, MAP_SHARED, 3, 0]),
    denied!(5, "map descriptor 0", CLOSED, mmap [0, 4096, PROT_READ, MAP_PRIVATE, 0, 0]),
    denied!(5, "splice the message socket", MESSAGES, splice [3, 0, 0, 0, 16, 0]),
    denied!(5, "tee", MESSAGES, tee [3, 0, 16, 0]),
    denied!(5, "vmsplice", MESSAGES, vmsplice [3, at(&[0_u64; 2]), 1, 0]),
    denied!(
        5, "SO_PEERPIDFD of the message socket", MESSAGES,
        getsockopt [3, SOL_SOCKET, 77, into(&mut 0_i32), into(&mut 4_u32)]
    ),
];
