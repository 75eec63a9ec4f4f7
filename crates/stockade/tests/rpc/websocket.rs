//! The protocol over WebSocket.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Server, WebSocket, call, outcome};

#[tokio::test]
async fn websocket_answers_calls_and_batches_and_no_notifications() {
    let server = Server::start(&[]);
    let mut socket = WebSocket::open(&server).await;
    let response = socket.round_trip(&call(1, "add", json!([2, 3]))).await;
    assert_eq!(response, json!({ "jsonrpc": "2.0", "id": 1, "result": 5 }));
    socket.send(r#"{"jsonrpc":"2.0","method":"count"}"#).await;
    socket.send(r#"[{"jsonrpc":"2.0","method":"count"}]"#).await;
    let batch = json!([call(2, "add", json!([1, 1])), call(3, "nobody", json!([]))]);
    let response = socket.round_trip(&batch).await;
    assert_eq!(response[0]["result"], 2);
    assert_eq!(response[1]["error"]["code"], -32601);
    let response = socket.round_trip(&call(4, "refuse", json!(["no"]))).await;
    assert_eq!(response["error"]["data"]["name"], "Refused");
    for (text, code) in [
        ("nonsense", -32700),
        ("{", -32700),
        ("{}", -32600),
        ("null", -32600),
        ("5", -32600),
        ("[]", -32600),
    ] {
        socket.send(text).await;
        let response = socket.receive().await.unwrap();
        assert_eq!(response["error"]["code"], code, "{text}");
    }
    socket
        .send(r#"{"jsonrpc":"2.0","method":"count","id":-1}"#)
        .await;
    assert_eq!(socket.receive().await.unwrap()["error"]["code"], -32600);
    let response = socket.round_trip(&call(5, "counts", json!([]))).await;
    assert_eq!(response["result"], 2);
}

#[tokio::test]
async fn websocket_replies_come_as_they_are_ready() {
    let server = Server::start(&[]);
    let mut socket = WebSocket::open(&server).await;
    socket
        .send(&call(1, "later", json!([300])).to_string())
        .await;
    let response = socket.round_trip(&call(2, "add", json!([1, 1]))).await;
    assert_eq!(response["id"], 2);
    assert_eq!(socket.receive().await.unwrap()["id"], 1);
}

#[tokio::test]
async fn websocket_flood_of_notifications_is_carried_out_to_the_last() {
    let server = Server::start(&[]);
    let mut socket = WebSocket::open(&server).await;
    for _ in 0..5000 {
        let notification = r#"{"jsonrpc":"2.0","method":"count"}"#;
        socket.sender.send_text(notification).await.unwrap();
    }
    socket.sender.flush().await.unwrap();
    // Another client is served meanwhile.
    assert_eq!(server.call("add", json!([1, 2])), Ok(json!(3)));
    let mut counted = Value::Null;
    while counted != 5000 {
        counted = socket.round_trip(&call(1, "counts", json!([]))).await["result"].take();
        assert!(counted.as_u64().unwrap() <= 5000);
    }
}

#[tokio::test]
async fn websocket_message_beyond_the_limit_ends_the_connection() {
    let server = Server::start(&["--max-request-bytes", "10000"]);
    let mut socket = WebSocket::open(&server).await;
    let response = socket
        .round_trip(&call(1, "args", json!(["x".repeat(5_000)])))
        .await;
    assert!(outcome(response).is_ok(), "the control");
    let response = socket
        .round_trip(&call(1, "args", json!(["x".repeat(20_000)])))
        .await;
    assert_eq!(response["error"]["code"], -32007);
    assert!(socket.receive().await.is_err());
    assert_eq!(server.call("add", json!([1, 2])), Ok(json!(3)));
}

#[tokio::test]
async fn websocket_of_another_page_is_refused() {
    let server = Server::start(&[]);
    for origin in ["https://evil.example", "null"] {
        let refused = WebSocket::open_from(&server, Some(origin)).await.err();
        assert_eq!(refused, Some(403), "{origin}");
    }
    let page = WebSocket::open_from(&server, Some("http://localhost:3000")).await;
    let mut socket = page.ok().unwrap();
    let response = socket.round_trip(&call(1, "add", json!([1, 2]))).await;
    assert_eq!(response["result"], 3);
}

/// It is not read from either: what it has sent and not taken back is bounded.
#[tokio::test]
async fn websocket_client_that_does_not_read_holds_up_itself_alone() {
    let server = Server::start(&[]);
    let mut deaf = WebSocket::open(&server).await;
    let request = call(1, "text", json!([500_000])).to_string();
    let flood = async {
        for _ in 0..100_000 {
            deaf.sender.send_text(&request).await.unwrap();
            deaf.sender.flush().await.unwrap();
        }
    };
    let flooded = tokio::time::timeout(Duration::from_secs(3), flood).await;
    assert!(flooded.is_err(), "its requests are taken no longer");
    assert_eq!(server.call("add", json!([1, 2])), Ok(json!(3)));
    let mut other = WebSocket::open(&server).await;
    let response = other.round_trip(&call(1, "add", json!([1, 2]))).await;
    assert_eq!(response["result"], 3);
}
