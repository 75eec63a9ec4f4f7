//! The servers of the configuration: each is connected to in a task of its own, which lists its tools, and tries again
//! when the connection ends.

mod bounded;
mod child;
mod client;
mod http;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parking_lot::RwLock;
use rmcp::ServiceError;
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, ContentBlock,
    Implementation, PaginatedRequestParams, Tool,
};
use rmcp::service::{Peer, RoleClient, RunningService, ServiceExt};
use rmcp::transport::Transport;
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bounds::{
    CONNECT_TIME, END_TIME, ERROR_BYTES, FIRST_CONNECT_WAIT, FIRST_RELIST, FIRST_RETRY,
    LONGEST_RELIST, LONGEST_RETRY, NAME_CHARS, SERVER_IDENTIFIER_CHARS, UPSTREAM_LIST_BYTES,
    UPSTREAM_PAGES, UPSTREAM_TOOLS,
};
use crate::catalog::{CatalogTool, LiveCatalog, in_words, json_bytes, take_tools};
use crate::config::{McpConfig, Mode, Reach, UpstreamConfig};
use crate::declare::one_line;
use crate::names::Identifiers;

use self::bounded::Bounded;
use self::child::{Child, Said};
use self::client::UpstreamClient;
use self::http::HttpClient;

/// The servers of a configuration. They are disconnected from, and their processes are ended, when it is dropped.
pub(crate) struct Upstreams {
    servers: Vec<Arc<Upstream>>,
    catalog: Arc<LiveCatalog>,
    /// How many servers have answered, or failed, for the first time.
    settled: watch::Receiver<usize>,
    end: CancellationToken,
    /// The tasks of the servers.
    tasks: TaskTracker,
}

/// One server.
struct Upstream {
    config: UpstreamConfig,
    identifier: String,
    position: usize,
    /// The connection, while there is one.
    peer: RwLock<Option<Peer<RoleClient>>>,
    http: Option<HttpClient>,
    /// What its program last wrote to its standard error. It is for the operator, not for clients.
    said: Arc<Said>,
}

