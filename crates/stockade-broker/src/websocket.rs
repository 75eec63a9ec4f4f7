//! WebSockets of guests towards servers (RFC 6455).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, StreamExt as _};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Uri};
use parking_lot::Mutex;
use stockade_http::{SocketMessage, UpstreamSocket};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};

use crate::audit::{Action, Reason};
use crate::connector::{GuestStream, Speaks};
use crate::egress::{Egress, invalid, timed_out};
use crate::error::EgressError;
use crate::in_flight::{Begun, InFlight};
use crate::secrets::Secrets;
use crate::target::Target;

/// Messages that wait, each way.
const QUEUED: usize = 16;
/// Subprotocols that a guest may offer.
const MOST_PROTOCOLS: usize = 32;
/// Bytes that are read at once.
const READ: usize = 16 * 1024;
/// How long the other end may take to answer a close frame.
const CLOSING: Duration = Duration::from_secs(5);

impl Egress {
    /// Opens a WebSocket, under policy.
    ///
    /// # Errors
    /// See [`EgressError`].
    pub async fn websocket(
        self: Arc<Self>,
        url: String,
        protocols: Vec<String>,
    ) -> Result<UpstreamSocket, EgressError> {
        let started = Instant::now();
        let uri: Uri = url.parse().map_err(|error| invalid("the URL", error))?;
        let mut target = self.target(Action::WebSocket, &uri)?;
        // The WHATWG's constructor takes http: and https: as well.
        target.websocket = true;
        let mut headers = HeaderMap::new();
        if let Some(offered) = offer(&protocols)? {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
        }
        let admitted = self.admit(Action::WebSocket, &target, &Method::GET)?;
        let refuse = |target: &Target, reason| {
            self.refuse_under(&admitted, Action::WebSocket, target, reason)
        };
        let filled = self.fill(&mut headers, &mut target);
        filled.map_err(|reason| refuse(&target, reason))?;
        let limits = &self.policy.limits;
        let place = self.sockets.clone().try_acquire_owned().map_err(|_| {
            let reason = Reason::Concurrency {
                limit: limits.websockets,
            };
            refuse(&target, reason)
        })?;
        self.quota
            .request()
            .map_err(|reason| refuse(&target, reason))?;
        let limit = limits.connect_timeout;
        let open = async {
            let allowed = self
                .checked_addresses(Action::WebSocket, &admitted, &target)
                .await?;
            let connected = self.connect(&target, &allowed, Speaks::WebSocket).await?;
            let shaken = self.shake_hands(&target, headers, connected.stream);
            Ok((allowed.rule, shaken.await?))
        };
        let (rule, (socket, protocol)) = tokio::time::timeout(limit, open)
            .await
            .unwrap_or_else(|_| Err(timed_out(&target, "opening the WebSocket", limit)))?;
        let in_flight = InFlight::new(Begun {
            instance: self.instance.clone(),
            audit: self.audit.clone(),
            quota: self.quota.clone(),
            action: Action::WebSocket,
            target: target.to_string(),
            rule: rule.name.clone(),
            started,
            place,
        });
        in_flight.answered(101);
        let (to_upstream, from_guest) = mpsc::channel(QUEUED);
        let (to_guest, from_upstream) = mpsc::channel(QUEUED);
        let session = Session {
            in_flight,
            idle: limits.idle_timeout,
            max_message: limits.max_message_bytes,
            secrets: self.secrets.clone(),
            last_received: Mutex::new(Instant::now()),
            is_guest_slow: AtomicBool::new(false),
        };
        tokio::spawn(session.run(socket, from_guest, to_guest));
        Ok(UpstreamSocket {
            protocol,
            to_upstream,
            from_upstream,
        })
    }

    async fn shake_hands(
        &self,
        target: &Target,
        headers: HeaderMap,
        stream: GuestStream,
    ) -> Result<(WebSocketStream<GuestStream>, Option<String>), EgressError> {
        let request = upgrade(target, headers)?;
        let most = self.policy.limits.max_message_bytes;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .write_buffer_size(0)
            .max_write_buffer_size(most.saturating_add(READ))
            .max_message_size(Some(most))
            .max_frame_size(Some(most));
        let shaken = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
        let (socket, response) = shaken.await.map_err(|error| EgressError::Upstream {
            target: target.to_string(),
            why: handshake_failure(&error),
        })?;
        let mut headers = response.into_parts().0.headers;
        self.secrets.mask_headers(&mut headers);
        let protocol = headers.get(header::SEC_WEBSOCKET_PROTOCOL);
        let protocol = protocol
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        Ok((socket, protocol))
    }
}

