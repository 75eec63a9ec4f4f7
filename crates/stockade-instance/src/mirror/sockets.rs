//! WebSockets of clients that the guest has accepted: a task for each carries messages both ways.
//!
//! Either side may send as many messages as it has credit for; more credit comes as they are taken.

use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stockade_http::{GuestSocket, SocketMessage};
use stockade_protocol::{Payload, push_string};
use stockade_supervisor::SendError;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::{Charge, Mirror};
use crate::wire::{Fields, Malformed, bytes_message};

/// Messages that either side may send before the other acknowledges one.
const CREDIT: u32 = 64;

/// Messages taken before they are acknowledged to the sender.
const CREDIT_EVERY: u32 = 16;

/// Messages on the way to or from the peer that speaks RFC 6455.
const ON_THE_WAY: usize = 4;

/// For the client's answer to a close of the guest. Who speaks RFC 6455 has a bound of its own, and a shorter one.
const CLOSING: Duration = Duration::from_secs(120);

#[derive(Default)]
pub(super) struct Sockets {
    table: Mutex<OpenSockets>,
}

#[derive(Default)]
struct OpenSockets {
    entries: HashMap<u64, OpenSocket>,
    closed: bool,
    /// When the last one that was open closed.
    last_closed: Option<Instant>,
}

struct OpenSocket {
    from_guest: mpsc::UnboundedSender<SocketMessage>,
    /// Messages that the guest may still send.
    owed: Arc<AtomicU32>,
    /// Messages that the guest will still take.
    credit: Arc<Credit>,
    task: Option<AbortHandle>,
    /// The guest has closed it; the client's answer is still to come.
    closing: bool,
    /// What it uses counts for the key of the request that opened it.
    _charge: Option<Arc<Charge>>,
}

#[derive(Default)]
struct Credit {
    left: AtomicU32,
    more: Notify,
}

impl Credit {
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

impl Sockets {
    pub(super) fn count(&self) -> usize {
        self.table.lock().entries.len()
    }

    /// Since the last one closed; for ever where there was none.
    pub(super) fn closed_for(&self) -> Duration {
        let last = self.table.lock().last_closed;
        last.map_or(Duration::MAX, |closed| closed.elapsed())
    }

    pub(super) fn close(&self) {
        let mut table = self.table.lock();
        table.closed = true;
        // The tasks end as their channels do, and the clients' ends with them.
        table.entries.clear();
    }
}

/// A socket that the guest wants to accept; it closes when this is dropped unused.
pub(crate) struct AcceptedSocket {
    mirror: Arc<Mirror>,
    id: u64,
    ends: Option<Ends>,
}

struct Ends {
    from_guest: mpsc::UnboundedReceiver<SocketMessage>,
    owed: Arc<AtomicU32>,
    credit: Arc<Credit>,
}

impl Drop for AcceptedSocket {
    fn drop(&mut self) {
        if self.ends.is_some() && self.mirror.forget_socket(self.id) {
            self.mirror.notify_close("socket.close", self.id, 1006, "");
        }
    }
}

impl AcceptedSocket {
    /// Begins to carry messages; gives the end for the client.
    pub(crate) fn open(mut self) -> Option<GuestSocket> {
        let ends = self.ends.take()?;
        let (to_guest, from_client) = mpsc::channel(ON_THE_WAY);
        let (to_client, from_guest) = mpsc::channel(ON_THE_WAY);
        let carrier = Carrier {
            mirror: Arc::clone(&self.mirror),
            id: self.id,
            owed: ends.owed,
            credit: ends.credit,
        };
        let task = tokio::spawn(carrier.run(ends.from_guest, to_client, from_client));
        let mut table = self.mirror.sockets.table.lock();
        if let Some(entry) = table.entries.get_mut(&self.id) {
            entry.task = Some(task.abort_handle());
        }
        drop(table);
        Some(GuestSocket {
            to_guest,
            from_guest,
        })
    }
}

impl Mirror {
    /// Enters a socket of the guest's.
    pub(super) fn accept_socket(
        self: &Arc<Self>,
        id: u64,
        charge: Option<Arc<Charge>>,
    ) -> Result<AcceptedSocket, Malformed> {
        let (sender, from_guest) = mpsc::unbounded_channel();
        let owed = Arc::new(AtomicU32::new(CREDIT));
        let credit = Arc::new(Credit::default());
        credit.left.store(CREDIT, Ordering::SeqCst);
        let most = self.limits().sockets;
        let mut table = self.sockets.table.lock();
        let full = table.entries.len() >= most || table.closed;
        if !full {
            match table.entries.entry(id) {
                hash_map::Entry::Occupied(_) => {
                    return Err(Malformed(format!("socket {id} is handed out twice")));
                }
                hash_map::Entry::Vacant(place) => {
                    place.insert(OpenSocket {
                        from_guest: sender,
                        owed: Arc::clone(&owed),
                        credit: Arc::clone(&credit),
                        task: None,
                        closing: false,
                        _charge: charge,
                    });
                }
            }
        }
        drop(table);
        if full {
            self.complain("a WebSocket was refused, for as many are open as may");
            self.notify_close("socket.close", id, 1013, "too many WebSockets");
        }
        Ok(AcceptedSocket {
            mirror: Arc::clone(self),
            id,
            ends: (!full).then_some(Ends {
                from_guest,
                owed,
                credit,
            }),
        })
    }