impl Drop for Upstreams {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Upstreams {
    /// Begins to connect to all servers.
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up.
    pub(crate) fn start(config: McpConfig) -> Result<Self, String> {
        let servers = Upstream::all(config)?;
        let identifiers: Vec<String> = servers
            .iter()
            .map(|server| server.identifier.clone())
            .collect();
        let catalog = Arc::new(LiveCatalog::new(&identifiers));
        // A task for each.
        let (end, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (settle, settled) = watch::channel(0);
        for server in &servers {
            let (server, catalog, settle) =
                (Arc::clone(server), Arc::clone(&catalog), settle.clone());
            let stay = server.stay_connected(catalog, settle);
            let end = end.clone();
            tasks.spawn(async move { end.run_until_cancelled(stay).await });
        }
        Ok(Self {
            servers,
            catalog,
            settled,
            end,
            tasks,
        })
    }

    /// Ends the connections and the processes, and waits until they have ended.
    pub(crate) async fn end(&self) {
        self.end.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(END_TIME, self.tasks.wait()).await;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    pub(crate) fn catalog(&self) -> &LiveCatalog {
        &self.catalog
    }

    /// Waits until each server has answered or failed once, but not long.
    pub(crate) async fn settled(&self) {
        let mut settled = self.settled.clone();
        let all = self.servers.len();
        let waiting = settled.wait_for(|count| *count >= all);
        let _ = tokio::time::timeout(FIRST_CONNECT_WAIT, waiting).await;
    }

    /// Calls a tool and gives what code receives: structured content, otherwise the text, otherwise the blocks.
    pub(crate) async fn call(&self, tool: &CatalogTool, input: Value) -> Result<Value, String> {
        let server = self.servers.get(tool.server).ok_or("the server is gone")?;
        let peer = server.peer.read().clone();
        let peer = peer.ok_or_else(|| {
            format!(
                "{} is not connected now; it is tried again",
                server.identifier
            )
        })?;
        let mut params = CallToolRequestParams::new(tool.upstream_name.clone());
        params.arguments = match input {
            Value::Object(input) => Some(input),
            Value::Null => Some(Map::new()),
            _ => return Err(format!("{} takes an object", tool.path())),
        };
        let time = server.config.call_timeout;
        let result = tokio::time::timeout(time, peer.call_tool(params)).await;
        let result = result
            .map_err(|_| format!("{} did not answer within {}", tool.path(), in_words(time)))?;
        answer(result.map_err(|error| service_error(&tool.path(), &error))?)
    }
}

/// A server of a configuration, as it was found.
#[derive(Debug)]
pub struct Checked {
    /// Its name in the configuration, printable.
    pub name: String,
    /// How long it took to connect and to list its tools.
    pub time: Duration,
    /// How many tools it offers, or why it does not work.
    pub offered: Result<Offered, String>,
}

/// How many tools a server has, by what may be done with them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Offered {
    /// Those that code calls.
    pub allowed: usize,
    /// Those that code calls if the user agrees.
    pub asking: usize,
    /// Those that are not offered.
    pub denied: usize,
}

/// Connects to all servers of a configuration once, and says what they offer, in the order of the configuration.
///
/// # Errors
///
/// If TLS cannot be set up.
pub async fn check(config: McpConfig) -> Result<Vec<Checked>, String> {
    let servers = Upstream::all(config)?;
    Ok(join_all(servers.iter().map(|server| server.check())).await)
}

/// The error that code receives for a failed request. What a server wrote is cut.
fn service_error(what: &str, error: &ServiceError) -> String {
    match error {
        ServiceError::McpError(error) => format!("{what}: {}", cut(&error.message)),
        ServiceError::TransportClosed | ServiceError::TransportSend(_) => {
            format!("{what}: the connection to its server ended")
        }
        ServiceError::UnexpectedResponse => {
            format!("{what}: its server asks for input or a task, which code cannot give")
        }
        other => format!("{what}: {}", cut(&other.to_string())),
    }
}

fn cut(text: &str) -> String {
    let mut text = text.to_owned();
    if text.len() > ERROR_BYTES {
        text.truncate(text.floor_char_boundary(ERROR_BYTES));
        text.push('…');
    }
    text
}

/// What code receives for a result of a tool.
fn answer(result: CallToolResult) -> Result<Value, String> {
    let text = || {
        let texts: Option<Vec<&str>> = result
            .content
            .iter()
            .map(|block| match block {
                ContentBlock::Text(text) => Some(text.text.as_str()),
                _ => None,
            })
            .collect();
        texts.map(|texts| texts.join("\n"))
    };
    if result.is_error == Some(true) {
        return Err(cut(&text().unwrap_or_else(|| "the tool failed".to_owned())));
    }
    if let Some(structured) = result.structured_content {
        return Ok(structured);
    }
    match text() {
        Some(text) => Ok(Value::String(text)),
        None => {
            serde_json::to_value(&result.content).map_err(|_| "its answer is no JSON".to_owned())
        }
    }
}

/// A connection of any kind.
type Service = RunningService<RoleClient, UpstreamClient>;

impl Upstream {
    /// The servers of a configuration, with their names for code.
    fn all(config: McpConfig) -> Result<Vec<Arc<Self>>, String> {
        let mut names = Identifiers::new(SERVER_IDENTIFIER_CHARS);
        let needs_http = config
            .servers
            .iter()
            .any(|server| matches!(server.reach, Reach::Http { .. }));
        let http = needs_http.then(HttpClient::new).transpose()?;
        let servers = config
            .servers
            .into_iter()
            .enumerate()
            .map(|(position, config)| {
                Arc::new(Self {
                    identifier: names.take(&config.name),
                    config,
                    position,
                    peer: RwLock::new(None),
                    http: http.clone(),
                    said: Arc::default(),
                })
            })
            .collect();
        Ok(servers)
    }

    /// Connects and lists once.
    async fn check(&self) -> Checked {
        let since = Instant::now();
        let changed = Arc::new(Notify::new());
        let connected = tokio::time::timeout(CONNECT_TIME, self.connect(&changed)).await;
        let connected = connected
            .unwrap_or_else(|_| Err(format!("no answer within {}", in_words(CONNECT_TIME))));
        let time = since.elapsed();
        let offered = connected.map(|(_service, tools, _child)| {
            let mut offered = Offered::default();
            for tool in &tools {
                match self.config.rules.mode(&tool.name) {
                    Mode::Allow => offered.allowed += 1,
                    Mode::Ask => offered.asking += 1,
                    Mode::Deny => offered.denied += 1,
                }
            }
            offered
        });
        let offered = match offered {
            Ok(offered) => Ok(offered),
            Err(why) => Err(match self.said.last().await.as_str() {
                "" => one_line(&why, 300),
                said => format!("{}; its last line: {said}", one_line(&why, 300)),
            }),
        };
        Checked {
            name: one_line(&self.config.name, NAME_CHARS),
            time,
            offered,
        }
    }

