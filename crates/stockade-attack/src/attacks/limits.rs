//! Limits of its own, raised; more of the machine than its share.

use libc::{
    MCL_CURRENT, MCL_FUTURE, PRIO_PROCESS, RLIMIT_AS, RLIMIT_CORE, RLIMIT_DATA, RLIMIT_NOFILE,
    RLIMIT_NPROC, SCHED_FIFO, SCHED_RR,
};

use crate::attack::{Attack, denied};
use crate::controls::{HEAP, MEMORY, YIELD};
use crate::sys::{at, into, text};

const INFINITE: [u64; 2] = [u64::MAX; 2];

pub(super) static ATTACKS: &[Attack] = &[
    denied!(
        29, "prlimit64 of the supervisor", YIELD,
        |targets| prlimit64 [targets.supervisor, RLIMIT_NOFILE, 0, into(&mut [0_u64; 2])]
    ),
    denied!(
        29, "sched_setscheduler SCHED_FIFO", YIELD,
        sched_setscheduler [0, SCHED_FIFO, at(&99_i32)]
    ),
    denied!(
        29, "sched_setscheduler SCHED_RR for the supervisor", YIELD,
        |targets| sched_setscheduler [targets.supervisor, SCHED_RR, at(&1_i32)]
    ),
    denied!(29, "sched_setparam", YIELD, sched_setparam [0, at(&99_i32)]),
    denied!(
        29, "sched_setattr SCHED_DEADLINE", YIELD,
        sched_setattr [0, at(&[48_u32, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 0]
    ),
    denied!(29, "sched_setaffinity to all cores", YIELD, sched_setaffinity [0, 8, at(&u64::MAX)]),
    denied!(29, "setpriority", YIELD, setpriority [PRIO_PROCESS, 0, -20_i32]),
    denied!(29, "getpriority of everybody", YIELD, getpriority [libc::PRIO_USER, 0]),
    denied!(29, "ioprio_set", YIELD, ioprio_set [1, 0, 0x2000]),
    denied!(29, "mlock", MEMORY, mlock [0x1000, 4096]),
    denied!(29, "mlock2", MEMORY, mlock2 [0x1000, 4096, 1]),
    denied!(29, "mlockall", MEMORY, mlockall[MCL_CURRENT | MCL_FUTURE]),
    denied!(29, "mbind", MEMORY, mbind [0x1000, 4096, 2, at(&1_u64), 64, 0]),
    denied!(29, "set_mempolicy", MEMORY, set_mempolicy [2, at(&1_u64), 64]),
    denied!(29, "set_mempolicy_home_node", MEMORY, set_mempolicy_home_node [0x1000, 4096, 0, 0]),
    denied!(29, "membarrier for everybody", YIELD, membarrier [1, 0, 0]),
    //
    denied!(36, "prlimit64 RLIMIT_DATA", HEAP, prlimit64 [0, RLIMIT_DATA, at(&INFINITE), 0]),
    denied!(36, "prlimit64 RLIMIT_CORE", HEAP, prlimit64 [0, RLIMIT_CORE, at(&INFINITE), 0]),
    denied!(36, "setrlimit RLIMIT_NPROC", HEAP, setrlimit [RLIMIT_NPROC, at(&INFINITE)]),
    denied!(36, "setrlimit RLIMIT_NOFILE", HEAP, setrlimit [RLIMIT_NOFILE, at(&INFINITE)]),
    denied!(36, "getrlimit RLIMIT_AS", HEAP, getrlimit [RLIMIT_AS, into(&mut [0_u64; 2])]),
    denied!(
        36, "write its own oom_score_adj", HEAP,
        openat [libc::AT_FDCWD, text(c"/proc/self/oom_score_adj"), libc::O_WRONLY]
    ),
    denied!(36, "write its cgroup's memory limit", HEAP, openat [
        libc::AT_FDCWD, text(c"/sys/fs/cgroup/memory/memory.limit_in_bytes"), libc::O_WRONLY
    ]),
    #[cfg(target_arch = "x86_64")]
    denied!(36, "_sysctl", HEAP, _sysctl[0]),
];
