//! The client of the admin API, for commands.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use serde_json::Value;
use stockade_protocol::bounds::MAX_DEBUG_BYTES;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::either::Either;

/// Bytes of an answer that is read as a whole.
const MAX_ANSWER: usize = 64 << 20;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the API is, and how to get in. Each request has a connection of its own.
#[derive(Clone)]
pub struct AdminClient {
    place: Place,
}

#[derive(Clone)]
enum Place {
    Socket(PathBuf),
    Url(Arc<AtUrl>),
}

/// A listener of the admin API.
struct AtUrl {
    /// As it was written, for messages.
    text: String,
    host: String,
    port: u16,
    /// Behind the scheme of the URL.
    authority: HeaderValue,
    /// `Bearer KEY`.
    key: Option<HeaderValue>,
    tls: Option<TlsConnector>,
}

/// What carries a request.
type Connection = Either<UnixStream, Either<TcpStream, Box<TlsStream<TcpStream>>>>;

/// An answer whose body has not been read.
pub struct AdminResponse {
    client: AdminClient,
    response: Response<Incoming>,
}

fn no_server(path: &str, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "the socket {path} is for the user of the server and for root\n  fix: run the command as one of them"
        ),
        _ => format!(
            "no server listens on {path} ({source})\n  fix: start `stockade serve`, or name its socket with --control"
        ),
    }
}

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens, or not for this user.
    #[error("{}", no_server(.path, .source))]
    NoServer {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The server went away, or what answers is not a server of Stockade.
    #[error("the server on {path} did not answer: {why}")]
    NoAnswer {
        /// Where.
        path: String,
        /// Why.
        why: String,
    },
    /// Something that the caller gave cannot be used.
    #[error("{0}")]
    Place(String),
    /// The server ended the session of a debugger.
    #[error("{0}")]
    Ended(String),
    /// The server answered that it does not do this.
    #[error("{detail}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// What the server says; its lines may come from anybody.
        detail: String,
    },
}

impl AdminClient {
    /// The server whose control socket is at this path.
    #[must_use]
    pub fn at_socket(path: &Path) -> Self {
        Self {
            place: Place::Socket(path.to_owned()),
        }
    }

    /// The server whose listener of the admin API is at this URL, as `https://admin.example.com:9901`. `key` is an API key
    /// with the scope `admin`, and `ca` a file with the certificates (PEM) to trust in place of the public authorities.
    ///
    /// # Errors
    /// When the URL, the key or the file cannot be used. A key is not sent over plain HTTP to another machine.
    pub fn at_url(url: &str, key: Option<&str>, ca: Option<&Path>) -> Result<Self, AskError> {
        let wrong = |why: &str| AskError::Place(format!("{url}: {why}"));
        let parsed = url::Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        let host = parsed.host().ok_or_else(|| wrong("it has no host"))?;
        let is_here = match &host {
            url::Host::Domain(name) => *name == "localhost",
            url::Host::Ipv4(address) => address.is_loopback(),
            url::Host::Ipv6(address) => address.is_loopback(),
        };
        let tls = match parsed.scheme() {
            "https" => Some(connector(ca)?),
            "http" if is_here => None,
            "http" => {
                return Err(wrong(
                    "the API key would cross the network as plain text: use https",
                ));
            }
            _ => return Err(wrong("write http://… or https://…")),
        };
        if !matches!(parsed.path(), "" | "/") || parsed.query().is_some() {
            return Err(wrong("write the URL without a path"));
        }
        let port = parsed.port_or_known_default().unwrap_or(443);
        let authority = match parsed.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        let key = key.map(|key| {
            let value = HeaderValue::try_from(format!("Bearer {key}"));
            let mut value = value
                .map_err(|_| AskError::Place("the API key is not one line of text".to_owned()))?;
            value.set_sensitive(true);
            Ok::<_, AskError>(value)
        });
        Ok(Self {
            place: Place::Url(Arc::new(AtUrl {
                text: url.to_owned(),
                host: parsed
                    .host_str()
                    .unwrap_or_default()
                    .trim_matches(['[', ']'])
                    .to_owned(),
                port,
                authority: HeaderValue::try_from(authority)
                    .map_err(|_| wrong("its host cannot be used"))?,
                key: key.transpose()?,
                tls,
            })),
        })
    }

