//! The server that debuggers find isolates by and connect to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use deno_core::JsRuntime;
use deno_core::futures::StreamExt as _;
use deno_inspector_server::validated_host_header;
use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{
    FragmentCollectorRead, Frame, OpCode, Payload, WebSocketError, WebSocketRead, WebSocketWrite,
};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, ORIGIN};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::session::{CommandSender, Debuggable, Debuggers, Entrance, Session, Watcher};
use crate::target::{Entries, Listed, ListedTarget, Target};

/// Close code of a socket whose isolate has ended (RFC 6455, "going away").
const GOING_AWAY: u16 = 1001;

/// Close code of a socket whose session is over for another reason (RFC 6455, "policy violation").
const POLICY: u16 = 1008;

/// Bytes of a reason in a close frame (RFC 6455, 5.5).
const MAX_REASON: usize = 123;

/// The server could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for debuggers on {address}: {source}\n  fix: choose another address")]
pub struct ListenError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub source: std::io::Error,
}

/// Receives each isolate that registers, with the URL that a debugger connects to.
type Announce = dyn Fn(&Target, &str) + Send + Sync;

/// Debuggers connect here. Cheap to clone; listens until the process ends.
#[derive(Clone)]
pub struct Inspector {
    address: SocketAddr,
    entries: Entries,
    announce: Arc<Announce>,
}

impl Inspector {
    /// Listens on this address, where port 0 is any that is free. `announce` receives each isolate
    /// that registers, with the URL a debugger connects to.
    ///
    /// # Errors
    /// When the address is in use or not this machine's.
    pub fn listen(
        address: SocketAddr,
        announce: impl Fn(&Target, &str) + Send + Sync + 'static,
    ) -> Result<Self, ListenError> {
        let failed = |source| ListenError { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let inspector = Self {
            address: listener.local_addr().map_err(failed)?,
            entries: Entries::default(),
            announce: Arc::new(announce),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(failed)?;
        let entries = Arc::clone(&inspector.entries);
        std::thread::Builder::new()
            .name("inspector".to_owned())
            .spawn(move || runtime.block_on(accept(listener, entries)))
            .map_err(failed)?;
        Ok(inspector)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lists an isolate whose runtime was made with an inspector.
    pub fn register(
        &self,
        runtime: &JsRuntime,
        target: Target,
        debuggers: Debuggers,
        watcher: Option<Arc<dyn Watcher>>,
    ) -> Listed {
        self.list(target, Arc::new(Entrance::new(runtime, debuggers, watcher)))
    }

    /// Lists an isolate, wherever it runs.
    pub fn list(&self, target: Target, isolate: Arc<dyn Debuggable>) -> Listed {
        let entry = ListedTarget {
            id: Uuid::new_v4(),
            target,
            isolate,
        };
        let listed = Listed {
            id: entry.id,
            address: self.address,
            entries: Arc::clone(&self.entries),
        };
        let target = entry.target.clone();
        self.entries.lock().push(entry);
        (self.announce)(&target, &listed.url());
        listed
    }
}

async fn accept(listener: std::net::TcpListener, entries: Entries) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("no debugger can connect: {error}"),
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, Arc::clone(&entries)));
            }
            Err(error) => {
                tracing::error!("a debugger could not connect: {error}");
                // Out of descriptors, most likely: do not ask again at once.
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn serve(stream: TcpStream, entries: Entries) {
    let service = service_fn(|request| {
        let response = respond(request, &entries);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!("a debugger's connection failed: {error}");
    }
}

type Answer = Response<Full<Bytes>>;

fn respond(request: Request<Incoming>, entries: &Entries) -> Answer {
    let Ok(host) = validated_host_header(&request) else {
        return plain(
            StatusCode::BAD_REQUEST,
            "the Host must be an IP address or localhost",
        );
    };
    if !request.headers().get_all(ORIGIN).iter().all(is_front_end) {
        return plain(
            StatusCode::FORBIDDEN,
            "only DevTools connect here, and no page of a site",
        );
    }
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET");
    }
    match request.uri().path() {
        "/json" | "/json/list" => {
            let host = host.as_ref().map_or("localhost", |host| host.authority());
            let list = entries
                .lock()
                .iter()
                .filter(|entry| !entry.isolate.is_gone())
                .map(|entry| entry.describe(host))
                .collect();
            json_answer(&Value::Array(list))
        }
        "/json/version" => json_answer(&json!({
            "Browser": concat!("stockade/", env!("CARGO_PKG_VERSION")),
            "Protocol-Version": "1.3",
            "V8-Version": deno_core::v8::VERSION_STRING,
        })),
        path => {
            let id = path.strip_prefix("/ws/").or_else(|| path.strip_prefix('/'));
            let id = id.and_then(|id| Uuid::parse_str(id).ok());
            let entry =
                id.and_then(|id| entries.lock().iter().find(|entry| entry.id == id).cloned());
            match entry {
                Some(entry) => connect(request, &entry),
                None => plain(StatusCode::NOT_FOUND, "no such isolate"),
            }
        }
    }
}

/// Whether an `Origin` is that of a debugger's front end. Other debuggers send none.
fn is_front_end(origin: &HeaderValue) -> bool {
    matches!(
        origin.as_bytes(),
        b"devtools://devtools"
            | b"chrome-devtools://devtools"
            | b"https://chrome-devtools-frontend.appspot.com"
    )
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer
}

fn json_answer(value: &Value) -> Answer {
    let mut answer = Response::new(Full::from(value.to_string()));
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=UTF-8"),
    );
    answer
}

