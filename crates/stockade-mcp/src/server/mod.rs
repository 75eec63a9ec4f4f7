//! What clients see: the tools `run_code`, `search_tools`, `describe_tools`, `list_sessions` and `close_session`.

mod answer;
mod approval;
mod arguments;
mod handler;
mod running;
mod sessions;
mod tools;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::bounds::{QUESTION_TIME, SUSPENDED_RUNS};
use crate::config::McpConfig;
use crate::run::Runner;
use crate::upstream::Upstreams;

pub(crate) use self::handler::Handler;
use self::running::Running;
use self::sessions::Sessions;

/// What a server is made of.
pub struct McpOptions {
    /// Runs the code.
    pub runner: Arc<dyn Runner>,
    /// The upstream servers.
    pub config: McpConfig,
    /// The level of isolation, as clients read it.
    pub level: &'static str,
    /// How long a run may take: the default, and the most that a client may ask for.
    pub timeout: Duration,
    /// Runs at the same time.
    pub runs: usize,
    /// Sessions of all clients.
    pub sessions: usize,
    /// How long a session lives without a run.
    pub session_idle: Duration,
    /// The version that clients see.
    pub version: String,
}

/// The position of the token with which a request over HTTP was let in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller(pub(crate) usize);

/// The part of a server that all clients share.
pub struct McpServer {
    runner: Arc<dyn Runner>,
    upstreams: Upstreams,
    level: &'static str,
    timeout: Duration,
    version: String,
    turns: Semaphore,
    runs: usize,
    /// Permits of runs that wait for a turn or have one.
    queue: Arc<Semaphore>,
    sessions: Sessions,
    /// Runs whose client asks again with the answers to their questions, by the state that it sends.
    suspended: Mutex<HashMap<String, (Instant, Running)>>,
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
            timeout: options.timeout,
            version: options.version,
            turns: Semaphore::new(options.runs),
            runs: options.runs,
            queue: Arc::new(Semaphore::new(options.runs + crate::bounds::WAITING_RUNS)),
            sessions: Sessions::new(options.sessions, options.session_idle),
            suspended: Mutex::default(),
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
                    .retain(|_, (since, _)| since.elapsed() < QUESTION_TIME);
            }
        });
        Ok(server)
    }

    /// Ends the connections to upstream servers and their processes. Call it before the program ends.
    pub async fn end(&self) {
        self.upstreams.end().await;
    }

    /// Keeps a run until its client asks again, and gives the state with which it does.
    fn suspend(&self, running: Running) -> Result<String, String> {
        let mut suspended = self.suspended.lock();
        if suspended.len() >= SUSPENDED_RUNS {
            return Err(format!(
                "{SUSPENDED_RUNS} runs already wait for answers of users"
            ));
        }
        let state = uuid::Uuid::new_v4().to_string();
        suspended.insert(state.clone(), (Instant::now(), running));
        Ok(state)
    }

    fn resume(&self, state: &str) -> Option<Running> {
        self.suspended
            .lock()
            .remove(state)
            .map(|(_, running)| running)
    }
}
