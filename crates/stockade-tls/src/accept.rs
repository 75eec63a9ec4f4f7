//! One handshake, from the client's first message to the encrypted stream.
//!
//! 1. What must be computed for a client's first message is computed by a few handshakes at a time, so
//!    that a flood of them leaves cores for requests. Nobody holds a turn while waiting for the network.
//! 2. Who is refused learns why by the alert that RFC 8446, section 6.2 or RFC 6066 names for it.
//!
//! The time of a handshake is bounded by the caller, the size of a first message by rustls (64 KiB).

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use super::acme::ALPN;
use super::connection::ConnectionTls;
use super::index::NoLeaf;
use super::store::TlsStore;

/// What is read at most of a client that was refused, and for how long.
const LINGER_BYTES: u64 = 256 << 10;
const LINGER: Duration = Duration::from_secs(2);

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The client left, or its first message is not TLS.
    #[error("no TLS handshake: {0}")]
    Hello(#[source] io::Error),
    /// The client speaks HTTP without TLS. It got an answer that says so.
    #[error("the client speaks plain HTTP on a TLS port")]
    PlainHttp,
    /// No certificate has the name that the client asks for.
    #[error("no certificate for {}", .0.as_deref().unwrap_or("a client without SNI"))]
    UnknownName(Option<String>),
    /// The certificate for that name has expired or is not valid yet.
    #[error("the certificate for {} is not valid now", .0.as_deref().unwrap_or("a client without SNI"))]
    OutOfDate(Option<String>),
    /// Too many handshakes wait for their turn.
    #[error("too many TLS handshakes at once")]
    Busy,
    /// The handshake failed.
    #[error("TLS handshake failed: {0}")]
    Handshake(#[source] io::Error),
    /// A resumed session was made with a certificate that is no longer good.
    #[error("TLS session not resumed: {0}")]
    Resumed(String),
    /// An ACME server checked its challenge. Not a failure: nothing is left to do on this connection.
    #[error("ACME challenge answered")]
    ChallengeAnswered,
}

impl AcceptError {
    /// A word for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::PlainHttp => "plain_http",
            Self::UnknownName(_) => "unknown_name",
            Self::OutOfDate(_) => "certificate_expired",
            Self::Busy => "busy",
            Self::Handshake(e) => handshake_reason(e),
            Self::Resumed(_) => "client_certificate",
            Self::ChallengeAnswered => "acme_challenge",
        }
    }
}

fn handshake_reason(error: &io::Error) -> &'static str {
    let inner = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::NoCertificatesPresented) => "no_client_certificate",
        Some(
            rustls::Error::InvalidCertificate(_) | rustls::Error::InvalidCertRevocationList(_),
        ) => "client_certificate",
        Some(rustls::Error::PeerIncompatible(_)) => "incompatible",
        Some(rustls::Error::AlertReceived(_)) => "alert",
        Some(_) => "protocol",
        None => "io",
    }
}

/// Alerts that rustls has no way to send at this point (RFC 8446, section 6).
#[derive(Debug, Clone, Copy)]
enum Alert {
    CertificateExpired = 45,
    UnrecognizedName = 112,
}

