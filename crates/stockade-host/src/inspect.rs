//! `--inspect`: the host isolate in Chrome's DevTools.

use std::sync::Arc;

use deno_core::JsRuntime;
use deno_core::futures::{StreamExt as _, stream};
use stockade_inspector::{Debuggable, Debuggers, Inspector, Listed, Session, Target};
use stockade_limits::Isolation;
use stockade_supervisor::IsolateHandle;

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

/// Lists an isolate of a worker until it ends. Those on threads list themselves.
pub(crate) fn list_worker(inspector: &Inspector, isolate: &IsolateHandle) {
    if isolate.options().isolation == Isolation::Thread {
        return;
    }
    let id = isolate.id();
    let title = match &isolate.options().name {
        Some(name) => format!("isolate #{id} {name}"),
        None => format!("isolate #{id}"),
    };
    let target = Target {
        title,
        url: format!("stockade:isolate/{id}"),
    };
    let listed = inspector.list(target, Arc::new(InWorker(isolate.clone())));
    let isolate = isolate.clone();
    tokio::spawn(async move {
        isolate.until_end().await;
        drop(listed);
    });
}

/// An isolate in another process.
struct InWorker(IsolateHandle);

impl Debuggable for InWorker {
    fn is_gone(&self) -> bool {
        self.0.end().is_some()
    }

    fn connect(&self) -> Option<Session> {
        let session = Arc::new(self.0.debug().ok()?);
        let sending = Arc::clone(&session);
        let from_isolate = stream::unfold(session, async |session| {
            let next = session.next().await?;
            Some((next.map_err(Into::into), session))
        });
        let (session, mut from_socket) = Session::with(from_isolate.boxed());
        // Ends with the debugger, and the session with both.
        tokio::spawn(async move {
            while let Some(Ok(text)) = from_socket.next().await {
                sending.send(text);
            }
        });
        Some(session)
    }
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
