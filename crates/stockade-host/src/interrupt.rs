//! Ctrl-C and SIGTERM: once ends the run cleanly, twice ends the process at once.
//!
//! A script that listens to SIGINT itself takes Ctrl-C over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::task::Waker;

use deno_core::futures::task::AtomicWaker;
use deno_core::v8::IsolateHandle;
use stockade_host_realm::{InterruptsTaken, restore_terminal};
use stockade_inspector::Debuggers;

use crate::error::HostError;

const SIGNALS: [i32; 2] = [deno_signals::SIGINT, deno_signals::SIGTERM];

/// Ends the run when the user asks for it; stops listening when dropped.
pub(crate) struct Interrupt {
    shared: Arc<InterruptState>,
    registered: Vec<(i32, u32)>,
}

#[derive(Default)]
struct InterruptState {
    /// 0 until a signal arrived, then the exit code.
    code: AtomicI32,
    /// The first signal ends the process.
    at_once: AtomicBool,
    waker: AtomicWaker,
}

impl Interrupt {
    pub(crate) fn listen(
        isolate: &IsolateHandle,
        interrupts: &InterruptsTaken,
        debuggers: &Debuggers,
    ) -> Result<Self, HostError> {
        let shared = Arc::new(InterruptState::default());
        let mut registered = Vec::new();
        for signal in SIGNALS {
            let shared = Arc::clone(&shared);
            let isolate = isolate.clone();
            let interrupts = interrupts.clone();
            let debuggers = debuggers.clone();
            let receive = move || {
                if signal == deno_signals::SIGINT && interrupts.by_script() {
                    return;
                }
                shared.receive(signal, &isolate, &debuggers);
            };
            let id = deno_signals::register(signal, true, Box::new(receive))
                .map_err(|error| HostError::Start(error.to_string()))?;
            registered.push((signal, id));
        }
        Ok(Self { shared, registered })
    }

    /// Runs `block`, which cannot be interrupted and has nothing to clean up: one signal ends the
    /// process.
    pub(crate) fn at_once(&self, block: impl FnOnce()) {
        self.shared.at_once.store(true, Ordering::Release);
        block();
        self.shared.at_once.store(false, Ordering::Release);
    }

    /// The exit code, once the run must end. Wakes the task when that happens.
    pub(crate) fn poll(&self, waker: &Waker) -> Option<i32> {
        self.shared.waker.register(waker);
        match self.shared.code.load(Ordering::Acquire) {
            0 => None,
            code => Some(code),
        }
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        for (signal, id) in self.registered.drain(..) {
            deno_signals::unregister(signal, id);
        }
    }
}

impl InterruptState {
    fn receive(&self, signal: i32, isolate: &IsolateHandle, debuggers: &Debuggers) {
        // By convention 128 and the signal's number.
        let code = 128 + signal;
        let first = self.code.swap(code, Ordering::AcqRel) == 0;
        if first && !self.at_once.load(Ordering::Acquire) {
            isolate.terminate_execution();
            // The script may be held by one.
            debuggers.close();
            self.waker.wake();
        } else {
            restore_terminal();
            signal_hook::low_level::exit(code);
        }
    }
}
