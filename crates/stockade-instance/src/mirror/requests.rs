//! Requests that a mirror has: those that wait for its answer, those it was asked to abort, and those whose
//! `waitUntil` promises are open.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use stockade_http::{Body, Client};
use stockade_protocol::{GuestError, Payload};
use stockade_supervisor::End;
use stockade_trace::Trace;
use tokio::sync::oneshot;

use super::incoming::GuestStream;
use super::outgoing::OwnedStream;
use super::sockets::AcceptedSocket;
use super::{Buffered, Charge, Mirror, Slot};
use crate::error::FetchError;
use crate::wire::{
    GuestBody, Head, Malformed, parse_cron_done, parse_failed, parse_response, parse_settled,
};

/// Whole bodies of more bytes than this count against what may wait of a guest.
const COUNTED: usize = 64 << 10;

/// Requests whose promises are open that are remembered; more count as settled.
const MOST_BACKGROUND: usize = 1 << 16;

#[derive(Default)]
pub(super) struct Requests {
    table: Mutex<OpenRequests>,
}

#[derive(Default)]
struct OpenRequests {
    entries: HashMap<u64, OpenRequest>,
    /// Since when each request's promises are open, and its trace.
    background: HashMap<u64, (Background, Option<Trace>)>,
    /// Calls, which the guest numbers, whose work goes on in the background.
    calls: HashMap<u64, Background>,
    /// What the work on calls continues from that are traced.
    traced_calls: HashMap<u64, Trace>,
    /// How the mirror ended.
    end: Option<End>,
}

/// `waitUntil` promises of a request or a call that are open.
struct Background {
    since: Instant,
    /// What they use counts for the request's key.
    _charge: Option<Arc<Charge>>,
}

enum OpenRequest {
    Waiting {
        waiter: Waiter,
        slot: Slot,
        /// The request's body, where it is a stream.
        body: Option<OwnedStream>,
        /// Who asks, if a client does.
        client: Option<Arc<Client>>,
        /// What the guest's work continues from, where the request is traced.
        trace: Option<Trace>,
    },
    /// Nobody waits any more; the guest was notified and has not answered.
    Aborted { since: Instant, _slot: Slot },
}

enum Waiter {
    Response(oneshot::Sender<Result<GuestReply, FetchError>>),
    /// A scheduled run, or a connection.
    Run(oneshot::Sender<Result<(), String>>),
}

/// A call of the guest that is traced. Dropped, it is over.
pub(crate) struct TracedCall<'a> {
    mirror: &'a Mirror,
    /// Its number among the requests of the mirror.
    pub(crate) id: u64,
}

impl Drop for TracedCall<'_> {
    fn drop(&mut self) {
        let mut table = self.mirror.requests.table.lock();
        table.traced_calls.remove(&self.id);
    }
}

/// The guest's answer to a request, and the request's place. Dropping it cancels what is left of it.
pub(crate) struct GuestReply {
    pub(crate) id: u64,
    pub(crate) head: Result<Head, String>,
    pub(crate) body: ReplyBody,
    pub(crate) socket: Option<AcceptedSocket>,
    /// The request's own body.
    pub(crate) request_body: Option<OwnedStream>,
    pub(crate) slot: Slot,
}

/// The body of the guest's answer.
pub(crate) enum ReplyBody {
    None,
    /// All of it; counted, where it is large.
    Whole(Bytes, Option<Buffered>),
    Stream(GuestStream),
    /// One of the host's own.
    Returned(Body),
}

impl Requests {
    pub(super) fn background(&self) -> usize {
        let table = self.table.lock();
        table.background.len() + table.calls.len()
    }

    /// Promises open for longer than `limit` are waited for no more.
    pub(super) fn forget_background(&self, now: Instant, limit: Duration) {
        let mut table = self.table.lock();
        let keeps = |one: &Background| now.saturating_duration_since(one.since) < limit;
        table.background.retain(|_, (one, _)| keeps(one));
        table.calls.retain(|_, one| keeps(one));
    }

