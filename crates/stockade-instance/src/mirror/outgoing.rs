//! Streams of the host that the guest reads: a task for each, which reads a body as the guest asks.
//!
//! Of an answer that the guest asked for the first bytes are read before it asks for them: a small one then
//! is over, and what it held of others is free, whether the guest ever reads it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::Context;

use atomic_waker::AtomicWaker;
use http_body_util::{BodyExt, Limited, StreamBody};
use parking_lot::Mutex;
use stockade_http::{Body, BoxError};
use stockade_protocol::{Payload, push_string};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::ahead::Source;
use super::{Mirror, unbroken};
use crate::error::FetchError;
use crate::wire::{Fields, bytes_message};

/// Bytes of one chunk.
const CHUNK: usize = 64 << 10;

/// Chunks that the guest may ask for ahead; more are not remembered.
const MOST_CREDIT: u32 = 64;

/// Bytes that are read before the guest asks for any, give or take a piece of the sender's.
const AHEAD: usize = 64 << 10;

/// Streams of one mirror that may buffer ahead at the same time; further ones are read when the guest asks.
const MOST_AHEAD: usize = 256;

#[derive(Default)]
pub(super) struct Outgoing {
    table: Mutex<OutgoingStreams>,
    /// Streams that hold what was read ahead.
    ahead: AtomicUsize,
    /// Woken when the guest waits for one chunk or end less.
    fewer: AtomicWaker,
}

#[derive(Default)]
struct OutgoingStreams {
    entries: HashMap<u64, OutgoingStream>,
    /// Streams that are over, whose last message to the guest is not sent yet.
    ending: usize,
    next: u64,
    closed: bool,
}

struct OutgoingStream {
    credit: Arc<Credit>,
    task: AbortHandle,
    /// The body, until the guest asks for the first chunk.
    unread: Arc<Mutex<Option<Source>>>,
    limit: Option<u64>,
}

/// When a stream's body is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// As the guest asks.
    Asked,
    /// Its first bytes at once.
    Ahead,
}

