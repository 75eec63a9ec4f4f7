//! Connections of the guest: a task for each carries bytes in both directions.
//!
//! Control messages, `id` named by the host in its answer to `binding.open` or `socket.connect`, or in `connect.run`:
//!
//! | message | from | means |
//! |---|---|---|
//! | `pipe.data {id, chunk}` | both | bytes |
//! | `pipe.credit {id, n}` | both | the cost of what was taken: the other side may send as much more |
//! | `pipe.end {id}` | both | the sender has no more bytes; the other direction goes on |
//! | `pipe.tls {id, name}` | guest | TLS from here on; the guest sends nothing until `pipe.secured` |
//! | `pipe.secured {id}` | host | what follows came through TLS |
//! | `pipe.close {id}` | guest | what was sent before is written, then the connection is closed |
//! | `pipe.closed {id}`, `pipe.failed {id, name, message, code}` | host | nothing more follows, and the id means nothing |
//!
//! Invariants:
//! 1. A message costs its bytes and [`OVERHEAD`]. At most [`WINDOW`] of cost is on its way in each direction, so what
//!    waits for a side that does not read is bounded in bytes and in number.
//! 2. A guest that sends more than it may, after its end, while TLS is being started, or for a pipe that never was, is
//!    ended: besides bytes, at most an end, a start of TLS and a close wait. A start of TLS after the end is no offence,
//!    since a script can do both: it fails the connection.
//! 3. Bytes are read from a connection only when the guest has credit for them: the peer is held back, and none are
//!    lost when TLS starts.
//! 4. No message to the guest is lost while its mirror lives: where its queue is full the connection waits, or is closed
//!    and the guest learns of that once there is room.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use parking_lot::Mutex;
use stockade_capability::{DuplexStream, ErrorName, Opened, Pipe, StartTls};
use stockade_protocol::{GuestError, Payload, RequestId, push_string};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::{Buffered, Mirror, unbroken};
use crate::wire::{Fields, GuestBody, Malformed, bytes_message};

/// Cost that may be on its way in one direction. The guest's runtime has the same number.
const WINDOW: usize = 512 << 10;

/// What a message costs besides its bytes. The guest's runtime has the same number.
const OVERHEAD: usize = 256;

/// Cost that was taken before the sender gets credit for it.
const REPORT_AT: usize = WINDOW / 4;

/// Bytes of one message to the guest.
const CHUNK: usize = 64 << 10;

/// Bytes that are read at once from a connection of which little came last; otherwise twice what came.
const SMALL_CHUNK: usize = 4 << 10;

/// Bytes of the message of an error that a guest is given.
const MOST_MESSAGE: usize = 4 << 10;

/// How long what the guest sent before its close may take to be written.
const LINGER: Duration = Duration::from_secs(5);

type Stream = Box<dyn DuplexStream>;

#[derive(Default)]
pub(super) struct Pipes {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    entries: HashMap<u64, Entry>,
    /// Connections that are being opened.
    opening: usize,
    next: u64,
    closed: bool,
}

struct Entry {
    from_guest: mpsc::UnboundedSender<FromGuest>,
    flow: Arc<Flow>,
    /// The guest has ended its half.
    ended: bool,
    /// TLS is being started.
    tls: bool,
    /// The guest has closed it.
    closing: bool,
    /// The request that it answers.
    asked: Option<RequestId>,
    /// `None` until the id was sent to the guest, which may use it a moment earlier.
    task: Option<AbortHandle>,
}

/// What is on its way in the two directions.
#[derive(Default)]
struct Flow {
    /// Cost that the guest may still send.
    owed: AtomicUsize,
    /// Cost that the guest will still take.
    credit: AtomicUsize,
    more: Notify,
    /// The guest has closed it.
    close: Notify,
}

enum FromGuest {
    /// Bytes, counted until they are written or dropped.
    Data(Bytes, Buffered),
    End,
    StartTls(Option<String>),
    Close,
}

impl Pipes {
    pub(super) fn close(&self) {
        let mut table = self.table.lock();
        table.closed = true;
        for (_, entry) in table.entries.drain() {
            if let Some(task) = entry.task {
                task.abort();
            }
        }
    }
}

