//! A gateway on loopback, what it reported, and bare clients.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use stockade_gateway::{
    AccessRecord, Address, DatagramLimits, Gateway, Limits, Listener, Observer, Pattern,
    ProxyProtocol, Refusal, Route, RouteTable, SocketRecord, TableOptions, Target,
};
use stockade_http::Body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Longer than anything here takes, unless there is a fault.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("this took longer than {PATIENCE:?}"),
    }
}

/// Everything that was reported.
#[derive(Default)]
pub(crate) struct Log {
    recorded: watch::Sender<Recorded>,
}

#[derive(Default, Clone)]
pub(crate) struct Recorded {
    pub(crate) requests: Vec<AccessRecord>,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) sockets: Vec<SocketRecord>,
    pub(crate) closed: usize,
}

impl Observer for Log {
    fn request(&self, record: &AccessRecord) {
        self.recorded
            .send_modify(|recorded| recorded.requests.push(record.clone()));
    }

    fn refused(&self, refusal: Refusal, _peer: Option<IpAddr>) {
        self.recorded
            .send_modify(|recorded| recorded.refusals.push(refusal));
    }

    fn connection(&self, _listener: &str, event: stockade_gateway::ConnectionEvent) {
        if let stockade_gateway::ConnectionEvent::Closed { .. } = event {
            self.recorded.send_modify(|recorded| recorded.closed += 1);
        }
    }

    fn socket(&self, record: &SocketRecord) {
        self.recorded
            .send_modify(|recorded| recorded.sockets.push(record.clone()));
    }
}

impl Log {
    /// Waits until what was reported is as `fits` says.
    pub(crate) async fn until(&self, fits: impl FnMut(&Recorded) -> bool) -> Recorded {
        soon(self.recorded.subscribe().wait_for(fits))
            .await
            .unwrap()
            .clone()
    }

    pub(crate) async fn request(&self) -> AccessRecord {
        self.until(|recorded| !recorded.requests.is_empty())
            .await
            .requests
            .remove(0)
    }

    /// Forgets what was reported.
    pub(crate) fn clear(&self) {
        self.recorded.send_replace(Recorded::default());
    }

    pub(crate) fn now(&self) -> Recorded {
        self.recorded.borrow().clone()
    }
}

pub(crate) struct Server {
    pub(crate) gateway: Gateway,
    pub(crate) address: SocketAddr,
    pub(crate) log: Arc<Log>,
}

pub(crate) fn listener() -> Listener {
    Listener {
        name: "test".into(),
        address: Address::Tcp(([127, 0, 0, 1], 0).into()),
        tls: None,
        proxy_protocol: ProxyProtocol::Off,
        http2: true,
        streams: None,
        datagrams: DatagramLimits::default(),
    }
}

impl Server {
    /// Serves one target for everything.
    pub(crate) async fn one(target: impl Target) -> Self {
        Self::limited(target, Limits::default()).await
    }

    pub(crate) async fn limited(target: impl Target, limits: Limits) -> Self {
        let route = Route::new("all", vec![Pattern::any()], Arc::new(target));
        Self::start(listener(), table(vec![route]), limits).await
    }

    pub(crate) async fn start(listener: Listener, table: RouteTable, limits: Limits) -> Self {
        let log = Arc::<Log>::default();
        let observer: Arc<dyn Observer> = log.clone();
        let gateway = Gateway::start(vec![listener], table, limits, observer)
            .await
            .unwrap();
        let (_, address) = gateway.addresses().remove(0);
        let Address::Tcp(address) = address else {
            panic!("not TCP: {address}")
        };
        Self {
            gateway,
            address,
            log,
        }
    }

    pub(crate) async fn connect(&self) -> Raw {
        Raw::new(TcpStream::connect(self.address).await.unwrap())
    }
}

pub(crate) fn table(routes: Vec<Route>) -> RouteTable {
    RouteTable::new(routes, TableOptions::default()).unwrap()
}

pub(crate) fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(
        Full::new(text.into())
            .map_err(|never| match never {})
            .boxed_unsync(),
    )
}

/// Says what it was asked: the first line, the headers in order of their names, and the body.
pub(crate) async fn echo(request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            let mut response = text(error.to_string());
            *response.status_mut() = StatusCode::IM_A_TEAPOT;
            return response;
        }
    };
    let mut lines: Vec<String> = parts
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    lines.sort();
    let head = format!("{} {}\n{}\n\n", parts.method, parts.uri, lines.join("\n"));
    text([head.as_bytes(), &body].concat())
}

/// Answers `hello`, whatever it is asked, without reading.
pub(crate) async fn hello(_request: Request<Body>) -> Response<Body> {
    text("hello")
}

/// A client that sends and receives bytes.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    pub(crate) read: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Raw {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, data: impl AsRef<[u8]>) {
        soon(self.stream.write_all(data.as_ref())).await.unwrap();
    }

    /// Sends and reads one answer.
    pub(crate) async fn ask(&mut self, data: impl AsRef<[u8]>) -> Answer {
        self.send(data).await;
        self.answer().await
    }

    async fn more(&mut self) -> bool {
        let read = soon(self.stream.read_buf(&mut self.read)).await;
        read.is_ok_and(|read| read > 0)
    }

    /// Reads a head.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            if let Some(end) = find(&self.read, b"\r\n\r\n") {
                let head: Vec<u8> = self.read.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            if !self.more().await {
                let read = String::from_utf8_lossy(&self.read);
                panic!("the connection ended in a head: {read:?}");
            }
        }
    }

    /// Reads an answer to a request that is not HEAD.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer {
            status,
            head,
            body: Vec::new(),
        };
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.line().await;
                let size = usize::from_str_radix(line.trim(), 16).unwrap();
                let chunk = self.exactly(size + 2).await;
                answer.body.extend(&chunk[..size]);
                if size == 0 {
                    return answer;
                }
            }
        }
        let length = answer
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        answer.body = self.exactly(length).await;
        answer
    }

    pub(crate) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            assert!(
                self.more().await,
                "the connection ended in a body of {length} bytes"
            );
        }
        self.read.drain(..length).collect()
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = find(&self.read, b"\r\n") {
                let line: Vec<u8> = self.read.drain(..end + 2).collect();
                return String::from_utf8(line).unwrap();
            }
            assert!(self.more().await, "the connection ended in a line");
        }
    }

    /// Reads until the connection ends, and returns what came.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }

    /// The connection ends without another byte.
    pub(crate) async fn closed(&mut self) {
        let rest = self.rest().await;
        assert!(rest.is_empty(), "{:?} came", String::from_utf8_lossy(&rest));
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// `GET` with a host.
pub(crate) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: a.example\r\n\r\n")
}
