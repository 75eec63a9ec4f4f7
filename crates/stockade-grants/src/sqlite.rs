//! `sqlite`: a database with the interface of Cloudflare's D1, and with interactive transactions.
//!
//! | method | argument | answer |
//! |---|---|---|
//! | `run` | `{statements: [[sql, parameters]], handle?}` | a list of `{columns, rows, changes, lastRowId, micros, size, steps}` |
//! | `exec` | `{sql, handle?}` | `{count, micros}` |
//! | `begin` | `{}` | a handle |
//! | `commit`, `rollback` | `{handle}` | `null` |
//!
//! A value is `null`, a number, a text or bytes; an integer beyond 2^53 is `{i: text}`, and a number that JSON cannot
//! hold is `{r: text}`.
//!
//! Invariant: SQLite runs in the worker of [`Database`] alone. Neither the supervisor nor a guest opens the file.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use stockade_capability::{
    Attachments, CallContext, CallNotes, CallPayload, Capability, ErrorName, HandleLimits,
    HandleTable, Owner, Reply,
};
use stockade_config::{CallLimits, FileMode, SqliteGrant, SqliteIsolation};
use stockade_jail::{CgroupUse, Level};
use stockade_protocol::{Attachment, GuestError};
use stockade_sqlite::{
    Access, Database, DatabaseOptions, OpenError, Rows, SqlError, Statement, Transaction, Value,
};

use crate::statements::note_statement;
use crate::{Finding, GrantError, GrantKind, Ground};

pub(crate) const METHODS: &[&str] = &["run", "exec", "begin", "commit", "rollback"];
pub(crate) const EVERY_CALL: bool = false;

/// Bytes of JSON that are read for one call. The bytes of blobs are not counted.
const MAX_ARGUMENTS: usize = 4 << 20;

/// Integers of which JavaScript's numbers have every one: 2^53 - 1 and less.
const SAFE: i64 = (1 << 53) - 1;

impl GrantKind for SqliteGrant {
    fn limits(&self) -> &CallLimits {
        &self.limits
    }

    fn open(&self, ground: &Ground) -> Result<Arc<dyn Capability>, GrantError> {
        let database = Database::open(options(self))
            .map_err(|error| GrantError::Invalid(error.to_string()))?;
        let limits = HandleLimits {
            most: self.limits.handles,
            idle: self.transaction,
            // The transaction's own deadline comes first, and says so.
            life: self.transaction + Duration::from_secs(60),
        };
        Ok(Arc::new(Sqlite {
            database,
            transactions: Arc::new(HandleTable::new(limits, ground.handles.clone())),
        }))
    }

    fn check<'a>(&'a self, _ground: &'a Ground) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async move {
            let failed = |what: String| {
                vec![Finding {
                    is_error: true,
                    what,
                }]
            };
            let database = match Database::open(options(self)) {
                Ok(database) => database,
                // By the server whose configuration is checked, most likely.
                Err(OpenError::Locked(_)) => return Vec::new(),
                Err(error) => return failed(error.to_string()),
            };
            let select = Statement {
                sql: "select count(*) from sqlite_schema".to_owned(),
                parameters: Vec::new(),
            };
            match database.run(vec![select]).await {
                Ok(_) => Vec::new(),
                Err(error) => failed(format!("{}: {error}", self.file.display())),
            }
        })
    }
}

fn options(grant: &SqliteGrant) -> DatabaseOptions {
    DatabaseOptions {
        path: grant.file.clone(),
        access: match grant.mode {
            FileMode::Read => Access::Read,
            FileMode::Write => Access::Write,
        },
        storage: grant.storage,
        memory: grant.memory,
        statement: grant.statement,
        transaction: grant.transaction,
        most_result: grant.limits.max_result,
        // Fewer than the calls at the same time, so that a transaction can go on when all others wait for it.
        queue: grant.limits.concurrent / 2,
        queue_time: grant.limits.timeout,
        idle: grant.idle,
        level: match grant.isolation {
            SqliteIsolation::Container => Level::Container,
            SqliteIsolation::Process => Level::Process,
        },
        cgroup: CgroupUse::Auto,
    }
}

