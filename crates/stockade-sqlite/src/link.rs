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
use crate::message::{
    self, Answer, MOST_ANSWER, MOST_COLUMNS, MOST_MESSAGE, MOST_STATEMENTS, PIECE, ROW, Request,
    Rows, Settings, Value,
};
use crate::options::DatabaseOptions;

/// How long a worker may take to be sealed, and then to open the database.
const START: Duration = Duration::from_secs(10);

/// How long a worker may go on after a deadline that it keeps itself. Then it is killed.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// Characters of the name of an error code.
const MOST_CODE: usize = 64;

/// Bytes that rows may cost beyond the bound that the worker keeps: the one row that `exec` answers.
const SPARE_VALUES: u64 = 1 << 10;

/// Threads of a worker: the first one, and the one that SQLite runs on.
const THREADS: u32 = 2;

/// A worker with an open database. Dropping it kills the worker.
pub(crate) struct Link {
    stream: UnixStream,
    /// Why the worker ends, once it is known.
    ended: watch::Receiver<Option<String>>,
    /// Gives its end once the kernel has reported the worker's.
    gone: oneshot::Receiver<()>,
    /// A request is under way. Where its future was dropped, its answer would be taken for the next one's.
    busy: bool,
    worker: Worker,
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
        let (is_gone, gone) = oneshot::channel();
        let spec = spec(options);
        let files = files.share().map_err(|error| error.to_string())?;
        let on_event = on_event(sealed, end, is_gone);
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
            gone,
            busy: false,
            worker,
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
        if std::mem::replace(&mut self.busy, true) {
            return Err(Broken::Ended("a request was not waited for".to_owned()));
        }
        let talk = async {
            self.send(request).await?;
            self.receive(most).await
        };
        match timeout_at(deadline + GRACE, talk).await {
            Ok(Ok(outcome)) => {
                self.busy = false;
                Ok(outcome)
            }
            Ok(Err(why)) => Err(Broken::Ended(self.why(&why).await)),
            Err(_) => Err(Broken::TimedOut),
        }
    }

    /// Ends the worker, and waits until it is gone: it shares the files with the next one. `false` where it does not
    /// end in time.
    pub(crate) async fn end(self) -> bool {
        self.worker.kill();
        timeout(START, self.gone).await.is_ok()
    }

    async fn send(&mut self, request: &impl Serialize) -> Result<(), String> {
        let bytes = message::frame(request).map_err(|error| error.to_string())?;
        let sent = self.stream.write_all(&bytes).await;
        sent.map_err(|error| error.to_string())
    }

    async fn receive(&mut self, most: u64) -> Result<Outcome, String> {
        let mut left = most.saturating_add(MOST_ANSWER as u64);
        // What the values cost us, as an honest worker counts them too.
        let mut values = most.saturating_add(SPARE_VALUES);
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
                Answer::Columns(columns) if columns.len() > MOST_COLUMNS => {
                    return Err(format!("it sent {} columns", columns.len()));
                }
                Answer::Columns(columns) => now.columns = columns,
                Answer::Rows(rows) => {
                    let cost = rows.iter().map(|row| {
                        let values = row.iter().map(Value::cost).sum::<usize>();
                        (values + ROW) as u64
                    });
                    values = values
                        .checked_sub(cost.sum())
                        .ok_or("it sent more rows than it may")?;
                    if rows.iter().any(|row| row.len() != now.columns.len()) {
                        return Err(
                            "it sent a row that does not have a value for each column".to_owned()
                        );
                    }
                    now.rows.extend(rows);
                }
                Answer::End { .. } if all.len() >= MOST_STATEMENTS => {
                    return Err("it answered more statements than there were".to_owned());
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
                        code: code.chars().take(MOST_CODE).collect(),
                        message: message.chars().take(MOST_MESSAGE).collect(),
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
    is_gone: oneshot::Sender<()>,
) -> Box<dyn Fn(JailEvent) + Send + Sync> {
    let sealed = Mutex::new(Some(sealed));
    let is_gone = Mutex::new(Some(is_gone));
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
            JailEvent::Exited(exit) => {
                if let Some(is_gone) = is_gone.lock().take() {
                    let _ = is_gone.send(());
                }
                exit.status.to_string()
            }
        };
        sealed.lock().take();
        ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(why);
            first
        });
    })
}
