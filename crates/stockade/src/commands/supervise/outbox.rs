//! Messages on their way to a client.

use std::sync::Arc;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::shares::{Part, Peer, Share};

/// Messages that wait for a client to read, and their bytes.
const MAX_WAITING_MESSAGES: usize = 256;
const MAX_WAITING_BYTES: u32 = 32 << 20;

/// A message's place among the bytes that wait for this client, and for all.
type Place = (OwnedSemaphorePermit, Option<Part>);

/// A line, and its place.
type Line = (String, Place);

/// Takes messages; where there is no room, the sender waits. Cheap to clone.
#[derive(Clone)]
pub(super) struct Outbox {
    lines: mpsc::Sender<Line>,
    bytes: Arc<Semaphore>,
    share: Arc<Share>,
    peer: Peer,
}

/// The connection is gone.
pub(super) struct Gone;

impl Outbox {
    pub(super) fn new(share: Arc<Share>, peer: Peer) -> (Self, mpsc::Receiver<Line>) {
        let (lines, waiting) = mpsc::channel(MAX_WAITING_MESSAGES);
        let bytes = Arc::new(Semaphore::new(MAX_WAITING_BYTES as usize));
        let outbox = Self {
            lines,
            bytes,
            share,
            peer,
        };
        (outbox, waiting)
    }

    /// Sends one line, which contains no line break.
    pub(super) async fn send(&self, mut line: String) -> Result<(), Gone> {
        line.push('\n');
        // One that is larger than all of the room waits until it is alone.
        let size =
            u32::try_from(line.len()).map_or(MAX_WAITING_BYTES, |size| size.min(MAX_WAITING_BYTES));
        let own = |size| Arc::clone(&self.bytes).acquire_many_owned(size);
        let mut place = (own(size).await.map_err(|_| Gone)?, None);
        match self.share.take(self.peer, line.len()) {
            Ok(part) => place.1 = Some(part),
            // Others that do not read have all bytes: one line of this client at a time waits nevertheless.
            Err(_) => {
                drop(place);
                place = (own(MAX_WAITING_BYTES).await.map_err(|_| Gone)?, None);
            }
        }
        self.lines.send((line, place)).await.map_err(|_| Gone)
    }
}

/// Writes messages until all senders are gone, or the client is.
pub(super) async fn write(mut waiting: mpsc::Receiver<Line>, mut to: impl AsyncWrite + Unpin) {
    while let Some((line, place)) = waiting.recv().await {
        let mut written = to.write_all(line.as_bytes()).await;
        if written.is_ok() && waiting.is_empty() {
            written = to.flush().await;
        }
        drop(place);
        if let Err(error) = written {
            tracing::debug!("a client is gone: {error}");
            return;
        }
    }
}
