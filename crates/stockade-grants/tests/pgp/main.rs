//! Grants of `pgp` in real processes of the helper, against GnuPG and Sequoia in both directions, and against messages
//! that are made to break it.

#![cfg_attr(
    target_os = "linux",
    expect(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )
)]

#[cfg(target_os = "linux")]
mod guest;
#[cfg(target_os = "linux")]
mod hostile;
#[cfg(target_os = "linux")]
mod keys;
#[cfg(target_os = "linux")]
mod processes;
#[cfg(target_os = "linux")]
mod programs;

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    stockade_jail::run_if_launcher(|_| {}, None);
    let mut arguments = libtest_mimic::Arguments::from_args();
    // Some count processes.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials()).exit_code()
}

#[cfg(target_os = "linux")]
fn trials() -> Vec<libtest_mimic::Trial> {
    let tests: [(&str, fn()); _] = [
        ("gnupg_understands_and_is_understood", programs::gnupg),
        ("sequoia_understands_and_is_understood", programs::sequoia),
        ("keys_of_every_algorithm_work", programs::algorithms),
        ("usages_are_what_the_grant_names", keys::usages),
        ("grants_that_cannot_work_say_why", keys::wrong_grants),
        ("signatures_of_changed_data_are_not_valid", keys::changed),
        ("revoked_and_expired_keys_are_not_used", keys::old_keys),
        ("undecipherable_messages_are_refused_alike", hostile::oracle),
        (
            "hostile_messages_are_refused_and_harmless_ones_work",
            hostile::hostile,
        ),
        ("keys_that_are_hostile_are_refused", hostile::hostile_keys),
        ("processes_end_when_idle_and_start_again", processes::idle),
        ("operations_end_at_their_deadline", processes::deadline),
        (
            "processes_have_no_files_and_end_with_the_grant",
            processes::confined,
        ),
    ];
    tests
        .map(|(name, test)| {
            libtest_mimic::Trial::test(name, move || {
                test();
                Ok(())
            })
        })
        .into()
}
