//! WebSockets that the guest opens to somewhere: its `new WebSocket(url)`.

use std::collections::HashMap;
use std::sync::Arc;

use http::Uri;
use parking_lot::Mutex;
use stockade_http::{SocketMessage, UpstreamSocket};
use stockade_protocol::{Attachment, Payload, push_string};
use stockade_supervisor::SendError;
use stockade_trace::{Span, SpanKind, Trace};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::sockets::{SLOW, size};
use super::{Mirror, unbroken};
use crate::wire::{Fields, Malformed, SocketOpen, parse_fields, parse_socket_open};

/// The message of an event of a WebSocket.
const EVENT: &str = "__ws_event";

/// Messages of the guest that may wait for a slow peer.
const MOST_WAITING: usize = 256;

#[derive(Default)]
pub(super) struct Upstream {
    table: Mutex<OpenUpstreams>,
}

#[derive(Default)]
struct OpenUpstreams {
    entries: HashMap<u64, OpenUpstream>,
    closed: bool,
}

struct OpenUpstream {
    to_upstream: mpsc::Sender<SocketMessage>,
    task: AbortHandle,
}

impl Upstream {
    pub(super) fn close(&self) {
        let mut table = self.table.lock();
        table.closed = true;
        for (_, entry) in table.entries.drain() {
            entry.task.abort();
        }
    }
}

impl Mirror {
    /// Takes an event of the guest's that is about its WebSockets; others are nobody's.
    pub(super) fn guest_event(
        self: &Arc<Self>,
        name: &str,
        data: Payload,
    ) -> Result<(), Malformed> {
        match name {
            "ws.open" => self.open_upstream(parse_socket_open(&data)?),
            "ws.send" => self.send_upstream(parse_fields(data)?),
            "ws.close" => self.close_upstream(&parse_fields(data)?),
            _ => {}
        }
        Ok(())
    }

    fn open_upstream(self: &Arc<Self>, open: SocketOpen) {
        let id = open.id;
        let most = self.limits().sockets;
        let mut table = self.upstream.table.lock();
        if table.closed || table.entries.contains_key(&id) {
            return;
        }
        if table.entries.len() >= most {
            drop(table);
            return self.upstream_failed(id, &format!("at most {most} WebSockets may be open"));
        }
        let (to_upstream, from_guest) = mpsc::channel(MOST_WAITING);
        let mirror = Arc::clone(self);
        let trace = open.within.and_then(|request| self.trace_of(request));
        let span = trace.and_then(|trace| span(&trace, &open.url));
        // The task cannot end before its entry is there: it needs this lock for that.
        let task = tokio::spawn(async move {
            let last = unbroken(carry(&mirror, open, from_guest, span))
                .await
                .unwrap_or_else(|| Last::Failed("the host failed".to_owned()));
            let here = mirror.upstream.table.lock().entries.remove(&id);
            if here.is_some() {
                match last {
                    Last::Closed(code, reason, clean) => {
                        mirror.upstream_closed(id, code, &reason, clean);
                    }
                    Last::Failed(why) => mirror.upstream_failed(id, &why),
                }
            }
        });
        table.entries.insert(
            id,
            OpenUpstream {
                to_upstream,
                task: task.abort_handle(),
            },
        );
    }

    fn send_upstream(&self, message: Fields) {
        let id = message.id;
        let Some(message) = message.into_socket_message() else {
            return;
        };
        let bytes = size(&message);
        let mut table = self.upstream.table.lock();
        let Some(entry) = table.entries.get(&id) else {
            return;
        };
        let refused = if bytes > self.limits().socket_message {
            Some((1009, "message too big"))
        } else if !self.buffer(bytes) {
            self.unbuffer(bytes);
            Some((4009, "too much waits to be sent"))
        } else if entry.to_upstream.try_send(message).is_err() {
            self.unbuffer(bytes);
            Some((4009, "the peer is too slow"))
        } else {
            None
        };
        if let Some((code, reason)) = refused {
            if let Some(entry) = table.entries.remove(&id) {
                entry.task.abort();
            }
            drop(table);
            self.upstream_closed(id, code, reason, false);
        }
    }

    fn close_upstream(&self, message: &Fields) {
        let id = message.id;
        let mut table = self.upstream.table.lock();
        let Some(entry) = table.entries.get(&id) else {
            return;
        };
        if entry.to_upstream.try_send(message.close()).is_err() {
            // It waits behind more than may wait: nobody would come to it.
            entry.task.abort();
            table.entries.remove(&id);
            drop(table);
            self.upstream_closed(id, 1006, "the peer is too slow", false);
        }
    }

    fn upstream_event(&self, id: u64, kind: &str, data: &str) {
        self.notify_event(Payload::from_json(format!(
            "{{\"conn_id\":{id},\"event_type\":\"{kind}\",\"data\":{data}}}"
        )));
    }