/// A connection's part of how many a mirror may have, while it is being opened.
pub(crate) struct Opening {
    mirror: Arc<Mirror>,
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.mirror.pipes.table.lock().opening -= 1;
    }
}

/// A connection whose id no message has named to the guest: dropped, it closes.
pub(crate) struct NewPipe {
    mirror: Arc<Mirror>,
    id: u64,
    parts: Option<(Pipe, mpsc::UnboundedReceiver<FromGuest>, Arc<Flow>)>,
}

impl NewPipe {
    /// The answer to the guest: `{id, remoteAddress, localAddress}`.
    pub(crate) fn answer(&self) -> Payload {
        let mut json = format!("{{\"id\":{}", self.id);
        let opened = self.parts.as_ref().map(|(pipe, ..)| &pipe.opened);
        let Opened {
            remote_address,
            local_address,
        } = opened.cloned().unwrap_or_default();
        for (key, address) in [
            ("remoteAddress", remote_address),
            ("localAddress", local_address),
        ] {
            if let Some(address) = address {
                json.push_str(&format!(",\"{key}\":"));
                push_string(&mut json, &address);
            }
        }
        json.push('}');
        Payload::from_json(json)
    }

    /// A message has named it: bytes flow. What it gives completes when the connection is over.
    pub(crate) fn named(mut self) -> oneshot::Receiver<()> {
        let (here, over) = oneshot::channel();
        let Some((pipe, mut from_guest, flow)) = self.parts.take() else {
            return over;
        };
        let (mirror, id) = (Arc::clone(&self.mirror), self.id);
        let mut table = self.mirror.pipes.table.lock();
        let Some(entry) = table.entries.get_mut(&id) else {
            return over;
        };
        // The task cannot end before its entry has it: it needs this lock for that.
        let task = tokio::spawn(async move {
            let carrier = Carrier {
                mirror: &mirror,
                id,
                flow,
            };
            let last = unbroken(carrier.run(pipe, &mut from_guest))
                .await
                .unwrap_or_else(|| Err(ErrorName::Type.error("the host failed")));
            drop(here);
            mirror.pipe_over(id, last).await;
        });
        entry.task = Some(task.abort_handle());
        over
    }
}

impl Drop for NewPipe {
    fn drop(&mut self) {
        if self.parts.is_some() {
            self.mirror.pipes.table.lock().entries.remove(&self.id);
        }
    }
}

impl Mirror {
    /// Takes a place for a connection that is about to be opened.
    ///
    /// # Errors
    /// When as many are open, or being opened, as may be.
    pub(crate) fn opening_pipe(self: &Arc<Self>) -> Result<Opening, GuestError> {
        let most = self.limits().pipes;
        let mut table = self.pipes.table.lock();
        if table.entries.len() + table.opening >= most {
            return Err(ErrorName::Busy.error(format!(
                "at most {most} connections of one mirror may be open at once"
            )));
        }
        table.opening += 1;
        drop(table);
        Ok(Opening {
            mirror: Arc::clone(self),
        })
    }

    /// Enters a connection that was opened.
    /// `asked`: the guest's request that it answers.
    pub(crate) fn enter_pipe(
        self: &Arc<Self>,
        opening: Opening,
        pipe: Pipe,
        asked: Option<RequestId>,
    ) -> NewPipe {
        let (sender, from_guest) = mpsc::unbounded_channel();
        let flow = Arc::new(Flow::default());
        flow.owed.store(WINDOW, Ordering::SeqCst);
        flow.credit.store(WINDOW, Ordering::SeqCst);
        let mut table = self.pipes.table.lock();
        let id = table.next;
        table.next += 1;
        if !table.closed {
            let entry = Entry {
                from_guest: sender,
                flow: Arc::clone(&flow),
                ended: false,
                tls: false,
                closing: false,
                asked,
                task: None,
            };
            table.entries.insert(id, entry);
        }
        drop(table);
        drop(opening);
        NewPipe {
            mirror: Arc::clone(self),
            id,
            parts: Some((pipe, from_guest, flow)),
        }
    }

