//! Rights: users, capabilities, and what only root may do to a machine.
//!
//! Arguments of the latter are invalid on purpose: if a layer let the call through, the kernel would
//! answer with an error and nothing would happen.

use libc::{AT_FDCWD, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE};

use crate::attack::{Attack, Expect, attack, denied};
use crate::controls::{RANDOM, SELF};
use crate::outcome::Outcome;
use crate::sys::{at, into, text};

/// `struct __user_cap_header_struct` of version 3, for itself.
const CAPABILITY_HEADER: [u32; 2] = [0x2008_0522, 0];
/// Everything, effective, permitted and inheritable.
const ALL_CAPABILITIES: [u32; 6] = [u32::MAX; 6];

pub(super) static ATTACKS: &[Attack] = &[
    attack(
        23,
        "inspect the worker's rights from outside",
        SELF,
        Expect::NoRights,
        |_targets| Outcome::Works,
    ),
    denied!(
        23, "execve of a setuid program", SELF,
        execve [text(c"/usr/bin/su"), at(&[text(c"su"), 0]), at(&[0_u64])]
    ),
    denied!(23, "setuid 0", SELF, setuid[0]),
    denied!(23, "setgid 0", SELF, setgid[0]),
    denied!(23, "setreuid 0", SELF, setreuid [0, 0]),
    denied!(23, "setregid 0", SELF, setregid [0, 0]),
    denied!(23, "setresuid 0", SELF, setresuid [0, 0, 0]),
    denied!(23, "setresgid 0", SELF, setresgid [0, 0, 0]),
    denied!(23, "setfsuid 0", SELF, setfsuid[0]),
    denied!(23, "setfsgid 0", SELF, setfsgid[0]),
    denied!(23, "setgroups", SELF, setgroups [1, at(&0_u32)]),
    denied!(23, "capset everything", SELF, capset [at(&CAPABILITY_HEADER), at(&ALL_CAPABILITIES)]),
    denied!(23, "capget", SELF, capget [at(&CAPABILITY_HEADER), into(&mut [0_u32; 6])]),
    denied!(
        23, "raise an ambient capability", SELF,
        prctl [PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0]
    ),
    denied!(
        23, "chown to root", SELF,
        fchownat [AT_FDCWD, text(c"/tmp/stockade-nothing"), 0, 0, 0]
    ),
    denied!(23, "init_module", RANDOM, init_module [at(b"no module"), 9, text(c"")]),
    denied!(23, "finit_module", RANDOM, finit_module [-1_i32, text(c""), 0]),
    denied!(23, "delete_module", RANDOM, delete_module [text(c"stockade-nothing"), 0]),
    denied!(23, "kexec_load", RANDOM, kexec_load [0, 99, 0, -1_i32]),
    denied!(23, "kexec_file_load", RANDOM, kexec_file_load [-1_i32, -1_i32, 0, 0, -1_i32]),
    denied!(23, "reboot without its magic numbers", RANDOM, reboot [0, 0, 0, 0]),
    denied!(23, "swapon", RANDOM, swapon [text(c"/stockade-nothing"), 0]),
    denied!(23, "swapoff", RANDOM, swapoff[text(c"/stockade-nothing")]),
    denied!(23, "quotactl", RANDOM, quotactl [0x80_0001, text(c"/stockade-nothing"), 0, 0]),
    denied!(23, "quotactl_fd", RANDOM, quotactl_fd [0, 0x80_0001, 0, 0]),
    denied!(23, "acct", RANDOM, acct[text(c"/stockade-nothing")]),
    denied!(23, "vhangup", RANDOM, vhangup []).hazardous(),
    denied!(23, "sethostname", RANDOM, sethostname [1, 1]),
    denied!(23, "setdomainname", RANDOM, setdomainname [1, 1]),
    denied!(23, "nfsservctl", RANDOM, nfsservctl [0, 0, 0]),
    denied!(23, "lsm_set_self_attr", RANDOM, lsm_set_self_attr [0, 0, 0, 0]),
];
