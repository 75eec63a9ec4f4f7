//! One run of a host script, from its file to its exit code.

use std::future::Future;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use deno_core::error::CoreError;
use deno_core::url::Url;
use deno_core::{JsRuntime, ModuleSpecifier, PollEventLoopOptions};
use stockade_host_realm::{
    InterruptsTaken, RealmOptions, RunInfo, SandboxSetup, Sandboxes, restore_terminal,
};
use stockade_inspector::Debuggers;
use stockade_supervisor::IsolateHandle;
use stockade_transpile::{STREAM_NAME, open_stream};

use crate::error::HostError;
use crate::events::Pump;
use crate::heap::Heap;
use crate::inspect::{Inspected, list_worker};
use crate::interrupt::Interrupt;
use crate::modules::{Loader, read_source};
use crate::options::HostOptions;
use crate::realm::{self, LifeEvent};
use crate::report;

/// Why the script's code stopped running.
enum Stop {
    /// Ctrl-C or SIGTERM, with the exit code.
    Interrupted(i32),
    /// It threw and nobody caught it.
    Threw(CoreError),
}

impl From<CoreError> for Stop {
    fn from(error: CoreError) -> Self {
        Self::Threw(error)
    }
}

/// Runs a script on this thread and gives the process's exit code. For programs that have no Tokio
/// runtime yet; V8 must have been initialised on this thread, the process's first.
///
/// # Errors
/// When the script cannot be read or the host isolate cannot be set up. Errors of the script itself
/// are printed and end in the exit code 1.
pub fn block_on(options: HostOptions) -> Result<i32, HostError> {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| HostError::Start(error.to_string()))?;
    let code = tokio.block_on(run(options));
    // A read of standard input that nobody answers must not hold the process.
    tokio.shutdown_background();
    code
}

/// Runs a script within a current-thread Tokio runtime that has all its drivers, and gives the
/// process's exit code.
///
/// # Errors
/// As [`block_on`].
pub async fn run(options: HostOptions) -> Result<i32, HostError> {
    let (main_module, loader) = main_module(&options)?;
    let info = RunInfo::new(main_module.to_string(), options.args.clone());
    let color = info.stderr_color;
    let exit_code = deno_os::ExitCode::default();
    let interrupts = InterruptsTaken::default();
    let mut defaults = options.sandbox;
    defaults.defaults.inspect = options.inspect.is_some();
    let inspector = options
        .inspect
        .as_ref()
        .map(|inspect| inspect.inspector.clone());
    let sandboxes = Sandboxes::new(SandboxSetup {
        defaults,
        backends: options.backends,
        created: inspector.map(|inspector| -> Rc<dyn Fn(&IsolateHandle)> {
            Rc::new(move |isolate: &IsolateHandle| list_worker(&inspector, isolate))
        }),
    });
    let realm_options = RealmOptions {
        info,
        sandboxes: sandboxes.clone(),
        exit_code: exit_code.clone(),
        interrupts: interrupts.clone(),
    };
    let mut runtime = realm::start(Rc::new(loader), realm_options, options.inspect.is_some())?;
    before_exit(&runtime, &sandboxes);
    let heap = Heap::watch(&mut runtime, &sandboxes);
    let debuggers = Debuggers::default();
    let inspected = options
        .inspect
        .map(|inspect| Inspected::new(&runtime, main_module.as_str(), &inspect, debuggers.clone()));
    let isolate = runtime.v8_isolate().thread_safe_handle();
    let interrupt = Interrupt::listen(&isolate, &interrupts, &debuggers)?;
    let stop = Run {
        runtime: &mut runtime,
        interrupt: &interrupt,
        sandboxes: &sandboxes,
        pump: Pump::default(),
        heap,
        inspected,
    }
    .script(&main_module)
    .await;
    sandboxes.shutdown();
    restore_terminal();
    let code = match stop {
        Ok(()) => exit_code.get(),
        Err(Stop::Interrupted(code)) => code,
        // Whatever was thrown then is only how the script was stopped.
        Err(Stop::Threw(error)) => match interrupt.poll(std::task::Waker::noop()) {
            Some(code) => code,
            None => {
                report::print(&error, color);
                1
            }
        },
    };
    // When standard output is closed, there is nowhere to report that.
    let _ = std::io::stdout().flush();
    Ok(code)
}

/// What `Deno.exit` does before it ends the process.
fn before_exit(runtime: &JsRuntime, sandboxes: &Sandboxes) {
    let sandboxes = sandboxes.clone();
    let mut callbacks = deno_os::OpExitCallbacks::default();
    callbacks.push(Box::new(move || {
        sandboxes.shutdown();
        restore_terminal();
        // When standard output is closed, there is nowhere to report that.
        let _ = std::io::stdout().flush();
    }));
    runtime.op_state().borrow_mut().put(callbacks);
}

