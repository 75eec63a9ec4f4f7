//! The harmless controls of the hostile attempts: a level that forbids these is of no use.

use std::hint::black_box;
use std::panic::{catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use libc::{MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE};
use syscalls::Sysno;

use crate::other_thread::on_other_thread;
use crate::outcome::Outcome;
use crate::sys::{self, Action, Mapping, call};
use crate::targets::masked;

/// A harmless operation.
#[derive(Debug)]
pub struct Control {
    /// What is done.
    pub name: &'static str,
    /// Does it.
    pub run: fn() -> Outcome,
}

pub(crate) const MESSAGES: &str = "messages go both ways on the socket";
pub(crate) const CLOSED: &str = "closing a descriptor that is not open says so";
pub(crate) const SELF: &str = "its own process number is known";
pub(crate) const MASKING: &str = "a signal is masked and unmasked";
pub(crate) const HANDLER: &str = "a handler for SIGBUS is set";
pub(crate) const THREAD: &str = "a thread created before the worker was sealed works";
pub(crate) const MEMORY: &str = "memory is mapped, written, protected and unmapped";
pub(crate) const HEAP: &str = "32 MiB of heap are filled and given back";
pub(crate) const CODE: &str = "code that was there before runs; with a compiler, new code too";
pub(crate) const RANDOM: &str = "random bytes come from the kernel";
pub(crate) const CLOCK: &str = "the clock goes on";
pub(crate) const YIELD: &str = "the core is given to others";
pub(crate) const SPIN: &str = "a loop of 5 ms ends by itself";
pub(crate) const UNWIND: &str = "a panic is caught";
pub(crate) const STACK: &str = "100 KiB of stack are used";
pub(crate) const SEARCH: &str = "a search of its own memory finds what is there";
pub(crate) const WAKE: &str = "a futex with no waiter is woken";

/// All harmless things.
#[must_use]
pub fn controls() -> &'static [Control] {
    CONTROLS
}

static CONTROLS: &[Control] = &[
    Control {
        name: MESSAGES,
        run: || Outcome::Works,
    },
    Control {
        name: CLOSED,
        run: || {
            expect(call(Sysno::close, [7]), |outcome| {
                *outcome == Outcome::Refused(libc::EBADF)
            })
        },
    },
    Control {
        name: SELF,
        run: || {
            expect(call(Sysno::getpid, []), |outcome| {
                matches!(outcome, Outcome::Allowed(1..))
            })
        },
    },
    Control {
        name: MASKING,
        run: masking,
    },
    Control {
        name: HANDLER,
        run: || works(sys::set_action(libc::SIGBUS, Action::Return)),
    },
    Control {
        name: THREAD,
        run: || on_other_thread(|_targets| Outcome::Works, &crate::Targets::default()),
    },
    Control {
        name: MEMORY,
        run: || works(memory()),
    },
    Control {
        name: HEAP,
        run: heap,
    },
    Control {
        name: CODE,
        run: code,
    },
    Control {
        name: RANDOM,
        run: random,
    },
    Control {
        name: CLOCK,
        run: clock,
    },
    Control {
        name: YIELD,
        run: || {
            expect(call(Sysno::sched_yield, []), |outcome| {
                *outcome == Outcome::Allowed(0)
            })
        },
    },
    Control {
        name: SPIN,
        run: spin,
    },
    Control {
        name: UNWIND,
        run: unwind,
    },
    Control {
        name: STACK,
        run: stack,
    },
    Control {
        name: SEARCH,
        run: search,
    },
    Control {
        name: WAKE,
        run: wake,
    },
];

/// The index of the control of this name.
pub(crate) fn index_of(name: &str) -> Option<usize> {
    CONTROLS.iter().position(|control| control.name == name)
}

fn expect(outcome: Outcome, fine: fn(&Outcome) -> bool) -> Outcome {
    if fine(&outcome) {
        Outcome::Works
    } else {
        outcome
    }
}

