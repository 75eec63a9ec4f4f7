//! The command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};
use serde_json::{Map, Value};
use stockade::{OptionsError, SandboxOptions};
use stockade_host::InspectStart;

use crate::commands::{
    self, AuditArgs, BackupArgs, CallArgs, CheckArgs, DeployArgs, DevArgs, DoctorArgs, ExecArgs,
    InitArgs, InspectArgs, KeysArgs, Level, LimitsArgs, LogsArgs, McpArgs, ProfileArgs,
    ReceiptKeyArgs, ReloadArgs, RestoreArgs, RollbackArgs, RpcArgs, ServeArgs, StatusArgs,
    SuperviseArgs, TestArgs, TopArgs, TypesArgs, UsageArgs, VerifyArgs, VersionsArgs,
};
use crate::version::{LONG_VERSION, VERSION};

/// Where debuggers look first.
const DEBUGGER_PORT: u16 = 9229;

/// A sandbox for untrusted JavaScript and TypeScript.
#[derive(Parser)]
#[command(
    name = "stockade",
    version = VERSION.as_str(),
    long_version = LONG_VERSION.as_str(),
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = EXAMPLES
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a trusted host script, which creates isolates for untrusted code
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Call one function that a guest's module exports
    #[command(after_help = commands::call_examples())]
    Call(Box<CallArgs>),
    /// Run one untrusted file
    #[command(after_help = commands::exec_examples())]
    Exec(Box<ExecArgs>),
    /// Serve the functions that a guest's module exports by JSON-RPC 2.0
    #[command(after_help = commands::rpc_examples())]
    Rpc(Box<RpcArgs>),
    /// Run code for agents: a server of the Model Context Protocol
    #[command(after_help = commands::MCP_EXAMPLES)]
    Mcp(Box<McpArgs>),
    /// Run code for programs in other languages, by JSON-RPC on standard input or a socket
    #[command(after_help = commands::SUPERVISE_EXAMPLES)]
    Supervise(SuperviseArgs),
    /// Begin a project: a site, plugins, functions by JSON-RPC, or an agent
    #[command(after_help = commands::INIT_EXAMPLES)]
    Init(InitArgs),
    /// Serve one site on this machine while it is written
    #[command(after_help = commands::DEV_EXAMPLES)]
    Dev(DevArgs),
    /// Run the tests of guests and sites, each file in an isolate of its own
    #[command(after_help = commands::TEST_EXAMPLES)]
    Test(Box<TestArgs>),
    /// Write type declarations for editors, and the types of a site's env
    #[command(after_help = commands::TYPES_EXAMPLES)]
    Types(TypesArgs),
    /// Serve the sites of a configuration file, each in isolates of its own
    #[command(after_help = commands::SERVE_EXAMPLES)]
    Serve(ServeArgs),
    /// Report every error of a configuration file
    #[command(after_help = commands::CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Print the JSON Schema of configuration files
    #[command(after_help = commands::SCHEMA_EXAMPLES)]
    Schema,
    /// Make a running server read its configuration file again
    #[command(after_help = commands::RELOAD_EXAMPLES)]
    Reload(ReloadArgs),
    /// Show what a running server does, on one screen
    #[command(after_help = commands::STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Show the instances of a running server, second by second
    #[command(after_help = commands::TOP_EXAMPLES)]
    Top(TopArgs),
    /// Show the log of a running server, and follow it
    #[command(after_help = commands::LOGS_EXAMPLES)]
    Logs(LogsArgs),
    /// Upload the code of an instance to a running server, and give it requests
    #[command(after_help = commands::DEPLOY_EXAMPLES)]
    Deploy(Box<DeployArgs>),
    /// List the code of each instance: the file that the configuration names, and what was uploaded
    #[command(after_help = commands::VERSIONS_EXAMPLES)]
    Versions(VersionsArgs),
    /// Give the requests of an instance to the versions before, or to another one
    #[command(after_help = commands::ROLLBACK_EXAMPLES)]
    Rollback(RollbackArgs),
    /// Verify, search and follow an audit log
    #[command(after_help = commands::AUDIT_EXAMPLES)]
    Audit(AuditArgs),
    /// Make, list, rotate and revoke the API keys with which clients reach sites
    #[command(after_help = commands::KEYS_EXAMPLES)]
    Keys(Box<KeysArgs>),
    /// Show how much clients use of their limits, and set counters back
    #[command(after_help = commands::LIMITS_EXAMPLES)]
    Limits(Box<LimitsArgs>),
    /// Profile a mirror of a running server, or show its heap
    #[command(after_help = commands::PROFILE_EXAMPLES)]
    Profile(ProfileArgs),
    /// Open mirrors of a running server to Chrome's DevTools
    #[command(after_help = commands::INSPECT_EXAMPLES)]
    Inspect(InspectArgs),
    /// Report what instances and API keys used on each day
    #[command(after_help = commands::USAGE_EXAMPLES)]
    Usage(Box<UsageArgs>),
    /// Copy what a server keeps into one file, while the server runs
    #[command(after_help = commands::BACKUP_EXAMPLES)]
    Backup(BackupArgs),
    /// Restore such a copy, or check it
    #[command(after_help = commands::RESTORE_EXAMPLES)]
    Restore(RestoreArgs),
    /// Verify the signed receipt of a run, and print what it states
    #[command(after_help = commands::VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Print the key that others verify receipts with
    #[command(after_help = commands::RECEIPT_EXAMPLES)]
    Receipt(ReceiptKeyArgs),
    /// Report which levels of isolation work on this machine, and attack them
    #[command(after_help = commands::DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  stockade completions bash > /etc/bash_completion.d/stockade\n  \
                      stockade completions zsh > ~/.zfunc/_stockade"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

