//! Which commands pass, and with what.
//!
//! Invariants: a command that passes is on the list, names the database of the grant alone, and holds no code and no
//! operator that runs code or shows other databases, users or the server, at any depth.

use std::collections::HashSet;

use super::bson::{
    ARRAY, CODE, CODE_WITH_SCOPE, DOCUMENT, Document, Element, Malformed, Writer, walk,
};
use super::frame::Message;
use crate::limits::Limits;

/// Commands that pass unless the grant refuses them.
const USUAL: [&str; 21] = [
    "aggregate",
    "collStats",
    "count",
    "create",
    "createIndexes",
    "dbStats",
    "delete",
    "distinct",
    "drop",
    "dropIndexes",
    "explain",
    "find",
    "findAndModify",
    "findandmodify",
    "getMore",
    "insert",
    "killCursors",
    "listCollections",
    "listIndexes",
    "ping",
    "update",
];

/// Commands that never pass: logins, code, and what names other databases in its own way.
const NEVER: [&str; 19] = [
    "applyOps",
    "authenticate",
    "bulkWrite",
    "copydb",
    "doTxn",
    "eval",
    "$eval",
    "getnonce",
    "group",
    "hello",
    "isMaster",
    "ismaster",
    "logout",
    "mapReduce",
    "mapreduce",
    "renameCollection",
    "saslContinue",
    "saslStart",
    "usersInfo",
];

/// Commands that `explain` may explain.
const EXPLAINED: [&str; 8] = [
    "aggregate",
    "count",
    "delete",
    "distinct",
    "find",
    "findAndModify",
    "findandmodify",
    "update",
];

/// Operators and stages that run code.
const RUNS_CODE: [&str; 3] = ["$where", "$function", "$accumulator"];

/// Stages that show other databases, sessions of others, the server's host, or what has no end.
const SHOWS: [&str; 12] = [
    "$changeStream",
    "$changeStreamSplitLargeEvent",
    "$collStats",
    "$currentOp",
    "$indexStats",
    "$listCatalog",
    "$listClusterCatalog",
    "$listLocalSessions",
    "$listSessions",
    "$planCacheStats",
    "$queryStats",
    "$shardedDataDistribution",
];

/// Stages that can name another database, and where.
const NAMES_DATABASE: [&str; 5] = ["$out", "$merge", "$lookup", "$unionWith", "$graphLookup"];
const NAMED: [&str; 3] = ["into", "from", "coll"];

/// Fields of a command that only servers, or transactions, have.
const TRANSACTION: [&str; 4] = ["autocommit", "lsid", "startTransaction", "txnNumber"];
const GENERIC: [&str; 2] = ["$db", "$readPreference"];

/// Commands that open a cursor.
const OPENS: [&str; 4] = ["aggregate", "find", "listCollections", "listIndexes"];

/// Commands of one grant.
#[derive(Debug, Clone, Default)]
pub struct Commands {
    refuse: HashSet<String>,
    allow: HashSet<String>,
}

impl Commands {
    /// The usual commands without `refuse` and with `allow`, as MongoDB writes them.
    #[must_use]
    pub fn new(refuse: &[String], allow: &[String]) -> Self {
        Self {
            refuse: refuse.iter().cloned().collect(),
            allow: allow.iter().cloned().collect(),
        }
    }

    fn allows(&self, name: &str) -> bool {
        let listed = USUAL.contains(&name) || self.allow.contains(name);
        // What begins so is for servers among themselves.
        let is_internal = name.starts_with('_') || name.starts_with("internal");
        listed && !is_internal && !NEVER.contains(&name) && !self.refuse.contains(name)
    }

    /// Names that cannot be allowed.
    #[must_use]
    pub fn never(name: &str) -> bool {
        NEVER.contains(&name) || name.starts_with('_') || name.starts_with("internal")
    }
}

/// A command that is not passed on. The text is for the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: i32,
    pub(crate) name: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self {
            code: 13,
            name: "Unauthorized",
            message: message.into(),
        }
    }

    /// The refusal as a server answers a command that failed.
    pub(crate) fn body(&self) -> Vec<u8> {
        Writer::new()
            .double("ok", 0.0)
            .text("errmsg", &self.message)
            .int32("code", self.code)
            .text("codeName", self.name)
            .finish()
    }
}

impl From<Malformed> for Refusal {
    fn from(Malformed: Malformed) -> Self {
        Self {
            code: 22,
            name: "InvalidBSON",
            message: "a document is no BSON, or is nested too deeply".to_owned(),
        }
    }
}

/// What a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// The first one of a connection, which is answered here.
    Hello,
    /// Sessions of the server are none of a guest's: it has none.
    EndSessions,
    /// It opens a cursor on this collection, if the name is one.
    Opens(&'a str),
    GetMore {
        cursor: i64,
        collection: &'a str,
    },
    KillCursors {
        collection: &'a str,
        cursors: Document<'a>,
    },
    Other,
}

