//! Streams of the guest that the host reads.
//!
//! The reader asks for chunks, the guest sends as many and no more. How many are asked for at once depends
//! on how large they are, so that one stream holds little whatever its chunks are.

use std::collections::HashMap;
use std::collections::hash_map;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Frame;
use parking_lot::Mutex;
use stockade_http::BoxError;
use stockade_protocol::Payload;
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::Mirror;
use crate::wire::{Fields, GuestBody, Malformed};

/// Streams of one guest at once. Its runtime has the same bound, so that no guest's code gets beyond it.
const MOST_STREAMS: usize = 1024;

/// Chunks asked for ahead, at most.
const WINDOW: u32 = 8;

/// Bytes that one stream is to hold ahead of its reader.
const AHEAD: usize = 512 << 10;

#[derive(Default)]
pub(super) struct Incoming {
    /// `None` once the mirror has ended.
    table: Mutex<IncomingStreams>,
}

#[derive(Default)]
struct IncomingStreams {
    entries: HashMap<u64, IncomingStream>,
    closed: bool,
}

struct IncomingStream {
    pieces: mpsc::UnboundedSender<Piece>,
    /// Chunks that were asked for and have not come.
    owed: Arc<AtomicU32>,
}

enum Piece {
    Chunk(Bytes),
    End,
    Failed(String),
}

impl Incoming {
    pub(super) fn close(&self) {
        let mut table = self.table.lock();
        table.closed = true;
        table.entries.clear();
    }
}

impl Mirror {
    /// Reads the guest's stream of this id.
    ///
    /// # Errors
    /// When it is being read already, or there are more streams than may be.
    pub(crate) fn take_stream(self: &Arc<Self>, id: u64) -> Result<GuestStream, Malformed> {
        let (pieces, receiver) = mpsc::unbounded_channel();
        let owed = Arc::new(AtomicU32::new(0));
        let mut table = self.incoming.table.lock();
        if table.entries.len() >= MOST_STREAMS {
            return Err(Malformed(format!(
                "it has more than {MOST_STREAMS} streams open"
            )));
        }
        if !table.closed {
            match table.entries.entry(id) {
                hash_map::Entry::Occupied(_) => {
                    return Err(Malformed(format!("stream {id} is handed out twice")));
                }
                hash_map::Entry::Vacant(place) => {
                    place.insert(IncomingStream {
                        pieces,
                        owed: Arc::clone(&owed),
                    });
                }
            }
        }
        drop(table);
        Ok(GuestStream {
            mirror: Arc::clone(self),
            id,
            pieces: receiver,
            owed,
            largest: 0,
            done: false,
            stall: None,
            waits_since: None,
        })
    }

    /// Whether the host reads the guest's stream of this id.
    pub(crate) fn reads_stream(&self, id: u64) -> bool {
        self.incoming.table.lock().entries.contains_key(&id)
    }

    /// Takes `stream.chunk`. A chunk of a stream that is read no more is dropped.
    pub(super) fn stream_chunk(&self, message: Fields) -> Result<(), Malformed> {
        let GuestBody::Whole(chunk) = message.data else {
            return Err(Malformed("a chunk is neither text nor bytes".to_owned()));
        };
        let mut table = self.incoming.table.lock();
        let Some(entry) = table.entries.get(&message.id) else {
            return Ok(());
        };
        let owed = entry.owed.load(Ordering::SeqCst);
        if owed == 0 {
            return Err(Malformed("a chunk came that was not requested".to_owned()));
        }
        entry.owed.fetch_sub(1, Ordering::SeqCst);
        let bytes = chunk.len();
        if self.buffer(bytes) {
            if entry.pieces.send(Piece::Chunk(chunk)).is_err() {
                self.unbuffer(bytes);
            }
            return Ok(());
        }
        self.unbuffer(bytes);
        let most = self.limits().buffered;
        let _ = entry.pieces.send(Piece::Failed(format!(
            "more than {most} bytes wait to be sent"
        )));
        table.entries.remove(&message.id);
        drop(table);
        self.cancel_stream(message.id, "more waits to be sent than may");
        self.complain("a stream was cut, for too much of the guest's waits to be sent");
        Ok(())
    }

