//! Streams of the host that the guest reads: a task for each, which reads a body as the guest asks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited, StreamBody};
use parking_lot::Mutex;
use stockade_protocol::Payload;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::{Mirror, unbroken};
use crate::error::FetchError;
use crate::http::{Body, BoxError};
use crate::wire::{Fields, bytes_message, push_text};

/// Bytes of one chunk.
const CHUNK: usize = 64 << 10;

/// Chunks that the guest may ask for ahead; more are not remembered.
const MOST_CREDIT: u32 = 64;

#[derive(Default)]
pub(super) struct Outgoing {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    entries: HashMap<u64, Entry>,
    next: u64,
    closed: bool,
}

struct Entry {
    credit: Arc<Credit>,
    task: AbortHandle,
    /// The body, until the guest asks for the first chunk.
    unread: Arc<Mutex<Option<Body>>>,
    limit: Option<u64>,
}

/// Chunks that the guest has asked for.
#[derive(Default)]
struct Credit {
    left: AtomicU32,
    more: Notify,
}

impl Credit {
    fn add(&self, n: u64) {
        let n = u32::try_from(n).unwrap_or(MOST_CREDIT).min(MOST_CREDIT);
        let _ = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                Some(left.saturating_add(n).min(MOST_CREDIT))
            });
        self.more.notify_one();
    }

    async fn take(&self) {
        loop {
            let took = self
                .left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                });
            if took.is_ok() {
                return;
            }
            self.more.notified().await;
        }
    }
}

impl Outgoing {
    pub(super) fn close(&self) {
        let mut table = self.table.lock();
        table.closed = true;
        for (_, entry) in table.entries.drain() {
            entry.task.abort();
        }
    }
}

/// Ends a stream of the host when it is dropped: what it belongs to is over.
pub(crate) struct OwnedStream {
    mirror: Arc<Mirror>,
    id: u64,
}

impl Drop for OwnedStream {
    fn drop(&mut self) {
        let entry = self.mirror.outgoing.table.lock().entries.remove(&self.id);
        if let Some(entry) = entry {
            entry.task.abort();
            self.mirror
                .stream_failed(self.id, "the request that it belongs to is over");
        }
    }
}

impl Mirror {
    /// Has the guest read `body`; gives the stream's id. `of` names the request whose body it is.
    ///
    /// # Errors
    /// When there are more streams than may be; says so.
    pub(crate) fn open_stream(
        self: &Arc<Self>,
        body: Body,
        of: Option<u64>,
        limit: Option<u64>,
    ) -> Result<u64, String> {
        let most = self.limits().streams;
        let mut table = self.outgoing.table.lock();
        if table.entries.len() >= most {
            return Err(format!("at most {most} streams may be open at once"));
        }
        let id = table.next;
        table.next += 1;
        if table.closed {
            return Ok(id);
        }
        let credit = Arc::new(Credit::default());
        let unread = Arc::new(Mutex::new(Some(body)));
        let pump = Pump {
            mirror: Arc::clone(self),
            id,
            of,
            limit,
            credit: Arc::clone(&credit),
        };
        // The task cannot end before its entry is there: it needs this lock for that.
        let task = tokio::spawn(pump.run(Arc::clone(&unread))).abort_handle();
        let entry = Entry {
            credit,
            task,
            unread,
            limit,
        };
        table.entries.insert(id, entry);
        Ok(id)
    }

    /// Ends stream `id` when the result is dropped.
    pub(crate) fn own_stream(self: &Arc<Self>, id: u64) -> OwnedStream {
        OwnedStream {
            mirror: Arc::clone(self),
            id,
        }
    }

