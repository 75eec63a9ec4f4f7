//! The data of a call, on its way to a capability and back.

use std::fmt;

use stockade_http::Body;
use stockade_protocol::Payload;

/// Data with streams of bytes in it: the arguments of a call, or its value. The id of a stream's mark in the data
/// is its place in `streams`; [`Payload`] describes marks.
#[derive(Default)]
pub struct CallPayload {
    /// The data.
    pub payload: Payload,
    /// The data names each of them at most once.
    pub streams: Vec<Body>,
}

impl From<Payload> for CallPayload {
    fn from(payload: Payload) -> Self {
        Self {
            payload,
            streams: Vec::new(),
        }
    }
}

impl fmt::Debug for CallPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallPayload")
            .field("payload", &self.payload)
            .field("streams", &self.streams.len())
            .finish()
    }
}
