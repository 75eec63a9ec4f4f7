//! For whom a request is answered: the holder of an API key or a token, or the program at standard input and output.

use std::sync::Arc;

use parking_lot::Mutex;
use stockade_callers::Caller;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

/// One of those among whom the server shares what it has. It lives as long as something of its own does: a request, a
/// connection, a run or a session.
#[derive(Debug)]
pub(crate) struct Tenant {
    /// Its name, which no other has.
    pub(crate) name: Arc<str>,
    /// Cancelled when its API key ends: its runs and sessions end with it.
    pub(crate) ended: CancellationToken,
    /// Permits of its open requests over HTTP.
    pub(crate) requests: Arc<Semaphore>,
    /// Its API key as a request had it: of the texts that are valid while the key is rotated, one that ends last.
    pub(crate) key: Mutex<Option<Caller>>,
    /// Cancelled when the tenant is gone.
    pub(crate) gone: CancellationToken,
    _goes: DropGuard,
}

impl Tenant {
    pub(crate) fn new(
        name: impl Into<Arc<str>>,
        requests: usize,
        key: Option<Caller>,
    ) -> Arc<Self> {
        let gone = CancellationToken::new();
        Arc::new(Self {
            name: name.into(),
            ended: CancellationToken::new(),
            requests: Arc::new(Semaphore::new(requests)),
            key: Mutex::new(key),
            _goes: gone.clone().drop_guard(),
            gone,
        })
    }

    /// Another request has come, with this text of the API key. A client with the text that ends first does not end the others.
    pub(crate) fn came_with(&self, key: Option<Caller>) {
        let mut known = self.key.lock();
        let stays = match (&*known, &key) {
            (Some(known), Some(key)) => known.outlasts(key),
            _ => false,
        };
        if !stays {
            *known = key;
        }
    }
}

/// A client of a tenant: a connection of MCP, or all requests of the tenant that have no connection.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) tenant: Arc<Tenant>,
    /// Its name, which no other client of any tenant has.
    pub(super) name: Arc<str>,
}

/// What one tenant may have of what all share, where there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Runs at the same time.
    pub runs: usize,
    /// Runs that wait.
    pub waiting: usize,
    /// Sessions.
    pub sessions: usize,
}

impl Client {
    /// The client with a connection of this name, or without one.
    pub(super) fn new(tenant: &Arc<Tenant>, connection: Option<&str>) -> Self {
        Self {
            tenant: Arc::clone(tenant),
            name: match connection {
                Some(connection) => format!("{} {connection}", tenant.name).into(),
                None => Arc::clone(&tenant.name),
            },
        }
    }
}
