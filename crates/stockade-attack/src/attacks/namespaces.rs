//! Namespaces, mounts, cgroups.

use libc::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER,
    CLONE_NEWUTS, MS_BIND, MS_REC, SIGCHLD,
};
use syscalls::Sysno;

use crate::attack::{Attack, Expect, attack, denied};
use crate::controls::{CLOSED, SELF, THREAD};
use crate::outcome::Outcome;
use crate::sys::{at, spawn, text};

const CLONE_NEWTIME: i32 = 0x80;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

const CLONE: Expect = Expect::Denied("clone");
const CLONE3: Expect = Expect::Denied("clone3");

/// `clone` into a new namespace, as a process of its own.
fn clone(flag: i32) -> Outcome {
    spawn(Sysno::clone, [(flag | SIGCHLD) as u64, 0, 0, 0, 0])
}

/// `clone3` into a new namespace, as a process of its own.
fn clone3(flags: u64) -> Outcome {
    // flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
    // set_tid_size, cgroup
    let args = [flags, 0, 0, 0, SIGCHLD as u64, 0, 0, 0, 0, 0, 0_u64];
    spawn(Sysno::clone3, [at(&args), 88])
}

pub(super) static ATTACKS: &[Attack] = &[
    denied!(9, "unshare CLONE_NEWUSER", THREAD, unshare[CLONE_NEWUSER]),
    denied!(9, "unshare CLONE_NEWNS", THREAD, unshare[CLONE_NEWNS]),
    denied!(9, "unshare CLONE_NEWPID", THREAD, unshare[CLONE_NEWPID]),
    denied!(9, "unshare CLONE_NEWNET", THREAD, unshare[CLONE_NEWNET]),
    denied!(9, "unshare CLONE_NEWIPC", THREAD, unshare[CLONE_NEWIPC]),
    denied!(9, "unshare CLONE_NEWUTS", THREAD, unshare[CLONE_NEWUTS]),
    denied!(
        9,
        "unshare CLONE_NEWCGROUP",
        THREAD,
        unshare[CLONE_NEWCGROUP]
    ),
    denied!(9, "unshare CLONE_NEWTIME", THREAD, unshare[CLONE_NEWTIME]),
    denied!(9, "unshare CLONE_FILES", THREAD, unshare[libc::CLONE_FILES]),
    denied!(9, "setns of descriptor 0", THREAD, setns [0, 0]),
    denied!(9, "setns of the message socket as a user namespace", THREAD, setns [3, CLONE_NEWUSER]),
    attack(9, "clone CLONE_NEWUSER", THREAD, CLONE, |_targets| {
        clone(CLONE_NEWUSER)
    }),
    attack(9, "clone CLONE_NEWNS", THREAD, CLONE, |_targets| {
        clone(CLONE_NEWNS)
    }),
    attack(9, "clone CLONE_NEWPID", THREAD, CLONE, |_targets| {
        clone(CLONE_NEWPID)
    }),
    attack(9, "clone CLONE_NEWNET", THREAD, CLONE, |_targets| {
        clone(CLONE_NEWNET)
    }),
    attack(9, "clone CLONE_NEWIPC", THREAD, CLONE, |_targets| {
        clone(CLONE_NEWIPC)
    }),
    attack(9, "clone CLONE_NEWUTS", THREAD, CLONE, |_targets| {
        clone(CLONE_NEWUTS)
    }),
    attack(9, "clone CLONE_NEWCGROUP", THREAD, CLONE, |_targets| {
        clone(CLONE_NEWCGROUP)
    }),
    attack(9, "clone3 CLONE_NEWUSER", THREAD, CLONE3, |_targets| {
        clone3(CLONE_NEWUSER as u64)
    }),
    attack(9, "clone3 CLONE_NEWNS", THREAD, CLONE3, |_targets| {
        clone3(CLONE_NEWNS as u64)
    }),
    attack(9, "clone3 CLONE_NEWPID", THREAD, CLONE3, |_targets| {
        clone3(CLONE_NEWPID as u64)
    }),
    attack(9, "clone3 CLONE_NEWNET", THREAD, CLONE3, |_targets| {
        clone3(CLONE_NEWNET as u64)
    }),
    attack(9, "clone3 CLONE_NEWIPC", THREAD, CLONE3, |_targets| {
        clone3(CLONE_NEWIPC as u64)
    }),
    attack(9, "clone3 CLONE_NEWUTS", THREAD, CLONE3, |_targets| {
        clone3(CLONE_NEWUTS as u64)
    }),
    attack(9, "clone3 CLONE_NEWCGROUP", THREAD, CLONE3, |_targets| {
        clone3(CLONE_NEWCGROUP as u64)
    }),
    attack(9, "clone3 CLONE_NEWTIME", THREAD, CLONE3, |_targets| {
        clone3(CLONE_NEWTIME as u64)
    }),
    //
    denied!(10, "mount a tmpfs", CLOSED, mount [text(c"none"), text(c"/"), text(c"tmpfs"), 0, 0]),
    denied!(10, "mount proc", CLOSED, mount [text(c"proc"), text(c"/"), text(c"proc"), 0, 0]),
    denied!(10, "bind the root", CLOSED, mount [text(c"/"), text(c"/"), 0, MS_BIND | MS_REC, 0]),
    denied!(
        10, "remount the root writable", CLOSED,
        mount [0, text(c"/"), 0, libc::MS_REMOUNT | MS_BIND, 0]
    ),
    denied!(10, "umount2 the root", CLOSED, umount2 [text(c"/"), libc::MNT_DETACH]),
    denied!(10, "fsopen tmpfs", CLOSED, fsopen [text(c"tmpfs"), 0]),
    denied!(10, "fsconfig", CLOSED, fsconfig [0, 6, 0, 0, 0]),
    denied!(10, "fsmount", CLOSED, fsmount [0, 0, 0]),
    denied!(10, "fspick /", CLOSED, fspick [libc::AT_FDCWD, text(c"/"), 0]),
    denied!(10, "move_mount", CLOSED, move_mount [0, text(c""), libc::AT_FDCWD, text(c"/"), 4]),
    denied!(10, "open_tree of the root", CLOSED, open_tree [libc::AT_FDCWD, text(c"/"), 1]),
    denied!(
        10, "mount_setattr of the root", CLOSED,
        mount_setattr [libc::AT_FDCWD, text(c"/"), 0, at(&[0_u64; 4]), 32]
    ),
    denied!(10, "statmount", CLOSED, statmount [at(&[24_u64, 0, 0]), 0, 0, 0]),
    denied!(10, "listmount", CLOSED, listmount [at(&[24_u64, 0, 0]), 0, 0, 0]),
    //
    denied!(
        37, "open the machine's cgroups", SELF,
        openat [libc::AT_FDCWD, text(c"/sys/fs/cgroup/cgroup.procs"), libc::O_WRONLY]
    ),
    denied!(
        37, "make a cgroup", SELF,
        mkdirat [libc::AT_FDCWD, text(c"/sys/fs/cgroup/stockade-attack"), 0o755]
    ),
    denied!(37, "mount cgroup2", SELF, mount [text(c"none"), text(c"/"), text(c"cgroup2"), 0, 0]),
    denied!(
        37, "mount cgroup with a release agent", SELF,
        mount [text(c"none"), text(c"/"), text(c"cgroup"), 0, text(c"release_agent=/x")]
    ),
    denied!(37, "leave the cgroup's namespace", SELF, setns [3, CLONE_NEWCGROUP]),
    attack(37, "clone3 CLONE_INTO_CGROUP", SELF, CLONE3, |_targets| {
        clone3(CLONE_INTO_CGROUP)
    }),
];
