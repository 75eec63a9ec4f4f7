//! A WebSocket between a client and a guest (RFC 6455).
//!
//! Messages pass one by one and wait for the side that takes them: a slow guest makes the client wait instead of
//! filling memory. Pings, fragments, masks and the closing handshake stay here.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use stockade_auth::KeyId;
use stockade_http::{GuestSocket, SocketMessage};
use stockade_limits::{Now, RateLimiter, Reported};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::access::{Observer, SocketRecord, Transferred};
use crate::http::connection_state::ConnectionState;
use crate::limits::SocketLimits;
use crate::rate::{Charges, Unit};
use crate::state::Phase;

/// Close codes (RFC 6455, section 7.4.1, and IANA's registry).
const GOING_AWAY: u16 = 1001;
const PROTOCOL: u16 = 1002;
const NO_CODE: u16 = 1005;
const BROKEN: u16 = 1006;
const NOT_TEXT: u16 = 1007;
const POLICY: u16 = 1008;
const TOO_LARGE: u16 = 1009;
const RESTART: u16 = 1012;

/// A WebSocket about to be relayed.
pub(crate) struct Relay {
    pub(crate) guest: GuestSocket,
    pub(crate) limits: SocketLimits,
    pub(crate) route: Arc<str>,
    pub(crate) api_key: Option<KeyId>,
    pub(crate) request_id: Arc<str>,
    pub(crate) client: SocketAddr,
    /// What its messages count against.
    pub(crate) charges: Option<Arc<Charges>>,
    pub(crate) phase: watch::Receiver<Phase>,
    /// Ends when the credential that opened the WebSocket is no longer valid.
    pub(crate) credential_ends: BoxFuture<'static, ()>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) connection: Arc<ConnectionState>,
}

/// Why a relay ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The client closed; its close frame has been answered.
    Client { code: u16, reason: String },
    /// The gateway closes.
    Gateway { code: u16, reason: &'static str },
    /// The guest closed.
    Guest { code: u16, reason: String },
    /// Nothing can be sent to the client any more.
    Broken,
}

/// What both directions share.
struct RelayProgress {
    limits: SocketLimits,
    began: Instant,
    /// When bytes of the client were last received, or it was last not read; milliseconds since the beginning.
    last_received: AtomicU64,
    /// The client is not read: the guest is slow, or the client over its rate.
    paused: AtomicBool,
    messages_in: AtomicU64,
    messages_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    charges: Option<Arc<Charges>>,
    reported: Mutex<Reported>,
}

impl RelayProgress {
    fn new(limits: SocketLimits, charges: Option<Arc<Charges>>) -> Self {
        let began = Instant::now();
        Self {
            limits,
            charges,
            began,
            last_received: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            messages_in: AtomicU64::new(0),
            messages_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            reported: Mutex::new(Reported::new(began)),
        }
    }

    fn received(&self) {
        // Rounded up, so that the answer to a ping is never older than the ping.
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        self.last_received.store(now, Relaxed);
    }

    /// Bytes that came from the client, and from the guest.
    fn bytes(&self) -> (u64, u64) {
        (self.bytes_in.load(Relaxed), self.bytes_out.load(Relaxed))
    }

    fn last_received(&self) -> Instant {
        self.began + Duration::from_millis(self.last_received.load(Relaxed))
    }

    fn pause(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
    }

    /// Counts bytes against what the client may use, and waits while it has used more. One that would wait long is
    /// better closed: its messages would be of no use by then.
    async fn charge(&self, unit: Unit, bytes: usize) -> Result<(), End> {
        let Some(charges) = &self.charges else {
            return Ok(());
        };
        let now = Now::read();
        let mut wait = charges.used(unit, bytes as u64, now);
        if unit == Unit::BytesIn {
            // What the guest does with the message is more of what the client has used up.
            wait = wait.max(charges.used(Unit::Cpu, 0, now));
        }
        if wait > LONGEST_WAIT {
            return Err(End::Gateway {
                code: POLICY,
                reason: "a limit is used up",
            });
        }
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }
}

fn add(count: &AtomicU64, more: usize) {
    count.fetch_add(more as u64, Relaxed);
}

