//! WebSockets of guests towards servers (RFC 6455).

use bytes::Bytes;
use tokio::sync::mpsc;

/// A message, or the end of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketMessage {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
    /// The end; nothing follows. 1005 for no code, 1006 for an end without a close frame.
    Close {
        /// RFC 6455, 7.4.
        code: u16,
        /// Up to 123 bytes.
        reason: String,
    },
}

/// An open WebSocket. Dropping either half closes it.
#[derive(Debug)]
pub struct UpstreamSocket {
    /// The subprotocol that the server chose.
    pub protocol: Option<String>,
    /// To the server. Waits while the server does not read.
    pub to: mpsc::Sender<SocketMessage>,
    /// From the server. Ends after [`SocketMessage::Close`]; the server waits while it is not read.
    pub from: mpsc::Receiver<SocketMessage>,
}
