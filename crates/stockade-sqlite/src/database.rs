//! The supervisor's half: one database, its worker, and whose turn it is.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::files::Files;
use crate::link::{Broken, Link, Outcome};
use crate::message::{MOST_STATEMENTS, Request, Rows, Statement};
use crate::worker::MOST_SQL;
use crate::{DatabaseOptions, OpenError, SqlError};

/// Why a transaction ended at its deadline.
const TOO_LONG: &str = "it lasted longer than a transaction may, and was rolled back";

/// After a worker could not be started: how long calls fail at once.
const PAUSE: Duration = Duration::from_secs(1);

/// A database of a guest. Its files are locked until the last of its clones and of its calls is gone.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    options: DatabaseOptions,
    files: Files,
    /// A permit for each call that may wait.
    waiting: Semaphore,
    /// Who has it locked, has the turn.
    connection: Arc<Mutex<Connection>>,
}

/// The worker, while there is one.
#[derive(Default)]
struct Connection {
    link: Option<Link>,
    /// Workers that were started.
    started: u64,
    used: Option<Instant>,
    /// When and why no worker could be started last.
    failed: Option<(Instant, String)>,
}

type Turn = OwnedMutexGuard<Connection>;

impl Database {
    /// Opens and locks the files. The worker starts with the first call.
    ///
    /// # Errors
    /// A file cannot be opened, is not a regular file, or is in use.
    pub fn open(options: DatabaseOptions) -> Result<Self, OpenError> {
        let files = Files::open(&options.path, options.access)?;
        Ok(Self {
            inner: Arc::new(Inner {
                files,
                waiting: Semaphore::new(options.queue.min(Semaphore::MAX_PERMITS)),
                connection: Arc::default(),
                options,
            }),
        })
    }

    /// Runs statements, all or none of them.
    ///
    /// # Errors
    /// See [`SqlError`]. After an error nothing has changed.
    pub async fn run(&self, statements: Vec<Statement>) -> Result<Vec<Rows>, SqlError> {
        check(&statements)?;
        let time = self.inner.options.statement;
        let request = Request::Run {
            statements,
            time: millis(time),
            inside: false,
        };
        self.alone(request, time).await
    }

    /// Runs all statements of a text, all or none of them. The one row of the result is their number.
    ///
    /// # Errors
    /// See [`SqlError`]. After an error nothing has changed.
    pub async fn execute(&self, sql: String) -> Result<Rows, SqlError> {
        check_text(&sql)?;
        let time = self.inner.options.statement;
        let request = Request::Execute {
            sql,
            time: millis(time),
            inside: false,
        };
        let mut rows = self.alone(request, time).await?;
        Ok(rows.pop().unwrap_or_default())
    }

    /// Begins a transaction, during which all other calls wait.
    ///
    /// # Errors
    /// See [`SqlError`].
    pub async fn begin(&self) -> Result<Transaction, SqlError> {
        let turn = self.inner.turn().await?;
        let inner = Arc::clone(&self.inner);
        // The transaction is made in the task, so that it is rolled back where nobody waits for it any more.
        spawn(async move {
            let mut turn = turn;
            let until = Instant::now() + inner.options.transaction;
            let time = inner.options.statement;
            let request = Request::Begin { time: millis(time) };
            inner.ask(&mut turn, &request, time).await?;
            let open = Arc::new(Open {
                inner,
                until,
                held: Arc::new(Mutex::new(Ok(turn))),
            });
            let deadline = tokio::spawn(end_at_deadline(Arc::downgrade(&open), until));
            Ok(Transaction {
                open,
                deadline: deadline.abort_handle(),
            })
        })
        .await
    }

    async fn alone(&self, request: Request, time: Duration) -> Result<Vec<Rows>, SqlError> {
        let mut turn = self.inner.turn().await?;
        let inner = Arc::clone(&self.inner);
        // Goes on when the caller does not wait any more: the worker's answer must be read.
        spawn(async move { inner.ask(&mut turn, &request, time).await }).await
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("path", &self.inner.options.path)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Waits for the turn.
    async fn turn(&self) -> Result<Turn, SqlError> {
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(SqlError::Busy(format!(
                "{} calls wait for it already",
                self.options.queue
            )));
        };
        let locked = timeout(
            self.options.queue_time,
            Arc::clone(&self.connection).lock_owned(),
        );
        locked.await.map_err(|_| {
            SqlError::Busy(format!(
                "its turn did not come within {} ms",
                self.options.queue_time.as_millis()
            ))
        })
    }

