//! What the commands have in common: a guest made of one module, under the limits of the command line.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value};
use stockade::{ConsoleMode, IsolateOptions, Isolation, ModuleFiles, SandboxOptions};

use super::exit;

/// The wall around a guest of these commands where the command line names none. Where it cannot be
/// built, they say so and run nothing.
fn default_isolation() -> Isolation {
    Isolation::Container
}

/// Limits and wall of the guest.
#[derive(Args)]
pub(crate) struct GuestArgs {
    /// The wall around the guest: thread, process or container
    #[arg(long, value_name = "LEVEL", default_value = default_isolation().name())]
    isolation: String,

    /// CPU time of one activation in milliseconds, 0 for no limit [default: 500]
    #[arg(long, value_name = "MS")]
    cpu_limit: Option<f64>,

    /// Memory in megabytes, 0 for no limit [default: 0]
    #[arg(long, value_name = "MB")]
    memory_limit: Option<f64>,

    /// Elapsed time of one activation in milliseconds, 0 for no limit [default: 10 x the CPU limit,
    /// at least 5000]
    #[arg(long, value_name = "MS")]
    wall_limit: Option<f64>,

    /// Say what the runtime does
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

/// A message for the user and the exit code.
pub(crate) struct Refusal(pub(crate) String, pub(crate) i32);

impl GuestArgs {
    /// A sandbox whose defaults are those of the command line, with the module of this file.
    pub(crate) fn sandbox(&self, module: &Path) -> Result<(SandboxOptions, ModuleFiles), Refusal> {
        let mut options = self
            .options()
            .map_err(|error| Refusal(error.to_string(), exit::USAGE))?;
        let files =
            ModuleFiles::read(module).map_err(|error| Refusal(error.to_string(), exit::FAILED))?;
        options.modules = files.modules.clone();
        options.main = Some(files.entry.clone());
        let sandbox = SandboxOptions {
            warm: 0,
            defaults: options,
            ..SandboxOptions::default()
        };
        Ok((sandbox, files))
    }

    fn options(&self) -> Result<IsolateOptions, stockade::OptionsError> {
        let mut json = Map::new();
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                json.insert(key.to_owned(), value);
            }
        };
        set("isolation", Some(Value::from(self.isolation.as_str())));
        set("cpuLimitMs", self.cpu_limit.map(Value::from));
        set("memoryLimitMb", self.memory_limit.map(Value::from));
        set("wallLimitMs", self.wall_limit.map(Value::from));
        let defaults = IsolateOptions {
            console: ConsoleMode::Event,
            ..IsolateOptions::default()
        };
        defaults.with_json(&json)
    }
}

/// A number of milliseconds on the command line; 0 means none.
pub(crate) fn milliseconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|ms| (0.0..=1e12).contains(ms))
        .map(|ms: f64| Duration::from_secs_f64(ms / 1e3))
        .ok_or_else(|| "expected a number of milliseconds from 0 to 1e12".to_owned())
}

/// Done with the exit code when the user asks for the end.
pub(crate) fn interrupted() -> std::io::Result<impl Future<Output = i32>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        // By convention 128 and the signal's number.
        tokio::select! {
            _ = interrupt.recv() => 130,
            _ = terminate.recv() => 143,
        }
    })
}
