//! Undoing what protects: MDWE, filters, no_new_privs; numbers that filters forget; signals that
//! filters send.

use libc::{
    PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_MM, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP,
    PR_SET_SECUREBITS, PR_SET_TSC, SIGSYS,
};
use syscalls::Sysno;

use crate::attack::{Attack, Expect, attack, denied};
use crate::controls::{HANDLER, MASKING, SELF, WAKE};
use crate::outcome::Outcome;
use crate::sys::{self, Action, at, call, into};
#[cfg(target_arch = "x86_64")]
use crate::sys::{X32, int80, numbered, read_vsyscall_page, sysenter, text, vsyscall_time};

const PR_SET_MDWE: i32 = 65;
const PR_SET_SYSCALL_USER_DISPATCH: i32 = 59;
const SECCOMP_SET_MODE_FILTER: u32 = 1;
const SECCOMP_GET_ACTION_AVAIL: u32 = 2;
const TSYNC: u32 = 1;
const NEW_LISTENER: u32 = 8;

/// A filter that allows everything: one instruction, `return SECCOMP_RET_ALLOW`.
#[repr(C)]
struct Program {
    length: u16,
    instructions: u64,
}

const ALLOW_ALL: u64 = 0x7fff_0000_0000_0006;

fn allow_all(instruction: &u64) -> Program {
    Program {
        length: 1,
        instructions: at(instruction),
    }
}

/// Threads that are only just starting when the worker is sealed may register one, each one once.
const REGISTERED: Expect = Expect::AnyOf(&[
    Expect::Denied("rseq"),
    Expect::Refused(&[libc::EINVAL, libc::EBUSY, libc::EPERM]),
]);
/// Threads that are only just starting when the worker is sealed get the error that the kernel has no such call.
const NO_LIST: Expect = Expect::AnyOf(&[
    Expect::Denied("set_robust_list"),
    Expect::Refused(&[libc::ENOSYS]),
]);

/// Something that is certainly denied.
fn open() -> Outcome {
    call(
        Sysno::openat,
        [libc::AT_FDCWD as u64, sys::text(c"/etc/passwd"), 0],
    )
}

#[cfg(target_arch = "x86_64")]
const FOREIGN: Expect = Expect::Signaled(&[SIGSYS]);

/// Since Linux 6.14 filters do not see calls that the kernel's own probes make. Elsewhere than in a
/// probe they fail or end the process.
#[cfg(target_arch = "x86_64")]
const PROBE: Expect = Expect::AnyOf(&[
    Expect::Signaled(&[libc::SIGILL]),
    Expect::Refused(&[libc::ENXIO]),
]);

/// `mov eax, 20; int 0x80; ud2`
#[cfg(target_arch = "x86_64")]
const GETPID_32: [u8; 9] = [0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0x0f, 0x0b];
/// `mov eax, 20; syscall; ud2`
#[cfg(target_arch = "x86_64")]
const GETPID_32_FAST: [u8; 9] = [0xb8, 20, 0, 0, 0, 0x0f, 0x05, 0x0f, 0x0b];

