//! Every layer taken away for real, one at a time: levels that need it refuse and say why, others work, no
//! guest runs where one refuses, nothing stays behind, and `stockade doctor` names that layer.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[cfg(target_os = "linux")]
mod cases;
#[cfg(target_os = "linux")]
mod leftovers;
#[cfg(target_os = "linux")]
mod taking;
#[cfg(target_os = "linux")]
mod trial;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use libtest_mimic::{Arguments, Trial};

    let arguments: Vec<String> = std::env::args().collect();
    if let [_, first, case, program @ ..] = &arguments[..]
        && first == trial::WITHOUT
    {
        taking::become_without(trial::calls(case), program);
    }
    leftovers::adopt_orphans();
    let mut trials: Vec<Trial> = cases::CASES
        .iter()
        .map(|case| {
            let trial = Trial::test(case.name, move || trial::run(case));
            trial.with_ignored_flag(case.needs_root() && !trial::is_root())
        })
        .collect();
    trials.push(Trial::test(
        "doctor attacks the levels that are left",
        trial::attack_what_is_there,
    ));
    let done = libtest_mimic::run(&Arguments::from_args(), trials);
    trial::tidy();
    done.exit_code()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
