//! `stockade serve` and what belongs to it: `check`, `schema`, `reload`.

use std::path::{Path, PathBuf};

use clap::Args;
use http::Method;
use stockade_config::Config;
use stockade_grants::Finding;
use stockade_serve::{AdminClient, AskError, Checked, ServeError, ServeOptions, Stopped};

use super::guest::Refusal;
use super::{exit, meant, output};

/// Where commands look for the configuration unless it is named.
pub(super) const CONFIG: &str = "stockade.yaml";

/// Where a server's control socket lies unless its configuration says otherwise: next to the configuration.
const CONTROL: &str = "stockade.sock";

pub(crate) const SERVE_EXAMPLES: &str = "\
Examples:
  stockade serve                         what ./stockade.yaml says
  stockade serve examples/serve/stockade.yaml
  stockade serve --threads 1             leave more of a small machine to the guests
  stockade check --files stockade.yaml   whether that would work
  stockade reload                        make the running server read its file again

SIGHUP reloads the file and opens the log once more, SIGTERM and SIGINT stop: requests that run may end until \
drain_timeout, a second signal stops at once.

Exit codes: 0 stopped and nothing was cut short, 1 it could \
not start or something was cut short, 2 errors in the configuration.";

pub(crate) const CHECK_EXAMPLES: &str = "\
Examples:
  stockade check stockade.yaml
  stockade check --json stockade.yaml    for editors and CI
  stockade check --files stockade.yaml   read code, certificates and secrets, too; compile the code
  stockade check --live stockade.yaml    also ask the servers that grants name whether the grants work

All errors are reported together. Exit codes: 0 no errors, 1 a server of a grant does not let it work (--live), 2 errors.";

pub(crate) const SCHEMA_EXAMPLES: &str = "\
Example:
  stockade schema > stockade.schema.json

Editors complete and check a file that begins with
  # yaml-language-server: $schema=./stockade.schema.json";

pub(crate) const RELOAD_EXAMPLES: &str = "\
Examples:
  stockade reload
  stockade reload /etc/stockade/stockade.yaml

Waits until the new configuration is in use. Exit codes: 0 it is, 1 it is not and the old one stays in \
use, 2 bad usage.";

#[derive(Args)]
pub(crate) struct ServeArgs {
    /// The configuration file
    #[arg(default_value = CONFIG, value_parser = meant::configuration())]
    config: PathBuf,

    /// Threads that serve clients; one for each processor unless given. Guests have their own
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// The configuration file
    #[arg(default_value = CONFIG, value_parser = meant::configuration())]
    config: PathBuf,

    /// Print a JSON object with all errors and warnings
    #[arg(long)]
    json: bool,

    /// Also read the files it names: code, assets, secrets, certificates
    #[arg(long)]
    files: bool,

    /// The same; then ask the servers that `grants` name whether they answer and let the instance in
    #[arg(long)]
    live: bool,
}

#[derive(Args)]
pub(crate) struct ReloadArgs {
    /// The configuration file of the server
    #[arg(default_value = CONFIG, value_parser = meant::configuration())]
    config: PathBuf,

    /// The server's control socket, where the configuration does not say
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
}

/// What the server answers to a reload.
#[derive(serde::Deserialize)]
struct Reloaded {
    message: String,
}

fn failed(error: &dyn std::fmt::Display) -> Refusal {
    Refusal(error.to_string(), exit::FAILED)
}

/// Runs `serve` and gives the exit code.
pub(crate) fn serve(args: ServeArgs) -> Result<i32, Refusal> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or(cores, usize::from);
    let mut builder = if threads == 1 {
        // Nothing has to be handed from thread to thread, which costs more than the rest of a short request.
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    let runtime = builder
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    let options = ServeOptions {
        config: args.config,
        backends: stockade::worker_backends_driven_by(runtime.handle()),
        v8: stockade::V8_VERSION,
        threads: cores,
        say: output::say,
        development: None,
    };
    let stopped = runtime.block_on(stockade_serve::serve(options));
    // What still runs does not matter any more.
    runtime.shutdown_background();
    match stopped {
        Ok(Stopped::Drained) => Ok(exit::DONE),
        Ok(Stopped::Cut) => Ok(exit::FAILED),
        Err(error) => Err(refusal(&error)),
    }
}

fn refusal(error: &ServeError) -> Refusal {
    let code = match error {
        ServeError::Config(_) | ServeError::Routes(_) => exit::USAGE,
        _ => exit::FAILED,
    };
    Refusal(error.to_string(), code)
}

