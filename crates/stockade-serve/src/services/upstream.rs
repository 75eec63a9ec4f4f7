//! WebSockets of guests, between the broker and the instance.

use stockade_broker as broker;
use stockade_instance::{SocketMessage, UpstreamSocket};
use tokio::sync::mpsc;

/// Messages on the way in one direction. What is further behind waits at its sender.
const AHEAD: usize = 8;

fn to_instance(message: broker::SocketMessage) -> SocketMessage {
    match message {
        broker::SocketMessage::Text(text) => SocketMessage::Text(text),
        broker::SocketMessage::Binary(bytes) => SocketMessage::Binary(bytes),
        broker::SocketMessage::Close { code, reason } => SocketMessage::Close { code, reason },
    }
}

fn to_broker(message: SocketMessage) -> broker::SocketMessage {
    match message {
        SocketMessage::Text(text) => broker::SocketMessage::Text(text),
        SocketMessage::Binary(bytes) => broker::SocketMessage::Binary(bytes),
        SocketMessage::Close { code, reason } => broker::SocketMessage::Close { code, reason },
    }
}

/// Passes messages on, one at a time, until either end is gone.
async fn pass<A, B>(
    mut from: mpsc::Receiver<A>,
    to: mpsc::Sender<B>,
    change: impl Fn(A) -> B + Send,
) {
    loop {
        let message = tokio::select! {
            message = from.recv() => message,
            () = to.closed() => return,
        };
        let Some(message) = message else { return };
        if to.send(change(message)).await.is_err() {
            return;
        }
    }
}

/// The broker's socket as the instance takes it.
pub(super) fn joined(socket: broker::UpstreamSocket) -> UpstreamSocket {
    let (to_upstream, from_guest) = mpsc::channel(AHEAD);
    let (to_guest, from_upstream) = mpsc::channel(AHEAD);
    tokio::spawn(pass(from_guest, socket.to, to_broker));
    tokio::spawn(pass(socket.from, to_guest, to_instance));
    UpstreamSocket {
        protocol: socket.protocol.unwrap_or_default(),
        extensions: String::new(),
        to_upstream,
        from_upstream,
    }
}
