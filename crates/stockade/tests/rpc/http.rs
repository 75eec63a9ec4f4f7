//! The protocol over HTTP POST.

use std::io::{Read, Write};

use serde_json::{Value, json};

use crate::client::{Server, call, outcome, request, round_trip};

#[test]
fn http_call_gets_its_result() {
    let server = Server::start(&[]);
    for (method, params, result) in [
        ("add", json!([2, 3]), json!(5)),
        ("args", json!([]), json!([])),
        (
            "args",
            json!([null, [1], "\u{0}b0"]),
            json!([null, [1], "\u{0}b0"]),
        ),
        (
            "args",
            json!({ "a": 1, "b": [2] }),
            json!([{ "a": 1, "b": [2] }]),
        ),
        ("nothing", json!([]), json!(null)),
        ("later", json!([5]), json!("after 5")),
        ("then", json!([]), json!("an export like any other")),
    ] {
        assert_eq!(server.call(method, params), Ok(result), "{method}");
    }
    let without = json!({ "jsonrpc": "2.0", "id": 1, "method": "args" });
    assert_eq!(server.send(&without)["result"], json!([]));
}

#[test]
fn http_call_keeps_its_id() {
    let server = Server::start(&[]);
    for id in [
        json!(0),
        json!(u64::MAX),
        json!("a\"b"),
        json!(""),
        json!(null),
    ] {
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": "add", "params": [1, 1] });
        let response = server.send(&request);
        assert_eq!(response, json!({ "jsonrpc": "2.0", "id": id, "result": 2 }));
    }
}