    /// Sends a request, and reads the JSON that answers it. `body` is sent as JSON.
    ///
    /// # Errors
    /// When no server answers, or it refuses.
    pub async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, AskError> {
        let body = body.map(|value| ("application/json", Bytes::from(value.to_string())));
        self.send(method, path, body).await?.json().await
    }

    /// Sends a request. `path` has the query, and `body` its media type.
    ///
    /// # Errors
    /// When no server answers, or it refuses.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<AdminResponse, AskError> {
        let mut request = self.request(method, path)?;
        if let Some((kind, body)) = body {
            let kind = HeaderValue::from_static(kind);
            request.headers_mut().insert(CONTENT_TYPE, kind);
            *request.body_mut() = Full::new(body);
        }
        let response = AdminResponse {
            client: self.clone(),
            response: self.ask(request).await?,
        };
        if response.response.status().is_success() {
            return Ok(response);
        }
        Err(response.refused().await)
    }

    /// A request without a body, with what lets it in.
    fn request(&self, method: Method, path: &str) -> Result<Request<Full<Bytes>>, AskError> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        *request.uri_mut() = path
            .parse()
            .map_err(|error| self.no_answer(&format!("{path} is not a path: {error}")))?;
        let headers = request.headers_mut();
        match &self.place {
            Place::Socket(_) => {
                headers.insert(HOST, HeaderValue::from_static("localhost"));
            }
            Place::Url(at) => {
                headers.insert(HOST, at.authority.clone());
                if let Some(key) = &at.key {
                    headers.insert(AUTHORIZATION, key.clone());
                }
            }
        }
        Ok(request)
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, AskError> {
        let stream = self.connect().await?;
        let failed = |error: hyper::Error| self.no_answer(&error);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        // Ends with the body of the answer.
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(failed)
    }

    /// Attaches a debugger to a mirror: `/v1/instances/NAME/mirrors/NUMBER/debug`. Messages of `debugger` go to the mirror, and
    /// those of the mirror to `receive`, which is false once nobody wants them. Nothing is read of either side while the
    /// other one does not take it. Ends with either side.
    ///
    /// # Errors
    /// When no server answers, it refuses, or it ends the session for another reason than the mirror's end.
    pub async fn debug<F: Future<Output = bool>>(
        &self,
        path: &str,
        debugger: impl Stream<Item = String>,
        mut receive: impl FnMut(String) -> F,
    ) -> Result<(), AskError> {
        let socket = self.web_socket(path).await?;
        let (mut sink, mut stream) = socket.split();
        let mut debugger = std::pin::pin!(debugger);
        let write = async {
            while let Some(text) = debugger.next().await {
                if sink.send(Message::text(text)).await.is_err() {
                    return;
                }
            }
            let _ = sink.close().await;
        };
        let read = async {
            while let Some(Ok(message)) = stream.next().await {
                match message {
                    Message::Text(text) if !receive(text.to_string()).await => return Ok(()),
                    Message::Close(Some(frame)) if frame.code == CloseCode::Policy => {
                        return Err(AskError::Ended(frame.reason.to_string()));
                    }
                    _ => {}
                }
            }
            Ok(())
        };
        tokio::select! {
            () = write => Ok(()),
            ended = read => ended,
        }
    }

    async fn web_socket(&self, path: &str) -> Result<WebSocketStream<TokioIo<Upgraded>>, AskError> {
        let mut request = self.request(Method::GET, path)?;
        let headers = request.headers_mut();
        let key = HeaderValue::try_from(generate_key()).map_err(|error| self.no_answer(&error))?;
        for (name, value) in [
            (CONNECTION, HeaderValue::from_static("upgrade")),
            (UPGRADE, HeaderValue::from_static("websocket")),
            (SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
            (SEC_WEBSOCKET_KEY, key),
        ] {
            headers.insert(name, value);
        }
        let response = self.ask(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let client = self.clone();
            return Err(AdminResponse { client, response }.refused().await);
        }
        let upgraded = hyper::upgrade::on(response).await;
        let upgraded = upgraded.map_err(|error| self.no_answer(&error))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_DEBUG_BYTES))
            .max_frame_size(Some(MAX_DEBUG_BYTES));
        let io = TokioIo::new(upgraded);
        Ok(WebSocketStream::from_raw_socket(io, Role::Client, Some(config)).await)
    }

    async fn connect(&self) -> Result<Connection, AskError> {
        let no_server = |source| AskError::NoServer {
            path: self.place(),
            source,
        };
        let connecting = async {
            match &self.place {
                Place::Socket(path) => Ok(Either::Left(UnixStream::connect(path).await?)),
                Place::Url(at) => {
                    let stream = TcpStream::connect((at.host.as_str(), at.port)).await?;
                    let Some(tls) = &at.tls else {
                        return Ok(Either::Right(Either::Left(stream)));
                    };
                    let name = ServerName::try_from(at.host.clone()).map_err(io::Error::other)?;
                    let stream = tls.connect(name, stream).await?;
                    Ok(Either::Right(Either::Right(Box::new(stream))))
                }
            }
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.map_err(no_server),
            Err(_) => Err(no_server(io::ErrorKind::TimedOut.into())),
        }
    }

    fn place(&self) -> String {
        match &self.place {
            Place::Socket(path) => path.display().to_string(),
            Place::Url(at) => at.text.clone(),
        }
    }

    fn no_answer(&self, why: &dyn std::fmt::Display) -> AskError {
        AskError::NoAnswer {
            path: self.place(),
            why: why.to_string(),
        }
    }
}