    /// Connects, lists, waits for the end, and begins again after a wait that grows.
    async fn stay_connected(
        self: Arc<Self>,
        catalog: Arc<LiveCatalog>,
        settle: watch::Sender<usize>,
    ) {
        let mut wait = FIRST_RETRY;
        let mut settle = Some(settle);
        loop {
            // Connect, and stay as long as it lasts.
            let changed = Arc::new(Notify::new());
            let since = Instant::now();
            let connected = tokio::time::timeout(CONNECT_TIME, self.connect(&changed)).await;
            let connected = connected
                .unwrap_or_else(|_| Err(format!("no answer within {}", in_words(CONNECT_TIME))));
            let why = match connected {
                Ok((service, tools, child)) => {
                    tracing::info!(
                        server = self.config.name,
                        tools = tools.len(),
                        "connected to an upstream server"
                    );
                    *self.peer.write() = Some(service.peer().clone());
                    self.offer(&catalog, tools);
                    if let Some(settle) = settle.take() {
                        settle.send_modify(|count| *count += 1);
                    }
                    let why = self.while_connected(service, &changed, &catalog).await;
                    *self.peer.write() = None;
                    drop(child);
                    why
                }
                Err(why) => why,
            };
            // A server that ends soon after each start is not started all the time.
            if since.elapsed() >= LONGEST_RETRY {
                wait = FIRST_RETRY;
            }
            // Report why it did not, or does no longer.
            let why = one_line(&why, 300);
            tracing::warn!(
                server = self.config.name,
                why,
                retry = in_words(wait),
                "an upstream server is not connected"
            );
            catalog.set(self.position, Err(why));
            if let Some(settle) = settle.take() {
                settle.send_modify(|count| *count += 1);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_RETRY);
        }
    }

    fn offer(&self, catalog: &LiveCatalog, tools: Vec<Tool>) {
        let taken = take_tools(self.position, &self.identifier, &self.config.rules, tools);
        catalog.set(self.position, Ok(taken));
    }

    /// Lists the tools again when they change. Comes back when the connection has ended, with the reason.
    async fn while_connected(
        &self,
        service: Service,
        changed: &Notify,
        catalog: &LiveCatalog,
    ) -> String {
        let peer = service.peer().clone();
        let ended = service.waiting();
        tokio::pin!(ended);
        // A server that reports changes all the time is listed less and less often.
        let mut wait = FIRST_RELIST;
        let mut listed = Instant::now();
        loop {
            let relist = async {
                changed.notified().await;
                if listed.elapsed() >= LONGEST_RELIST {
                    wait = FIRST_RELIST;
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_RELIST);
                listed = Instant::now();
                tokio::time::timeout(CONNECT_TIME, list(&peer)).await
            };
            tokio::select! {
                _ = &mut ended => return "the connection ended".to_owned(),
                tools = relist => match tools {
                    Ok(Ok(tools)) => self.offer(catalog, tools),
                    Ok(Err(why)) => return why,
                    Err(_) => return "its tools could not be listed again in time".to_owned(),
                },
            }
        }
    }

    async fn connect(
        &self,
        changed: &Arc<Notify>,
    ) -> Result<(Service, Vec<Tool>, Option<Child>), String> {
        let (service, child) = match &self.config.reach {
            Reach::Command {
                command,
                args,
                env,
                cwd,
            } => {
                let (child, input, output) = Child::start(
                    &self.config.name,
                    command,
                    args,
                    env,
                    cwd.as_deref(),
                    &self.said,
                )?;
                let transport = child::transport(output, input);
                (self.serve(transport, changed).await?, Some(child))
            }
            Reach::Http { url, headers } => {
                let http = self.http.clone().ok_or("HTTP is not set up")?;
                (
                    self.serve(http.transport(url, headers), changed).await?,
                    None,
                )
            }
        };
        let tools = list(service.peer()).await?;
        Ok((service, tools, child))
    }

    async fn serve<T>(&self, transport: T, changed: &Arc<Notify>) -> Result<Service, String>
    where
        T: Transport<RoleClient> + 'static,
    {
        let client = UpstreamClient::new(Arc::clone(changed));
        let served = client.serve(Bounded::new(transport)).await;
        served.map_err(|error| cut(&error.to_string()))
    }
}

/// All tools of a server, up to the bounds.
async fn list(peer: &Peer<RoleClient>) -> Result<Vec<Tool>, String> {
    if peer
        .peer_info()
        .is_some_and(|info| info.capabilities.tools.is_none())
    {
        return Ok(Vec::new());
    }
    let mut tools = Vec::new();
    let mut bytes = 0usize;
    let mut cursor = None;
    for _ in 0..UPSTREAM_PAGES {
        let mut params = PaginatedRequestParams::default();
        params.cursor = cursor;
        let page = peer.list_tools(Some(params)).await;
        let page = page.map_err(|error| service_error("listing its tools", &error))?;
        bytes = json_bytes(&page.tools).saturating_add(bytes);
        tools.extend(page.tools);
        cursor = page.next_cursor;
        let is_full = tools.len() >= UPSTREAM_TOOLS || bytes >= UPSTREAM_LIST_BYTES;
        if cursor.is_none() || is_full {
            break;
        }
    }
    tools.truncate(UPSTREAM_TOOLS);
    Ok(tools)
}

/// Who this program is for an upstream server: a client that offers nothing.
fn identity() -> ClientConfig {
    ClientConfig::new(
        ClientCapabilities::default(),
        Implementation::new("stockade", env!("CARGO_PKG_VERSION")),
    )
}
