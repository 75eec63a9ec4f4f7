//! `stockade mcp`: a server of the Model Context Protocol that runs code.

mod isolates;

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use stockade::Grants;
use stockade::run::{MAX_OUTPUT_BYTES, Options};
use stockade_auth::Quotas;
use stockade_mcp::bounds::WAITING_RUNS;
use stockade_mcp::{
    Clients, HttpOptions, HttpServer, McpConfig, McpOptions, McpServer, PATH, Share, TOOLS, Token,
    check, serve_stdio,
};

use self::isolates::Isolates;
use super::callers::CallerArgs;
use super::file::read_text;
use super::guest::{Level, Refusal, interrupted};
use super::units::{address, bytes, duration, limit_of_memory};
use super::{exit, output};
use crate::version::VERSION;

pub(crate) const MCP_EXAMPLES: &str = "\
Examples:
  stockade mcp                                   run code for an agent, on standard input and output
  stockade mcp --config upstream.json            and offer it the tools of other servers (code mode)
  stockade mcp --listen 127.0.0.1:7030           over HTTP, at http://127.0.0.1:7030/mcp
  stockade mcp --config upstream.json --check    show what the servers of the file offer, and why one does not work
  stockade mcp --listen 0.0.0.0:7030 --keys keys.db --rate 600/h
                                                 for many agents, each with an API key
  stockade mcp --allow-fetch api.example.com     let the code fetch from one host
  claude mcp add stockade -- stockade mcp        add it to Claude Code

Claude Desktop, Cursor and others have a file for it:
  { \"mcpServers\": { \"stockade\": { \"command\": \"stockade\", \"args\": [\"mcp\"] } } }

--config takes such a file too: the servers in it become functions of the code, as tools.SERVER.NAME(input).

Exit codes: 0 the client left, 1 it could not start, 2 bad usage or errors in the configuration, 130 Ctrl-C, 143 SIGTERM.";

/// Bytes of a file of tokens.
const TOKEN_FILE_BYTES: u64 = 64 << 10;
/// Characters that a token has at least.
const TOKEN_CHARS: usize = 16;

#[derive(Args)]
pub(crate) struct McpArgs {
    /// The file with the upstream servers (`mcpServers`), as JSON or YAML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Listen here for clients over HTTP, in place of standard input and output
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    listen: Option<SocketAddr>,

    /// Connect to the upstream servers, print what they offer, and exit. With --listen, nothing listens, and keys or tokens
    /// are read
    #[arg(long, requires = "config")]
    check: bool,

    #[command(flatten)]
    callers: CallerArgs,

    /// A file with a token on each line, one of which clients must send. Needed where other machines reach the address
    #[arg(
        long,
        value_name = "FILE",
        requires = "listen",
        conflicts_with = "keys"
    )]
    token_file: Option<PathBuf>,

    /// A name of this server, besides localhost and its address; can be repeated
    #[arg(long, value_name = "NAME", requires = "listen")]
    allow_host: Vec<String>,

    /// The origin of web pages that may use it, as https://app.example.com:443; can be repeated
    #[arg(long, value_name = "ORIGIN", requires = "listen")]
    allow_origin: Vec<String>,

    /// The level of isolation. A level that does not work here is refused; `stockade doctor` says why
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Level::Container)]
    isolation: Level,

    /// Memory of a run, as 64mb or 1gb; a bare number is megabytes, 0 is no limit
    #[arg(long, value_name = "SIZE", value_parser = limit_of_memory, default_value = "128mb")]
    memory_limit: f64,

    /// CPU time of a run, as 500ms or 2s
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    cpu_limit: Duration,

    /// Elapsed time of a run, as 30s or 5m, with the time in which a user decides about a call
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    timeout: Duration,

    /// Console text that is kept for the answer, as 64kb
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "64kb")]
    output: u32,

    /// Let fetch reach a host, as api.example.com, *.example.com, localhost:8080 or 10.0.0.0/8; can be repeated
    #[arg(long, value_name = "HOST")]
    allow_fetch: Vec<String>,

    /// Isolates that are kept ready
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=32))]
    warm: u16,

    /// Runs at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    max_runs: u16,

    /// Sessions of all clients
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    max_sessions: u16,

    /// Runs of one API key or token at the same time [default: half of --max-runs]
    #[arg(long, value_name = "N", requires = "listen", value_parser = clap::value_parser!(u16).range(1..=256))]
    max_runs_per_key: Option<u16>,

    /// Sessions of one API key or token [default: half of --max-sessions]
    #[arg(long, value_name = "N", requires = "listen", value_parser = clap::value_parser!(u16).range(1..=1024))]
    max_sessions_per_key: Option<u16>,

    /// How long a session lives without a run
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10m")]
    session_idle: Duration,

    /// Log what the server does
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

