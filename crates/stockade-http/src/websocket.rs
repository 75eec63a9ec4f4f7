//! WebSockets between a guest and a client, and between a guest and a server.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// One message of a WebSocket. The side that speaks RFC 6455 handles pings and fragments itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketMessage {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Bytes),
    /// The sender closes. Nothing comes after it.
    Close {
        /// As in RFC 6455, section 7.4; 1005 where none was given, 1006 where the connection broke.
        code: u16,
        /// At most 123 bytes.
        reason: String,
    },
}

/// A WebSocket that the guest has accepted. Dropping either half closes it.
#[derive(Debug)]
pub struct GuestSocket {
    /// Messages of the client. Sending waits while the guest does not receive.
    pub to_guest: mpsc::Sender<SocketMessage>,
    /// Messages of the guest. The channel ends after a [`SocketMessage::Close`], or without one if the guest ended.
    pub from_guest: mpsc::Receiver<SocketMessage>,
}

/// A WebSocket to a server, opened for a guest. Dropping either half closes it.
#[derive(Debug)]
pub struct UpstreamSocket {
    /// The subprotocol that the server chose.
    pub protocol: Option<String>,
    /// Messages to the server. Sending waits while the server does not read.
    pub to_upstream: mpsc::Sender<SocketMessage>,
    /// Messages of the server. The channel ends after a [`SocketMessage::Close`]; the server waits while nothing
    /// is received.
    pub from_upstream: mpsc::Receiver<SocketMessage>,
}

/// An extension of each response with the status 101: the guest's end of the WebSocket.
#[derive(Debug, Clone)]
pub struct Upgrade(Arc<Mutex<Option<GuestSocket>>>);

impl Upgrade {
    /// Holds `socket` until the sender of the response takes it.
    #[must_use]
    pub fn new(socket: GuestSocket) -> Self {
        Self(Arc::new(Mutex::new(Some(socket))))
    }

    /// Takes the socket; `None` for all but the first.
    #[must_use]
    pub fn take(&self) -> Option<GuestSocket> {
        self.0.lock().take()
    }
}