    /// Requests that the guest was asked to abort longer than `grace` ago.
    pub(super) fn stuck(&self, now: Instant, grace: Duration) -> usize {
        let table = self.table.lock();
        let overdue = |entry: &&OpenRequest| match entry {
            OpenRequest::Waiting { .. } => false,
            OpenRequest::Aborted { since, .. } => now.saturating_duration_since(*since) > grace,
        };
        table.entries.values().filter(overdue).count()
    }

    /// Reports to all waiting callers how the mirror ended.
    pub(super) fn close(&self, end: &End) {
        let (entries, _background) = {
            let mut table = self.table.lock();
            table.end = Some(end.clone());
            table.calls.clear();
            let background = std::mem::take(&mut table.background);
            (std::mem::take(&mut table.entries), background)
        };
        // Not under the lock: slots and streams are given back here.
        for (_, entry) in entries {
            if let OpenRequest::Waiting { waiter, .. } = entry {
                waiter.fail(FetchError::Ended { end: end.clone() });
            }
        }
    }
}

impl OpenRequest {
    fn charge(&self) -> Option<Arc<Charge>> {
        match self {
            Self::Waiting { slot, .. } | Self::Aborted { _slot: slot, .. } => slot.charge.clone(),
        }
    }
}

impl Waiter {
    fn fail(self, error: FetchError) {
        match self {
            Self::Response(sender) => drop(sender.send(Err(error))),
            Self::Run(sender) => drop(sender.send(Err(error.to_string()))),
        }
    }
}

impl Mirror {
    /// A number for a request.
    pub(crate) fn number_request(&self) -> u64 {
        self.count_request();
        self.next_request.fetch_add(1, Ordering::Relaxed)
    }

    /// Enters a request, before it is sent to the guest.
    ///
    /// # Errors
    /// How the mirror ended, if it has; the place is given back.
    pub(crate) fn await_response(
        &self,
        id: u64,
        slot: Slot,
        body: Option<OwnedStream>,
        client: Option<Arc<Client>>,
        trace: Option<Trace>,
    ) -> Result<oneshot::Receiver<Result<GuestReply, FetchError>>, End> {
        let (sender, receiver) = oneshot::channel();
        let waiter = Waiter::Response(sender);
        self.enter(
            id,
            OpenRequest::Waiting {
                waiter,
                slot,
                body,
                client,
                trace,
            },
        )?;
        Ok(receiver)
    }

    /// Enters a scheduled run or a connection, before the guest learns of it.
    ///
    /// # Errors
    /// As [`Mirror::await_response`].
    pub(crate) fn await_run(
        &self,
        id: u64,
        slot: Slot,
        trace: Option<Trace>,
    ) -> Result<oneshot::Receiver<Result<(), String>>, End> {
        let (sender, receiver) = oneshot::channel();
        let waiter = Waiter::Run(sender);
        self.enter(
            id,
            OpenRequest::Waiting {
                waiter,
                slot,
                body: None,
                client: None,
                trace,
            },
        )?;
        Ok(receiver)
    }

    /// The client whose request has this name, while its answer is waited for.
    pub(super) fn client_of(&self, request_id: &str) -> Option<Arc<Client>> {
        let table = self.requests.table.lock();
        let clients = table.entries.values().filter_map(|entry| match entry {
            OpenRequest::Waiting { client, .. } => client.as_ref(),
            OpenRequest::Aborted { .. } => None,
        });
        let mut of_name = clients.filter(|client| *client.request_id == *request_id);
        let client = of_name.next().cloned();
        // A client behind a trusted proxy may have chosen the name of another one's request.
        client.filter(|_| of_name.next().is_none())
    }

