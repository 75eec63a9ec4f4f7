//! Other processes: memory, descriptors, signals, numbers.

use libc::{F_SETOWN, P_PIDFD, SIGABRT, SIGURG, WNOHANG};
use syscalls::Sysno;

use crate::attack::{Attack, Expect, attack, denied};
use crate::controls::{HANDLER, MASKING, SELF, THREAD};
use crate::sys::{self, Action, at, call, into};

/// `struct f_owner_ex`.
#[repr(C)]
struct Owner {
    kind: i32,
    process: i32,
}

const ATTACH: u64 = 16;
const SEIZE: u64 = 0x4206;
const TRACE_ME: u64 = 0;
const F_SETOWN_EX: u64 = 15;
const F_SETSIG: u64 = 10;

const THREAD_CPU: u32 = 6;
const PROCESS_CPU: u32 = 2;

/// A process that does not exist cannot be distinguished from one that may not be queried.
const OTHERS: Expect = Expect::ByLevel {
    process: &Expect::GivenUp("level process does not hide which process numbers are in use"),
    container: &Expect::Refused(&[libc::ESRCH]),
};

/// The number of another one's CPU clock, as clock_getcpuclockid(3) makes it.
fn cpu_clock(process: i32, kind: u32) -> u32 {
    (!process.cast_unsigned() << 3) | kind
}

fn vector(address: u64) -> [u64; 2] {
    [address, 32]
}

