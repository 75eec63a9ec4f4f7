//! Deadlines, overload, and isolates that end.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::client::{Server, WebSocket, call, outcome};

#[test]
fn lifetime_call_without_a_reply_ends_at_its_deadline() {
    let server = Server::start(&["--timeout", "1000"]);
    let error = server.call("never", json!([])).unwrap_err();
    assert_eq!(
        error,
        json!({ "code": -32001, "message": "no reply in time" })
    );
    // The deadline of a batch is that of its calls together.
    let batch: Vec<Value> = (0..100).map(|id| call(id, "never", json!([]))).collect();
    let response = server.send(&Value::from(batch));
    let responses = response.as_array().unwrap();
    assert_eq!(responses.len(), 100);
    assert!(
        responses
            .iter()
            .all(|response| response["error"]["code"] == -32001)
    );
    assert_eq!(
        server.call("later", json!([5])),
        Ok(json!("after 5")),
        "the control"
    );
}

/// Every call gets its reply, even if the isolate ends.
#[tokio::test(flavor = "multi_thread")]
async fn lifetime_isolate_that_ends_rejects_the_calls_in_it_and_has_a_successor() {
    let levels: &[&str] = if cfg!(target_os = "linux") {
        &["thread", "process", "container"]
    } else {
        &["thread"]
    };
    for level in levels {
        ends_with_100_calls_in_it(level).await;
    }
}

async fn ends_with_100_calls_in_it(level: &str) {
    let options = ["--max-concurrent", "200", "--cpu-limit", "100"];
    let server = Server::start(&[&options[..], &["--isolation", level]].concat());
    assert_eq!(server.call("count", json!([])), Ok(json!(1)));
    let mut sockets = Vec::new();
    for _ in 0..5 {
        let mut socket = WebSocket::open(&server).await;
        for id in 0..20 {
            socket.send(&call(id, "never", json!([])).to_string()).await;
        }
        sockets.push(socket);
    }
    // They are in the guest once it has answered what came after them.
    for socket in &mut sockets {
        let response = socket.round_trip(&call(100, "add", json!([1, 1]))).await;
        assert_eq!(response["id"], 100);
    }
    let error = server.call("spin", json!([])).unwrap_err();
    let expected = json!({
        "code": -32003,
        "message": "the isolate ended: cpu_limit_exceeded",
        "data": { "reason": "cpu_limit_exceeded" },
    });
    assert_eq!(error, expected);
    let mut rejected = 0;
    for socket in &mut sockets {
        for _ in 0..20 {
            let error = outcome(socket.receive().await.unwrap()).unwrap_err();
            assert_eq!(error, expected);
            rejected += 1;
        }
    }
    assert_eq!(rejected, 100);
    // The connections stay, and the next isolate knows nothing of the last one.
    for socket in &mut sockets {
        let response = socket.round_trip(&call(1, "add", json!([1, 1]))).await;
        assert_eq!(response["result"], 2);
    }
    assert_eq!(server.call("count", json!([])), Ok(json!(1)));
}

#[tokio::test]
async fn lifetime_calls_beyond_the_limit_are_refused_at_once() {
    let server = Server::start(&["--max-concurrent", "2"]);
    let mut socket = WebSocket::open(&server).await;
    for id in 0..3 {
        let request = call(id, "later", json!([1000]));
        socket.send(&request.to_string()).await;
    }
    // The one that finds no place is answered before the two that do.
    let refused = outcome(socket.receive().await.unwrap()).unwrap_err();
    assert_eq!(refused["code"], -32009);
    for _ in 0..2 {
        let result = outcome(socket.receive().await.unwrap());
        assert_eq!(result, Ok(json!("after 1000")));
    }
    let response = socket.round_trip(&call(9, "add", json!([1, 1]))).await;
    assert_eq!(response["result"], 2, "the control");
}

#[test]
fn lifetime_server_that_is_asked_to_end_lets_calls_finish() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let mut server = Server::start(&[]);
        let address = server.address.clone();
        let body = call(1, "later", json!([400])).to_string();
        let stream = server.connect();
        let caller = std::thread::spawn(move || {
            crate::client::round_trip(stream, &crate::client::request("localhost", "", &body))
        });
        while server.call("begunLater", json!([])) != Ok(json!(1)) {}
        server.signal(signal);
        let (status, text) = caller.join().unwrap();
        assert_eq!((status, text.contains("after 400")), (200, true), "{text}");
        assert_eq!(server.code(), Some(code));
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}

#[tokio::test]
async fn lifetime_server_that_is_asked_to_end_rejects_what_does_not_finish() {
    let mut server = Server::start(&["--timeout", "0"]);
    let mut socket = WebSocket::open(&server).await;
    socket.send(&call(1, "never", json!([])).to_string()).await;
    let response = socket.round_trip(&call(2, "add", json!([1, 1]))).await;
    assert_eq!(response["id"], 2);
    server.signal(Signal::SIGTERM);
    let response = socket.receive().await.unwrap();
    assert_eq!(response["error"]["code"], -32003, "{response}");
    assert_eq!(server.code(), Some(143));
}

#[test]
fn lifetime_once_ends_with_the_isolate() {
    let mut server = Server::start(&["--once", "--cpu-limit", "50"]);
    let error = server.call("spin", json!([])).unwrap_err();
    assert_eq!(error["data"]["reason"], "cpu_limit_exceeded");
    assert_eq!(server.code(), Some(121));
}
