//! What is taken away, and who must do without it.

use libc::{c_int, c_long};

use crate::taking::{Deny, When};

/// A layer that is not there.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) taken: Taken,
    /// Layers that doctor must report as missing, these and no others.
    pub(crate) missing: &'static [&'static str],
    pub(crate) refused: Refused,
    /// What the refusal says.
    pub(crate) words: &'static [&'static str],
}

/// How it is taken away.
pub(crate) enum Taken {
    Calls(&'static [Deny]),
    /// By a shell script, around which this program is run.
    Around {
        program: &'static [&'static str],
        script: &'static str,
    },
}

/// Which levels must refuse.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Processes and containers.
    Workers,
    Containers,
    /// Those that ask for `wx: 'strict'`.
    Strict,
    /// Those that ask for `cgroup: 'require'`.
    Require,
    Nobody,
}

const fn always(number: c_long, errno: c_int) -> Deny {
    Deny {
        number,
        when: When::Always,
        errno,
    }
}

const fn option(number: c_int, errno: c_int) -> Deny {
    Deny {
        number: libc::SYS_prctl,
        when: When::Is(0, number as u64),
        errno,
    }
}

/// Filters cannot read the flags of clone3; without it everybody falls back on clone.
const NO_CLONE3: Deny = always(libc::SYS_clone3, libc::ENOSYS);

const fn clone_with(flag: c_int, errno: c_int) -> Deny {
    Deny {
        number: libc::SYS_clone,
        when: When::Has(0, flag as u64),
        errno,
    }
}

const fn calls(
    name: &'static str,
    taken: &'static [Deny],
    missing: &'static [&'static str],
    refused: Refused,
    words: &'static [&'static str],
) -> Case {
    Case {
        name,
        taken: Taken::Calls(taken),
        missing,
        refused,
        words,
    }
}

const ALL_NAMESPACES: &[&str] = &[
    "user namespace",
    "pid namespace",
    "mount namespace",
    "network namespace",
    "ipc namespace",
    "uts namespace",
    "cgroup namespace",
    "root",
    "nested user namespaces",
    "capabilities in a namespace",
];

const ALL_CAPABILITIES: &[&str] = &["capabilities", "capabilities in a namespace"];
const NO_USER_NAMESPACES: &[Deny] = &[NO_CLONE3, clone_with(libc::CLONE_NEWUSER, libc::EPERM)];
const NO_PIDFDS: &[Deny] = &[NO_CLONE3, clone_with(libc::CLONE_PIDFD, libc::EINVAL)];
const NO_CGROUPS: &[&str] = &["cgroup memory", "cgroup cpu", "cgroup pids"];

use Refused::{Containers, Nobody, Require, Strict, Workers};

