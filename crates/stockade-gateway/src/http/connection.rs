//! One connection, from its acceptance to its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::access::{ConnectionEvent, Observer, Refusal};
use crate::gateway::{Phase, Shared};
use crate::http::forwarded::trusts;
use crate::http::h1_framing::Framing;
use crate::http::h2_frame_limiter::Frames;
use crate::http::inspected_stream::{Inspector, Wire};
use crate::http::service::{Conversation, Secure};
use crate::http::timeouts::{Overdue, Pulse};
use crate::limits::Limits;
use crate::listener::accept::local_peer;
use crate::listener::connection_limits::Entered;
use crate::listener::options::{Listener, ProxyProtocol};
use crate::listener::proxy_protocol::{self, ProxyError};
use crate::listener::stream::{Plain, Socket, Stream};
use stockade_tls::AcceptError;

/// How a client begins HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a connection that was asked to end may take over it.
const GRACE: Duration = Duration::from_secs(2);
/// The smallest buffer that the HTTP/1 library takes.
const SMALLEST_BUFFER: usize = 8192;

const TIMED_OUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Serves a connection. `peer` is none for Unix sockets.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    source: Arc<ArcSwap<Listener>>,
    socket: Socket,
    peer: Option<SocketAddr>,
) {
    let listener = source.load_full();
    let current = shared.current.load_full();
    let limits = Arc::clone(&current.limits);
    let address = peer.unwrap_or_else(local_peer);
    let refused = |refusal: Refusal| shared.observer.refused(refusal, peer.map(|peer| peer.ip()));
    let entered = match shared.gate.enter(limits.connections) {
        Ok(entered) => Arc::new(entered),
        Err(refusal) => return refused(refusal),
    };
    // The connections of a proxy are those of its clients; they count where their address is known.
    let proxy = trusts(&current.table.options.trusted_proxies, address.ip());
    drop(current);
    let direct = peer.filter(|_| !proxy);
    if let Some(peer) = direct
        && let Err(refusal) = entered.belongs_to(peer.ip(), limits.connections_per_address)
    {
        return refused(refusal);
    }
    let opened = Opened {
        shared: &shared,
        listener: &listener,
        source: &source,
        limits: &limits,
    };
    let report = Report::opened(&shared.observer, &listener.name);
    let mut phase = shared.phase.subscribe();
    // In boxes: an idle connection pays only for what it is doing.
    let arrival = Box::pin(opened.arrive(Plain::new(socket), address, proxy, &entered));
    let arrived = tokio::select! {
        arrived = timeout(limits.handshake_timeout, arrival) => arrived,
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
    };
    let arrived = match arrived {
        Ok(Ok(arrived)) => arrived,
        Ok(Err(Some(refusal))) => return refused(refusal),
        Ok(Err(None)) => return,
        Err(_) => return refused(Refusal::HandshakeTimeout),
    };
    let conversation = Arc::new(Conversation {
        shared: Arc::clone(&shared),
        listener: Arc::clone(&listener.name),
        peer: arrived.peer,
        secure: arrived.secure,
        pulse: Arc::new(Pulse::new()),
        entered,
        _report: report,
    });
    speak(conversation, arrived.stream, listener.http2, &limits, phase).await;
}

/// Reports a connection, and its end when it is dropped.
pub(crate) struct Report {
    observer: Arc<dyn Observer>,
    listener: Arc<str>,
    began: std::time::Instant,
}

impl Report {
    fn opened(observer: &Arc<dyn Observer>, listener: &Arc<str>) -> Self {
        observer.connection(listener, ConnectionEvent::Opened);
        Self {
            observer: Arc::clone(observer),
            listener: Arc::clone(listener),
            began: std::time::Instant::now(),
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let lasted = self.began.elapsed();
        self.observer
            .connection(&self.listener, ConnectionEvent::Closed { lasted });
    }
}

struct Opened<'a> {
    shared: &'a Shared,
    listener: &'a Listener,
    source: &'a Arc<ArcSwap<Listener>>,
    limits: &'a Limits,
}

/// A connection that is ready for HTTP.
struct Arrived {
    stream: Stream,
    peer: SocketAddr,
    secure: Option<Secure>,
}