#[test]
fn http_call_with_another_kind_of_id_is_refused_and_not_carried_out() {
    let server = Server::start(&[]);
    for id in [
        "-1",
        "1.5",
        "1e400",
        "18446744073709551616",
        "true",
        "[]",
        "{}",
        r#""\ud800""#,
    ] {
        let request = format!(r#"{{"jsonrpc":"2.0","method":"count","id":{id}}}"#);
        let (status, text) = server.post(&request);
        assert_eq!(status, 200, "{id}");
        let response: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(response["id"], json!(null), "{id}");
        assert_eq!(response["error"]["code"], -32600, "{id}");
        let (_, text) = server.post(&format!("[{request}]"));
        let response: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(response[0]["error"]["code"], -32600, "{id}");
    }
    assert_eq!(server.call("count", json!([])), Ok(json!(1)), "the control");
}

#[test]
fn http_names_reach_exported_functions_only() {
    let server = Server::start(&[]);
    for name in [
        "__proto__",
        "constructor",
        "toString",
        "hasOwnProperty",
        "eval",
        "Function",
        "setTimeout",
        "fetch",
        "globalThis",
        "hidden",
        "value",
        "default",
        "",
        "add ",
        "Add",
        "rpc.discover",
        "\u{0}add",
        "NETWORK",
        "add.call",
    ] {
        let refused = server.call(name, json!(["1"])).unwrap_err();
        assert_eq!(refused["code"], -32601, "{name:?}");
        assert_eq!(refused["message"], "Method not found", "{name:?}");
    }
    let long = "x".repeat(100_000);
    assert_eq!(server.call(&long, json!([])).unwrap_err()["code"], -32601);
    assert_eq!(
        server.call("add", json!([1, 2])),
        Ok(json!(3)),
        "the control"
    );
}

#[test]
fn http_errors_of_the_guest_have_its_message_and_nothing_of_the_host() {
    let server = Server::start(&[]);
    let error = server.call("refuse", json!(["not for you"])).unwrap_err();
    let expected =
        json!({ "code": -32000, "message": "not for you", "data": { "name": "Refused" } });
    assert_eq!(error, expected);
    let error = server.call("refuseWithText", json!([])).unwrap_err();
    assert_eq!(error, json!({ "code": -32000, "message": "only text" }));
    // A class can be called with `new` only; that is the guest's trouble.
    let error = server.call("Refused", json!([])).unwrap_err();
    assert_eq!(error["data"]["name"], "TypeError");
    let error = server.call("bytes", json!([])).unwrap_err();
    assert_eq!(error["code"], -32000);
    let error = server
        .call("refuse", json!(["x".repeat(200_000)]))
        .unwrap_err();
    // 64 KiB, and the mark of a cut.
    assert!(error["message"].as_str().unwrap().len() <= (64 << 10) + 3);
}

#[test]
fn http_messages_that_are_no_requests_get_the_standard_errors() {
    let server = Server::start(&[]);
    for (body, code) in [
        ("", -32700),
        ("{", -32700),
        ("[1,", -32700),
        ("nul", -32700),
        ("7", -32600),
        ("null", -32600),
        (" \"x\"", -32600),
        ("\u{feff}{}", -32700),
        (r#"{"jsonrpc":"2.0","id":1,"method":"add""#, -32700),
        (r#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#, -32600),
        ("{}", -32600),
        ("[]", -32600),
        (r#"{"id":1,"method":"add"}"#, -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"add"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":1}"#, -32600),
        (
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"count"}"#,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"count","params":3}"#,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"count","params":"x"}"#,
            -32602,
        ),
    ] {
        let (_, text) = server.post(body);
        let response: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(response["error"]["code"], code, "{body}: {text}");
    }
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"args","params":{}1{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let (_, text) = server.post(&deep);
    assert!(!text.is_empty());
    assert_eq!(
        server.call("counts", json!([])),
        Ok(json!(0)),
        "nothing was carried out"
    );
}

#[test]
fn http_notification_is_carried_out_and_not_answered() {
    let server = Server::start(&[]);
    let notification = json!({ "jsonrpc": "2.0", "method": "count" });
    assert_eq!(server.post(&notification.to_string()), (204, String::new()));
    let batch = json!([notification, notification]);
    assert_eq!(server.post(&batch.to_string()), (204, String::new()));
    let failing = json!({ "jsonrpc": "2.0", "method": "constructor" });
    assert_eq!(server.post(&failing.to_string()), (204, String::new()));
    assert_eq!(server.call("counts", json!([])), Ok(json!(3)));
}

#[test]
fn http_batch_is_answered_in_order_without_its_notifications() {
    let server = Server::start(&[]);
    let response = server.send(&json!([
        call(1, "count", json!([])),
        { "jsonrpc": "2.0", "method": "count" },
        call(2, "nobody", json!([])),
        7,
        call(3, "count", json!([])),
    ]));
    let ids: Vec<&Value> = response
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["id"])
        .collect();
    assert_eq!(ids, [&json!(1), &json!(2), &json!(null), &json!(3)]);
    assert_eq!(response[0]["result"], 1);
    assert_eq!(response[1]["error"]["code"], -32601);
    assert_eq!(response[2]["error"]["code"], -32600);
    assert_eq!(response[3]["result"], 3);
}

#[test]
fn http_batch_beyond_the_limits_is_refused_whole() {
    let server = Server::start(&["--max-batch", "1000"]);
    let batch = |calls: usize, size: usize| {
        let padding = "x".repeat(size);
        let calls: Vec<Value> = (0..calls)
            .map(|_| call(1, "count", json!([padding])))
            .collect();
        Value::from(calls).to_string()
    };
    let (status, text) = server.post(&batch(1001, 0));
    let response: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &response["error"]["code"]), (200, &json!(-32010)));
    let (status, text) = server.post(&batch(1000, 2000));
    let response: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &response["error"]["code"]), (413, &json!(-32007)));
    assert_eq!(server.call("counts", json!([])), Ok(json!(0)));
    // The control: as many as may be, of nearly a megabyte.
    let (status, text) = server.post(&batch(1000, 950));
    let responses: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!((status, responses.len()), (200, 1000));
    assert_eq!(responses[999]["result"], 1000);
}

