//! What a program does first.

/// Sets the program up for isolates of every level. Call it first in `main`, before other threads
/// start and before arguments are read.
///
/// Workers of the levels `process` and `container` are started from this same program: in one of them
/// this function never returns (see [`run_if_worker`]). In the host's process it sets V8 up, for level
/// `thread`: on machines with memory protection keys, threads that were started earlier cannot run V8's
/// code.
pub fn initialize() {
    run_if_worker();
    stockade_isolate::initialize();
}

/// The part of [`initialize`] that a program needs which has no isolates of level `thread`: becomes a
/// worker if this process was started to be one, and returns at once otherwise. V8 is not set up.
pub fn run_if_worker() {
    #[cfg(target_os = "linux")]
    stockade_jail::run_if_launcher(
        |inside| match inside.spec().role {
            stockade_jail::Role::Isolates => stockade_isolate::worker_main(inside),
            stockade_jail::Role::Attack => stockade_attack::main(inside),
            stockade_jail::Role::Database { .. } => stockade_sqlite::worker_main(inside),
            // It is a clone of the helper's own template.
            stockade_jail::Role::Helper => stockade_jail::leave(stockade_jail::EXIT_FAILED),
        },
        Some(stockade_isolate::worker_template),
    );
}
