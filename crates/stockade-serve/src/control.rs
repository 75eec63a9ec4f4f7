//! The control socket: the admin API over a Unix socket, for commands such as `stockade reload`.
//!
//! Invariants: only this user and root are served, as the kernel reports them (`SO_PEERCRED`); a client that
//! stalls keeps nobody else waiting.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::admin::answer_local;
use crate::error::ControlError;

/// From the start of a connection, or the end of its last request, to the end of a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of a request's head.
const MAX_HEADER: usize = 64 << 10;

/// Clients at the same time.
const MAX_CLIENTS: usize = 64;

/// Answers requests until it is dropped, then removes its socket.
pub(crate) struct Control {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Control {
    /// Listens, and answers with the routes of `router`.
    ///
    /// # Errors
    /// When the socket cannot be created, or a server listens there already.
    pub(crate) async fn listen(path: &Path, router: Router) -> Result<Self, ControlError> {
        let failed = |source| ControlError::Listen {
            path: path.to_owned(),
            source,
        };
        let listener = match bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                // Left behind by a server that was killed, unless one answers.
                if UnixStream::connect(path).await.is_ok() {
                    return Err(ControlError::Taken {
                        path: path.to_owned(),
                    });
                }
                std::fs::remove_file(path).map_err(failed)?;
                bind(path)
            }
            other => other,
        }
        .map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            task: tokio::spawn(accept(listener, router)),
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        // Somebody may have removed it already.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    // Until here it had what the mask left; connecting needs the right to write, and peers are checked.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(listener: UnixListener, router: Router) {
    let places = Arc::new(tokio::sync::Semaphore::new(MAX_CLIENTS));
    // Connections end with the socket.
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let router = router.clone();
        connections.spawn(async move {
            serve_client(stream, router).await;
            drop(place);
        });
    }
}

/// Answers the requests of one connection.
async fn serve_client(stream: UnixStream, router: Router) {
    let Ok(peer) = stream.peer_cred() else { return };
    let user = peer.uid();
    if user != 0 && user != rustix::process::geteuid().as_raw() {
        tracing::warn!(user, "another user was refused at the control socket");
        return;
    }
    let service = service_fn(move |request| {
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer_local(router, user, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a client of the control socket went wrong");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use http::Method;
    use serde_json::{Value, json};

    use super::*;
    use crate::{AdminClient, AskError};

    fn router() -> Router {
        let answer = async || axum::Json(json!({ "user": "this" }));
        Router::new().route("/v1/test", get(answer))
    }

    async fn ask(path: &Path) -> Result<Value, AskError> {
        let client = AdminClient::at_socket(path);
        client.json(Method::GET, "/v1/test", None).await
    }

    #[test]
    fn socket_of_another_user_is_not_taken_for_one_that_is_not_there() {
        let message = |kind: std::io::ErrorKind| {
            let path = "/run/s".to_owned();
            let source = kind.into();
            AskError::NoServer { path, source }.to_string()
        };
        let denied = message(std::io::ErrorKind::PermissionDenied);
        assert!(denied.contains("/run/s is for the user"), "{denied}");
        let absent = message(std::io::ErrorKind::NotFound);
        assert!(absent.contains("no server listens on /run/s"), "{absent}");
    }

    #[tokio::test]
    async fn control_answers_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        assert!(matches!(ask(&path).await, Err(AskError::NoServer { .. })));
        let control = Control::listen(&path, router()).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(ask(&path).await.unwrap()["user"], "this");
        assert!(matches!(
            Control::listen(&path, router()).await,
            Err(ControlError::Taken { .. })
        ));
        drop(control);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn control_socket_left_behind_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _control = Control::listen(&path, router()).await.unwrap();
        assert!(ask(&path).await.is_ok());
    }

    #[tokio::test]
    async fn client_that_says_nothing_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _control = Control::listen(&path, router()).await.unwrap();
        let mut silent = Vec::new();
        for _ in 0..MAX_CLIENTS - 1 {
            silent.push(UnixStream::connect(&path).await.unwrap());
        }
        assert!(ask(&path).await.is_ok());
    }
}
