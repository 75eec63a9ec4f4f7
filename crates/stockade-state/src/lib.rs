//! State that the mirrors of an instance share: keyspaces with versions, watches and expiry.
//!
//! [`Store`] and [`Keyspace`] say what a backend owes its callers; [`SqliteStore`] is the one that
//! lives in a file next to the supervisor.
//!
//! Invariants, of every backend:
//! 1. A commit that was acknowledged is durable, and each read that begins afterwards sees it.
//! 2. A commit happens completely or not at all; a key's version changes with each change of it, and
//!    versions of a keyspace only grow, also over deletion and expiry.
//! 3. An entry whose time is over is absent at once, whether or not it is swept yet.
//! 4. Whatever a caller sends is bounded before it is kept: keys, values, commits, queues, watchers.
//! 5. One keyspace's load delays another's by a bounded amount of work.
//!
//! Deliberately absent: who may open which keyspace, what guests send, HTTP, and V8's values.

mod atomic;
mod error;
mod key;
mod limits;
mod list;
mod sqlite;
mod store;
mod value;
mod watch;

pub use atomic::{Atomic, Check, Mutation, Outcome};
pub use error::{MAX_READ_KEYS, StateError};
pub use key::{Key, KeyError, KeyspaceName, MAX_KEY_BYTES, MAX_NAME_BYTES};
pub use limits::{ENTRY_OVERHEAD, Limits, MAX_OPERATIONS, MAX_VALUE_BYTES};
pub use list::{KeyInfo, List, ListError, MAX_LIST, Page};
pub use sqlite::{OpenError, SqliteOptions, SqliteStore, StateLock, StoreStats, lock, verify};
pub use store::{Keyspace, Store, Usage};
pub use value::{Kind, StateEntry, Value, Version};
pub use watch::{Change, ChangeKind, MAX_WATCHED_KEYS, Selector, SelectorError, Watch, Watched};