fn usage(error: &dyn std::fmt::Display) -> Refusal {
    Refusal(error.to_string(), exit::USAGE)
}

fn failed(error: &dyn std::fmt::Display) -> Refusal {
    Refusal(error.to_string(), exit::FAILED)
}

impl McpArgs {
    /// What each run may use and reach, without tools.
    fn options(&self) -> Result<Options, Refusal> {
        let grants = match self.allow_fetch.is_empty() {
            true => Grants::default(),
            false => Grants::default()
                .allow_fetch(&self.allow_fetch)
                .map_err(|error| usage(&error))?,
        };
        let output = self.output as usize;
        if output > MAX_OUTPUT_BYTES {
            return Err(Refusal(
                format!("--output is at most {MAX_OUTPUT_BYTES} bytes"),
                exit::USAGE,
            ));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked by the parser: at least 0, and far below 2^64 as bytes"
        )]
        let memory = (self.memory_limit * f64::from(1 << 20)) as u64;
        Ok(Options {
            level: self.isolation.isolation(),
            memory: Some(memory).filter(|memory| *memory > 0),
            cpu: Some(self.cpu_limit).filter(|time| !time.is_zero()),
            timeout: Some(self.timeout),
            grants,
            output,
            pool: usize::from(self.warm),
            ..Options::default()
        })
    }

    /// Whom the server lets in over HTTP, and what counts their quotas.
    fn http(&self) -> Result<(HttpOptions, Option<Quotas>), Refusal> {
        if self.callers.keys.is_some() && self.listen.is_none() {
            return Err(Refusal(
                "--keys is for clients over HTTP, and there is no --listen\n  \
                 fix: give the address too, as --listen 127.0.0.1:7030; --check tries both and listens nowhere"
                    .to_owned(),
                exit::USAGE,
            ));
        }
        let unknown = |(tool, _): &&(String, _)| !TOOLS.contains(&&**tool);
        if let Some((tool, _)) = self.callers.scope.iter().find(unknown) {
            let tools = TOOLS.join(", ");
            return Err(Refusal(
                format!("--scope {tool}: there is no such tool\n  fix: name one of {tools}"),
                exit::USAGE,
            ));
        }
        let (keys, quotas) = self.callers.open("mcp".into())?.unzip();
        let clients = match (keys, &self.token_file) {
            (Some(keys), _) => Clients::Keys(keys),
            (None, Some(path)) => Clients::Tokens(tokens(path)?),
            (None, None) => Clients::All,
        };
        if self.names_share() && matches!(clients, Clients::All) {
            let what = "--max-runs-per-key and --max-sessions-per-key are for clients with API keys or tokens";
            let fix = "give --keys or --token-file too";
            return Err(Refusal(format!("{what}\n  fix: {fix}"), exit::USAGE));
        }
        let options = HttpOptions {
            clients,
            hosts: self.allow_host.clone(),
            origins: self.allow_origin.clone(),
        };
        Ok((options, quotas))
    }

    fn names_share(&self) -> bool {
        self.max_runs_per_key.is_some() || self.max_sessions_per_key.is_some()
    }

    /// What one key or token may have. A single token has all of what no option says otherwise about.
    fn share(&self, clients: &Clients) -> Option<Share> {
        let (are_limited, is_single) = match clients {
            Clients::All => (false, true),
            Clients::Tokens(tokens) => {
                let is_single = tokens.len() == 1;
                (!is_single || self.names_share(), is_single)
            }
            Clients::Keys(_) => (true, false),
        };
        let rest = |all: u16| if is_single { all } else { all.div_ceil(2) };
        let of = |own: Option<u16>, all: u16| usize::from(own.unwrap_or(rest(all)));
        are_limited.then(|| Share {
            runs: of(self.max_runs_per_key, self.max_runs),
            waiting: if is_single {
                WAITING_RUNS
            } else {
                WAITING_RUNS / 2
            },
            sessions: of(self.max_sessions_per_key, self.max_sessions),
        })
    }
}

