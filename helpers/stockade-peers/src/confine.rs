//! What the process gives up before it reads its request.
//!
//! Invariant: what cannot be given up is an error, and the request is not read.

use std::collections::BTreeMap;

use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetStatus, Scope,
};
use nix::unistd::{Gid, Uid, close, getuid, setgroups, setresgid, setresuid};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{set_keep_capabilities, set_no_new_privs};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

/// Debian's `nobody` and `nogroup`.
const NOBODY: u32 = 65_534;

/// Open descriptors: the three pipes and the netlink socket.
const DESCRIPTORS: usize = 4;

/// Bytes of address space. An answer has at most 4 MiB.
const MEMORY: u64 = 256 << 20;

/// Seconds of CPU time.
const CPU: u64 = 5;

/// System calls that are left: those of reading, writing, memory, and the end.
const CALLS: [i64; 16] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_close,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Gives up everything but `CAP_NET_ADMIN` and what is open.
pub(crate) fn apply() -> Result<(), String> {
    count_descriptors()?;
    limits()?;
    capabilities().map_err(|error| format!("capabilities: {error}"))?;
    set_no_new_privs(true).map_err(|error| format!("no_new_privs: {error}"))?;
    // Changes of credentials take both back.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| format!("PR_SET_DUMPABLE: {error}"))?;
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("PR_SET_PDEATHSIG: {error}"))?;
    landlock()?;
    seccomp()
}

/// Closes what was inherited and nobody meant to give: everything but standard input, output and error.
pub(crate) fn close_inherited() -> Result<(), String> {
    for descriptor in descriptors()?.into_iter().filter(|number| *number > 2) {
        // That of the folder, which was among them, is closed already.
        let _ = close(descriptor);
    }
    Ok(())
}

fn descriptors() -> Result<Vec<i32>, String> {
    let listed = std::fs::read_dir("/proc/self/fd");
    let listed = listed.map_err(|error| format!("/proc/self/fd: {error}"))?;
    let names = listed.flatten().map(|entry| entry.file_name());
    Ok(names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect())
}

fn count_descriptors() -> Result<(), String> {
    // One of them is the folder's.
    let open = descriptors()?.len() - 1;
    if open > DESCRIPTORS {
        return Err(format!(
            "{open} descriptors are open, at most {DESCRIPTORS} are expected"
        ));
    }
    Ok(())
}

fn limits() -> Result<(), String> {
    for (resource, most) in [
        (Resource::Core, 0),
        (Resource::Nproc, 0),
        (Resource::As, MEMORY),
        (Resource::Cpu, CPU),
    ] {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit).map_err(|error| format!("setrlimit({resource:?}): {error}"))?;
    }
    Ok(())
}

fn capabilities() -> Result<(), String> {
    let admin = CapsHashSet::from_iter([Capability::CAP_NET_ADMIN]);
    let text = |error: &dyn std::fmt::Display| error.to_string();
    // 1. The sets that only matter to programs that are started; without CAP_SETPCAP, no_new_privs rules them out.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(|e| text(&e))? {
        for other in caps::all() {
            if other != Capability::CAP_NET_ADMIN
                && caps::has_cap(None, CapSet::Bounding, other).unwrap_or(false)
            {
                caps::drop(None, CapSet::Bounding, other).map_err(|e| text(&e))?;
            }
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(|e| text(&e))?;
    // 2. The user.
    if getuid().is_root() {
        set_keep_capabilities(true).map_err(|e| text(&e))?;
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        setgroups(&[]).map_err(|e| text(&e))?;
        setresgid(group, group, group).map_err(|e| text(&e))?;
        setresuid(user, user, user).map_err(|e| text(&e))?;
    }
    // 3. The capabilities of this process.
    caps::clear(None, CapSet::Inheritable).map_err(|e| text(&e))?;
    if !caps::has_cap(None, CapSet::Permitted, Capability::CAP_NET_ADMIN).map_err(|e| text(&e))? {
        return Err(
            "CAP_NET_ADMIN is missing: run Stockade as root, or give this program the capability (setcap cap_net_admin=ep)"
                .to_owned(),
        );
    }
    caps::clear(None, CapSet::Effective).map_err(|e| text(&e))?;
    caps::set(None, CapSet::Permitted, &admin).map_err(|e| text(&e))?;
    caps::set(None, CapSet::Effective, &admin).map_err(|e| text(&e))?;
    for set in [CapSet::Permitted, CapSet::Effective] {
        let left = caps::read(None, set).map_err(|e| text(&e))?;
        if left != admin {
            return Err(format!("{left:?} are left"));
        }
    }
    Ok(())
}

/// No file can be opened, no port used, and no other process reached by a signal or a socket.
fn landlock() -> Result<(), String> {
    let denied = || {
        let rules = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V4))?
            .handle_access(AccessNet::from_all(ABI::V4))?
            .set_compatibility(CompatLevel::BestEffort)
            .scope(Scope::from_all(ABI::V6))?;
        rules.create()?.restrict_self()
    };
    match denied() {
        Ok(status) if status.ruleset != RulesetStatus::NotEnforced => Ok(()),
        Ok(_) => {
            Err("Landlock is not enforced; it needs Linux 6.7 with `landlock` in lsm=".to_owned())
        }
        Err(error) => {
            let error: landlock::RulesetError = error;
            Err(format!(
                "Landlock: {error}; it needs Linux 6.7 with `landlock` in lsm="
            ))
        }
    }
}

fn seccomp() -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("seccomp: {error}");
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        CALLS.into_iter().map(|call| (call, Vec::new())).collect();
    // Memory, but none that can be executed.
    let executable = u64::try_from(libc::PROT_EXEC).unwrap_or(u64::MAX);
    let not_executable = SeccompCondition::new(
        2,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(executable),
        0,
    );
    let rule = SeccompRule::new(vec![not_executable.map_err(|e| failed(&e))?]);
    rules.insert(libc::SYS_mmap, vec![rule.map_err(|e| failed(&e))?]);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into().map_err(|e| failed(&e))?,
    );
    let filter: seccompiler::BpfProgram = filter
        .map_err(|e| failed(&e))?
        .try_into()
        .map_err(|e: seccompiler::BackendError| failed(&e))?;
    apply_filter(&filter).map_err(|e| failed(&e))
}
