//! What the commands have in common: a guest made of one module, under the limits of the command line.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use stockade::run::{Files, FilesError, GuestFiles, MAX_FILE_BYTES};
use stockade::{
    ConsoleMode, GrantError, Grants, IsolateOptions, Isolation, ModuleFiles, OptionsError,
    SandboxOptions,
};
use stockade_limits::MAX_NAME_LEN;
use stockade_transpile::open_stream;

use super::exit;
use super::file::read_bytes;
use super::units::{limit_of_memory, limit_of_time};

/// The isolation of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// A thread of this process: for code that you trust not to carry an exploit for V8
    Thread,
    /// A process without privileges, files and network
    Process,
    /// The same in its own namespaces, on an empty root
    Container,
    /// Refused: not in this version
    #[value(hide = true)]
    Vm,
}

impl Level {
    /// The level as an option of an isolate.
    pub(crate) fn isolation(self) -> Isolation {
        match self {
            Self::Thread => Isolation::Thread,
            Self::Process => Isolation::Process,
            Self::Container => Isolation::Container,
            Self::Vm => Isolation::Vm,
        }
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        self.isolation().name()
    }
}

/// Limits and isolation of the guest.
#[derive(Args)]
pub(crate) struct GuestArgs {
    /// The level of isolation. A level that does not work here is refused; `stockade doctor` says why
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Level::Container)]
    pub(crate) isolation: Level,

    /// CPU time of one activation, as 500ms or 2s; a bare number is milliseconds, 0 is no limit [default: 500ms]
    #[arg(long, value_name = "TIME", value_parser = limit_of_time)]
    cpu_limit: Option<f64>,

    /// CPU time over the guest's whole life, as 500ms or 2s; a bare number is milliseconds, 0 is no limit
    #[arg(long, value_name = "TIME", value_parser = limit_of_time, default_value = "0")]
    cpu_total: f64,

    /// Memory, as 64mb or 1gb; a bare number is megabytes, 0 is no limit
    #[arg(long, value_name = "SIZE", value_parser = limit_of_memory, default_value = "128mb")]
    memory_limit: f64,

    /// Elapsed time of one activation, as 500ms or 2s; a bare number is milliseconds, 0 is no limit [default: 10 x
    /// the CPU limit, at least 5s]
    #[arg(long, value_name = "TIME", value_parser = limit_of_time)]
    wall_limit: Option<f64>,

    /// Grant something by name, as NAMES=dns:{names: [example.com]}; the guest finds it in NETWORK.env
    #[arg(long, value_name = "NAME=KIND:{...}")]
    grant: Vec<String>,

    /// Let fetch reach a host, as api.example.com, *.example.com, localhost:8080 or 10.0.0.0/8; or by a rule, as
    /// {hosts: [api.example.com], proxy: "socks5://127.0.0.1:1080"}
    #[arg(long, value_name = "HOST")]
    allow_fetch: Vec<String>,

    /// Let the guest read a folder, as NETWORK.env.FILES; NAME=FOLDER gives it another name
    #[arg(long, value_name = "FOLDER")]
    allow_read: Vec<String>,

    /// Set a variable of NETWORK.env
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Log what the runtime does
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

/// A guest's module, the sandbox that runs it, and what it is granted.
pub(crate) struct Guests {
    pub(crate) sandbox: SandboxOptions,
    pub(crate) grants: Grants,
    pub(crate) files: ModuleFiles,
    /// What `--file` gave: its folder is there as long as this is.
    pub(crate) added: GuestFiles,
}

/// A message for the user and the exit code.
pub(crate) struct Refusal(pub(crate) String, pub(crate) i32);

impl GuestArgs {
    /// A sandbox whose defaults are those of the command line, with the module of this file.
    pub(crate) fn sandbox(&self, module: &Path, console: ConsoleMode) -> Result<Guests, Refusal> {
        self.sandbox_with(|| read(module), &[], console)
    }

    /// As [`GuestArgs::sandbox`], with these modules, and the files `given` as `NAME=PATH`.
    pub(crate) fn sandbox_with(
        &self,
        modules: impl FnOnce() -> Result<ModuleFiles, Refusal>,
        given: &[String],
        console: ConsoleMode,
    ) -> Result<Guests, Refusal> {
        let mut options = self
            .options(console)
            .map_err(|error| Refusal(error.to_string(), exit::USAGE))?;
        for given in &self.env {
            let (name, value) = named(given, "--env", "NAME=VALUE")?;
            options.env.insert(name.to_owned(), Value::from(value));
        }
        let added = added_files(given)?;
        let failed = |error: FilesError| Refusal(error.to_string(), exit::USAGE);
        let added = GuestFiles::store(&added).map_err(failed)?;
        let grants = added.grant(self.grants()?).map_err(failed)?;
        let mut files = modules()?;
        for (name, text) in &added.modules {
            if files.modules.insert(name.clone(), text.clone()).is_some() {
                let message = format!("--file {name}: the guest has a module of this name already");
                return Err(Refusal(message, exit::USAGE));
            }
        }
        options.modules = files.modules.clone();
        options.name = Some(files.entry.clone()).filter(|name| name.len() <= MAX_NAME_LEN);
        options.main = Some(files.entry.clone());
        let sandbox = SandboxOptions {
            warm: 0,
            defaults: options,
            ..SandboxOptions::default()
        };
        Ok(Guests {
            sandbox,
            grants,
            files,
            added,
        })
    }

