//! What a host receives of an isolate.

use stockade_protocol::bounds::MESSAGE_OVERHEAD;
use stockade_protocol::{ConsoleLevel, GuestError, Payload, RequestId};

use crate::end::{DestroyReason, ResourceUsage, TerminateReason};

/// One thing that happened, in order. Data and texts come from the guest.
#[derive(Debug)]
pub enum Event {
    /// `NETWORK.send`.
    Message {
        /// The event's name.
        name: String,
        /// Its data.
        data: Payload,
    },
    /// `NETWORK.request`; wants one [`IsolateHandle::answer`](crate::IsolateHandle::answer).
    Request {
        /// For the answer.
        id: RequestId,
        /// The method's name.
        method: String,
        /// Its data.
        data: Payload,
    },
    /// From the runtime inside the isolate (streams, sockets).
    Control {
        /// What it is about.
        name: String,
        /// Its data.
        data: Payload,
    },
    /// A line of the guest's console, harmless to a terminal.
    Console {
        /// How serious.
        level: ConsoleLevel,
        /// The line or lines. With [`ConsoleMode::Whole`](stockade_limits::ConsoleMode::Whole) a piece of
        /// them, which ends with a newline where it is the last.
        text: String,
    },
    /// An exception or rejection the guest did not catch. Only the runtime makes this event.
    Uncaught(GuestError),
    /// The runtime ended the isolate. Only the runtime makes this event.
    Terminated {
        /// Why.
        reason: TerminateReason,
        /// With what used.
        usage: ResourceUsage,
        /// More, for a person.
        detail: String,
    },
    /// The isolate is gone. Always the last event. Only the runtime makes it.
    Destroyed(DestroyReason),
}

impl Event {
    /// Says how many lines of the console were not kept.
    pub(crate) fn dropped_lines(count: u64) -> Self {
        Self::Console {
            level: ConsoleLevel::Warn,
            text: format!("… {count} lines of console output were dropped (rate limit)"),
        }
    }

    /// What the event costs against the queue's bounds, in bytes.
    pub(crate) fn size(&self) -> usize {
        let data = match self {
            Self::Message { name, data }
            | Self::Request {
                method: name, data, ..
            }
            | Self::Control { name, data } => name.len().saturating_add(data.kept_size()),
            Self::Console { text, .. } => text.len(),
            Self::Uncaught(error) => error.size(),
            Self::Terminated { .. } | Self::Destroyed(_) => 0,
        };
        data.saturating_add(MESSAGE_OVERHEAD)
    }
}
