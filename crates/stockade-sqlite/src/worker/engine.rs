//! One connection of SQLite, and what is asked of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::hooks::{AuthContext, Authorization};
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, ErrorCode, OpenFlags, StatementStatus, ffi};

use super::policy;
use crate::message::{
    Answer, Column, MOST_MESSAGE, PIECE, ROW, Request, Settings, Statement, Value,
};
use crate::sys::calls;

/// Steps of SQLite's virtual machine between two checks of the clock.
const STEPS: i32 = 1_000;

/// Milliseconds for what the worker does by itself: opening, and rolling back.
const OWN_TIME: u64 = 60_000;

/// Why a request was not carried out.
struct Failure {
    code: &'static str,
    message: String,
    statement: u32,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let code = match &error {
            rusqlite::Error::SqliteFailure(error, _) => code_name(error.extended_code),
            rusqlite::Error::SqlInputError { error, .. } => code_name(error.extended_code),
            rusqlite::Error::InvalidParameterCount(..) => "SQLITE_RANGE",
            _ => "SQLITE_MISUSE",
        };
        let text = match error {
            rusqlite::Error::SqliteFailure(_, Some(message)) => message,
            rusqlite::Error::SqlInputError { msg, offset, .. } if offset >= 0 => {
                format!("{msg} (at byte {offset})")
            }
            rusqlite::Error::MultipleStatement => {
                "a statement is one; `exec` and `batch` take several".to_owned()
            }
            other => other.to_string(),
        };
        Self {
            code,
            message: text.chars().take(MOST_MESSAGE).collect(),
            statement: 0,
        }
    }
}

/// How answers leave: `false` when nobody takes them any more.
pub(super) type Send<'a> = &'a mut dyn FnMut(&Answer) -> bool;

/// An open database.
pub(super) struct Engine {
    connection: Connection,
    control: Arc<Control>,
    most_result: u64,
    /// Bytes that the request may still answer with.
    result_left: u64,
    read_only: bool,
}

/// What the hooks of SQLite read.
struct Control {
    began: Instant,
    /// When statements end, in milliseconds since `began`.
    deadline: AtomicU64,
    /// The statement is the worker's own, which may do what a guest's may not.
    own: AtomicBool,
}

impl Control {
    fn is_over(&self) -> bool {
        self.began.elapsed().as_millis() >= u128::from(self.deadline.load(Ordering::Relaxed))
    }
}

impl Engine {
    /// Opens the database whose files this process has.
    pub(super) fn open(settings: &Settings) -> Result<Self, Answer> {
        Self::try_open(settings).map_err(|error| answer(Failure::from(error)))
    }

    fn try_open(settings: &Settings) -> rusqlite::Result<Self> {
        let mut flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        flags |= if settings.read_only {
            OpenFlags::SQLITE_OPEN_READ_ONLY
        } else {
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
        };
        let connection = Connection::open_with_flags_and_vfs(calls::PATH, flags, calls::VFS)?;
        let mut engine = Self {
            connection,
            control: Arc::new(Control {
                began: Instant::now(),
                deadline: AtomicU64::new(OWN_TIME),
                own: AtomicBool::new(true),
            }),
            most_result: settings.most_result,
            result_left: 0,
            read_only: settings.read_only,
        };
        engine.prepare(settings)?;
        Ok(engine)
    }