    /// Takes `stream.end` or `stream.error`.
    pub(super) fn stream_over(&self, message: Fields, failed: bool) {
        let entry = self.incoming.table.lock().entries.remove(&message.id);
        if let Some(entry) = entry {
            let _ = entry.pieces.send(if failed {
                Piece::Failed(message.message.unwrap_or_default())
            } else {
                Piece::End
            });
        }
    }

    fn cancel_stream(&self, id: u64, reason: &str) {
        self.notify(
            "stream.cancel",
            Payload::from_json(format!("{{\"id\":{id},\"reason\":\"{reason}\"}}")),
        );
    }
}

/// A stream of the guest, as a body. Dropping it cancels the stream.
pub(crate) struct GuestStream {
    mirror: Arc<Mirror>,
    id: u64,
    pieces: mpsc::UnboundedReceiver<Piece>,
    owed: Arc<AtomicU32>,
    /// Bytes of the largest chunk so far.
    largest: usize,
    done: bool,
    stall: Option<Pin<Box<Sleep>>>,
    waits_since: Option<Instant>,
}

impl GuestStream {
    /// Asks for more where few are owed.
    fn ask(&mut self) {
        let window = match self.largest {
            // The sizes are not known yet: one chunk shows them.
            0 => 1,
            largest => u32::try_from(AHEAD / largest)
                .unwrap_or(WINDOW)
                .clamp(1, WINDOW),
        };
        let waiting = u32::try_from(self.pieces.len()).unwrap_or(u32::MAX);
        let ahead = self.owed.load(Ordering::SeqCst).saturating_add(waiting);
        // In halves of the window: a message for each chunk is not needed.
        if ahead > window / 2 || ahead >= window {
            return;
        }
        let more = window - ahead;
        self.owed.fetch_add(more, Ordering::SeqCst);
        let id = self.id;
        self.mirror.notify(
            "stream.pull",
            Payload::from_json(format!("{{\"id\":{id},\"n\":{more}}}")),
        );
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.mirror.limits().stall;
        let since = *self.waits_since.get_or_insert_with(Instant::now);
        let stall = self
            .stall
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        loop {
            std::task::ready!(stall.as_mut().poll(cx));
            let left = limit.saturating_sub(since.elapsed());
            if left <= Duration::from_millis(1) {
                return Poll::Ready(());
            }
            stall.as_mut().reset(tokio::time::Instant::now() + left);
        }
    }

    fn fail(&mut self, why: String) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.finish(&why);
        Poll::Ready(Some(Err(why.into())))
    }

    /// Forgets the stream; has the guest cancel it unless it is over.
    fn finish(&mut self, reason: &str) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        let open = self.mirror.incoming.table.lock().entries.remove(&self.id);
        // From here on nothing more comes in.
        self.pieces.close();
        while let Ok(piece) = self.pieces.try_recv() {
            if let Piece::Chunk(chunk) = piece {
                self.mirror.unbuffer(chunk.len());
            }
        }
        if open.is_some() {
            self.mirror.cancel_stream(self.id, reason);
        }
    }
}

impl Drop for GuestStream {
    fn drop(&mut self) {
        self.finish("the reader went away");
    }
}

impl http_body::Body for GuestStream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.done {
            return Poll::Ready(None);
        }
        this.ask();
        match this.pieces.poll_recv(cx) {
            Poll::Ready(Some(Piece::Chunk(chunk))) => {
                this.waits_since = None;
                this.mirror.unbuffer(chunk.len());
                this.largest = this.largest.max(chunk.len()).max(1);
                this.ask();
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Poll::Ready(Some(Piece::End)) => {
                this.done = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Piece::Failed(why))) => {
                this.fail(format!("the guest's stream failed: {why}"))
            }
            Poll::Ready(None) => {
                this.fail("the guest ended in the middle of its stream".to_owned())
            }
            Poll::Pending => match this.poll_stall(cx) {
                Poll::Ready(()) => {
                    this.fail("the guest's stream sent nothing for too long".to_owned())
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }
}
