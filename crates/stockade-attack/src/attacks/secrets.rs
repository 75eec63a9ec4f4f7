//! What the worker inherited: environment, arguments, auxiliary vector, memory; what the kernel
//! reveals about the machine.

use crate::attack::{Attack, Expect, attack, denied};
use crate::controls::{MESSAGES, RANDOM, SEARCH, SELF};
use crate::outcome::Outcome;
use crate::sys::{self, into};
use crate::targets::Targets;

/// Least amount of memory that a search must have seen to mean anything.
const LEAST_SEARCHED: u64 = 1 << 20;

fn search(targets: &Targets, name: &str) -> Outcome {
    let wanted: Vec<_> = targets
        .masked
        .iter()
        .filter(|(secret, _)| secret == name)
        .cloned()
        .collect();
    if wanted.is_empty() {
        return Outcome::Found("no such secret was planted: nothing to search for".to_owned());
    }
    let (found, searched) = sys::find(&wanted);
    if searched < LEAST_SEARCHED {
        return Outcome::Found(format!("only {searched} bytes could be searched"));
    }
    if found.is_empty() {
        Outcome::Clean
    } else {
        Outcome::Found(found.join(", "))
    }
}

/// The environment as C's library knows it.
fn environment(_targets: &Targets) -> Outcome {
    let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    if names.is_empty() {
        Outcome::Clean
    } else {
        Outcome::Found(format!("{names:?}"))
    }
}

/// The arguments: none but the name that a worker shows.
fn arguments(_targets: &Targets) -> Outcome {
    let arguments: Vec<_> = std::env::args_os().collect();
    if arguments.len() == 1 && arguments.iter().all(|name| name == "stockade-worker") {
        Outcome::Clean
    } else {
        Outcome::Found(format!("{arguments:?}"))
    }
}

/// Where the program lies, which reveals the name of a user or a deployment.
fn program(_targets: &Targets) -> Outcome {
    let path = sys::program_path();
    match path.as_str() {
        "" | "/proc/self/exe" => Outcome::Clean,
        _ => Outcome::Found(path),
    }
}

/// Whether the kernel says that the program runs with more rights than its user has.
fn secure(_targets: &Targets) -> Outcome {
    match sys::auxiliary(libc::AT_SECURE) {
        0 => Outcome::Clean,
        value => Outcome::Found(format!("AT_SECURE is {value}")),
    }
}

pub(super) static ATTACKS: &[Attack] = &[
    attack(
        6,
        "list the environment",
        MESSAGES,
        Expect::Clean,
        environment,
    ),
    attack(6, "list the arguments", MESSAGES, Expect::Clean, arguments),
    attack(
        6,
        "read the program's path from the auxiliary vector",
        MESSAGES,
        Expect::Clean,
        program,
    ),
    attack(
        6,
        "read AT_SECURE from the auxiliary vector",
        MESSAGES,
        Expect::Clean,
        secure,
    ),
    attack(
        6,
        "search memory for the supervisor's environment",
        SEARCH,
        Expect::Clean,
        |targets| search(targets, "environment"),
    ),
    attack(
        6,
        "search memory for the supervisor's arguments",
        SEARCH,
        Expect::Clean,
        |targets| search(targets, "arguments"),
    ),
    attack(
        6,
        "search memory for a secret behind a descriptor",
        SEARCH,
        Expect::Clean,
        |targets| search(targets, "descriptor"),
    ),
    attack(
        6,
        "search memory for a secret of the supervisor's heap",
        SEARCH,
        Expect::Clean,
        |targets| search(targets, "heap"),
    ),
    denied!(6, "uname", SELF, uname[into(&mut [0_u8; 512])]),
    denied!(6, "sysinfo", SELF, sysinfo[into(&mut [0_u8; 256])]),
    denied!(6, "syslog", SELF, syslog [3, into(&mut [0_u8; 256]), 256]),
    #[cfg(target_arch = "x86_64")]
    denied!(6, "sysfs", SELF, sysfs[3]),
    #[cfg(target_arch = "x86_64")]
    denied!(6, "ustat", SELF, ustat [1, into(&mut [0_u8; 256])]),
    denied!(6, "getcpu", RANDOM, getcpu [into(&mut 0_u32), into(&mut 0_u32), 0]),
    denied!(6, "getgroups", RANDOM, getgroups [0, 0]),
    denied!(
        6, "getresuid", RANDOM,
        getresuid [into(&mut 0_u32), into(&mut 0_u32), into(&mut 0_u32)]
    ),
    denied!(6, "prctl PR_GET_AUXV", RANDOM, prctl [0x4155_5856, into(&mut [0_u8; 512]), 512, 0, 0]),
    denied!(
        6, "lsm_list_modules", RANDOM,
        lsm_list_modules [into(&mut [0_u64; 32]), into(&mut 256_u32), 0]
    ),
];
