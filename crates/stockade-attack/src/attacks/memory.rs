//! Executable memory, and memory without a name.

use libc::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_GROWSDOWN, PROT_NONE,
    PROT_READ, PROT_WRITE,
};
use syscalls::Sysno;

use crate::attack::{Attack, Expect, attack, denied};
use crate::controls::{CODE, FORTY_TWO, MEMORY};
use crate::other_thread::on_other_thread;
use crate::outcome::Outcome;
use crate::sys::{self, Mapping, at, call, into, text};
use crate::targets::Targets;

const JIT: Expect = Expect::GivenUp("wx: jit lets memory become executable");

/// Not without a compiler; with one nothing is promised.
const fn in_strict(expect: &'static Expect) -> Expect {
    Expect::ByWx {
        jit: &JIT,
        strict: expect,
    }
}

const MMAP: Expect = in_strict(&Expect::Denied("mmap"));
const MPROTECT: Expect = in_strict(&Expect::Denied("mprotect"));
const PKEY_MPROTECT: Expect = in_strict(&Expect::Denied("pkey_mprotect"));

const ANONYMOUS: i32 = MAP_PRIVATE | MAP_ANONYMOUS;
const MAP_SHARED_VALIDATE: i32 = 3;
const SHM_EXEC: i32 = 0o100_000;

fn map(protection: i32, flags: i32) -> Outcome {
    call(
        Sysno::mmap,
        [0, 4096, protection as u64, flags as u64, u64::MAX, 0],
    )
}

/// Makes a page of its own executable.
fn protect(protection: i32) -> Outcome {
    match Mapping::new(4096, PROT_READ | PROT_WRITE, MAP_PRIVATE) {
        Ok(page) => call(Sysno::mprotect, [page.address(), 4096, protection as u64]),
        Err(errno) => Outcome::Refused(errno),
    }
}

fn protect_with_key(protection: i32) -> Outcome {
    match Mapping::new(4096, PROT_READ | PROT_WRITE, MAP_PRIVATE) {
        Ok(page) => call(
            Sysno::pkey_mprotect,
            [page.address(), 4096, protection as u64, u64::MAX],
        ),
        Err(errno) => Outcome::Refused(errno),
    }
}

/// Runs data: no call asks for it, so the processor must refuse.
fn run_data(_targets: &Targets) -> Outcome {
    match Mapping::new(4096, PROT_READ | PROT_WRITE, MAP_PRIVATE) {
        Ok(page) => {
            page.fill(FORTY_TWO);
            Outcome::Allowed(i64::from(sys::execute(&page)))
        }
        Err(errno) => Outcome::Refused(errno),
    }
}

/// The page of a function of this program.
fn own_code() -> u64 {
    run_data as *const () as u64 & !0xfff
}

/// Makes a page writable by which this program runs.
fn write_own_code(_targets: &Targets) -> Outcome {
    call(
        Sysno::mprotect,
        [
            own_code(),
            4096,
            (PROT_READ | PROT_WRITE | PROT_EXEC) as u64,
        ],
    )
}

/// Makes code writable, without executing it meanwhile, and executable again.
fn code_and_back(_targets: &Targets) -> Outcome {
    // one that nothing needs in between
    let page = libc::qsort as *const () as u64 & !0xfff;
    match call(
        Sysno::mprotect,
        [page, 4096, (PROT_READ | PROT_WRITE) as u64],
    ) {
        Outcome::Allowed(_) => call(
            Sysno::mprotect,
            [page, 4096, (PROT_READ | PROT_EXEC) as u64],
        ),
        other => other,
    }
}

/// Makes the pages of its stack executable.
fn stack(protection: i32) -> Outcome {
    let local = 0_u8;
    call(
        Sysno::mprotect,
        [at(&local) & !0xfff, 4096, protection as u64],
    )
}

