//! Deliberate faults.

use std::arch::asm;
use std::hint::black_box;

use crate::outcome::Outcome;

/// A way to crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A write where nothing is.
    Segment,
    /// A jump to where nothing is.
    Jump,
    /// A write to constants.
    Constant,
    /// An instruction that does not exist.
    Illegal,
    /// A breakpoint.
    Trap,
    /// A division by zero.
    #[cfg(target_arch = "x86_64")]
    Division,
    /// An instruction for the kernel only.
    #[cfg(target_arch = "x86_64")]
    Privileged,
    /// Reads the processor's performance counters.
    #[cfg(target_arch = "x86_64")]
    Counters,
    /// C's `abort`.
    Abort,
}

/// Crashes; comes back only if that failed.
pub(crate) fn fault(kind: Fault) -> Outcome {
    // SAFETY: each of these ends the process or does nothing; none returns to corrupted state.
    unsafe {
        match kind {
            Fault::Segment => std::ptr::without_provenance_mut::<u8>(8).write_volatile(1),
            Fault::Jump => {
                #[cfg(target_arch = "x86_64")]
                asm!("call {0}", in(reg) 8_usize, clobber_abi("C"));
                #[cfg(target_arch = "aarch64")]
                asm!("blr {0}", in(reg) 8_usize, clobber_abi("C"));
            }
            Fault::Constant => {
                static CONSTANT: [u8; 64] =
                    *b"constants lie on pages that nobody can write; this is one of 'em";
                std::ptr::from_ref(&CONSTANT)
                    .cast_mut()
                    .cast::<u8>()
                    .write_volatile(0);
            }
            Fault::Illegal => {
                #[cfg(target_arch = "x86_64")]
                asm!("ud2");
                #[cfg(target_arch = "aarch64")]
                asm!("udf #0");
            }
            Fault::Trap => {
                #[cfg(target_arch = "x86_64")]
                asm!("int3");
                #[cfg(target_arch = "aarch64")]
                asm!("brk #1");
            }
            #[cfg(target_arch = "x86_64")]
            Fault::Division => asm!(
                "div {0:e}", in(reg) 0_u32, inout("eax") 1_u32 => _, inout("edx") 0_u32 => _,
            ),
            #[cfg(target_arch = "x86_64")]
            Fault::Privileged => asm!("hlt"),
            #[cfg(target_arch = "x86_64")]
            Fault::Counters => asm!("rdpmc", in("ecx") 0, out("eax") _, out("edx") _),
            Fault::Abort => libc::abort(),
        }
    }
    Outcome::Allowed(0)
}

/// Recursion until this many bytes of stack are used.
pub(crate) fn overflow_stack(bytes: usize) -> u8 {
    let frame = [0_u8; 1024];
    let frame = black_box(&frame);
    if bytes <= frame.len() {
        return frame[0];
    }
    // not a tail call: the frame is inspected afterwards
    overflow_stack(bytes - frame.len()) | black_box(frame)[1]
}
