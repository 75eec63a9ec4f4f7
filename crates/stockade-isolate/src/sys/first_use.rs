//! What libraries look up about the machine when they are first used.
//!
//! Behind the walls of a worker there is nothing to look at, and looking ends the worker.

use std::ffi::c_int;

unsafe extern "C" {
    // absl/base/internal/sysinfo.h: number of processors and their clock rate, kept once known. Abseil
    // inside V8 asks for both when a lock is contended for the first time. Neither has preconditions.
    #[link_name = "_ZN4absl13base_internal7NumCPUsEv"]
    safe fn number_of_processors() -> c_int;
    #[link_name = "_ZN4absl13base_internal19NominalCPUFrequencyEv"]
    safe fn clock_rate_of_processors() -> f64;
}

/// Has libraries look at the machine now.
pub(crate) fn look_around() {
    number_of_processors();
    clock_rate_of_processors();
    // AWS-LC looks for a snapshot-safety device (/dev/sysgenid) with its first random number.
    let _ = aws_lc_rs::rand::fill(&mut [0]);
    // Regular expressions of the runtime look at the processors that this process may use (/proc).
    let _ = regex::Regex::new("[a-z]+").map(|pattern| pattern.is_match("a"));
}
