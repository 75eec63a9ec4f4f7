//! WebSockets between clients and guests (RFC 6455, RFC 8441).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use stockade_gateway::{Limits, Outcome, Pattern, Refusal, Route, SocketLimits};
use stockade_http::{Body, Client, GuestSocket, SocketMessage, Upgrade};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::harness::*;

/// The guest's end of a socket.
struct Guest {
    received: mpsc::Receiver<SocketMessage>,
    says: mpsc::Sender<SocketMessage>,
}

impl Guest {
    async fn receive(&mut self) -> SocketMessage {
        soon(self.received.recv()).await.unwrap()
    }

    async fn say(&self, message: SocketMessage) {
        self.says.send(message).await.unwrap();
    }
}

/// A server whose target accepts every WebSocket and hands the guest's end to the test.
async fn accepting(sockets: SocketLimits) -> (Server, mpsc::UnboundedReceiver<Guest>) {
    let (guests, has_guest) = mpsc::unbounded_channel();
    let target = move |request: Request<Body>| {
        let guests = guests.clone();
        async move {
            let client = request.extensions().get::<Client>().unwrap();
            if !client.upgrade {
                return echo(request).await;
            }
            assert_eq!(request.headers()["upgrade"], "websocket");
            assert_eq!(request.method(), "GET");
            let (to_guest, received) = mpsc::channel(1);
            let (says, from_guest) = mpsc::channel(1);
            guests.send(Guest { received, says }).unwrap();
            let mut response = text("");
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response
                .headers_mut()
                .insert("x-own", HeaderValue::from_static("1"));
            response
                .headers_mut()
                .insert("sec-websocket-protocol", HeaderValue::from_static("chat"));
            response.extensions_mut().insert(Upgrade::new(GuestSocket {
                to_guest,
                from_guest,
            }));
            response
        }
    };
    let server = Server::limited(
        target,
        Limits {
            sockets,
            ..Limits::default()
        },
    )
    .await;
    (server, has_guest)
}

async fn open(server: &Server) -> (WebSocketStream<TcpStream>, Response<Option<Vec<u8>>>) {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let request = Request::builder()
        .uri("ws://a.example/socket")
        .header("host", "a.example")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "talk, chat")
        .body(())
        .unwrap();
    soon(tokio_tungstenite::client_async(request, stream))
        .await
        .unwrap()
}

fn text_message(text: &str) -> SocketMessage {
    SocketMessage::Text(text.to_owned())
}