struct Sqlite {
    database: Database,
    transactions: Arc<HandleTable<Transaction>>,
}

impl Capability for Sqlite {
    fn call(
        &self,
        context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let call = Call {
            database: self.database.clone(),
            transactions: Arc::clone(&self.transactions),
            owner: context.owner,
            notes: context.notes,
        };
        let method = method.to_owned();
        Box::pin(async move {
            match &*method {
                "run" => call.run(arguments).await,
                "exec" => call.execute(arguments).await,
                "begin" => call.begin().await,
                "commit" => call.end(arguments, true).await,
                "rollback" => call.end(arguments, false).await,
                _ => Err(ErrorName::Type.error(format!("a database has no method {method:?}"))),
            }
        })
    }

    fn ended(&self, owner: &Owner) {
        self.transactions.ended(owner);
    }
}

/// One call of a guest.
struct Call {
    database: Database,
    transactions: Arc<HandleTable<Transaction>>,
    owner: Owner,
    notes: CallNotes,
}

#[derive(Deserialize)]
struct Run {
    statements: Vec<(String, Vec<Parameter>)>,
    handle: Option<u64>,
}

#[derive(Deserialize)]
struct Execute {
    sql: String,
    handle: Option<u64>,
}

#[derive(Deserialize)]
struct End {
    handle: u64,
}

/// A value from a guest.
#[derive(Deserialize)]
#[serde(untagged)]
enum Parameter {
    Null,
    Integer(i64),
    Real(f64),
    /// A text, or the mark of bytes.
    Text(String),
    Large {
        i: String,
    },
    Special {
        r: String,
    },
}