    /// Takes `pipe.data`, `pipe.end`, `pipe.tls` or `pipe.close`. One for a pipe that is over is late, not wrong.
    pub(super) fn pipe_message(
        self: &Arc<Self>,
        name: &str,
        message: Fields,
    ) -> Result<(), Malformed> {
        let id = message.id;
        let mut table = self.pipes.table.lock();
        if id >= table.next {
            return Err(Malformed(format!("pipe {id} never was")));
        }
        let Some(entry) = table.entries.get_mut(&id).filter(|entry| !entry.closing) else {
            return Ok(());
        };
        if entry.ended && name == "pipe.tls" {
            let why = "TLS cannot be started on a connection whose writable side has ended";
            self.fail_pipe(entry, id, ErrorName::Type.error(why));
            return Ok(());
        }
        if entry.ended && name != "pipe.close" {
            return Err(Malformed(format!(
                "{name} comes after the end of pipe {id}"
            )));
        }
        if entry.tls && name != "pipe.close" {
            return Err(Malformed(format!(
                "{name} comes while TLS is being started in pipe {id}"
            )));
        }
        let item = match name {
            "pipe.data" => {
                return match message.data {
                    GuestBody::Whole(data) if !message.is_text => {
                        self.pipe_data(&mut table, id, data)
                    }
                    _ => Err(Malformed("data of a pipe are not bytes".to_owned())),
                };
            }
            "pipe.end" => {
                entry.ended = true;
                FromGuest::End
            }
            "pipe.tls" => {
                entry.tls = true;
                FromGuest::StartTls(message.message)
            }
            _ => {
                entry.closing = true;
                entry.flow.close.notify_one();
                FromGuest::Close
            }
        };
        // A task that has ended takes nothing more.
        let _ = entry.from_guest.send(item);
        Ok(())
    }

    /// Closes the connection that answers a request which the guest gave up before it had the answer. The guest does not
    /// know of the connection, and nothing else would close it.
    pub(super) fn close_unwanted_pipe(&self, asked: RequestId) {
        let mut table = self.pipes.table.lock();
        let unwanted = table
            .entries
            .extract_if(|_, entry| entry.asked == Some(asked));
        for (_, entry) in unwanted {
            if let Some(task) = entry.task {
                task.abort();
            }
        }
    }

    fn pipe_data(
        self: &Arc<Self>,
        table: &mut Table,
        id: u64,
        data: Bytes,
    ) -> Result<(), Malformed> {
        let Some(entry) = table.entries.get_mut(&id) else {
            return Ok(());
        };
        let cost = data.len().saturating_add(OVERHEAD);
        let owed = &entry.flow.owed;
        let taken = owed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |owed| {
            owed.checked_sub(cost)
        });
        if taken.is_err() {
            return Err(Malformed(format!(
                "it sent more over pipe {id} than it may"
            )));
        }
        let Some(buffered) = self.count_buffered(data.len()) else {
            let most = self.limits().buffered;
            let why = format!("more than {most} bytes of this site wait to be read");
            self.fail_pipe(entry, id, ErrorName::Busy.error(why));
            return Ok(());
        };
        // A task that has ended takes nothing more.
        let _ = entry.from_guest.send(FromGuest::Data(data, buffered));
        Ok(())
    }

    /// Takes `pipe.credit`.
    pub(super) fn pipe_credit(&self, message: &Fields) -> Result<(), Malformed> {
        let table = self.pipes.table.lock();
        let Some(entry) = table.entries.get(&message.id) else {
            return Ok(());
        };
        let more = usize::try_from(message.n.unwrap_or(0)).unwrap_or(usize::MAX);
        let flow = &entry.flow;
        let given = flow
            .credit
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_add(more).filter(|&sum| sum <= WINDOW)
            });
        if given.is_err() {
            return Err(Malformed(format!(
                "it has taken more of pipe {} than was sent",
                message.id
            )));
        }
        flow.more.notify_one();
        Ok(())
    }

    /// Closes a connection, and notifies the guest of why. Nothing that it sends for it counts any more.
    fn fail_pipe(self: &Arc<Self>, entry: &mut Entry, id: u64, why: GuestError) {
        entry.closing = true;
        if let Some(task) = entry.task.take() {
            task.abort();
        }
        let mirror = Arc::clone(self);
        let last = tokio::spawn(async move { mirror.pipe_over(id, Err(why)).await });
        entry.task = Some(last.abort_handle());
    }

    /// Sends a message about a connection, when there is room for it in the guest's queue.
    async fn deliver(&self, name: &str, json: String) {
        let data = Payload::from_json(json);
        self.until_taken(|handle| handle.control(name, data.clone()))
            .await;
    }

    /// Notifies the guest of the end of a connection, which counts among those that are open until then.
    async fn pipe_over(&self, id: u64, how: Result<(), GuestError>) {
        let (name, json) = last_message(id, how);
        self.deliver(name, json).await;
        self.pipes.table.lock().entries.remove(&id);
    }
}

