//! Clients of MCP against the server, with real upstream programs, hostile and harmless.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod runner;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, ElicitRequestParams,
    ElicitResult, ElicitationAction, ElicitationCapability, Implementation,
};
use rmcp::service::{RequestContext, RoleClient, RunningService, ServiceExt};
use rmcp::{ClientHandler, ErrorData};
use serde_json::{Map, Value, json};
use stockade_mcp::{McpConfig, McpServer, Offered, check, serve_stdio};

use self::runner::server;

/// A client that accepts or declines every question, or cannot be asked.
#[derive(Clone)]
struct Client(Option<ElicitationAction>);

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation = self.0.as_ref().map(|_| ElicitationCapability::default());
        ClientConfig::new(capabilities, Implementation::new("test", "1"))
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let ElicitRequestParams::FormElicitationParams { message, .. } = request else {
            return Err(ErrorData::invalid_params("not a form", None));
        };
        assert!(message.contains("hostile.remove"), "{message}");
        Ok(ElicitResult::new(
            self.0.clone().expect("a client that can be asked"),
        ))
    }
}

type Connected = RunningService<RoleClient, Client>;

fn config(how: &str, more: Value) -> McpConfig {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/server.py");
    let mut server = json!({ "command": "python3", "args": [program, how] });
    if let (Value::Object(server), Value::Object(more)) = (&mut server, more) {
        server.extend(more);
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = json!({ "mcpServers": { "hostile": server } }).to_string();
    std::fs::write(file.path(), text).expect("written");
    McpConfig::read(file.path(), |_| None).expect("a configuration")
}

async fn connect(config: McpConfig, client: Client) -> Connected {
    connect_to(server(config, None), client).await
}

async fn connect_to(server: Arc<McpServer>, client: Client) -> Connected {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (input, output) = tokio::io::split(theirs);
    tokio::spawn(serve_stdio(server, input, output));
    client.serve(ours).await.expect("connected")
}

async fn call(client: &Connected, name: &str, arguments: Value) -> CallToolResult {
    let Value::Object(arguments) = arguments else {
        panic!("not an object")
    };
    let params = CallToolRequestParams::new(name.to_owned()).with_arguments(arguments);
    client.call_tool(params).await.expect("an answer")
}

fn text(result: &CallToolResult) -> &str {
    result
        .content
        .iter()
        .find_map(|block| block.as_text())
        .map(|text| text.text.as_str())
        .expect("text")
}

/// The results of calls of tools of the server.
async fn calls(client: &Connected, calls: Value) -> Vec<Value> {
    let result = call(client, "run_code", json!({ "code": calls.to_string() })).await;
    let structured = result.structured_content.expect("an outcome");
    structured["result"]
        .as_array()
        .unwrap_or_else(|| panic!("no result: {structured}"))
        .clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_are_found_described_and_called() {
    let client = connect(config("good", json!({})), Client(None)).await;
    let names: Vec<String> = client
        .list_all_tools()
        .await
        .unwrap()
        .into_iter()
        .map(|tool| tool.name.into())
        .collect();
    assert_eq!(
        names,
        [
            "run_code",
            "search_tools",
            "describe_tools",
            "list_sessions",
            "close_session"
        ]
    );
    let found = call(&client, "search_tools", json!({ "query": "input" })).await;
    assert_eq!(text(&found), "hostile.echo: Gives its input");
    let described = call(
        &client,
        "describe_tools",
        json!({ "names": ["hostile.echo"] }),
    )
    .await;
    assert!(text(&described).contains("echo(input: Record<string, unknown>): Promise<string>;"));
    let results = calls(
        &client,
        json!([["hostile", "echo", { "a": 1 }], ["hostile", "image", {}], ["hostile", "echo", 3]]),
    )
    .await;
    assert_eq!(results[0], json!({ "a": 1 }));
    assert_eq!(results[1][0]["mimeType"], "image/png");
    assert_eq!(results[2]["error"], "hostile.echo takes an object");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_and_failed_answers_reject_the_call_alone() {
    let client = connect(config("good", json!({ "callTimeout": "3s" })), Client(None)).await;
    let results = calls(
        &client,
        json!([
            ["hostile", "fail", {}],
            ["hostile", "huge", {}],
            ["hostile", "slow", {}],
            ["hostile", "echo", {}],
            ["hostile", "nothing", {}],
            ["other", "echo", {}]
        ]),
    )
    .await;
    let error = |at: usize| {
        results[at]["error"]
            .as_str()
            .unwrap_or_else(|| panic!("{at}: {}", results[at]))
    };
    assert!(error(0).starts_with("no\nno") && error(0).len() < 5000);
    assert!(error(1).contains("did not answer within 3 s"));
    assert!(error(2).contains("did not answer within 3 s"));
    assert_eq!(results[3], json!({}));
    assert!(error(4).contains("there is no tool hostile.nothing"));
    assert!(error(5).contains("there is no tool other.echo"));
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_of_calls_ends_at_the_limit() {
    let client = connect(config("good", json!({})), Client(None)).await;
    let most = stockade_mcp::bounds::CALLS_PER_RUN;
    let many: Vec<Value> = (0..most + 5)
        .map(|_| json!(["hostile", "echo", {}]))
        .collect();
    let results = calls(&client, Value::Array(many)).await;
    assert_eq!(
        results
            .iter()
            .filter(|result| **result == json!({}))
            .count(),
        most
    );
    assert!(
        results.last().unwrap()["error"]
            .as_str()
            .unwrap()
            .contains("which is the limit")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn question_decides_about_a_call() {
    let asks = || config("good", json!({ "tools": { "ask": ["remove"] } }));
    let remove = json!([["hostile", "remove", { "path": "/" }]]);
    let accepts = connect(asks(), Client(Some(ElicitationAction::Accept))).await;
    assert_eq!(calls(&accepts, remove.clone()).await, ["removed"]);
    let declines = connect(asks(), Client(Some(ElicitationAction::Decline))).await;
    assert_eq!(
        calls(&declines, remove.clone()).await[0]["error"],
        "hostile.remove was not called: the user declined"
    );
    let cannot = connect(asks(), Client(None)).await;
    assert!(
        calls(&cannot, remove.clone()).await[0]["error"]
            .as_str()
            .unwrap()
            .contains("this client has no way")
    );
    let denied = connect(
        config("good", json!({ "tools": { "deny": ["remove"] } })),
        Client(None),
    )
    .await;
    assert!(
        calls(&denied, remove).await[0]["error"]
            .as_str()
            .unwrap()
            .contains("there is no tool")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_and_schemas_are_harmless() {
    let client = connect(config("names", json!({})), Client(None)).await;
    let found = call(&client, "search_tools", json!({ "limit": 50 })).await;
    let lines: Vec<&str> = text(&found)
        .lines()
        .map(|line| line.split(':').next().unwrap_or(""))
        .collect();
    assert_eq!(
        lines,
        [
            "hostile._proto__",
            "hostile.constructor_",
            "hostile.then_",
            "hostile.a_b",
            "hostile.a_b_2",
            "hostile.a_b_3",
            "hostile.x____evil______",
            "hostile._1st"
        ]
    );
    let described = call(&client, "describe_tools", json!({ "names": lines })).await;
    assert!(
        !text(&described).contains("a comment\u{2028}") && !text(&described).contains('\u{1b}')
    );
    assert!(text(&described).contains("ends * / a comment"));
    let client = connect(config("bombs", json!({})), Client(None)).await;
    let names = [
        "hostile.deep",
        "hostile.wide",
        "hostile.loop",
        "hostile.tree",
    ];
    let described = call(&client, "describe_tools", json!({ "names": names })).await;
    assert!(text(&described).len() < stockade_mcp::bounds::DESCRIBE_BYTES + 500);
    assert!(text(&described).contains("recursive"));
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_list_is_cut() {
    let client = connect(config("pages", json!({})), Client(None)).await;
    let tools = client.list_all_tools().await.unwrap();
    let most = stockade_mcp::bounds::UPSTREAM_TOOLS;
    assert!(
        tools[1]
            .description
            .as_ref()
            .unwrap()
            .contains(&format!("hostile ({most})"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_ends_or_floods_is_reported_and_started_again() {
    let client = connect(config("good", json!({})), Client(None)).await;
    let results = calls(&client, json!([["hostile", "end", {}]])).await;
    assert!(
        results[0]["error"]
            .as_str()
            .unwrap()
            .contains("the connection to its server ended")
    );
    // It is connected again after a wait: calls succeed then.
    loop {
        let results = calls(&client, json!([["hostile", "echo", {}]])).await;
        if results[0] == json!({}) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let client = connect(config("flood", json!({})), Client(None)).await;
    loop {
        let tools = client.list_all_tools().await.unwrap();
        if tools[1]
            .description
            .as_ref()
            .unwrap()
            .contains("hostile (not connected")
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn program_that_does_not_exist_is_reported() {
    let config = config("good", json!({ "command": "/nonexistent/program" }));
    let client = connect(config, Client(None)).await;
    let found = call(&client, "search_tools", json!({})).await;
    assert!(
        text(&found).contains("hostile (not connected: cannot start /nonexistent/program"),
        "{}",
        text(&found)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_closed() {
    let client = connect(McpConfig::default(), Client(None)).await;
    let names: Vec<String> = client
        .list_all_tools()
        .await
        .unwrap()
        .into_iter()
        .map(|tool| tool.name.into())
        .collect();
    assert_eq!(names, ["run_code", "list_sessions", "close_session"]);
    for name in ["a", "b", "c", "d"] {
        let result = call(
            &client,
            "run_code",
            json!({ "code": "[]", "session": name }),
        )
        .await;
        assert_eq!(result.is_error, Some(false));
    }
    let fifth = call(&client, "run_code", json!({ "code": "[]", "session": "e" })).await;
    assert!(text(&fifth).contains("which is the limit"));
    assert_eq!(
        text(&call(&client, "list_sessions", json!({})).await)
            .lines()
            .count(),
        4
    );
    assert_eq!(
        text(&call(&client, "close_session", json!({ "session": "a" })).await),
        "closed"
    );
    assert_eq!(
        call(&client, "close_session", json!({ "session": "a" }))
            .await
            .is_error,
        Some(true)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_are_errors_for_the_model() {
    let client = connect(McpConfig::default(), Client(None)).await;
    let wrong = [
        ("run_code", json!({})),
        ("run_code", json!({ "code": "[]", "sesion": "a" })),
        ("run_code", json!({ "code": "[]", "timeoutMs": 0 })),
        ("run_code", json!({ "code": "[]", "timeoutMs": 3_600_000 })),
        ("run_code", json!({ "code": "[]", "session": "" })),
        ("close_session", json!({})),
    ];
    for (name, arguments) in wrong {
        assert_eq!(
            call(&client, name, arguments.clone()).await.is_error,
            Some(true),
            "{name} {arguments}"
        );
    }
    let files: Map<String, Value> = (0..100).map(|n| (format!("f{n}.ts"), json!(""))).collect();
    assert_eq!(
        call(&client, "run_code", json!({ "code": "[]", "files": files }))
            .await
            .is_error,
        Some(true)
    );
    let unknown = client
        .call_tool(CallToolRequestParams::new("search_tools"))
        .await;
    assert!(unknown.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn program_that_writes_errors_without_end_is_called_like_another() {
    for how in ["good", "noise"] {
        let client = connect(config(how, json!({})), Client(None)).await;
        let results = calls(&client, json!([["hostile", "echo", { "a": 1 }]])).await;
        assert_eq!(results[0], json!({ "a": 1 }), "{how}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_each_server_offers() {
    let rules = json!({ "tools": { "allow": ["e*", "remove"], "ask": ["remove"] } });
    let found = check(config("good", rules)).await.unwrap();
    let offered = Offered {
        allowed: 2,
        asking: 1,
        denied: 5,
    };
    assert_eq!(found[0].offered, Ok(offered));
    let ends = check(config("broken", json!({}))).await.unwrap();
    let why = ends[0].offered.as_ref().unwrap_err();
    assert!(why.contains("no database at /srv/db"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn program_gets_no_descriptor_and_no_variable_of_this_one() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let client = connect(
        config("good", json!({ "env": { "KEY": "k" } })),
        Client(None),
    )
    .await;
    let results = calls(&client, json!([["hostile", "seen", {}]])).await;
    let has = |list: &str, text: &str| {
        let list = results[0][list].as_array().expect("a list");
        list.iter()
            .any(|one| one.as_str().is_some_and(|one| one.starts_with(text)))
    };
    assert!(has("files", "/proc/") && !has("files", &file.path().to_string_lossy()));
    assert!(has("variables", "KEY") && has("variables", "PATH"));
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some() && !has("variables", "CARGO"));
}

#[tokio::test(flavor = "multi_thread")]
async fn program_that_does_not_end_is_killed() {
    let server = server(config("stubborn", json!({})), None);
    let client = connect_to(Arc::clone(&server), Client(None)).await;
    let found = call(&client, "search_tools", json!({})).await;
    let process = text(&found).trim_start_matches("hostile.pid_").to_owned();
    let place = Path::new("/proc").join(process);
    assert!(place.exists());
    server.end().await;
    while place.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