    /// Forgets a socket; false if it was forgotten.
    fn forget_socket(&self, id: u64) -> bool {
        let mut table = self.sockets.table.lock();
        let entry = table.entries.remove(&id);
        let last = table.entries.is_empty();
        if entry.is_some() && last {
            table.last_closed = Some(Instant::now());
        }
        drop(table);
        if entry.is_some() && last && self.is_draining() {
            self.pool.wake.notify_one();
        }
        entry.is_some()
    }

    /// Closes all sockets, politely.
    pub(crate) fn close_sockets(&self, code: u16, reason: &str) {
        let entries: Vec<(u64, OpenSocket)> = self.sockets.table.lock().entries.drain().collect();
        for (id, entry) in entries {
            let _ = entry.from_guest.send(SocketMessage::Close {
                code,
                reason: reason.to_owned(),
            });
            self.notify_close("socket.close", id, code, reason);
        }
    }

    /// Takes `socket.message`. One for a socket that is closed is late, not wrong.
    pub(super) fn socket_message(&self, message: Fields) -> Result<(), Malformed> {
        let id = message.id;
        let Some(message) = message.into_socket_message() else {
            return Err(Malformed(
                "a socket's message is neither text nor bytes".to_owned(),
            ));
        };
        let bytes = size(&message);
        let mut table = self.sockets.table.lock();
        let Some(entry) = table.entries.get(&id).filter(|entry| !entry.closing) else {
            return Ok(());
        };
        if entry.owed.load(Ordering::SeqCst) == 0 {
            return Err(Malformed(
                "it sent more socket messages than it may".to_owned(),
            ));
        }
        entry.owed.fetch_sub(1, Ordering::SeqCst);
        let refused = if bytes > self.limits().socket_message {
            Some((1009, "message too big"))
        } else if !self.buffer(bytes) {
            self.unbuffer(bytes);
            Some((1013, "too much waits to be sent"))
        } else {
            None
        };
        if let Some((code, reason)) = refused {
            let _ = entry.from_guest.send(SocketMessage::Close {
                code,
                reason: reason.to_owned(),
            });
            table.entries.remove(&id);
            drop(table);
            self.notify_close("socket.close", id, code, reason);
        } else if entry.from_guest.send(message).is_err() {
            self.unbuffer(bytes);
        }
        Ok(())
    }

    /// Takes `socket.close`. The socket is there until the client has answered.
    pub(super) fn socket_closed(&self, message: &Fields) {
        let mut table = self.sockets.table.lock();
        if let Some(entry) = table.entries.get_mut(&message.id)
            && !std::mem::replace(&mut entry.closing, true)
        {
            let _ = entry.from_guest.send(message.close());
        }
    }

    /// Takes `socket.credit`.
    pub(super) fn socket_credit(&self, message: &Fields) {
        if let Some(entry) = self.sockets.table.lock().entries.get(&message.id) {
            let n = message.n.unwrap_or(1).min(u64::from(CREDIT)) as u32;
            let left = &entry.credit.left;
            let _ = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                Some(left.saturating_add(n).min(CREDIT))
            });
            entry.credit.more.notify_one();
        }
    }

    fn notify_close(&self, name: &'static str, id: u64, code: u16, reason: &str) {
        let mut json = format!("{{\"id\":{id},\"code\":{code},\"reason\":");
        push_string(&mut json, reason);
        json.push('}');
        self.notify(name, Payload::from_json(json));
    }
}

