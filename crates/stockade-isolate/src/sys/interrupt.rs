//! Reaches into a running isolate from another thread.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use deno_core::v8;
use stockade_inspector::Debuggers;
use stockade_supervisor::{CpuClock, InterruptHandle};

use super::guard;

/// How long an isolate that is to end may take to where the engine can say what it is doing: it may have to
/// collect garbage first. Some loops look only whether they are to stop.
const LOOK_CPU: Duration = Duration::from_millis(25);
const LOOK_WALL_TIME: Duration = Duration::from_millis(40);

/// Characters of a function's name; a longer one is left out.
const MAX_FUNCTION_NAME: usize = 256;

/// Frames that are searched for one of the guest's own.
const FRAMES: usize = 16;

/// A place in what the engine runs, by the names that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) function: Option<String>,
    pub(crate) source: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// Stops or interrupts one isolate.
pub(crate) struct V8InterruptHandle {
    handle: v8::IsolateHandle,
    /// An interrupt was requested and has not been served.
    requested: AtomicBool,
    /// The CPU clock of the isolate's thread.
    clock: CpuClock,
    /// When its end was first asked for, and CPU time until then.
    ending: OnceLock<(Instant, Duration)>,
    /// What it was doing then.
    place: OnceLock<Place>,
    /// A thread that a debugger holds does not look whether it is to stop.
    debuggers: Option<Debuggers>,
}

impl V8InterruptHandle {
    /// For the isolate of the calling thread.
    pub(crate) fn new(handle: v8::IsolateHandle, debuggers: Option<Debuggers>) -> Arc<Self> {
        Arc::new(Self {
            handle,
            requested: AtomicBool::new(false),
            clock: CpuClock::of_this_thread(),
            ending: OnceLock::new(),
            place: OnceLock::new(),
            debuggers,
        })
    }

    /// The isolate's thread serves its interrupt, or has no need to.
    pub(crate) fn served(&self) {
        self.requested.store(false, Ordering::SeqCst);
    }

    /// Where the guest was when it was ended, if it ran and the engine knew.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.get()
    }

    /// On the isolate's thread, where JavaScript may be interrupted: notes the place and ends it there.
    pub(super) fn stop_here(&self, isolate: &mut v8::Isolate, context: &v8::Global<v8::Context>) {
        if let Some(place) = top_frame(isolate, context) {
            let _ = self.place.set(place);
        }
        self.handle.terminate_execution();
    }
}

impl InterruptHandle for V8InterruptHandle {
    fn terminate(&self) {
        let mut first = false;
        let since = self.ending.get_or_init(|| {
            first = true;
            (Instant::now(), self.clock.read().unwrap_or_default())
        });
        if first {
            self.handle.request_interrupt(ending, std::ptr::null_mut());
            if let Some(debuggers) = &self.debuggers {
                debuggers.close();
            }
            return;
        }
        let (at, cpu) = since;
        let used = self.clock.read().unwrap_or_default().saturating_sub(*cpu);
        if used > LOOK_CPU || at.elapsed() > LOOK_WALL_TIME {
            self.handle.terminate_execution();
        }
    }

    fn interrupt(&self) {
        if !self.requested.swap(true, Ordering::SeqCst) {
            self.handle
                .request_interrupt(interrupted, std::ptr::null_mut());
        }
    }
}

/// Runs on the isolate's thread, at a point where JavaScript may be interrupted.
unsafe extern "C" fn interrupted(isolate: v8::UnsafeRawIsolatePtr, _data: *mut c_void) {
    // SAFETY: V8 passes the isolate that this thread runs, alive during the callback.
    let mut isolate = unsafe { v8::Isolate::from_raw_isolate_ptr(isolate) };
    guard::checkpoint(&mut isolate);
}

/// As [`interrupted`], once the isolate is to end.
unsafe extern "C" fn ending(isolate: v8::UnsafeRawIsolatePtr, _data: *mut c_void) {
    // SAFETY: as above.
    let mut isolate = unsafe { v8::Isolate::from_raw_isolate_ptr(isolate) };
    guard::stop_here(&mut isolate);
}

/// The innermost frame that is not of the runtime's own scripts.
fn top_frame(isolate: &mut v8::Isolate, context: &v8::Global<v8::Context>) -> Option<Place> {
    v8::scope_with_context!(let scope, isolate, context);
    let stack = v8::StackTrace::current_stack_trace(scope, FRAMES)?;
    (0..stack.get_frame_count()).find_map(|index| {
        let frame = stack.get_frame(scope, index)?;
        let source = frame
            .get_script_name_or_source_url(scope)?
            .to_rust_string_lossy(scope);
        if source.starts_with("ext:") {
            return None;
        }
        // A guest may give a function a name of any length, which V8 builds only when it is read.
        let function = frame
            .get_function_name(scope)
            .filter(|name| name.length() <= MAX_FUNCTION_NAME);
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Some(Place {
            function: function.map(|name| name.to_rust_string_lossy(scope)),
            source,
            line: number(frame.get_line_number()),
            column: number(frame.get_column()),
        })
    })
}