fn connect(mut request: Request<Incoming>, entry: &ListedTarget) -> Answer {
    let Ok((response, socket)) = upgrade(&mut request) else {
        return plain(
            StatusCode::BAD_REQUEST,
            "connect to this address with a WebSocket",
        );
    };
    let Some(session) = entry.isolate.connect() else {
        return plain(
            StatusCode::GONE,
            "the isolate has ended, or is debugged or profiled already",
        );
    };
    tokio::spawn(async move {
        if let Err(error) = carry(socket, session).await {
            tracing::debug!("a debugger's socket failed: {error}");
        }
    });
    response.map(|_| Full::default())
}

/// Carries messages both ways until either side is gone.
async fn carry(socket: UpgradeFut, session: Session) -> Result<(), WebSocketError> {
    let (reader, writer) = socket.await?.split(tokio::io::split);
    let to_isolate = Arc::clone(&session.to_isolate);
    let (obliged, obligations) = mpsc::channel(1);
    let read = read_commands(reader, to_isolate, obliged);
    let write = write_messages(writer, session, obligations);
    // The session is dropped with `write`, and notifies the isolate.
    tokio::pin!(write);
    tokio::select! {
        done = &mut write => done,
        done = read => {
            done?;
            write.await
        }
    }
}

/// Reads what the debugger sends until it is gone or the isolate takes nothing more. Answers to pings and to closing go to
/// `obliged`: reading goes on when they are sent.
async fn read_commands<S: AsyncRead + Unpin>(
    reader: WebSocketRead<S>,
    to_isolate: Arc<CommandSender>,
    obliged: mpsc::Sender<Frame<'static>>,
) -> Result<(), WebSocketError> {
    let mut reader = FragmentCollectorRead::new(reader);
    loop {
        let mut oblige = |frame: Frame<'_>| {
            let payload = Payload::Owned(frame.payload.to_vec());
            let frame = Frame::new(true, frame.opcode, None, payload);
            let obliged = obliged.clone();
            async move {
                // Nobody is there to send it any more when the isolate is gone.
                let _ = obliged.send(frame).await;
                Ok::<(), WebSocketError>(())
            }
        };
        let frame = reader.read_frame(&mut oblige).await?;
        match frame.opcode {
            OpCode::Text => {
                let text = String::from_utf8_lossy(&frame.payload).into_owned();
                if !to_isolate.send(text).await {
                    return Ok(());
                }
            }
            OpCode::Close => return Ok(()),
            _ => {}
        }
    }
}

/// Writes what the isolate sends until the session is over, and `obligations` first, until nothing more is read.
async fn write_messages<S: AsyncWrite + Unpin>(
    mut writer: WebSocketWrite<S>,
    mut session: Session,
    mut obligations: mpsc::Receiver<Frame<'static>>,
) -> Result<(), WebSocketError> {
    loop {
        let frame = tokio::select! {
            biased;
            obligation = obligations.recv() => match obligation {
                Some(frame) => frame,
                None => return Ok(()),
            },
            message = session.from_isolate.next() => match message {
                Some(Ok(message)) => Frame::text(Payload::Owned(message.into_bytes())),
                Some(Err(why)) => {
                    tracing::warn!("a debugger's session is over: {why}");
                    let mut reason = why.to_string();
                    reason.truncate(reason.floor_char_boundary(MAX_REASON));
                    let over = Frame::close(POLICY, reason.as_bytes());
                    return writer.write_frame(over).await;
                }
                None => {
                    let going_away = Frame::close(GOING_AWAY, b"the isolate has ended");
                    return writer.write_frame(going_away).await;
                }
            },
        };
        writer.write_frame(frame).await?;
    }
}
