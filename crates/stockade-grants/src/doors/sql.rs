//! Statements of guests, without a driver.
//!
//! | method | argument | answer |
//! |---|---|---|
//! | `connect` | | a connection for a driver |
//! | `query` | `{sql, parameters, handle?, rows?}` | a result; with `rows`, at most as many, and a cursor for the rest |
//! | `fetch` | `{handle, cursor, rows}` | the next rows of a cursor |
//! | `close` | `{handle, cursor}` | `null` |
//! | `begin` | `{isolation?, readOnly}` | the handle of a transaction |
//! | `commit`, `rollback` | `{handle}` | `null` |
//!
//! A parameter is `null`, a boolean, a number, a text or bytes; an integer of more than 53 bits is `{i: text}`, and a
//! number that JSON cannot hold is `{r: text}`. A result is `{columns: [[name, kind]], rows, cells, command, count,
//! lastInsertId?, cursor?}`; `cells` are bytes as `stockade_door::Rows` describes them. The message of a
//! `DatabaseError` is JSON, of which the guest's script makes the members of the error.
//!
//! Invariants:
//! 1. A statement runs in a session of the door, so the door's limits are its limits. A call that is dropped ends its
//!    session.
//! 2. A session serves one owner. It stays open for that owner's next statement for at most [`WARM`], and is then
//!    reset or closed; it is not kept after a statement that left a transaction open.
//! 3. Fewer calls wait for a session than may run at the same time, so that a transaction can go on.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use stockade_capability::{
    Attachments, CallContext, CallNotes, CallPayload, Capability, ErrorName, HandleLimits,
    HandleTable, Owner, Pipe, Reply,
};
use stockade_config::DoorSettings;
use stockade_door::{
    Begin, DatabaseError, Isolation, Limits, Parameter, Rows, SqlClient, SqlError, Statement,
};
use stockade_protocol::{Attachment, GuestError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Door, Doors};
use crate::Ground;
use crate::statements::note_statement;

/// The methods of databases.
pub(crate) const METHODS: &[&str] = &[
    "connect", "query", "fetch", "close", "begin", "commit", "rollback",
];

/// Bytes of JSON that are read for one call. The bytes of blobs are not counted.
const MAX_ARGUMENTS: usize = 4 << 20;
/// How long a session may wait for the next statement of its owner. It is reset then, as other sessions are.
const WARM: Duration = Duration::from_millis(100);
/// How long a session may serve one owner's single statements, so that others get their turn.
const LIFE: Duration = Duration::from_secs(1);
/// Most bytes of a text in an error of the database.
const MAX_TEXT: usize = 8 << 10;
/// Most cursors of one transaction.
const MAX_CURSORS: usize = 16;

/// The statements of one grant's guests.
pub(super) struct Sql<D, C> {
    doors: Doors<D>,
    shared: Arc<Shared<C>>,
}

struct Shared<C> {
    limits: Limits,
    /// Sessions of one owner at the same time.
    sessions: usize,
    owners: Mutex<HashMap<Owner, Arc<Sessions<C>>>>,
    transactions: HandleTable<Transaction<C>>,
    waiting: AtomicUsize,
    most_waiting: usize,
}

/// The sessions of one owner.
struct Sessions<C> {
    permits: Arc<Semaphore>,
    warm: Mutex<Warm<C>>,
    /// Held while the sessions that wait are ended.
    ending: tokio::sync::Mutex<()>,
}

struct Warm<C> {
    /// The last one was used last.
    clients: Vec<(Instant, Session<C>)>,
    is_tidied: bool,
}

/// A session, with its place among those of its owner.
struct Session<C> {
    client: C,
    since: Instant,
    served: JoinHandle<()>,
}

/// A transaction: its session, which a call takes out while it uses it. `None` when it has ended.
struct Transaction<C>(tokio::sync::Mutex<Option<Held<C>>>);

struct Held<C> {
    session: Session<C>,
    place: Place<C>,
    cursors: usize,
}

/// One of the sessions that an owner may have.
struct Place<C> {
    of: Arc<Sessions<C>>,
    _permit: OwnedSemaphorePermit,
}

