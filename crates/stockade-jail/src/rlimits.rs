//! Limits of setrlimit(2), soft and hard alike: nothing inside raises them again.
//!
//! Memory of workers with isolates is the exception. Their hard limit has room for what they can be lent for a heap snapshot
//! ([`lendable`]), because without privileges nobody can raise a hard limit. The soft limit is that of `memory`; to raise it
//! takes prlimit(2), which the launcher has and the seccomp rules deny to workers.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::JailError;
use crate::spec::{CODE_RANGE, JailSpec, OVERHEAD, Role, lendable};

const LAYER: &str = "rlimits";

/// Stack of a thread at most, in bytes: what glibc and V8's threads ask for.
const STACK: u64 = 8 << 20;

/// Descriptors at most. Five are left when the worker is sealed; the engine opens a few while it starts.
const DESCRIPTORS: u64 = 32;

/// Signals that may wait with their data. Those of a crash wait without.
const SIGNALS: u64 = 16;

/// Threads besides those of the worker's own count: the kernel counts one that is just ending.
const SPARE_THREADS: u64 = 4;

/// Addresses that a worker may reserve, in bytes: what the engine reserves at its start (18 GiB), and
/// room for dozens of WebAssembly memories without a maximum (4 GiB each).
const ADDRESSES: u64 = 256 << 30;

/// Addresses for each isolate: its heap and code, and two such memories.
const ADDRESSES_OF_ISOLATE: u64 = 9 << 30;

/// Sets the limits for the calling process.
///
/// `own_user` states that no other process has its real user id in its user namespace; only then can its
/// threads be counted. Otherwise their number rests on the seccomp rules, which let nobody make any.
pub(crate) fn apply(spec: &JailSpec, own_user: bool) -> Result<(), JailError> {
    let set = |resource, name, limit| set_both(resource, name, limit, limit);
    set(Resource::Core, "RLIMIT_CORE", 0)?;
    set(Resource::Fsize, "RLIMIT_FSIZE", file_size(spec.role))?;
    set(Resource::Nofile, "RLIMIT_NOFILE", DESCRIPTORS)?;
    set(Resource::Memlock, "RLIMIT_MEMLOCK", 0)?;
    set(Resource::Msgqueue, "RLIMIT_MSGQUEUE", 0)?;
    set(Resource::Rtprio, "RLIMIT_RTPRIO", 0)?;
    set(Resource::Nice, "RLIMIT_NICE", 0)?;
    set(Resource::Sigpending, "RLIMIT_SIGPENDING", SIGNALS)?;
    set(Resource::Stack, "RLIMIT_STACK", STACK)?;
    if own_user {
        set(
            Resource::Nproc,
            "RLIMIT_NPROC",
            u64::from(spec.threads) + SPARE_THREADS,
        )?;
    }
    if let Some(memory) = spec.memory {
        let most = most_data(spec).unwrap_or(u64::MAX);
        set_both(
            Resource::Data,
            "RLIMIT_DATA",
            data(memory, spec.threads),
            most,
        )?;
        set(Resource::As, "RLIMIT_AS", addresses(spec.isolates))?;
    }
    Ok(())
}

/// RLIMIT_FSIZE in bytes of a worker of this role.
fn file_size(role: Role) -> u64 {
    match role {
        Role::Isolates | Role::Attack | Role::Helper => 0,
        Role::Database { file_size } => file_size,
    }
}

/// Address space that an isolate has for machine code, all of it writable from the start.
const CODE: u64 = CODE_RANGE as u64;

/// RLIMIT_DATA in bytes of a worker whose guests may use `memory`.
///
/// The kernel counts writable private mappings whether they are touched or not, so each thread's stack and
/// V8's room for machine code count in full.
pub(crate) fn data(memory: u64, threads: u32) -> u64 {
    memory
        .saturating_add(OVERHEAD)
        .saturating_add(CODE)
        .saturating_add(u64::from(threads).saturating_mul(STACK))
}

/// The hard RLIMIT_DATA in bytes of a worker; `None` without a limit.
pub(crate) fn most_data(spec: &JailSpec) -> Option<u64> {
    let memory = spec.memory?;
    let lent = match spec.role {
        Role::Isolates | Role::Attack => lendable(memory),
        Role::Database { .. } | Role::Helper => 0,
    };
    Some(data(memory.saturating_add(lent), spec.threads))
}

/// RLIMIT_AS in bytes of a worker with this number of isolates.
///
/// It bounds what the kernel spends on page tables, one byte for 512 addresses: pages that are only read
/// cost nothing else, and RLIMIT_DATA does not count them.
fn addresses(isolates: u32) -> u64 {
    ADDRESSES + u64::from(isolates) * ADDRESSES_OF_ISOLATE
}

fn set_both(resource: Resource, name: &str, soft: u64, hard: u64) -> Result<(), JailError> {
    // A hard limit that is lower already stays.
    let hard = getrlimit(resource)
        .maximum
        .map_or(hard, |now| now.min(hard));
    let limit = Rlimit {
        current: Some(soft.min(hard)),
        maximum: Some(hard),
    };
    let failed = |what: String| {
        JailError::new(
            LAYER,
            what,
            format!("setrlimit({name}, {soft} to {hard})"),
            "allow setrlimit(2) where this runs: a seccomp profile of the container around it may refuse it",
        )
    };
    setrlimit(resource, limit).map_err(|e| failed(format!("setting {name} failed ({e})")))?;
    let now = getrlimit(resource);
    if now != limit {
        return Err(failed(format!("{name} is {now:?} after it was set")));
    }
    Ok(())
}