/// How often a WebSocket reports the bytes that it has moved.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Reports the bytes so far. Never ends.
async fn report_progress(
    observer: &Arc<dyn Observer>,
    route: &Arc<str>,
    api_key: Option<KeyId>,
    progress: &RelayProgress,
) {
    loop {
        sleep(REPORT_EVERY).await;
        let (bytes_in, bytes_out) = progress.bytes();
        let due = progress
            .reported
            .lock()
            .due(bytes_in, bytes_out, Instant::now());
        if let Some((bytes_in, bytes_out)) = due {
            observer.transferred(&Transferred {
                route: Arc::clone(route),
                api_key,
                bytes_in,
                bytes_out,
            });
        }
    }
}

/// Starts the relay as a task of its own, as soon as the HTTP library hands the connection over. `permits` is dropped
/// when the WebSocket is over.
pub(crate) fn start(relay: Relay, upgrade: OnUpgrade, permits: impl Send + 'static) {
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => run(relay, upgraded).await,
            Err(error) => relay.not_opened(&error),
        }
        drop(permits);
    });
}

/// Relays until either side ends.
async fn run(relay: Relay, upgraded: hyper::upgrade::Upgraded) {
    let config = WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(16 * 1024)
        .max_write_buffer_size(2 * relay.limits.message_bytes + 128 * 1024)
        .max_message_size(Some(relay.limits.message_bytes))
        .max_frame_size(Some(relay.limits.message_bytes));
    let io = TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (mut sink, mut source) = socket.split();
    let progress = RelayProgress::new(relay.limits, relay.charges);
    let GuestSocket {
        to_guest,
        mut from_guest,
    } = relay.guest;
    let mut phase = relay.phase;
    let end = tokio::select! {
        end = client_to_guest(&mut source, &to_guest, &progress) => end,
        end = guest_to_client(&mut sink, &mut from_guest, &progress) => end,
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => {
            End::Gateway { code: GOING_AWAY, reason: "the server is going away" }
        }
        () = report_progress(&relay.observer, &relay.route, relay.api_key, &progress) => End::Broken,
        () = relay.credential_ends => {
            End::Gateway { code: POLICY, reason: "the API key or token is no longer valid" }
        }
    };
    let grace = progress.limits.pong_timeout;
    let closing = async {
        if matches!(end, End::Gateway { .. }) {
            // After an error the client is not read any more, and may be in the middle of its message.
            relay.connection.close.linger();
        }
        close(&end, &to_guest, &mut sink, &mut source, grace).await;
    };
    let cut = phase.wait_for(|phase| *phase == Phase::Cutting);
    tokio::select! {
        () = closing => {}
        _ = cut => {}
    }
    let (code, by_client) = match end {
        End::Client { code, .. } => (code, true),
        End::Gateway { code, .. } => (code, false),
        End::Guest { code, .. } => (code, false),
        End::Broken => (BROKEN, true),
    };
    let (bytes_in, bytes_out) = progress.bytes();
    relay.observer.socket(&SocketRecord {
        request_id: relay.request_id,
        route: relay.route,
        api_key: relay.api_key,
        client: relay.client,
        lasted: progress.began.elapsed(),
        messages_in: progress.messages_in.load(Relaxed),
        messages_out: progress.messages_out.load(Relaxed),
        bytes_in,
        bytes_out,
        unreported: progress.reported.lock().rest(bytes_in, bytes_out),
        code,
        by_client,
    });
}

/// The closing handshake with both sides; neither can make it last.
async fn close<W, R>(
    end: &End,
    to_guest: &mpsc::Sender<SocketMessage>,
    sink: &mut W,
    source: &mut R,
    grace: Duration,
) where
    W: Sink<Message, Error = WsError> + Unpin,
    R: Stream<Item = Result<Message, WsError>> + Unpin,
{
    match end {
        End::Client { code, reason } => {
            // The library has prepared the answer.
            let answering = async {
                let _ = sink.flush().await;
                let _ = sink.close().await;
            };
            let _ = tokio::join!(
                close_guest(to_guest, *code, reason.clone(), grace),
                timeout(grace, answering)
            );
        }
        End::Gateway { code, reason } => {
            tokio::join!(
                close_guest(to_guest, *code, (*reason).to_owned(), grace),
                close_client(sink, source, close_frame(*code, reason), grace)
            );
        }
        End::Guest { code, reason } => {
            // The side that closes first gets what the other one answers (RFC 6455, section 7.1.5).
            let answer = close_client(sink, source, close_frame(*code, reason), grace).await;
            let (code, reason) = answer.unwrap_or((BROKEN, String::new()));
            close_guest(to_guest, code, reason, grace).await;
        }
        End::Broken => close_guest(to_guest, BROKEN, String::new(), grace).await,
    }
}

