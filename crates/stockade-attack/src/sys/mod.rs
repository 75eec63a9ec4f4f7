//! What hostile native code does below the language: raw system calls, odd gates into the kernel,
//! its own memory byte by byte, faults.
//!
//! The functions are safe to call for the worker only, whose end is the worst that may come of it:
//! nothing here keeps Rust's promises if a layer lets a hostile call through.
#![expect(
    unsafe_code,
    reason = "hostile native code is what this crate stands in for"
)]

mod call;
mod fault;
mod gate;
mod memory;
mod scan;
mod signal;

pub(crate) use call::{at, call, into, random_bytes, spawn, spawn_numbered, text};
pub(crate) use fault::{Fault, fault, overflow_stack};
#[cfg(target_arch = "x86_64")]
pub(crate) use gate::{
    X32, int80, numbered, read_vsyscall_page, run_as_32_bit, sysenter, vsyscall_time,
};
pub(crate) use memory::{Mapping, execute};
pub(crate) use scan::{auxiliary, find, program_path, start_of_stack};
pub(crate) use signal::{Action, block_all, fault_forever, set_action};
