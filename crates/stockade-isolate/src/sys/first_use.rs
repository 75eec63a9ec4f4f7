//! What libraries look up about the machine when they are first used.
//!
//! A sealed worker can read nothing of the machine, and an attempt ends the worker.

use std::ffi::c_int;

unsafe extern "C" {
    // absl/base/internal/sysinfo.h: number of processors and their clock rate, kept once known. Abseil
    // inside V8 asks for both when a lock is contended for the first time. Neither has preconditions.
    #[link_name = "_ZN4absl13base_internal7NumCPUsEv"]
    safe fn number_of_processors() -> c_int;
    #[link_name = "_ZN4absl13base_internal19NominalCPUFrequencyEv"]
    safe fn clock_rate_of_processors() -> f64;
}

/// Makes libraries read the machine's properties now.
pub(crate) fn look_around() {
    settle_malloc();
    number_of_processors();
    clock_rate_of_processors();
    // AWS-LC looks for a snapshot-safety device (/dev/sysgenid) with its first random number.
    let _ = aws_lc_rs::rand::fill(&mut [0]);
    // Regular expressions of the runtime read which processors this process may use (/proc).
    let _ = regex::Regex::new("[a-z]+").map(|pattern| pattern.is_match("a"));
}

/// What glibc's allocator reads of the machine, each once. V8's threads allocate there, some of them for the
/// first time in a sealed worker.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn settle_malloc() {
    /// Below the size from which on a block is a mapping of its own; two are more than what is kept at the end
    /// of an arena (mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD).
    const BLOCK: usize = 100 << 10;
    // It reads the kernel's overcommit setting (/proc) before it gives the end of an arena back, which the first
    // thread's arena, not being made of mappings, does not need: therefore on a thread.
    let looked = std::thread::Builder::new().spawn(|| {
        // SAFETY: each block is freed once, and nothing is read or written there.
        unsafe {
            // The compiler would do without blocks that nobody uses.
            for block in std::hint::black_box([libc::malloc(BLOCK), libc::malloc(BLOCK)]) {
                libc::free(block);
            }
        }
    });
    // Without the thread the worker ends at its first look, which is safe.
    let _ = looked.map(std::thread::JoinHandle::join);
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn settle_malloc() {}