impl<D: Door, C: SqlClient> Sql<D, C> {
    pub(super) fn new(
        doors: Doors<D>,
        limits: Limits,
        settings: &DoorSettings<'_>,
        ground: &Ground,
    ) -> Self {
        let handles = HandleLimits {
            most: settings.limits.handles,
            // The session's own limits come first, and say so.
            idle: limits.transaction + Duration::from_secs(60),
            life: limits.transaction + Duration::from_secs(60),
        };
        Self {
            doors,
            shared: Arc::new(Shared {
                limits,
                sessions: settings.limits.handles,
                owners: Mutex::default(),
                transactions: HandleTable::new(handles, ground.handles.clone()),
                waiting: AtomicUsize::new(0),
                // Who holds a connection, such as a transaction, can always make a call.
                most_waiting: settings
                    .limits
                    .concurrent
                    .saturating_sub(settings.pool)
                    .max(1),
            }),
        }
    }
}

impl<D: Door, C: SqlClient> Capability for Sql<D, C> {
    fn call(
        &self,
        context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let call = Call {
            doors: self.doors.clone(),
            shared: Arc::clone(&self.shared),
            owner: context.owner,
            notes: context.notes,
        };
        let method = method.to_owned();
        Box::pin(async move {
            match &*method {
                "query" => call.query(arguments).await,
                "fetch" => call.fetch(arguments).await,
                "close" => call.close(arguments).await,
                "begin" => call.begin(arguments).await,
                "commit" => call.end(arguments, "commit").await,
                "rollback" => call.end(arguments, "rollback").await,
                _ => Err(ErrorName::Type.error(format!("a database has no method {method:?}"))),
            }
        })
    }

    fn open(
        &self,
        context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<Pipe, GuestError>> {
        // A driver does not wait for sessions that only wait for statements themselves.
        let of = self.shared.owners.lock().get(&context.owner).cloned();
        let doors = self.doors.clone();
        let method = method.to_owned();
        Box::pin(async move {
            if let Some(of) = of {
                of.end_warm().await;
            }
            doors.open(context, &method, arguments).await
        })
    }

    fn ended(&self, owner: &Owner) {
        self.doors.ended(owner);
        self.shared.transactions.ended(owner);
        self.shared.owners.lock().remove(owner);
    }
}

/// One call of a guest.
struct Call<D, C> {
    doors: Doors<D>,
    shared: Arc<Shared<C>>,
    owner: Owner,
    notes: CallNotes,
}

#[derive(Deserialize)]
struct Query {
    sql: String,
    parameters: Vec<Value>,
    handle: Option<u64>,
    rows: Option<u32>,
}

#[derive(Deserialize)]
struct OfCursor {
    handle: u64,
    cursor: u32,
    #[serde(default)]
    rows: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    isolation: Option<String>,
    read_only: bool,
}

#[derive(Deserialize)]
struct End {
    handle: u64,
}

/// A value from a guest.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Null,
    Boolean(bool),
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    columns: Vec<(Cow<'a, str>, String)>,
    rows: u64,
    cells: Option<Attachment>,
    command: Cow<'a, str>,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_insert_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<u32>,
}

impl<D: Door, C: SqlClient> Call<D, C> {
    async fn query(&self, arguments: CallPayload) -> Result<CallPayload, GuestError> {
        let (query, mut attachments) = arguments.read::<Query>(MAX_ARGUMENTS)?;
        let text = attachments.text(&query.sql)?.to_owned();
        let parameters = query
            .parameters
            .into_iter()
            .map(|value| parameter(value, &mut attachments))
            .collect::<Result<_, _>>()?;
        note_statement(&self.notes, &text);
        let statement = Statement { text, parameters };
        let Some(handle) = query.handle else {
            return self.single(&statement).await;
        };
        let rows = query.rows;
        self.inside(handle, async |held| match rows {
            None => Ok((held.session.client.query(&statement).await?, None)),
            Some(_) if held.cursors >= MAX_CURSORS => {
                Err(SqlError::Database(Box::new(DatabaseError {
                    code: "53400".to_owned(),
                    message: format!("a transaction has at most {MAX_CURSORS} cursors open"),
                    ..DatabaseError::default()
                })))
            }
            Some(count) => {
                let count = count.max(1);
                let (cursor, rows) = held.session.client.open(&statement, count).await?;
                held.cursors += usize::from(rows.has_more);
                Ok((rows, Some(cursor)))
            }
        })
        .await
    }

