//! When expired entries are swept, and when the write-ahead log moves into the file.
//!
//! The log grows with each commit and starts again once all of it is in the file and no reader needs
//! it. Past [`LOG_MOVED`] what can be moved is moved, while readers go on; past [`LOG_MOST`] the writer
//! waits for the readers of this process, whose reads are short, and moves all. For a reader of another process,
//! such as a backup, it does not wait: the log grows for as long as that one reads.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::connection::{self, LOG_MOVED, LogFrames};

/// The log never stays longer, in pages: 64 MiB.
const LOG_MOST: u32 = 16_384;

/// How often expired entries are removed.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How long there is nothing to write before the log is moved.
const IDLE: Duration = Duration::from_secs(2);

/// Free pages that are given back to the file system at once, when idle.
const FREED_PAGES: u32 = 512;

/// How often a failed sweep or move is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// How long the writer waits for readers whose reads are short.
const READERS_WAIT: Duration = Duration::from_millis(100);

/// How soon after a reader whose read is long the log is tried again.
const READERS_AGAIN: Duration = Duration::from_secs(2);

/// What the writer has to tidy up.
pub(crate) struct Tidy {
    frames: LogFrames,
    sweep_every: Duration,
    earliest_expiry_ms: Option<i64>,
    last_sweep: Option<Instant>,
    last_write: Instant,
    /// Frames of the log that are in the file.
    moved: u32,
    /// No move before this.
    not_before: Option<Instant>,
    /// Whether pages may be free in the file.
    may_shrink: bool,
}

impl Tidy {
    pub(crate) fn new(
        frames: LogFrames,
        sweep_every: Duration,
        earliest_expiry_ms: Option<i64>,
    ) -> Self {
        Self {
            frames,
            sweep_every,
            earliest_expiry_ms,
            last_sweep: None,
            last_write: Instant::now(),
            moved: 0,
            not_before: None,
            may_shrink: true,
        }
    }

    /// When there is something to do, if nothing else is; `None`: never.
    pub(crate) fn deadline(&self, now_ms: i64) -> Option<Instant> {
        let now = Instant::now();
        let sweep = self.earliest_expiry_ms.and_then(|at| {
            let wait = u64::try_from(at.saturating_sub(now_ms)).unwrap_or(0);
            let expiry = now.checked_add(Duration::from_millis(wait))?;
            Some(
                self.last_sweep
                    .map_or(expiry, |last| expiry.max(last + self.sweep_every)),
            )
        });
        let idle = self.has_idle_work().then(|| {
            let idle = self.last_write + IDLE;
            self.not_before.map_or(idle, |at| idle.max(at))
        });
        match (sweep, idle) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    fn has_idle_work(&self) -> bool {
        self.frames.load(Ordering::Relaxed) > self.moved || self.may_shrink
    }

    /// Notes a transaction.
    pub(crate) fn wrote(&mut self, expires_ms: Option<i64>) {
        self.last_write = Instant::now();
        self.may_shrink = true;
        if self.frames.load(Ordering::Relaxed) < self.moved {
            // The log started again.
            self.moved = 0;
        }
        if let Some(at) = expires_ms {
            self.earliest_expiry_ms = Some(
                self.earliest_expiry_ms
                    .map_or(at, |earliest| earliest.min(at)),
            );
        }
    }

    pub(crate) fn is_sweep_due(&self, now_ms: i64) -> bool {
        self.earliest_expiry_ms.is_some_and(|at| at <= now_ms)
            && self
                .last_sweep
                .is_none_or(|last| last.elapsed() >= self.sweep_every)
    }

    /// Notes a sweep, which removed `count` entries.
    pub(crate) fn swept(&mut self, connection: &Connection, count: usize) {
        // After a full one there may be more: it goes on after the next commits.
        self.last_sweep = (count < super::group::SWEEP).then(Instant::now);
        let earliest = connection
            .prepare_cached("SELECT min(expires) FROM entries WHERE expires IS NOT NULL")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)));
        match earliest {
            Ok(earliest) => self.earliest_expiry_ms = earliest,
            Err(_) => self.sweep_failed(),
        }
    }

    pub(crate) fn sweep_failed(&mut self) {
        self.last_sweep = Instant::now().checked_add(AGAIN);
    }

    /// Moves the log into the file, if it is long or there is nothing else to do.
    pub(crate) fn checkpoint(
        &mut self,
        connection: &Connection,
        idle: bool,
    ) -> rusqlite::Result<()> {
        let now = Instant::now();
        if self.not_before.is_some_and(|at| at > now) {
            return Ok(());
        }
        let frames = self.frames.load(Ordering::Relaxed);
        if frames >= LOG_MOST {
            self.truncate(connection)
        } else if frames.saturating_sub(self.moved) >= LOG_MOVED {
            let done = self.run(connection, "PASSIVE")?;
            self.note(done);
            Ok(())
        } else if idle && self.has_idle_work() && self.last_write.elapsed() >= IDLE {
            self.shrink(connection)?;
            self.truncate(connection)
        } else {
            Ok(())
        }
    }

    /// Moves everything, for the last time. A failure is only logged: the log is as durable as the file.
    pub(crate) fn close(&mut self, connection: &Connection) {
        if let Err(error) = self.truncate(connection) {
            tracing::warn!(%error, "state: the checkpoint failed; the log stays as it is");
        }
    }

    /// Moves everything and empties the log, unless somebody reads what was there before for long.
    fn truncate(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let passive = self.run(connection, "PASSIVE")?;
        self.note(passive);
        if passive.moved < passive.frames {
            // A reader needs the file as it is: waiting for that one would hold up every commit.
            self.not_before = Instant::now().checked_add(READERS_AGAIN);
            return Ok(());
        }
        connection.busy_timeout(READERS_WAIT)?;
        let done = self.run(connection, "TRUNCATE");
        connection.busy_timeout(connection::BUSY)?;
        let done = done?;
        self.note(done);
        if done.is_held {
            self.not_before = Instant::now().checked_add(READERS_AGAIN);
            // Else an idle store would not try again.
            self.may_shrink = true;
        }
        Ok(())
    }

    fn note(&mut self, done: Moved) {
        self.frames.store(done.frames, Ordering::Relaxed);
        self.moved = done.moved;
    }

    /// Gives back pages that are free, some at a time.
    fn shrink(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let free = |connection: &Connection| {
            connection.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0))
        };
        self.may_shrink = false;
        // Some stay for what comes next.
        if free(connection)? > i64::from(FREED_PAGES) {
            connection.execute_batch(&format!("PRAGMA incremental_vacuum({FREED_PAGES})"))?;
            self.may_shrink = free(connection)? > i64::from(FREED_PAGES);
        }
        Ok(())
    }

    fn run(&mut self, connection: &Connection, mode: &str) -> rusqlite::Result<Moved> {
        let number = |row: &rusqlite::Row<'_>, at| {
            row.get::<_, i64>(at)
                .map(|number| u32::try_from(number).unwrap_or(0))
        };
        let done = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
            Ok(Moved {
                is_held: row.get::<_, i64>(0)? != 0,
                frames: number(row, 1)?,
                moved: number(row, 2)?,
            })
        });
        self.not_before = match &done {
            Ok(_) => None,
            Err(_) => Instant::now().checked_add(AGAIN),
        };
        done
    }
}

/// What a checkpoint did.
#[derive(Clone, Copy)]
struct Moved {
    /// Somebody held it up.
    is_held: bool,
    /// Frames that the log has.
    frames: u32,
    /// Frames of them that are in the file.
    moved: u32,
}
