//! The server and its upstream connections over HTTP, byte by byte: hostile clients, hostile servers, and harmless ones
//! next to them.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use stockade_mcp::bounds::{HTTP_SESSIONS, MESSAGE_BYTES};
use stockade_mcp::{
    HttpOptions, HttpServer, HttpServerError, Job, McpConfig, McpOptions, McpServer, RunOutcome,
    Runner, Session, Token, ToolName,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Gives the code back.
struct Echo;

async fn echo(job: Job) -> RunOutcome {
    let mut outcome = RunOutcome::default();
    outcome
        .document
        .insert("result".to_owned(), json!(job.code));
    outcome
}

impl Session for Echo {
    fn run(&self, job: Job) -> BoxFuture<'static, RunOutcome> {
        echo(job).boxed()
    }
}

impl Runner for Echo {
    fn run(&self, job: Job) -> BoxFuture<'static, RunOutcome> {
        echo(job).boxed()
    }

    fn open(
        &self,
        _files: BTreeMap<String, String>,
        _tools: Vec<ToolName>,
    ) -> BoxFuture<'static, Result<Arc<dyn Session>, String>> {
        async { Ok(Arc::new(Echo) as Arc<dyn Session>) }.boxed()
    }
}

fn server(config: McpConfig) -> Arc<McpServer> {
    McpServer::start(McpOptions {
        runner: Arc::new(Echo),
        config,
        level: "container",
        timeout: Duration::from_secs(30),
        runs: 2,
        sessions: 4,
        session_idle: Duration::from_secs(60),
        version: "test".to_owned(),
    })
    .expect("a server")
}

async fn listen(options: HttpOptions) -> SocketAddr {
    let any = "127.0.0.1:0".parse().expect("an address");
    let http = HttpServer::bind(server(McpConfig::default()), any, options)
        .await
        .expect("a listener");
    let address = http.address();
    tokio::spawn(http.serve());
    address
}

/// The status of the answer to a request with these headers.
async fn post(address: SocketAddr, headers: &str, body: &str) -> u16 {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let head = format!(
        "POST /mcp HTTP/1.1\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n\
         content-length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    // A server that has seen enough closes the connection.
    let _ = stream.write_all(body.as_bytes()).await;
    let mut answer = [0; 12];
    match stream.read_exact(&mut answer).await {
        Ok(_) => std::str::from_utf8(&answer[9..])
            .ok()
            .and_then(|status| status.parse().ok())
            .unwrap_or(0),
        Err(_) => 0,
    }
}

fn initialize() -> String {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "x", "version": "1" } } })
    .to_string()
}