    /// One statement outside of a transaction.
    async fn single(&self, statement: &Statement) -> Result<CallPayload, GuestError> {
        let (mut session, place) = self.session().await?;
        let done = session.client.query(statement).await;
        let is_open = session.client.in_transaction();
        if session.client.is_usable() && !is_open {
            place.keep(session);
        }
        let rows = done.map_err(|error| self.refused(error))?;
        if is_open {
            return Err(ErrorName::Type.error(
                "the statement began a transaction, which was rolled back: use sql.begin()",
            ));
        }
        self.answer(&rows, None)
    }

    async fn fetch(&self, arguments: CallPayload) -> Result<CallPayload, GuestError> {
        let (of, _) = arguments.read::<OfCursor>(MAX_ARGUMENTS)?;
        let count = of.rows.max(1);
        self.inside(of.handle, async |held| {
            let rows = held.session.client.fetch(of.cursor, count).await?;
            held.cursors -= usize::from(!rows.has_more && held.cursors > 0);
            Ok((rows, Some(of.cursor)))
        })
        .await
    }

    async fn close(&self, arguments: CallPayload) -> Result<CallPayload, GuestError> {
        let (of, _) = arguments.read::<OfCursor>(MAX_ARGUMENTS)?;
        self.inside(of.handle, async |held| {
            held.session.client.close(of.cursor).await?;
            held.cursors = held.cursors.saturating_sub(1);
            Ok((Rows::default(), None))
        })
        .await
    }

    async fn begin(&self, arguments: CallPayload) -> Result<CallPayload, GuestError> {
        let (start, attachments) = arguments.read::<Start>(MAX_ARGUMENTS)?;
        let isolation = start.isolation.as_deref();
        let begin = Begin {
            isolation: match isolation {
                None => None,
                Some(name) => Some(isolation_named(attachments.text(name)?)?),
            },
            read_only: start.read_only,
        };
        note_statement(&self.notes, "begin");
        let (mut session, place) = self.session().await?;
        let begun = session.client.begin(begin).await;
        begun.map_err(|error| self.refused(error))?;
        let held = Held {
            session,
            place,
            cursors: 0,
        };
        let transaction = Transaction(tokio::sync::Mutex::new(Some(held)));
        Reply::plain(&self.shared.transactions.insert(&self.owner, transaction)?)
    }

    async fn end(
        &self,
        arguments: CallPayload,
        how: &'static str,
    ) -> Result<CallPayload, GuestError> {
        let (End { handle }, _) = arguments.read::<End>(MAX_ARGUMENTS)?;
        note_statement(&self.notes, how);
        let transaction = self.shared.transactions.find(&self.owner, handle)?;
        self.shared.transactions.remove(&self.owner, handle);
        let held = transaction.0.lock().await.take();
        let Some(Held {
            mut session, place, ..
        }) = held
        else {
            return Err(ended());
        };
        let statement = Statement {
            text: how.to_owned(),
            parameters: Vec::new(),
        };
        let done = session.client.query(&statement).await;
        if session.client.is_usable() && !session.client.in_transaction() {
            place.keep(session);
        }
        let rows = done.map_err(|error| self.refused(error))?;
        // PostgreSQL answers so where a statement of the transaction had failed.
        if how == "commit" && rows.command.eq_ignore_ascii_case("rollback") {
            return Err(self.refused(SqlError::Database(Box::new(DatabaseError {
                code: "25P02".to_owned(),
                message: "the transaction was rolled back: a statement in it had failed".to_owned(),
                ..DatabaseError::default()
            }))));
        }
        Reply::plain(&())
    }