/// The value of the header that offers subprotocols. Each must be a token, and be there once.
fn offer(protocols: &[String]) -> Result<Option<HeaderValue>, EgressError> {
    if protocols.is_empty() {
        return Ok(None);
    }
    let is_token = |text: &str| {
        let is_fit = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        !text.is_empty() && text.bytes().all(is_fit)
    };
    let is_unique = |at: usize| !protocols[..at].contains(&protocols[at]);
    let is_valid = protocols.len() <= MOST_PROTOCOLS
        && protocols.iter().all(|protocol| is_token(protocol))
        && (0..protocols.len()).all(is_unique);
    if !is_valid {
        let why = format!("at most {MOST_PROTOCOLS} different tokens are allowed");
        return Err(invalid("the list of subprotocols", why));
    }
    let value = HeaderValue::try_from(protocols.join(", "));
    value
        .map(Some)
        .map_err(|error| invalid("the list of subprotocols", error))
}

fn upgrade(target: &Target, headers: HeaderMap) -> Result<Request<()>, EgressError> {
    let uri = Uri::builder()
        .scheme(target.scheme_name())
        .authority(target.authority())
        .path_and_query(&*target.path)
        .build();
    let mut request = Request::new(());
    *request.uri_mut() = uri.map_err(|error| invalid("the URL", error))?;
    *request.headers_mut() = headers;
    let fixed = [
        (header::HOST, target.authority()),
        (header::CONNECTION, "Upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (header::SEC_WEBSOCKET_VERSION, "13".to_owned()),
        (header::SEC_WEBSOCKET_KEY, generate_key()),
    ];
    for (name, value) in fixed {
        let value = HeaderValue::try_from(value).map_err(|error| invalid("the host", error))?;
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

fn handshake_failure(error: &WsError) -> String {
    match error {
        WsError::Http(response) => {
            format!(
                "the server answered {} instead of opening a WebSocket",
                response.status()
            )
        }
        error => format!("the WebSocket was not opened: {error}"),
    }
}

/// An open socket, served by one task.
struct Session {
    in_flight: Arc<InFlight>,
    idle: Duration,
    max_message: usize,
    secrets: Secrets,
    /// When something was last received from the server.
    last_received: Mutex<Instant>,
    /// Nothing is read from the server because the guest does not read.
    is_guest_slow: AtomicBool,
}

/// How a socket ends: what is reported to the guest, and what to the server.
struct End {
    code: u16,
    reason: String,
    notifies_server: bool,
    /// The guest closes: it gets what the server answers.
    by_guest: bool,
}

impl End {
    fn broken() -> Self {
        Self {
            code: 1006,
            reason: String::new(),
            notifies_server: false,
            by_guest: false,
        }
    }

    fn by_broker(code: u16, reason: impl ToString) -> Self {
        Self {
            code,
            reason: reason.to_string(),
            notifies_server: true,
            by_guest: false,
        }
    }
}

impl Session {
    async fn run(
        self,
        socket: WebSocketStream<GuestStream>,
        mut from_guest: mpsc::Receiver<SocketMessage>,
        to_guest: mpsc::Sender<SocketMessage>,
    ) {
        let (mut sink, mut stream) = socket.split();
        let mut end = tokio::select! {
            end = self.upstream(&mut sink, &mut from_guest) => end,
            end = self.downstream(&mut stream, &to_guest) => end,
            () = to_guest.closed() => End::by_broker(1001, ""),
        };
        if end.notifies_server {
            let frame = (end.code != 1005).then(|| CloseFrame {
                code: CloseCode::from(end.code),
                reason: cut(&end.reason, 123).into(),
            });
            // What still comes is not for the guest any more; the server's close frame ends it.
            let closing = async {
                sink.send(Message::Close(frame)).await.ok()?;
                while let Some(Ok(message)) = stream.next().await {
                    if let Message::Close(frame) = message {
                        return Some(said_by(frame));
                    }
                }
                None
            };
            let answer = tokio::time::timeout(CLOSING, closing).await.ok().flatten();
            if end.by_guest {
                // The side that closes first gets what the other one answers (RFC 6455, section 7.1.5).
                (end.code, end.reason) = answer.unwrap_or((1006, String::new()));
            }
        }
        if (end.by_guest || end.code != 1006) && self.in_flight.failure().is_none() {
            self.in_flight.is_done();
        }
        let close = SocketMessage::Close {
            code: end.code,
            reason: end.reason,
        };
        let _ = tokio::time::timeout(CLOSING, to_guest.send(close)).await;
    }

    /// Carries the guest's messages to the server, and pings it. Returns at the end only.
    async fn upstream<S>(&self, sink: &mut S, from_guest: &mut mpsc::Receiver<SocketMessage>) -> End
    where
        S: Sink<Message, Error = WsError> + Unpin,
    {
        let mut ping = tokio::time::interval(self.idle / 2);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ping.tick().await;
        loop {
            let message = tokio::select! {
                message = from_guest.recv() => message,
                _ = ping.tick() => {
                    let is_silent = self.last_received.lock().elapsed() >= self.idle;
                    if is_silent && !self.is_guest_slow.load(Ordering::Relaxed) {
                        self.in_flight.timed_out("the next message or pong", self.idle);
                        return End::broken();
                    }
                    if self.put(sink, Message::Ping(Bytes::new())).await.is_err() {
                        return End::broken();
                    }
                    continue;
                }
            };
            let message = match message {
                Some(SocketMessage::Text(text)) => Message::text(text),
                Some(SocketMessage::Binary(bytes)) => Message::Binary(bytes),
                Some(SocketMessage::Close { code, reason }) => {
                    let code = if is_sendable(code) { code } else { 1005 };
                    return End {
                        code,
                        reason,
                        notifies_server: true,
                        by_guest: true,
                    };
                }
                None => return End::by_broker(1001, ""),
            };
            let length = message.len();
            if length > self.max_message {
                let limit = self.max_message as u64;
                self.in_flight.refuse(Reason::TooLarge {
                    what: "the message",
                    limit,
                });
                return End::by_broker(1009, "");
            }
            if !self.secrets.is_empty()
                && let Some(reason) = self.secrets.misplaced(message_bytes(&message))
            {
                self.in_flight.refuse(reason);
                return End::by_broker(1008, "");
            }
            match self.in_flight.sends(length).1 {
                Err(reason) => return End::by_broker(1008, self.in_flight.refuse(reason)),
                Ok(until) => wait(until).await,
            }
            if let Err(end) = self.put(sink, message).await {
                return end;
            }
        }
    }

    async fn put<S>(&self, sink: &mut S, message: Message) -> Result<(), End>
    where
        S: Sink<Message, Error = WsError> + Unpin,
    {
        match tokio::time::timeout(self.idle, sink.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                self.in_flight.upstream(error);
                Err(End::broken())
            }
            Err(_) => {
                self.in_flight.timed_out("sending a message", self.idle);
                Err(End::broken())
            }
        }
    }

    /// Carries the server's messages to the guest. Returns at the end only.
    async fn downstream<S>(&self, stream: &mut S, to_guest: &mpsc::Sender<SocketMessage>) -> End
    where
        S: futures_util::Stream<Item = Result<Message, WsError>> + Unpin,
    {
        loop {
            let message = match stream.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return self.broken_by(&error),
                None => return End::broken(),
            };
            *self.last_received.lock() = Instant::now();
            let length = message.len();
            let message = match message {
                Message::Text(text) => SocketMessage::Text(self.masked_text(text.as_str())),
                Message::Binary(bytes) => SocketMessage::Binary(self.masked(bytes)),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
                    // Empty ones cost as well.
                    match self.in_flight.receives(length.max(1)).1 {
                        Err(reason) => return End::by_broker(1008, self.in_flight.refuse(reason)),
                        Ok(until) => wait(until).await,
                    }
                    continue;
                }
                Message::Close(frame) => {
                    let (code, reason) = said_by(frame);
                    // The answer to a close frame is queued by the library; the next read sends it.
                    let _ = tokio::time::timeout(CLOSING, stream.next()).await;
                    return End {
                        code,
                        reason,
                        notifies_server: false,
                        by_guest: false,
                    };
                }
            };
            match self.in_flight.receives(length).1 {
                Err(reason) => return End::by_broker(1008, self.in_flight.refuse(reason)),
                Ok(until) => wait(until).await,
            }
            self.is_guest_slow.store(true, Ordering::Relaxed);
            let sent = to_guest.send(message).await;
            *self.last_received.lock() = Instant::now();
            self.is_guest_slow.store(false, Ordering::Relaxed);
            if sent.is_err() {
                return End::by_broker(1001, "");
            }
        }
    }

    fn masked(&self, bytes: Bytes) -> Bytes {
        self.secrets.mask(&bytes).map_or(bytes, Bytes::from)
    }

    fn masked_text(&self, text: &str) -> String {
        // A value and a placeholder are text, so what is left of text is text.
        let masked = self.secrets.mask(text.as_bytes());
        masked
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .unwrap_or_else(|| text.to_owned())
    }

    fn broken_by(&self, error: &WsError) -> End {
        match error {
            WsError::Capacity(CapacityError::MessageTooLong { .. }) => {
                let limit = self.max_message as u64;
                self.in_flight.refuse(Reason::TooLarge {
                    what: "the message",
                    limit,
                });
                End::by_broker(1009, "")
            }
            WsError::ConnectionClosed
            | WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::broken(),
            WsError::Protocol(_) | WsError::Utf8(_) => {
                self.in_flight.upstream(error);
                End::by_broker(1002, "")
            }
            error => {
                self.in_flight.upstream(error);
                End::broken()
            }
        }
    }
}

/// Code and reason of a close frame.
fn said_by(frame: Option<CloseFrame>) -> (u16, String) {
    frame.map_or((1005, String::new()), |frame| {
        (frame.code.into(), frame.reason.as_str().to_owned())
    })
}

fn message_bytes(message: &Message) -> &[u8] {
    match message {
        Message::Text(text) => text.as_str().as_bytes(),
        Message::Binary(bytes) => bytes,
        _ => &[],
    }
}

async fn wait(until: Option<Instant>) {
    if let Some(until) = until {
        tokio::time::sleep_until(until).await;
    }
}

/// Codes that may stand in a close frame (RFC 6455, 7.4).
fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// At most `most` bytes of `text`, cut between characters.
fn cut(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