const LOCAL: &str = "host: localhost\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn names_and_pages_of_others_are_refused() {
    let options = HttpOptions {
        hosts: vec!["agents.example".to_owned()],
        origins: vec!["https://app.example:443".to_owned()],
        ..HttpOptions::default()
    };
    let address = listen(options).await;
    for (headers, status) in [
        (LOCAL.to_owned(), 200),
        (format!("host: {address}\r\n"), 200),
        ("host: agents.example\r\n".to_owned(), 200),
        (format!("{LOCAL}origin: https://app.example\r\n"), 200),
        (format!("{LOCAL}origin: http://localhost:5173\r\n"), 403),
        (
            format!("host: {address}\r\norigin: http://{address}\r\n"),
            403,
        ),
        ("host: evil.example\r\n".to_owned(), 403),
        ("host: localhost.evil.example\r\n".to_owned(), 403),
        (format!("{LOCAL}origin: https://evil.example\r\n"), 403),
        (format!("{LOCAL}origin: null\r\n"), 403),
        (
            "host: evil.example\r\norigin: http://evil.example\r\n".to_owned(),
            403,
        ),
    ] {
        assert_eq!(
            post(address, &headers, &initialize()).await,
            status,
            "{headers}"
        );
    }
    // Without names, no page is let in.
    let address = listen(HttpOptions::default()).await;
    let page = format!("{LOCAL}origin: http://localhost:5173\r\n");
    assert_eq!(post(address, &page, &initialize()).await, 403);
    assert_eq!(post(address, LOCAL, &initialize()).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_needed_where_there_are_tokens() {
    let options = HttpOptions {
        tokens: vec![Token::new("first-token"), Token::new("second-token")],
        ..HttpOptions::default()
    };
    let address = listen(options).await;
    for (headers, status) in [
        (String::new(), 401),
        ("authorization: Bearer other-token\r\n".to_owned(), 401),
        ("authorization: Basic second-token\r\n".to_owned(), 401),
        ("authorization: Bearer\r\n".to_owned(), 401),
        ("authorization: bearer second-token\r\n".to_owned(), 200),
    ] {
        assert_eq!(
            post(address, &format!("{LOCAL}{headers}"), &initialize()).await,
            status,
            "{headers}"
        );
    }
    let any = "0.0.0.0:0".parse().expect("an address");
    let open = HttpServer::bind(server(McpConfig::default()), any, HttpOptions::default()).await;
    assert!(matches!(open.map(|_| ()), Err(HttpServerError::NoToken(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_and_many_clients_are_refused() {
    let address = listen(HttpOptions::default()).await;
    let large = "x".repeat(MESSAGE_BYTES + 1);
    assert!(matches!(post(address, LOCAL, &large).await, 413 | 0));
    assert_eq!(post(address, LOCAL, &"[".repeat(100_000)).await, 415);
    for _ in 0..HTTP_SESSIONS {
        assert_eq!(post(address, LOCAL, &initialize()).await, 200);
    }
    assert_eq!(post(address, LOCAL, &initialize()).await, 503);
}

/// An upstream server that answers every request with the same bytes. Gives its address and the number of requests.
async fn upstream(answer: impl Fn(SocketAddr) -> String) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let answer: Arc<str> = answer(address).into();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answer, counted) = (Arc::clone(&answer), Arc::clone(&counted));
            tokio::spawn(async move {
                let mut head = [0; 4096];
                if stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                    counted.fetch_add(1, Ordering::Relaxed);
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    (address, asked)
}

/// Why the server at this address is not connected.
async fn why_not(address: SocketAddr) -> String {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let servers = json!({ "mcpServers": { "up": { "url": format!("http://{address}/mcp"), "headers": { "x-key": "k" } } } });
    std::fs::write(file.path(), servers.to_string()).expect("written");
    let config = McpConfig::read(file.path(), |_| None).expect("a configuration");
    let server = server(config);
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (input, output) = tokio::io::split(theirs);
    tokio::spawn(stockade_mcp::serve_stdio(server, input, output));
    let (input, mut output) = tokio::io::split(ours);
    let search = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call",
                         "params": { "name": "search_tools", "arguments": {} } });
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    output
        .write_all(format!("{}\n{ready}\n{search}\n", initialize()).as_bytes())
        .await
        .expect("sent");
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(input));
    loop {
        let line = lines.next_line().await.expect("read").expect("a line");
        let message: Value = serde_json::from_str(&line).expect("JSON");
        if message["id"] == 2 {
            return message["result"]["content"][0]["text"]
                .as_str()
                .expect("text")
                .to_owned();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_answers_of_upstream_servers_cost_an_error() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: ";
    let (huge, _) = upstream(|_| {
        format!(
            "{head}application/json\r\n\r\n\"{}\"",
            "x".repeat(MESSAGE_BYTES + 10)
        )
    })
    .await;
    assert!(why_not(huge).await.contains("up (not connected"));
    let (event, _) = upstream(|_| {
        format!(
            "{head}text/event-stream\r\n\r\ndata: {}",
            "x".repeat(MESSAGE_BYTES + 10)
        )
    })
    .await;
    assert!(why_not(event).await.contains("up (not connected"));
    let (error, _) =
        upstream(|_| "HTTP/1.1 500 No\r\ncontent-length: 6\r\n\r\nsecret".to_owned()).await;
    let why = why_not(error).await;
    assert!(why.contains("HTTP 500") && !why.contains("secret"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redirect_of_an_upstream_server_is_not_followed() {
    let (target, asked) =
        upstream(|_| "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned()).await;
    let to =
        format!("HTTP/1.1 307 Other\r\nlocation: http://{target}/mcp\r\ncontent-length: 0\r\n\r\n");
    let (redirects, first) = upstream(|_| to.clone()).await;
    assert!(why_not(redirects).await.contains("HTTP 307"));
    assert!(first.load(Ordering::Relaxed) > 0);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}