/// Runs `check` and gives the exit code.
pub(crate) fn check(args: &CheckArgs) -> Result<i32, Refusal> {
    let files = args.files || args.live;
    let (checked, errors) = if files {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        match runtime.block_on(stockade_serve::check(&args.config, args.live)) {
            Ok(checked) => (checked, Vec::new()),
            Err(errors) => (Checked::default(), errors),
        }
    } else {
        match Config::read(&args.config) {
            Ok(loaded) => {
                let checked = Checked {
                    warnings: loaded.warnings,
                    ..Checked::default()
                };
                (checked, Vec::new())
            }
            Err(diagnostics) => (Checked::default(), vec![ServeError::Config(diagnostics)]),
        }
    };
    let bad = !errors.is_empty();
    let fails = checked.live.iter().any(|(_, finding)| finding.is_error);
    if args.json {
        output::say(&as_json(&args.config, &checked, &errors).to_string());
    } else {
        for error in &errors {
            match error {
                // Each with its place.
                ServeError::Config(diagnostics) => {
                    output::print_diagnostics(&diagnostics.to_string())
                }
                other => output::complain(&other.to_string()),
            }
        }
        for warning in &checked.warnings {
            output::print_diagnostics(&warning.to_string());
        }
        for warning in &checked.file_warnings {
            output::print_diagnostics(&format!("warning: {warning}"));
        }
        for (place, finding) in &checked.live {
            output::print_diagnostics(&format!("{}: {place}: {}", severity(finding), finding.what));
        }
        if !bad && !fails {
            let more = if files {
                ""
            } else {
                "; --files also checks the files that it names"
            };
            output::say(&format!("{}: no errors{more}", args.config.display()));
        }
    }
    Ok(match (bad, fails) {
        (true, _) => exit::USAGE,
        (false, true) => exit::FAILED,
        (false, false) => exit::DONE,
    })
}

fn severity(finding: &Finding) -> &'static str {
    if finding.is_error { "error" } else { "warning" }
}

fn as_json(path: &Path, checked: &Checked, errors: &[ServeError]) -> serde_json::Value {
    let mut diagnostics: Vec<serde_json::Value> = Vec::new();
    let mut more = 0;
    for error in errors {
        match error {
            ServeError::Config(of_file) => {
                more += of_file.more;
                let each = of_file.list.iter();
                diagnostics
                    .extend(each.filter_map(|diagnostic| serde_json::to_value(diagnostic).ok()));
            }
            other => diagnostics.push(of_the_whole(path, "error", &other.to_string())),
        }
    }
    let each = checked.warnings.iter();
    diagnostics.extend(each.filter_map(|diagnostic| serde_json::to_value(diagnostic).ok()));
    let each = checked.file_warnings.iter();
    diagnostics.extend(each.map(|warning| of_the_whole(path, "warning", warning)));
    let live = checked.live.iter();
    diagnostics.extend(live.map(|(place, finding)| {
        let what = format!("{place}: {}", finding.what);
        of_the_whole(path, severity(finding), &what)
    }));
    let fails = checked.live.iter().any(|(_, finding)| finding.is_error);
    serde_json::json!({ "ok": errors.is_empty() && !fails, "mistakes": diagnostics, "more": more })
}

/// Something that stands at no place of the configuration's text.
fn of_the_whole(path: &Path, severity: &str, what: &str) -> serde_json::Value {
    serde_json::json!({
        "severity": severity,
        "file": path.display().to_string(),
        "line": 0,
        "column": 0,
        "what": what,
    })
}

/// Prints the JSON Schema.
pub(crate) fn schema() -> Result<i32, Refusal> {
    let text = serde_json::to_string_pretty(&stockade_config::schema());
    output::print(&text.map_err(|error| failed(&error))?)?;
    Ok(exit::DONE)
}

/// The control socket of a server with this configuration. Where the configuration has errors now, or is gone, it is
/// probably at its default place; the server is asked all the same and reports the errors.
///
/// # Errors
/// When neither the configuration nor a socket next to it is there.
pub(super) fn control(config: &Path) -> Result<PathBuf, Refusal> {
    if let Ok(loaded) = Config::read(config) {
        return Ok(loaded.config.control);
    }
    let socket = config.with_file_name(CONTROL);
    if config.exists() || socket.exists() {
        return Ok(socket);
    }
    let message = format!(
        "there is no configuration {}, and no server listens on {}\n  \
         fix: start `stockade serve`, or name the configuration file of a server that runs",
        config.display(),
        socket.display()
    );
    Err(Refusal(message, exit::FAILED))
}

/// Runs `reload` and gives the exit code.
pub(crate) fn reload(args: &ReloadArgs) -> Result<i32, Refusal> {
    let control = match &args.control {
        Some(path) => path.clone(),
        None => control(&args.config)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    let client = AdminClient::at_socket(&control);
    let reloading = client.json::<Reloaded>(Method::POST, "/v1/reload", None);
    match runtime.block_on(reloading) {
        Ok(reloaded) => {
            output::say(&reloaded.message);
            Ok(exit::DONE)
        }
        Err(AskError::Refused { detail, .. }) => Err(failed(&format!(
            "not reloaded, the old configuration stays in use:\n{detail}"
        ))),
        Err(error) => Err(failed(&error)),
    }
}
