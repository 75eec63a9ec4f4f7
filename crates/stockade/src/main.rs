//! The program `stockade`.

mod cli;
mod commands;
mod version;

use std::net::SocketAddr;
use std::process::ExitCode;

use stockade::{Inspector, ListenError};
use stockade_host::{HostOptions, InspectOptions, InspectStart, block_on};
use tikv_jemallocator::Jemalloc;

use cli::{Cli, Command, RunArgs};

/// So that memory limits cover what isolates hold outside V8. With jemalloc, because what one thread of
/// `serve` allocates another one frees, for which threads of the C library wait for each other.
#[global_allocator]
static ALLOCATOR: stockade::MeteredAllocator<Jemalloc> = stockade::MeteredAllocator(Jemalloc);

fn main() -> ExitCode {
    stockade::run_if_worker();
    let cli: Cli = cli::parse();
    match cli.command {
        Command::Run(args) => run(*args),
        Command::Call(args) => {
            log_to_stderr(args.guest.verbose, log::LevelFilter::Error);
            end(commands::call(&args))
        }
        Command::Exec(args) => {
            log_to_stderr(args.guest.verbose, log::LevelFilter::Error);
            end(commands::exec(&args))
        }
        Command::Rpc(args) => {
            log_to_stderr(args.guest.verbose, log::LevelFilter::Warn);
            raise_descriptor_limit();
            end(commands::rpc(&args))
        }
        Command::Mcp(args) => {
            log_to_stderr(args.verbose, log::LevelFilter::Warn);
            raise_descriptor_limit();
            end(commands::mcp(&args))
        }
        Command::Supervise(args) => {
            log_to_stderr(args.verbose, log::LevelFilter::Warn);
            raise_descriptor_limit();
            end(commands::supervise(&args))
        }
        Command::Init(args) => end(commands::init(&args)),
        Command::Dev(args) => {
            raise_descriptor_limit();
            end(commands::dev(&args))
        }
        Command::Test(args) => {
            log_to_stderr(args.guest.verbose, log::LevelFilter::Error);
            end(commands::test(&args))
        }
        Command::Types(args) => end(commands::types(&args)),
        Command::Serve(args) => {
            raise_descriptor_limit();
            end(commands::serve(args))
        }
        Command::Check(args) => end(commands::check(&args)),
        Command::Schema => end(commands::schema()),
        Command::Reload(args) => end(commands::reload(&args)),
        Command::Status(args) => end(commands::status(&args)),
        Command::Top(args) => end(commands::top(&args)),
        Command::Logs(args) => end(commands::logs(&args)),
        Command::Deploy(args) => end(commands::deploy(&args)),
        Command::Versions(args) => end(commands::versions(&args)),
        Command::Rollback(args) => end(commands::rollback(&args)),
        Command::Audit(args) => end(commands::audit(&args)),
        Command::Keys(args) => end(commands::keys(&args)),
        Command::Limits(args) => end(commands::limits(&args)),
        Command::Profile(args) => end(commands::profile(&args)),
        Command::Inspect(args) => end(commands::inspect(&args)),
        Command::Verify(args) => end(commands::verify(&args)),
        Command::Receipt(args) => end(commands::receipt_key(&args)),
        Command::Backup(args) => end(commands::backup(&args)),
        Command::Restore(args) => end(commands::restore(&args)),
        Command::Usage(args) => end(commands::usage(&args)),
        Command::Doctor(args) => {
            // Failures are reported as findings.
            log_to_stderr(false, log::LevelFilter::Off);
            end(commands::doctor(&args))
        }
        Command::Completions { shell } => {
            let printed = commands::print(cli::completions(shell).trim_end());
            end(printed.map(|()| 0).map_err(commands::Refusal::from))
        }
    }
}

/// Ends the process: threads that do not stop must not hold it.
fn end(result: Result<i32, commands::Refusal>) -> ! {
    std::process::exit(match result {
        Ok(code) => code,
        Err(commands::Refusal(message, code)) => {
            // Of a closed output there is nothing to say, and nobody to say it to.
            if !message.is_empty() {
                commands::complain(&message);
            }
            code
        }
    })
}

fn log_to_stderr(verbose: bool, quiet: log::LevelFilter) {
    let level = if verbose {
        log::LevelFilter::Debug
    } else {
        quiet
    };
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Error)
        .filter_module("stockade", level)
        .init();
}

fn run(args: RunArgs) -> ExitCode {
    log_to_stderr(args.verbose, log::LevelFilter::Error);
    let sandbox = match args.sandbox_options() {
        Ok(sandbox) => sandbox,
        Err(error) => return complain(&error.to_string(), 2),
    };
    // Before any other thread starts.
    stockade::initialize();
    let inspect = match args.inspect().map(listen).transpose() {
        Ok(inspect) => inspect,
        Err(error) => return complain(&error.to_string(), 1),
    };
    let backends = match &inspect {
        Some(inspect) => stockade::backends_with_inspector(inspect.inspector.clone()),
        None => stockade::backends(),
    };
    let wanted = sandbox.defaults.isolation;
    if !backends.iter().any(|(level, _)| *level == wanted) {
        return complain(&stockade::CreateError::NoBackend(wanted).to_string(), 2);
    }
    let options = HostOptions {
        script: args.script,
        args: args.args,
        sandbox,
        backends,
        inspect,
    };
    raise_descriptor_limit();
    match block_on(options) {
        Ok(code) => std::process::exit(code),
        Err(error) => complain(&error.to_string(), 1),
    }
}

fn complain(message: &str, code: u8) -> ExitCode {
    commands::complain(message);
    ExitCode::from(code)
}

/// Scripts may hold many sockets; the usual soft limit of 1,024 descriptors is for select(2).
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::debug!("cannot raise the limit of open files from {soft} to {hard}: {error}");
    }
}

/// Opens this run to debuggers, and says where each isolate can be reached.
fn listen((address, start): (SocketAddr, InspectStart)) -> Result<InspectOptions, ListenError> {
    let inspector = Inspector::listen(address, |target, url| {
        commands::note(&format!("Debugger listening on {url} ({})", target.title));
    })?;
    commands::note(&format!(
        "Open chrome://inspect, or see http://{}/json/list",
        inspector.address()
    ));
    Ok(InspectOptions { inspector, start })
}