    /// Has the worker do something, and starts one where there is none.
    async fn ask(
        self: &Arc<Self>,
        connection: &mut Connection,
        request: &Request,
        time: Duration,
    ) -> Result<Vec<Rows>, SqlError> {
        if connection.link.is_none() {
            self.start(connection).await?;
        }
        let Some(link) = &mut connection.link else {
            return Err(SqlError::Failed("it has no worker".to_owned()));
        };
        let until = Instant::now() + time;
        let outcome = link.ask(request, self.options.most_result, until).await;
        connection.used = Some(Instant::now());
        match outcome {
            Ok(Outcome::Done(rows)) => Ok(rows),
            Ok(Outcome::Refused { code, .. }) if code == "SQLITE_INTERRUPT" => Err(timed_out(time)),
            Ok(Outcome::Refused {
                code,
                message,
                statement,
            }) => Err(SqlError::Sqlite {
                code,
                message,
                statement,
            }),
            Err(broken) => {
                // It may have been done just before the worker ended.
                let why = match broken {
                    Broken::TimedOut => {
                        "its worker did not answer in time, and was ended".to_owned()
                    }
                    Broken::Ended(why) => why,
                };
                tracing::warn!("{}: {why}", self.options.path.display());
                if let Some(link) = connection.link.take()
                    && !link.end().await
                {
                    let why = "its last worker does not end".to_owned();
                    connection.failed = Some((Instant::now(), why));
                }
                Err(SqlError::Failed(why))
            }
        }
    }

    async fn start(self: &Arc<Self>, connection: &mut Connection) -> Result<(), SqlError> {
        if let Some((at, why)) = &connection.failed
            && at.elapsed() < PAUSE
        {
            return Err(SqlError::Failed(why.clone()));
        }
        match Link::start(&self.files, &self.options).await {
            Ok(link) => {
                connection.link = Some(link);
                connection.failed = None;
                connection.started += 1;
                tokio::spawn(end_when_idle(
                    Arc::downgrade(self),
                    connection.started,
                    self.options.idle,
                ));
                Ok(())
            }
            Err(why) => {
                tracing::warn!("{}: {why}", self.options.path.display());
                connection.failed = Some((Instant::now(), why.clone()));
                Err(SqlError::Failed(why))
            }
        }
    }
}

/// Ends the worker with this number once nobody used it for this long.
async fn end_when_idle(inner: Weak<Inner>, number: u64, idle: Duration) {
    let mut until = Instant::now() + idle;
    loop {
        sleep_until(until).await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let mut connection = inner.connection.lock().await;
        let used = connection.used.unwrap_or(until);
        until = used + idle;
        if connection.link.is_none() || connection.started != number {
            return;
        }
        if until <= Instant::now() {
            if let Some(link) = connection.link.take() {
                link.end().await;
            }
            return;
        }
    }
}

/// A transaction. It is rolled back when it is dropped, or at its deadline.
pub struct Transaction {
    open: Arc<Open>,
    deadline: AbortHandle,
}

struct Open {
    inner: Arc<Inner>,
    until: Instant,
    /// The turn, or why there is none any more.
    held: Arc<Mutex<Result<Turn, &'static str>>>,
}

impl Transaction {
    /// Runs statements, all or none of them, in the transaction. After an error the transaction goes on.
    ///
    /// # Errors
    /// See [`SqlError`].
    pub async fn run(&self, statements: Vec<Statement>) -> Result<Vec<Rows>, SqlError> {
        check(&statements)?;
        self.ask(|time| Request::Run {
            statements,
            time,
            inside: true,
        })
        .await
    }

