//! Too much: processes, threads, memory, time. All bounded, so that a level that fails costs little.

use std::hint::black_box;

use libc::{
    CLONE_FILES, CLONE_FS, CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_THREAD, CLONE_VFORK, CLONE_VM,
    MADV_DONTNEED, MAP_ANONYMOUS as ANONYMOUS, MAP_LOCKED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED,
    PROT_NONE, PROT_READ, PROT_WRITE, SIGCHLD,
};
use syscalls::Sysno;

use crate::attack::{Attack, Expect, attack, denied};
use crate::controls::{HEAP, SPIN, THREAD};
use crate::other_thread::start_on_other_thread;
use crate::outcome::Outcome;
use crate::sys::{self, Mapping, call, spawn};
use crate::targets::Targets;

/// Most processes or threads that are started if nothing hinders.
const MOST_STARTED: usize = 64;
/// What is mapped at a time.
const PIECE: usize = 8 << 20;
/// How many times the limit is asked for.
const TIMES: u64 = 8;

const THREAD_FLAGS: i32 =
    CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;

/// Tries to start [`MOST_STARTED`] processes or threads; the outcome of the last one.
fn many(start: impl Fn() -> Outcome) -> Outcome {
    let mut last = Outcome::Clean;
    for _ in 0..MOST_STARTED {
        last = start();
    }
    last
}