/// Chunks that the guest has asked for and that were not sent to it.
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

    /// Whether the guest waits for a chunk.
    fn is_awaited(&self) -> bool {
        self.left.load(Ordering::SeqCst) > 0
    }

    /// Waits until the guest wants a chunk.
    async fn wanted(&self) {
        while !self.is_awaited() {
            self.more.notified().await;
        }
    }

    /// A chunk was sent: it is work of the guest now. Only the task that reads the body calls this.
    fn sent(&self) {
        self.left.fetch_sub(1, Ordering::SeqCst);
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

/// Streams, and targets that the guest is to hold, that no message has named to the guest: dropped, they end.
pub(crate) struct Unnamed {
    mirror: Arc<Mirror>,
    streams: Vec<u64>,
    targets: Vec<u64>,
}

impl Unnamed {
    /// A message has named them.
    pub(crate) fn named(mut self) {
        self.streams.clear();
        self.targets.clear();
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        for id in &self.streams {
            self.mirror.close_stream(*id);
        }
        if !self.targets.is_empty() {
            self.mirror.forget_targets(&self.targets);
        }
    }
}

impl Mirror {
    /// Wakes the task when the guest waits for one chunk or end less. One task at a time.
    pub(crate) fn watch_streams(&self, cx: &Context<'_>) {
        self.outgoing.fewer.register(cx.waker());
    }

    /// Whether the guest waits for a chunk of some stream, or for its end.
    pub(crate) fn has_awaited_streams(&self) -> bool {
        let table = self.outgoing.table.lock();
        let mut entries = table.entries.values();
        table.ending > 0 || entries.any(|entry| entry.credit.is_awaited())
    }

    /// The next stream that is opened for the guest has this number.
    pub(crate) fn number_streams_from(&self, first: u64) {
        self.outgoing.table.lock().next = first;
    }

    /// Has the guest read `body`; gives the stream's id. `of` names the request whose body it is.
    ///
    /// # Errors
    /// When there are more streams than may be; says so.
    pub(crate) fn open_stream(
        self: &Arc<Self>,
        body: Body,
        of: Option<u64>,
        limit: Option<u64>,
        reading: Reading,
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
        let unread = Arc::new(Mutex::new(Some(Source::new(body))));
        let pump = Pump {
            mirror: Arc::clone(self),
            id,
            of,
            limit,
            reading,
            credit: Arc::clone(&credit),
        };
        // The task cannot end before its entry is there: it needs this lock for that.
        let task = tokio::spawn(pump.run(Arc::clone(&unread))).abort_handle();
        let entry = OutgoingStream {
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

    /// Streams and targets of these ids, which no message has named yet.
    pub(super) fn unnamed(self: &Arc<Self>, streams: Vec<u64>, targets: Vec<u64>) -> Unnamed {
        Unnamed {
            mirror: Arc::clone(self),
            streams,
            targets,
        }
    }

    /// Takes back a stream that the guest has not read: it goes on without the guest. One that has ended
    /// meanwhile, or was read after all, is a body that fails.
    pub(super) fn take_back(&self, id: u64) -> Body {
        let entry = self.outgoing.table.lock().entries.remove(&id);
        let unread = entry.and_then(|entry| {
            entry.task.abort();
            let source = entry.unread.lock().take()?;
            Some((source.into_body(), entry.limit))
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
        self.close_stream(message.id);
    }

    fn close_stream(&self, id: u64) {
        let entry = self.outgoing.table.lock().entries.remove(&id);
        if let Some(entry) = entry {
            entry.task.abort();
        }
    }

    fn stream_failed(&self, id: u64, why: &str) {
        let mut json = format!("{{\"id\":{id},\"message\":");
        push_string(&mut json, why);
        json.push('}');
        self.notify("stream.error", Payload::from_json(json));
    }
}

/// Reads one body for the guest.
struct Pump {
    mirror: Arc<Mirror>,
    id: u64,
    of: Option<u64>,
    limit: Option<u64>,
    reading: Reading,
    credit: Arc<Credit>,
}

/// A stream's part of what may be read ahead.
struct Part<'a>(&'a AtomicUsize);

impl<'a> Part<'a> {
    fn take(count: &'a AtomicUsize) -> Option<Self> {
        let part = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < MOST_AHEAD).then_some(part)
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a body was not read to its end.
enum Broken {
    Failed(String),
    TooLarge(u64),
}

impl Pump {
    async fn run(self, unread: Arc<Mutex<Option<Source>>>) {
        let result = unbroken(self.carry(unread))
            .await
            .unwrap_or_else(|| Err(Broken::Failed("the host failed to read it".to_owned())));
        {
            let mut table = self.mirror.outgoing.table.lock();
            if table.entries.remove(&self.id).is_none() {
                return;
            }
            table.ending += 1;
        }
        match result {
            Ok(()) => {
                let id = self.id;
                self.mirror
                    .notify("stream.end", Payload::from_json(format!("{{\"id\":{id}}}")));
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
        self.mirror.outgoing.table.lock().ending -= 1;
        self.mirror.outgoing.fewer.wake();
    }

    /// Waits until the guest wants a chunk.
    async fn wanted(&self) -> Result<(), Broken> {
        let stall = self.mirror.limits().stall;
        tokio::time::timeout(stall, self.credit.wanted())
            .await
            .map_err(|_| {
                Broken::Failed(
                    "the stream was closed, since nobody read it for too long".to_owned(),
                )
            })
    }

    /// Waits until the guest wants the first chunk, and reads ahead meanwhile.
    async fn first_wanted(&self, unread: &Mutex<Option<Source>>) -> Result<(), Broken> {
        let mut wanted = std::pin::pin!(self.wanted());
        tokio::select! {
            biased;
            result = &mut wanted => return result,
            () = Source::read_ahead(unread, AHEAD) => {}
        }
        wanted.await
    }

    async fn carry(&self, unread: Arc<Mutex<Option<Source>>>) -> Result<(), Broken> {
        let stall = self.mirror.limits().stall;
        let part = match self.reading {
            Reading::Ahead => Part::take(&self.mirror.outgoing.ahead),
            Reading::Asked => None,
        };
        if part.is_some() {
            self.first_wanted(&unread).await?;
        } else {
            self.wanted().await?;
        }
        let Some(mut body) = unread.lock().take() else {
            return Ok(());
        };
        drop(part);
        let mut total = 0_u64;
        loop {
            // Nothing more is read before the guest wants it: that is what holds back the sender.
            let mut data = match tokio::time::timeout(stall, body.next()).await {
                Ok(Some(Ok(data))) => data,
                Ok(None) => return Ok(()),
                Ok(Some(Err(why))) => return Err(Broken::Failed(why)),
                Err(_) => {
                    return Err(Broken::Failed(
                        "the sender sent nothing for too long".to_owned(),
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
                self.mirror.room_for_messages().await;
                let chunk = data.split_to(data.len().min(CHUNK));
                let message = bytes_message(self.id, "chunk", chunk.into());
                if self.mirror.handle.control("stream.chunk", message).is_err() {
                    return Err(Broken::Failed(
                        "the guest does not take its messages".to_owned(),
                    ));
                }
                self.credit.sent();
                self.mirror.outgoing.fewer.wake();
                if data.is_empty() && body.is_over() {
                    return Ok(());
                }
                self.wanted().await?;
                if data.is_empty() {
                    break;
                }
            }
        }
    }
}
