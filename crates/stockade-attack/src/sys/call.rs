//! System calls by number.

use std::arch::asm;
use std::ffi::CStr;

use syscalls::Sysno;

use crate::outcome::Outcome;

/// Calls the kernel; the error is an error number.
pub(crate) fn raw(number: i64, args: [u64; 6]) -> Result<i64, i32> {
    // SAFETY: the arguments are integers, pointers to objects that outlive the call, or pointers
    // that the kernel refuses. What a call does that a layer should have stopped is the finding.
    let result =
        unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if result == -1 {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
    }
    Ok(result)
}

/// Calls the kernel and returns the result. Missing arguments are zero.
pub(crate) fn call<const N: usize>(number: Sysno, args: [u64; N]) -> Outcome {
    outcome(raw(i64::from(number.id()), filled(args)))
}

/// 32 random bytes of the kernel.
pub(crate) fn random_bytes() -> Result<Vec<u8>, i32> {
    let mut bytes = vec![0; 32];
    raw(
        libc::SYS_getrandom,
        [into(bytes.as_mut_slice()), 32, 0, 0, 0, 0],
    )?;
    Ok(bytes)
}

/// Six arguments of fewer.
pub(crate) fn filled<const N: usize>(args: [u64; N]) -> [u64; 6] {
    let mut all = [0; 6];
    for (slot, arg) in all.iter_mut().zip(args) {
        *slot = arg;
    }
    all
}

/// What a call came to.
pub(crate) fn outcome(result: Result<i64, i32>) -> Outcome {
    match result {
        Ok(value) => Outcome::Allowed(value),
        Err(errno) => Outcome::Refused(errno),
    }
}

/// A call that may return twice, as fork does: the second one to return ends at once, without
/// touching memory that it may share.
pub(crate) fn spawn<const N: usize>(number: Sysno, args: [u64; N]) -> Outcome {
    spawn_numbered(i64::from(number.id()), filled(args))
}

/// As [`spawn`], by the number of the call.
pub(crate) fn spawn_numbered(number: i64, args: [u64; 6]) -> Outcome {
    let result: i64;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the child runs but `exit`, which needs no stack; the parent sees a plain call.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov eax, 60",
            "xor edi, edi",
            "syscall",
            "2:",
            inlateout("rax") number => result,
            inlateout("rdi") args[0] => _,
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the child runs but `exit`, which needs no stack; the parent sees a plain call.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x8, #93",
            "svc 0",
            "2:",
            inlateout("x8") number => _,
            inlateout("x0") args[0] => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
        );
    }
    if (-4095..0).contains(&result) {
        return Outcome::Refused(i32::try_from(-result).unwrap_or(0));
    }
    Outcome::Allowed(result)
}

/// The address of an object, as an argument.
pub(crate) fn at<T: ?Sized>(object: &T) -> u64 {
    std::ptr::from_ref(object).cast::<u8>().expose_provenance() as u64
}

/// The address of an object that the kernel fills.
pub(crate) fn into<T: ?Sized>(object: &mut T) -> u64 {
    std::ptr::from_mut(object).cast::<u8>().expose_provenance() as u64
}

/// The address of a text.
pub(crate) fn text(text: &CStr) -> u64 {
    text.as_ptr().expose_provenance() as u64
}
