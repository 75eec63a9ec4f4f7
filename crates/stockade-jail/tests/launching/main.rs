//! Workers started, inspected from inside, and ended in every way, by a supervisor that is this program.
//!
//! The tests count descriptors and processes of the whole program, so they run one after the other.

#![cfg_attr(
    target_os = "linux",
    expect(clippy::unwrap_used, reason = "a test fails by panicking")
)]

#[cfg(target_os = "linux")]
mod ends;
#[cfg(target_os = "linux")]
mod inside;
#[cfg(target_os = "linux")]
mod starts;
#[cfg(target_os = "linux")]
mod supervisor;
#[cfg(target_os = "linux")]
mod users;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    stockade_jail::run_if_launcher(inside::entry, None);
    if let Some(role) = std::env::var_os(supervisor::VARIABLE) {
        supervisor::run(&role.to_string_lossy());
    }
    let mut arguments = libtest_mimic::Arguments::from_args();
    arguments.test_threads = Some(1);
    let mut trials = starts::trials();
    trials.extend(ends::trials());
    trials.extend(users::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
