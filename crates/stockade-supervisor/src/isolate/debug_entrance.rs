//! The way of a debugger into an isolate of a worker.

use stockade_protocol::ProbeId;

/// Lets debuggers into one isolate. Called on the thread that reads for it, which is another one while a debugger holds
/// the isolate: none of it may wait.
pub trait DebugEntrance: Send + Sync {
    /// A session begins.
    fn open(&self, id: ProbeId);

    /// A message of that session's debugger.
    fn message(&self, id: ProbeId, text: String);

    /// The session is over: an isolate that it holds goes on.
    fn close(&self, id: ProbeId);
}
