//! What clients see: the tools `run_code`, `search_tools`, `describe_tools`, `list_sessions` and `close_session`.

mod answer;
mod approval;
mod arguments;
mod handler;
mod running;
mod sessions;
mod tenant;
mod tools;
mod turns;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::bounds::{QUESTION_TIME, SUSPENDED_RUNS, WAITING_RUNS};
use crate::config::McpConfig;
use crate::run::Runner;
use crate::upstream::Upstreams;

pub(crate) use self::handler::Handler;
pub use self::handler::TOOLS;
use self::running::Running;
pub(crate) use self::running::is_long as is_long_token;
use self::sessions::Sessions;
use self::tenant::Client;
pub use self::tenant::Share;
pub(crate) use self::tenant::Tenant;
use self::turns::{Bounds, Turns};

/// What a server is made of.
pub struct McpOptions {
    /// Runs the code.
    pub runner: Arc<dyn Runner>,
    /// The upstream servers.
    pub config: McpConfig,
    /// The level of isolation, as clients read it.
    pub level: &'static str,
    /// Whether `fetch` reaches hosts.
    pub reaches_hosts: bool,
    /// How long a run may take: the default, and the most that a client may ask for.
    pub timeout: Duration,
    /// Runs at the same time.
    pub runs: usize,
    /// Sessions of all clients.
    pub sessions: usize,
    /// What each API key or token may have of these, where there are several.
    pub share: Option<Share>,
    /// How long a session lives without a run.
    pub session_idle: Duration,
    /// The version that clients see.
    pub version: String,
}

/// The part of a server that all clients share.
pub struct McpServer {
    runner: Arc<dyn Runner>,
    upstreams: Upstreams,
    level: &'static str,
    reaches_hosts: bool,
    timeout: Duration,
    version: String,
    turns: Turns,
    sessions: Sessions,
    /// Runs whose client asks again with the answers to their questions, by the state that it sends.
    suspended: Mutex<HashMap<String, Suspended>>,
    /// How many of them one tenant may have.
    suspended_of_tenant: usize,
}

struct Suspended {
    since: Instant,
    client: Client,
    running: Running,
}

impl McpServer {
    /// Begins to connect to the upstream servers. Must be called in a runtime of tokio.
    ///
    /// # Errors
    ///
    /// If the connections to upstream servers cannot be set up.
    pub fn start(options: McpOptions) -> Result<Arc<Self>, String> {
        let server = Arc::new(Self {
            runner: options.runner,
            upstreams: Upstreams::start(options.config)?,
            level: options.level,
            reaches_hosts: options.reaches_hosts,
            timeout: options.timeout,
            version: options.version,
            turns: Turns::new(Bounds::new(options.runs, WAITING_RUNS, options.share)),
            sessions: Sessions::new(
                options.sessions,
                (options.share).map_or(options.sessions, |share| share.sessions),
                options.session_idle,
            ),
            suspended: Mutex::default(),
            suspended_of_tenant: options.share.map_or(SUSPENDED_RUNS, |_| SUSPENDED_RUNS / 2),
        });
        let weak = Arc::downgrade(&server);
        let every =
            (options.session_idle / 4).clamp(Duration::from_millis(100), Duration::from_secs(10));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                let Some(server) = weak.upgrade() else { return };
                server.sessions.expire();
                server
                    .suspended
                    .lock()
                    .retain(|_, suspended| suspended.since.elapsed() < QUESTION_TIME);
            }
        });
        Ok(server)
    }

    /// Ends the connections to upstream servers and their processes. Call it before the program ends.
    pub async fn end(&self) {
        self.upstreams.end().await;
    }

    /// Ends what a tenant has: its runs, and its sessions.
    pub(crate) fn end_tenant(&self, tenant: &Tenant) {
        tenant.ended.cancel();
        let is_one = |client: &Client| client.tenant.name == tenant.name;
        self.suspended
            .lock()
            .retain(|_, suspended| !is_one(&suspended.client));
        self.sessions.end(is_one);
    }

    /// Ends the runs and the sessions of a connection of MCP, which has ended.
    pub(crate) fn end_client(&self, tenant: &Arc<Tenant>, connection: &str) {
        let client = Client::new(tenant, Some(connection));
        self.turns.end(&client);
        self.sessions.end(|of| of.name == client.name);
    }

    /// Keeps a run until its client asks again, and gives the state with which it does.
    fn suspend(&self, client: Client, running: Running) -> Result<String, String> {
        let mut suspended = self.suspended.lock();
        let is_own = |one: &&Suspended| one.client.tenant.name == client.tenant.name;
        let own = suspended.values().filter(is_own).count();
        if suspended.len() >= SUSPENDED_RUNS || own >= self.suspended_of_tenant {
            return Err(format!(
                "{own} runs of yours and {} of all clients already wait for answers of users, which is the limit",
                suspended.len()
            ));
        }
        let state = uuid::Uuid::new_v4().to_string();
        let one = Suspended {
            since: Instant::now(),
            client,
            running,
        };
        suspended.insert(state.clone(), one);
        Ok(state)
    }

    /// The run that a client of the same tenant continues.
    fn resume(&self, client: &Client, state: &str) -> Option<Running> {
        let mut suspended = self.suspended.lock();
        let of = &suspended.get(state)?.client.tenant;
        if of.name != client.tenant.name {
            return None;
        }
        suspended.remove(state).map(|suspended| suspended.running)
    }
}
