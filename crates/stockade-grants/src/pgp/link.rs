//! The connection to a process of the helper, and its life.

use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::time::Duration;

use parking_lot::Mutex;
use stockade_jail::{CgroupUse, JailEvent, JailSpec, Launcher, Level, Role, Worker, Wx};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::message::{self, Answer, Failure, MOST_MESSAGE, MOST_SIGNATURES, Request, Signature};

/// How long a process may take to be sealed, and then to open the keys: unlocking one is meant to be slow.
const START: Duration = Duration::from_secs(15);

/// How long the end of a process is waited for, to say why there is no answer.
const GRACE: Duration = Duration::from_secs(1);

/// Bytes of the first part of an answer.
const MOST_ANSWER: u32 = 64 << 10;

/// Characters of a fingerprint: SHA-256 in hexadecimal digits.
const MOST_FINGERPRINT: usize = 64;

/// Threads of a process: the first one of its template, and the one that works.
const THREADS: u32 = 2;

/// How processes are started.
#[derive(Debug, Clone)]
pub(crate) struct Confinement {
    /// The helper.
    pub(crate) program: PathBuf,
    /// Bytes of memory.
    pub(crate) memory: u64,
    pub(crate) level: Level,
}

/// A process of the helper. Dropping it kills the process.
pub(crate) struct Link {
    stream: UnixStream,
    /// Why the process ends, once it is known.
    ended: watch::Receiver<Option<String>>,
    /// A request is under way. Where its future was dropped, its answer would be taken for the next one's.
    busy: bool,
    /// Bytes of the data of an answer.
    most_result: u64,
    _worker: Worker,
}

/// What a process answered.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done {
        signatures: Vec<Signature>,
        data: Vec<u8>,
    },
    Failed {
        failure: Failure,
        message: String,
    },
}

/// Why there is no answer. The process must not be used any more.
#[derive(Debug)]
pub(crate) enum Broken {
    TimedOut,
    Ended(String),
}

impl Link {
    /// Starts a process, which is sealed then and has no keys yet.
    pub(crate) async fn start(how: &Confinement, most_result: u64) -> Result<Self, String> {
        let until = Instant::now() + START;
        let (sealed, is_sealed) = oneshot::channel();
        let (end, ended) = watch::channel(None);
        let spec = spec(how)?;
        let on_event = on_event(sealed, end);
        // The launcher answers in milliseconds, and is asked on another thread.
        let launched = tokio::task::spawn_blocking(move || {
            Launcher::get()
                .and_then(|launcher| launcher.launch(&spec, on_event))
                .map_err(|error| error.to_string())
        });
        let (worker, socket) = launched.await.map_err(|error| error.to_string())??;
        let socket = StdStream::from(socket);
        socket
            .set_nonblocking(true)
            .map_err(|error| error.to_string())?;
        let mut link = Self {
            stream: UnixStream::from_std(socket).map_err(|error| error.to_string())?,
            ended,
            busy: false,
            most_result,
            _worker: worker,
        };
        match timeout_at(until, is_sealed).await {
            Ok(Ok(())) => Ok(link),
            Ok(Err(_)) => Err(link.why("it was not sealed").await),
            Err(_) => Err("the process was not ready in time".to_owned()),
        }
    }

    /// Sends a request and reads its answer. Must not be dropped in between.
    pub(crate) async fn ask(
        &mut self,
        request: &Request,
        data: &[u8],
        until: Instant,
    ) -> Result<Outcome, Broken> {
        if std::mem::replace(&mut self.busy, true) {
            return Err(Broken::Ended("a request was not waited for".to_owned()));
        }
        let talk = async {
            self.send(request, data).await?;
            self.receive().await
        };
        match timeout_at(until, talk).await {
            Ok(Ok(outcome)) => {
                self.busy = false;
                Ok(outcome)
            }
            Ok(Err(why)) => Err(Broken::Ended(self.why(&why).await)),
            Err(_) => Err(Broken::TimedOut),
        }
    }

