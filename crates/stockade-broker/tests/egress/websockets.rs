//! WebSockets towards servers by tokio-tungstenite, and raw ones that break the protocol.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use stockade_broker::{EgressError, Misplaced, Outcome, Reason};
use stockade_http::SocketMessage;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::dns::Dns;
use super::servers::{self, Server};
use super::setting::{Setting, rule};
use super::tls::Authority;

/// Echoes messages. Chooses the last subprotocol that is offered; closes with what `close …` says.
async fn echo(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let choose = |request: &Request, mut response: Response| {
        if let Some(offered) = request.headers().get("sec-websocket-protocol") {
            let last = offered
                .to_str()
                .unwrap()
                .rsplit(", ")
                .next()
                .unwrap()
                .to_owned();
            response
                .headers_mut()
                .insert("sec-websocket-protocol", last.parse().unwrap());
        }
        Ok(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, choose).await else {
        return;
    };
    while let Some(Ok(message)) = socket.next().await {
        let answer = match message {
            Message::Text(text) if text.as_str() == "close me" => {
                let frame = CloseFrame {
                    code: 4000.into(),
                    reason: "as asked".into(),
                };
                Message::Close(Some(frame))
            }
            Message::Text(text) if text.as_str() == "grow" => Message::binary(vec![0; 2_000_000]),
            message @ (Message::Text(_) | Message::Binary(_)) => message,
            _ => continue,
        };
        if socket.send(answer).await.is_err() {
            return;
        }
    }
}

pub(crate) async fn echo_server() -> Server {
    servers::raw(|stream: TcpStream| echo(stream)).await
}

fn url(server: &Server) -> String {
    format!("ws://{}/chat", server.address)
}

#[tokio::test]
async fn messages_go_both_ways_and_the_end_is_reported() {
    let server = echo_server().await;
    let setting = Setting::new();
    let egress = setting.open(|_| ());
    let open = egress.websocket(url(&server), vec!["one".to_owned(), "two".to_owned()]);
    let mut socket = tokio::spawn(open).await.unwrap().unwrap();
    assert_eq!(socket.protocol.as_deref(), Some("two"));
    for message in [
        SocketMessage::Text("hällo".to_owned()),
        SocketMessage::Binary(Bytes::from(vec![7; 100_000])),
        SocketMessage::Text(String::new()),
    ] {
        socket.to_upstream.send(message.clone()).await.unwrap();
        assert_eq!(socket.from_upstream.recv().await, Some(message));
    }
    socket
        .to_upstream
        .send(SocketMessage::Text("close me".to_owned()))
        .await
        .unwrap();
    let close = SocketMessage::Close {
        code: 4000,
        reason: "as asked".to_owned(),
    };
    assert_eq!(socket.from_upstream.recv().await, Some(close));
    assert_eq!(socket.from_upstream.recv().await, None);
    let used = setting.used().await;
    assert_eq!((used.outcome, used.status), (Outcome::Done, Some(101)));
    assert_eq!(used.received, 6 + 100_000);
}

#[tokio::test]
async fn close_of_the_guest_reaches_the_server() {
    let (sender, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let server = servers::raw(move |stream| {
        let sender = sender.clone();
        async move {
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                if let Message::Close(Some(frame)) = message {
                    sender
                        .send((u16::from(frame.code), frame.reason.to_string()))
                        .unwrap();
                }
            }
        }
    })
    .await;
    let setting = Setting::new();
    let egress = setting.open(|_| ());
    let mut socket = egress
        .clone()
        .websocket(url(&server), Vec::new())
        .await
        .unwrap();
    assert_eq!(socket.protocol, None);
    let close = SocketMessage::Close {
        code: 3001,
        reason: "done".to_owned(),
    };
    socket.to_upstream.send(close.clone()).await.unwrap();
    assert_eq!(reports.recv().await.unwrap(), (3001, "done".to_owned()));
    // The server's library answers with the same.
    assert_eq!(socket.from_upstream.recv().await, Some(close));
    assert_eq!(socket.from_upstream.recv().await, None);
    setting.ended(Outcome::Done).await;
    // A guest that is gone closes as well.
    let socket = egress.websocket(url(&server), Vec::new()).await.unwrap();
    drop(socket);
    assert_eq!(reports.recv().await.unwrap().0, 1001);
}

#[tokio::test]
async fn guest_that_closes_first_receives_the_servers_answer() {
    // The close frame that the guest's becomes, what the server does then, and what the guest gets.
    for (said, frame, answer, code) in [
        (1005, &[0x88, 0x80][..], &[0x88, 0x02, 0x0f, 0xa1][..], 4001),
        (1014, &[0x88, 0x82], &[0x88, 0x00], 1005),
        (1000, &[0x88, 0x82], &[], 1006),
    ] {
        let (sender, mut reports) = tokio::sync::mpsc::unbounded_channel();
        let server = servers::raw(move |stream| {
            let sender = sender.clone();
            async move {
                let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                let stream = socket.get_mut();
                let mut masked = vec![0; frame.len() + 4];
                stream.read_exact(&mut masked).await.unwrap();
                let mut body = vec![0; usize::from(masked[1] & 0x7f)];
                stream.read_exact(&mut body).await.unwrap();
                for (byte, mask) in body.iter_mut().zip(&masked[2..]) {
                    *byte ^= mask;
                }
                sender.send((masked[..2].to_vec(), body)).unwrap();
                stream.write_all(answer).await.unwrap();
            }
        })
        .await;
        let setting = Setting::new();
        let egress = setting.open(|_| ());
        let mut socket = egress.websocket(url(&server), Vec::new()).await.unwrap();
        let close = |code| SocketMessage::Close {
            code,
            reason: String::new(),
        };
        socket.to_upstream.send(close(said)).await.unwrap();
        let (head, body) = reports.recv().await.unwrap();
        assert_eq!(head, frame, "{said}");
        let sent = (said != 1005).then(|| said.to_be_bytes().to_vec());
        assert_eq!(body, sent.unwrap_or_default(), "{said}");
        assert_eq!(
            socket.from_upstream.recv().await,
            Some(close(code)),
            "{said}"
        );
    }
}

#[tokio::test]
async fn websocket_over_tls_and_by_name_is_opened() {
    let authority = Authority::new();
    let dns = Dns::constant("127.0.0.1").await;
    let acceptor = authority.acceptor(&["ws.example"], &["http/1.1"]);
    let server = servers::raw(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                echo(stream).await;
            }
        }
    })
    .await;
    let setting = Setting::trusting(authority.root(), dns.address);
    let url = format!("wss://ws.example:{}/", server.port());
    let mut socket = setting
        .open(|_| ())
        .websocket(url, Vec::new())
        .await
        .unwrap();
    socket
        .to_upstream
        .send(SocketMessage::Text("secure".to_owned()))
        .await
        .unwrap();
    assert_eq!(
        socket.from_upstream.recv().await,
        Some(SocketMessage::Text("secure".to_owned()))
    );
}

