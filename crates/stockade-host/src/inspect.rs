//! `--inspect`: the host isolate in Chrome's DevTools.
//!
//! The server is one for the process. Isolates that run in this process find it by
//! `deno_inspector_server::get_inspector_server` and register themselves, each under a URL of its own.

use std::net::SocketAddr;

use deno_core::JsRuntime;
use deno_inspector_server::{InspectPublishUid, create_inspector_server};

use crate::error::HostError;

/// How the run can be debugged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InspectOptions {
    /// Where the debugger's server listens; port 9229 is where tools look.
    pub address: SocketAddr,
    /// When the script starts.
    pub start: InspectStart,
}

/// When a script that can be debugged starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InspectStart {
    /// At once.
    #[default]
    AtOnce,
    /// When a debugger is there.
    Attached,
    /// When a debugger is there, with a pause before the first statement.
    Paused,
}

/// Registers the host isolate under the name of its script.
pub(crate) fn register(
    runtime: &JsRuntime,
    script: &str,
    options: InspectOptions,
) -> Result<(), HostError> {
    let server = create_inspector_server(options.address, "stockade", InspectPublishUid::default())
        .map_err(|error| HostError::Inspect {
            address: options.address,
            reason: std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), ToString::to_string),
        })?;
    let waits = options.start != InspectStart::AtOnce;
    server.register_inspector(script.to_owned(), runtime.inspector(), waits);
    Ok(())
}

/// Waits for a debugger where the options say so. Blocks the thread: nothing else runs yet.
pub(crate) fn wait(runtime: &JsRuntime, options: InspectOptions) {
    match options.start {
        InspectStart::AtOnce => {}
        InspectStart::Attached => runtime.inspector().wait_for_session(),
        InspectStart::Paused => runtime
            .inspector()
            .wait_for_session_and_break_on_next_statement(),
    }
}
