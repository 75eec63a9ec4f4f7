//! The program `stockade`.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use stockade_host::{HostOptions, block_on};

use cli::{Cli, Command, RunArgs};

/// So that memory limits cover what isolates hold outside V8.
#[global_allocator]
static ALLOCATOR: stockade::MeteredAllocator = stockade::MeteredAllocator;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Run(args) => run(args),
        Command::Completions { shell } => {
            cli::print_completions(shell);
            ExitCode::SUCCESS
        }
    }
}

fn run(args: RunArgs) -> ExitCode {
    let level = if args.verbose {
        log::LevelFilter::Debug
    } else {
        log::LevelFilter::Error
    };
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Error)
        .filter_module("stockade", level)
        .init();
    let options = match args.host_options() {
        Ok(options) => options,
        Err(error) => return complain(&error.to_string(), 2),
    };
    // Before any other thread starts.
    stockade::initialize();
    raise_descriptor_limit();
    match block_on(options) {
        Ok(code) => std::process::exit(code),
        Err(error) => complain(&error.to_string(), 1),
    }
}

#[expect(
    clippy::print_stderr,
    reason = "this is where the program speaks to its user"
)]
fn complain(message: &str, code: u8) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(code)
}

/// Scripts may hold many sockets; the usual soft limit of 1,024 descriptors is for select(2).
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        log::debug!("cannot raise the limit of open files from {soft} to {hard}: {error}");
    }
}

impl RunArgs {
    fn host_options(self) -> Result<HostOptions, stockade::OptionsError> {
        Ok(HostOptions {
            sandbox: self.sandbox_options()?,
            script: self.script,
            args: self.args,
            walls: stockade::walls(),
            inspect: None,
        })
    }
}