/// A value for a guest.
#[derive(Serialize)]
#[serde(untagged)]
enum Cell<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(Cow<'a, str>),
    Bytes(Attachment),
    Large { i: String },
    Special { r: &'static str },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    columns: Vec<Cow<'a, str>>,
    rows: Vec<Vec<Cell<'a>>>,
    changes: u64,
    last_row_id: Cell<'a>,
    micros: u64,
    size: u64,
    steps: u64,
}

#[derive(Serialize)]
struct Executed {
    count: i64,
    micros: u64,
}

impl Call {
    async fn run(&self, arguments: CallPayload) -> Result<CallPayload, GuestError> {
        let (run, mut attachments) = arguments.read::<Run>(MAX_ARGUMENTS)?;
        let mut statements = Vec::with_capacity(run.statements.len());
        for (sql, parameters) in run.statements {
            let sql = attachments.text(&sql)?.to_owned();
            let parameters = parameters
                .into_iter()
                .map(|parameter| value(parameter, &mut attachments))
                .collect::<Result<_, _>>()?;
            statements.push(Statement { sql, parameters });
        }
        if let Some(first) = statements.first() {
            note_statement(&self.notes, &first.sql);
        }
        self.notes.add("statements", statements.len() as u64);
        let done = match run.handle {
            None => self.database.run(statements).await,
            Some(handle) => {
                let transaction = self.transactions.find(&self.owner, handle)?;
                transaction.run(statements).await
            }
        };
        let done = done.map_err(|error| self.refused(&error))?;
        self.notes.add(
            "rows",
            done.iter().map(|rows| rows.rows.len() as u64).sum::<u64>(),
        );
        self.notes
            .add("changes", done.iter().map(|rows| rows.changes).sum::<u64>());
        let mut reply = Reply::default();
        let mut answers = Vec::with_capacity(done.len());
        for rows in &done {
            answers.push(answer(rows, &mut reply));
        }
        reply.finish(&answers)
    }

    async fn execute(&self, arguments: CallPayload) -> Result<CallPayload, GuestError> {
        let (execute, attachments) = arguments.read::<Execute>(MAX_ARGUMENTS)?;
        let sql = attachments.text(&execute.sql)?.to_owned();
        note_statement(&self.notes, &sql);
        let done = match execute.handle {
            None => self.database.execute(sql).await,
            Some(handle) => {
                let transaction = self.transactions.find(&self.owner, handle)?;
                transaction.execute(sql).await
            }
        };
        let done = done.map_err(|error| self.refused(&error))?;
        self.notes.add("changes", done.changes);
        let count = match done.rows.first().map(Vec::as_slice) {
            Some([Value::Integer(count)]) => *count,
            _ => 0,
        };
        Reply::plain(&Executed {
            count,
            micros: done.micros,
        })
    }

    async fn begin(&self) -> Result<CallPayload, GuestError> {
        let begun = self.database.begin().await;
        let transaction = begun.map_err(|error| self.refused(&error))?;
        Reply::plain(&self.transactions.insert(&self.owner, transaction)?)
    }

    async fn end(&self, arguments: CallPayload, commit: bool) -> Result<CallPayload, GuestError> {
        let (End { handle }, _) = arguments.read::<End>(MAX_ARGUMENTS)?;
        // A transaction that was closed says why where it is still known.
        let transaction = self.transactions.find(&self.owner, handle)?;
        self.transactions.remove(&self.owner, handle);
        let ended = if commit {
            transaction.commit().await
        } else {
            transaction.roll_back().await
        };
        ended.map_err(|error| self.refused(&error))?;
        Reply::plain(&())
    }

    /// The error for the guest.
    fn refused(&self, error: &SqlError) -> GuestError {
        let message = error.to_string();
        match error {
            SqlError::Sqlite { code, .. } => {
                self.notes.add("code", &**code);
                ErrorName::Database.coded(&**code, message)
            }
            SqlError::TimedOut { .. } => ErrorName::Timeout.error(message),
            SqlError::Busy(_) => ErrorName::Busy.error(message),
            SqlError::TooLarge(_) => ErrorName::Range.error(message),
            SqlError::Ended(_) => ErrorName::Type.error(message),
            // What the worker did is in the log.
            SqlError::Failed(_) => ErrorName::Database.coded(
                "SQLITE_IOERR",
                "the database failed: what was being done was undone, or was committed just before",
            ),
        }
    }
}

fn value(parameter: Parameter, attachments: &mut Attachments) -> Result<Value, GuestError> {
    let number =
        |text: &str| ErrorName::Range.error(format!("{text} is not an integer of 64 bits"));
    Ok(match parameter {
        Parameter::Null => Value::Null,
        Parameter::Integer(value) => Value::Integer(value),
        Parameter::Real(value) => Value::Real(value),
        Parameter::Text(text) => match attachments.text(&text) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Blob(attachments.bytes(&text)?),
        },
        Parameter::Large { i } => Value::Integer(
            i.parse()
                .map_err(|_| number(&i[..i.floor_char_boundary(40)]))?,
        ),
        Parameter::Special { r } => match &*r {
            "Infinity" => Value::Real(f64::INFINITY),
            "-Infinity" => Value::Real(f64::NEG_INFINITY),
            // As SQLite itself has it.
            _ => Value::Null,
        },
    })
}

fn answer<'a>(rows: &'a Rows, reply: &mut Reply) -> Answer<'a> {
    let columns = rows.columns.iter();
    Answer {
        columns: columns.map(|column| reply.text(&column.name)).collect(),
        rows: rows
            .rows
            .iter()
            .map(|row| row.iter().map(|value| cell(value, reply)).collect())
            .collect(),
        changes: rows.changes,
        last_row_id: integer(rows.last_row_id),
        micros: rows.micros,
        size: rows.size,
        steps: rows.steps,
    }
}

fn cell<'a>(value: &'a Value, reply: &mut Reply) -> Cell<'a> {
    match value {
        Value::Null => Cell::Null,
        Value::Integer(value) => integer(*value),
        Value::Real(value) if value.is_finite() => Cell::Real(*value),
        Value::Real(value) => Cell::Special {
            r: if *value > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            },
        },
        Value::Text(text) => Cell::Text(reply.text(text)),
        Value::Blob(bytes) => Cell::Bytes(reply.bytes(bytes.clone())),
    }
}

fn integer(value: i64) -> Cell<'static> {
    if (-SAFE..=SAFE).contains(&value) {
        Cell::Integer(value)
    } else {
        Cell::Large {
            i: value.to_string(),
        }
    }
}