/// The last message about a connection.
fn last_message(id: u64, how: Result<(), GuestError>) -> (&'static str, String) {
    let Err(error) = how else {
        return ("pipe.closed", format!("{{\"id\":{id}}}"));
    };
    let mut json = format!("{{\"id\":{id},\"name\":");
    push_string(&mut json, &error.name);
    json.push_str(",\"message\":");
    let message = &error.message[..error.message.floor_char_boundary(MOST_MESSAGE)];
    push_string(&mut json, message);
    if let Some(code) = &error.code {
        json.push_str(",\"code\":");
        push_string(&mut json, code);
    }
    json.push('}');
    ("pipe.failed", json)
}

/// How the guest's direction came to a stop.
enum Stop {
    /// The guest has ended its half, and the peer knows.
    Ended,
    StartTls(Option<String>),
    Closed,
}

/// Carries one connection.
struct Carrier<'a> {
    mirror: &'a Arc<Mirror>,
    id: u64,
    flow: Arc<Flow>,
}

impl Carrier<'_> {
    /// Until both halves have ended, the guest has closed it, or it failed.
    async fn run(
        &self,
        mut pipe: Pipe,
        from_guest: &mut mpsc::UnboundedReceiver<FromGuest>,
    ) -> Result<(), GuestError> {
        loop {
            let over = pipe
                .over
                .unwrap_or_else(|| Box::pin(std::future::pending()));
            let carried = tokio::select! {
                carried = self.carry(pipe.stream, from_guest) => carried?,
                error = over => return Err(error),
            };
            let Some((stream, name)) = carried else {
                return Ok(());
            };
            pipe = self
                .upgrade(stream, pipe.start_tls, name, from_guest)
                .await?;
            if let Some(entry) = self.mirror.pipes.table.lock().entries.get_mut(&self.id) {
                entry.tls = false;
            }
            self.deliver("pipe.secured").await;
        }
    }

    /// Has TLS put into a connection, unless the guest closes it first.
    async fn upgrade(
        &self,
        stream: Stream,
        start_tls: Option<StartTls>,
        name: Option<String>,
        from_guest: &mut mpsc::UnboundedReceiver<FromGuest>,
    ) -> Result<Pipe, GuestError> {
        let Some(start_tls) = start_tls else {
            let why = "TLS cannot be started on this connection";
            return Err(ErrorName::Type.error(why));
        };
        tokio::select! {
            pipe = start_tls(stream, name) => pipe,
            // Until it is secured the guest can only close it.
            _ = from_guest.recv() => Err(ErrorName::Type.error("closed while TLS was being started")),
        }
    }

    /// Carries bytes until the end, `None`, or until TLS is to start in the stream that is given back.
    async fn carry(
        &self,
        stream: Stream,
        from_guest: &mut mpsc::UnboundedReceiver<FromGuest>,
    ) -> Result<Option<(Stream, Option<String>)>, GuestError> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let name = {
            let mut reads = std::pin::pin!(self.to_guest(&mut reader));
            let mut writes = std::pin::pin!(self.to_peer(&mut writer, from_guest));
            let mut lingers = std::pin::pin!(async {
                self.flow.close.notified().await;
                tokio::time::sleep(LINGER).await;
            });
            let (mut peer_ended, mut guest_ended) = (false, false);
            loop {
                tokio::select! {
                    read = &mut reads, if !peer_ended => {
                        read.map_err(broken)?;
                        peer_ended = true;
                    }
                    stop = &mut writes, if !guest_ended => match stop.map_err(broken)? {
                        Stop::Ended => guest_ended = true,
                        Stop::StartTls(name) => break name,
                        Stop::Closed => return Ok(None),
                    },
                    () = &mut lingers => return Ok(None),
                }
                if peer_ended && guest_ended {
                    return Ok(None);
                }
            }
        };
        Ok(Some((reader.unsplit(writer), name)))
    }

    async fn deliver(&self, name: &str) {
        let json = format!("{{\"id\":{}}}", self.id);
        self.mirror.deliver(name, json).await;
    }

    /// Until the peer's end, which the guest knows of then.
    async fn to_guest(&self, reader: &mut ReadHalf<Stream>) -> io::Result<()> {
        let mut at_once = SMALL_CHUNK;
        loop {
            let room = self.credit().await.min(at_once);
            self.mirror.room_for_messages().await;
            let mut chunk = Vec::with_capacity(room);
            let read = reader.read_buf(&mut (&mut chunk).limit(room)).await?;
            if read == 0 {
                self.deliver("pipe.end").await;
                return Ok(());
            }
            at_once = (2 * read).clamp(SMALL_CHUNK, CHUNK);
            self.flow
                .credit
                .fetch_sub(read + OVERHEAD, Ordering::SeqCst);
            let data = bytes_message(self.id, "chunk", chunk);
            // Bytes that are not sent would be a hole in the stream.
            if let Err(error) = self.mirror.handle.control("pipe.data", data) {
                let why = format!("the guest takes its messages too slowly: {error}");
                return Err(io::Error::other(ErrorName::Busy.error(why)));
            }
        }
    }

    /// Waits until the guest will take a message; gives how many bytes it may have.
    async fn credit(&self) -> usize {
        loop {
            let left = self.flow.credit.load(Ordering::SeqCst);
            // Not for a few bytes: the guest says that it has taken something long before it has taken all.
            if left >= OVERHEAD + SMALL_CHUNK {
                return left - OVERHEAD;
            }
            self.flow.more.notified().await;
        }
    }

    /// Until the guest has ended or closed it, or wants TLS.
    async fn to_peer(
        &self,
        writer: &mut WriteHalf<Stream>,
        from_guest: &mut mpsc::UnboundedReceiver<FromGuest>,
    ) -> io::Result<Stop> {
        let mut taken = 0;
        while let Some(message) = from_guest.recv().await {
            let (data, buffered) = match message {
                FromGuest::Data(data, buffered) => (data, buffered),
                FromGuest::End => {
                    writer.shutdown().await?;
                    return Ok(Stop::Ended);
                }
                FromGuest::StartTls(name) => return Ok(Stop::StartTls(name)),
                FromGuest::Close => {
                    writer.shutdown().await?;
                    return Ok(Stop::Closed);
                }
            };
            writer.write_all(&data).await?;
            drop(buffered);
            if from_guest.is_empty() {
                writer.flush().await?;
            }
            taken += data.len() + OVERHEAD;
            if taken >= REPORT_AT {
                self.flow.owed.fetch_add(taken, Ordering::SeqCst);
                let json = format!("{{\"id\":{},\"n\":{taken}}}", self.id);
                self.mirror.deliver("pipe.credit", json).await;
                taken = 0;
            }
        }
        Ok(Stop::Closed)
    }
}

/// The guest's error of a connection that broke: what the capability says, or the kind of the system's error.
fn broken(error: io::Error) -> GuestError {
    let error = match error.downcast::<GuestError>() {
        Ok(error) => return error,
        Err(error) => error,
    };
    ErrorName::Type.error(match error.get_ref() {
        Some(inner) => inner.to_string(),
        None => format!("the connection broke: {}", error.kind()),
    })
}
