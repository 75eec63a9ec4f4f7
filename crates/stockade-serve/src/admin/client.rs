//! The client of the admin API, for commands.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

/// Bytes of an answer that is read as a whole.
const MAX_ANSWER: usize = 64 << 20;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the API is, and how to get in. Each request has a connection of its own.
#[derive(Debug, Clone)]
pub struct AdminClient {
    socket: PathBuf,
}

/// An answer whose body has not been read.
pub struct AdminResponse {
    client: AdminClient,
    response: http::Response<Incoming>,
}

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "no server listens on {path} ({source})\n  fix: start `stockade serve`, or name its socket with --control"
    )]
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
            socket: path.to_owned(),
        }
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
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        *request.uri_mut() = path
            .parse()
            .map_err(|error| self.no_answer(&format!("{path} is not a path: {error}")))?;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        if let Some((kind, body)) = body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            *request.body_mut() = Full::new(body);
        }
        let stream = self.connect().await?;
        let failed = |error: hyper::Error| self.no_answer(&error);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        // Ends with the body of the answer.
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(failed)?;
        let response = AdminResponse {
            client: self.clone(),
            response,
        };
        if response.response.status().is_success() {
            return Ok(response);
        }
        Err(response.refused().await)
    }

    async fn connect(&self) -> Result<UnixStream, AskError> {
        let no_server = |source| AskError::NoServer {
            path: self.place(),
            source,
        };
        let connecting = UnixStream::connect(&self.socket);
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.map_err(no_server),
            Err(_) => Err(no_server(io::ErrorKind::TimedOut.into())),
        }
    }

    fn place(&self) -> String {
        self.socket.display().to_string()
    }

    fn no_answer(&self, why: &dyn std::fmt::Display) -> AskError {
        AskError::NoAnswer {
            path: self.place(),
            why: why.to_string(),
        }
    }
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