impl Opened<'_> {
    /// Takes the PROXY header and makes the TLS handshake. The error is none if there is nothing to
    /// report.
    async fn arrive(
        &self,
        mut plain: Plain,
        mut peer: SocketAddr,
        proxy: bool,
        entered: &Entered,
    ) -> Result<Arrived, Option<Refusal>> {
        let mode = self.listener.proxy_protocol;
        if mode == ProxyProtocol::Required && !proxy {
            return Err(Some(Refusal::ProxyProtocol));
        }
        if mode != ProxyProtocol::Off && proxy {
            let required = mode == ProxyProtocol::Required;
            let client = match proxy_protocol::take_header(&mut plain, required).await {
                Ok(client) => client,
                Err(ProxyError::Io(_)) => return Err(None),
                Err(error) => {
                    tracing::debug!(%peer, %error, "a connection was refused");
                    return Err(Some(Refusal::ProxyProtocol));
                }
            };
            if let Some(client) = client {
                peer = SocketAddr::new(client.ip().to_canonical(), client.port());
                entered.belongs_to(peer.ip(), self.limits.connections_per_address)?;
            }
        }
        let Some(store) = &self.listener.tls else {
            return Ok(Arrived {
                stream: Stream::Plain(plain),
                peer,
                secure: None,
            });
        };
        let began = std::time::Instant::now();
        match store.accept(plain).await {
            Ok((stream, connection)) => {
                let took = began.elapsed();
                let event = ConnectionEvent::Secured { took };
                self.shared.observer.connection(&self.listener.name, event);
                Ok(Arrived {
                    stream: Stream::Tls(Box::new(stream)),
                    peer,
                    secure: Some(Secure {
                        store: Arc::clone(store),
                        listener: Arc::clone(self.source),
                        connection,
                    }),
                })
            }
            Err(AcceptError::ChallengeAnswered) => Err(None),
            Err(error) => {
                tracing::debug!(%peer, reason = error.reason(), %error, "a TLS handshake failed");
                Err(Some(Refusal::Handshake))
            }
        }
    }
}

/// Speaks the version of HTTP that the client chose.
async fn speak(
    conversation: Arc<Conversation>,
    stream: Stream,
    http2: bool,
    limits: &Limits,
    mut phase: watch::Receiver<Phase>,
) {
    let (stream, http2) = match (&conversation.secure, stream) {
        (Some(secure), stream) => (stream, secure.connection.http2),
        (None, Stream::Plain(mut plain)) if http2 => {
            let listening = timeout(limits.idle_timeout, sniff(&mut plain));
            let heard = tokio::select! {
                heard = listening => heard,
                _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
            };
            match heard {
                Ok(Ok(http2)) => (Stream::Plain(plain), http2),
                // Nothing was said: there is nobody to answer.
                Ok(Err(_)) | Err(_) => return,
            }
        }
        (None, stream) => (stream, false),
    };
    let pulse = Arc::clone(&conversation.pulse);
    if http2 {
        pulse.multiplex();
        let inspector = Inspector::Http2(Frames::new(limits.h2_control_frames));
        let wire = Wire::new(stream, inspector, &conversation);
        Box::pin(speak_http2(conversation, wire, limits, phase)).await;
    } else {
        let buffer = limits.header_bytes.max(SMALLEST_BUFFER);
        let wire = Wire::new(
            stream,
            Inspector::Http1(Framing::new(buffer)),
            &conversation,
        );
        Box::pin(speak_http1(conversation, wire, limits, phase)).await;
    }
    if let Some(refusal) = pulse.spoilt_and_unanswered() {
        tracing::debug!(refusal = refusal.name(), "a connection was ended");
    }
}

/// Whether the client begins with HTTP/2. What was read is put back.
async fn sniff(plain: &mut Plain) -> std::io::Result<bool> {
    let mut bytes = BytesMut::with_capacity(1024);
    loop {
        if plain.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let length = bytes.len().min(PREFACE.len());
        let fits = bytes.get(..length) == PREFACE.get(..length);
        if !fits || length == PREFACE.len() {
            plain.put_back(bytes.freeze());
            return Ok(fits);
        }
    }
}