/// What verifies the server: public authorities, or those of a file.
fn connector(ca: Option<&Path>) -> Result<TlsConnector, AskError> {
    let mut roots = RootCertStore::empty();
    match ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let wrong =
                |why: &dyn std::fmt::Display| AskError::Place(format!("{}: {why}", path.display()));
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| wrong(&error))?;
                roots.add(certificate).map_err(|error| wrong(&error))?;
            }
            if roots.is_empty() {
                return Err(wrong(&"it has no certificate"));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| AskError::Place(error.to_string()))?;
    let config = versions.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl AdminResponse {
    /// Reads the whole body, at most 64 MiB of it.
    ///
    /// # Errors
    /// When the server goes away, or sends more.
    pub async fn bytes(self) -> Result<Bytes, AskError> {
        let body = Limited::new(self.response.into_body(), MAX_ANSWER);
        let collected = body.collect().await;
        let collected = collected.map_err(|error| self.client.no_answer(&error))?;
        Ok(collected.to_bytes())
    }

    /// Reads the whole body as JSON.
    ///
    /// # Errors
    /// When the server goes away, or the body is something else.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, AskError> {
        let client = self.client.clone();
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|error| client.no_answer(&error))
    }

    /// The next bytes of the body; `None` at its end. For answers without an end, such as events.
    ///
    /// # Errors
    /// When the server goes away.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, AskError> {
        loop {
            match self.response.body_mut().frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.client.no_answer(&error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    async fn refused(self) -> AskError {
        let status = self.response.status();
        let problem = self.json::<Value>().await;
        let detail = problem.ok().and_then(|problem| {
            let detail = problem.get("detail")?.as_str()?;
            Some(detail.to_owned())
        });
        let detail = detail.unwrap_or_else(|| format!("the server answered {status}"));
        AskError::Refused { status, detail }
    }
}
