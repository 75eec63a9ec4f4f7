//! Crashes on purpose: they end the worker, leave no core file and nobody else notices.

use crate::attack::{Attack, Expect, attack};
use crate::controls::{STACK, UNWIND};
use crate::other_thread::on_other_thread;
use crate::outcome::Outcome;
use crate::sys::{self, Fault, fault};

const SEGV: Expect = Expect::Signaled(&[libc::SIGSEGV]);

/// The first process of a namespace cannot be ended by its own SIGABRT and ends with a status.
const ABORT: Expect = Expect::AnyOf(&[Expect::Signaled(&[libc::SIGABRT]), Expect::Exited(134)]);

pub(super) static ATTACKS: &[Attack] = &[
    attack(27, "write to where nothing is", UNWIND, SEGV, |_targets| {
        fault(Fault::Segment)
    }),
    attack(27, "jump to where nothing is", UNWIND, SEGV, |_targets| {
        fault(Fault::Jump)
    }),
    attack(27, "write to a constant", UNWIND, SEGV, |_targets| {
        fault(Fault::Constant)
    }),
    attack(
        27,
        "an instruction that does not exist",
        UNWIND,
        Expect::Signaled(&[libc::SIGILL]),
        |_targets| fault(Fault::Illegal),
    ),
    attack(
        27,
        "a breakpoint",
        UNWIND,
        Expect::Signaled(&[libc::SIGTRAP]),
        |_targets| fault(Fault::Trap),
    ),
    #[cfg(target_arch = "x86_64")]
    attack(
        27,
        "a division by zero",
        UNWIND,
        Expect::Signaled(&[libc::SIGFPE]),
        |_targets| fault(Fault::Division),
    ),
    attack(27, "abort", UNWIND, ABORT, |_targets| fault(Fault::Abort)),
    attack(
        27,
        "abort with all signals blocked",
        UNWIND,
        ABORT,
        |_targets| {
            let _ = sys::block_all();
            fault(Fault::Abort)
        },
    ),
    attack(
        27,
        "a fault with all signals blocked",
        UNWIND,
        SEGV,
        |_targets| {
            let _ = sys::block_all();
            fault(Fault::Segment)
        },
    ),
    attack(27, "a fault on another thread", UNWIND, SEGV, |targets| {
        on_other_thread(|_targets| fault(Fault::Segment), targets)
    }),
    attack(
        27,
        "recursion without end",
        STACK,
        Expect::AnyOf(&[
            Expect::Signaled(&[libc::SIGSEGV, libc::SIGABRT]),
            Expect::Exited(134),
        ]),
        |_targets| Outcome::Allowed(i64::from(sys::overflow_stack(usize::MAX))),
    ),
];