async fn close_guest(
    to_guest: &mpsc::Sender<SocketMessage>,
    code: u16,
    reason: String,
    grace: Duration,
) {
    let close = SocketMessage::Close { code, reason };
    let _ = timeout(grace, to_guest.send(close)).await;
}

/// Closes towards the client; gives code and reason of its own close frame, if that comes in time.
async fn close_client<W, R>(
    sink: &mut W,
    source: &mut R,
    frame: Option<CloseFrame>,
    grace: Duration,
) -> Option<(u16, String)>
where
    W: Sink<Message, Error = WsError> + Unpin,
    R: Stream<Item = Result<Message, WsError>> + Unpin,
{
    let closing = async {
        sink.send(Message::Close(frame)).await.ok()?;
        while let Some(Ok(message)) = source.next().await {
            if let Message::Close(frame) = message {
                return Some(code_and_reason(frame));
            }
        }
        None
    };
    timeout(grace, closing).await.ok().flatten()
}

/// Code and reason of a close frame.
fn code_and_reason(frame: Option<CloseFrame>) -> (u16, String) {
    frame.map_or((NO_CODE, String::new()), |frame| {
        (frame.code.into(), frame.reason.as_str().to_owned())
    })
}

impl Relay {
    /// Reports a WebSocket whose client went away before the handshake was complete.
    fn not_opened(self, error: &hyper::Error) {
        tracing::debug!(request_id = %self.request_id, %error, "a WebSocket was accepted but not opened");
        let code = BROKEN;
        let _ = self.guest.to_guest.try_send(SocketMessage::Close {
            code,
            reason: String::new(),
        });
        self.observer.socket(&SocketRecord {
            request_id: self.request_id,
            route: self.route,
            api_key: self.api_key,
            client: self.client,
            lasted: Duration::ZERO,
            messages_in: 0,
            messages_out: 0,
            bytes_in: 0,
            bytes_out: 0,
            unreported: (0, 0),
            code,
            by_client: true,
        });
    }
}

/// From the client to the guest.
async fn client_to_guest<S>(
    source: &mut S,
    to_guest: &mpsc::Sender<SocketMessage>,
    progress: &RelayProgress,
) -> End
where
    S: Stream<Item = Result<Message, WsError>> + Unpin,
{
    let per_second = NonZeroU64::new(progress.limits.messages_per_second.into());
    let mut rate = RateLimiter::new(per_second.unwrap_or(NonZeroU64::MIN), MESSAGES_AT_ONCE);
    loop {
        let message = match source.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return failed(&error),
            None => return End::Broken,
        };
        progress.received();
        let bytes = message.len();
        let message = match message {
            Message::Text(text) => {
                add(&progress.bytes_in, text.len());
                SocketMessage::Text(text.as_str().to_owned())
            }
            Message::Binary(data) => {
                add(&progress.bytes_in, data.len());
                SocketMessage::Binary(data)
            }
            Message::Close(frame) => {
                let (code, reason) = code_and_reason(frame);
                return End::Client { code, reason };
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
                // They cost as much as messages do.
                progress.pause(true);
                wait_for(&mut rate).await;
                progress.pause(false);
                continue;
            }
        };
        add(&progress.messages_in, 1);
        progress.pause(true);
        wait_for(&mut rate).await;
        if let Err(end) = progress.charge(Unit::BytesIn, bytes).await {
            return end;
        }
        if to_guest.send(message).await.is_err() {
            // What the guest says last comes from the other direction.
            std::future::pending::<()>().await;
        }
        progress.pause(false);
        progress.received();
    }
}

