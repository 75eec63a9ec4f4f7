//! Runs the HTTP library on a connection, and ends the connection when its client is too slow or the gateway drains.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::Either;
use futures_util::stream::FuturesUnordered;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::access::Refusal;
use crate::credential::KeyWaiter;
use crate::http::connection::Connection;
use crate::http::connection_state::ConnectionState;
use crate::http::h1_framing::H1Framing;
use crate::http::h2_frame_limiter::H2FrameLimiter;
use crate::http::inspected_stream::{InspectedStream, Inspector};
use crate::http::service;
use crate::http::timeouts::ConnectionTimeout;
use crate::limits::Limits;
use crate::listener::stream::ClientStream;
use crate::state::Phase;

/// How long a connection that was asked to end may take over it.
const GRACE: Duration = Duration::from_secs(2);
/// The smallest buffer that the HTTP/1 library takes.
const SMALLEST_BUFFER: usize = 8192;

const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

pub(crate) async fn serve_http1(
    connection: Arc<Connection>,
    stream: ClientStream,
    limits: &Limits,
    mut phase: watch::Receiver<Phase>,
) {
    let buffer = limits.header_bytes.max(SMALLEST_BUFFER);
    let stream = inspect(
        &connection,
        stream,
        Inspector::Http1(H1Framing::new(buffer)),
    );
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // `ConnectionTimers` measures it, and distinguishes idle connections from slow heads.
        .header_read_timeout(None)
        .max_headers(limits.headers)
        .max_header_size(limits.header_bytes)
        .max_buf_size(buffer)
        .half_close(false);
    let answering = Arc::clone(&connection);
    let service = service_fn(move |request| {
        let answer = service::answer(Arc::clone(&answering), request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut driven = Box::pin(
        builder
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades(),
    );
    let timed_out = drive(
        &connection,
        driven.as_mut(),
        |driven| driven.graceful_shutdown(),
        limits,
        &mut phase,
    )
    .await;
    match timed_out {
        None | Some(ConnectionTimeout::Idle) => {}
        Some(ConnectionTimeout::Stalled) => reset_stalled(&connection),
        Some(ConnectionTimeout::Head) => {
            connection.report_refused(Refusal::HeaderTimeout);
            if let Some(parts) = unpin(driven).into_parts() {
                let mut stream = parts.io.into_inner();
                let _ = timeout(GRACE, stream.write_all(REQUEST_TIMEOUT)).await;
                let _ = timeout(GRACE, stream.shutdown()).await;
            }
        }
    }
}

/// Takes a value that can be moved out of its pinned box.
fn unpin<T: Unpin>(pinned: Pin<Box<T>>) -> T {
    *Pin::into_inner(pinned)
}

pub(crate) async fn serve_http2(
    connection: Arc<Connection>,
    stream: ClientStream,
    limits: &Limits,
    mut phase: watch::Receiver<Phase>,
) {
    let frames = H2FrameLimiter::new(limits.h2_control_frames);
    let stream = inspect(&connection, stream, Inspector::Http2(frames));
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
    let answering = Arc::clone(&connection);
    let service = service_fn(move |request| {
        let answer = service::answer(Arc::clone(&answering), request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut driven = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let timed_out = drive(
        &connection,
        driven.as_mut(),
        |driven| driven.graceful_shutdown(),
        limits,
        &mut phase,
    )
    .await;
    match timed_out {
        None => {}
        Some(ConnectionTimeout::Idle) => {
            // GOAWAY, and a moment for the client to take it.
            driven.as_mut().graceful_shutdown();
            let _ = timeout(GRACE, driven).await;
        }
        Some(ConnectionTimeout::Stalled) => reset_stalled(&connection),
        Some(ConnectionTimeout::Head) => connection.report_refused(Refusal::HeaderTimeout),
    }
}

fn inspect(connection: &Connection, stream: ClientStream, inspector: Inspector) -> InspectedStream {
    InspectedStream::new(
        stream,
        inspector,
        Arc::clone(&connection.state),
        Arc::clone(&connection.permit),
    )
}

/// Ends a connection whose client takes nothing any more.
fn reset_stalled(connection: &Connection) {
    connection.state.close.reset();
    connection.report_refused(Refusal::Stalled);
}

/// Runs a connection to its end, or until it has waited too long. `finish` makes it take no new request.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    connection: &Connection,
    mut driven: Pin<&mut C>,
    finish: fn(Pin<&mut C>),
    limits: &Limits,
    phase: &mut watch::Receiver<Phase>,
) -> Option<ConnectionTimeout> {
    let mut watchdog = Watchdog::new(&connection.state, limits);
    let mut key = KeyWaiter::new(&connection.state.key_watch);
    loop {
        // In a set, which polls them only when something woke them: requests wake this task far more often.
        let mut watching = FuturesUnordered::new();
        watching.push(Either::Left(watchdog.wait(phase)));
        watching.push(Either::Right(async {
            key.wait().await;
            Order::Poll
        }));
        let order = tokio::select! {
            biased;
            result = driven.as_mut() => {
                if let Err(error) = result {
                    report_failure(connection, &error);
                }
                return None;
            }
            Some(order) = watching.next() => order,
        };
        drop(watching);
        match order {
            Order::Poll => {}
            Order::Finish => finish(driven.as_mut()),
            Order::Cut => return None,
            Order::TimeOut(timeout) => return Some(timeout),
        }
    }
}

/// What must become of a connection, whatever its client does.
enum Order {
    /// Its requests are polled: the key that they have is no longer valid.
    Poll,
    /// It takes no new request.
    Finish,
    /// It ends now.
    Cut,
    /// It has waited too long.
    TimeOut(ConnectionTimeout),
}

/// Watches the timers of a connection and the phase of the gateway.
struct Watchdog<'a> {
    state: &'a ConnectionState,
    limits: &'a Limits,
    asked_to_finish: bool,
}

impl<'a> Watchdog<'a> {
    fn new(state: &'a ConnectionState, limits: &'a Limits) -> Self {
        Self {
            state,
            limits,
            asked_to_finish: false,
        }
    }

    async fn wait(&mut self, phase: &mut watch::Receiver<Phase>) -> Order {
        loop {
            let next = match self.state.timers.check(self.limits) {
                Ok(next) => next,
                Err(timeout) => return Order::TimeOut(timeout),
            };
            let asked_to_finish = self.asked_to_finish;
            let changed = phase.wait_for(|phase| match phase {
                Phase::Serving => false,
                Phase::Draining => !asked_to_finish,
                Phase::Cutting => true,
            });
            tokio::select! {
                phase = changed => {
                    return match phase.as_deref() {
                        Ok(Phase::Draining) => {
                            self.asked_to_finish = true;
                            Order::Finish
                        }
                        _ => Order::Cut,
                    };
                }
                () = self.state.requests.until_last() => return Order::Finish,
                () = tokio::time::sleep(next) => {}
            }
        }
    }
}

/// Reports what the HTTP library refused by itself.
fn report_failure(connection: &Connection, error: &hyper::Error) {
    let refusal = if let Some(refusal) = connection.state.input.take_unreported() {
        refusal
    } else if error.is_parse_too_large() {
        Refusal::HeadersTooLarge
    } else if error.is_parse() {
        Refusal::MalformedHead
    } else {
        tracing::debug!(peer = %connection.peer, %error, "a connection broke");
        return;
    };
    connection.report_refused(refusal);
}