/// Checks a command.
pub(crate) fn check<'a>(
    message: &Message<'a>,
    commands: &Commands,
    database: &str,
) -> Result<Kind<'a>, Refusal> {
    // 1. The command by its name.
    let first = message.body.elements().next().ok_or(Malformed)??;
    let name = first.name;
    match name {
        "hello" | "isMaster" | "ismaster" => return Ok(Kind::Hello),
        "endSessions" => return Ok(Kind::EndSessions),
        "saslStart" | "saslContinue" | "authenticate" => {
            return Err(Refusal::unauthorized(
                "this grant logs in by itself: connect without a user and a password",
            ));
        }
        _ if message.is_query => {
            return Err(Refusal::unauthorized(
                "OP_QUERY is for the first hello only",
            ));
        }
        _ if !commands.allows(name) => {
            let name = shown(name);
            return Err(Refusal::unauthorized(format!(
                "this grant does not allow the command {name}"
            )));
        }
        "explain" => {
            let explained = first.document().and_then(|one| one.elements().next());
            let explained = explained.ok_or(Malformed)??.name;
            if !EXPLAINED.contains(&explained) || !commands.allows(explained) {
                return Err(Refusal::unauthorized(format!(
                    "this grant does not allow to explain the command {}",
                    shown(explained)
                )));
            }
        }
        _ => {}
    }
    // 2. Its own fields.
    for element in message.body.elements() {
        check_field(&element?, name, database)?;
    }
    // 3. Every key at any depth.
    let mut visit = |element: Element<'_>| check_key(&element, database);
    walk(message.body, &mut visit)?;
    for sequence in &message.sequences {
        if sequence.name.starts_with('$') {
            return Err(Refusal::unauthorized(
                "a sequence of documents has the name of an option",
            ));
        }
        for document in &sequence.documents {
            walk(*document, &mut visit)?;
        }
    }
    // 4. What it has to do with cursors.
    Ok(match name {
        "getMore" => Kind::GetMore {
            cursor: first.integer().unwrap_or_default(),
            collection: text_of(message.body, "collection")?,
        },
        "killCursors" => Kind::KillCursors {
            collection: first.text().ok_or(Malformed)?,
            cursors: message
                .body
                .get("cursors")
                .and_then(|cursors| cursors.document())
                .ok_or(Malformed)?,
        },
        _ if OPENS.contains(&name) => Kind::Opens(first.text().unwrap_or_default()),
        _ => Kind::Other,
    })
}

fn text_of<'a>(body: Document<'a>, name: &str) -> Result<&'a str, Malformed> {
    body.get(name)
        .and_then(|field| field.text())
        .ok_or(Malformed)
}

/// A name that a guest chose, for a message.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn check_field(field: &Element<'_>, command: &str, database: &str) -> Result<(), Refusal> {
    match field.name {
        // A driver asks an admin database whether the server lives.
        "$db" if command == "ping" => Ok(()),
        "$db" if field.text() == Some(database) => Ok(()),
        "$db" => Err(Refusal::unauthorized(format!(
            "this grant is for the database {database:?} alone"
        ))),
        "noCursorTimeout" if field.is_true() => Err(Refusal::unauthorized(
            "this grant does not allow noCursorTimeout: cursors end when they are not used",
        )),
        name if TRANSACTION.contains(&name) => Err(Refusal::unauthorized(
            "this grant has no sessions of the server and no transactions",
        )),
        name if name.starts_with('$') && !GENERIC.contains(&name) => Err(Refusal::unauthorized(
            format!("this grant does not allow the option {}", shown(name)),
        )),
        _ => Ok(()),
    }
}

fn check_key(element: &Element<'_>, database: &str) -> Result<(), Refusal> {
    if matches!(element.kind, CODE | CODE_WITH_SCOPE) {
        return Err(Refusal::unauthorized(
            "this grant does not allow values that are JavaScript",
        ));
    }
    let name = element.name;
    if !name.starts_with('$') {
        return Ok(());
    }
    if RUNS_CODE.contains(&name) {
        return Err(Refusal::unauthorized(format!(
            "this grant does not allow JavaScript on the server: {name}"
        )));
    }
    if SHOWS.contains(&name) || name.starts_with("$_internal") {
        return Err(Refusal::unauthorized(format!(
            "this grant does not allow the stage {}",
            shown(name)
        )));
    }
    if NAMES_DATABASE.contains(&name)
        && let Some(stage) = element.document()
    {
        check_database(stage, database)?;
        for part in stage.elements() {
            let part = part?;
            if let (true, Some(named)) = (NAMED.contains(&part.name), part.document()) {
                check_database(named, database)?;
            }
        }
    }
    Ok(())
}

