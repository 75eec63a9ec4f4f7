//! A running `stockade rpc`, and ways to talk to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use soketto::connection::Error;
use soketto::handshake::client::{Header, ServerResponse};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

/// Far above what anything here needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The module that every server here serves.
pub(crate) fn guest() -> String {
    format!("{}/tests/rpc/guest.ts", env!("CARGO_MANIFEST_DIR"))
}

/// A server process; ended with its owner.
pub(crate) struct Server {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    /// `127.0.0.1:<port>`, or the path of a Unix socket.
    pub(crate) address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts one on a port of the system's choice and waits until it listens.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::listen("127.0.0.1:0", options)
    }

    pub(crate) fn listen(address: &str, options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stockade"))
            .args(["rpc", &guest(), "--listen", address])
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let place = line
            .trim()
            .strip_prefix("Listening on ")
            .unwrap_or_default();
        let address = place
            .trim_start_matches("http://")
            .trim_start_matches("unix:")
            .to_owned();
        assert!(!address.is_empty(), "it says where it listens: {line:?}");
        Self {
            child,
            _stdout: stdout,
            address,
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Posts a body and gives the status and the body of the answer.
    pub(crate) fn post(&self, body: &str) -> (u16, String) {
        round_trip(self.connect(), &request("localhost", "", body))
    }

    /// Posts a request and gives the response's JSON.
    pub(crate) fn send(&self, body: &Value) -> Value {
        let (_, text) = self.post(&body.to_string());
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("a JSON response: {text:?}"))
    }

    /// Calls a method and gives its result, or the error object.
    pub(crate) fn call(&self, method: &str, params: Value) -> Result<Value, Value> {
        outcome(self.send(&call(1, method, params)))
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Waits for the server's end and gives its exit code.
    pub(crate) fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

pub(crate) fn call(id: u32, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

/// The result of a response, or its error object.
pub(crate) fn outcome(mut response: Value) -> Result<Value, Value> {
    assert_eq!(response["jsonrpc"], "2.0", "{response}");
    match response.get_mut("error") {
        Some(error) => Err(error.take()),
        None => Ok(response["result"].take()),
    }
}

/// The text of a request; `headers` are whole lines.
pub(crate) fn request(host: &str, headers: &str, body: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends a request's text and gives the status and the body of the answer.
pub(crate) fn round_trip(mut stream: impl Read + Write, request: &str) -> (u16, String) {
    // A server that refuses early may close before it has read all.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.unwrap_or(0), body.to_owned())
}

/// Calls a method over a Unix socket.
pub(crate) fn call_unix(path: &Path, method: &str, params: Value) -> Result<Value, Value> {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = call(1, method, params).to_string();
    let (_, text) = round_trip(stream, &request("anything.example", "", &body));
    outcome(serde_json::from_str(&text).unwrap())
}

type Socket = Compat<tokio::net::TcpStream>;

/// A WebSocket client.
pub(crate) struct WebSocket {
    pub(crate) sender: soketto::Sender<Socket>,
    pub(crate) receiver: soketto::Receiver<Socket>,
}

impl WebSocket {
    pub(crate) async fn open(server: &Server) -> Self {
        Self::open_from(server, None).await.unwrap()
    }

    /// `Err` is the status of the refusal.
    pub(crate) async fn open_from(server: &Server, origin: Option<&str>) -> Result<Self, u16> {
        let header = origin.map(|origin| ("origin", origin.to_owned()));
        Self::open_sending(server, header).await
    }

    /// `Err` is the status of the refusal.
    pub(crate) async fn open_with(
        server: &Server,
        key: &stockade_auth::ApiKey,
    ) -> Result<Self, u16> {
        let credential = format!("Bearer {}", key.reveal());
        Self::open_sending(server, Some(("authorization", credential))).await
    }

    async fn open_sending(
        server: &Server,
        header: Option<(&'static str, String)>,
    ) -> Result<Self, u16> {
        let stream = tokio::net::TcpStream::connect(&server.address)
            .await
            .unwrap();
        let mut client = soketto::handshake::Client::new(stream.compat(), &server.address, "/");
        let headers = header.as_ref().map(|(name, value)| {
            [Header {
                name,
                value: value.as_bytes(),
            }]
        });
        if let Some(headers) = &headers {
            client.set_headers(headers);
        }
        match client.handshake().await.unwrap() {
            ServerResponse::Accepted { .. } => {
                let (sender, receiver) = client.into_builder().finish();
                Ok(Self { sender, receiver })
            }
            ServerResponse::Rejected { status_code } => Err(status_code),
            ServerResponse::Redirect { status_code, .. } => Err(status_code),
        }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.sender.send_text(text).await.unwrap();
        self.sender.flush().await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> Result<Value, Error> {
        let mut message = Vec::new();
        let receiving = self.receiver.receive_data(&mut message);
        tokio::time::timeout(PATIENCE, receiving).await.unwrap()?;
        Ok(serde_json::from_slice(&message).unwrap())
    }

    pub(crate) async fn round_trip(&mut self, message: &Value) -> Value {
        self.send(&message.to_string()).await;
        self.receive().await.unwrap()
    }
}
