//! One attempt, and what must come of it.

use crate::outcome::Outcome;
use crate::targets::Targets;

/// One thing that hostile native code may try.
#[derive(Debug)]
pub struct Attack {
    /// The number of its group of attempts, 1 to 39.
    pub group: u8,
    /// What is tried.
    pub name: &'static str,
    /// The harmless control that must work: the name of a [`crate::Control`].
    pub control: &'static str,
    /// Tries it, in the worker.
    pub run: fn(&Targets) -> Outcome,
    /// What must come of it.
    pub expect: Expect,
    /// Whether a user's machine takes no harm if the level fails here.
    pub safe: bool,
}

/// What must come of an attempt.
#[derive(Debug, Clone, Copy)]
pub enum Expect {
    /// The worker is ended, and this system call is on record as the cause.
    Denied(&'static str),
    /// The call fails with one of these error numbers, and the worker goes on.
    Refused(&'static [i32]),
    /// Nothing is found.
    Clean,
    /// The worker has these descriptors and no others, as the kernel reports to the supervisor.
    Descriptors(&'static [i32]),
    /// None of the worker's memory is shared with others and can be written, as the kernel reports to
    /// the supervisor.
    NothingShared,
    /// None of the worker's memory can be written and executed, as the kernel reports to the supervisor.
    NoWritableCode,
    /// The worker has no capability, no way to get one and filters, as the kernel reports to the
    /// supervisor.
    NoRights,
    /// The kernel ends the worker by one of these signals, without a core file.
    Signaled(&'static [i32]),
    /// The worker ends with this status.
    Exited(i32),
    /// It gets no more memory than the worker's limit, whether it is refused or ended.
    WithinMemory,
    /// Nothing but the supervisor's kill ends it, and that does at once.
    KilledInTime,
    /// One of these.
    AnyOf(&'static [Expect]),
    /// It depends on whether executable memory is refused.
    ByWx {
        /// With a compiler.
        jit: &'static Expect,
        /// Without.
        strict: &'static Expect,
    },
    /// It depends on the level.
    ByLevel {
        /// A process.
        process: &'static Expect,
        /// A container.
        container: &'static Expect,
    },
    /// This level or mode does not promise anything here; the text says what it gives up.
    GivenUp(&'static str),
}

impl Attack {
    /// This attempt, but never on a user's machine.
    pub(crate) const fn hazardous(mut self) -> Self {
        self.safe = false;
        self
    }
}

/// An attempt that is more than one call.
pub(crate) const fn attack(
    group: u8,
    name: &'static str,
    control: &'static str,
    expect: Expect,
    run: fn(&Targets) -> Outcome,
) -> Attack {
    Attack {
        group,
        name,
        control,
        run,
        expect,
        safe: true,
    }
}

/// An attempt that is one system call, which must be denied under its own name. Its arguments may
/// be temporaries: they live until the call returns.
macro_rules! denied {
    ($group:literal, $name:expr, $control:expr, $number:ident [$($argument:expr),* $(,)?]) => {
        denied!($group, $name, $control, |_targets| $number [$($argument),*])
    };
    (
        $group:literal, $name:expr, $control:expr,
        |$targets:ident| $number:ident [$($argument:expr),* $(,)?]
    ) => {
        $crate::attack::attack(
            $group,
            $name,
            $control,
            $crate::attack::Expect::Denied(stringify!($number)),
            |$targets| $crate::sys::call(syscalls::Sysno::$number, [$($argument as u64),*]),
        )
    };
}
pub(crate) use denied;
