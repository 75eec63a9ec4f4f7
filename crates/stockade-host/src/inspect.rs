//! `--inspect`: the host isolate in Chrome's DevTools.

use deno_core::JsRuntime;
use stockade_inspector::{Debuggers, Inspector, Listed, Target};

/// How the run can be debugged.
#[derive(Clone)]
pub struct InspectOptions {
    /// Where debuggers connect.
    pub inspector: Inspector,
    /// When the script starts.
    pub start: InspectStart,
}

/// When a script that can be debugged starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InspectStart {
    /// At once.
    #[default]
    AtOnce,
    /// When a debugger is there, with a pause before the first statement.
    Paused,
}

/// The host isolate as debuggers see it, until dropped.
pub(crate) struct Inspected {
    _listed: Listed,
    start: InspectStart,
}

impl Inspected {
    /// Lists the host isolate under the URL of its script.
    pub(crate) fn new(
        runtime: &JsRuntime,
        script: &str,
        options: &InspectOptions,
        debuggers: Debuggers,
    ) -> Self {
        let target = Target {
            title: "host".to_owned(),
            url: script.to_owned(),
        };
        // Nobody limits the host: no clock need stop while a debugger holds it.
        let listed = options.inspector.register(runtime, target, debuggers, None);
        Self {
            _listed: listed,
            start: options.start,
        }
    }

    /// Whether the script starts when a debugger is there.
    pub(crate) fn waits(&self) -> bool {
        self.start == InspectStart::Paused
    }

    /// Waits for a debugger. Blocks the thread: nothing else runs yet.
    pub(crate) fn wait(runtime: &JsRuntime) {
        runtime
            .inspector()
            .wait_for_session_and_break_on_next_statement();
    }
}
