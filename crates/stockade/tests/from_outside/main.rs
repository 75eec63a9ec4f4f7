//! What the machine sees of the workers of real isolates: their memory, cgroups and groups, and what becomes of
//! an isolate whose worker somebody else kills.

#[cfg(target_os = "linux")]
mod worker;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use libtest_mimic::{Arguments, Trial};
    use stockade::Isolation;

    stockade::run_if_worker();
    let mut arguments = Arguments::from_args();
    // A worker is identified by being the newest child of this program's launcher.
    arguments.test_threads = Some(1);
    let mut trials = Vec::new();
    for level in [Isolation::Process, Isolation::Container] {
        let mut add = |name: &str, run: fn(Isolation)| {
            trials.push(Trial::test(format!("{name}@{}", level.name()), move || {
                run(level);
                Ok(())
            }));
        };
        add("worker_signalled_from_outside_is_a_crash", worker::signals);
        add("strict_worker_has_no_code_of_its_own", worker::strict);
        add("jit_worker_has_code_of_its_own", worker::jit);
        add("group_shares_one_worker", worker::groups);
        add("cgroup_holds_the_worker", worker::cgroups);
        add(
            "clones_hold_nothing_of_each_other",
            worker::secrets_of_others,
        );
        add("clones_draw_nothing_twice", worker::draws);
        add("clones_that_end_leave_nothing", worker::nothing_left);
        add(
            "template_that_dies_ends_no_worker",
            worker::template_that_dies,
        );
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