    /// Runs all statements of a text, all or none of them, in the transaction. The one row of the result is their
    /// number.
    ///
    /// # Errors
    /// See [`SqlError`].
    pub async fn execute(&self, sql: String) -> Result<Rows, SqlError> {
        check_text(&sql)?;
        let mut rows = self
            .ask(|time| Request::Execute {
                sql,
                time,
                inside: true,
            })
            .await?;
        Ok(rows.pop().unwrap_or_default())
    }

    /// Has the worker do something in the transaction, in the milliseconds that are left.
    async fn ask(
        &self,
        request: impl FnOnce(u64) -> Request + Send + 'static,
    ) -> Result<Vec<Rows>, SqlError> {
        let open = Arc::clone(&self.open);
        // A call that is not waited for any more does not take its turn.
        let mut held = Arc::clone(&open.held).lock_owned().await;
        spawn(async move {
            let turn = held.as_mut().map_err(|why| ended(why))?;
            let left = open.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ended(TOO_LONG));
            }
            let time = open.inner.options.statement.min(left);
            let request = request(millis(time));
            let done = open.inner.ask(turn, &request, time).await;
            if turn.link.is_none() {
                *held = Err("its worker ended");
            }
            done
        })
        .await
    }

    /// Makes lasting what the transaction did.
    ///
    /// # Errors
    /// See [`SqlError`]. The transaction was rolled back, as when a constraint that is checked at the end does not
    /// hold; after [`SqlError::Failed`] it may have been made lasting.
    pub async fn commit(&self) -> Result<(), SqlError> {
        self.end(true).await
    }

    /// Undoes what the transaction did.
    ///
    /// # Errors
    /// See [`SqlError`]. The transaction was rolled back in any case.
    pub async fn roll_back(&self) -> Result<(), SqlError> {
        self.end(false).await
    }

    async fn end(&self, commit: bool) -> Result<(), SqlError> {
        let open = Arc::clone(&self.open);
        spawn(async move { open.end(commit, "it was ended before").await }).await
    }
}

impl Open {
    async fn end(&self, commit: bool, why: &'static str) -> Result<(), SqlError> {
        let mut held = self.held.lock().await;
        let mut turn = std::mem::replace(&mut *held, Err(why)).map_err(|why| {
            *held = Err(why);
            ended(why)
        })?;
        let time = self.inner.options.statement;
        let request = if commit {
            Request::Commit { time: millis(time) }
        } else {
            Request::RollBack
        };
        self.inner.ask(&mut turn, &request, time).await?;
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.deadline.abort();
        let open = Arc::clone(&self.open);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { open.end(false, "its handle was dropped").await });
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Where nothing can be waited for any more, the worker's end rolls back.
        if let Ok(mut held) = self.held.try_lock()
            && let Ok(turn) = &mut *held
        {
            turn.link = None;
        }
    }
}

/// Rolls a transaction back that lasts too long. Only the wait can be aborted: the worker's answer must be read.
async fn end_at_deadline(open: Weak<Open>, until: Instant) {
    sleep_until(until).await;
    if let Some(open) = open.upgrade() {
        let _ = spawn(async move { open.end(false, TOO_LONG).await }).await;
    }
}

/// Runs to its end whether or not somebody waits for it.
async fn spawn<T: Send + 'static>(
    work: impl Future<Output = Result<T, SqlError>> + Send + 'static,
) -> Result<T, SqlError> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => Err(SqlError::Failed(error.to_string())),
    }
}

fn check(statements: &[Statement]) -> Result<(), SqlError> {
    if statements.len() > MOST_STATEMENTS {
        return Err(SqlError::TooLarge(format!(
            "{} statements in one call, at most {MOST_STATEMENTS} are allowed",
            statements.len()
        )));
    }
    statements
        .iter()
        .try_for_each(|statement| check_text(&statement.sql))
}

fn check_text(sql: &str) -> Result<(), SqlError> {
    if sql.len() > MOST_SQL {
        return Err(SqlError::TooLarge(format!(
            "a statement of {} bytes, at most {MOST_SQL} are allowed",
            sql.len()
        )));
    }
    Ok(())
}

fn timed_out(limit: Duration) -> SqlError {
    SqlError::TimedOut {
        what: "statement",
        limit,
    }
}

fn ended(why: &str) -> SqlError {
    SqlError::Ended(why.to_owned())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
