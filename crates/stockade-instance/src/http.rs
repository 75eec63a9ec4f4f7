//! What travels between the gateway, an instance and the broker.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of every request and response.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Who asks. An extension of each request that comes from a client, and of one that a guest passes on to
/// another site while it answers the client.
#[derive(Debug, Clone)]
pub struct Client {
    /// The client's address: that of its connection, or what a trusted proxy says.
    pub address: SocketAddr,
    /// Names the request in logs and for the guest.
    pub request_id: String,
    /// The client's own connection is encrypted, as far as is known: to this machine, or to a trusted proxy.
    pub https: bool,
    /// Of the connection, where it is encrypted.
    pub secure: Option<Arc<ClientTls>>,
    /// The client wants to go on with a WebSocket.
    pub upgrade: bool,
}

/// A client's TLS connection.
#[derive(Debug, Clone)]
pub struct ClientTls {
    /// Such as `TLSv1.3`.
    pub version: String,
    /// Such as `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// The server name that the client asked for (RFC 6066, section 3).
    pub sni: Option<String>,
    /// What the client showed, verified.
    pub certificate: Option<ClientCertificate>,
}

/// A verified certificate of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Distinguished name as in RFC 4514.
    pub subject: String,
    /// Distinguished name as in RFC 4514.
    pub issuer: String,
    /// Hexadecimal.
    pub serial: String,
    /// SHA-256 of the DER form, hexadecimal.
    pub fingerprint_sha256: String,
    /// Subject alternative names, each with its kind, such as `DNS:a.example`.
    pub san: Vec<String>,
    /// Such as `2026-11-21T10:00:00Z`.
    pub not_before: String,
    /// Such as `2027-11-21T10:00:00Z`.
    pub not_after: String,
}

/// Which mirror answered. An extension of each response of a guest.
#[derive(Debug, Clone)]
pub struct ServedBy {
    /// The instance's name.
    pub instance: Arc<str>,
    /// The mirror's number; never used twice by an instance.
    pub mirror: u32,
    /// The request waited for a mirror to start.
    pub cold: bool,
    /// The first mirror that had the request failed.
    pub retried: bool,
}

/// One message of a WebSocket. Pings and fragments stay with whoever speaks RFC 6455.
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
    /// What the client says. Waits while the guest does not take it.
    pub to_guest: mpsc::Sender<SocketMessage>,
    /// What the guest says; ends after a [`SocketMessage::Close`], or without one where the guest ended.
    pub from_guest: mpsc::Receiver<SocketMessage>,
}

/// An extension of each response with the status 101: the guest's end of the WebSocket.
#[derive(Debug, Clone)]
pub struct Upgrade(Arc<Mutex<Option<GuestSocket>>>);

impl Upgrade {
    /// Holds `socket` for whoever sends the response.
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
