//! How a database is opened.

use std::path::PathBuf;
use std::time::Duration;

use stockade_jail::{CgroupUse, Level};

use crate::files::Access;

/// What a database is opened with.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// Its file. The write-ahead log and the journal lie next to it.
    pub path: PathBuf,
    /// What may be done with it.
    pub access: Access,
    /// Bytes of the file. The log of a transaction may need as many again for its time.
    pub storage: u64,
    /// Bytes of memory for SQLite.
    pub memory: u64,
    /// Time of one call.
    pub statement: Duration,
    /// Time of one transaction.
    pub transaction: Duration,
    /// Bytes of the rows that one call gives, with 16 for each value.
    pub most_result: u64,
    /// Calls that wait for their turn.
    pub queue: usize,
    /// How long a call waits for its turn.
    pub queue_time: Duration,
    /// The worker ends when it was not used for this long. The next call starts another one.
    pub idle: Duration,
    /// How the worker is confined.
    pub level: Level,
    /// Whether the worker must be in a cgroup.
    pub cgroup: CgroupUse,
}
