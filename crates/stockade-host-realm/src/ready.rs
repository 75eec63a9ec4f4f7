//! The JavaScript functions of the realm that the runtime calls.

use deno_core::{OpState, op2, v8};

/// Functions of the realm, kept in the op state once the realm has started.
pub struct HostFunctions {
    /// Reports what the main module threw, and dispatches the event `load`.
    pub load: v8::Global<v8::Function>,
    /// Dispatches `beforeunload`; false if a handler asked for the run to go on.
    pub before_unload: v8::Global<v8::Function>,
    /// Dispatches `unload`.
    pub unload: v8::Global<v8::Function>,
    /// Takes one event of an isolate: `(sandbox, isolate, kind, a, b, c, d)`, see `js/sandbox.js`.
    pub isolate_event: v8::Global<v8::Function>,
}

#[op2(fast)]
pub(crate) fn op_host_ready(
    state: &mut OpState,
    scope: &mut v8::PinScope<'_, '_>,
    load: v8::Local<'_, v8::Function>,
    before_unload: v8::Local<'_, v8::Function>,
    unload: v8::Local<'_, v8::Function>,
    isolate_event: v8::Local<'_, v8::Function>,
) {
    state.put(HostFunctions {
        load: v8::Global::new(scope, load),
        before_unload: v8::Global::new(scope, before_unload),
        unload: v8::Global::new(scope, unload),
        isolate_event: v8::Global::new(scope, isolate_event),
    });
}
