//! What a worker is started with.

use serde::{Deserialize, Serialize};

/// How strongly a worker is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Level {
    /// A process without privileges, files, network or descriptors.
    Process,
    /// The same in its own namespaces, on an empty root, in a cgroup where there is one.
    Container,
}

/// Whether memory of the worker may be both written and executed, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Wx {
    /// V8 compiles to machine code, into memory that is writable and executable at once where the
    /// processor has no protection keys.
    #[default]
    Jit,
    /// Never: no compiler, and the kernel refuses every way to executable memory.
    Strict,
}

/// Whether a worker must be in a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum CgroupUse {
    /// Where the machine lets this user make cgroups.
    #[default]
    Auto,
    /// Refuse to start without.
    Require,
}

/// What runs in the worker once it is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Role {
    /// Isolates with guest code.
    #[default]
    Isolates,
    /// Code that tries to get out, for tests and `stockade doctor --attack`.
    Attack,
    /// The work of another program, with data of guests and without files. Such workers are clones of a template that
    /// is that program: [`JailSpec::template`] is its path.
    Helper,
    /// A database engine with statements of guests. It has [`FILES`] open files, given with
    /// [`Launcher::launch_with_files`](crate::Launcher::launch_with_files), and can open no other.
    Database {
        /// Bytes that each of the files may have.
        file_size: u64,
    },
}

/// Open files of a worker of the role [`Role::Database`], in the order that it is given them.
pub const FILES: usize = 3;

/// How to start a worker; fixed for its life except for its memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JailSpec {
    /// The level of isolation.
    pub level: Level,
    /// Executable memory.
    pub wx: Wx,
    /// What runs in it.
    pub role: Role,
    /// Bytes that its guests may use together, `None` for no limit. The kernel's limits lie above
    /// it by [`OVERHEAD`].
    pub memory: Option<u64>,
    /// Share of one core in (0, 1], `None` for no limit; for the cgroup.
    pub cpu_share: Option<f64>,
    /// Isolates that it may run at the same time; more than one for a trust group.
    pub isolates: u32,
    /// Threads that it makes before it is sealed, the main thread included; no more later.
    pub threads: u32,
    /// Whether it must be in a cgroup.
    pub cgroup: CgroupUse,
    /// Workers with this name are cloned from a template of theirs alone, and never made without it. `None` is the
    /// template of all others. Not for trust groups. For [`Role::Helper`] the path of the program.
    pub template: Option<String>,
}

/// Bytes that a worker needs besides what its guests use: the engine, its threads, messages in
/// flight, and the room V8 takes while it is being stopped.
pub const OVERHEAD: u64 = 96 << 20;

/// Bytes above `memory`, the limit of its guests, that a worker can be lent for a time, for V8's description of a heap: 12
/// times the limit, which is what a heap of small objects takes, and at most 2 GiB.
#[must_use]
pub(crate) fn lendable(memory: u64) -> u64 {
    memory.saturating_mul(12).min(2 << 30)
}

/// Bytes of address space in which an isolate of a worker may have machine code.
pub const CODE_RANGE: usize = 128 << 20;