pub(super) static ATTACKS: &[Attack] = &[
    attack(
        14,
        "mmap readable, writable and executable",
        CODE,
        MMAP,
        |_targets| map(PROT_READ | PROT_WRITE | PROT_EXEC, ANONYMOUS),
    ),
    attack(14, "mmap readable and executable", CODE, MMAP, |_targets| {
        map(PROT_READ | PROT_EXEC, ANONYMOUS)
    }),
    attack(14, "mmap executable only", CODE, MMAP, |_targets| {
        map(PROT_EXEC, ANONYMOUS)
    }),
    attack(
        14,
        "mmap executable over its own code",
        CODE,
        MMAP,
        |_targets| {
            call(
                Sysno::mmap,
                [
                    libc::qsort as *const () as u64 & !0xfff,
                    4096,
                    (PROT_READ | PROT_EXEC) as u64,
                    (ANONYMOUS | MAP_FIXED) as u64,
                    u64::MAX,
                    0,
                ],
            )
        },
    ),
    attack(14, "mprotect to all", CODE, MPROTECT, |_targets| {
        protect(PROT_READ | PROT_WRITE | PROT_EXEC)
    }),
    attack(
        14,
        "mprotect to readable and executable",
        CODE,
        MPROTECT,
        |_targets| protect(PROT_READ | PROT_EXEC),
    ),
    attack(
        14,
        "mprotect to executable by a thread that was there before",
        CODE,
        MPROTECT,
        |targets| on_other_thread(|_targets| protect(PROT_READ | PROT_EXEC), targets),
    ),
    attack(
        14,
        "pkey_mprotect to executable",
        CODE,
        PKEY_MPROTECT,
        |_targets| protect_with_key(PROT_READ | PROT_EXEC),
    ),
    attack(
        14,
        "make its own code writable",
        CODE,
        MPROTECT,
        write_own_code,
    ),
    attack(
        14,
        "make its own code writable and executable again",
        CODE,
        in_strict(&Expect::Denied("mprotect")),
        code_and_back,
    ),
    attack(
        14,
        "make its stack executable",
        CODE,
        MPROTECT,
        |_targets| stack(PROT_READ | PROT_WRITE | PROT_EXEC),
    ),
    attack(
        14,
        "make its stack executable with PROT_GROWSDOWN",
        CODE,
        Expect::Denied("mprotect"),
        |_targets| stack(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_GROWSDOWN),
    ),
    attack(
        14,
        "run data",
        CODE,
        Expect::Signaled(&[libc::SIGSEGV]),
        run_data,
    ),
    denied!(
        14, "mmap executable with high bits of the protection", CODE,
        mmap [0, 4096, (1_u64 << 32) | 4, ANONYMOUS, u64::MAX, 0]
    ),
    denied!(
        14, "mmap that grows down", CODE,
        mmap [0, 4096, PROT_READ | PROT_WRITE, ANONYMOUS | libc::MAP_GROWSDOWN, u64::MAX, 0]
    ),
    denied!(
        14, "mmap shared, to be mapped twice", CODE,
        mmap [0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, u64::MAX, 0]
    ),
    denied!(
        14, "mmap shared and validated", CODE,
        mmap [0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_ANONYMOUS, u64::MAX, 0]
    ),
    denied!(
        14, "mmap of huge pages", CODE,
        mmap [0, 2 << 20, PROT_READ | PROT_WRITE, ANONYMOUS | libc::MAP_HUGETLB, u64::MAX, 0]
    ),
    denied!(14, "mremap to a fixed place", CODE, mremap [own_code(), 4096, 4096, 3, 0x1000_0000]),
    denied!(14, "mremap that leaves the old mapping", CODE, mremap [own_code(), 4096, 4096, 5, 0]),
    attack(
        14,
        "mremap of nothing, which once doubled a mapping",
        CODE,
        Expect::Refused(&[libc::EINVAL]),
        |_targets| call(Sysno::mremap, [own_code(), 0, 4096, 1, 0]),
    ),
    denied!(14, "remap_file_pages", CODE, remap_file_pages [own_code(), 4096, 0, 0, 0]),
    denied!(14, "pkey_alloc", CODE, pkey_alloc [0, 0]),
    denied!(14, "mseal", CODE, mseal [0x1000, 4096, 0]),
    denied!(14, "map_shadow_stack", CODE, map_shadow_stack [0, 4096, 0]),
    denied!(
        14,
        "personality READ_IMPLIES_EXEC",
        CODE,
        personality[0x040_0000]
    ),
    attack(
        14,
        "look for writable code from outside",
        CODE,
        in_strict(&Expect::NoWritableCode),
        |_targets| Outcome::Works,
    ),
    //
    attack(
        15,
        "look for memory shared with others from outside",
        MEMORY,
        Expect::NothingShared,
        |_targets| Outcome::Works,
    ),
    denied!(15, "memfd_create", MEMORY, memfd_create [text(c"x"), 0]),
    denied!(15, "memfd_create executable", MEMORY, memfd_create [text(c"x"), 0x10]),
    denied!(15, "memfd_secret", MEMORY, memfd_secret[0]),
    denied!(15, "shmget", MEMORY, shmget [0, 4096, 0o1700]),
    denied!(15, "shmat SHM_EXEC", MEMORY, shmat [0, 0, SHM_EXEC]),
    denied!(15, "shmctl", MEMORY, shmctl [0, 2, into(&mut [0_u8; 256])]),
    denied!(15, "semget", MEMORY, semget [0, 1, 0o1600]),
    denied!(15, "msgget", MEMORY, msgget [0, 0o1600]),
    denied!(15, "mq_open", MEMORY, mq_open [text(c"x"), 0o102, 0o600, 0]),
    denied!(
        15, "execve /bin/sh", MEMORY,
        execve [text(c"/bin/sh"), at(&[text(c"sh"), 0]), at(&[0_u64])]
    ),
    denied!(
        15, "execveat of a descriptor", MEMORY,
        execveat [3, text(c""), at(&[text(c"sh"), 0]), at(&[0_u64]), libc::AT_EMPTY_PATH]
    ),
    #[cfg(target_arch = "x86_64")]
    denied!(
        15,
        "uselib",
        MEMORY,
        uselib[text(c"/lib/x86_64-linux-gnu/libc.so.6")]
    ),
    denied!(
        15, "a page without rights shared", MEMORY,
        mmap [0, 4096, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, u64::MAX, 0]
    ),
];
