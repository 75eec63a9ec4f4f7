//! Statements that the supervisor runs for a guest, which has no driver: what they are given, and what they give.
//!
//! A client speaks its protocol to a session of the door, as the driver of a guest does. So every limit of a session is
//! a limit of these statements too, and a client that is dropped ends its session: a statement that runs is cancelled
//! on the server, and an open transaction is rolled back.
//!
//! Invariant: parameters travel apart from the text of a statement.

mod cells;

use std::future::Future;

use tokio::io::DuplexStream;

use crate::limits::Limits;

pub(crate) use cells::Cells;

/// Most parameters of one statement.
pub const MAX_PARAMETERS: usize = 32_767;

/// A statement.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statement {
    /// Its text, with `$1` for PostgreSQL and `?` for MySQL where a parameter stands.
    pub text: String,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
}

/// A value that a statement is given.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    /// `NULL`.
    Null,
    /// A value of `boolean`.
    Boolean(bool),
    /// A value of an integer type.
    Integer(i64),
    /// A value of a floating-point type.
    Real(f64),
    /// The digits of an integer that has more than 64 bits.
    Digits(String),
    /// A value of any type, as the database reads it from a text.
    Text(String),
    /// A value of `bytea`, `blob` or `binary`.
    Bytes(Vec<u8>),
}

/// What a guest's script makes of the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// The text as it is: of texts, `uuid`, `numeric`, and every type that is not another kind.
    Text,
    /// `t` and `f`.
    Boolean,
    /// A number.
    Number,
    /// An integer of 64 bits.
    Integer,
    /// JSON.
    Json,
    /// A date, or a time of a date.
    Date,
    /// Bytes as they are.
    Bytes,
    /// Bytes, as PostgreSQL writes them in a text.
    Bytea,
}

impl ValueKind {
    /// The name that the guest's script knows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Boolean => "boolean",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Json => "json",
            Self::Date => "date",
            Self::Bytes => "bytes",
            Self::Bytea => "bytea",
        }
    }
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name. Several columns may have one name.
    pub name: String,
    /// What its values are, or those of its arrays.
    pub kind: ValueKind,
    /// Whether its values are arrays.
    pub is_array: bool,
}

/// A result, or a part of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// Empty for a statement without a result.
    pub columns: Vec<Column>,
    /// The values of all rows, one after another: of each its length in bytes as a big-endian `i32`, and the bytes;
    /// -1 for `NULL`.
    pub cells: Vec<u8>,
    /// How many rows there are.
    pub rows: u64,
    /// What was done, such as `INSERT`; empty where the database does not say.
    pub command: String,
    /// How many rows the statement gave or changed.
    pub count: u64,
    /// What MySQL generated for an `AUTO_INCREMENT` column.
    pub last_insert_id: Option<u64>,
    /// Whether a cursor has more rows.
    pub has_more: bool,
}

/// An error of the database, whose fields guests may see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseError {
    /// SQLSTATE.
    pub code: String,
    /// MySQL's number of the error.
    pub number: Option<u16>,
    /// What is wrong.
    pub message: String,
    /// More about that.
    pub detail: Option<String>,
    /// What may help.
    pub hint: Option<String>,
    /// The schema that it concerns.
    pub schema: Option<String>,
    /// The table that it concerns.
    pub table: Option<String>,
    /// The column that it concerns.
    pub column: Option<String>,
    /// The constraint that does not hold.
    pub constraint: Option<String>,
    /// Where it is in the text of the statement: a count of characters, from 1.
    pub position: Option<u32>,
}

/// Why a statement has no result.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The database refused it, or a limit of the grant was reached.
    #[error("{}: {}", .0.code, .0.message)]
    Database(Box<DatabaseError>),
    /// No connection is free.
    #[error("{0}")]
    Busy(String),
    /// The session ended without a word, or broke the protocol.
    #[error("the connection to the database ended")]
    Closed,
}

impl SqlError {
    pub(crate) fn refused(code: &str, message: impl Into<String>) -> Self {
        Self::Database(Box::new(DatabaseError {
            code: code.to_owned(),
            message: message.into(),
            ..DatabaseError::default()
        }))
    }

    /// A statement that cannot be sent.
    pub(crate) fn too_long(size: u64, most: u64) -> Self {
        let why = format!("a statement of {size} bytes is too long: this grant allows {most}");
        Self::refused("54000", why)
    }

    pub(crate) fn too_many_parameters() -> Self {
        let why = format!("a statement has at most {MAX_PARAMETERS} parameters");
        Self::refused("54023", why)
    }
}

/// How a transaction sees what others do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// `READ UNCOMMITTED`
    ReadUncommitted,
    /// `READ COMMITTED`
    ReadCommitted,
    /// `REPEATABLE READ`
    RepeatableRead,
    /// `SERIALIZABLE`
    Serializable,
}

impl Isolation {
    /// The level in words of SQL.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::ReadUncommitted => "read uncommitted",
            Self::ReadCommitted => "read committed",
            Self::RepeatableRead => "repeatable read",
            Self::Serializable => "serializable",
        }
    }
}

/// How a transaction begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Begin {
    /// The database's default where it is `None`.
    pub isolation: Option<Isolation>,
    /// Whether it may change nothing.
    pub read_only: bool,
}

/// A client of a door's session. A call that is dropped before its end leaves it unusable: the caller drops it then.
pub trait SqlClient: Send + Sync + Sized + 'static {
    /// Begins a session on the other end of a stream that the door serves.
    ///
    /// # Errors
    /// When there is no connection to the server.
    fn connect(
        stream: DuplexStream,
        limits: &Limits,
    ) -> impl Future<Output = Result<Self, SqlError>> + Send;

    /// Runs one statement.
    ///
    /// # Errors
    /// When the database refuses it, or a limit is reached.
    fn query(
        &mut self,
        statement: &Statement,
    ) -> impl Future<Output = Result<Rows, SqlError>> + Send;

    /// Begins a transaction.
    ///
    /// # Errors
    /// As for [`Self::query`].
    fn begin(&mut self, begin: Begin) -> impl Future<Output = Result<(), SqlError>> + Send;

    /// Runs one statement in a transaction and gives the first `count` rows of its result, with the number of the
    /// cursor that has the rest. There is no cursor where [`Rows::has_more`] is false.
    ///
    /// # Errors
    /// As for [`Self::query`].
    fn open(
        &mut self,
        statement: &Statement,
        count: u32,
    ) -> impl Future<Output = Result<(u32, Rows), SqlError>> + Send;

    /// Gives the next rows of a cursor. One that has no more is closed.
    ///
    /// # Errors
    /// As for [`Self::query`].
    fn fetch(
        &mut self,
        cursor: u32,
        count: u32,
    ) -> impl Future<Output = Result<Rows, SqlError>> + Send;

    /// Closes a cursor.
    ///
    /// # Errors
    /// As for [`Self::query`].
    fn close(&mut self, cursor: u32) -> impl Future<Output = Result<(), SqlError>> + Send;

    /// Whether a transaction is open after the last statement.
    fn in_transaction(&self) -> bool;

    /// Whether the session goes on: everything was answered.
    fn is_usable(&self) -> bool;
}
