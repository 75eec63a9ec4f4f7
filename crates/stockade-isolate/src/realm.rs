//! One worker realm: a runtime made from the startup snapshot, before and after it has its guest.

use std::rc::Rc;
use std::sync::Arc;

use deno_core::{CompiledWasmModuleStore, JsRuntime, RuntimeOptions, SharedArrayBufferStore, v8};
use stockade_jail::CODE_RANGE;
use stockade_limits::{ConsoleMode, IsolateOptions};
use stockade_realm::{GuestPort, Settings, Stage, realm_extensions, start_clock};

use crate::modules::{GuestLoader, GuestModules};
use crate::port::Port;
use crate::sys::buffers::{self, Buffers};
use crate::sys::guard;

static SNAPSHOT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/worker.snapshot"));

/// A runtime that waits for its guest.
pub(crate) struct Realm {
    pub(crate) runtime: JsRuntime,
    pub(crate) buffers: Arc<Buffers>,
    pub(crate) modules: Rc<GuestModules>,
    pub(crate) functions: Functions,
}

/// The runtime's functions inside the realm. `boot.js` says what each does.
pub(crate) struct Functions {
    pub(crate) call: v8::Global<v8::Function>,
    pub(crate) dispatch_answer: v8::Global<v8::Function>,
    pub(crate) dispatch_control: v8::Global<v8::Function>,
    pub(crate) dispatch_event: v8::Global<v8::Function>,
    rehearse: v8::Global<v8::Function>,
    pub(crate) reply: v8::Global<v8::Function>,
    pub(crate) report_exception: v8::Global<v8::Function>,
    pub(crate) serve_main: v8::Global<v8::Function>,
    pub(crate) serve_main_failed: v8::Global<v8::Function>,
    start: v8::Global<v8::Function>,
}

/// V8 divides a heap of 8 MB so that a long loop finds no memory for its compiled code. It is given this much, and the
/// isolate is limited to less by what it is measured to use.
const LEAST_HEAP: u64 = 9 << 20;

impl Realm {
    /// Makes a runtime whose heap may grow to `memory` bytes, and which debuggers may be let into.
    pub(crate) fn new(memory: Option<u64>, inspector: bool) -> Result<Self, String> {
        let buffers = Arc::new(Buffers::default());
        buffers.set_limit(memory);
        let mut params = v8::CreateParams::default()
            .array_buffer_allocator(buffers::allocator(&buffers))
            .set_code_range_size_in_bytes(CODE_RANGE)
            .allow_atomics_wait(false);
        if let Some(memory) = memory {
            let heap = memory.max(LEAST_HEAP);
            params = params.heap_limits(0, usize::try_from(heap).unwrap_or(usize::MAX));
        }
        let modules = Rc::new(GuestModules::default());
        let mut runtime = JsRuntime::try_new(RuntimeOptions {
            startup_snapshot: Some(SNAPSHOT),
            skip_op_registration: true,
            extensions: realm_extensions(Stage::Run),
            create_params: Some(params),
            // For transferring ArrayBuffers between ports; of this isolate alone.
            shared_array_buffer_store: Some(SharedArrayBufferStore::default()),
            compiled_wasm_module_store: Some(CompiledWasmModuleStore::default()),
            module_loader: Some(Rc::new(GuestLoader(Rc::clone(&modules)))),
            inspector,
            ..RuntimeOptions::default()
        })
        .map_err(|error| error.to_string())?;
        guard::watch_memory(runtime.v8_isolate());
        let functions = prepare(&mut runtime)?;
        Ok(Self {
            runtime,
            buffers,
            modules,
            functions,
        })
    }

    /// Has the realm do what each start does, while there is no guest that waits for it: the start then finds the memory
    /// that it needs. Nothing else changes.
    pub(crate) fn rehearse(&mut self) {
        deno_core::scope!(scope, self.runtime);
        if let Err(error) = call(scope, &self.functions.rehearse) {
            tracing::debug!("{error}");
        }
    }

    /// Gives the realm its guest's options. `inspect`: debuggers are let in.
    pub(crate) fn start(
        &mut self,
        port: Rc<Port>,
        options: &Arc<IsolateOptions>,
        inspect: bool,
    ) -> Result<(), String> {
        self.modules.set_options(Arc::clone(options), inspect);
        {
            let state = self.runtime.op_state();
            let mut state = state.borrow_mut();
            state.put::<Rc<dyn GuestPort>>(port);
            state.put(settings(options, inspect));
            start_clock(&mut state);
        }
        if options.shared_array_buffer {
            self.runtime.v8_isolate().set_allow_atomics_wait(true);
        }
        deno_core::scope!(scope, self.runtime);
        call(scope, &self.functions.start)
    }
}

/// Takes the runtime's functions out of the realm and hides the runtime from the guest.
fn prepare(runtime: &mut JsRuntime) -> Result<Functions, String> {
    deno_core::scope!(scope, runtime);
    let context = scope.get_current_context();
    let global = context.global(scope);
    let object = property(scope, global, "__stockade")
        .and_then(|value| v8::Local::<v8::Object>::try_from(value).ok())
        .ok_or("the startup snapshot does not fit this program")?;
    let mut function = |name: &str| {
        let value = property(scope, object, name)
            .and_then(|value| v8::Local::<v8::Function>::try_from(value).ok())
            .ok_or_else(|| format!("the startup snapshot lacks {name}"))?;
        Ok::<_, String>(v8::Global::new(scope, value))
    };
    let prepare = function("prepare")?;
    let functions = Functions {
        call: function("call")?,
        dispatch_answer: function("dispatchAnswer")?,
        dispatch_control: function("dispatchControl")?,
        dispatch_event: function("dispatchEvent")?,
        rehearse: function("rehearse")?,
        reply: function("reply")?,
        report_exception: function("reportException")?,
        serve_main: function("serveMain")?,
        serve_main_failed: function("serveMainFailed")?,
        start: function("start")?,
    };
    call(scope, &prepare)?;
    Ok(functions)
}

fn call(
    scope: &mut v8::PinScope<'_, '_>,
    function: &v8::Global<v8::Function>,
) -> Result<(), String> {
    v8::tc_scope!(let scope, scope);
    let function = v8::Local::new(scope, function);
    let this = v8::undefined(scope).into();
    if function.call(scope, this, &[]).is_some() {
        return Ok(());
    }
    let why = scope
        .exception()
        .map(|error| error.to_rust_string_lossy(scope));
    Err(format!(
        "the realm did not start: {}",
        why.unwrap_or_default()
    ))
}

fn property<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    object: v8::Local<'s, v8::Object>,
    name: &str,
) -> Option<v8::Local<'s, v8::Value>> {
    let key = v8::String::new(scope, name)?;
    object.get(scope, key.into())
}

fn settings(options: &IsolateOptions, inspect: bool) -> Settings {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Settings {
        env: options.env.clone(),
        console: options.console != ConsoleMode::Silent,
        console_whole: options.console == ConsoleMode::Whole,
        inspect,
        request_timeout_ms: options.limits.request_timeout.map_or(0, millis),
        timer_precision_us: u64::try_from(options.timer_precision.as_micros()).unwrap_or(u64::MAX),
        shared_array_buffer: options.shared_array_buffer,
    }
}
