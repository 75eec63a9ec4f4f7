//! The server and its upstream connections over HTTP, byte by byte: hostile clients, hostile servers, and harmless ones
//! next to them.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod runner;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use stockade_auth::{KeyFields, KeyId, Keys, Pepper, Quotas, Scope, Store};
use stockade_callers::KeyRules;
use stockade_limits::Amount;
use stockade_mcp::bounds::{
    ANSWER_BYTES, HTTP_SESSIONS, KEPT_ANSWERS_OF_CONNECTION, MESSAGE_BYTES, PROGRESS_TOKEN_BYTES,
};
use stockade_mcp::{Clients, HttpOptions, HttpServer, HttpServerError, McpConfig, Share, Token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use self::runner::{WAITING, server};

async fn listen(options: HttpOptions) -> SocketAddr {
    listen_with(options, None).await
}

async fn listen_with(options: HttpOptions, share: Option<Share>) -> SocketAddr {
    let any = "127.0.0.1:0".parse().expect("an address");
    let http = HttpServer::bind(server(McpConfig::default(), share), any, options)
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
        clients: Clients::Tokens(vec![Token::new("first-token"), Token::new("second-token")]),
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
    let open = HttpServer::bind(
        server(McpConfig::default(), None),
        any,
        HttpOptions::default(),
    )
    .await;
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
    // A message that opens no connection needs no room for one.
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    let status = post(address, LOCAL, &ping.to_string()).await;
    assert!(![0, 503].contains(&status), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_counts_until_it_is_closed() {
    let address = listen(HttpOptions::default()).await;
    let client = Client::connect(address, "").await;
    // One that is refused ends nothing.
    assert_eq!(
        client.bare("DELETE", "evil.example", "").await.status(),
        403
    );
    let ping = json!({ "jsonrpc": "2.0", "id": 4, "method": "ping" });
    assert_eq!(client.send(&ping.to_string()).await.status(), 200);
    client.delete().await;
    assert_eq!(client.send(&ping.to_string()).await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_that_is_closed_ends_its_runs_and_gives_their_turns_back() {
    const CODE: &str = "wait until the connection is closed";
    let address = listen(HttpOptions::default()).await;
    let (closed, other) = (
        Client::connect(address, "").await,
        Client::connect(address, "").await,
    );
    // One run in a session and one without take both turns, and a third run waits.
    let mut running = closed.run(CODE).await;
    running.until("begun").await;
    let mut alone = closed.call("run_code", json!({ "code": CODE })).await;
    alone.until("begun").await;
    let mut waits = other.run("[]").await;
    closed.delete().await;
    let runs = WAITING.lock().clone();
    let own = runs.iter().filter(|(code, _)| code == CODE);
    let cancelled: Vec<_> = own.map(|(_, cancel)| cancel.is_cancelled()).collect();
    assert_eq!(cancelled, [true, true]);
    assert!(waits.until("isError").await.contains("result"));
    let sessions = other
        .call("list_sessions", json!({}))
        .await
        .until("isError")
        .await;
    assert!(sessions.contains("s: 1 runs"), "{sessions}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_is_read_again_after_its_stream_broke_and_its_run_ended() {
    let address = listen(HttpOptions::default()).await;
    let client = Client::connect(address, "").await;
    let run = json!({ "code": "wait for the limit", "session": "s", "timeoutMs": 300 });
    let mut broken = client.call("run_code", run).await;
    // The number of an event stands behind it.
    let begun = broken.until("id: 1/").await;
    let event = begun
        .lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .next_back();
    let event = event.unwrap_or_else(|| panic!("{begun}")).trim().to_owned();
    drop(broken);
    // The run ends while its client is away.
    loop {
        let mut listed = client.call("list_sessions", json!({})).await;
        if listed.until("isError").await.contains("idle") {
            break;
        }
    }
    for _ in 0..2 {
        let rest = client.resume(&event).await.until(LAST_CHUNK).await;
        assert!(
            rest.contains("timeout") && rest.contains("isError"),
            "{rest}"
        );
        assert!(!rest.contains("begun"), "{rest}");
    }
    // From the beginning, and by another client.
    let (_, request) = event.split_once('/').expect("the id of an event");
    let all = client
        .resume(&format!("0/{request}"))
        .await
        .until("isError")
        .await;
    assert!(all.contains("begun"), "{all}");
    let other = Client::connect(address, "").await;
    let nothing = other.resume(&event).await.until(LAST_CHUNK).await;
    assert!(!nothing.contains("isError"), "{nothing}");
    // What a connection had ends with it.
    client.delete().await;
    assert_eq!(client.resume(&event).await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_kept_are_bounded() {
    let address = listen(HttpOptions::default()).await;
    let client = Client::connect(address, "").await;
    let long = "x".repeat(ANSWER_BYTES / 2);
    let code = json!([["none", long, {}]]).to_string();
    let run = json!({ "code": code });
    let mut events = Vec::new();
    for _ in 0..2 * KEPT_ANSWERS_OF_CONNECTION / ANSWER_BYTES {
        let mut answer = client.call("run_code", run.clone()).await;
        let text = answer.until("isError").await;
        assert!(text.len() > ANSWER_BYTES / 2, "{}", text.len());
        let event = text.lines().find_map(|line| line.strip_prefix("id: "));
        events.push(event.unwrap_or_else(|| panic!("{text}")).trim().to_owned());
    }
    let mut kept = Vec::new();
    for event in &events {
        let mut again = client.resume(event).await;
        kept.push(again.until(LAST_CHUNK).await.contains("isError"));
    }
    // The last ones, and not the first.
    let from = kept.iter().position(|kept| *kept).expect("some are kept");
    assert!(
        from > 0 && kept[from..].iter().all(|kept| *kept),
        "{kept:?}"
    );
}

/// The end of a body.
const LAST_CHUNK: &str = "0\r\n\r\n";

/// A client of the server with a credential, and its connection of MCP.
#[derive(Clone)]
struct Client {
    address: SocketAddr,
    credential: String,
    connection: String,
}

/// An answer: its status and fields, and the connection, on which the body follows.
struct Answer {
    head: String,
    stream: TcpStream,
}

impl Answer {
    /// Reads the head.
    async fn begin(mut stream: TcpStream) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        let head = String::from_utf8(head).expect("text");
        Self { head, stream }
    }

    fn status(&self) -> u16 {
        let status = self.head.get(9..12).and_then(|status| status.parse().ok());
        status.unwrap_or(0)
    }

    /// What comes until the text does, or the end.
    async fn until(&mut self, text: &str) -> String {
        let mut all = Vec::new();
        let mut some = [0; 4096];
        while !String::from_utf8_lossy(&all).contains(text) {
            match self.stream.read(&mut some).await {
                Ok(read) if read > 0 => all.extend_from_slice(&some[..read]),
                _ => break,
            }
        }
        String::from_utf8_lossy(&all).into_owned()
    }
}

impl Client {
    async fn connect(address: SocketAddr, credential: &str) -> Self {
        let mut client = Self {
            address,
            credential: credential.to_owned(),
            connection: String::new(),
        };
        let answer = client.send(&initialize()).await;
        let field = "mcp-session-id: ";
        let id = answer
            .head
            .lines()
            .find_map(|line| line.strip_prefix(field));
        client.connection = id.unwrap_or_else(|| panic!("{}", answer.head)).to_owned();
        client
    }

    /// Sends a message and reads the head of its answer.
    async fn send(&self, body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        let mut head = format!(
            "POST /mcp HTTP/1.1\r\n{LOCAL}content-type: application/json\r\naccept: application/json, text/event-stream\r\n\
             authorization: Bearer {}\r\ncontent-length: {}\r\n",
            self.credential,
            body.len()
        );
        if !self.connection.is_empty() {
            head += &format!("mcp-session-id: {}\r\n", self.connection);
        }
        let request = format!("{head}\r\n{body}");
        stream.write_all(request.as_bytes()).await.expect("sent");
        Answer::begin(stream).await
    }

    /// Sends a request without a body and reads the head of its answer.
    async fn bare(&self, method: &str, host: &str, more: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        let head = format!(
            "{method} /mcp HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\nmcp-session-id: {}\r\n{more}\r\n",
            self.connection
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        Answer::begin(stream).await
    }

    /// Ends the connection of MCP.
    async fn delete(&self) {
        let status = self.bare("DELETE", "localhost", "").await.status();
        assert!((200..300).contains(&status), "{status}");
    }

    /// Reads what comes behind an event.
    async fn resume(&self, event: &str) -> Answer {
        let last = format!("last-event-id: {event}\r\n");
        self.bare("GET", "localhost", &last).await
    }

    async fn call(&self, tool: &str, arguments: Value) -> Answer {
        // No two requests of a client have one id at the same time.
        static NEXT: AtomicUsize = AtomicUsize::new(7);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call",
                           "params": { "name": tool, "arguments": arguments, "_meta": { "progressToken": 7 } } });
        self.send(&call.to_string()).await
    }

    async fn run(&self, code: &str) -> Answer {
        self.call("run_code", json!({ "code": code, "session": "s" }))
            .await
    }
}

/// A store of API keys.
struct KeyStore {
    store: Store,
    folder: tempfile::TempDir,
}

impl KeyStore {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("keys.db"), Self::pepper()).expect("a store");
        Self { store, folder }
    }

    fn pepper() -> Pepper {
        Pepper::new(&[7; 32]).expect("a secret")
    }

    /// A new key with a scope: its text and its id.
    fn key(&mut self, scope: &str) -> (String, KeyId) {
        let fields = KeyFields {
            name: scope.to_owned(),
            scopes: vec![Scope::parse(scope).expect("a scope")],
            ..KeyFields::default()
        };
        let made = self.store.create(&fields, std::time::SystemTime::now());
        let made = made.expect("a key");
        (made.key.reveal().to_owned(), made.record.id)
    }

    /// A server for these keys, with what counts their calls.
    async fn listen(&self, rate: Option<&str>, share: Option<Share>) -> (SocketAddr, Quotas) {
        let quotas = Quotas::in_memory(1000).expect("counters");
        let rate = rate.map(|rate| Amount::parse(rate).expect("a rate").allowance(None));
        let read = Scope::parse_required("read").expect("a scope");
        let rules = KeyRules {
            keys: Keys::open(&self.folder.path().join("keys.db"), Self::pepper()).expect("keys"),
            name: "mcp".into(),
            scopes: [("list_sessions".to_owned(), read)].into(),
            rate,
            cpu: None,
            counters: Arc::clone(quotas.counters()),
        };
        let options = HttpOptions {
            clients: Clients::Keys(rules),
            ..HttpOptions::default()
        };
        (listen_with(options, share).await, quotas)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn key_is_needed_and_its_scope_and_rate_are_held() {
    let mut keys = KeyStore::new();
    let ((reads, _), (writes, _)) = (keys.key("read"), keys.key("write"));
    let (address, _quotas) = keys.listen(Some("3/h"), None).await;
    // Without a key, and with one that is none.
    for credential in ["", "sk_stockade_none"] {
        let client = Client {
            address,
            credential: credential.to_owned(),
            connection: String::new(),
        };
        let refused = client.send(&initialize()).await;
        assert_eq!(refused.status(), 401, "{}", refused.head);
        assert!(
            refused
                .head
                .contains("www-authenticate: Bearer realm=\"mcp\"")
        );
    }
    // The scope of each tool.
    let client = Client::connect(address, &reads).await;
    assert_eq!(client.call("list_sessions", json!({})).await.status(), 200);
    let refused = client.run("[]").await;
    assert_eq!(refused.status(), 403, "{}", refused.head);
    assert!(refused.head.contains("scope=\"write\""), "{}", refused.head);
    // The rate counts calls, whatever else is sent.
    let client = Client::connect(address, &writes).await;
    for left in [2, 1, 0] {
        let ran = client.run("[]").await;
        assert_eq!(ran.status(), 200);
        assert!(ran.head.contains(&format!("r={left}")), "{}", ran.head);
    }
    let refused = client.run("[]").await;
    assert_eq!(refused.status(), 429);
    assert!(refused.head.contains("retry-after: "), "{}", refused.head);
    // A call that is hidden in a message that is none.
    let call = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"method\":\"tools/call\",\"params\":{\"name\":\"run_code\"}}";
    assert_eq!(client.send(call).await.status(), 400);
    assert_eq!(client.send(&format!("[{call}]")).await.status(), 400);
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    assert_eq!(client.send(&ping.to_string()).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_progress_token_is_not_sent_with_each_line() {
    let address = listen(HttpOptions::default()).await;
    let client = Client::connect(address, "").await;
    let answer = async |token: &str| {
        let call = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call",
                           "params": { "name": "run_code", "arguments": { "code": "[]" }, "_meta": { "progressToken": token } } });
        let mut answer = client.send(&call.to_string()).await;
        answer.until("isError").await
    };
    let short = answer("a-token").await;
    assert!(short.contains("\"progressToken\":\"a-token\""), "{short}");
    let long = answer(&"x".repeat(PROGRESS_TOKEN_BYTES + 1)).await;
    assert!(
        long.contains("isError") && !long.contains("progressToken"),
        "{long}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_key_ends_what_it_opened_and_nothing_of_others() {
    let mut keys = KeyStore::new();
    let ((stays, _), (goes, id)) = (keys.key("write"), keys.key("write"));
    let (address, _quotas) = keys.listen(None, None).await;
    let (harmless, revoked) = (
        Client::connect(address, &stays).await,
        Client::connect(address, &goes).await,
    );
    let mut ran = harmless.run("[]").await;
    assert!(ran.until("isError").await.contains("result"));
    let mut running = revoked.run("wait").await;
    assert_eq!(running.status(), 200);
    running.until("begun").await;
    // The connection of one key is none for another.
    let stolen = Client {
        credential: stays.clone(),
        ..revoked.clone()
    };
    assert_eq!(stolen.run("[]").await.status(), 404);
    keys.store
        .revoke(id, std::time::SystemTime::now())
        .expect("revoked");
    // The answer ends without a result, and the next request is refused.
    let rest = running.until("\"result\"").await;
    assert!(!rest.contains("\"result\""), "{rest}");
    assert_eq!(revoked.run("[]").await.status(), 401);
    let mut listed = harmless.call("list_sessions", json!({})).await;
    let listed = listed.until("isError").await;
    assert!(listed.contains("s: 1 runs"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_with_the_old_text_of_a_key_does_not_end_what_those_with_the_new_one_have() {
    let mut keys = KeyStore::new();
    let (old, id) = keys.key("write");
    let (address, _quotas) = keys.listen(None, None).await;
    let slow = Client::connect(address, &old).await;
    let now = std::time::SystemTime::now();
    let rotated = keys.store.rotate(id, Duration::from_secs(3), now);
    let new = Client {
        address,
        credential: rotated.expect("rotated").key.reveal().to_owned(),
        connection: String::new(),
    };
    // The server sees it by itself.
    while new.send(&initialize()).await.status() != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let new = Client::connect(address, &new.credential).await;
    let mut running = new.run("wait").await;
    running.until("begun").await;
    // The old text is the last one that comes before it ends.
    while slow.call("list_sessions", json!({})).await.status() != 401 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ended = tokio::time::timeout(Duration::from_secs(1), running.until("\"result\"")).await;
    assert!(ended.is_err(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_of_one_token_leaves_turns_for_another() {
    let options = HttpOptions {
        clients: Clients::Tokens(vec![Token::new("flood"), Token::new("other")]),
        ..HttpOptions::default()
    };
    let share = Share {
        runs: 1,
        waiting: 2,
        sessions: 2,
    };
    let address = listen_with(options, Some(share)).await;
    // One runs, two wait, and the rest are refused.
    let mut flood = FuturesUnordered::new();
    for _ in 0..6 {
        let client = Client::connect(address, "flood").await;
        let mut answer = client.call("run_code", json!({ "code": "wait" })).await;
        flood.push(async move { answer.until("which is the limit").await });
    }
    for _ in 0..3 {
        let refused = flood.next().await.expect("an answer");
        assert!(refused.contains("which is the limit"), "{refused}");
    }
    // The turn of the other is free, though the flood has more runs than there are turns.
    let other = Client::connect(address, "other").await;
    let mut ran = other.run("[]").await;
    let ran = ran.until("\"isError\":false").await;
    assert!(ran.contains("\"isError\":false"), "{ran}");
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
    let server = server(config, None);
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
