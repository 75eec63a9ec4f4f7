//! The connection to a worker, and its life.

use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use stockade_jail::{CgroupUse, JailEvent, JailSpec, Launcher, Level, Role, Worker, Wx};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::files::Access;
use crate::files::Files;
use crate::message::{self, Answer, MOST_ANSWER, PIECE, Request, Rows, Settings};
use crate::options::DatabaseOptions;

/// How long a worker may take to be sealed, and then to open the database.
const START: Duration = Duration::from_secs(10);

/// How long a worker may go on after a deadline that it keeps itself. Then it is killed.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// Threads of a worker: the first one, and the one that SQLite runs on.
const THREADS: u32 = 2;

/// A worker with an open database. Dropping it kills the worker.
pub(crate) struct Link {
    stream: UnixStream,
    /// Why the worker ended, once it is known.
    ended: watch::Receiver<Option<String>>,
    _worker: Worker,
}

/// What a worker answered.
pub(crate) enum Outcome {
    Done(Vec<Rows>),
    Refused {
        code: String,
        message: String,
        statement: u32,
    },
}

/// Why there is no answer. The worker must not be used any more.
#[derive(Debug)]
pub(crate) enum Broken {
    TimedOut,
    Ended(String),
}

impl Link {
    /// Starts a worker and has it open the database.
    pub(crate) async fn start(files: &Files, options: &DatabaseOptions) -> Result<Self, String> {
        let until = Instant::now() + START;
        let (sealed, is_sealed) = oneshot::channel();
        let (end, ended) = watch::channel(None);
        let spec = spec(options);
        let files = files.share().map_err(|error| error.to_string())?;
        let on_event = on_event(sealed, end);
        // The launcher answers in milliseconds, and is asked on another thread.
        let launched = tokio::task::spawn_blocking(move || {
            Launcher::get()
                .and_then(|launcher| launcher.launch_with_files(&spec, files, on_event))
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
            _worker: worker,
        };
        match timeout_at(until, is_sealed).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(link.why("it was not sealed").await),
            Err(_) => return Err("the worker was not ready in time".to_owned()),
        }
        let open = Request::Open(Settings {
            read_only: options.access == Access::Read,
            storage: options.storage,
            memory: options.memory,
            most_result: options.most_result,
        });
        match link.ask(&open, 0, until).await {
            Ok(Outcome::Done(_)) => Ok(link),
            Ok(Outcome::Refused { code, message, .. }) => Err(format!("{message} ({code})")),
            Err(Broken::TimedOut) => Err("opening the database took too long".to_owned()),
            Err(Broken::Ended(why)) => Err(why),
        }
    }

    /// Sends a request and reads all of its answer, which has at most `most` bytes of rows. Must not be dropped in
    /// between.
    pub(crate) async fn ask(
        &mut self,
        request: &Request,
        most: u64,
        deadline: Instant,
    ) -> Result<Outcome, Broken> {
        let talk = async {
            self.send(request).await?;
            self.receive(most).await
        };
        match timeout_at(deadline + GRACE, talk).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(why)) => Err(Broken::Ended(self.why(&why).await)),
            Err(_) => Err(Broken::TimedOut),
        }
    }

    async fn send(&mut self, request: &impl Serialize) -> Result<(), String> {
        let bytes = message::frame(request).map_err(|error| error.to_string())?;
        let sent = self.stream.write_all(&bytes).await;
        sent.map_err(|error| error.to_string())
    }

    async fn receive(&mut self, most: u64) -> Result<Outcome, String> {
        let mut left = most.saturating_add(MOST_ANSWER as u64);
        let mut all = Vec::new();
        let mut now = Rows::default();
        loop {
            let length = self.stream.read_u32_le().await;
            let length = u64::from(length.map_err(|error| error.to_string())?);
            if length > MOST_ANSWER as u64 {
                return Err(format!("it sent a frame of {length} bytes"));
            }
            // Frames without rows count as well, so that their number is bounded.
            left = left
                .checked_sub(length.max(16))
                .ok_or("it sent more than it may")?;
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(PIECE)];
            let read = self.stream.read_exact(&mut bytes).await;
            read.map_err(|error| error.to_string())?;
            let answer = postcard::from_bytes(&bytes).map_err(|error| error.to_string())?;
            match answer {
                Answer::Columns(columns) => now.columns = columns,
                Answer::Rows(rows) => {
                    if rows.iter().any(|row| row.len() != now.columns.len()) {
                        return Err(
                            "it sent a row that does not have a value for each column".to_owned()
                        );
                    }
                    now.rows.extend(rows);
                }
                Answer::End {
                    changes,
                    last_row_id,
                    micros,
                    size,
                    steps,
                } => all.push(Rows {
                    changes,
                    last_row_id,
                    micros,
                    size,
                    steps,
                    ..std::mem::take(&mut now)
                }),
                Answer::Done => return Ok(Outcome::Done(all)),
                Answer::Failed {
                    code,
                    message,
                    statement,
                } => {
                    return Ok(Outcome::Refused {
                        code,
                        message,
                        statement,
                    });
                }
            }
        }
    }

    /// Why there is no answer: the worker's end where it ends now, otherwise what was seen of it.
    async fn why(&mut self, seen: &str) -> String {
        let ended = timeout(GRACE, self.ended.wait_for(Option::is_some));
        match ended.await {
            Ok(Ok(why)) => format!("its worker ended: {}", why.as_deref().unwrap_or(seen)),
            _ => seen.to_owned(),
        }
    }
}

fn spec(options: &DatabaseOptions) -> JailSpec {
    JailSpec {
        level: options.level,
        wx: Wx::Strict,
        role: Role::Database {
            // The log of one transaction can be as long as the database.
            file_size: options.storage.saturating_add(64 << 20),
        },
        memory: Some(options.memory.saturating_add(options.most_result)),
        cpu_share: None,
        isolates: 1,
        threads: THREADS,
        template: None,
        cgroup: match options.level {
            Level::Container => options.cgroup,
            Level::Process => CgroupUse::Auto,
        },
    }
}

/// Keeps why the worker ended, and reports that it was sealed.
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
                tracing::error!("a database's worker was refused a system call: {denial:?}");
                "it was refused a system call".to_owned()
            }
            JailEvent::Exited(exit) => format!("{:?}", exit.status),
        };
        sealed.lock().take();
        ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(why);
            first
        });
    })
}