pub(crate) static CASES: &[Case] = &[
    calls(
        "landlock is not built in",
        &[always(libc::SYS_landlock_create_ruleset, libc::ENOSYS)],
        &["landlock"],
        Workers,
        &[
            "Landlock",
            "landlock_create_ruleset",
            "CONFIG_SECURITY_LANDLOCK",
        ],
    ),
    calls(
        "landlock is not switched on",
        &[always(libc::SYS_landlock_create_ruleset, libc::EOPNOTSUPP)],
        &["landlock"],
        Workers,
        &["Landlock", "lsm="],
    ),
    calls(
        "a landlock domain cannot be entered",
        &[always(libc::SYS_landlock_restrict_self, libc::EPERM)],
        &["landlock"],
        Workers,
        &["Landlock domain", "ABI"],
    ),
    calls(
        "seccomp is not built in",
        &[always(libc::SYS_seccomp, libc::ENOSYS)],
        &["seccomp"],
        Workers,
        &[
            "kernel does not take the rules",
            "SECCOMP_SET_MODE_FILTER",
            "CONFIG_SECCOMP_FILTER",
        ],
    ),
    calls(
        "seccomp is refused",
        &[always(libc::SYS_seccomp, libc::EPERM)],
        &["seccomp"],
        Workers,
        &[
            "kernel does not take the rules",
            "SECCOMP_SET_MODE_FILTER",
            "allow seccomp(2)",
        ],
    ),
    calls(
        "user namespaces are refused",
        NO_USER_NAMESPACES,
        ALL_NAMESPACES,
        Containers,
        &[
            "namespaces of a container",
            "CLONE_NEWUSER",
            "isolation: process",
        ],
    ),
    calls(
        "the kernel has no PID namespaces",
        &[NO_CLONE3, clone_with(libc::CLONE_NEWPID, libc::EINVAL)],
        &["pid namespace"],
        Containers,
        &["namespaces of a container", "CLONE_NEWPID", "CONFIG_PID_NS"],
    ),
    calls(
        "mount namespaces are refused",
        &[NO_CLONE3, clone_with(libc::CLONE_NEWNS, libc::EPERM)],
        &["mount namespace", "root"],
        Containers,
        &[
            "namespaces of a container",
            "CLONE_NEWNS",
            "isolation: process",
        ],
    ),
    calls(
        "the kernel has no network namespaces",
        &[NO_CLONE3, clone_with(libc::CLONE_NEWNET, libc::EINVAL)],
        &["network namespace"],
        Containers,
        &["namespaces of a container", "CLONE_NEWNET", "CONFIG_NET_NS"],
    ),
    calls(
        "ipc namespaces are used up",
        &[NO_CLONE3, clone_with(libc::CLONE_NEWIPC, libc::ENOSPC)],
        &["ipc namespace"],
        Containers,
        &[
            "namespaces of a container",
            "CLONE_NEWIPC",
            "sysctl user.max_",
        ],
    ),
    calls(
        "cgroup namespaces are refused",
        &[NO_CLONE3, clone_with(libc::CLONE_NEWCGROUP, libc::EPERM)],
        &["cgroup namespace"],
        Containers,
        &[
            "namespaces of a container",
            "CLONE_NEWCGROUP",
            "isolation: process",
        ],
    ),
    calls(
        "host names are refused",
        &[always(libc::SYS_sethostname, libc::EPERM)],
        &["uts namespace"],
        Containers,
        &["host name", "sethostname", "isolation: process"],
    ),
    calls(
        "mounts are refused",
        &[always(libc::SYS_mount, libc::EPERM)],
        &["root"],
        Containers,
        &["mounts private failed", "isolation: process"],
    ),
    calls(
        "pivot_root is refused",
        &[always(libc::SYS_pivot_root, libc::EPERM)],
        &["root"],
        Containers,
        &["pivot_root failed", "isolation: process"],
    ),
    calls(
        "the root is the initial ramfs",
        &[always(libc::SYS_pivot_root, libc::EINVAL)],
        &["root"],
        Containers,
        &["pivot_root failed", "present root", "initial ramfs"],
    ),
    calls(
        "the old root cannot be detached",
        &[always(libc::SYS_umount2, libc::EPERM)],
        &["root"],
        Containers,
        &["detaching the old root failed"],
    ),
    calls(
        "the kernel has no MDWE",
        &[option(libc::PR_SET_MDWE, libc::EINVAL)],
        &["w^x"],
        Strict,
        &["executable memory", "PR_SET_MDWE", "6.3", "wx: 'jit'"],
    ),
    calls(
        "MDWE cannot be read back",
        &[option(libc::PR_GET_MDWE, libc::EINVAL)],
        &["w^x"],
        Strict,
        &["executable memory", "PR_GET_MDWE", "6.3", "wx: 'jit'"],
    ),
    calls(
        "the bounding set cannot be emptied",
        &[option(libc::PR_CAPBSET_DROP, libc::EPERM)],
        ALL_CAPABILITIES,
        Workers,
        &["bounding set", "prctl(2)", "seccomp profile"],
    ),
    calls(
        "capset is refused",
        &[always(libc::SYS_capset, libc::EPERM)],
        ALL_CAPABILITIES,
        Workers,
        &["CAP_SETPCAP", "capset(2)", "seccomp profile"],
    ),
    calls(
        "securebits are refused",
        &[option(libc::PR_SET_SECUREBITS, libc::EPERM)],
        ALL_CAPABILITIES,
        Workers,
        &["securebits", "prctl(2)", "seccomp profile"],
    ),
    calls(
        "no_new_privs is refused",
        &[option(libc::PR_SET_NO_NEW_PRIVS, libc::EPERM)],
        &[
            "capabilities",
            "capabilities in a namespace",
            "landlock",
            "seccomp",
        ],
        Workers,
        &["no_new_privs", "prctl(2)"],
    ),
    calls(
        "limits are refused",
        &[Deny {
            number: libc::SYS_prlimit64,
            when: When::Some(2),
            errno: libc::EPERM,
        }],
        &["rlimits"],
        Workers,
        &["no core dumps failed", "seccomp filter"],
    ),
    calls(
        "the limit of files is refused",
        &[Deny {
            number: libc::SYS_prlimit64,
            when: When::Is(1, libc::RLIMIT_FSIZE as u64),
            errno: libc::EPERM,
        }],
        &["rlimits"],
        Workers,
        &["RLIMIT_FSIZE", "setrlimit"],
    ),
    calls(
        "processes have no pidfd",
        NO_PIDFDS,
        &[
            "pidfd",
            "process",
            "user namespace",
            "pid namespace",
            "mount namespace",
            "network namespace",
            "ipc namespace",
            "uts namespace",
            "cgroup namespace",
            "root",
            "nested user namespaces",
            "user id",
            "rlimits",
            "capabilities",
            "capabilities in a namespace",
            "landlock",
            "seccomp",
            "w^x",
            "cgroup memory",
            "cgroup cpu",
            "cgroup pids",
        ],
        Workers,
        &["CLONE_PIDFD"],
    ),
    calls(
        "pidfd_open is refused",
        &[always(libc::SYS_pidfd_open, libc::ENOSYS)],
        &["launcher"],
        Workers,
        &["pidfd_open", "5.9"],
    ),
    calls(
        "pidfd_send_signal is refused",
        &[always(libc::SYS_pidfd_send_signal, libc::ENOSYS)],
        &["launcher"],
        Workers,
        &["pidfd_send_signal", "5.9"],
    ),
    calls(
        "close_range is refused",
        &[always(libc::SYS_close_range, libc::ENOSYS)],
        &["launcher"],
        Workers,
        &["close_range", "5.9"],
    ),
    calls(
        "the parent's death goes unheard",
        &[option(libc::PR_SET_PDEATHSIG, libc::EPERM)],
        &["process"],
        Workers,
        &["PR_SET_PDEATHSIG", "seccomp filter"],
    ),
    calls(
        "sessions are refused",
        &[always(libc::SYS_setsid, libc::EPERM)],
        &["process"],
        Workers,
        &["setsid", "seccomp filter"],
    ),
    Case {
        name: "user.max_user_namespaces is 0",
        taken: Taken::Around {
            program: &["unshare", "-Ur"],
            script: "echo 0 > /proc/sys/user/max_user_namespaces",
        },
        missing: ALL_NAMESPACES,
        refused: Containers,
        words: &[
            "namespaces of a container",
            "max_user_namespaces = 0",
            "sysctl user.max_user_namespaces=15000",
        ],
    },
    Case {
        name: "proc/sys is read-only",
        taken: Taken::Around {
            program: &["unshare", "-m"],
            script: "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys",
        },
        missing: &["nested user namespaces"],
        refused: Nobody,
        words: &[],
    },
    Case {
        name: "there is no proc",
        taken: Taken::Around {
            program: &["unshare", "-m"],
            script: "umount -R -l /proc",
        },
        missing: &["launcher"],
        refused: Workers,
        words: &["/proc/self/exe", "mount /proc"],
    },
    Case {
        name: "cgroups are read-only",
        taken: Taken::Around {
            program: &["unshare", "-m"],
            script: "grep -E ' cgroup2? ' /proc/self/mounts | while read -r _ at _; do \
                     mount -o remount,bind,ro \"$at\" || exit 1; done",
        },
        missing: NO_CGROUPS,
        refused: Require,
        words: &["controller memory", "mkdir /sys/fs/cgroup", "run as root"],
    },
    Case {
        name: "there are no cgroups",
        taken: Taken::Around {
            program: &["unshare", "-m"],
            script: "umount -R -l /sys/fs/cgroup",
        },
        missing: NO_CGROUPS,
        refused: Require,
        words: &[
            "controller memory",
            "no mounted hierarchy",
            "do not require cgroups",
        ],
    },
    Case {
        name: "an ordinary user without cgroups of his own",
        taken: Taken::Around {
            program: &[
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
            ],
            script: "true",
        },
        missing: &["user id", "cgroup memory", "cgroup cpu", "cgroup pids"],
        refused: Require,
        words: &["controller memory", "mkdir /sys/fs/cgroup", "run as root"],
    },
];

impl Case {
    /// An ordinary user cannot take this away, or lacks less without it.
    pub(crate) fn needs_root(&self) -> bool {
        const ROOTS: [&str; 5] = [
            "the bounding set cannot be emptied",
            "capset is refused",
            "securebits are refused",
            "there is no proc",
            "there are no cgroups",
        ];
        ROOTS.contains(&self.name)
    }
}
