//! The host isolate itself: made from the snapshot, started, and called into.

use std::rc::Rc;

use deno_core::error::JsError;
use deno_core::{JsRuntime, RuntimeOptions, v8};
use stockade_host_realm::{HostFunctions, RealmOptions};

use crate::error::HostError;
use crate::modules::Loader;
use crate::snapshot::{LAZY_MODULES, LAZY_SCRIPTS, SNAPSHOT};

/// The exception that stands in a `TryCatch` scope, if any.
macro_rules! thrown {
    ($scope:ident) => {
        match $scope.exception() {
            Some(exception) => Some(deno_core::exception_to_err($scope, exception, false, true)),
            None => None,
        }
    };
}

/// The name of the function that the snapshot leaves behind.
const START: &str = "__startHost";

/// Makes a host isolate whose globals are complete.
pub(crate) fn start(
    loader: Rc<Loader>,
    options: RealmOptions,
    inspector: bool,
) -> Result<JsRuntime, HostError> {
    let mut runtime = JsRuntime::new(RuntimeOptions {
        module_loader: Some(loader),
        startup_snapshot: Some(SNAPSHOT),
        residual_lazy_js_sources: LAZY_SCRIPTS,
        residual_lazy_esm_sources: LAZY_MODULES,
        skip_op_registration: true,
        shared_array_buffer_store: Some(deno_core::SharedArrayBufferStore::default()),
        compiled_wasm_module_store: Some(deno_core::CompiledWasmModuleStore::default()),
        extensions: stockade_host_realm::extensions(),
        inspector,
        is_main: true,
        ..Default::default()
    });
    runtime
        .lazy_init_extensions(stockade_host_realm::extension_arguments(options))
        .map_err(|error| HostError::Start(error.to_string()))?;
    call_start(&mut runtime).map_err(|error| HostError::Start(error.to_string()))?;
    Ok(runtime)
}

fn call_start(runtime: &mut JsRuntime) -> Result<(), Box<JsError>> {
    deno_core::scope!(scope, runtime);
    v8::tc_scope!(let scope, scope);
    let global = scope.get_current_context().global(scope);
    let function = v8::String::new(scope, START)
        .and_then(|name| global.get(scope, name.into()))
        .and_then(|value| v8::Local::<v8::Function>::try_from(value).ok());
    if let Some(function) = function {
        function.call(scope, global.into(), &[]);
    }
    thrown!(scope).map_or(Ok(()), Err)
}

/// The page's life cycle, as far as a script can see it.
pub(crate) enum LifeEvent {
    Load,
    BeforeUnload,
    Unload,
}

/// Dispatches an event; false if a handler prevented what comes next.
pub(crate) fn dispatch(runtime: &mut JsRuntime, event: &LifeEvent) -> Result<bool, Box<JsError>> {
    let state = runtime.op_state();
    let function = {
        let state = state.borrow();
        let Some(functions) = state.try_borrow::<HostFunctions>() else {
            return Ok(true);
        };
        match event {
            LifeEvent::Load => functions.load.clone(),
            LifeEvent::BeforeUnload => functions.before_unload.clone(),
            LifeEvent::Unload => functions.unload.clone(),
        }
    };
    deno_core::scope!(scope, runtime);
    v8::tc_scope!(let scope, scope);
    let function = v8::Local::new(scope, function);
    let undefined = v8::undefined(scope);
    let value = function.call(scope, undefined.into(), &[]);
    let go_on = value.is_none_or(|value| !value.is_false());
    thrown!(scope).map_or(Ok(go_on), Err)
}