    /// Does something in a transaction. One that ends by it, or is dropped meanwhile, is over.
    async fn inside(
        &self,
        handle: u64,
        work: impl AsyncFnOnce(&mut Held<C>) -> Result<(Rows, Option<u32>), SqlError>,
    ) -> Result<CallPayload, GuestError> {
        let transaction = self.shared.transactions.find(&self.owner, handle)?;
        let mut state = transaction.0.lock().await;
        let mut held = state.take().ok_or_else(ended)?;
        let done = work(&mut held).await;
        if held.session.client.is_usable() && held.session.client.in_transaction() {
            *state = Some(held);
        }
        drop(state);
        let (rows, cursor) = done.map_err(|error| self.refused(error))?;
        self.answer(&rows, cursor)
    }

    /// A session for this owner. Waits for one, until the call's time is over.
    async fn session(&self) -> Result<(Session<C>, Place<C>), GuestError> {
        let shared = &self.shared;
        let of = {
            let mut owners = shared.owners.lock();
            let new = || Arc::new(Sessions::new(shared.sessions));
            Arc::clone(owners.entry(self.owner.clone()).or_insert_with(new))
        };
        let waiting = Waiting::new(shared)?;
        let permit = Arc::clone(&of.permits).acquire_owned().await;
        let place = Place {
            of,
            _permit: permit.map_err(|_| ended())?,
        };
        if let Some(session) = place.of.warm() {
            return Ok((session, place));
        }
        let (stream, served) = self.doors.connect(&self.owner, None);
        let connected = C::connect(stream, &shared.limits).await;
        drop(waiting);
        let client = connected.map_err(|error| self.refused(error))?;
        let since = Instant::now();
        let session = Session {
            client,
            since,
            served,
        };
        Ok((session, place))
    }

    fn answer(&self, rows: &Rows, cursor: Option<u32>) -> Result<CallPayload, GuestError> {
        self.notes.add("rows", rows.count);
        let mut reply = Reply::default();
        let columns = rows.columns.iter().map(|column| {
            let array = if column.is_array { "[]" } else { "" };
            let kind = format!("{}{array}", column.kind.name());
            (reply.text(&column.name), kind)
        });
        let columns = columns.collect();
        let answer = Answer {
            columns,
            rows: rows.rows,
            cells: (!rows.cells.is_empty()).then(|| reply.bytes(rows.cells.clone())),
            command: reply.text(&rows.command),
            count: rows.count,
            last_insert_id: rows.last_insert_id.map(|id| id.to_string()),
            cursor: cursor.filter(|_| rows.has_more),
        };
        reply.finish(&answer)
    }

