//! One connection of a client.
#![expect(
    deprecated,
    reason = "clients of the versions before 2026-07-28 get the console as log messages"
)]

use std::sync::Arc;

use http::request::Parts;
use parking_lot::Mutex;
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData,
    Implementation, InputRequiredResult, ListToolsResult, LoggingLevel, PaginatedRequestParams,
    ServerCapabilities, ServerConfig, SetLevelRequestParams,
};
use rmcp::service::{RequestContext, RoleServer};
use tokio::sync::mpsc;

use super::approval::{self, Asking};
use super::arguments::{
    self, CLOSE_SESSION, CloseSession, DESCRIBE_TOOLS_NAME, DescribeTools, Facts, LIST_SESSIONS,
    RUN_CODE, RunCode, SEARCH_TOOLS, SearchTools,
};
use super::running::{Line, Running, Step};
use super::tenant::{Client, Tenant};
use super::tools::RunTools;
use super::turns::Place;
use super::{McpServer, answer};
use crate::bounds::{QUESTIONS_PER_RUN, WAITING_LINES};
use crate::run::{Job, RunOutcome};

/// All tools that clients can call.
pub const TOOLS: [&str; 5] = [
    RUN_CODE,
    SEARCH_TOOLS,
    DESCRIBE_TOOLS_NAME,
    LIST_SESSIONS,
    CLOSE_SESSION,
];

/// What answers a client.
#[derive(Clone)]
pub(crate) struct Handler {
    server: Arc<McpServer>,
    /// For whom requests are answered that do not name their tenant: those that did not come over HTTP.
    tenant: Arc<Tenant>,
    least: Arc<Mutex<LoggingLevel>>,
}

impl Handler {
    pub(crate) fn new(server: Arc<McpServer>) -> Self {
        Self {
            server,
            tenant: Tenant::new("stdio", 0, None),
            least: Arc::new(Mutex::new(LoggingLevel::Info)),
        }
    }

    /// Whose sessions a request means: those of its connection, or of its tenant where requests have no connection.
    fn client(&self, context: &RequestContext<RoleServer>) -> Client {
        let Some(parts) = context.extensions.get::<Parts>() else {
            return Client::new(&self.tenant, None);
        };
        let connection = parts
            .headers
            .get("mcp-session-id")
            .and_then(|value| value.to_str().ok())
            // Later versions have no connections: nothing has checked what such a request calls one.
            .filter(|_| !approval::is_new(context));
        let tenant = parts.extensions.get::<Arc<Tenant>>();
        Client::new(tenant.unwrap_or(&self.tenant), connection)
    }

    fn facts(&self) -> Facts<'_> {
        let upstreams = &self.server.upstreams;
        Facts {
            level: self.server.level,
            timeout: self.server.timeout,
            reaches_others: self.server.reaches_hosts || !upstreams.is_empty(),
            servers: (!upstreams.is_empty()).then(|| upstreams.catalog().current().list_servers()),
        }
    }

    /// Begins a run, or says why there is none.
    async fn begin(
        &self,
        run: RunCode,
        context: &RequestContext<RoleServer>,
    ) -> Result<Running, String> {
        let server = Arc::clone(&self.server);
        let timeout = run.check(server.timeout)?;
        let client = self.client(context);
        let place = server.turns.enter(client.clone())?;
        server.upstreams.settled().await;
        // What the run and the client have between them. The run ends with its client.
        let cancel = place.ended.clone();
        let (console, lines) = mpsc::channel(WAITING_LINES);
        let (ask, questions) = mpsc::channel(QUESTIONS_PER_RUN);
        let tools = RunTools::new(
            Arc::clone(&server),
            Asking::of(context),
            ask,
            cancel.clone(),
        );
        let job = Job {
            code: run.code,
            files: run.files,
            timeout,
            console,
            tools: Arc::new(tools),
            cancel: cancel.clone(),
        };
        // The run itself, which frees its turn when it ends.
        let ended = cancel.clone();
        let outcome = tokio::spawn(async move {
            let session = run.session.as_deref();
            let code = (!server.upstreams.is_empty()).then(|| job.code.clone());
            let outcome = server.in_turn(&client, &place, session, job).await;
            let mut outcome =
                outcome.unwrap_or_else(|| not_started("the run was cancelled before it began"));
            if let Some(code) = code {
                answer::name_search(&mut outcome, &code);
            }
            ended.cancel();
            outcome
        });
        Ok(Running::new(outcome, lines, questions, cancel))
    }

    async fn run_code(
        &self,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, String> {
        let line = Line {
            context,
            asking: Asking::of(context),
            least: context
                .meta
                .log_level()
                .unwrap_or_else(|| *self.least.lock()),
        };
        let mut running = match &request.request_state {
            Some(state) => {
                let found = self.server.resume(&self.client(context), state);
                let mut running = found
                    .ok_or("the run that this call continues has ended; run the code again")?;
                running.answer(request.input_responses);
                running
            }
            None => {
                self.begin(arguments::read(request.arguments)?, context)
                    .await?
            }
        };
        match running.step(&line).await {
            Step::Ended(outcome) => Ok(answer::of(outcome).into()),
            Step::Asks(requests) => {
                let mut result = InputRequiredResult::from_input_requests(requests);
                result.request_state = Some(self.server.suspend(self.client(context), running)?);
                Ok(result.into())
            }
            Step::Cancelled => Err("the call was cancelled".to_owned()),
            Step::Lost => Err("the run was lost".to_owned()),
        }
    }
}

