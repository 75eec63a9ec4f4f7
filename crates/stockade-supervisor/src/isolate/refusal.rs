//! Why a guest's message is not taken.

use stockade_protocol::RequestId;
use stockade_protocol::bounds::MAX_OPEN_REQUEST_BYTES;

/// Why a message of a guest was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GuestSendError {
    /// The isolate is ending: nothing more is taken from it.
    #[error("the isolate has ended")]
    Ended,
    /// The guest has as many requests open as `maxPendingRequests` allows.
    #[error("too many requests wait for an answer (limit {limit})")]
    TooManyRequests {
        /// How many may be open.
        limit: usize,
    },
    /// The guest's open requests and this one hold too much together.
    #[error(
        "a request of {bytes} bytes does not fit: {open} bytes of requests wait for an answer, and at most {MAX_OPEN_REQUEST_BYTES} may"
    )]
    RequestsTooLarge {
        /// Bytes of the new request.
        bytes: usize,
        /// Bytes of the open requests.
        open: usize,
    },
    /// A request has the number of one that is open; no honest runtime does that.
    #[error("the request {id} is open already")]
    RequestTwice {
        /// Its number.
        id: RequestId,
    },
}
