//! A worker that was taken over, and speaks the protocol as it likes.
//!
//! This program is the supervisor, its launcher and the workers. A worker whose memory limit names an
//! [`attack`] runs that in place of V8, in workers that are really sealed; every other worker is an
//! honest one. The [`host`] half asserts for each attack how the isolate ended and with what text, that
//! what waited for it was settled, that its neighbour never noticed, and that nothing leaked.
//!
//! No test checks how long something took.

#[cfg(target_os = "linux")]
mod attack;
#[cfg(target_os = "linux")]
mod frames;
#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
mod messages;
#[cfg(target_os = "linux")]
mod script;
#[cfg(target_os = "linux")]
mod worker;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use libtest_mimic::{Arguments, Trial};
    use stockade::Isolation;

    stockade_jail::run_if_launcher(
        |inside| match attack::of(&inside) {
            Some(attack) => worker::main(inside, attack),
            None => stockade_isolate::worker_main(inside),
        },
        None,
    );
    if let Some(script) = std::env::var_os(script::RUN) {
        return script::main(script);
    }
    let mut arguments = Arguments::from_args();
    // Descriptors and memory are counted for the process as a whole.
    arguments.test_threads = Some(1);
    let mut trials = Vec::new();
    for level in [Isolation::Process, Isolation::Container] {
        for (index, attack) in attack::all().enumerate() {
            let name = format!("{}@{}", attack.name, level.name());
            trials.push(Trial::test(name, move || {
                host::block_on(host::try_one(level, index))
            }));
        }
        trials.push(Trial::test(
            format!("nothing_leaks_in_200_rounds@{}", level.name()),
            move || host::block_on(host::try_many(level)),
        ));
        trials.push(Trial::test(
            format!("script_receives_forged_controls@{}", level.name()),
            move || script::try_controls(level),
        ));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
