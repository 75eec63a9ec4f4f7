//! Workers that are cloned from a template: how they end, and what becomes of one that cannot be made.
//!
//! The tests count descriptors and processes of the whole program, so they run one after the other.

#![cfg_attr(
    target_os = "linux",
    expect(clippy::unwrap_used, reason = "a test fails by panicking")
)]

#[cfg(target_os = "linux")]
mod clones;
#[cfg(target_os = "linux")]
#[path = "../launching/inside.rs"]
mod inside;
#[cfg(target_os = "linux")]
#[path = "../launching/supervisor.rs"]
#[expect(dead_code, reason = "the tests of launching need more of it")]
mod supervisor;

/// What a template of these tests does: it has nothing to prepare.
#[cfg(target_os = "linux")]
fn template(
    _: &stockade_jail::JailSpec,
    clones: stockade_jail::Clones,
) -> stockade_jail::JailError {
    clones.serve(inside::entry)
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    stockade_jail::run_if_launcher(inside::entry, Some(template));
    let mut arguments = libtest_mimic::Arguments::from_args();
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, clones::trials()).exit_code()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