/// From the guest to the client, and pings.
async fn guest_to_client<S>(
    sink: &mut S,
    from_guest: &mut mpsc::Receiver<SocketMessage>,
    progress: &RelayProgress,
) -> End
where
    S: Sink<Message, Error = WsError> + Unpin,
{
    let mut pinged: Option<Instant> = None;
    loop {
        let wait_until = pinged.map_or(
            progress.last_received() + progress.limits.ping_interval,
            |at| at + progress.limits.pong_timeout,
        );
        let message = tokio::select! {
            message = from_guest.recv() => message,
            () = sleep_until(wait_until.into()) => {
                let now = Instant::now();
                if progress.paused.load(Relaxed) {
                    progress.received();
                    pinged = None;
                } else if pinged.is_some_and(|at| progress.last_received() < at) {
                    return End::Broken;
                } else if now.duration_since(progress.last_received()) >= progress.limits.ping_interval {
                    if !sent(sink, Message::Ping(Bytes::new()), true, progress).await {
                        return End::Broken;
                    }
                    pinged = Some(now);
                } else {
                    pinged = None;
                }
                continue;
            }
        };
        let message = match message {
            None => {
                return End::Gateway {
                    code: RESTART,
                    reason: "the site was restarted",
                };
            }
            Some(SocketMessage::Close { code, reason }) => return End::Guest { code, reason },
            Some(SocketMessage::Text(text)) => Message::text(text),
            Some(SocketMessage::Binary(data)) => Message::Binary(data),
        };
        if message.len() > progress.limits.message_bytes {
            return End::Gateway {
                code: TOO_LARGE,
                reason: "the site's message is too large",
            };
        }
        add(&progress.messages_out, 1);
        add(&progress.bytes_out, message.len());
        if let Err(end) = progress.charge(Unit::BytesOut, message.len()).await {
            return end;
        }
        if !sent(sink, message, from_guest.is_empty(), progress).await {
            return End::Broken;
        }
    }
}

/// Hands a message to the connection, and waits until it is taken if `flush` says so.
async fn sent<S>(sink: &mut S, message: Message, flush: bool, progress: &RelayProgress) -> bool
where
    S: Sink<Message, Error = WsError> + Unpin,
{
    let sending = async {
        sink.feed(message).await?;
        if flush { sink.flush().await } else { Ok(()) }
    };
    matches!(
        timeout(progress.limits.pong_timeout, sending).await,
        Ok(Ok(()))
    )
}

fn failed(error: &WsError) -> End {
    match error {
        WsError::Capacity(CapacityError::MessageTooLong { .. }) => End::Gateway {
            code: TOO_LARGE,
            reason: "the message is too large",
        },
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Broken,
        WsError::Capacity(_) | WsError::Protocol(_) | WsError::AttackAttempt => End::Gateway {
            code: PROTOCOL,
            reason: "the frame is not valid",
        },
        WsError::Utf8(_) => End::Gateway {
            code: NOT_TEXT,
            reason: "the text is not UTF-8",
        },
        _ => End::Broken,
    }
}

/// None for a code that stands for the absence of one.
fn close_frame(code: u16, reason: &str) -> Option<CloseFrame> {
    if code == NO_CODE {
        return None;
    }
    let code = match code {
        // IANA has given it a meaning (bad gateway) that the library does not know.
        1014 => CloseCode::Library(code),
        code => Some(CloseCode::from(code))
            .filter(|code| code.is_allowed())
            .unwrap_or(CloseCode::Error),
    };
    // A close frame holds 125 bytes with the code.
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let reason = reason.get(..end).unwrap_or_default().to_owned().into();
    Some(CloseFrame { code, reason })
}

/// Waits until the rate allows another message.
async fn wait_for(rate: &mut RateLimiter) {
    let wait = rate.take(1, Instant::now());
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

/// How long a message may wait for a limit of bytes.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Messages of this time may come at once.
const MESSAGES_AT_ONCE: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_frame_holds_only_what_may_be_sent() {
        let code = |code| close_frame(code, "").map(|frame| u16::from(frame.code));
        assert_eq!(code(1000), Some(1000));
        assert_eq!(code(4999), Some(4999));
        assert_eq!(code(NO_CODE), None);
        assert_eq!(code(BROKEN), Some(1011));
        assert_eq!(code(0), Some(1011));
        for sent in [1012, 1013, 1014, 3000] {
            assert_eq!(code(sent), Some(sent));
        }
        for never in [999, 1004, 1015, 1016, 2999, 5000] {
            assert_eq!(code(never), Some(1011), "{never}");
        }
        let long = close_frame(1000, &"é".repeat(100)).unwrap();
        assert_eq!(long.reason.len(), 122);
    }
}
