//! The realm's way out: what the ops need of the code that runs the isolate.

use serde::Serialize;
use serde_json::{Map, Value};
use stockade_protocol::FromIsolate;

/// Carries what a guest says to its host.
pub trait GuestPort {
    /// Sends a message; waits while the host's queue is full.
    ///
    /// # Errors
    /// A sentence for the guest.
    fn send(&self, message: FromIsolate) -> Result<(), String>;

    /// Sends a control message of the runtime itself with one binary part, as [`GuestPort::send`].
    ///
    /// # Errors
    /// A sentence for the guest.
    fn send_part(&self, name: &str, json: String, part: &[u8]) -> Result<(), String>;

    /// The guest now has a handler for events of this name: those kept for it may come.
    fn listen(&self, event: &str);

    /// The guest may hold much of its host's by objects that it has dropped: collecting them gives that back.
    /// `now`: so much that it is worth any time.
    fn collect(&self, now: bool);

    /// Whether a debugger is there that gets a call of the console. Ask once for each call that it gets.
    fn shows_debugger(&self) -> bool;
}

/// The settings of the realm, passed when it starts.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// `NETWORK.env`.
    pub env: Map<String, Value>,
    /// Whether console lines go to the host.
    pub console: bool,
    /// Whether all of them go there, in pieces: nothing is cut.
    pub console_whole: bool,
    /// Whether debuggers are let in, which get what the console gets.
    pub inspect: bool,
    /// Milliseconds a guest's request waits; 0 is for ever.
    pub request_timeout_ms: u64,
    /// How coarse clocks are, in microseconds.
    pub timer_precision_us: u64,
    /// Whether `SharedArrayBuffer` exists.
    pub shared_array_buffer: bool,
}