pub(super) static ATTACKS: &[Attack] = &[
    denied!(16, "prctl PR_SET_MDWE 0", WAKE, prctl [PR_SET_MDWE, 0, 0, 0, 0]),
    denied!(
        16, "add a filter that allows everything", WAKE,
        seccomp [SECCOMP_SET_MODE_FILTER, 0, at(&allow_all(&ALLOW_ALL))]
    ),
    denied!(
        16, "add a filter to all threads", WAKE,
        seccomp [SECCOMP_SET_MODE_FILTER, TSYNC, at(&allow_all(&ALLOW_ALL))]
    ),
    denied!(
        16, "become the listener of its own filter", WAKE,
        seccomp [SECCOMP_SET_MODE_FILTER, NEW_LISTENER, at(&allow_all(&ALLOW_ALL))]
    ),
    denied!(
        16, "ask which actions filters have", WAKE,
        seccomp [SECCOMP_GET_ACTION_AVAIL, 0, at(&0x7fff_0000_u32)]
    ),
    denied!(
        16, "prctl PR_SET_SECCOMP", WAKE,
        prctl [PR_SET_SECCOMP, 2, at(&allow_all(&ALLOW_ALL))]
    ),
    denied!(16, "prctl PR_SET_NO_NEW_PRIVS 0", WAKE, prctl [PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0]),
    denied!(16, "prctl PR_SET_DUMPABLE 1", WAKE, prctl [PR_SET_DUMPABLE, 1]),
    denied!(
        16, "prctl PR_SET_DUMPABLE with high bits", WAKE,
        prctl [(1_u64 << 32) | PR_SET_DUMPABLE as u64, 1]
    ),
    denied!(16, "prctl PR_SET_SECUREBITS 0", WAKE, prctl [PR_SET_SECUREBITS, 0]),
    denied!(16, "prctl PR_SET_KEEPCAPS", WAKE, prctl [PR_SET_KEEPCAPS, 1]),
    denied!(16, "prctl PR_SET_MM", WAKE, prctl [PR_SET_MM, 1, 0x1000, 0, 0]),
    denied!(16, "prctl PR_SET_TSC", WAKE, prctl [PR_SET_TSC, 1]),
    denied!(
        16, "prctl PR_SET_SYSCALL_USER_DISPATCH", WAKE,
        prctl [PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, at(&0_u8)]
    ),
    denied!(16, "prctl PR_SPEC_ENABLE speculation", WAKE, prctl [53, 0, 2, 0, 0]),
    #[cfg(target_arch = "x86_64")]
    denied!(16, "arch_prctl ARCH_SET_CPUID", WAKE, arch_prctl [0x1012, 1]),
    #[cfg(target_arch = "x86_64")]
    denied!(16, "arch_prctl ARCH_SET_FS", WAKE, arch_prctl [0x1002, 0]),
    denied!(16, "landlock_create_ruleset", WAKE, landlock_create_ruleset [0, 0, 1]),
    denied!(16, "landlock_add_rule", WAKE, landlock_add_rule [0, 1, at(&[0_u64; 2]), 0]),
    denied!(16, "landlock_restrict_self", WAKE, landlock_restrict_self [0, 0]),
    denied!(
        16, "answer a listener's notification", WAKE,
        ioctl [4, 0xc018_2101_u32, at(&[0_u64; 3])]
    ),
    attack(
        16,
        "register another rseq area",
        WAKE,
        REGISTERED,
        |_targets| call(Sysno::rseq, [into(&mut [0_u64; 8]), 32, 0, 0]),
    ),
    denied!(16, "take the rseq area away", WAKE, rseq [into(&mut [0_u64; 8]), 32, 1, 0]),
    denied!(16, "membarrier", WAKE, membarrier [0, 0, 0]),
    denied!(16, "futex_waitv", WAKE, futex_waitv [0, 0, 0, 0, 0]),
    denied!(16, "FUTEX_LOCK_PI", WAKE, futex [at(&0_u32), 6, 0, 0]),
    denied!(16, "FUTEX_CMP_REQUEUE_PI", WAKE, futex [at(&0_u32), 12, 1, 1, at(&0_u32), 0]),
    denied!(16, "FUTEX_WAIT shared between processes", WAKE, futex [at(&0_u32), 0, 1, 0]),
    attack(16, "set_robust_list", WAKE, NO_LIST, |_targets| {
        call(Sysno::set_robust_list, [at(&[0_u64; 3]), 24])
    }),
    denied!(16, "set_tid_address", WAKE, set_tid_address[0]),
    //
    #[cfg(target_arch = "x86_64")]
    attack(
        17,
        "x32 openat",
        SELF,
        Expect::AnyOf(&[Expect::Denied("x32 syscall 257"), FOREIGN]),
        |_targets| numbered(X32 | 257, [libc::AT_FDCWD as u64, text(c"/etc/passwd")]),
    ),
    #[cfg(target_arch = "x86_64")]
    attack(
        17,
        "x32 getpid",
        SELF,
        Expect::AnyOf(&[Expect::Denied("x32 syscall 39"), FOREIGN]),
        |_targets| numbered(X32 | 39, []),
    ),
    #[cfg(target_arch = "x86_64")]
    attack(
        17,
        "x32 execve by its own number",
        SELF,
        Expect::AnyOf(&[Expect::Denied("x32 syscall 520"), FOREIGN]),
        |_targets| numbered(X32 | 520, [text(c"/bin/sh"), 0, 0]),
    ),
    #[cfg(target_arch = "x86_64")]
    attack(
        17,
        "x32 ptrace without its mark",
        SELF,
        Expect::Denied("number 521"),
        |_targets| numbered(521, [0, 0, 0, 0]),
    ),
    #[cfg(target_arch = "x86_64")]
    attack(17, "int 0x80 getpid", SELF, FOREIGN, |_targets| {
        int80(20, 0, 0)
    }),
    #[cfg(target_arch = "x86_64")]
    attack(
        17,
        "int 0x80 with the number of an allowed call",
        SELF,
        FOREIGN,
        |_targets| int80(39, 0, 0),
    ),
    #[cfg(target_arch = "x86_64")]
    attack(17, "int 0x80 exit", SELF, FOREIGN, |_targets| {
        int80(1, 0, 0)
    }),
    #[cfg(target_arch = "x86_64")]
    attack(
        17,
        "sysenter",
        SELF,
        Expect::Signaled(&[SIGSYS, libc::SIGILL, libc::SIGSEGV]),
        |_targets| sysenter(),
    ),
    #[cfg(target_arch = "x86_64")]
    attack(
        17,
        "time by the vsyscall page",
        SELF,
        Expect::AnyOf(&[
            Expect::Denied("time"),
            Expect::Signaled(&[SIGSYS, libc::SIGSEGV]),
        ]),
        |_targets| vsyscall_time(),
    ),
    #[cfg(target_arch = "x86_64")]
    attack(
        17,
        "read the vsyscall page",
        SELF,
        Expect::Signaled(&[libc::SIGSEGV]),
        |_targets| read_vsyscall_page(),
    ),
    #[cfg(target_arch = "x86_64")]
    attack(
        17,
        "int 0x80 from a 32-bit code segment",
        SELF,
        Expect::ByWx {
            jit: &FOREIGN,
            strict: &Expect::Denied("mmap"),
        },
        |_targets| sys::run_as_32_bit(&GETPID_32),
    ),
    #[cfg(target_arch = "x86_64")]
    attack(
        17,
        "syscall from a 32-bit code segment",
        SELF,
        Expect::ByWx {
            jit: &Expect::Signaled(&[SIGSYS, libc::SIGILL, libc::SIGSEGV]),
            strict: &Expect::Denied("mmap"),
        },
        |_targets| sys::run_as_32_bit(&GETPID_32_FAST),
    ),
    #[cfg(target_arch = "x86_64")]
    denied!(17, "modify_ldt", SELF, modify_ldt [1, at(&[0_u64; 2]), 16]),
    //
    denied!(28, "ignore SIGSYS", HANDLER, rt_sigaction [SIGSYS, at(&[1_u64, 0, 0, 0]), 0, 8]),
    denied!(
        28, "a handler for SIGSYS", HANDLER,
        rt_sigaction [SIGSYS, at(&[open as *const () as u64, 0, 0, 0]), 0, 8]
    ),
    denied!(
        28, "read the action for SIGSYS", HANDLER,
        rt_sigaction [SIGSYS, 0, into(&mut [0_u64; 4]), 8]
    ),
    attack(
        28,
        "block SIGSYS, then open",
        MASKING,
        Expect::Denied("openat"),
        |_targets| {
            let _ = sys::block_all();
            open()
        },
    ),
    attack(
        28,
        "handle SIGSEGV and SIGBUS, then open",
        MASKING,
        Expect::Denied("openat"),
        |_targets| {
            let _ = sys::set_action(libc::SIGSEGV, Action::Return);
            let _ = sys::set_action(libc::SIGBUS, Action::Return);
            open()
        },
    ),
    #[cfg(target_arch = "x86_64")]
    attack(
        28,
        "block SIGSYS, then int 0x80",
        MASKING,
        FOREIGN,
        |_targets| {
            let _ = sys::block_all();
            int80(20, 0, 0)
        },
    ),
    denied!(28, "wait for SIGSYS", MASKING, rt_sigtimedwait [at(&u64::MAX), 0, at(&[0_u64; 2]), 8]),
    denied!(
        28, "an action for SIGKILL", HANDLER,
        rt_sigaction [libc::SIGKILL, at(&[1_u64, 0, 0, 0]), 0, 8]
    ),
    //
    #[cfg(target_arch = "x86_64")]
    attack(
        39,
        "uretprobe, which filters do not see on new kernels",
        SELF,
        Expect::AnyOf(&[Expect::Denied("uretprobe"), PROBE]),
        |_targets| numbered(335, []),
    ),
    #[cfg(target_arch = "x86_64")]
    attack(
        39,
        "uprobe, which filters do not see on new kernels",
        SELF,
        Expect::AnyOf(&[
            Expect::Denied("number 336"),
            Expect::Denied("uprobe"),
            PROBE,
        ]),
        |_targets| numbered(336, []),
    ),
    #[cfg(target_arch = "x86_64")]
    attack(
        39,
        "the last number of the table",
        SELF,
        Expect::Denied("number 511"),
        |_targets| numbered(511, []),
    ),
    #[cfg(target_arch = "x86_64")]
    attack(
        39,
        "a number of the future",
        SELF,
        Expect::Denied("number 600"),
        |_targets| numbered(600, []),
    ),
    #[cfg(target_arch = "x86_64")]
    attack(
        39,
        "the number -1",
        SELF,
        Expect::AnyOf(&[
            Expect::Denied("number -1"),
            Expect::Refused(&[libc::ENOSYS]),
        ]),
        |_targets| numbered(-1, []),
    ),
    #[cfg(target_arch = "x86_64")]
    attack(
        39,
        "openat with high bits of its number",
        SELF,
        Expect::Denied("openat"),
        |_targets| numbered(0x1_0000_0000 | 257, []),
    ),
];