    async fn send(&mut self, request: &Request, data: &[u8]) -> Result<(), String> {
        let mut head = Vec::new();
        // The data follows by itself: it is not copied.
        message::write(&mut head, request, &[]).map_err(|error| error.to_string())?;
        head.truncate(head.len() - 4);
        let length = u32::try_from(data.len()).map_err(|error| error.to_string())?;
        head.extend_from_slice(&length.to_le_bytes());
        for part in [&head[..], data] {
            let sent = self.stream.write_all(part).await;
            sent.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<Outcome, String> {
        let answer = self.part(u64::from(MOST_ANSWER)).await?;
        let data = self.part(self.most_result).await?;
        match postcard::from_bytes(&answer).map_err(|error| error.to_string())? {
            Answer::Done { signatures } if signatures.len() > MOST_SIGNATURES => {
                Err(format!("it reported {} signatures", signatures.len()))
            }
            Answer::Done { signatures } => {
                let is_fingerprint = |text: &str| {
                    text.len() <= MOST_FINGERPRINT
                        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
                };
                if !signatures
                    .iter()
                    .all(|one| is_fingerprint(&one.fingerprint))
                {
                    return Err("it reported a fingerprint that is none".to_owned());
                }
                Ok(Outcome::Done { signatures, data })
            }
            Answer::Failed { failure, message } => Ok(Outcome::Failed {
                failure,
                message: message.chars().take(MOST_MESSAGE).collect(),
            }),
        }
    }

    /// Reads a part of an answer, which has at most `most` bytes.
    async fn part(&mut self, most: u64) -> Result<Vec<u8>, String> {
        let length = self.stream.read_u32_le().await;
        let length = u64::from(length.map_err(|error| error.to_string())?);
        if length > most {
            return Err(format!(
                "it sent {length} bytes, at most {most} are expected"
            ));
        }
        // As much as arrives is allocated, not as much as it announces.
        let mut bytes = Vec::new();
        let mut part = (&mut self.stream).take(length);
        let read = part.read_to_end(&mut bytes).await;
        let read = read.map_err(|error| error.to_string())?;
        if read as u64 != length {
            return Err("it closed its socket".to_owned());
        }
        Ok(bytes)
    }

    /// Why there is no answer: the process's end where it ends now, otherwise what was seen of it.
    async fn why(&mut self, seen: &str) -> String {
        let ended = timeout(GRACE, self.ended.wait_for(Option::is_some));
        match ended.await {
            Ok(Ok(why)) => format!("its process ended: {}", why.as_deref().unwrap_or(seen)),
            _ => seen.to_owned(),
        }
    }
}

fn spec(how: &Confinement) -> Result<JailSpec, String> {
    let program = how.program.to_str();
    let program = program.ok_or("the path of the program is not Unicode")?;
    Ok(JailSpec {
        level: how.level,
        wx: Wx::Strict,
        role: Role::Helper,
        memory: Some(how.memory),
        cpu_share: None,
        isolates: 1,
        threads: THREADS,
        template: Some(program.to_owned()),
        cgroup: CgroupUse::Auto,
    })
}

/// Keeps why the process ended, and reports that it was sealed.
fn on_event(
    sealed: oneshot::Sender<()>,
    ended: watch::Sender<Option<String>>,
) -> Box<dyn Fn(JailEvent) + Send + Sync> {
    let sealed = Mutex::new(Some(sealed));
    Box::new(move |event| {
        let why = match event {
            JailEvent::Closed => {
                if let Some(sealed) = sealed.lock().take() {
                    let _ = sealed.send(());
                }
                return;
            }
            JailEvent::Failed(error) => error.to_string(),
            JailEvent::Denied(denial) => {
                tracing::error!("a process of stockade-pgp was refused a system call: {denial:?}");
                "it was refused a system call".to_owned()
            }
            JailEvent::Exited(exit) => exit.status.to_string(),
        };
        sealed.lock().take();
        ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(why);
            first
        });
    })
}
