//! What a client still sends of a request's body that nobody reads.
//!
//! On HTTP/2 a body that is dropped resets the stream as soon as the response is complete. Clients that are still sending
//! may take the reset before they read the response, and report it in place of the response. So the rest of a body is
//! read for a moment after the response, as on HTTP/1 the rest of a connection is (RFC 9112, section 9.6).

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// What is read at most of a body or a connection that nobody wants.
pub(crate) const LINGER_BYTES: u64 = 4 << 20;
/// How long that is read at most.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// The unread rest of a request's body, until the response is complete.
#[derive(Debug, Default)]
pub(crate) struct UnreadBody(Mutex<Rest>);

#[derive(Debug, Default)]
enum Rest {
    /// Nobody has left a body unread.
    #[default]
    None,
    Waits(Incoming),
    /// The response is complete, or there will be none.
    Answered,
}

impl UnreadBody {
    /// Takes a body that nobody reads any more.
    pub(crate) fn leave(&self, body: Incoming) {
        let mut rest = self.0.lock();
        if let Rest::Answered = *rest {
            drop(rest);
            discard(body);
        } else {
            *rest = Rest::Waits(body);
        }
    }

    /// Notes that the response is complete.
    pub(crate) fn answered(&self) {
        let rest = std::mem::replace(&mut *self.0.lock(), Rest::Answered);
        if let Rest::Waits(body) = rest {
            discard(body);
        }
    }
}

/// Reads a body to its end, or as far as the bounds allow.
fn discard(mut body: Incoming) {
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    runtime.spawn(timeout(LINGER, async move {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, |data| data.len() as u64);
            if read > LINGER_BYTES {
                return;
            }
        }
    }));
}