pub(super) static ATTACKS: &[Attack] = &[
    denied!(7, "ptrace the launcher", THREAD, |targets| ptrace [ATTACH, targets.launcher, 0, 0]),
    denied!(7, "ptrace the supervisor", THREAD, |targets| ptrace [SEIZE, targets.supervisor, 0, 0]),
    denied!(7, "ptrace another worker", THREAD, |targets| ptrace [SEIZE, targets.sibling, 0, 0]),
    denied!(7, "ask to be traced", THREAD, ptrace [TRACE_ME, 0, 0, 0]),
    denied!(7, "process_vm_readv of the supervisor", THREAD, |targets| process_vm_readv [
        targets.supervisor, at(&vector(into(&mut [0_u8; 32]))), 1, at(&vector(targets.canary)), 1, 0
    ]),
    denied!(7, "process_vm_writev into the supervisor", THREAD, |targets| process_vm_writev [
        targets.supervisor, at(&vector(at(&[0xff_u8; 32]))), 1, at(&vector(targets.canary)), 1, 0
    ]),
    denied!(7, "process_vm_readv of another worker", THREAD, |targets| process_vm_readv [
        targets.sibling, at(&vector(into(&mut [0_u8; 32]))), 1, at(&vector(at(&vector(0)))), 1, 0
    ]),
    denied!(
        7, "pidfd_open of the supervisor", THREAD,
        |targets| pidfd_open [targets.supervisor, 0]
    ),
    denied!(
        7, "pidfd_getfd of the supervisor's secret", THREAD,
        |targets| pidfd_getfd [0, targets.descriptor, 0]
    ),
    denied!(7, "process_madvise", THREAD, process_madvise [0, at(&[0_u64; 2]), 1, 4, 0]),
    denied!(7, "process_mrelease", THREAD, process_mrelease [0, 0]),
    denied!(
        7, "kcmp with the supervisor", THREAD,
        |targets| kcmp [targets.supervisor, targets.launcher, 0, 3, 3]
    ),
    denied!(
        7, "get_robust_list of the supervisor", THREAD,
        |targets| get_robust_list [targets.supervisor, into(&mut 0_u64), into(&mut 0_u64)]
    ),
    denied!(
        7, "move_pages of the supervisor", THREAD,
        |targets| move_pages [targets.supervisor, 0, 0, 0, 0, 0]
    ),
    denied!(
        7, "migrate_pages of the supervisor", THREAD,
        |targets| migrate_pages [targets.supervisor, 0, 0, 0]
    ),
    attack(
        7,
        "read a CPU clock of the supervisor's threads",
        THREAD,
        Expect::Refused(&[libc::EINVAL]),
        |targets| {
            call(
                Sysno::clock_gettime,
                [
                    u64::from(cpu_clock(targets.supervisor, THREAD_CPU)),
                    into(&mut [0_u64; 2]),
                ],
            )
        },
    ),
    denied!(
        7, "read the supervisor's CPU clock", THREAD,
        |targets| clock_gettime [cpu_clock(targets.supervisor, PROCESS_CPU), into(&mut [0_u64; 2])]
    ),
    attack(
        7,
        "ask for the supervisor's cores",
        THREAD,
        Expect::Refused(&[libc::ENOSYS]),
        |targets| {
            let cores = into(&mut [0_u64; 16]);
            call(
                Sysno::sched_getaffinity,
                [targets.supervisor as u64, 128, cores],
            )
        },
    ),
    attack(
        7,
        "ask for the supervisor's scheduler",
        THREAD,
        OTHERS,
        |targets| call(Sysno::sched_getscheduler, [targets.supervisor as u64]),
    ),
    attack(
        7,
        "ask for the supervisor's priority",
        THREAD,
        OTHERS,
        |targets| {
            call(
                Sysno::sched_getparam,
                [targets.supervisor as u64, into(&mut 0_u32)],
            )
        },
    ),
    denied!(7, "prctl PR_SET_PTRACER any", THREAD, prctl [libc::PR_SET_PTRACER, u64::MAX]),
    //
    denied!(8, "kill the launcher", MASKING, |targets| kill [targets.launcher, SIGURG]),
    denied!(8, "kill the supervisor", MASKING, |targets| kill [targets.supervisor, SIGURG]),
    denied!(8, "kill another worker", MASKING, |targets| kill [targets.sibling, SIGABRT]),
    denied!(8, "kill every process", MASKING, kill [-1_i32, 0]),
    denied!(8, "kill the own group", MASKING, kill [0, SIGURG]),
    denied!(8, "tkill the supervisor", MASKING, |targets| tkill [targets.supervisor, SIGURG]),
    denied!(
        8, "tgkill the supervisor", MASKING,
        |targets| tgkill [targets.supervisor, targets.supervisor, SIGURG]
    ),
    denied!(
        8, "tgkill another worker with SIGABRT", MASKING,
        |targets| tgkill [targets.sibling, targets.sibling, SIGABRT]
    ),
    denied!(
        8, "rt_sigqueueinfo to the launcher", MASKING,
        |targets| rt_sigqueueinfo [targets.launcher, SIGURG, at(&[0_u64; 16])]
    ),
    denied!(
        8, "rt_tgsigqueueinfo to the supervisor", MASKING,
        |targets| rt_tgsigqueueinfo [
            targets.supervisor, targets.supervisor, SIGURG, at(&[0_u64; 16])
        ]
    ),
    denied!(8, "pidfd_send_signal", MASKING, pidfd_send_signal [0, 0, 0, 0]),
    denied!(
        8, "fcntl F_SETOWN to the supervisor", MASKING,
        |targets| fcntl [3, F_SETOWN, targets.supervisor]
    ),
    denied!(
        8, "fcntl F_SETOWN_EX to the supervisor", MASKING,
        |targets| fcntl [3, F_SETOWN_EX, at(&Owner { kind: 1, process: targets.supervisor })]
    ),
    denied!(8, "fcntl F_SETSIG", MASKING, fcntl [3, F_SETSIG, libc::SIGKILL]),
    denied!(
        8, "ioctl FIOSETOWN to the supervisor", MASKING,
        |targets| ioctl [3, 0x8901, at(&targets.supervisor)]
    ),
    denied!(
        8, "setpgid into the supervisor's group", MASKING,
        |targets| setpgid [0, targets.supervisor]
    ),
    //
    denied!(34, "prctl PR_SET_PDEATHSIG 0", HANDLER, prctl [libc::PR_SET_PDEATHSIG, 0]),
    denied!(34, "prctl PR_SET_CHILD_SUBREAPER", HANDLER, prctl [libc::PR_SET_CHILD_SUBREAPER, 1]),
    denied!(34, "setsid", HANDLER, setsid []),
    attack(
        34,
        "block every signal and outlive the supervisor's kill",
        HANDLER,
        Expect::KilledInTime,
        |_targets| {
            for signal in [libc::SIGABRT, libc::SIGBUS, libc::SIGSEGV] {
                let _ = sys::set_action(signal, Action::Ignore);
            }
            let _ = sys::block_all();
            loop {
                std::hint::spin_loop();
            }
        },
    ),
    attack(
        34,
        "close the message socket and go on",
        HANDLER,
        Expect::KilledInTime,
        |_targets| {
            call(Sysno::close, [3]);
            loop {
                std::hint::spin_loop();
            }
        },
    ),
    //
    denied!(35, "pidfd_open of itself", SELF, pidfd_open [1, 0]),
    denied!(35, "waitid for any pidfd", SELF, waitid [P_PIDFD, 0, 0, WNOHANG, 0]),
    denied!(35, "wait4 for any child", SELF, wait4 [-1_i32, 0, WNOHANG, 0]),
    denied!(35, "choose the next process number", SELF, openat [
        libc::AT_FDCWD, sys::text(c"/proc/sys/kernel/ns_last_pid"), libc::O_WRONLY
    ]),
    attack(
        35,
        "end by itself, before the supervisor kills it",
        SELF,
        Expect::Exited(0),
        |_targets| call(Sysno::exit_group, [0]),
    ),
    attack(
        35,
        "end with a status that the supervisor uses itself",
        SELF,
        Expect::Exited(133),
        |_targets| call(Sysno::exit_group, [133]),
    ),
];
