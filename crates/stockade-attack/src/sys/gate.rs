//! Ways into the kernel other than the plain one of x86_64.
#![cfg(target_arch = "x86_64")]

use std::arch::asm;

use crate::outcome::Outcome;
use crate::sys::call::{filled, outcome, raw};

/// Marks numbers of the x32 interface.
pub(crate) const X32: i64 = 0x4000_0000;

/// Any number at all.
pub(crate) fn numbered<const N: usize>(number: i64, args: [u64; N]) -> Outcome {
    outcome(raw(number, filled(args)))
}

/// The gate of 32-bit programs. Numbers are those of i386.
pub(crate) fn int80(number: u32, first: u32, second: u32) -> Outcome {
    let result: i32;
    // SAFETY: the instruction returns behind itself; rbx, which the compiler keeps, is restored.
    unsafe {
        asm!(
            "xchg {first:r}, rbx",
            "int 0x80",
            "xchg {first:r}, rbx",
            first = inout(reg) u64::from(first) => _,
            inlateout("eax") number => result,
            in("ecx") second,
            in("edx") 0,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r11") _,
        );
    }
    if (-4095..0).contains(&result) {
        return Outcome::Refused(-result);
    }
    Outcome::Allowed(i64::from(result))
}

/// The fast gate of 32-bit programs. It does not come back here, whatever the kernel says.
pub(crate) fn sysenter() -> Outcome {
    // SAFETY: nothing runs behind it but an instruction that ends the worker.
    unsafe {
        asm!(
            "mov eax, 20",
            "mov ebp, esp",
            "sysenter",
            "ud2",
            options(noreturn)
        );
    }
}

/// Runs code of 32 bits, through the code segment that every process has for it.
pub(crate) fn run_as_32_bit(code: &[u8]) -> Outcome {
    // the segment ends at 4 GiB, and nothing else of the program lies that low
    const LOW: u64 = 0x1000_0000;
    let all = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as u64;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED) as u64;
    let page = match raw(libc::SYS_mmap, [LOW, 4096, all, flags, u64::MAX, 0]) {
        Ok(page) => page.cast_unsigned(),
        Err(errno) => return Outcome::Refused(errno),
    };
    let start = std::ptr::with_exposed_provenance_mut::<u8>(usize::try_from(page).unwrap_or(0));
    for (offset, byte) in code.iter().enumerate().take(4096) {
        // SAFETY: within the page that was just mapped.
        unsafe { start.add(offset).write_volatile(*byte) };
    }
    // SAFETY: nothing runs behind it: the code ends with an instruction that ends the worker.
    unsafe {
        asm!("push 0x23", "push {page}", "retfq", page = in(reg) page, options(noreturn));
    }
}

/// Where the kernel maps the vsyscall page, if it does.
const VSYSCALL: usize = 0xffff_ffff_ff60_0000;

/// `time` by the vsyscall page.
pub(crate) fn vsyscall_time() -> Outcome {
    let time: usize = VSYSCALL + 0x400;
    let result: i64;
    // SAFETY: a call by the C convention to where the kernel emulates `time`; where there is no
    // such page the worker faults, which is one of the expected ends.
    unsafe {
        asm!(
            "call {time}",
            time = in(reg) time,
            in("rdi") 0,
            lateout("rax") result,
            clobber_abi("C"),
        );
    }
    Outcome::Allowed(result)
}

/// The vsyscall page as data.
pub(crate) fn read_vsyscall_page() -> Outcome {
    // SAFETY: a read of a fixed page, or a fault, which is one of the expected ends.
    let byte = unsafe { std::ptr::with_exposed_provenance::<u8>(VSYSCALL).read_volatile() };
    Outcome::Allowed(i64::from(byte))
}