    /// Takes back a stream that the guest has not read: it goes on without the guest. One that has ended
    /// meanwhile, or was read after all, is a body that fails.
    pub(super) fn take_back(&self, id: u64) -> Body {
        let entry = self.outgoing.table.lock().entries.remove(&id);
        let unread = entry.and_then(|entry| {
            entry.task.abort();
            let body = entry.unread.lock().take()?;
            Some((body, entry.limit))
        });
        match unread {
            Some((body, Some(limit))) => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                Limited::new(body, limit).boxed_unsync()
            }
            Some((body, None)) => body,
            None => {
                let gone: BoxError = "the body that the guest passed on is over".into();
                let frames = futures_util::stream::once(std::future::ready(Err(gone)));
                StreamBody::new(frames).boxed_unsync()
            }
        }
    }

    /// Takes `stream.pull`. One that comes after the end is late, not wrong.
    pub(super) fn stream_pull(&self, message: &Fields) {
        if let Some(entry) = self.outgoing.table.lock().entries.get(&message.id) {
            entry.credit.add(message.n.unwrap_or(1));
        }
    }

    /// Takes `stream.cancel`.
    pub(super) fn stream_cancelled(&self, message: &Fields) {
        let entry = self.outgoing.table.lock().entries.remove(&message.id);
        if let Some(entry) = entry {
            entry.task.abort();
        }
    }

    fn stream_failed(&self, id: u64, why: &str) {
        let mut json = format!("{{\"id\":{id},\"message\":");
        push_text(&mut json, why, false);
        json.push('}');
        self.tell("stream.error", Payload::from_json(json));
    }
}

/// Reads one body for the guest.
struct Pump {
    mirror: Arc<Mirror>,
    id: u64,
    of: Option<u64>,
    limit: Option<u64>,
    credit: Arc<Credit>,
}

/// Why a body was not read to its end.
enum Broken {
    Failed(String),
    TooLarge(u64),
}

impl Pump {
    async fn run(self, unread: Arc<Mutex<Option<Body>>>) {
        let result = unbroken(self.carry(unread))
            .await
            .unwrap_or_else(|| Err(Broken::Failed("the host failed to read it".to_owned())));
        let here = self.mirror.outgoing.table.lock().entries.remove(&self.id);
        if here.is_none() {
            return;
        }
        match result {
            Ok(()) => {
                let id = self.id;
                self.mirror
                    .tell("stream.end", Payload::from_json(format!("{{\"id\":{id}}}")));
            }
            Err(Broken::Failed(why)) => self.mirror.stream_failed(self.id, &why),
            Err(Broken::TooLarge(limit)) => {
                self.mirror
                    .stream_failed(self.id, &format!("the body is larger than {limit} bytes"));
                if let Some(request) = self.of {
                    self.mirror
                        .give_up(request, FetchError::RequestTooLarge { limit });
                }
            }
        }
    }

    async fn carry(&self, unread: Arc<Mutex<Option<Body>>>) -> Result<(), Broken> {
        let stall = self.mirror.limits().stall;
        let mut total = 0_u64;
        let mut begun = None;
        loop {
            // Nothing is read before the guest wants it: that is what holds back the sender.
            if tokio::time::timeout(stall, self.credit.take())
                .await
                .is_err()
            {
                return Err(Broken::Failed(
                    "the stream was closed, for nobody read it for too long".to_owned(),
                ));
            }
            if begun.is_none() {
                begun = unread.lock().take();
            }
            let Some(body) = &mut begun else {
                return Ok(());
            };
            let mut data = match tokio::time::timeout(stall, next_data(body)).await {
                Ok(Some(Ok(data))) => data,
                Ok(None) => return Ok(()),
                Ok(Some(Err(why))) => return Err(Broken::Failed(why)),
                Err(_) => {
                    return Err(Broken::Failed(
                        "the sender gave nothing for too long".to_owned(),
                    ));
                }
            };
            total = total.saturating_add(data.len() as u64);
            if let Some(limit) = self.limit
                && total > limit
            {
                return Err(Broken::TooLarge(limit));
            }
            loop {
                self.mirror.room_to_tell().await;
                let chunk = data.split_to(data.len().min(CHUNK));
                let message = bytes_message(self.id, "chunk", chunk.into());
                if self.mirror.handle.control("stream.chunk", message).is_err() {
                    return Err(Broken::Failed(
                        "the guest does not take its messages".to_owned(),
                    ));
                }
                if data.is_empty() {
                    break;
                }
                if tokio::time::timeout(stall, self.credit.take())
                    .await
                    .is_err()
                {
                    return Err(Broken::Failed(
                        "the stream was closed, for nobody read it for too long".to_owned(),
                    ));
                }
            }
        }
    }
}

/// The next bytes; trailers are not for guests.
async fn next_data(body: &mut Body) -> Option<Result<Bytes, String>> {
    loop {
        match body.frame().await? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(error.to_string())),
        }
    }
}
