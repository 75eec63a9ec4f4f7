//! Connections of MCP (`Mcp-Session-Id`): whose they are, how many there are, and their end.
//!
//! Invariant: a request reaches a connection of its own tenant and no other, whatever id it names.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::bounds::{HTTP_SESSION_IDLE, HTTP_SESSIONS};
use crate::server::Tenant;

/// All connections.
pub(super) struct Connections {
    /// Of one tenant.
    most_of_tenant: usize,
    all: Mutex<All>,
}

#[derive(Default)]
struct All {
    by_id: HashMap<String, Connection>,
    /// Those that are being opened, by tenant.
    opening: HashMap<Arc<str>, usize>,
}

struct Connection {
    tenant: Arc<Tenant>,
    used: Instant,
    /// Requests that are open.
    requests: usize,
}

/// A connection that is being opened, until it is dropped.
pub(super) struct Opening {
    connections: Arc<Connections>,
    tenant: Arc<str>,
}

/// A connection that a request uses. It is not closed for others meanwhile.
pub(super) struct InUse {
    connections: Arc<Connections>,
    id: String,
}

/// The connection that gives way to another one, with its tenant.
pub(super) type Closed = (String, Arc<Tenant>);

impl Connections {
    pub(super) fn new(most_of_tenant: usize) -> Arc<Self> {
        Arc::new(Self {
            most_of_tenant,
            all: Mutex::default(),
        })
    }

    /// Reserves room for a connection, perhaps in the place of one that was not used for a while.
    ///
    /// # Errors
    ///
    /// The reason for the client, if there is no room.
    pub(super) fn open(
        self: &Arc<Self>,
        tenant: &Tenant,
    ) -> Result<(Opening, Option<Closed>), String> {
        let tenant = &tenant.name;
        let mut all = self.all.lock();
        let opening = all.opening.get(tenant).copied().unwrap_or(0);
        let own = opening + all.of(tenant).count();
        let total = all.by_id.len() + all.opening.values().sum::<usize>();
        // The connection that gives way is one of this tenant where that one has too many.
        let most = self.most_of_tenant;
        let (of, full) = if own >= most {
            let full = format!("{most} connections of this API key or token are open");
            (Some(&**tenant), full)
        } else if total >= HTTP_SESSIONS {
            (None, format!("{HTTP_SESSIONS} clients are connected"))
        } else {
            all.begin(tenant);
            return Ok((self.opening(tenant), None));
        };
        let closed = all.close_unused(of);
        let closed =
            closed.ok_or_else(|| format!("{full}, which is the limit; try again later"))?;
        all.begin(tenant);
        Ok((self.opening(tenant), Some(closed)))
    }

    fn opening(self: &Arc<Self>, tenant: &Arc<str>) -> Opening {
        Opening {
            connections: Arc::clone(self),
            tenant: Arc::clone(tenant),
        }
    }

    /// The connection of this id, if it is one of this tenant.
    pub(super) fn enter(self: &Arc<Self>, id: &str, tenant: &Tenant) -> Option<InUse> {
        let mut all = self.all.lock();
        let connection = all.by_id.get_mut(id)?;
        if connection.tenant.name != tenant.name {
            return None;
        }
        connection.requests += 1;
        Some(InUse {
            connections: Arc::clone(self),
            id: id.to_owned(),
        })
    }

    /// Forgets a connection that was closed, and gives its tenant.
    pub(super) fn closed(&self, id: &str) -> Option<Arc<Tenant>> {
        let connection = self.all.lock().by_id.remove(id)?;
        Some(connection.tenant)
    }

    /// Forgets the connections of a tenant, and gives their ids.
    pub(super) fn end(&self, tenant: &str) -> Vec<String> {
        let mut all = self.all.lock();
        let ids: Vec<String> = all.of(tenant).map(|(id, _)| id.clone()).collect();
        // Those that it had are dropped when the lock is free.
        let _ended: Vec<_> = ids.iter().filter_map(|id| all.by_id.remove(id)).collect();
        ids
    }
}

impl All {
    fn begin(&mut self, tenant: &Arc<str>) {
        *self.opening.entry(Arc::clone(tenant)).or_default() += 1;
    }

    fn of(&self, tenant: &str) -> impl Iterator<Item = (&String, &Connection)> {
        let is_own = move |connection: &Connection| &*connection.tenant.name == tenant;
        self.by_id.iter().filter(move |(_, one)| is_own(one))
    }

    /// Takes out the connection that was not used for the longest time, if that is long enough and no request is open.
    fn close_unused(&mut self, of: Option<&str>) -> Option<Closed> {
        let id = self
            .by_id
            .iter()
            .filter(|(_, one)| of.is_none_or(|of| &*one.tenant.name == of))
            .filter(|(_, one)| one.requests == 0 && one.used.elapsed() >= HTTP_SESSION_IDLE)
            .min_by_key(|(_, one)| one.used)
            .map(|(id, _)| id.clone())?;
        let connection = self.by_id.remove(&id)?;
        Some((id, connection.tenant))
    }
}

impl Opening {
    /// The connection has this id.
    pub(super) fn done(self, id: String, tenant: Arc<Tenant>) -> InUse {
        let connection = Connection {
            tenant,
            used: Instant::now(),
            requests: 1,
        };
        let connections = Arc::clone(&self.connections);
        connections.all.lock().by_id.insert(id.clone(), connection);
        InUse { connections, id }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut all = self.connections.all.lock();
        if let Some(opening) = all.opening.get_mut(&self.tenant) {
            *opening -= 1;
            if *opening == 0 {
                all.opening.remove(&self.tenant);
            }
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some(connection) = self.connections.all.lock().by_id.get_mut(&self.id) {
            connection.requests = connection.requests.saturating_sub(1);
            connection.used = Instant::now();
        }
    }
}