    fn notify_event(&self, data: Payload) {
        self.now_or_later(move |handle| handle.send(EVENT, data.clone()));
    }

    fn upstream_failed(&self, id: u64, why: &str) {
        let mut data = String::from("{\"message\":");
        push_string(&mut data, why);
        data.push('}');
        self.upstream_event(id, "error", &data);
    }

    fn upstream_closed(&self, id: u64, code: u16, reason: &str, clean: bool) {
        let mut data = format!("{{\"code\":{code},\"wasClean\":{clean},\"reason\":");
        push_string(&mut data, reason);
        data.push('}');
        self.upstream_event(id, "close", &data);
    }
}

/// The last event of a socket that a guest receives.
enum Last {
    Closed(u16, String, bool),
    Failed(String),
}

/// Gives what waited back to the mirror's account, whatever ends the task.
struct Waiting<'a> {
    mirror: &'a Mirror,
    messages: mpsc::Receiver<SocketMessage>,
}

impl Waiting<'_> {
    async fn next(&mut self) -> Option<SocketMessage> {
        let message = self.messages.recv().await?;
        self.mirror.unbuffer(charged(&message));
        Some(message)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.messages.close();
        while let Ok(message) = self.messages.try_recv() {
            self.mirror.unbuffer(charged(&message));
        }
    }
}

fn charged(message: &SocketMessage) -> usize {
    match message {
        SocketMessage::Close { .. } => 0,
        message => size(message),
    }
}

/// The span of a WebSocket to another server.
fn span(trace: &Trace, url: &str) -> Option<Span> {
    let mut span = trace.span("websocket", SpanKind::Client)?;
    if let Ok(uri) = url.parse::<Uri>() {
        span.set("server.address", uri.host().unwrap_or_default().to_owned());
        if let Some(port) = uri.port_u16() {
            span.set("server.port", i64::from(port));
        }
        span.set(
            "url.scheme",
            uri.scheme_str().unwrap_or_default().to_owned(),
        );
    }
    Some(span)
}

async fn carry(
    mirror: &Arc<Mirror>,
    open: SocketOpen,
    from_guest: mpsc::Receiver<SocketMessage>,
    mut span: Option<Span>,
) -> Last {
    let mut from_guest = Waiting {
        mirror,
        messages: from_guest,
    };
    let id = open.id;
    let connecting = mirror.pool.services.websocket(open.url, open.protocols);
    let socket = tokio::select! {
        socket = connecting => socket,
        // The guest can only close before it is open.
        _ = from_guest.next() => return Last::Closed(1006, String::new(), false),
    };
    let mut socket: UpstreamSocket = match socket {
        Ok(socket) => socket,
        Err(error) => {
            if let Some(span) = &mut span {
                span.fail(&error.name);
            }
            return Last::Failed(error.message);
        }
    };
    // It is the time until the socket is open.
    drop(span);
    let mut opened = String::from("{\"protocol\":");
    push_string(&mut opened, socket.protocol.as_deref().unwrap_or_default());
    opened.push('}');
    mirror.upstream_event(id, "open", &opened);
    let mut closing = None;
    loop {
        tokio::select! {
            message = from_guest.next(), if closing.is_none() => match message {
                Some(SocketMessage::Close { code, reason }) => {
                    closing = Some(code);
                    let close = SocketMessage::Close { code, reason };
                    if socket.to_upstream.send(close).await.is_err() {
                        return Last::Closed(1006, String::new(), false);
                    }
                }
                Some(message) => {
                    if socket.to_upstream.send(message).await.is_err() {
                        return Last::Closed(1006, String::new(), false);
                    }
                }
                None => return Last::Closed(1006, String::new(), false),
            },
            message = socket.from_upstream.recv() => match message {
                Some(SocketMessage::Close { code, reason }) => {
                    return Last::Closed(code, reason, code != 1006);
                }
                Some(message) => {
                    mirror.room_for_messages().await;
                    let event = event_of(id, message);
                    if let Err(SendError::Full { .. }) = mirror.handle.send(EVENT, event) {
                        // One message less would be a hole.
                        return Last::Closed(1013, SLOW.to_owned(), false);
                    }
                }
                None => return Last::Closed(1006, String::new(), false),
            },
        }
    }
}

fn event_of(id: u64, message: SocketMessage) -> Payload {
    let head = format!("{{\"conn_id\":{id},\"event_type\":\"message\",\"data\":");
    match message {
        SocketMessage::Binary(bytes) => Payload {
            json: format!("{head}{}}}", Attachment::Bytes(0).json()),
            bytes: vec![bytes.into()],
            marked: true,
        },
        SocketMessage::Text(text) | SocketMessage::Close { reason: text, .. } => {
            let mut json = head;
            push_string(&mut json, &text);
            json.push('}');
            Payload::from_json(json)
        }
    }
}