async fn speak_http1(
    conversation: Arc<Conversation>,
    wire: Wire,
    limits: &Limits,
    mut phase: watch::Receiver<Phase>,
) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Both are measured below, where idle connections and slow heads can be told apart.
        .header_read_timeout(None)
        .max_headers(limits.headers)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(SMALLEST_BUFFER))
        .half_close(false);
    let answering = Arc::clone(&conversation);
    let service = service_fn(move |request| {
        let answer = Arc::clone(&answering).answer(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = Box::pin(
        builder
            .serve_connection(TokioIo::new(wire), service)
            .with_upgrades(),
    );
    let overdue = drive(
        &conversation,
        connection.as_mut(),
        |c| c.graceful_shutdown(),
        limits,
        &mut phase,
    )
    .await;
    match overdue {
        None | Some(Overdue::Idle) => {}
        Some(Overdue::Stalled) => conversation.stalled(),
        Some(Overdue::Head) => {
            conversation.refused(Refusal::HeaderTimeout);
            if let Some(parts) = unpin(connection).into_parts() {
                let mut wire = parts.io.into_inner();
                let _ = timeout(GRACE, wire.write_all(TIMED_OUT)).await;
                let _ = timeout(GRACE, wire.shutdown()).await;
            }
        }
    }
}

/// Takes a value that can be moved out of its pinned box.
fn unpin<T: Unpin>(pinned: Pin<Box<T>>) -> T {
    *Pin::into_inner(pinned)
}

async fn speak_http2(
    conversation: Arc<Conversation>,
    wire: Wire,
    limits: &Limits,
    mut phase: watch::Receiver<Phase>,
) {
    let header_list = u32::try_from(limits.header_bytes).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        .initial_stream_window_size(limits.h2_stream_window)
        .initial_connection_window_size(limits.h2_connection_window)
        .max_send_buf_size(limits.h2_send_buffer)
        .max_header_list_size(header_list)
        .max_pending_accept_reset_streams(limits.h2_pending_resets)
        .max_local_error_reset_streams(limits.h2_error_resets)
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.stall_timeout)
        .enable_connect_protocol();
    let answering = Arc::clone(&conversation);
    let service = service_fn(move |request| {
        let answer = Arc::clone(&answering).answer(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(wire), service));
    let overdue = drive(
        &conversation,
        connection.as_mut(),
        |c| c.graceful_shutdown(),
        limits,
        &mut phase,
    )
    .await;
    match overdue {
        None => {}
        Some(Overdue::Idle) => {
            // GOAWAY, and a moment for the client to take it.
            connection.as_mut().graceful_shutdown();
            let _ = timeout(GRACE, connection).await;
        }
        Some(Overdue::Stalled) => conversation.stalled(),
        Some(Overdue::Head) => conversation.refused(Refusal::HeaderTimeout),
    }
}

/// Runs a connection to its end, or until it is overdue. `finish` has it take no new request.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    conversation: &Conversation,
    mut connection: Pin<&mut C>,
    finish: fn(Pin<&mut C>),
    limits: &Limits,
    phase: &mut watch::Receiver<Phase>,
) -> Option<Overdue> {
    let mut watchdog = Watchdog::new(&conversation.pulse, limits);
    loop {
        let event = tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    report(conversation, &error);
                }
                return None;
            }
            event = watchdog.wait(phase) => event,
        };
        match event {
            Event::End => finish(connection.as_mut()),
            Event::Cut => return None,
            Event::Overdue(overdue) => return Some(overdue),
        }
    }
}

/// What a connection must react to, besides its client.
enum Event {
    /// No new request.
    End,
    /// At once.
    Cut,
    Overdue(Overdue),
}

struct Watchdog<'a> {
    pulse: &'a Pulse,
    limits: &'a Limits,
    asked_to_end: bool,
}

impl<'a> Watchdog<'a> {
    fn new(pulse: &'a Pulse, limits: &'a Limits) -> Self {
        Self {
            pulse,
            limits,
            asked_to_end: false,
        }
    }

    async fn wait(&mut self, phase: &mut watch::Receiver<Phase>) -> Event {
        loop {
            let next = match self.pulse.check(self.limits) {
                Ok(next) => next,
                Err(overdue) => return Event::Overdue(overdue),
            };
            let asked_to_end = self.asked_to_end;
            let changed = phase.wait_for(|phase| match phase {
                Phase::Serving => false,
                Phase::Draining => !asked_to_end,
                Phase::Cutting => true,
            });
            tokio::select! {
                phase = changed => {
                    return match phase.as_deref() {
                        Ok(Phase::Draining) => {
                            self.asked_to_end = true;
                            Event::End
                        }
                        _ => Event::Cut,
                    };
                }
                () = self.pulse.until_last() => return Event::End,
                () = tokio::time::sleep(next) => {}
            }
        }
    }
}

/// Reports what the HTTP library refused by itself.
fn report(conversation: &Conversation, error: &hyper::Error) {
    let refusal = if let Some(refusal) = conversation.pulse.spoilt_and_unanswered() {
        refusal
    } else if error.is_parse_too_large() {
        Refusal::HeadersTooLarge
    } else if error.is_parse() {
        Refusal::MalformedHead
    } else {
        tracing::debug!(peer = %conversation.peer, %error, "a connection broke");
        return;
    };
    conversation.refused(refusal);
}