/// The tokens of a file. They are in no message.
fn tokens(path: &Path) -> Result<Vec<Token>, Refusal> {
    let text = read_text(path, TOKEN_FILE_BYTES);
    let text = text.map_err(|error| usage(&format!("cannot read {}: {error}", path.display())))?;
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() || lines.iter().any(|line| line.len() < TOKEN_CHARS) {
        let what = format!(
            "{} needs a token of at least {TOKEN_CHARS} characters on each line\n  fix: head -c 32 /dev/urandom | base64 > {}",
            path.display(),
            path.display()
        );
        return Err(Refusal(what, exit::USAGE));
    }
    Ok(lines.into_iter().map(Token::new).collect())
}

/// Runs the command and gives the exit code.
pub(crate) fn mcp(args: &McpArgs) -> Result<i32, Refusal> {
    // What can be wrong with the command line and the file.
    let config = match &args.config {
        Some(path) => {
            McpConfig::read(path, |name| std::env::var(name).ok()).map_err(|error| usage(&error))?
        }
        None => McpConfig::default(),
    };
    let options = args.options()?;
    let (http, _quotas) = args.http()?;
    let share = args.share(&http.clients);
    if args.timeout.is_zero() {
        return Err(Refusal("--timeout is at least 1ms".to_owned(), exit::USAGE));
    }
    if !args.check {
        // Before any other thread starts.
        stockade::initialize();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| failed(&error))?;
    let served = runtime.block_on(async {
        if args.check {
            return checked(config).await;
        }
        let server = McpServer::start(McpOptions {
            runner: Arc::new(Isolates::new(options).map_err(|error| usage(&error))?),
            config,
            level: args.isolation.name(),
            reaches_hosts: !args.allow_fetch.is_empty(),
            timeout: args.timeout,
            runs: usize::from(args.max_runs),
            sessions: usize::from(args.max_sessions),
            share,
            session_idle: args.session_idle,
            version: VERSION.clone(),
        });
        let server = server.map_err(|error| failed(&error))?;
        let asked = interrupted().map_err(|error| failed(&error))?;
        let served = match args.listen {
            Some(address) => over_http(Arc::clone(&server), address, http, asked).await,
            None => over_stdio(Arc::clone(&server), asked).await,
        };
        server.end().await;
        served
    });
    // What still runs does not matter any more.
    runtime.shutdown_background();
    served
}

/// Prints what each server of a configuration offers, and why one does not work.
async fn checked(config: McpConfig) -> Result<i32, Refusal> {
    let servers = check(config).await.map_err(|error| failed(&error))?;
    let names = servers.iter().map(|server| server.name.chars().count());
    let width = names.max().unwrap_or(0).max("server".len());
    output::say(&format!(
        "{:width$}  {:>5}  {:>5}  {:>6}  {:>6}",
        "server", "tools", "ask", "denied", "ms"
    ));
    let mut code = exit::DONE;
    for server in &servers {
        let name = &server.name;
        let line = match &server.offered {
            Ok(offered) => format!(
                "{name:width$}  {:>5}  {:>5}  {:>6}  {:>6}",
                offered.allowed + offered.asking,
                offered.asking,
                offered.denied,
                server.time.as_millis()
            ),
            Err(why) => {
                code = exit::FAILED;
                format!("{name:width$}  {why}")
            }
        };
        output::say(&line);
    }
    Ok(code)
}

async fn over_http(
    server: Arc<McpServer>,
    address: SocketAddr,
    options: HttpOptions,
    asked: impl Future<Output = i32>,
) -> Result<i32, Refusal> {
    let server = HttpServer::bind(server, address, options)
        .await
        .map_err(|error| failed(&error))?;
    output::say(&format!("Listening on http://{}{PATH}", server.address()));
    tokio::select! {
        code = asked => Ok(code),
        () = server.serve() => Ok(exit::DONE),
    }
}

async fn over_stdio(
    server: Arc<McpServer>,
    asked: impl Future<Output = i32>,
) -> Result<i32, Refusal> {
    tokio::select! {
        code = asked => Ok(code),
        served = serve_stdio(server, tokio::io::stdin(), tokio::io::stdout()) => match served {
            Ok(()) => Ok(exit::DONE),
            Err(error) => Err(failed(&error)),
        },
    }
}
