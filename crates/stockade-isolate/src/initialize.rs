//! Setting up V8, once in a process.

use std::sync::{Once, OnceLock};

use deno_core::{JsRuntime, v8};

use crate::sys;

/// Flags for every isolate of the process; `v8/src/flags/flag-definitions.h` describes each.
const FLAGS: &[&str] = &[
    // Small semi-spaces: an idle isolate holds little, a busy one grows them.
    "--min-semi-space-size=1",
    // Buffers are freed on the thread that owns them, where they are accounted for.
    "--no-concurrent-array-buffer-sweeping",
    // With it, the optimising compiler drops the interrupt check of a loop around an inlined loop of
    // known length, such as `for (;;) all.push(new Array(1000).fill(1))`: nothing could end that one.
    "--no-turboshaft-loop-unrolling",
    // A thread that compiles while the isolate of a guest runs out of memory asks for a collection of garbage that is
    // on its way already, and V8 ends the process (`GetTimerForCollectionRequest(kind).IsStarted()`).
    "--no-concurrent-sparkplug",
    // Guests have no use for it and it reveals addresses of code.
    "--no-expose-gc",
];

/// Sets V8 up: flags, platform, and the same locale (`en-US`) and time zone (UTC) on every machine,
/// so that a guest learns nothing about this one.
///
/// Call it on the main thread before other threads start: on machines with memory protection keys,
/// threads started earlier cannot run V8's code (a thread inherits the keys of the one that starts
/// it). Later calls do nothing. It also installs a panic hook that turns a panic on an isolate's
/// thread into the end of that isolate alone; the hook that was there is called first.
pub fn initialize() {
    initialize_with(&[]);
}

/// Flags of an engine that has one thread.
const SINGLE_THREADED_FLAGS: [&str; 3] = [
    "--single-threaded",
    // A running loop that the middle compiler has taken over would stay with its code for good: the step from there to
    // the optimising compiler exists with threads only (`CompileOptimizedOSRFromMaglev`). Without, loops go to the
    // optimising compiler at once; a numeric one takes 1.2 times as long otherwise.
    "--no-maglev-osr",
    // Where much of what was allocated lately is still in use, new space grows in larger steps: no other thread helps
    // with copying that, and it is copied less often.
    "--semi-space-growth-factor=4",
];

/// The platform of a process whose engine has one thread.
static SINGLE_THREADED: OnceLock<v8::SharedRef<v8::Platform>> = OnceLock::new();

/// As [`initialize`], with further flags, for a process with one isolate at a time: the engine starts no threads.
/// Its thread compiles and collects garbage itself, and must call [`run_engine_tasks`].
pub(crate) fn initialize_single_threaded(more: &[&str]) {
    let platform = v8::new_single_threaded_default_platform(false).make_shared();
    let platform = SINGLE_THREADED.get_or_init(|| platform).clone();
    let flags: Vec<&str> = more.iter().copied().chain(SINGLE_THREADED_FLAGS).collect();
    initialize_platform(&flags, Some(platform));
}

/// Tasks of the engine that are run at a time: each may make the next.
const MOST_TASKS: usize = 64;

/// Whether the engine of this process has one thread, so that nothing but [`run_engine_tasks`] runs what it puts off.
pub(crate) fn is_single_threaded() -> bool {
    SINGLE_THREADED.get().is_some()
}

/// Runs what the engine of a process with one thread has left for later; true if there was any.
pub(crate) fn run_engine_tasks(isolate: &v8::Isolate) -> bool {
    let Some(platform) = SINGLE_THREADED.get() else {
        return false;
    };
    let ran =
        (0..MOST_TASKS).take_while(|_| v8::Platform::pump_message_loop(platform, isolate, false));
    ran.count() > 0
}

/// As [`initialize`], with further flags.
pub(crate) fn initialize_with(more: &[&str]) {
    initialize_platform(more, None);
}

fn initialize_platform(more: &[&str], platform: Option<v8::SharedRef<v8::Platform>>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Before anything that uses ICU. Our blocks differ from foreign ones in what glibc keeps before each.
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        sys::icu::count_memory();
        let mut flags = vec!["stockade".to_owned()];
        flags.extend(FLAGS.iter().chain(more).map(|&flag| flag.to_owned()));
        v8::V8::set_flags_from_command_line(flags);
        // V8's own way opens a device for each isolate, and guesses where there is none.
        v8::V8::set_entropy_source(fill_with_entropy);
        v8::icu::set_default_locale("en-US");
        JsRuntime::init_platform(platform);
        sys::time_zone::settle_on_utc();
        sys::guard::install_panic_hook();
    });
}

/// Random bytes from the kernel, getrandom(2).
fn fill_with_entropy(mut bytes: &mut [u8]) -> bool {
    while !bytes.is_empty() {
        match rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => bytes = bytes.get_mut(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}