/// Maps and touches memory until it is refused, or has several times its limit.
fn fill(targets: &Targets, get: impl Fn() -> Result<Mapping, i32>) -> Outcome {
    let mut bytes = 0;
    while bytes < targets.memory.saturating_mul(TIMES) {
        match get() {
            Ok(piece) => {
                piece.touch();
                piece.leak();
                bytes += PIECE as u64;
            }
            Err(errno) => return Outcome::Refused(errno),
        }
    }
    Outcome::Allowed(i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// Reserves at once and makes it writable piece by piece.
fn fill_reserved(targets: &Targets) -> Outcome {
    let bytes = usize::try_from(targets.memory.saturating_mul(TIMES)).unwrap_or(usize::MAX);
    let reserved = match Mapping::new(bytes, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE) {
        Ok(reserved) => reserved,
        Err(errno) => return Outcome::Refused(errno),
    };
    match reserved.protect(PROT_READ | PROT_WRITE) {
        Ok(()) => reserved.touch(),
        Err(errno) => return Outcome::Refused(errno),
    }
    reserved.leak();
    Outcome::Allowed(i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// Moves the end of the data segment.
fn fill_data_segment(targets: &Targets) -> Outcome {
    let end = |wanted: u64| match call(Sysno::brk, [wanted]) {
        Outcome::Allowed(end) => end.cast_unsigned(),
        _ => 0,
    };
    let start = end(0);
    let wanted = start + targets.memory.saturating_mul(TIMES);
    if end(wanted) < wanted {
        return Outcome::Refused(libc::ENOMEM);
    }
    Outcome::Allowed(i64::try_from(wanted - start).unwrap_or(i64::MAX))
}

/// Grows one block again and again.
fn fill_by_mremap(targets: &Targets) -> Outcome {
    let (mut bytes, block) = (
        PIECE as u64,
        Mapping::new(PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE),
    );
    let mut address = match block {
        Ok(block) => {
            let address = block.address();
            block.leak();
            address
        }
        Err(errno) => return Outcome::Refused(errno),
    };
    while bytes < targets.memory.saturating_mul(TIMES) {
        match call(Sysno::mremap, [address, bytes, bytes * 2, 1]) {
            Outcome::Allowed(moved) => (address, bytes) = (moved.cast_unsigned(), bytes * 2),
            other => return other,
        }
    }
    Outcome::Allowed(i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// Reads from one page in every 2 MiB of what was never written: costs no memory of its own, but a
/// page of tables each.
fn fill_page_tables(_targets: &Targets) -> Outcome {
    const SPAN: usize = 1 << 30;
    const STEP: usize = 2 << 20;
    const MOST_BYTES: usize = 1 << 30;
    let mut tables = 0;
    while tables < MOST_BYTES {
        match Mapping::new(SPAN, PROT_READ, MAP_PRIVATE | MAP_NORESERVE) {
            Ok(span) => {
                black_box(span.look(STEP));
                span.leak();
                tables += SPAN / STEP * 4096;
            }
            Err(errno) => return Outcome::Refused(errno),
        }
    }
    Outcome::Allowed(MOST_BYTES as i64)
}

/// More mappings than the kernel allows, each of them an object in the kernel.
fn fill_mappings(_targets: &Targets) -> Outcome {
    for _ in 0..100_000 {
        let protections = [PROT_READ, PROT_NONE];
        for protection in protections {
            match Mapping::new(4096, protection, MAP_PRIVATE) {
                Ok(page) => page.leak(),
                Err(errno) => return Outcome::Refused(errno),
            }
        }
    }
    Outcome::Allowed(200_000)
}

fn spin(_targets: &Targets) -> Outcome {
    loop {
        std::hint::spin_loop();
    }
}

fn fault_pages(_targets: &Targets) -> Outcome {
    let Ok(block) = Mapping::new(PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE) else {
        return Outcome::Refused(libc::ENOMEM);
    };
    loop {
        block.touch();
        call(
            Sysno::madvise,
            [block.address(), PIECE as u64, MADV_DONTNEED as u64],
        );
    }
}

pub(super) static ATTACKS: &[Attack] = &[
    #[cfg(target_arch = "x86_64")]
    attack(
        24,
        "fork until refused",
        THREAD,
        Expect::Denied("fork"),
        |_targets| many(|| spawn(Sysno::fork, [])),
    ),
    #[cfg(target_arch = "x86_64")]
    attack(24, "vfork", THREAD, Expect::Denied("vfork"), |_targets| {
        spawn(Sysno::vfork, [])
    }),
    attack(
        24,
        "clone processes until refused",
        THREAD,
        Expect::Denied("clone"),
        |_targets| many(|| spawn(Sysno::clone, [SIGCHLD as u64])),
    ),
    attack(
        24,
        "clone a process that shares memory",
        THREAD,
        Expect::Denied("clone"),
        |_targets| spawn(Sysno::clone, [(CLONE_VM | CLONE_VFORK | SIGCHLD) as u64]),
    ),
    attack(
        24,
        "clone threads until refused",
        THREAD,
        Expect::Denied("clone"),
        |_targets| many(|| spawn(Sysno::clone, [THREAD_FLAGS as u64])),
    ),
    attack(
        24,
        "clone with high bits",
        THREAD,
        Expect::Denied("clone"),
        |_targets| spawn(Sysno::clone, [0x1_0000_0000 | THREAD_FLAGS as u64]),
    ),
    attack(
        24,
        "start a thread as Rust does",
        THREAD,
        Expect::Denied("clone3"),
        |_targets| match std::thread::Builder::new().spawn(|| ()) {
            Ok(_) => Outcome::Allowed(0),
            Err(error) => Outcome::Refused(error.raw_os_error().unwrap_or(0)),
        },
    ),
    //
    attack(
        25,
        "fill memory by mmap",
        HEAP,
        Expect::WithinMemory,
        |targets| {
            fill(targets, || {
                Mapping::new(PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE)
            })
        },
    ),
    attack(
        25,
        "fill memory by mmap without reserve",
        HEAP,
        Expect::WithinMemory,
        |targets| {
            fill(targets, || {
                Mapping::new(PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE)
            })
        },
    ),
    attack(
        25,
        "fill memory by mprotect of what was reserved",
        HEAP,
        Expect::WithinMemory,
        fill_reserved,
    ),
    attack(
        25,
        "fill memory by brk",
        HEAP,
        Expect::WithinMemory,
        fill_data_segment,
    ),
    attack(
        25,
        "fill memory by mremap",
        HEAP,
        Expect::WithinMemory,
        fill_by_mremap,
    ),
    attack(
        25,
        "fill memory by the allocator",
        HEAP,
        Expect::WithinMemory,
        |targets| {
            let mut all: Vec<Vec<u8>> = Vec::new();
            while (all.len() * PIECE) as u64 <= targets.memory.saturating_mul(TIMES) {
                let mut piece = Vec::new();
                if piece.try_reserve_exact(PIECE).is_err() {
                    return Outcome::Refused(libc::ENOMEM);
                }
                piece.resize(PIECE, 1);
                all.push(black_box(piece));
            }
            Outcome::Allowed((all.len() * PIECE) as i64)
        },
    ),
    attack(
        25,
        "fill memory by an allocation that cannot fail",
        HEAP,
        Expect::WithinMemory,
        |targets| {
            let mut all: Vec<Vec<u8>> = Vec::new();
            while (all.len() * PIECE) as u64 <= targets.memory.saturating_mul(TIMES) {
                all.push(black_box(vec![1; PIECE]));
            }
            Outcome::Allowed((all.len() * PIECE) as i64)
        },
    ),
    attack(
        25,
        "fill the kernel's page tables",
        HEAP,
        Expect::WithinMemory,
        fill_page_tables,
    )
    .hazardous(),
    attack(
        25,
        "fill the kernel's list of mappings",
        HEAP,
        Expect::Refused(&[libc::ENOMEM]),
        fill_mappings,
    ),
    attack(
        25,
        "fill the stack",
        HEAP,
        Expect::AnyOf(&[
            Expect::Signaled(&[libc::SIGSEGV, libc::SIGABRT]),
            Expect::Exited(134),
        ]),
        |targets| {
            let bytes = usize::try_from(targets.memory).unwrap_or(usize::MAX);
            Outcome::Allowed(i64::from(sys::overflow_stack(bytes)))
        },
    ),
    denied!(
        25, "mmap that locks what it maps", HEAP,
        mmap [0, PIECE, PROT_READ | PROT_WRITE, ANONYMOUS | MAP_PRIVATE | MAP_LOCKED, u64::MAX, 0]
    ),
    denied!(
        25, "mmap shared, which no limit counts", HEAP,
        mmap [0, PIECE, PROT_READ | PROT_WRITE, ANONYMOUS | MAP_SHARED, u64::MAX, 0]
    ),
    denied!(25, "madvise MADV_POPULATE_WRITE", HEAP, madvise [0x1000, 4096, 23]),
    denied!(25, "madvise MADV_HUGEPAGE", HEAP, madvise [0x1000, 4096, libc::MADV_HUGEPAGE]),
    denied!(25, "madvise MADV_MERGEABLE", HEAP, madvise [0x1000, 4096, libc::MADV_MERGEABLE]),
    denied!(25, "madvise MADV_HWPOISON", HEAP, madvise [0x1000, 4096, 100]),
    attack(
        25,
        "fill the message socket, which nobody reads",
        HEAP,
        Expect::KilledInTime,
        |_targets| {
            let bytes = vec![b'x'; 1 << 20];
            loop {
                call(Sysno::write, [3, sys::at(bytes.as_slice()), 1 << 20]);
            }
        },
    ),
    //
    attack(26, "a loop without end", SPIN, Expect::KilledInTime, spin),
    attack(
        26,
        "loops without end on all threads",
        SPIN,
        Expect::KilledInTime,
        |targets| {
            let (send, _outcome) = std::sync::mpsc::sync_channel(1);
            start_on_other_thread(spin, targets, send);
            spin(targets)
        },
    ),
    attack(
        26,
        "a loop of system calls",
        SPIN,
        Expect::KilledInTime,
        |_targets| loop {
            call(Sysno::sched_yield, []);
        },
    ),
    attack(
        26,
        "a loop of page faults",
        SPIN,
        Expect::KilledInTime,
        fault_pages,
    ),
    attack(
        26,
        "a loop of faults that are handled",
        SPIN,
        Expect::KilledInTime,
        |_targets| sys::fault_forever(),
    ),
    attack(
        26,
        "sleep without end",
        SPIN,
        Expect::KilledInTime,
        |_targets| loop {
            call(Sysno::clock_nanosleep, [1, 0, sys::at(&[3600_u64, 0]), 0]);
        },
    ),
    attack(
        26,
        "one huge read of random bytes after the other",
        SPIN,
        Expect::KilledInTime,
        |_targets| {
            let mut bytes = vec![0_u8; PIECE];
            loop {
                call(
                    Sysno::getrandom,
                    [sys::into(bytes.as_mut_slice()), PIECE as u64, 0],
                );
            }
        },
    ),
    denied!(26, "stop itself", SPIN, kill [0, libc::SIGSTOP]).hazardous(),
];
