//! What clients, upstream servers and the code may make this server hold. Each bound is named in the error that it
//! causes.

use std::num::NonZeroU64;
use std::time::Duration;

/// Bytes of one message of an upstream server, and of one from a client.
pub const MESSAGE_BYTES: usize = 4 << 20;
/// Upstream servers of one configuration.
pub const UPSTREAM_SERVERS: usize = 64;
/// Tools that are taken from one upstream server.
pub const UPSTREAM_TOOLS: usize = 1000;
/// Pages in which an upstream server may list its tools.
pub const UPSTREAM_PAGES: usize = 100;
/// Requests of an upstream server that wait for an answer.
pub const UPSTREAM_REQUESTS: usize = 64;
/// Bytes of one tool's schemas as JSON. A tool with more is offered with `unknown` in their place.
pub const SCHEMA_BYTES: usize = 64 << 10;
/// Bytes of the schemas of one upstream server as JSON. Beyond them it is `unknown`, too.
pub const UPSTREAM_SCHEMA_BYTES: usize = 4 << 20;
/// Bytes of the tools that one upstream server lists as JSON. Those on further pages are not read.
pub const UPSTREAM_LIST_BYTES: usize = 16 << 20;
/// Bytes of a tool's description. The rest is cut.
pub const DESCRIPTION_BYTES: usize = 4 << 10;
/// Characters of a tool's name, and of a server's.
pub const NAME_CHARS: usize = 128;
/// Characters of a server's identifier in code.
pub const SERVER_IDENTIFIER_CHARS: usize = 32;
/// Characters of a tool's identifier in code. Both identifiers have 128 characters at most, with a dot and a number.
pub const TOOL_IDENTIFIER_CHARS: usize = 86;
/// Tools of all upstream servers together that code can call. Where there are more, the servers with the most give way.
pub const TOOLS: usize = 1000;
/// Bytes of the TypeScript declaration of one tool. One with more is declared with `unknown`.
pub const DECLARATION_BYTES: usize = 8 << 10;
/// How deep types are declared. Deeper ones are `unknown`.
pub const DECLARATION_DEPTH: usize = 12;
/// Types in the declaration of one tool. Further ones are `unknown`.
pub const DECLARATION_TYPES: usize = 1000;
/// Bytes of an answer of `describe_tools`.
pub const DESCRIBE_BYTES: usize = 48 << 10;
/// Tools that one call of `describe_tools` names.
pub const DESCRIBE_TOOLS: usize = 50;
/// Results of `search_tools`, at most.
pub const SEARCH_RESULTS: usize = 50;
/// Bytes of a query of `search_tools`.
pub const QUERY_BYTES: usize = 1 << 10;
/// Characters of a tool's line in the answer of `search_tools`.
pub const SUMMARY_CHARS: usize = 100;
/// Calls of tools in one run.
pub const CALLS_PER_RUN: usize = 1000;
/// Calls of tools of one run that are under way at the same time.
pub const CALLS_AT_ONCE: usize = 16;
/// Questions to the user in one run.
pub const QUESTIONS_PER_RUN: usize = 20;
/// Bytes of a call's input that a question to the user shows.
pub const QUESTION_BYTES: usize = 2 << 10;
/// Members of an input about which a user can be asked.
pub const QUESTION_ARGUMENTS: usize = 32;
/// How long a question waits for its answer.
pub const QUESTION_TIME: Duration = Duration::from_secs(300);
/// Runs that wait for the answers of a client, which asks again with them.
pub const SUSPENDED_RUNS: usize = 32;
/// Bytes of an error of an upstream server that code receives.
pub const ERROR_BYTES: usize = 4 << 10;
/// How long an upstream server may take to start and to list its tools.
pub const CONNECT_TIME: Duration = Duration::from_secs(20);
/// How long `search_tools`, `describe_tools` and `run_code` wait for servers that start.
pub const FIRST_CONNECT_WAIT: Duration = Duration::from_secs(10);
/// How long a call of an upstream tool may take, unless the configuration says otherwise.
pub const CALL_TIME: Duration = Duration::from_secs(60);
/// How long the end of this program waits for its connections to upstream servers to end.
pub const END_TIME: Duration = Duration::from_secs(2);
/// Upstream servers that descriptions name. Further ones are counted.
pub const NAMED_SERVERS: usize = 16;
/// The wait before the second attempt to reach an upstream server. It doubles up to [`LONGEST_RETRY`].
pub const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait between attempts to reach an upstream server.
pub const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// The wait before an upstream server's changed list of tools is read. It doubles with each change up to
/// [`LONGEST_RELIST`].
pub const FIRST_RELIST: Duration = Duration::from_secs(1);
/// The longest wait before a changed list of tools is read, and the time without changes after which it is short again.
pub const LONGEST_RELIST: Duration = Duration::from_secs(60);
/// Messages of an upstream server each second other than answers to requests. It is read slowly beyond them.
pub const UNEXPECTED_PER_SECOND: NonZeroU64 = NonZeroU64::new(50).expect("not zero");
/// The time whose messages may come at once.
pub const UNEXPECTED_BURST: Duration = Duration::from_secs(20);
/// Lines of an upstream server's standard error each second that reach the log.
pub const LOG_LINES_PER_SECOND: u32 = 20;
/// Bytes of a program's standard error that are read at once.
pub const LOG_READ_BYTES: usize = 64 << 10;
/// How long a program's standard error is not read after more lines than that.
pub const LOG_READ_EVERY: Duration = Duration::from_millis(50);
/// Bytes of a line of an upstream server's standard error that reaches the log.
pub const LOG_LINE_BYTES: usize = 1 << 10;
/// Files of one run.
pub const RUN_FILES: usize = 64;
/// Characters of a session's name.
pub const SESSION_NAME_CHARS: usize = 64;
/// Sessions of one client.
pub const SESSIONS_PER_CLIENT: usize = 8;
/// Console lines of one run that are sent while it runs. All lines, up to the limit of the console, are in the answer.
pub const STREAMED_LINES: usize = 1000;
/// Bytes of a console line that is sent while a run is under way.
pub const STREAMED_LINE_BYTES: usize = 4 << 10;
/// Bytes of the configuration file.
pub const CONFIG_BYTES: u64 = 1 << 20;
/// Connections over HTTP at the same time.
pub const HTTP_CONNECTIONS: usize = 256;
/// Connections of MCP over HTTP (`Mcp-Session-Id`) at the same time.
pub const HTTP_SESSIONS: usize = 128;
/// Connections of one address over HTTP at the same time, if it is not one of this machine.
pub const HTTP_CONNECTIONS_OF_ADDRESS: usize = 64;
/// Requests of one API key or token that are open at the same time.
pub const HTTP_REQUESTS_OF_TENANT: usize = 128;
/// How long a connection of MCP over HTTP must have been unused to give way to another one.
pub const HTTP_SESSION_IDLE: Duration = Duration::from_secs(300);
/// How long a connection of MCP over HTTP lives without a message.
pub const HTTP_SESSION_END: Duration = Duration::from_secs(24 * 3600);
/// Bytes of the answers of one connection of MCP over HTTP that can be read again.
pub const KEPT_ANSWERS_OF_CONNECTION: usize = 4 << 20;
/// Bytes of the answers over HTTP that can be read again, of all clients.
pub const KEPT_ANSWERS_BYTES: usize = 64 << 20;
/// Bytes of the notifications that are kept for one answer over HTTP. The oldest are left out.
pub const KEPT_NOTIFICATIONS_BYTES: usize = 256 << 10;
/// How long an answer over HTTP can be read again after its end.
pub const KEPT_ANSWER_TIME: Duration = Duration::from_secs(300);
/// Bytes of a progress token. A request with a longer one is answered as one without.
pub const PROGRESS_TOKEN_BYTES: usize = 256;
/// How long a client may take to send the head of a request.
pub const HTTP_HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a client may take to send the body of a request.
pub const HTTP_BODY_TIME: Duration = Duration::from_secs(30);
/// Bytes of the head of a request.
pub const HTTP_HEAD_BYTES: usize = 32 << 10;
/// Bytes of the answer to `run_code`. A larger result is an error that says so.
pub const ANSWER_BYTES: usize = 1 << 20;
/// Runs that wait for their turn.
pub const WAITING_RUNS: usize = 64;
/// Console lines that wait to be sent. Further ones are only in the answer.
pub const WAITING_LINES: usize = 256;