impl McpServer {
    /// Runs a job when it is its turn; `None` if it was cancelled before.
    async fn in_turn(
        &self,
        client: &Client,
        place: &Place,
        session: Option<&str>,
        mut job: Job,
    ) -> Option<RunOutcome> {
        let cancel = job.cancel.clone();
        let turn = cancel.run_until_cancelled(place.turn());
        let Some(name) = session else {
            let _turn = turn.await??;
            return Some(self.runner.run(job).await);
        };
        let files = std::mem::take(&mut job.files);
        let tools = job.tools.names();
        let opened = self
            .sessions
            .open(client, name, files, tools, &*self.runner);
        let (used, session) = match cancel.run_until_cancelled(opened).await? {
            Ok(opened) => opened,
            Err(why) => return Some(not_started(&why)),
        };
        // Runs that wait for the same session take no turns of others.
        let _alone = cancel.run_until_cancelled(used.alone()).await?;
        let _turn = turn.await??;
        Some(session.run(job).await)
    }
}

fn not_started(why: &str) -> RunOutcome {
    let mut outcome = RunOutcome {
        failed: true,
        ..RunOutcome::default()
    };
    let error = serde_json::json!({ "kind": "not_started", "message": why });
    outcome.document.insert("error".to_owned(), error);
    outcome
}

fn text(result: Result<String, String>) -> CallToolResponse {
    match result {
        Ok(text) => CallToolResult::success(vec![ContentBlock::text(text)]).into(),
        Err(why) => CallToolResult::error(vec![ContentBlock::text(why)]).into(),
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_logging()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(
                Implementation::new("stockade", self.server.version.clone()).with_title("Stockade"),
            )
            .with_instructions(arguments::instructions(!self.server.upstreams.is_empty()))
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        *self.least.lock() = request.level;
        Ok(())
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        self.server.upstreams.settled().await;
        Ok(ListToolsResult::with_all_items(arguments::tools(
            &self.facts(),
        )))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let server = &self.server;
        let has_tools = !server.upstreams.is_empty();
        let response = match &*request.name {
            RUN_CODE => self
                .run_code(request, &context)
                .await
                .unwrap_or_else(|why| text(Err(why))),
            SEARCH_TOOLS if has_tools => text(self.search(request).await),
            DESCRIBE_TOOLS_NAME if has_tools => text(self.describe(request).await),
            LIST_SESSIONS => text(Ok(server.sessions.list(&self.client(&context)))),
            CLOSE_SESSION => text(arguments::read(request.arguments).and_then(
                |close: CloseSession| {
                    let closed = server
                        .sessions
                        .close(&self.client(&context), &close.session);
                    closed
                        .then(|| "closed".to_owned())
                        .ok_or_else(|| "there is no such session".to_owned())
                },
            )),
            name => {
                let name = crate::declare::one_line(name, 100);
                return Err(ErrorData::invalid_params(
                    format!("there is no tool {name}"),
                    None,
                ));
            }
        };
        Ok(response)
    }
}

impl Handler {
    async fn search(&self, request: CallToolRequestParams) -> Result<String, String> {
        let search: SearchTools = arguments::read(request.arguments)?;
        let limit = search.check()?;
        self.server.upstreams.settled().await;
        let catalog = self.server.upstreams.catalog().current();
        Ok(catalog.search(&search.query, search.server.as_deref(), limit))
    }

    async fn describe(&self, request: CallToolRequestParams) -> Result<String, String> {
        let describe: DescribeTools = arguments::read(request.arguments)?;
        describe.check()?;
        self.server.upstreams.settled().await;
        Ok(self
            .server
            .upstreams
            .catalog()
            .current()
            .describe(&describe.names))
    }
}
