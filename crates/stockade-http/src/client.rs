//! The client that sent a request, and the replica that answered it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Who asks. An extension of each request that comes from a client, and of one that a guest passes on to
/// another site while it answers the client.
#[derive(Debug, Clone)]
pub struct Client {
    /// The client's address: that of its connection, or what a trusted proxy says.
    pub address: SocketAddr,
    /// Names the request in logs and for the guest.
    pub request_id: Arc<str>,
    /// The client's own connection is encrypted, as far as is known: to this machine, or to a trusted proxy.
    pub https: bool,
    /// The TLS of the connection, where it is encrypted.
    pub secure: Option<Arc<ClientTls>>,
    /// The client wants to go on with a WebSocket.
    pub upgrade: bool,
    /// What a site gets to know of the API key with which the client was let in, as JSON.
    pub api_key: Option<Arc<str>>,
    /// The number of that key's id, by which what the request causes is counted.
    pub key: Option<u64>,
    /// What a site gets to know of the token with which the client was let in, as JSON.
    pub token: Option<Arc<str>>,
    /// Where what the request uses is charged; `None` where no limit and no receipt counts it.
    pub account: Option<Arc<dyn RequestAccount>>,
}

/// Where what a request uses is charged: CPU time as the kernel counts it, outbound requests with their bytes, and refusals.
/// The methods are called on the way of requests: they must not block.
pub trait RequestAccount: fmt::Debug + Send + Sync {
    /// CPU time that was used for the request; comes while the request is open and after its end.
    fn used(&self, time: Duration);

    /// CPU time of the site that was used for no request, such as its start and its timers.
    fn idle(&self, time: Duration);

    /// A rule or a limit has refused something that the guest wanted while it worked on this request alone.
    fn refused(&self) {}

    /// A grant has refused a call that the guest made while it worked on this request alone.
    fn grant_refused(&self) {}

    /// The guest has begun an outbound request or connection while it worked on this request alone.
    fn egress_began(&self) {}

    /// Bytes that such an outbound request or connection has sent and received; comes while it goes on.
    fn egress_moved(&self, sent: u64, received: u64) {
        let _ = (sent, received);
    }

    /// A guest begins to work for the request. Comes once more where another mirror tries it again, and where the guest
    /// has another instance work for it.
    fn began(&self) {}

    /// A guest that has begun is done.
    fn ended(&self) {}
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