fn works(result: Result<(), i32>) -> Outcome {
    result.map_or_else(Outcome::Refused, |()| Outcome::Works)
}

fn masking() -> Outcome {
    let usr2: u64 = 1 << (libc::SIGUSR2 - 1);
    for how in [libc::SIG_BLOCK, libc::SIG_UNBLOCK] {
        let outcome = call(Sysno::rt_sigprocmask, [how as u64, sys::at(&usr2), 0, 8]);
        if outcome != Outcome::Allowed(0) {
            return outcome;
        }
    }
    Outcome::Works
}

fn memory() -> Result<(), i32> {
    let mapping = Mapping::new(1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE)?;
    mapping.touch();
    mapping.protect(PROT_READ)?;
    black_box(mapping.look(4096));
    mapping.protect(PROT_READ | PROT_WRITE)
}

fn heap() -> Outcome {
    let bytes = black_box(vec![7_u8; 32 << 20]);
    if bytes.iter().step_by(4096).all(|byte| *byte == 7) {
        Outcome::Works
    } else {
        Outcome::Found("memory that differs".to_owned())
    }
}

/// A C function that returns 42.
#[cfg(target_arch = "x86_64")]
pub(crate) const FORTY_TWO: &[u8] = &[0xb8, 42, 0, 0, 0, 0xc3];
/// A C function that returns 42.
#[cfg(target_arch = "aarch64")]
pub(crate) const FORTY_TWO: &[u8] = &[0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6];

fn code() -> Outcome {
    if crate::wx::is_strict() {
        return Outcome::Works;
    }
    let new = || {
        let mapping = Mapping::new(4096, PROT_READ | PROT_WRITE, MAP_PRIVATE)?;
        mapping.fill(FORTY_TWO);
        mapping.protect(PROT_READ | PROT_EXEC)?;
        Ok(sys::execute(&mapping))
    };
    match new() {
        Ok(42) => Outcome::Works,
        Ok(other) => Outcome::Allowed(i64::from(other)),
        Err(errno) => Outcome::Refused(errno),
    }
}

fn random() -> Outcome {
    match sys::random_bytes() {
        Ok(bytes) if bytes.iter().any(|byte| *byte != 0) => Outcome::Works,
        Ok(bytes) => Outcome::Found(format!("{bytes:?}")),
        Err(errno) => Outcome::Refused(errno),
    }
}

fn clock() -> Outcome {
    let before = Instant::now();
    while before.elapsed() < Duration::from_micros(10) {}
    Outcome::Works
}

fn spin() -> Outcome {
    let before = Instant::now();
    while before.elapsed() < Duration::from_millis(5) {
        black_box(());
    }
    Outcome::Works
}

fn unwind() -> Outcome {
    match catch_unwind(|| resume_unwind(Box::new(()))) {
        Err(_) => Outcome::Works,
        Ok(()) => Outcome::Allowed(0),
    }
}

fn stack() -> Outcome {
    black_box(sys::overflow_stack(100 << 10));
    Outcome::Works
}

/// The searches for secrets mean nothing unless this one finds something.
fn search() -> Outcome {
    let heap = match sys::random_bytes() {
        Ok(bytes) => bytes,
        Err(errno) => return Outcome::Refused(errno),
    };
    let wanted = [
        ("heap".to_owned(), masked(heap.as_slice())),
        ("start of the stack".to_owned(), sys::start_of_stack()),
    ];
    let (found, searched) = sys::find(&wanted);
    black_box(heap);
    if wanted
        .iter()
        .all(|(name, _)| found.iter().any(|text| text.starts_with(name)))
    {
        Outcome::Works
    } else {
        Outcome::Found(format!("{found:?} in {searched} bytes"))
    }
}

fn wake() -> Outcome {
    let word = 0_u32;
    let wake = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as u64;
    expect(call(Sysno::futex, [sys::at(&word), wake, 1]), |outcome| {
        *outcome == Outcome::Allowed(0)
    })
}