const EXAMPLES: &str = "\
Examples:
  stockade run main.ts                        a host script, which creates isolates for code it does not trust
  stockade exec tool.ts -- a b                one guest by itself, in a container
  stockade call math.ts add 2 3               one function of a guest; prints 5
  stockade rpc math.ts                        its functions by JSON-RPC
  stockade init site shop                     a new site; then stockade dev shop
  stockade mcp                                run code for an agent, by MCP
  stockade serve stockade.yaml                sites, each in a container of its own
  stockade doctor                             which levels of isolation work on this machine

`stockade help <COMMAND>` explains one, with examples and exit codes.";

const RUN_EXAMPLES: &str = "\
Examples:
  stockade run main.js                        defaults: 2 threads, 500 ms of CPU, no memory limit
  stockade run main.ts 4 10000 128            4 threads, 10 s of CPU, 128 MB
  stockade run --memory-limit 64mb main.ts    one limit by name
  stockade run --isolation container main.ts  each isolate in a container of its own
  stockade run main.ts -- --port 8080         what follows -- is in Deno.args
  stockade run --inspect main.ts              debug the host and every isolate from Chrome
  echo 'console.log(1)' | stockade run -      a script from standard input

Exit codes: 0 done, 1 uncaught error or unreadable script, 2 bad usage, 130 Ctrl-C, 143 SIGTERM, else what the \
script gave to Deno.exit.";

#[derive(Args)]
pub(crate) struct RunArgs {
    /// The host script: JavaScript or TypeScript, an ES module; `-` for standard input
    #[arg(value_parser = commands::meant_code())]
    pub(crate) script: PathBuf,

    /// How many isolates may compute at length at the same time [default: 2]
    #[arg(value_name = "THREADS", value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads_positional: Option<u64>,

    /// CPU time of one activation, as 500ms or 2s; a bare number is milliseconds, 0 is no limit [default: 500ms]
    #[arg(value_name = "CPU_LIMIT", value_parser = commands::limit_of_time)]
    cpu_positional: Option<f64>,

    /// Memory of an isolate, as 64mb or 1gb; a bare number is megabytes, 0 is no limit [default: 0]
    #[arg(value_name = "MEMORY_LIMIT", value_parser = commands::limit_of_memory)]
    memory_positional: Option<f64>,

    /// The same as THREADS
    #[arg(long, value_name = "N", conflicts_with = "threads_positional",
          value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,

    /// The same as CPU_LIMIT
    #[arg(long, value_name = "TIME", conflicts_with = "cpu_positional", value_parser = commands::limit_of_time)]
    cpu_limit: Option<f64>,

    /// The same as MEMORY_LIMIT
    #[arg(long, value_name = "SIZE", conflicts_with = "memory_positional", value_parser = commands::limit_of_memory)]
    memory_limit: Option<f64>,

    /// Elapsed time of one activation, as 500ms or 2s; a bare number is milliseconds, 0 is no limit [default: 10 x
    /// the CPU limit, at least 5s]
    #[arg(long, value_name = "TIME", value_parser = commands::limit_of_time)]
    wall_limit: Option<f64>,

    /// The level of isolation; `stockade doctor` reports which work here [default: thread]
    #[arg(long, value_name = "LEVEL", value_enum)]
    isolation: Option<Level>,

    /// How many started isolates to keep ready [default: 1]
    #[arg(long, value_name = "N")]
    warm: Option<u64>,