#[test]
fn http_result_beyond_the_limit_is_an_error() {
    let server = Server::start(&["--max-response-bytes", "1000000"]);
    let error = server.call("text", json!([2_000_000])).unwrap_err();
    assert_eq!(error["code"], -32008);
    let error = server.call("text", json!([999_999])).unwrap_err();
    assert_eq!(error["code"], -32008, "with what is around it");
    let text = server.call("text", json!([900_000])).unwrap();
    assert_eq!(text.as_str().unwrap().len(), 900_000);
    let twice = json!([
        call(1, "text", json!([600_000])),
        call(2, "text", json!([600_000]))
    ]);
    let response = server.send(&twice);
    assert_eq!(response["error"]["code"], -32011, "a batch counts as one");
}

#[test]
fn http_requests_of_other_hosts_and_pages_are_refused() {
    let server = Server::start(&["--allow-host", "api.example"]);
    let body = call(1, "count", json!([])).to_string();
    let status =
        |host: &str, headers: &str| round_trip(server.connect(), &request(host, headers, &body)).0;
    for host in ["evil.example", "localhost.evil.example", "192.168.0.1", ""] {
        assert_eq!(status(host, ""), 403, "{host}");
    }
    for origin in ["https://evil.example", "null", "http://192.168.0.1"] {
        assert_eq!(
            status("localhost", &format!("origin: {origin}\r\n")),
            403,
            "{origin}"
        );
    }
    // A second header does not help.
    assert_eq!(status("evil.example", "host: localhost\r\n"), 403);
    assert_eq!(
        status(
            "localhost",
            "origin: http://localhost\r\norigin: https://evil.example\r\n"
        ),
        403
    );
    assert_eq!(server.call("counts", json!([])), Ok(json!(0)));
    for host in ["localhost:1", "127.0.0.1", "[::1]:7070", "API.example"] {
        assert_eq!(
            status(host, &format!("origin: http://{host}\r\n")),
            200,
            "{host}"
        );
    }
}

#[test]
fn http_requests_that_are_no_posts_of_json_are_refused() {
    let server = Server::start(&[]);
    let head = "host: localhost\r\nconnection: close\r\n";
    let status = |text: String| round_trip(server.connect(), &text).0;
    assert_eq!(status(format!("GET / HTTP/1.1\r\n{head}\r\n")), 405);
    assert_eq!(status(format!("OPTIONS / HTTP/1.1\r\n{head}\r\n")), 405);
    let body = call(1, "count", json!([])).to_string();
    let length = body.len();
    // What a page may send without asking.
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ] {
        let text = format!(
            "POST / HTTP/1.1\r\n{head}content-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        assert_eq!(status(text), 415, "{kind}");
    }
    assert_eq!(server.call("count", json!([])), Ok(json!(1)), "the control");
}

#[test]
fn http_request_that_never_comes_to_its_end_holds_up_nobody() {
    let server = Server::start(&[]);
    let mut slow: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for stream in &mut slow {
        stream
            .write_all(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{")
            .unwrap();
    }
    assert_eq!(server.call("add", json!([1, 2])), Ok(json!(3)));
    // One that stops in the middle gets no answer, and nothing is carried out.
    let mut half = server.connect();
    half.write_all(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{\"jsonrpc\":\"2.0\",\"method\":\"count\"}")
        .unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    let _ = half.read_to_string(&mut answer);
    assert!(!answer.contains("result"), "{answer}");
    assert_eq!(server.call("counts", json!([])), Ok(json!(0)));
}

#[test]
fn http_body_in_chunks_is_held_to_the_limit() {
    let server = Server::start(&["--max-request-bytes", "10000"]);
    let send = |size: usize| {
        let body = call(1, "args", json!(["x".repeat(size)])).to_string();
        let text = format!(
            "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        round_trip(server.connect(), &text)
    };
    let (status, text) = send(20_000);
    assert_eq!(status, 413, "{text}");
    let (status, text) = send(5_000);
    assert_eq!(status, 200);
    assert!(outcome(serde_json::from_str(&text).unwrap()).is_ok());
}
