//! Messages between a host and an isolate, and the bounds they keep.
//!
//! Invariants:
//! 1. Data is JSON text; no object is ever shared. Bytes travel separately from the text.
//! 2. The receiver of a message from an isolate treats each field as hostile: the JSON is parsed by a
//!    parser, names and texts have the lengths of [`bounds`] at most.
//!
//! [`frame`] turns messages into bytes and back, for isolates in processes of their own.
//!
//! Deliberately absent: queues, sockets, V8.

pub mod bounds;
mod debug;
pub mod frame;
mod message;
mod payload;
mod probe;
mod text;
mod weight;

pub use debug::{UnansweredCommands, debug_message_size};
pub use message::{
    CallId, ConsoleLevel, FromIsolate, GuestError, Position, Related, RequestId, ToIsolate,
    is_source_of_guest,
};
#[doc(hidden)]
pub use payload::marks_hold;
pub use payload::{
    Attachment, MarkedString, MarksError, Payload, PayloadError, escape_text, push_displayed,
    push_string, push_text,
};
pub use probe::{
    FIRST_PROBE, Finding, HeapSpace, HeapStatistics, Probe, ProbeId, ProbeOrder, refused_in_worker,
};
pub use text::{harmless, harmless_line, harmless_piece};
pub use weight::Weight;
