//! Clocks of the machine, and timers.
//!
//! Reading the time to the nanosecond is open to native code at every level, by the vDSO and by the
//! processor's counter: a stated precision holds for JavaScript only.

use libc::{CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_TAI, O_RDONLY};

use crate::attack::{Attack, denied};
use crate::controls::{CLOCK, MASKING};
use crate::sys::{at, into, text};

pub(super) static ATTACKS: &[Attack] = &[
    denied!(32, "clock_settime", CLOCK, clock_settime [CLOCK_REALTIME, at(&[u64::MAX; 2])]),
    denied!(32, "settimeofday", CLOCK, settimeofday [at(&[u64::MAX; 2]), 0]),
    denied!(32, "adjtimex", CLOCK, adjtimex[at(&[u64::MAX; 32])]),
    denied!(32, "clock_adjtime", CLOCK, clock_adjtime [CLOCK_REALTIME, at(&[u64::MAX; 32])]),
    denied!(
        32, "clock_gettime of a clock of a device", CLOCK,
        clock_gettime [(!3_u32 << 3) | 3, into(&mut [0_u64; 2])]
    ),
    denied!(
        32, "clock_gettime of CLOCK_TAI", CLOCK,
        clock_gettime [CLOCK_TAI, into(&mut [0_u64; 2])]
    ),
    denied!(32, "clock_getres", CLOCK, clock_getres [CLOCK_BOOTTIME, into(&mut [0_u64; 2])]),
    denied!(
        32, "clock_nanosleep on CLOCK_BOOTTIME", CLOCK,
        clock_nanosleep [CLOCK_BOOTTIME, 0, at(&[0_u64; 2]), 0]
    ),
    denied!(32, "open /dev/rtc0", CLOCK, openat [libc::AT_FDCWD, text(c"/dev/rtc0"), O_RDONLY]),
    denied!(32, "timer_create", MASKING, timer_create [CLOCK_MONOTONIC, 0, into(&mut 0_i32)]),
    denied!(32, "setitimer", MASKING, setitimer [0, at(&[0_u64; 4]), 0]),
    #[cfg(target_arch = "x86_64")]
    denied!(32, "alarm", MASKING, alarm[1]),
    denied!(
        32,
        "times of the processes",
        CLOCK,
        times[into(&mut [0_u64; 4])]
    ),
    denied!(32, "getrusage", CLOCK, getrusage [0, into(&mut [0_u64; 18])]),
];
