//! The command line.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use serde_json::{Map, Value};
use stockade::{OptionsError, SandboxOptions};

/// Runs JavaScript and TypeScript that nobody vouches for.
#[derive(Parser)]
#[command(name = "stockade", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a trusted host script, which creates isolates for untrusted code
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  stockade completions bash > /etc/bash_completion.d/stockade"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

const RUN_EXAMPLES: &str = "\
Examples:
  stockade run main.js                        defaults: 2 threads, 500 ms of CPU, no memory limit
  stockade run main.ts 4 10000 128            4 threads, 10 s of CPU, 128 MB
  stockade run --memory-limit 64 main.ts      the same by name
  stockade run main.ts -- --port 8080         what follows -- is in Deno.args
  stockade run --inspect main.ts              debug the host and every isolate from Chrome

Exit codes: 0 done, 1 uncaught error or unreadable script, 2 bad usage, 130 Ctrl-C, else what the
script gave to Deno.exit.";

#[derive(Args)]
pub(crate) struct RunArgs {
    /// The host script: JavaScript or TypeScript, an ES module
    pub(crate) script: PathBuf,

    /// How many isolates may compute at length at the same time [default: 2]
    #[arg(value_name = "THREADS", value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads_positional: Option<u64>,

    /// CPU time of one activation in milliseconds, 0 for no limit [default: 500]
    #[arg(value_name = "CPU_LIMIT_MS")]
    cpu_positional: Option<f64>,

    /// Memory of an isolate in megabytes, 0 for no limit [default: 0]
    #[arg(value_name = "MEMORY_LIMIT_MB")]
    memory_positional: Option<f64>,

    /// The same as THREADS
    #[arg(long, value_name = "N", conflicts_with = "threads_positional",
          value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,

    /// The same as CPU_LIMIT_MS
    #[arg(long, value_name = "MS", conflicts_with = "cpu_positional")]
    cpu_limit: Option<f64>,

    /// The same as MEMORY_LIMIT_MB
    #[arg(long, value_name = "MB", conflicts_with = "memory_positional")]
    memory_limit: Option<f64>,

    /// Elapsed time of one activation in milliseconds, 0 for no limit [default: 10 x the CPU limit,
    /// at least 5000]
    #[arg(long, value_name = "MS")]
    wall_limit: Option<f64>,

    /// The wall around isolates: thread (process, container and vm are not in this version)
    #[arg(long, value_name = "LEVEL")]
    isolation: Option<String>,

    /// Isolates to keep started, so that creating one is quick [default: 1]
    #[arg(long, value_name = "N")]
    warm: Option<u64>,

    /// Say what the runtime does: threads, isolates, limits
    #[arg(long, short)]
    pub(crate) verbose: bool,

    /// Arguments for the script, as Deno.args
    #[arg(last = true)]
    pub(crate) args: Vec<String>,
}

impl RunArgs {
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
        set("isolation", self.isolation.clone().map(Value::from));
        set("warm", self.warm.map(Value::from));
        SandboxOptions::default().with_json(&json)
    }
}

pub(crate) fn print_completions(shell: clap_complete::Shell) {
    clap_complete::generate(
        shell,
        &mut Cli::command(),
        "stockade",
        &mut std::io::stdout(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cli_is_well_formed() {
        Cli::command().debug_assert();
    }
}