    /// The error for the guest.
    fn refused(&self, error: SqlError) -> GuestError {
        match error {
            SqlError::Database(error) => {
                self.notes.add("code", error.code.as_str());
                ErrorName::Database.coded(error.code.as_str(), details(&error).to_string())
            }
            SqlError::Busy(why) => ErrorName::Busy.error(why),
            // What the server did is in the log.
            SqlError::Closed => ErrorName::Database.coded(
                "08006",
                json!({ "message": "the connection to the database ended: what was being done was undone, or was committed just before" })
                    .to_string(),
            ),
        }
    }
}

/// What the guest's script makes the members of an error of.
fn details(error: &DatabaseError) -> serde_json::Value {
    let text = |text: &str| text[..text.floor_char_boundary(MAX_TEXT)].to_owned();
    let optional = |value: &Option<String>| value.as_deref().map(text);
    json!({
        "message": text(&error.message),
        "errno": error.number,
        "detail": optional(&error.detail),
        "hint": optional(&error.hint),
        "schema": optional(&error.schema),
        "table": optional(&error.table),
        "column": optional(&error.column),
        "constraint": optional(&error.constraint),
        "position": error.position,
    })
}

fn ended() -> GuestError {
    ErrorName::Type.error(
        "the transaction has ended: it was committed or rolled back, a statement in it ended it, or a limit did",
    )
}

fn isolation_named(name: &str) -> Result<Isolation, GuestError> {
    Ok(match name {
        "read uncommitted" => Isolation::ReadUncommitted,
        "read committed" => Isolation::ReadCommitted,
        "repeatable read" => Isolation::RepeatableRead,
        "serializable" => Isolation::Serializable,
        _ => {
            let why = "the isolation of a transaction is \"read uncommitted\", \"read committed\", \
                \"repeatable read\" or \"serializable\"";
            return Err(ErrorName::Type.error(why));
        }
    })
}

fn parameter(value: Value, attachments: &mut Attachments) -> Result<Parameter, GuestError> {
    let number = || ErrorName::Range.error("an integer has digits, at most 1000 of them");
    Ok(match value {
        Value::Null => Parameter::Null,
        Value::Boolean(value) => Parameter::Boolean(value),
        Value::Integer(value) => Parameter::Integer(value),
        Value::Real(value) => Parameter::Real(value),
        Value::Text(text) => match attachments.text(&text) {
            Ok(text) => Parameter::Text(text.to_owned()),
            Err(_) => Parameter::Bytes(attachments.bytes(&text)?),
        },
        Value::Large { i } => {
            let digits = i.strip_prefix('-').unwrap_or(&i);
            let is_number = (1..=1000).contains(&digits.len())
                && digits.bytes().all(|byte| byte.is_ascii_digit());
            match i.parse() {
                Ok(value) => Parameter::Integer(value),
                Err(_) if is_number => Parameter::Digits(i),
                Err(_) => return Err(number()),
            }
        }
        Value::Special { r } => Parameter::Real(match &*r {
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            _ => f64::NAN,
        }),
    })
}

impl<C: SqlClient> Sessions<C> {
    fn new(most: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(most)),
            warm: Mutex::new(Warm {
                clients: Vec::new(),
                is_tidied: false,
            }),
            ending: tokio::sync::Mutex::new(()),
        }
    }

    /// The session that was used last.
    fn warm(&self) -> Option<Session<C>> {
        self.warm.lock().clients.pop().map(|(_, session)| session)
    }

    /// Ends the sessions that no statement uses, and waits until their connections are free.
    async fn end_warm(&self) {
        let _one_at_a_time = self.ending.lock().await;
        let clients = std::mem::take(&mut self.warm.lock().clients);
        for (_, session) in clients {
            drop(session.client);
            // A session that failed is over too.
            let _ = session.served.await;
        }
    }
}

impl<C: SqlClient> Place<C> {
    /// Keeps a session for the next statement of its owner, and gives the place back.
    fn keep(self, session: Session<C>) {
        let now = Instant::now();
        if now - session.since > LIFE {
            return;
        }
        let mut warm = self.of.warm.lock();
        warm.clients.push((now, session));
        if !std::mem::replace(&mut warm.is_tidied, true) {
            tokio::spawn(tidy(Arc::downgrade(&self.of), now + WARM));
        }
    }
}

/// Ends sessions that no statement came for, until there are none.
async fn tidy<C>(sessions: Weak<Sessions<C>>, mut at: Instant) {
    loop {
        tokio::time::sleep_until(at).await;
        let Some(sessions) = sessions.upgrade() else {
            return;
        };
        let mut warm = sessions.warm.lock();
        let oldest = Instant::now() - WARM;
        let expired = warm.clients.partition_point(|(since, _)| *since <= oldest);
        let ended: Vec<_> = warm.clients.drain(..expired).collect();
        match warm.clients.first() {
            Some((since, _)) => at = *since + WARM,
            None => {
                warm.is_tidied = false;
                return;
            }
        }
        drop(warm);
        drop(ended);
    }
}

/// A call that waits for a session.
struct Waiting<'a, C>(&'a Shared<C>);

impl<'a, C> Waiting<'a, C> {
    fn new(shared: &'a Shared<C>) -> Result<Self, GuestError> {
        let waiting = shared.waiting.fetch_add(1, Ordering::Relaxed);
        let waits = Self(shared);
        if waiting >= shared.most_waiting {
            let most = shared.sessions;
            return Err(ErrorName::Busy.error(format!(
                "all {most} sessions of this isolate are in use (the limit `handles`), and too many calls wait for one"
            )));
        }
        Ok(waits)
    }
}

impl<C> Drop for Waiting<'_, C> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