    /// Whether the command line limits the CPU time of an activation.
    pub(crate) fn has_cpu_limit(&self) -> bool {
        self.cpu_limit.is_some()
    }

    /// What `--grant`, `--allow-read` and `--allow-fetch` say: each grant's text by its name, and the hosts and rules.
    pub(crate) fn granted(&self) -> Result<(BTreeMap<String, String>, &[String]), Refusal> {
        Ok((self.grant_texts()?.into_iter().collect(), &self.allow_fetch))
    }

    /// The names of grants with their texts, as `{KIND: {…}}`.
    fn grant_texts(&self) -> Result<Vec<(String, String)>, Refusal> {
        let mut all: Vec<(String, String)> = Vec::new();
        for given in &self.grant {
            let (name, grant) = named(given, "--grant", "NAME=KIND:{...}")?;
            let (kind, section) = grant.split_once(':').unwrap_or((grant, ""));
            let section = if section.trim().is_empty() {
                "{}"
            } else {
                section
            };
            let kind = Value::from(kind.trim());
            all.push((name.to_owned(), format!("{{{kind}: {section}}}")));
        }
        for given in &self.allow_read {
            let (name, folder) = match given.split_once('=') {
                Some((name, folder)) if !name.contains(['/', '.']) => (name, folder),
                _ => ("FILES", given.as_str()),
            };
            all.push((
                name.to_owned(),
                json!({ "files": { "path": folder } }).to_string(),
            ));
        }
        Ok(all)
    }

    /// What `--grant`, `--allow-read` and `--allow-fetch` grant.
    fn grants(&self) -> Result<Grants, Refusal> {
        let usage = |error: GrantError| Refusal(error.to_string(), exit::USAGE);
        let all = self.grant_texts()?;
        let mut text = Vec::new();
        for (index, (name, grant)) in all.iter().enumerate() {
            if all.iter().take(index).any(|(other, _)| other == name) {
                let message = format!(
                    "two grants are both called {name}: --grant and --allow-read take a name, as {name}2=..."
                );
                return Err(Refusal(message, exit::USAGE));
            }
            text.push(format!("{}: {grant}", Value::from(name.as_str())));
        }
        let text = format!("{{{}}}", text.join(", "));
        let grants = Grants::from_json(&text, Path::new(".")).map_err(usage)?;
        if self.allow_fetch.is_empty() {
            return Ok(grants);
        }
        grants.allow_fetch(&self.allow_fetch).map_err(usage)
    }

    fn options(&self, console: ConsoleMode) -> Result<IsolateOptions, OptionsError> {
        let mut json = Map::new();
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                json.insert(key.to_owned(), value);
            }
        };
        set("isolation", Some(Value::from(self.isolation.name())));
        set("cpuLimitMs", self.cpu_limit.map(Value::from));
        set("cpuTotalMs", Some(Value::from(self.cpu_total)));
        set("memoryLimitMb", Some(Value::from(self.memory_limit)));
        set("wallLimitMs", self.wall_limit.map(Value::from));
        let defaults = IsolateOptions {
            console,
            ..IsolateOptions::default()
        };
        defaults.with_json(&json)
    }
}

/// Reads the files that are given as `NAME=PATH`.
fn added_files(given: &[String]) -> Result<Files, Refusal> {
    let mut files = Files::new();
    for given in given {
        let (name, path) = named(given, "--file", "NAME=PATH")?;
        let read = read_bytes(Path::new(path), MAX_FILE_BYTES as u64);
        let content = read.map_err(|error| {
            let message = format!("cannot read '{path}' for --file {name}: {error}");
            Refusal(message, exit::FAILED)
        })?;
        if files.insert(name.to_owned(), content).is_some() {
            return Err(Refusal(format!("--file gives {name} twice"), exit::USAGE));
        }
    }
    Ok(files)
}

/// The two sides of `NAME=VALUE`.
fn named<'a>(given: &'a str, flag: &str, form: &str) -> Result<(&'a str, &'a str), Refusal> {
    given.split_once('=').ok_or_else(|| {
        let message = format!("{flag} takes {form}, and {given:?} has no =");
        Refusal(message, exit::USAGE)
    })
}

/// Reads a module: a file, a folder, or `-` and what else is read once, which imports out of the working
/// directory.
pub(crate) fn read(module: &Path) -> Result<ModuleFiles, Refusal> {
    let shown = module.display().to_string();
    let files = match open_stream(module) {
        None => ModuleFiles::read(module),
        Some(Ok(stream)) => ModuleFiles::read_stream(&shown, stream, Path::new(".")),
        Some(Err(error)) => {
            let message = format!("cannot read '{shown}': {error}");
            return Err(Refusal(message, exit::FAILED));
        }
    };
    files.map_err(|error| Refusal(error.to_string(), exit::FAILED))
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
