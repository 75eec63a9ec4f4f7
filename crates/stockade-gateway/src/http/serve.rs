//! One connection, from its acceptance to its end.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::access::{ConnectionReport, Refusal};
use crate::http::connection::Connection;
use crate::http::connection_state::ConnectionState;
use crate::http::driver;
use crate::http::forwarded::{address_text, trusts};
use crate::limits::Limits;
use crate::listener::accept::AcceptedSocket;
use crate::listener::establish::{EstablishedConnection, Establisher, LOCAL_PEER};
use crate::listener::flows::Flow;
use crate::listener::options::Listener;
use crate::listener::stream::{ClientStream, PlainStream, set_options};
use crate::state::{GatewayState, Phase};
use crate::target::{StreamConnection, Transport};

/// How long a client that has connected before the gateway drains may take to send its first bytes. They are often under way.
const FIRST_BYTES: Duration = Duration::from_secs(1);
/// How a client begins HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection until it ends.
pub(crate) async fn serve(gateway: Arc<GatewayState>, accepted: AcceptedSocket) {
    let AcceptedSocket {
        socket,
        peer,
        listener: replaced,
    } = accepted;
    let listener = replaced.load_full();
    let config = gateway.config.load_full();
    let limits = Arc::clone(&config.limits);
    let report_refused = |refusal: Refusal| {
        gateway
            .observer
            .refused(refusal, peer.map(|peer| peer.ip()))
    };

    set_options(&socket, limits.stall_timeout);

    // Count the connection. Connections of a proxy count for its clients, as soon as their addresses are known.
    let permit = match gateway.connections.acquire(limits.connections) {
        Ok(permit) => Arc::new(permit),
        Err(refusal) => return report_refused(refusal),
    };
    let address = peer.unwrap_or(LOCAL_PEER);
    let from_proxy = trusts(&config.table.options.trusted_proxies, address.ip());
    drop(config);
    if let Some(direct) = peer.filter(|_| !from_proxy)
        && let Err(refusal) = permit.count_for(direct.ip(), limits.connections_per_address)
    {
        return report_refused(refusal);
    }

    // Take the PROXY header and make the TLS handshake.
    let report = ConnectionReport::new(&gateway.observer, &listener.name);
    let mut phase = gateway.phase.clone();
    let establisher = Establisher {
        listener: &listener,
        replaced: &replaced,
        limits: &limits,
        observer: &*gateway.observer,
        permit: &permit,
    };
    // In a box, like what follows: an idle connection pays only for what it is doing.
    let establishing =
        Box::pin(establisher.establish(PlainStream::new(socket), address, from_proxy));
    let established = tokio::select! {
        established = timeout(limits.handshake_timeout, establishing) => established,
        () = late(&mut phase) => return,
    };
    let EstablishedConnection { stream, peer, tls } = match established {
        Ok(Ok(established)) => established,
        Ok(Err(Some(refusal))) => return report_refused(refusal),
        Ok(Err(None)) => return,
        Err(_) => return report_refused(Refusal::HandshakeTimeout),
    };

    // A connection without HTTP belongs to its target.
    if let Some(streams) = &listener.streams {
        let connection = StreamConnection {
            stream: Box::new(stream),
            peer,
            listener: Arc::clone(&listener.name),
            transport: match tls {
                Some(_) => Transport::Tls,
                None => Transport::Plain,
            },
        };
        tokio::select! {
            () = streams.0.carry(connection) => {}
            _ = phase.wait_for(|phase| *phase == Phase::Cutting) => {}
        }
        // Until here it counts.
        drop((permit, report));
        return;
    }

    // Find the version of HTTP. A client that sends nothing gets no answer.
    let detected = match (&tls, stream) {
        (Some(tls), stream) => Some((stream, tls.connection.http2)),
        (None, ClientStream::Left(plain)) if listener.http2 => {
            detect_http2(plain, &limits, &mut phase).await
        }
        (None, stream) => Some((stream, false)),
    };
    let Some((stream, http2)) = detected else {
        return;
    };

    // Serve HTTP.
    let connection = Arc::new(Connection {
        gateway: Arc::clone(&gateway),
        listener: Arc::clone(&listener.name),
        peer,
        peer_text: address_text(peer.ip()),
        tls,
        state: Arc::new(ConnectionState::new(http2)),
        permit,
        _report: report,
    });
    let state = Arc::clone(&connection.state);
    if http2 {
        Box::pin(driver::serve_http2(connection, stream, &limits, phase)).await;
    } else {
        Box::pin(driver::serve_http1(connection, stream, &limits, phase)).await;
    }
    if let Some(refusal) = state.input.take_unreported() {
        tracing::debug!(refusal = refusal.name(), "a connection was ended");
    }
}

/// Serves a flow of datagrams in a task of its own, which ends with it.
pub(crate) fn serve_flow(
    gateway: &Arc<GatewayState>,
    flow: Flow,
    listener: Arc<Listener>,
) -> Result<(), Refusal> {
    // Count the flow, as a connection.
    let limits = Arc::clone(&gateway.config.load().limits);
    let permit = gateway.connections.acquire(limits.connections)?;
    permit.count_for(flow.peer.ip(), limits.connections_per_address)?;
    let report = ConnectionReport::new(&gateway.observer, &listener.name);

    // Carry it.
    let (observer, peer) = (Arc::clone(&gateway.observer), flow.peer);
    let mut phase = gateway.phase.clone();
    tokio::spawn(async move {
        let refused = move |refusal| observer.refused(refusal, Some(peer.ip()));
        let (stream, carried) = flow.open(refused);
        if let Some(streams) = &listener.streams {
            let connection = StreamConnection {
                stream: Box::new(stream),
                peer,
                listener: Arc::clone(&listener.name),
                transport: Transport::Datagrams,
            };
            let carried = async {
                carried.await;
                // The handler may go on for a while.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = streams.0.carry(connection) => {}
                () = carried => {}
                _ = phase.wait_for(|phase| *phase == Phase::Cutting) => {}
            }
        }
        // Until here it counts.
        drop((permit, report));
    });
    Ok(())
}

/// Done when the gateway drains, and clients that had connected before have had time to begin.
async fn late(phase: &mut watch::Receiver<Phase>) {
    if phase
        .wait_for(|phase| *phase != Phase::Serving)
        .await
        .is_err()
    {
        return;
    }
    let cuts = phase.wait_for(|phase| *phase == Phase::Cutting);
    let _ = timeout(FIRST_BYTES, cuts).await;
}

/// Whether the client begins with HTTP/2, and the stream with all of its bytes; none if the client says nothing in
/// time or the gateway drains.
async fn detect_http2(
    mut plain: PlainStream,
    limits: &Limits,
    phase: &mut watch::Receiver<Phase>,
) -> Option<(ClientStream, bool)> {
    let reading = timeout(limits.idle_timeout, read_preface(&mut plain));
    let http2 = tokio::select! {
        read = reading => read.ok()?.ok()?,
        () = late(phase) => return None,
    };
    Some((ClientStream::Left(plain), http2))
}

/// Whether the client begins with the preface of HTTP/2. What was read is put back.
async fn read_preface(plain: &mut PlainStream) -> std::io::Result<bool> {
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