async fn receive(
    client: &mut (impl StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin),
) -> Message {
    soon(client.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn messages_pass_in_both_directions() {
    let (server, mut guests) = accepting(SocketLimits::default()).await;
    let (mut client, response) = open(&server).await;
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    assert_eq!(response.headers()["x-own"], "1");
    assert!(response.headers().contains_key("x-request-id"));
    let mut guest = soon(guests.recv()).await.unwrap();
    client.send(Message::text("héllo")).await.unwrap();
    assert_eq!(guest.receive().await, text_message("héllo"));
    client.send(Message::binary(vec![0, 255])).await.unwrap();
    assert_eq!(
        guest.receive().await,
        SocketMessage::Binary(Bytes::from_static(&[0, 255]))
    );
    guest.say(text_message("back")).await;
    assert_eq!(receive(&mut client).await, Message::text("back"));
    guest
        .say(SocketMessage::Binary(Bytes::from_static(&[1])))
        .await;
    assert_eq!(receive(&mut client).await, Message::binary(vec![1]));
    client
        .send(Message::Ping(Bytes::from_static(b"p")))
        .await
        .unwrap();
    assert_eq!(
        receive(&mut client).await,
        Message::Pong(Bytes::from_static(b"p"))
    );
    assert_eq!(server.gateway.stats().sockets, 1);
    client.close(None).await.unwrap();
    let close = guest.receive().await;
    assert_eq!(
        close,
        SocketMessage::Close {
            code: 1005,
            reason: String::new()
        }
    );
    while let Some(Ok(_)) = soon(client.next()).await {}
    let recorded = server
        .log
        .until(|recorded| !recorded.sockets.is_empty())
        .await;
    let record = &recorded.sockets[0];
    assert_eq!((record.messages_in, record.messages_out), (2, 2));
    assert_eq!((record.bytes_in, record.bytes_out), (8, 5));
    assert_eq!((record.code, record.by_client), (1005, true));
    assert_eq!(recorded.requests[0].outcome, Outcome::Upgraded);
    assert_eq!(recorded.requests[0].request_id, record.request_id);
    server.log.until(|recorded| recorded.closed == 1).await;
}

#[tokio::test]
async fn either_side_closes_with_code_and_reason() {
    let (server, mut guests) = accepting(SocketLimits::default()).await;
    let (mut client, _) = open(&server).await;
    let mut guest = soon(guests.recv()).await.unwrap();
    guest.say(text_message("last words")).await;
    guest
        .say(SocketMessage::Close {
            code: 4001,
            reason: "enough".to_owned(),
        })
        .await;
    assert_eq!(receive(&mut client).await, Message::text("last words"));
    let Message::Close(Some(frame)) = receive(&mut client).await else {
        panic!("no close frame")
    };
    assert_eq!(
        (u16::from(frame.code), frame.reason.as_str()),
        (4001, "enough")
    );
    while let Some(Ok(_)) = soon(client.next()).await {}

    let (mut client, _) = open(&server).await;
    guest = soon(guests.recv()).await.unwrap();
    let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame {
        code: CloseCode::Library(4002),
        reason: "bye".into(),
    };
    client.close(Some(frame)).await.unwrap();
    assert_eq!(
        guest.receive().await,
        SocketMessage::Close {
            code: 4002,
            reason: "bye".to_owned()
        }
    );
    // The closing handshake is answered.
    assert!(matches!(
        receive(&mut client).await,
        Message::Close(Some(_))
    ));
    let recorded = server
        .log
        .until(|recorded| recorded.sockets.len() == 2)
        .await;
    let ends: Vec<_> = recorded
        .sockets
        .iter()
        .map(|one| (one.code, one.by_client))
        .collect();
    assert_eq!(ends, [(4001, false), (4002, true)]);
}

#[tokio::test]
async fn guest_that_closes_first_receives_the_clients_answer() {
    let limits = SocketLimits {
        pong_timeout: Duration::from_secs(1),
        ..SocketLimits::default()
    };
    let (server, mut guests) = accepting(limits).await;
    // What the guest says, the frame, what the client answers, and what the guest gets.
    for (said, frame, answer, code) in [
        (1014, &[0x88, 2, 0x03, 0xf6][..], Some([0x03, 0xf6]), 1014),
        (1005, &[0x88, 0], Some([0x03, 0xe8]), 1000),
        (4000, &[0x88, 2, 0x0f, 0xa0], None, 1006),
    ] {
        let mut raw = server.connect().await;
        raw.send(HANDSHAKE).await;
        assert!(raw.head().await.starts_with("HTTP/1.1 101 "));
        let mut guest = soon(guests.recv()).await.unwrap();
        let close = |code| SocketMessage::Close {
            code,
            reason: String::new(),
        };
        guest.say(close(said)).await;
        assert_eq!(raw.exactly(frame.len()).await, frame, "{said}");
        if let Some([high, low]) = answer {
            // A message that comes before the answer is nobody's any more.
            raw.send(&[0x81, 0x81, 0, 0, 0, 0, b'x'][..]).await;
            raw.send(&[0x88, 0x82, 0, 0, 0, 0, high, low][..]).await;
        }
        assert_eq!(guest.receive().await, close(code), "{said}");
        assert_eq!(soon(guest.received.recv()).await, None);
    }
}

#[tokio::test]
async fn connection_that_breaks_is_reported_to_the_guest() {
    let (server, mut guests) = accepting(SocketLimits::default()).await;
    let (client, _) = open(&server).await;
    let mut guest = soon(guests.recv()).await.unwrap();
    drop(client);
    assert_eq!(
        guest.receive().await,
        SocketMessage::Close {
            code: 1006,
            reason: String::new()
        }
    );
    assert_eq!(
        server
            .log
            .until(|recorded| !recorded.sockets.is_empty())
            .await
            .sockets[0]
            .code,
        1006
    );
}

#[tokio::test]
async fn guest_that_ends_lets_the_client_come_again() {
    let (server, mut guests) = accepting(SocketLimits::default()).await;
    let (mut client, _) = open(&server).await;
    drop(soon(guests.recv()).await.unwrap());
    let Message::Close(Some(frame)) = receive(&mut client).await else {
        panic!("no close frame")
    };
    assert_eq!(u16::from(frame.code), 1012);
}

#[tokio::test]
async fn message_that_is_too_large_closes_the_socket() {
    let limits = SocketLimits {
        message_bytes: 1000,
        ..SocketLimits::default()
    };
    let (server, mut guests) = accepting(limits).await;
    let (mut client, _) = open(&server).await;
    let mut guest = soon(guests.recv()).await.unwrap();
    client.send(Message::binary(vec![0; 1000])).await.unwrap();
    assert!(matches!(guest.receive().await, SocketMessage::Binary(data) if data.len() == 1000));
    client.send(Message::binary(vec![0; 1001])).await.unwrap();
    assert!(matches!(
        guest.receive().await,
        SocketMessage::Close { code: 1009, .. }
    ));
    let Message::Close(Some(frame)) = receive(&mut client).await else {
        panic!("no close frame")
    };
    assert_eq!(frame.code, CloseCode::Size);
    let (mut client, _) = open(&server).await;
    let guest = soon(guests.recv()).await.unwrap();
    guest.say(SocketMessage::Binary(vec![0; 1001].into())).await;
    let Message::Close(Some(frame)) = receive(&mut client).await else {
        panic!("no close frame")
    };
    assert_eq!(frame.code, CloseCode::Size);
}

#[tokio::test]
async fn client_in_the_middle_of_a_message_too_large_reads_why_it_ends() {
    let limits = SocketLimits {
        message_bytes: 1000,
        ..SocketLimits::default()
    };
    let (server, mut guests) = accepting(limits).await;
    let mut raw = server.connect().await;
    raw.send(HANDSHAKE).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 101 "));
    let _guest = soon(guests.recv()).await.unwrap();
    let mut head = vec![0x82, 0xff];
    head.extend((2_u64 << 20).to_be_bytes());
    head.extend([0; 4]);
    raw.send(&head[..]).await;
    for _ in 0..32 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        raw.send(&[0; 64 << 10][..]).await;
    }
    let frame = raw.exactly(4).await;
    assert_eq!(frame[0], 0x88);
    assert_eq!(u16::from_be_bytes([frame[2], frame[3]]), 1009);
}

#[tokio::test]
async fn frame_that_is_malformed_closes_the_socket() {
    let (server, mut guests) = accepting(SocketLimits::default()).await;
    for (bytes, code) in [
        // Not masked; a reserved bit; a reserved opcode; a fragmented ping.
        (&[0x81, 0x01, b'x'][..], 1002),
        (&[0xf1, 0x81, 0, 0, 0, 0, b'x'], 1002),
        (&[0x83, 0x81, 0, 0, 0, 0, b'x'], 1002),
        (&[0x09, 0x81, 0, 0, 0, 0, b'x'], 1002),
        // Not UTF-8.
        (&[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
    ] {
        let mut raw = server.connect().await;
        raw.send(HANDSHAKE).await;
        assert!(raw.head().await.starts_with("HTTP/1.1 101 "));
        let mut guest = soon(guests.recv()).await.unwrap();
        raw.send(bytes).await;
        assert!(
            matches!(guest.receive().await, SocketMessage::Close { code: recorded, .. } if recorded == code)
        );
        let frame = raw.exactly(4).await;
        assert_eq!(frame[0], 0x88);
        assert_eq!(u16::from_be_bytes([frame[2], frame[3]]), code);
    }
}

const HANDSHAKE: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn handshake_that_is_malformed_is_refused() {
    let (server, _guests) = accepting(SocketLimits::default()).await;
    let check = async |from: &str, to: &str, status: u16| {
        let mut raw = server.connect().await;
        let answer = raw.ask(HANDSHAKE.replace(from, to)).await;
        assert_eq!(answer.status, status, "{to}");
        answer
    };
    let answer = check("version: 13", "version: 8", 426).await;
    assert_eq!(answer.header("sec-websocket-version"), Some("13"));
    check("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 400).await;
    check("GET", "POST", 400).await;
    // No wish: an ordinary request.
    let answer = check("connection: upgrade", "connection: keep-alive", 200).await;
    assert!(!answer.text().contains("upgrade"), "{}", answer.text());
}

#[tokio::test]
async fn guest_that_lags_makes_the_client_wait() {
    let (server, mut guests) = accepting(SocketLimits::default()).await;
    let (mut client, _) = open(&server).await;
    let mut guest = soon(guests.recv()).await.unwrap();
    let message = Message::binary(vec![0; 512 * 1024]);
    let mut sent = 0;
    let stuck = tokio::time::timeout(Duration::from_millis(500), async {
        for _ in 0..200 {
            client.send(message.clone()).await.unwrap();
            sent += 1;
        }
    });
    assert!(stuck.await.is_err(), "all messages were taken");
    // What the guest says still gets through, and so does everything else once it listens again.
    guest.say(text_message("wait")).await;
    let listening = tokio::spawn(async move {
        let mut count = 0;
        while let Some(SocketMessage::Binary(_)) = guest.received.recv().await {
            count += 1;
        }
        count
    });
    assert_eq!(receive(&mut client).await, Message::text("wait"));
    soon(client.flush()).await.unwrap();
    client.close(None).await.unwrap();
    let count = soon(listening).await.unwrap();
    assert!(count == sent || count == sent + 1, "{count} of {sent}");
}

#[tokio::test]
async fn client_that_does_not_answer_pings_is_cut_off() {
    let limits = SocketLimits {
        ping_interval: Duration::from_millis(100),
        pong_timeout: Duration::from_secs(1),
        ..SocketLimits::default()
    };
    let (server, mut guests) = accepting(limits).await;
    // The client library answers pings while it reads.
    let (mut alive, _) = open(&server).await;
    let _kept = soon(guests.recv()).await.unwrap();
    let mut dead = server.connect().await;
    dead.send(HANDSHAKE).await;
    dead.head().await;
    let mut guest = soon(guests.recv()).await.unwrap();
    let ended = async {
        assert_eq!(
            guest.receive().await,
            SocketMessage::Close {
                code: 1006,
                reason: String::new()
            }
        );
        assert_eq!(dead.rest().await, [0x89, 0x00]);
    };
    tokio::select! {
        () = ended => {}
        message = async { loop { let message = alive.next().await; if !matches!(message, Some(Ok(Message::Ping(_)))) { break message } } } => {
            panic!("the other one ended: {message:?}");
        }
    }
    assert_eq!(server.log.now().sockets.len(), 1);
}

#[tokio::test]
async fn messages_in_a_flood_are_slowed_down() {
    let limits = SocketLimits {
        messages_per_second: 50,
        ..SocketLimits::default()
    };
    let (server, mut guests) = accepting(limits).await;
    let (mut client, _) = open(&server).await;
    let mut guest = soon(guests.recv()).await.unwrap();
    let began = std::time::Instant::now();
    let sending = async {
        for _ in 0..250 {
            client.send(Message::text("x")).await.unwrap();
        }
    };
    let receiving = async {
        for _ in 0..250 {
            guest.receive().await;
        }
    };
    tokio::join!(sending, receiving);
    // 200 at once, the others at their pace.
    assert!(
        began.elapsed() > Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn sockets_beyond_the_limit_are_refused() {
    let limits = SocketLimits {
        open: 1,
        ..SocketLimits::default()
    };
    let (server, _guests) = accepting(limits).await;
    let (client, _) = open(&server).await;
    let mut raw = server.connect().await;
    assert_eq!(raw.ask(HANDSHAKE).await.status, 503);
    // The connection is good for more.
    assert_eq!(raw.ask(get("/")).await.status, 200);
    assert_eq!(server.log.now().refusals, [Refusal::WebSockets]);
    drop(client);
}

#[tokio::test]
async fn reload_keeps_sockets_and_drain_closes_them() {
    let (server, mut guests) = accepting(SocketLimits::default()).await;
    let (mut client, _) = open(&server).await;
    let mut guest = soon(guests.recv()).await.unwrap();
    let route = Route::new("other", vec![Pattern::any()], Arc::new(hello));
    let other = listener();
    server
        .gateway
        .reload(vec![other], table(vec![route]), Limits::default())
        .await
        .unwrap();
    client.send(Message::text("still here")).await.unwrap();
    assert_eq!(guest.receive().await, text_message("still here"));
    let gateway = server.gateway.clone();
    let drained = tokio::spawn(async move { gateway.drain(PATIENCE).await });
    let Message::Close(Some(frame)) = receive(&mut client).await else {
        panic!("no close frame")
    };
    assert_eq!(frame.code, CloseCode::Away);
    assert!(matches!(
        guest.receive().await,
        SocketMessage::Close { code: 1001, .. }
    ));
    while let Some(Ok(_)) = soon(client.next()).await {}
    let drained = soon(drained).await.unwrap();
    assert_eq!((drained.ended, drained.cut, drained.sockets_cut), (1, 0, 0));
}

#[tokio::test]
async fn socket_of_a_client_that_is_silent_does_not_hold_up_a_drain() {
    let (server, mut guests) = accepting(SocketLimits::default()).await;
    let mut raw = server.connect().await;
    raw.send(HANDSHAKE).await;
    raw.head().await;
    let _guest = soon(guests.recv()).await.unwrap();
    let drained = soon(server.gateway.drain(Duration::from_millis(300))).await;
    assert_eq!((drained.cut, drained.sockets_cut), (1, 1));
    let _: Vec<u8> = raw.rest().await;
    assert_eq!(server.gateway.stats().sockets, 0);
}

#[tokio::test]
async fn target_that_accepts_nothing_answers_as_ever() {
    let server = Server::one(echo).await;
    let mut raw = server.connect().await;
    let answer = raw.ask(HANDSHAKE).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.text().contains("\nupgrade: websocket"),
        "{}",
        answer.text()
    );
    assert_eq!(raw.ask(get("/")).await.status, 200);
}

#[tokio::test]
async fn socket_on_http2_is_like_any_other() {
    let (server, mut guests) = accepting(SocketLimits::default()).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    // The server's SETTINGS say that it takes extended CONNECT: an answer comes after them.
    let plain = Request::get("http://a.example/")
        .body(Empty::<Bytes>::new())
        .unwrap();
    sender
        .send_request(plain)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap();
    let request = Request::connect("http://a.example/socket")
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = soon(sender.send_request(request)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    let upgraded = soon(hyper::upgrade::on(response)).await.unwrap();
    let mut client =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
    let mut guest = soon(guests.recv()).await.unwrap();
    client.send(Message::text("hello")).await.unwrap();
    assert_eq!(guest.receive().await, text_message("hello"));
    guest.say(text_message("back")).await;
    assert_eq!(receive(&mut client).await, Message::text("back"));
    client.close(None).await.unwrap();
    assert!(matches!(
        guest.receive().await,
        SocketMessage::Close { code: 1005, .. }
    ));
    server
        .log
        .until(|recorded| recorded.sockets.len() == 1)
        .await;
}