/// Why a socket is closed whose guest has no room for its messages.
pub(super) const SLOW: &str = "the site takes its messages too slowly";

/// Bytes of a message.
pub(super) fn size(message: &SocketMessage) -> usize {
    match message {
        SocketMessage::Text(text) => text.len(),
        SocketMessage::Binary(bytes) => bytes.len(),
        SocketMessage::Close { reason, .. } => reason.len(),
    }
}

/// Carries messages of one socket.
struct Carrier {
    mirror: Arc<Mirror>,
    id: u64,
    owed: Arc<AtomicU32>,
    credit: Arc<Credit>,
}

impl Carrier {
    async fn run(
        self,
        mut from_guest: mpsc::UnboundedReceiver<SocketMessage>,
        to_client: mpsc::Sender<SocketMessage>,
        mut from_client: mpsc::Receiver<SocketMessage>,
    ) {
        let closed_by_client = tokio::select! {
            () = self.to_client(&mut from_guest, &to_client) => None,
            close = self.to_guest(&mut from_client) => Some(close),
        };
        drop(to_client);
        // A guest that has closed gets the client's close and nothing before it.
        let (code, reason) = match closed_by_client {
            Some(close) => close,
            None => tokio::time::timeout(CLOSING, closing(&mut from_client))
                .await
                .unwrap_or_else(|_| (1006, String::new())),
        };
        from_guest.close();
        while let Ok(message) = from_guest.try_recv() {
            if !matches!(message, SocketMessage::Close { .. }) {
                self.mirror.unbuffer(size(&message));
            }
        }
        if self.mirror.forget_socket(self.id) {
            self.mirror
                .notify_close("socket.close", self.id, code, &reason);
        }
    }

    /// Until the guest closes, or the client is gone.
    async fn to_client(
        &self,
        from_guest: &mut mpsc::UnboundedReceiver<SocketMessage>,
        to_client: &mpsc::Sender<SocketMessage>,
    ) {
        let mut taken = 0;
        while let Some(message) = from_guest.recv().await {
            let closes = matches!(message, SocketMessage::Close { .. });
            if !closes {
                self.mirror.unbuffer(size(&message));
            }
            if to_client.send(message).await.is_err() || closes {
                return;
            }
            taken += 1;
            if taken == CREDIT_EVERY {
                self.owed.fetch_add(taken, Ordering::SeqCst);
                self.mirror.notify(
                    "socket.credit",
                    Payload::from_json(format!("{{\"id\":{},\"n\":{taken}}}", self.id)),
                );
                taken = 0;
            }
        }
    }

    /// Until the client closes; gives its code and reason.
    async fn to_guest(&self, from_client: &mut mpsc::Receiver<SocketMessage>) -> (u16, String) {
        let id = self.id;
        while let Some(message) = from_client.recv().await {
            let data = match message {
                SocketMessage::Close { code, reason } => return (code, reason),
                data if size(&data) > self.mirror.limits().socket_message => {
                    return (1009, "message too big".to_owned());
                }
                data => data,
            };
            self.credit.take().await;
            self.mirror.room_for_messages().await;
            let message = data_message(id, data);
            if let Err(SendError::Full { .. }) =
                self.mirror.handle.control("socket.message", message)
            {
                // One message less would be a hole.
                return (1013, SLOW.to_owned());
            }
        }
        (1006, String::new())
    }
}

/// The client's close; 1006 where it went away without one.
async fn closing(from_client: &mut mpsc::Receiver<SocketMessage>) -> (u16, String) {
    while let Some(message) = from_client.recv().await {
        if let SocketMessage::Close { code, reason } = message {
            return (code, reason);
        }
    }
    (1006, String::new())
}

/// `{ "id": id, "data": … }`.
fn data_message(id: u64, message: SocketMessage) -> Payload {
    match message {
        SocketMessage::Binary(bytes) => bytes_message(id, "data", bytes.into()),
        SocketMessage::Text(text) | SocketMessage::Close { reason: text, .. } => {
            let mut json = format!("{{\"id\":{id},\"data\":");
            push_string(&mut json, &text);
            json.push('}');
            Payload::from_json(json)
        }
    }
}