    /// Open the host and every isolate to Chrome's DevTools [default address: 127.0.0.1:9229].
    /// Limits wait while a debugger holds an isolate
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, require_equals = true,
          default_missing_value = "127.0.0.1:9229", value_parser = socket_address)]
    inspect: Option<SocketAddr>,

    /// The same; wait for a debugger and pause before the host script's first statement
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, require_equals = true,
          default_missing_value = "127.0.0.1:9229", value_parser = socket_address,
          conflicts_with = "inspect")]
    inspect_brk: Option<SocketAddr>,

    /// Log what the runtime does: threads, isolates, limits
    #[arg(long, short)]
    pub(crate) verbose: bool,

    /// Arguments for the script, as Deno.args
    #[arg(last = true)]
    pub(crate) args: Vec<String>,
}

/// `HOST:PORT`, `:PORT`, `PORT` or `HOST`, where the host is an IP address or `localhost`.
fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let host = |host: &str| match host {
        "" | "localhost" => Some(localhost),
        host => host.trim_matches(['[', ']']).parse().ok(),
    };
    if let Ok(port) = text.parse() {
        return Ok(SocketAddr::new(localhost, port));
    }
    if let Some(host) = host(text) {
        return Ok(SocketAddr::new(host, DEBUGGER_PORT));
    }
    text.rsplit_once(':')
        .and_then(|(name, port)| Some(SocketAddr::new(host(name)?, port.parse().ok()?)))
        .ok_or_else(|| "expected HOST:PORT, such as 127.0.0.1:9229 or [::1]:9229".to_owned())
}

impl RunArgs {
    /// Where debuggers may connect, if they may.
    pub(crate) fn inspect(&self) -> Option<(SocketAddr, InspectStart)> {
        let paused = self
            .inspect_brk
            .map(|address| (address, InspectStart::Paused));
        paused.or(self.inspect.map(|address| (address, InspectStart::AtOnce)))
    }

    /// The sandbox's defaults.
    pub(crate) fn sandbox_options(&self) -> Result<SandboxOptions, OptionsError> {
        let mut json = Map::new();
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                json.insert(key.to_owned(), value);
            }
        };
        set(
            "threads",
            self.threads.or(self.threads_positional).map(Value::from),
        );
        set(
            "cpuLimitMs",
            self.cpu_limit.or(self.cpu_positional).map(Value::from),
        );
        set(
            "memoryLimitMb",
            self.memory_limit
                .or(self.memory_positional)
                .map(Value::from),
        );
        set("wallLimitMs", self.wall_limit.map(Value::from));
        set(
            "isolation",
            self.isolation.map(|level| Value::from(level.name())),
        );
        set("warm", self.warm.map(Value::from));
        SandboxOptions::default().with_json(&json)
    }
}

/// The completion script for a shell.
pub(crate) fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "stockade", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Reads the command line; does not come back where that is help, or wrong.
pub(crate) fn parse() -> Cli {
    let error = match Cli::try_parse() {
        Ok(cli) => return cli,
        Err(error) => error,
    };
    if let (ErrorKind::InvalidSubcommand, Some(ContextValue::String(word))) =
        (error.kind(), error.get(ContextKind::InvalidSubcommand))
        && let Some(message) = commands::meant_command(word)
    {
        commands::complain(&message);
        std::process::exit(2);
    }
    error.exit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cli_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn completions_offer_the_levels() {
        let bash = completions(clap_complete::Shell::Bash);
        // Of `run`, of the three commands with one guest, of `dev`, `test` and `mcp`.
        assert_eq!(bash.matches("\"thread process container\"").count(), 7);
        let zsh = completions(clap_complete::Shell::Zsh);
        assert!(zsh.contains("container\\:"));
    }

    #[test]
    fn help_wraps_at_the_width_and_has_examples() {
        for command in Cli::command().get_subcommands().cloned() {
            let name = command.get_name().to_owned();
            let help = command.term_width(60).render_long_help().to_string();
            assert!(help.contains("Example"), "{name}");
            for line in help.lines().filter(|line| !line.starts_with("Usage:")) {
                assert!(line.chars().count() <= 60, "{name}: {line}");
            }
        }
    }

    #[test]
    fn socket_address_takes_parts() {
        for (text, address) in [
            ("9230", "127.0.0.1:9230"),
            (":9230", "127.0.0.1:9230"),
            ("localhost", "127.0.0.1:9229"),
            ("10.0.0.1", "10.0.0.1:9229"),
            ("10.0.0.1:0", "10.0.0.1:0"),
            ("[::1]:9230", "[::1]:9230"),
            ("::1", "[::1]:9229"),
        ] {
            assert_eq!(socket_address(text), Ok(address.parse().unwrap()), "{text}");
        }
        for text in [
            "example.com:9229",
            "127.0.0.1:x",
            "127.0.0.1:99999",
            "main.ts",
        ] {
            assert!(socket_address(text).is_err(), "{text}");
        }
    }
}
