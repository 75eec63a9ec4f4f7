//! What a run needs to know.

use std::path::PathBuf;
use std::sync::Arc;

use stockade_limits::{Isolation, SandboxOptions};
use stockade_supervisor::IsolationBackend;

use crate::inspect::InspectOptions;

/// What to run, and with what.
#[derive(Clone)]
pub struct HostOptions {
    /// The script, relative to the working directory or absolute; `-` for standard input, which is read to
    /// its end, as a pipe is.
    pub script: PathBuf,
    /// `Deno.args`.
    pub args: Vec<String>,
    /// What `new V8Sandbox()` takes where the script says nothing.
    pub sandbox: SandboxOptions,
    /// The ways of running isolates that exist in this program.
    pub backends: Vec<(Isolation, Arc<dyn IsolationBackend>)>,
    /// Whether and how the run can be debugged.
    pub inspect: Option<InspectOptions>,
}