    fn prepare(&mut self, settings: &Settings) -> rusqlite::Result<()> {
        // The hooks come first: what the file says of itself is hostile too.
        let control = Arc::clone(&self.control);
        self.connection
            .progress_handler(STEPS, Some(move || control.is_over()))?;
        let control = Arc::clone(&self.control);
        let authorize = move |context: AuthContext<'_>| {
            if control.own.load(Ordering::Relaxed) || policy::allows(&context.action) {
                Authorization::Allow
            } else {
                Authorization::Deny
            }
        };
        self.connection.authorizer(Some(authorize))?;
        policy::limit(&self.connection)?;
        let connection = &self.connection;
        let memory = i64::try_from(settings.memory).unwrap_or(i64::MAX);
        connection.pragma_update_and_check(None, "hard_heap_limit", memory, |_| Ok(()))?;
        // With the file locked as a whole, SQLite needs no shared memory for its log.
        connection.pragma_update_and_check(None, "locking_mode", "exclusive", |_| Ok(()))?;
        connection.pragma_update(None, "temp_store", "memory")?;
        connection.pragma_update_and_check(None, "mmap_size", 0, |_| Ok(()))?;
        connection.pragma_update(None, "cell_size_check", true)?;
        if self.read_only {
            connection.pragma_update(None, "query_only", true)?;
        } else {
            // Has an effect in a database without tables only.
            connection.pragma_update(None, "auto_vacuum", "incremental")?;
            connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
            connection.pragma_update(None, "synchronous", "full")?;
            // The log is cut to this after a checkpoint, in bytes.
            connection.pragma_update_and_check(None, "journal_size_limit", 1 << 20, |_| Ok(()))?;
            let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
            let storage = i64::try_from(settings.storage).unwrap_or(i64::MAX);
            let pages = (storage / page.max(512)).max(1);
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
        }
        // Shows now that the file is a database, and finishes what a crash left.
        let _: i64 =
            connection.query_row("select count(*) from sqlite_schema", [], |row| row.get(0))?;
        self.control.own.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn set_time(&self, millis: u64) {
        let now = u64::try_from(self.control.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.control
            .deadline
            .store(now.saturating_add(millis), Ordering::Relaxed);
    }

    /// Carries out one request. `false` when nobody takes answers any more.
    pub(super) fn answer(&mut self, request: Request, send: Send<'_>) -> bool {
        self.result_left = self.most_result;
        let lasts = matches!(
            request,
            Request::Begin { .. }
                | Request::Run { inside: true, .. }
                | Request::Execute { inside: true, .. }
        );
        let done = match request {
            Request::Open(_) => Err(Failure {
                code: "SQLITE_MISUSE",
                message: "the database is open".to_owned(),
                statement: 0,
            }),
            Request::Run {
                statements,
                time,
                inside,
            } => {
                self.set_time(time);
                self.as_one(inside, |engine| {
                    for (index, statement) in (0..).zip(&statements) {
                        engine.run(statement, send).map_err(|failure| Failure {
                            statement: index,
                            ..failure
                        })?;
                    }
                    Ok(())
                })
            }
            Request::Execute { sql, time, inside } => {
                self.set_time(time);
                self.as_one(inside, |engine| engine.execute(&sql, send))
            }
            Request::Begin { time } => {
                self.set_time(time);
                let begin = if self.read_only {
                    "begin"
                } else {
                    "begin immediate"
                };
                self.own(begin)
            }
            Request::Commit { time } => {
                self.set_time(time);
                let committed = self.own("commit");
                if committed.is_err() {
                    self.roll_back();
                }
                committed
            }
            Request::RollBack => {
                self.roll_back();
                Ok(())
            }
        };
        // Only a transaction outlives its request. The end of the worker rolls back what could not be.
        if !lasts && !self.connection.is_autocommit() {
            return false;
        }
        send(&done.map_or_else(answer, |()| Answer::Done))
    }

    /// A statement of the worker's own, which the policy would refuse.
    fn own(&self, sql: &str) -> Result<(), Failure> {
        self.control.own.store(true, Ordering::Relaxed);
        let done = self.connection.execute_batch(sql);
        self.control.own.store(false, Ordering::Relaxed);
        Ok(done?)
    }

    fn roll_back(&self) {
        self.set_time(OWN_TIME);
        if !self.connection.is_autocommit() {
            let _ = self.own("rollback");
        }
    }

    /// Does several things or nothing: in a transaction of its own, or as a part of the open one. A transaction that
    /// an error has rolled back as a whole is not gone on with.
    fn as_one(
        &mut self,
        inside: bool,
        work: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if inside && self.connection.is_autocommit() {
            return Err(Failure {
                code: "SQLITE_ABORT",
                message: "an earlier error rolled the whole transaction back".to_owned(),
                statement: 0,
            });
        }
        let (begin, end, undo) = match (inside, self.read_only) {
            (false, true) => ("begin", "commit", "rollback"),
            (false, false) => ("begin immediate", "commit", "rollback"),
            (true, _) => (
                "savepoint part",
                "release part",
                "rollback to part; release part",
            ),
        };
        self.own(begin)?;
        let done = work(self).and_then(|()| self.own(end));
        // Some errors roll back by themselves: a full disk, no memory, `ON CONFLICT ROLLBACK`.
        if done.is_err() && !self.connection.is_autocommit() {
            self.set_time(OWN_TIME);
            if self.own(undo).is_err() {
                self.roll_back();
            }
        }
        done.map_err(|failure| {
            if !inside || !self.connection.is_autocommit() {
                return failure;
            }
            Failure {
                message: format!("{}; the whole transaction was rolled back", failure.message),
                ..failure
            }
        })
    }

    fn run(&mut self, statement: &Statement, send: Send<'_>) -> Result<(), Failure> {
        let began = Instant::now();
        let mut prepared = self.connection.prepare(&statement.sql)?;
        // Texts and blobs of a parameter over the limit are refused by SQLite.
        let expected = prepared.parameter_count();
        if statement.parameters.len() != expected {
            return Err(Failure {
                code: "SQLITE_RANGE",
                message: format!(
                    "the statement has {expected} parameters, and {} values are bound",
                    statement.parameters.len()
                ),
                statement: 0,
            });
        }
        for (index, value) in (1..).zip(&statement.parameters) {
            match value {
                Value::Null => prepared.raw_bind_parameter(index, rusqlite::types::Null)?,
                Value::Integer(value) => prepared.raw_bind_parameter(index, value)?,
                Value::Real(value) => prepared.raw_bind_parameter(index, value)?,
                Value::Text(value) => prepared.raw_bind_parameter(index, value)?,
                Value::Blob(value) => prepared.raw_bind_parameter(index, value)?,
            }
        }
        let before = self.connection.total_changes();
        let columns: Vec<Column> = prepared
            .column_names()
            .map(|name| Column {
                name: name.to_owned(),
            })
            .collect();
        let count = columns.len();
        if !send(&Answer::Columns(columns)) {
            return Err(gone());
        }
        let mut rows = prepared.raw_query();
        let (mut piece, mut filled) = (Vec::new(), 0_u64);
        while let Some(row) = rows.next()? {
            let mut values = Vec::with_capacity(count);
            for index in 0..count {
                let value = match row.get_ref(index)? {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(value) => Value::Integer(value),
                    ValueRef::Real(value) => Value::Real(value),
                    ValueRef::Text(value) => {
                        Value::Text(String::from_utf8_lossy(value).into_owned())
                    }
                    ValueRef::Blob(value) => Value::Blob(value.to_vec()),
                };
                filled += value.cost() as u64;
                values.push(value);
            }
            filled += ROW as u64;
            piece.push(values);
            if filled >= PIECE as u64 || filled > self.result_left {
                self.result_left = self.result_left.checked_sub(filled).ok_or_else(|| Failure {
                    code: "SQLITE_TOOBIG",
                    message: format!(
                        "the result has more than {} bytes, which is the limit: add LIMIT to the statement",
                        self.most_result
                    ),
                    statement: 0,
                })?;
                filled = 0;
                if !send(&Answer::Rows(std::mem::take(&mut piece))) {
                    return Err(gone());
                }
            }
        }
        drop(rows);
        self.result_left = self.result_left.saturating_sub(filled);
        if !piece.is_empty() && !send(&Answer::Rows(piece)) {
            return Err(gone());
        }
        let steps = prepared.get_status(StatementStatus::VmStep);
        drop(prepared);
        self.end(began, before, steps, send)
    }

    fn execute(&mut self, sql: &str, send: Send<'_>) -> Result<(), Failure> {
        let began = Instant::now();
        let before = self.connection.total_changes();
        let (mut count, mut steps) = (0, 0);
        let mut batch = Batch::new(&self.connection, sql);
        loop {
            let at = |error: rusqlite::Error| Failure {
                statement: count,
                ..Failure::from(error)
            };
            let Some(mut statement) = batch.next().map_err(at)? else {
                break;
            };
            if statement.parameter_count() > 0 {
                return Err(Failure {
                    code: "SQLITE_RANGE",
                    message: "`exec` takes statements without parameters; `prepare` and `bind` are for those".to_owned(),
                    statement: count,
                });
            }
            let mut rows = statement.raw_query();
            while rows.next().map_err(at)?.is_some() {}
            drop(rows);
            steps += statement.get_status(StatementStatus::VmStep);
            count += 1;
        }
        // The number of statements stands where rows would.
        let counted = Answer::Rows(vec![vec![Value::Integer(i64::from(count))]]);
        if !send(&Answer::Columns(vec![Column {
            name: "count".to_owned(),
        }])) || !send(&counted)
        {
            return Err(gone());
        }
        self.end(began, before, steps, send)
    }

    fn end(&self, began: Instant, before: u64, steps: i32, send: Send<'_>) -> Result<(), Failure> {
        let pages = |name| {
            self.connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
        };
        let ended = Answer::End {
            changes: self.connection.total_changes().saturating_sub(before),
            last_row_id: self.connection.last_insert_rowid(),
            micros: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
            size: pages("page_count")?
                .saturating_mul(pages("page_size")?)
                .cast_unsigned(),
            steps: u64::try_from(steps).unwrap_or_default(),
        };
        if send(&ended) { Ok(()) } else { Err(gone()) }
    }
}

/// Nobody reads this.
fn gone() -> Failure {
    Failure {
        code: "SQLITE_ABORT",
        message: String::new(),
        statement: 0,
    }
}

fn answer(failure: Failure) -> Answer {
    Answer::Failed {
        code: failure.code.to_owned(),
        message: failure.message,
        statement: failure.statement,
    }
}

/// The names of those codes that a guest's code can act on. The others have the name of their group.
fn code_name(extended: i32) -> &'static str {
    match extended {
        ffi::SQLITE_CONSTRAINT_CHECK => "SQLITE_CONSTRAINT_CHECK",
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => "SQLITE_CONSTRAINT_FOREIGNKEY",
        ffi::SQLITE_CONSTRAINT_NOTNULL => "SQLITE_CONSTRAINT_NOTNULL",
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY => "SQLITE_CONSTRAINT_PRIMARYKEY",
        ffi::SQLITE_CONSTRAINT_ROWID => "SQLITE_CONSTRAINT_ROWID",
        ffi::SQLITE_CONSTRAINT_TRIGGER => "SQLITE_CONSTRAINT_TRIGGER",
        ffi::SQLITE_CONSTRAINT_UNIQUE => "SQLITE_CONSTRAINT_UNIQUE",
        ffi::SQLITE_CONSTRAINT_DATATYPE => "SQLITE_CONSTRAINT_DATATYPE",
        _ => match ffi::Error::new(extended).code {
            ErrorCode::ConstraintViolation => "SQLITE_CONSTRAINT",
            ErrorCode::PermissionDenied => "SQLITE_PERM",
            ErrorCode::OperationAborted => "SQLITE_ABORT",
            ErrorCode::DatabaseBusy => "SQLITE_BUSY",
            ErrorCode::DatabaseLocked => "SQLITE_LOCKED",
            ErrorCode::OutOfMemory => "SQLITE_NOMEM",
            ErrorCode::ReadOnly => "SQLITE_READONLY",
            ErrorCode::OperationInterrupted => "SQLITE_INTERRUPT",
            ErrorCode::SystemIoFailure => "SQLITE_IOERR",
            ErrorCode::DatabaseCorrupt => "SQLITE_CORRUPT",
            ErrorCode::DiskFull => "SQLITE_FULL",
            ErrorCode::CannotOpen => "SQLITE_CANTOPEN",
            ErrorCode::SchemaChanged => "SQLITE_SCHEMA",
            ErrorCode::TooBig => "SQLITE_TOOBIG",
            ErrorCode::TypeMismatch => "SQLITE_MISMATCH",
            ErrorCode::AuthorizationForStatementDenied => "SQLITE_AUTH",
            ErrorCode::ParameterOutOfRange => "SQLITE_RANGE",
            ErrorCode::NotADatabase => "SQLITE_NOTADB",
            _ => "SQLITE_ERROR",
        },
    }
}
