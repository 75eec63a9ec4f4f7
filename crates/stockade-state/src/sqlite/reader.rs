//! Threads that read.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::oneshot;

use super::clock::Clock;
use super::connection::{kind_of, unsigned};
use super::fault::state_error;
use super::queue::FairQueue;
use super::shared::OpenKeyspace;
use crate::error::StateError;
use crate::key::Key;
use crate::list::{KeyInfo, Page, Range};
use crate::value::{StateEntry, Value};

/// Most reads that share a snapshot of the file.
const BATCH_JOBS: usize = 32;

/// What these may cost, in bytes as the queue weighs them.
const BATCH_COST: usize = 1 << 20;

/// Most bytes that the values of one read may have, unless it is only one value.
pub(crate) const READ_BYTES: usize = 8 << 20;

type ReplySender<T> = oneshot::Sender<Result<T, StateError>>;

/// A question to a keyspace.
pub(crate) struct ReadWork {
    pub(crate) keyspace: Arc<OpenKeyspace>,
    pub(crate) read: Read,
}

/// What is asked.
pub(crate) enum Read {
    Entries {
        keys: Vec<Key>,
        reply: ReplySender<Vec<Option<StateEntry>>>,
    },
    List {
        range: Range,
        limit: usize,
        reverse: bool,
        reply: ReplySender<Page>,
    },
}

/// One reading thread.
pub(crate) struct Reader {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
    pub(crate) queue: Arc<FairQueue<ReadWork>>,
    pub(crate) clock: Clock,
}

impl Reader {
    /// Answers until the queue ends.
    pub(crate) fn run(self) {
        loop {
            let taken = self.queue.take(BATCH_JOBS, BATCH_COST, None);
            if taken.ended {
                return;
            }
            // All of these were asked before this snapshot is taken.
            let begun = self.connection.execute_batch("BEGIN");
            for work in taken.jobs {
                self.answer(work, &begun);
            }
            if begun.is_ok()
                && let Err(error) = self.connection.execute_batch("COMMIT")
            {
                tracing::warn!(%error, "state: the end of a read failed");
            }
        }
    }

    fn answer(&self, work: ReadWork, begun: &rusqlite::Result<()>) {
        let failed = |error: &rusqlite::Error| {
            let error = state_error(&self.path, error);
            tracing::warn!(%error, keyspace = %work.keyspace.name, "state: a read failed");
            error
        };
        let id = work.keyspace.id;
        // A caller that has gone away gets no work done.
        match work.read {
            Read::Entries { reply, .. } if reply.is_closed() => {}
            Read::List { reply, .. } if reply.is_closed() => {}
            Read::Entries { keys, reply } => {
                let answer = match begun {
                    Ok(()) => self
                        .entries(id, &keys)
                        .unwrap_or_else(|error| Err(failed(&error))),
                    Err(error) => Err(failed(error)),
                };
                drop(reply.send(answer));
            }
            Read::List {
                range,
                limit,
                reverse,
                reply,
            } => {
                let answer = match begun {
                    Ok(()) => self
                        .page(id, &range, limit, reverse)
                        .map_err(|error| failed(&error)),
                    Err(error) => Err(failed(error)),
                };
                drop(reply.send(answer));
            }
        }
    }

    fn entries(
        &self,
        keyspace: i64,
        keys: &[Key],
    ) -> rusqlite::Result<Result<Vec<Option<StateEntry>>, StateError>> {
        let now = self.clock.now_ms();
        let mut statement = self.connection.prepare_cached(
            "SELECT version, expires, kind, size, value FROM entries
             WHERE keyspace = ?1 AND key = ?2 AND (expires IS NULL OR expires > ?3)",
        )?;
        let mut room = READ_BYTES;
        let mut entries = Vec::with_capacity(keys.len());
        for key in keys {
            let mut rows = statement.query(params![keyspace, key.as_str().as_bytes(), now])?;
            let Some(row) = rows.next()? else {
                entries.push(None);
                continue;
            };
            let size = usize::try_from(row.get::<_, i64>(3)?).unwrap_or(usize::MAX);
            if size > room && keys.len() > 1 {
                return Ok(Err(StateError::ReadTooLarge { limit: READ_BYTES }));
            }
            room = room.saturating_sub(size);
            entries.push(Some(entry(row)?));
        }
        Ok(Ok(entries))
    }

    fn page(
        &self,
        keyspace: i64,
        range: &Range,
        limit: usize,
        reverse: bool,
    ) -> rusqlite::Result<Page> {
        let now = self.clock.now_ms();
        let version = self
            .connection
            .prepare_cached("SELECT version FROM keyspaces WHERE id = ?1")?
            .query_row([keyspace], |row| row.get::<_, i64>(0))
            .optional()?
            .map_or(0, unsigned);
        // The bound that is not there is a key longer than any.
        let high = match &range.high {
            Some(high) => high.clone(),
            None => vec![0xff; crate::MAX_KEY_BYTES + 1],
        };
        let mut page = Page {
            keys: Vec::new(),
            cursor: None,
            version,
        };
        let mut statement = self.connection.prepare_cached(if reverse {
            "SELECT key, version, expires, size FROM entries
             WHERE keyspace = ?1 AND key >= ?2 AND key < ?3 AND (expires IS NULL OR expires > ?4)
             ORDER BY key DESC LIMIT ?5"
        } else {
            "SELECT key, version, expires, size FROM entries
             WHERE keyspace = ?1 AND key >= ?2 AND key < ?3 AND (expires IS NULL OR expires > ?4)
             ORDER BY key LIMIT ?5"
        })?;
        // One more than asked for shows whether there is another page.
        let most = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![keyspace, range.low, high, now, most])?;
        while let Some(row) = rows.next()? {
            if page.keys.len() == limit {
                page.cursor = page.keys.last().map(|info: &KeyInfo| info.key.clone());
                break;
            }
            page.keys.push(KeyInfo {
                key: String::from_utf8_lossy(row.get_ref(0)?.as_blob()?).into_owned(),
                version: unsigned(row.get(1)?),
                expires_ms: row.get(2)?,
                size: unsigned(row.get(3)?),
            });
        }
        Ok(page)
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<StateEntry> {
    let number = row.get(2)?;
    let kind = kind_of(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(2, number))?;
    Ok(StateEntry {
        value: Value {
            kind,
            data: row.get(4)?,
        },
        version: unsigned(row.get(0)?),
        expires_ms: row.get(1)?,
    })
}