impl TlsStore {
    /// Makes a handshake. The caller bounds its time; dropping the future ends it.
    ///
    /// # Errors
    /// [`AcceptError`]; the connection is closed, and nothing is left to do but to count it.
    pub async fn accept<IO>(&self, io: IO) -> Result<(TlsStream<IO>, ConnectionTls), AcceptError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let start = hello(io).await?;
        let hello = start.client_hello();
        let name = hello.server_name().map(str::to_ascii_lowercase);
        if let Some(config) = self.challenge_config(&hello) {
            return self.answer_challenge(start, config, name).await;
        }
        match self.resolver.select(&hello, SystemTime::now()) {
            Ok(_) => {}
            Err(NoLeaf::UnknownName) => {
                refuse(start.io, Alert::UnrecognizedName).await;
                return Err(AcceptError::UnknownName(name));
            }
            Err(NoLeaf::OutOfDate) => {
                refuse(start.io, Alert::CertificateExpired).await;
                return Err(AcceptError::OutOfDate(name));
            }
        }
        let policy = self.policies.load().of(name.as_deref()).clone();
        let config = policy.config.clone();
        let handshake = self
            .turns
            .run(|| start.into_stream(config).into_fallible())
            .await
            .ok_or(AcceptError::Busy)?;
        // A client of TLS 1.3 has finished, and may be sending its first request, when its certificate is refused.
        let mut stream = match handshake {
            Ok(stream) => stream,
            Err((error, io)) => {
                end(io, &[]).await;
                return Err(AcceptError::Handshake(error));
            }
        };
        let now = SystemTime::now();
        let Some(connection) = ConnectionTls::new(stream.get_ref().1, &policy, now) else {
            let _ = stream.shutdown().await;
            let why = "the client's certificate cannot be decoded";
            return Err(AcceptError::Handshake(io::Error::other(why)));
        };
        if let Err(e) = connection.check_resumed(&policy, now) {
            let _ = stream.shutdown().await;
            return Err(AcceptError::Resumed(e.to_string()));
        }
        Ok((stream, connection))
    }

    /// The configuration for a client that offers ACME's protocol and no other (RFC 8737, section 3).
    fn challenge_config(
        &self,
        hello: &rustls::server::ClientHello<'_>,
    ) -> Option<Arc<ServerConfig>> {
        let acme = self.resolver.acme.as_ref()?;
        let mut offered = hello.alpn()?;
        let alone = offered.next() == Some(ALPN) && offered.next().is_none();
        alone.then(|| acme.challenge_config())
    }

    async fn answer_challenge<IO>(
        &self,
        start: StartHandshake<IO>,
        config: Arc<ServerConfig>,
        name: Option<String>,
    ) -> Result<(TlsStream<IO>, ConnectionTls), AcceptError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = self
            .turns
            .run(|| start.into_stream(config))
            .await
            .ok_or(AcceptError::Busy)?
            .map_err(AcceptError::Handshake)?;
        let _ = stream.shutdown().await;
        self.challenge_answered(name.unwrap_or_default());
        Err(AcceptError::ChallengeAnswered)
    }
}

/// Reads the client's first message.
async fn hello<IO>(mut io: IO) -> Result<StartHandshake<IO>, AcceptError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut acceptor = Acceptor::default();
    let mut buffer = [0; 4096];
    let mut first = true;
    loop {
        let read = io.read(&mut buffer).await.map_err(AcceptError::Hello)?;
        let mut bytes = &buffer[..read];
        // A record of TLS begins with its type, 22; a request of HTTP with the letters of its method.
        if std::mem::take(&mut first) && bytes.first().is_some_and(u8::is_ascii_uppercase) {
            say_https(io).await;
            return Err(AcceptError::PlainHttp);
        }
        if bytes.is_empty() {
            return Err(AcceptError::Hello(io::ErrorKind::UnexpectedEof.into()));
        }
        // What follows the first message stays in the acceptor, so all must go in.
        while !bytes.is_empty() {
            acceptor.read_tls(&mut bytes).map_err(AcceptError::Hello)?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(StartHandshake::from_parts(accepted, io)),
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut record = Vec::new();
                let _ = alert.write_all(&mut record);
                end(io, &record).await;
                let error = io::Error::new(io::ErrorKind::InvalidData, error);
                return Err(AcceptError::Hello(error));
            }
        }
    }
}

/// Answers in the client's own language.
async fn say_https<IO: AsyncRead + AsyncWrite + Unpin>(io: IO) {
    let text = "HTTP/1.0 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\n\r\n\
                This port speaks HTTPS.\n";
    end(io, text.as_bytes()).await;
}

/// Ends a handshake before it began.
async fn refuse<IO: AsyncRead + AsyncWrite + Unpin>(io: IO, alert: Alert) {
    const ALERT_RECORD: u8 = 21;
    const FATAL: u8 = 2;
    end(io, &[ALERT_RECORD, 3, 3, 0, 2, FATAL, alert as u8]).await;
}

/// Sends the last bytes, and reads what the client was sending meanwhile: closing with bytes unread makes the kernel reset the
/// connection, and the client may never see why it was refused (RFC 9112, section 9.6).
async fn end<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO, last: &[u8]) {
    let ending = async {
        io.write_all(last).await?;
        io.shutdown().await?;
        tokio::io::copy(&mut io.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // A client that has gone needs no answer.
    let _ = timeout(LINGER, ending).await;
}
