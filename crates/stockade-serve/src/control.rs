//! The Unix socket over which `stockade reload` asks a running server to read its configuration again, and
//! `stockade keys` asks it to read its API keys again.
//!
//! A client sends one line, `reload` or `keys`, and gets one line of JSON, an [`Answer`].
//!
//! Invariants: only this user and root are served, as the kernel reports them (`SO_PEERCRED`); a client that
//! stalls keeps nobody else waiting; one reload runs at a time, and a change of keys waits for none.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::keys::OpenKeys;

/// How long a client may take to say what it wants.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a question.
const MAX_QUESTION: u64 = 64;

/// Bytes of an answer.
const MAX_ANSWER: u64 = 4 << 20;

/// Clients at the same time.
const MAX_CLIENTS: usize = 8;

/// What a reload came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The new configuration is in use.
    pub done: bool,
    /// What changed, or every error; for a person.
    pub message: String,
}

/// A question, and where the answer goes.
pub(crate) type Asked = oneshot::Sender<Answer>;

/// Answers requests until it is dropped, then removes its socket.
pub(crate) struct Control {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Somebody listens already.
    #[error(
        "cannot listen on {path}: another server is listening there, probably of the same configuration\n  fix: stop that one, or give this one another 'control' path"
    )]
    Taken {
        /// Where.
        path: PathBuf,
    },
    /// The system refused.
    #[error(
        "cannot listen on {path}: {source}\n  fix: give 'control' a path in a folder that this user may write to"
    )]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "no server listens on {path} ({source})\n  fix: start `stockade serve`, or name its socket with --control"
    )]
    NoServer {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The server went away, or what answers is no server.
    #[error("the server on {path} did not answer: {why}")]
    NoAnswer {
        /// Where.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl Control {
    /// Listens. Questions come through the receiver.
    ///
    /// # Errors
    /// When the socket cannot be created, or a server listens there already.
    pub(crate) async fn listen(
        path: &Path,
        keys: OpenKeys,
    ) -> Result<(Self, mpsc::Receiver<Asked>), ControlError> {
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
        let (sender, receiver) = mpsc::channel(1);
        let task = tokio::spawn(accept(listener, sender, keys));
        let control = Self {
            path: path.to_owned(),
            task,
        };
        Ok((control, receiver))
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

async fn accept(listener: UnixListener, sender: mpsc::Sender<Asked>, keys: OpenKeys) {
    let places = Arc::new(tokio::sync::Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (sender, keys) = (sender.clone(), Arc::clone(&keys));
        tokio::spawn(async move {
            if let Err(error) = serve_client(stream, &sender, &keys).await {
                tracing::debug!(%error, "a client of the control socket went wrong");
            }
            drop(place);
        });
    }
}

/// Reads one request and answers it.
async fn serve_client(
    mut stream: UnixStream,
    sender: &mpsc::Sender<Asked>,
    keys: &OpenKeys,
) -> io::Result<()> {
    let user = stream.peer_cred()?.uid();
    if user != 0 && user != rustix::process::geteuid().as_raw() {
        tracing::warn!(user, "another user was refused at the control socket");
        return Ok(());
    }
    let mut question = String::new();
    let mut reader = BufReader::new((&mut stream).take(MAX_QUESTION));
    timeout(ASK_TIMEOUT, reader.read_line(&mut question)).await??;
    let answer = match question.trim() {
        "reload" => reload(sender).await,
        "keys" => refresh(keys).await,
        _ => Answer {
            done: false,
            message: "the only questions are: reload, keys".to_owned(),
        },
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    timeout(ASK_TIMEOUT, stream.write_all(text.as_bytes())).await?
}

/// Has the configuration read again.
async fn reload(sender: &mpsc::Sender<Asked>) -> Answer {
    let (asked, answer) = oneshot::channel();
    let gone = Answer {
        done: false,
        message: "the server is stopping".to_owned(),
    };
    match sender.send(asked).await {
        Ok(()) => answer.await.unwrap_or(gone),
        Err(_) => gone,
    }
}

/// Has the API keys read again.
async fn refresh(keys: &OpenKeys) -> Answer {
    let Some((_, keys)) = keys.get() else {
        return Answer {
            done: true,
            message: "the server uses no API keys".to_owned(),
        };
    };
    match keys.refresh().await {
        Ok(count) => Answer {
            done: true,
            message: format!("{count} keys are in use"),
        },
        Err(message) => Answer {
            done: false,
            message,
        },
    }
}

/// Asks the server that listens at `path` to read its configuration again, and waits for the outcome.
///
/// # Errors
/// When no server answers.
pub async fn ask_to_reload(path: &Path) -> Result<Answer, AskError> {
    ask(path, b"reload\n").await
}

/// Asks the server that listens at `path` to read its API keys again, and waits until they are in effect.
///
/// # Errors
/// When no server answers.
pub async fn ask_to_refresh_keys(path: &Path) -> Result<Answer, AskError> {
    ask(path, b"keys\n").await
}

async fn ask(path: &Path, question: &[u8]) -> Result<Answer, AskError> {
    let mut stream = UnixStream::connect(path)
        .await
        .map_err(|source| AskError::NoServer {
            path: path.to_owned(),
            source,
        })?;
    let no_answer = |why: String| AskError::NoAnswer {
        path: path.to_owned(),
        why,
    };
    let text = async {
        stream.write_all(question).await?;
        let mut text = String::new();
        stream.take(MAX_ANSWER).read_to_string(&mut text).await?;
        Ok::<_, io::Error>(text)
    }
    .await
    .map_err(|error| no_answer(error.to_string()))?;
    if text.is_empty() {
        return Err(no_answer("it closed the connection".to_owned()));
    }
    serde_json::from_str(&text).map_err(|error| no_answer(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn control_answers_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        assert!(matches!(
            ask_to_reload(&path).await,
            Err(AskError::NoServer { .. })
        ));
        let (control, mut questions) = Control::listen(&path, OpenKeys::default()).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let answer = Answer {
            done: false,
            message: "line 3: no".to_owned(),
        };
        let wanted = answer.clone();
        tokio::spawn(async move {
            questions.recv().await.unwrap().send(answer).unwrap();
        });
        assert_eq!(ask_to_reload(&path).await.unwrap(), wanted);
        assert!(matches!(
            Control::listen(&path, OpenKeys::default()).await,
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
        let (_control, _questions) = Control::listen(&path, OpenKeys::default()).await.unwrap();
    }

    #[tokio::test]
    async fn control_other_question_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (_control, _questions) = Control::listen(&path, OpenKeys::default()).await.unwrap();
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(&[b'x'; 64]).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let answer: Answer = serde_json::from_str(&text).unwrap();
        assert!(!answer.done);
    }
}