/// The script's URL, once it is sure that there is something to read, and what loads it. A script that is no
/// file is read here, and counts as one of the working directory.
fn main_module(options: &HostOptions) -> Result<(ModuleSpecifier, Loader), HostError> {
    let script = options.script.clone();
    let unreadable = |reason: String| HostError::Unreadable {
        script: script.clone(),
        reason,
    };
    if let Some(stream) = open_stream(&script) {
        let source = stream
            .and_then(read_source)
            .map_err(|error| unreadable(error.to_string()))?;
        let url = script_url(Path::new(STREAM_NAME)).map_err(unreadable)?;
        return Ok((url.clone(), Loader::with_module(url, source)));
    }
    let absolute: PathBuf =
        std::path::absolute(&script).map_err(|error| unreadable(error.to_string()))?;
    match std::fs::File::open(&absolute).and_then(|file| file.metadata()) {
        Ok(found) if found.is_dir() => return Err(unreadable("it is a directory".to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(HostError::NoScript { script, absolute });
        }
        Err(error) => return Err(unreadable(error.to_string())),
    }
    let url = script_url(&absolute).map_err(unreadable)?;
    Ok((url, Loader::default()))
}

/// The URL of a path.
fn script_url(path: &Path) -> Result<ModuleSpecifier, String> {
    let absolute = std::path::absolute(path).map_err(|error| error.to_string())?;
    Url::from_file_path(&absolute)
        .map_err(|()| format!("'{}' is not a file: URL", absolute.display()))
}

struct Run<'a> {
    runtime: &'a mut JsRuntime,
    interrupt: &'a Interrupt,
    sandboxes: &'a Sandboxes,
    pump: Pump,
    heap: Heap,
    inspected: Option<Inspected>,
}

impl Run<'_> {
    async fn script(&mut self, main: &ModuleSpecifier) -> Result<(), Stop> {
        let module = self.runtime.load_main_es_module(main).await?;
        if self.inspected.as_ref().is_some_and(Inspected::waits) {
            self.interrupt.at_once(|| Inspected::wait(self.runtime));
        }
        let evaluation = self.runtime.mod_evaluate(module);
        self.evaluate(evaluation).await?;
        self.dispatch(&LifeEvent::Load)?;
        loop {
            std::future::poll_fn(|cx| self.poll(cx)).await?;
            // A handler of `beforeunload` may ask for more time, and must then bring work with it.
            if self.dispatch(&LifeEvent::BeforeUnload)? {
                break;
            }
        }
        self.dispatch(&LifeEvent::Unload)?;
        Ok(())
    }

    /// Runs the main module to its end, top-level `await` included.
    async fn evaluate(
        &mut self,
        evaluation: impl Future<Output = Result<(), CoreError>>,
    ) -> Result<(), Stop> {
        let mut evaluation = pin!(evaluation);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(result) = evaluation.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(Stop::from));
            }
            match self.poll(cx) {
                // The loop has nothing left to do, so the module must have come to its end.
                Poll::Ready(Ok(())) => evaluation.as_mut().poll(cx).map_err(Stop::from),
                Poll::Ready(Err(stop)) => Poll::Ready(Err(stop)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// One turn of the loop: signals first, then isolates, then the script. Ready when nothing is left
    /// to do.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        if let Some(code) = self.interrupt.poll(cx.waker()) {
            return Poll::Ready(Err(Stop::Interrupted(code)));
        }
        self.heap.relieve(self.runtime, self.sandboxes, cx);
        self.pump.turn(self.runtime, self.sandboxes, cx);
        self.sandboxes.watch_grants(cx);
        self.sandboxes
            .update_hold(&self.runtime.op_state().borrow().external_ops_tracker);
        let options = PollEventLoopOptions {
            wait_for_inspector: self.inspected.is_some(),
        };
        let polled = self.runtime.poll_event_loop(cx, options);
        let over = polled.is_ready();
        self.pump.settle(self.runtime, self.sandboxes, cx, over);
        match polled {
            // An event of an isolate came meanwhile: what awaits it does not wait in vain.
            Poll::Ready(Ok(())) if self.sandboxes.have_work() => Poll::Pending,
            Poll::Ready(Err(error))
                if self.sandboxes.have_work() && report::is_unsettled_await(&error) =>
            {
                Poll::Pending
            }
            polled => polled.map_err(Stop::from),
        }
    }

    fn dispatch(&mut self, event: &LifeEvent) -> Result<bool, Stop> {
        realm::dispatch(self.runtime, event).map_err(|error| Stop::Threw(error.into()))
    }
}
