//! Reaches into a running isolate from another thread.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deno_core::v8;
use stockade_inspector::Debuggers;
use stockade_supervisor::Breaker;

use super::guard;

/// Stops or interrupts one isolate.
pub(crate) struct V8Breaker {
    handle: v8::IsolateHandle,
    /// An interrupt was requested and has not been served.
    requested: AtomicBool,
    /// A thread that a debugger holds does not look whether it is to stop.
    debuggers: Option<Debuggers>,
}

impl V8Breaker {
    pub(crate) fn new(handle: v8::IsolateHandle, debuggers: Option<Debuggers>) -> Arc<Self> {
        Arc::new(Self {
            handle,
            requested: AtomicBool::new(false),
            debuggers,
        })
    }

    /// The isolate's thread serves its interrupt, or has no need to.
    pub(crate) fn served(&self) {
        self.requested.store(false, Ordering::SeqCst);
    }
}

impl Breaker for V8Breaker {
    fn terminate(&self) {
        self.handle.terminate_execution();
        if let Some(debuggers) = &self.debuggers {
            debuggers.close();
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
