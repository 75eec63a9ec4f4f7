//! Serve mode: the realm learns how its main module ended, and reports that to the host.

use deno_core::{ModuleId, v8};
use stockade_protocol::{GuestError, Position};

use crate::invoke::{invoke, string};
use crate::realm::Realm;

/// The main module has been evaluated: its handlers are looked for. The engine says of a module that threw,
/// too, that it has been evaluated.
pub(crate) fn evaluated(realm: &mut Realm, main: ModuleId) {
    let namespace = match realm.runtime.get_module_namespace(main) {
        Ok(namespace) => namespace,
        Err(error) => return failed(realm, &crate::error::core_error(&error)),
    };
    let function = &realm.functions.serve_main;
    deno_core::scope!(scope, realm.runtime);
    v8::tc_scope!(let scope, scope);
    let namespace = v8::Local::new(scope, namespace).into();
    invoke(scope, function, &[namespace]);
    scope.perform_microtask_checkpoint();
}

/// There is no main module to answer anything.
pub(crate) fn failed(realm: &mut Realm, error: &GuestError) {
    let function = &realm.functions.serve_main_failed;
    deno_core::scope!(scope, realm.runtime);
    v8::tc_scope!(let scope, scope);
    let mut stack = error.trace();
    if let Some(Position {
        source,
        line,
        column,
    }) = &error.position
    {
        // What cannot be parsed has no frames.
        let place = format!("{source}:{line}:{column}");
        if !stack.contains(&place) {
            stack.push_str(&format!("\n    at {place}"));
        }
    }
    let texts = [error.name.as_str(), error.message.as_str(), stack.as_str()];
    let [Some(name), Some(message), Some(stack)] = texts.map(|text| string(scope, text)) else {
        return;
    };
    invoke(scope, function, &[name, message, stack]);
    scope.perform_microtask_checkpoint();
}