/// Every `db` in a document must be the database of the grant.
fn check_database(document: Document<'_>, database: &str) -> Result<(), Refusal> {
    for element in document.elements() {
        let element = element?;
        if element.name == "db" && element.text() != Some(database) {
            return Err(Refusal::unauthorized(format!(
                "this grant is for the database {database:?} alone"
            )));
        }
    }
    Ok(())
}

/// The body that passes: with this database, within these limits.
pub(crate) fn rewrite(
    body: Document<'_>,
    kind: Kind<'_>,
    limits: &Limits,
    database: &str,
) -> Result<Vec<u8>, Malformed> {
    let most_batch = i32::try_from(limits.rows).unwrap_or(i32::MAX);
    let most_time = i32::try_from(limits.statement.as_millis()).unwrap_or(i32::MAX);
    let is_more = matches!(kind, Kind::GetMore { .. });
    let (mut writer, mut time, mut batch) = (Writer::new(), None, is_more.then_some(most_batch));
    for (index, element) in body.elements().enumerate() {
        let element = element?;
        let number = || {
            element
                .integer()
                .map(|number| number.clamp(0, i64::from(i32::MAX)) as i32)
        };
        match element.name {
            // The first one is the command.
            _ if index == 0 => writer = writer.element(&element),
            "$db" => {}
            "maxTimeMS" => time = number(),
            "batchSize" if is_more || matches!(kind, Kind::Opens(_)) => {
                batch = number().map(|number| number.min(most_batch));
            }
            "cursor" if matches!(kind, Kind::Opens(_)) && element.kind == DOCUMENT => {
                let options = within_batch(Document::at(element.value)?, most_batch)?;
                writer = writer.document("cursor", &options);
            }
            _ => writer = writer.element(&element),
        }
    }
    if let Some(batch) = batch {
        writer = writer.int32("batchSize", batch);
    }
    let time = match (kind, time) {
        // Servers take it for cursors that wait for data alone, and the guest has to say so.
        (Kind::GetMore { .. }, given) => given.map(|given| given.min(most_time)),
        (Kind::KillCursors { .. }, _) => None,
        // 0 is no limit.
        (_, None | Some(0)) => Some(most_time),
        (_, Some(given)) => Some(given.min(most_time)),
    };
    if let Some(time) = time {
        writer = writer.int32("maxTimeMS", time);
    }
    Ok(writer.text("$db", database).finish())
}

fn within_batch(options: Document<'_>, most: i32) -> Result<Vec<u8>, Malformed> {
    let mut writer = Writer::new();
    for element in options.elements() {
        let element = element?;
        let is_over = element.name == "batchSize"
            && element
                .integer()
                .is_none_or(|batch| batch > i64::from(most));
        writer = match is_over {
            true => writer.int32("batchSize", most),
            false => writer.element(&element),
        };
    }
    Ok(writer.finish())
}

/// A reply without what it says about the server.
pub(crate) fn without_server(body: Document<'_>) -> Result<Vec<u8>, Malformed> {
    const ABOUT: [&str; 6] = [
        "$clusterTime",
        "$configTime",
        "$gleStats",
        "operationTime",
        "serverInfo",
        "topologyVersion",
    ];
    let mut writer = Writer::new();
    for element in body.elements() {
        let element = element?;
        if !ABOUT.contains(&element.name) {
            writer = writer.element(&element);
        }
    }
    Ok(writer.finish())
}

/// The number of the cursor that a reply has; 0 for none.
pub(crate) fn cursor_of(body: Document<'_>) -> i64 {
    let cursor = body.get("cursor").and_then(|cursor| cursor.document());
    let id = cursor.and_then(|cursor| cursor.get("id"));
    id.and_then(|id| id.integer()).unwrap_or_default()
}

/// The collection of the cursor that a reply has: `ns` without the database.
pub(crate) fn collection_of<'a>(body: Document<'a>, database: &str) -> Option<&'a str> {
    let cursor = body.get("cursor")?.document()?;
    let name = cursor.get("ns")?.text()?;
    name.strip_prefix(database)?.strip_prefix('.')
}

/// The numbers of an array.
pub(crate) fn numbers(array: Document<'_>) -> Result<Vec<i64>, Malformed> {
    array
        .elements()
        .map(|element| element?.integer().ok_or(Malformed))
        .collect()
}

/// A command that kills cursors of a collection.
pub(crate) fn kill(collection: &str, cursors: &[i64], database: &str) -> Vec<u8> {
    let mut array = Writer::new();
    for (index, cursor) in cursors.iter().enumerate() {
        array = array.int64(&index.to_string(), *cursor);
    }
    Writer::new()
        .text("killCursors", collection)
        .raw(ARRAY, "cursors", &array.finish())
        .text("$db", database)
        .finish()
}

#[cfg(test)]
mod tests;