#[tokio::test]
async fn websocket_that_no_rule_allows_is_refused() {
    let server = echo_server().await;
    let setting = Setting::new();
    let closed = setting.open(|policy| policy.rules = vec![rule(&["other.example"])]);
    let refused = closed
        .websocket(url(&server), Vec::new())
        .await
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("websocket to ws://127.0.0.1:"),
        "{refused}"
    );
    let private = setting.open(|policy| policy.allow_private.clear());
    assert!(
        private
            .websocket(url(&server), Vec::new())
            .await
            .unwrap_err()
            .refusal()
            .is_some()
    );
    assert_eq!(setting.refusals().len(), 2);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn offer_that_is_no_list_of_tokens_is_refused() {
    let server = echo_server().await;
    let setting = Setting::new();
    let egress = setting.open(|_| ());
    for protocols in [
        vec![String::new()],
        vec!["a b".to_owned()],
        vec!["a,b".to_owned()],
        vec!["a\r\nx: y".to_owned()],
        vec!["same".to_owned(), "same".to_owned()],
        (0..40).map(|n| format!("p{n}")).collect(),
    ] {
        let error = egress
            .clone()
            .websocket(url(&server), protocols)
            .await
            .unwrap_err();
        assert!(matches!(error, EgressError::Invalid { .. }), "{error}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn server_that_answers_something_else_is_an_error() {
    let setting = Setting::new();
    let egress = setting.open(|_| ());
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-accept: wrong\r\n\r\n",
        "garbage\r\n\r\n",
    ] {
        let server = servers::says(answer).await;
        let error = egress
            .clone()
            .websocket(url(&server), Vec::new())
            .await
            .unwrap_err();
        assert!(
            matches!(error, EgressError::Upstream { .. }),
            "{answer}: {error}"
        );
    }
    let endless = servers::raw(|mut stream| async move {
        servers::read_head(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nx: ")
            .await;
        while stream.write_all(&[b'v'; 1024]).await.is_ok() {}
    })
    .await;
    assert!(egress.websocket(url(&endless), Vec::new()).await.is_err());
}

#[tokio::test]
async fn message_larger_than_allowed_closes_the_socket() {
    let server = echo_server().await;
    let setting = Setting::new();
    let egress = setting.open(|_| ());
    let too_large = Reason::TooLarge {
        what: "the message",
        limit: 1024 * 1024,
    };
    let mut socket = egress
        .clone()
        .websocket(url(&server), Vec::new())
        .await
        .unwrap();
    socket
        .to_upstream
        .send(SocketMessage::Text("grow".to_owned()))
        .await
        .unwrap();
    let end = socket.from_upstream.recv().await.unwrap();
    assert!(
        matches!(end, SocketMessage::Close { code: 1009, .. }),
        "{end:?}"
    );
    setting.ended(Outcome::Failed).await;
    assert_eq!(setting.reasons(), std::slice::from_ref(&too_large));
    let mut socket = egress.websocket(url(&server), Vec::new()).await.unwrap();
    let large = SocketMessage::Binary(vec![0; 1024 * 1024 + 1].into());
    socket.to_upstream.send(large).await.unwrap();
    let end = socket.from_upstream.recv().await.unwrap();
    assert!(
        matches!(end, SocketMessage::Close { code: 1009, .. }),
        "{end:?}"
    );
    assert_eq!(setting.reasons(), [too_large]);
}

#[tokio::test]
async fn server_that_breaks_the_protocol_or_off_ends_the_socket() {
    // A handshake, then: a masked frame; a reserved opcode; bytes that are not UTF-8; nothing.
    for (frames, code) in [
        (&[0x81, 0x81, 0, 0, 0, 0, b'x'][..], 1002),
        (&[0x83, 0x01, b'x'], 1002),
        (&[0x81, 0x01, 0xff], 1002),
        (&[], 1006),
    ] {
        let server = servers::raw(move |stream| async move {
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            let _ = socket.get_mut().write_all(frames).await;
            if !frames.is_empty() {
                while let Some(Ok(_)) = socket.next().await {}
            }
        })
        .await;
        let setting = Setting::new();
        let mut socket = setting
            .open(|_| ())
            .websocket(url(&server), Vec::new())
            .await
            .unwrap();
        let end = socket.from_upstream.recv().await.unwrap();
        assert!(
            matches!(end, SocketMessage::Close { code: sender, .. } if sender == code),
            "{end:?}"
        );
        assert_eq!(socket.from_upstream.recv().await, None);
    }
}

#[tokio::test]
async fn server_that_is_silent_is_pinged_and_then_given_up() {
    let setting = Setting::new();
    let egress = setting.open(|policy| policy.limits.idle_timeout = Duration::from_secs(1));
    // This one answers pings for its library does, and says nothing else.
    let alive = echo_server().await;
    let mut socket = egress
        .clone()
        .websocket(url(&alive), Vec::new())
        .await
        .unwrap();
    let silence = tokio::time::timeout(Duration::from_secs(3), socket.from_upstream.recv()).await;
    assert!(silence.is_err(), "the socket stays open: {silence:?}");
    let dead = servers::raw(|stream| async move {
        let socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        std::future::pending::<()>().await;
        drop(socket);
    })
    .await;
    let mut socket = egress.websocket(url(&dead), Vec::new()).await.unwrap();
    let end = socket.from_upstream.recv().await.unwrap();
    assert!(
        matches!(end, SocketMessage::Close { code: 1006, .. }),
        "{end:?}"
    );
}

#[tokio::test]
async fn server_that_floods_waits_for_the_guest() {
    let (blocked, mut blocks) = tokio::sync::mpsc::unbounded_channel();
    let server = servers::raw(move |stream| {
        let blocked = blocked.clone();
        async move {
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            for count in 0_usize.. {
                let send = socket.send(Message::binary(vec![0; 64 * 1024]));
                let sent = tokio::time::timeout(Duration::from_millis(300), send).await;
                if !matches!(sent, Ok(Ok(()))) {
                    blocked.send(count).unwrap();
                    return;
                }
            }
        }
    })
    .await;
    let setting = Setting::new();
    let mut socket = setting
        .open(|_| ())
        .websocket(url(&server), Vec::new())
        .await
        .unwrap();
    let taken = blocks.recv().await.unwrap();
    assert!(taken < 400, "{taken} messages of 64 KiB");
    assert!(matches!(
        socket.from_upstream.recv().await,
        Some(SocketMessage::Binary(_))
    ));
}

#[tokio::test]
async fn websockets_at_once_are_bounded() {
    let server = echo_server().await;
    let setting = Setting::new();
    let egress = setting.open(|policy| policy.limits.websockets = 2);
    let one = egress
        .clone()
        .websocket(url(&server), Vec::new())
        .await
        .unwrap();
    let _two = egress
        .clone()
        .websocket(url(&server), Vec::new())
        .await
        .unwrap();
    let refused = egress
        .clone()
        .websocket(url(&server), Vec::new())
        .await
        .unwrap_err();
    assert_eq!(
        refused.refusal().unwrap().reason,
        Reason::Concurrency { limit: 2 }
    );
    drop(one);
    setting.used().await;
    assert!(egress.websocket(url(&server), Vec::new()).await.is_ok());
}

#[tokio::test]
async fn secret_is_filled_in_towards_its_host_and_refused_towards_others() {
    let server = echo_server().await;
    let setting = Setting::new();
    let value = "value-of-the-secret";
    let (bound, key) = setting.open_with_secret(&["127.0.0.1"], value, |_| ());
    let socket = bound
        .websocket(url(&server), vec![key.clone()])
        .await
        .unwrap();
    assert_eq!(
        socket.protocol.as_deref(),
        Some(&*key),
        "the echo is masked"
    );
    let (other, _) = setting.open_with_secret(&["api.example"], value, |_| ());
    let refused = other.websocket(url(&server), vec![key]).await.unwrap_err();
    let reason = Reason::SecretElsewhere {
        secret: "KEY".into(),
        why: Misplaced::Host,
    };
    assert_eq!(refused.refusal().unwrap().reason, reason);
}

#[tokio::test]
async fn message_with_a_placeholder_is_not_sent_and_a_value_in_one_is_masked() {
    let value = "value-of-the-secret";
    let server = servers::raw(move |stream| async move {
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        socket
            .send(Message::text(format!("<{value}>")))
            .await
            .unwrap();
        while let Some(Ok(message)) = socket.next().await {
            assert!(!message.is_text(), "{message}");
        }
    })
    .await;
    let setting = Setting::new();
    let (egress, key) = setting.open_with_secret(&["127.0.0.1"], value, |_| ());
    let mut socket = egress.websocket(url(&server), Vec::new()).await.unwrap();
    assert_eq!(
        socket.from_upstream.recv().await,
        Some(SocketMessage::Text(format!("<{key}>")))
    );
    socket
        .to_upstream
        .send(SocketMessage::Text(format!("{{\"token\": \"{key}\"}}")))
        .await
        .unwrap();
    let end = socket.from_upstream.recv().await.unwrap();
    assert!(
        matches!(end, SocketMessage::Close { code: 1008, .. }),
        "{end:?}"
    );
    assert_eq!(
        setting.reasons(),
        [Reason::SecretElsewhere {
            secret: "KEY".into(),
            why: Misplaced::Body
        }]
    );
}