    /// Enters a call whose work continues from a trace.
    pub(crate) fn trace_call(&self, trace: Trace) -> TracedCall<'_> {
        let id = self.next_request.fetch_add(1, Ordering::Relaxed);
        let mut table = self.requests.table.lock();
        table.traced_calls.insert(id, trace);
        TracedCall { mirror: self, id }
    }

    /// What the work on this request or call continues from, while its answer or its promises are waited for.
    pub(super) fn trace_of(&self, id: u64) -> Option<Trace> {
        let table = self.requests.table.lock();
        match table.entries.get(&id) {
            Some(OpenRequest::Waiting { trace, .. }) => trace.clone(),
            Some(OpenRequest::Aborted { .. }) => None,
            None => match table.background.get(&id) {
                Some((_, trace)) => trace.clone(),
                None => table.traced_calls.get(&id).cloned(),
            },
        }
    }

    fn enter(&self, id: u64, entry: OpenRequest) -> Result<(), End> {
        let mut table = self.requests.table.lock();
        if let Some(end) = table.end.clone() {
            drop(table);
            return Err(end);
        }
        table.entries.insert(id, entry);
        Ok(())
    }

    /// Takes a request back that was never sent to the guest.
    pub(crate) fn withdraw(&self, id: u64) {
        let entry = self.requests.table.lock().entries.remove(&id);
        drop(entry);
    }

    /// Nobody waits for this request any more: the guest is notified, and the request keeps its place until then.
    pub(crate) fn abort(&self, id: u64) {
        if let Some((_, body)) = self.abandon(id) {
            drop(body);
        }
    }

    /// As [`Mirror::abort`], and reports the reason to the waiting caller.
    pub(crate) fn give_up(&self, id: u64, error: FetchError) {
        if let Some((waiter, body)) = self.abandon(id) {
            waiter.fail(error);
            drop(body);
        }
    }

    fn abandon(&self, id: u64) -> Option<(Waiter, Option<OwnedStream>)> {
        let mut table = self.requests.table.lock();
        let (waiter, slot, body) = match table.entries.remove(&id)? {
            OpenRequest::Waiting {
                waiter, slot, body, ..
            } => (waiter, slot, body),
            aborted @ OpenRequest::Aborted { .. } => {
                table.entries.insert(id, aborted);
                return None;
            }
        };
        table.entries.insert(
            id,
            OpenRequest::Aborted {
                since: Instant::now(),
                _slot: slot,
            },
        );
        drop(table);
        self.notify_abort(id);
        Some((waiter, body))
    }

    /// Notifies the guest that the client is gone.
    pub(crate) fn notify_abort(&self, id: u64) {
        self.notify("http.abort", Payload::from_json(format!("[{id}]")));
    }

    fn charge_of(&self, id: u64) -> Option<Arc<Charge>> {
        let table = self.requests.table.lock();
        table.entries.get(&id).and_then(OpenRequest::charge)
    }

    fn leave(&self, id: u64, pending: bool) -> Option<OpenRequest> {
        let mut table = self.requests.table.lock();
        let entry = table.entries.remove(&id)?;
        if pending && table.background.len() < MOST_BACKGROUND {
            let trace = match &entry {
                OpenRequest::Waiting { trace, .. } => trace.clone(),
                OpenRequest::Aborted { .. } => None,
            };
            let open = Background {
                since: Instant::now(),
                _charge: entry.charge(),
            };
            table.background.insert(id, (open, trace));
        }
        Some(entry)
    }

    /// Takes `http.response`.
    pub(super) fn http_response(self: &Arc<Self>, payload: Payload) -> Result<(), Malformed> {
        let mut response = parse_response(payload, self.limits())?;
        let body = match response.body {
            GuestBody::None => ReplyBody::None,
            GuestBody::Whole(bytes) if bytes.len() <= COUNTED => ReplyBody::Whole(bytes, None),
            GuestBody::Whole(bytes) => match self.count_buffered(bytes.len()) {
                Some(count) => ReplyBody::Whole(bytes, Some(count)),
                None => {
                    let most = self.limits().buffered;
                    let why = format!("more than {most} bytes of its responses wait to be sent");
                    response.head = Err(why);
                    ReplyBody::None
                }
            },
            GuestBody::Stream(id) => ReplyBody::Stream(self.take_stream(id)?),
            GuestBody::Returned(id) => ReplyBody::Returned(self.take_back(id)),
        };
        let socket = match response.socket {
            Some(id) => Some(self.accept_socket(id, self.charge_of(response.id))?),
            None => None,
        };
        let id = response.id;
        match self.leave(id, response.pending) {
            None => Err(unknown(id)),
            Some(OpenRequest::Aborted { .. }) => Ok(()),
            Some(OpenRequest::Waiting {
                waiter: Waiter::Run(_),
                ..
            }) => Err(unknown(id)),
            Some(OpenRequest::Waiting {
                waiter: Waiter::Response(sender),
                slot,
                body: request_body,
                ..
            }) => {
                // What is not taken is cancelled by being dropped.
                let _ = sender.send(Ok(GuestReply {
                    id,
                    head: response.head,
                    body,
                    socket,
                    request_body,
                    slot,
                }));
                Ok(())
            }
        }
    }

    /// Takes `http.failed`.
    pub(super) fn http_failed(&self, payload: &Payload) -> Result<(), Malformed> {
        let failed = parse_failed(payload)?;
        match self.leave(failed.id, false) {
            None => Err(unknown(failed.id)),
            Some(OpenRequest::Aborted { .. }) => Ok(()),
            Some(OpenRequest::Waiting { waiter, .. }) => {
                waiter.fail(FetchError::Threw(failed.error));
                Ok(())
            }
        }
    }

    /// Takes `http.settled`. It may come after the host has lost patience.
    pub(super) fn http_settled(&self, payload: &Payload) -> Result<(), Malformed> {
        let id = parse_settled(payload)?;
        self.settled(|table| table.background.remove(&id).map(|(open, _)| open));
        Ok(())
    }

    /// Takes `call.pending`: a call has given promises to `waitUntil`.
    pub(super) fn call_pending(&self, payload: &Payload) -> Result<(), Malformed> {
        let id = parse_settled(payload)?;
        let mut table = self.requests.table.lock();
        if table.end.is_none() && table.calls.len() < MOST_BACKGROUND {
            let open = Background {
                since: Instant::now(),
                _charge: None,
            };
            table.calls.insert(id, open);
        }
        Ok(())
    }

    /// Takes `call.settled`. It may come after the host has lost patience.
    pub(super) fn call_settled(&self, payload: &Payload) -> Result<(), Malformed> {
        let id = parse_settled(payload)?;
        self.settled(|table| table.calls.remove(&id));
        Ok(())
    }

    /// Promises of a request or call are no longer open, which a mirror that is to end may wait for.
    fn settled(&self, remove: impl FnOnce(&mut OpenRequests) -> Option<Background>) {
        let (last, _removed) = {
            let mut table = self.requests.table.lock();
            let removed = remove(&mut table);
            let none_left = table.background.is_empty() && table.calls.is_empty();
            (removed.is_some() && none_left, removed)
        };
        if last && self.is_draining() {
            self.pool.wake.notify_one();
        }
    }

    /// Takes `cron.done` or `connect.done`.
    pub(super) fn run_done(&self, payload: &Payload) -> Result<(), Malformed> {
        let done = parse_cron_done(payload)?;
        match self.leave(done.id, false) {
            None => Err(unknown(done.id)),
            Some(OpenRequest::Aborted { .. }) => Ok(()),
            Some(OpenRequest::Waiting {
                waiter: Waiter::Run(sender),
                ..
            }) => {
                let _ = sender.send(match done.failure {
                    Some(why) => Err(why),
                    None => Ok(()),
                });
                Ok(())
            }
            Some(OpenRequest::Waiting { waiter, .. }) => {
                waiter.fail(FetchError::Threw(GuestError::new("no response")));
                Err(unknown(done.id))
            }
        }
    }
}

fn unknown(id: u64) -> Malformed {
    Malformed(format!("it answers request {id}, which it does not have"))
}
