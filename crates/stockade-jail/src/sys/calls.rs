//! System calls by number, for tests of the rules.

/// Makes a call of this architecture; the result, or the negated error.
pub(crate) fn call(number: libc::c_long, args: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = args;
    // SAFETY: tests pass calls that the rules refuse, or that touch no memory of Rust's.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    match result {
        -1 => -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        result => result,
    }
}

/// Makes a call of the 32-bit ABI of x86: getpid.
#[cfg(target_arch = "x86_64")]
pub(crate) fn old_getpid() -> u64 {
    let result: u64;
    // SAFETY: takes no arguments; the kernel may change r8 to r11 and keeps the other registers.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("rax") 20_u64 => result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    result
}

/// Maps anonymous memory with these protections; 0 when that failed.
pub(crate) fn map(length: usize, prot: i32) -> usize {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, which overlaps nothing.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), length, prot, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        return 0;
    }
    address.addr()
}
