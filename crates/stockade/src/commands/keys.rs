//! `stockade keys`: API keys are made, shown, rotated, revoked, and carried from one store to another.

use std::io::{BufReader, IsTerminal as _, Read as _};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};
use stockade_auth::{
    ApiKey, Export, KeyFields, KeyId, KeyLimits, KeyRecord, NewKey, Pepper, Scope, Status, Store,
};
use stockade_limits::without_value;
use stockade_protocol::harmless_line;
use stockade_serve::{AdminClient, AskError};

use super::configuration::ConfigArgs;
use super::guest::Refusal;
use super::{exit, output};

/// Bytes of an import.
const MAX_IMPORT: u64 = 4 << 30;

pub(crate) const EXAMPLES: &str = "\
Examples:
  stockade keys create ci --scope read --expires 90d
  stockade keys create billing --scope shop/write --owner acme --metadata '{\"plan\":\"pro\"}'
  stockade keys create trial --scope read --rate 10/s --quota 10000/day
  stockade keys list
  stockade keys show key_0aB3dE5fG7h
  stockade keys rotate key_0aB3dE5fG7h --overlap 1d
  stockade keys revoke key_0aB3dE5fG7h
  stockade keys verify < key.txt
  stockade keys export > keys.json
  stockade keys import keys.json

The key is printed once, when it is made or rotated; the store has its keyed hash. A change is in effect in a running \
server when the command returns, on open WebSockets and streams, too.

Exit codes: 0 done, 1 it could not be done, or the key of verify is not valid, 2 bad usage.";

#[derive(Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,

    #[command(flatten)]
    place: Place,
}

// Where the keys are; a comment of documentation would become that of the command.
#[derive(Args)]
struct Place {
    #[command(flatten)]
    config: ConfigArgs,

    /// The file with the keys, where no configuration says [default: ./keys.db]
    #[arg(long, global = true, value_name = "FILE")]
    store: Option<PathBuf>,

    /// The file with the secret that keys are hashed with; it is made if it does not exist [default: ./keys.pepper]
    #[arg(long, global = true, value_name = "FILE")]
    pepper: Option<PathBuf>,

    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Make a key and print it, once
    #[command(after_help = "Example:\n  stockade keys create ci --scope read --expires 90d")]
    Create {
        /// A name for people
        name: String,

        /// What the key may do: read, write, admin, or a name that sites ask for; shop/read is read at the instance
        /// shop alone; may be given more than once
        #[arg(long, value_name = "SCOPE", value_parser = scope)]
        scope: Vec<Scope>,

        /// Whose key it is
        #[arg(long, value_name = "NAME", default_value = "")]
        owner: String,

        /// A JSON object that sites read as request.cf.apiKey.metadata
        #[arg(long, value_name = "JSON", value_parser = metadata)]
        metadata: Option<Metadata>,

        /// How many requests the key may send in a second, a minute or an hour, as 10/s, 600/m or 5000/h
        #[arg(long, value_name = "RATE")]
        rate: Option<String>,

        /// How many of them may come at once [default: those of one second, minute or hour]
        #[arg(long, value_name = "N", requires = "rate")]
        burst: Option<NonZeroU64>,

        /// How many requests the key may send in a day or a month of the calendar in UTC, as 10000/day or 1000000/month
        #[arg(long, value_name = "QUOTA")]
        quota: Option<String>,

        /// When the key ends, from now on, as 12h or 90d [default: never]
        #[arg(long, value_name = "TIME", value_parser = lifetime)]
        expires: Option<Duration>,
    },
    /// List all keys
    #[command(after_help = "Example:\n  stockade keys list --owner acme")]
    List {
        /// Only keys of this owner
        #[arg(long, value_name = "NAME")]
        owner: Option<String>,
    },
    /// Show one key
    #[command(after_help = "Example:\n  stockade keys show key_0aB3dE5fG7h")]
    Show {
        /// The key's id
        #[arg(value_parser = id)]
        id: KeyId,
    },
    /// Give a key a new text and print it, once
    #[command(after_help = "Example:\n  stockade keys rotate key_0aB3dE5fG7h --overlap 1d")]
    Rotate {
        /// The key's id
        #[arg(value_parser = id)]
        id: KeyId,

        /// How long the text before stays valid, as 1h; 0s ends it at once
        #[arg(long, value_name = "TIME", value_parser = lifetime, default_value = "1d")]
        overlap: Duration,
    },
    /// End a key for ever
    #[command(after_help = "Example:\n  stockade keys revoke key_0aB3dE5fG7h")]
    Revoke {
        /// The key's id
        #[arg(value_parser = id)]
        id: KeyId,
    },
    /// State whether a key is valid; it comes by standard input, so that no list of processes shows it
    #[command(after_help = "Example:\n  stockade keys verify < key.txt")]
    Verify,
    /// Print all keys with their hashes, to be imported elsewhere
    #[command(after_help = "Example:\n  stockade keys export > keys.json")]
    Export,
    /// Take the keys of an export that was made with the same pepper: all of them or none
    #[command(after_help = "Example:\n  stockade keys import keys.json --replace")]
    Import {
        /// The export; `-` for standard input
        file: PathBuf,

        /// Keys that are here already take the form that they have in the export
        #[arg(long)]
        replace: bool,
    },
}

type Metadata = Map<String, Value>;

fn scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text).map_err(|error| error.to_string())
}

fn metadata(text: &str) -> Result<Metadata, String> {
    serde_json::from_str(text).map_err(|error| format!("expected a JSON object: {error}"))
}

fn lifetime(text: &str) -> Result<Duration, String> {
    stockade_config::time(text)
        .ok_or_else(|| "expected a time with its unit, as 12h or 90d".to_owned())
}

fn id(text: &str) -> Result<KeyId, String> {
    KeyId::parse(text).ok_or_else(|| {
        "expected the id of a key, as key_0aB3dE5fG7h; `stockade keys list` shows all".to_owned()
    })
}

fn failed(error: &dyn std::fmt::Display) -> Refusal {
    Refusal(error.to_string(), exit::FAILED)
}

/// The store, and the control socket of the server that may use it.
struct Opened {
    store: Store,
    control: PathBuf,
}

impl Place {
    /// Finds the store: what the options say, then what the configuration says, then the default.
    fn open(&self) -> Result<Opened, Refusal> {
        let (mut path, mut pepper) = (PathBuf::from("keys.db"), PathBuf::from("keys.pepper"));
        let (mut variable, mut control) = (None, PathBuf::from("stockade.sock"));
        if let Some(configured) = self.config.read()? {
            let keys = configured.config.api_keys;
            (path, pepper, variable) = (keys.path, keys.pepper, keys.pepper_variable);
            control = configured.config.control;
        }
        if let Some(own) = &self.store {
            path.clone_from(own);
        }
        if let Some(own) = &self.pepper {
            pepper.clone_from(own);
            variable = None;
        }
        let pepper = Pepper::load(&pepper, variable.as_deref()).map_err(|error| failed(&error))?;
        let store = Store::open(&path, pepper).map_err(|error| failed(&error))?;
        Ok(Opened { store, control })
    }
}

/// Makes a running server read what was changed, and waits until that is in effect. No server is fine.
fn refresh_server(control: &Path) -> Result<(), Refusal> {
    if !control.exists() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    let client = AdminClient::at_socket(control);
    let refreshing = client.json::<Value>(Method::POST, "/v1/keys/refresh", None);
    match runtime.block_on(refreshing) {
        Ok(_) | Err(AskError::NoServer { .. }) => Ok(()),
        Err(error) => Err(unseen(&error.to_string())),
    }
}

fn unseen(why: &str) -> Refusal {
    let message = format!(
        "the change is stored, but the running server did not confirm it: {why}\n  fix: read its log; it reads the store again by itself, or after a restart"
    );
    Refusal(message, exit::FAILED)
}

/// Runs the command and gives the exit code.
pub(crate) fn keys(args: &KeysArgs) -> Result<i32, Refusal> {
    let Opened { mut store, control } = args.place.open()?;
    let (json, now) = (args.place.json, SystemTime::now());
    let refused = |error: stockade_auth::StoreError| failed(&error);
    match &args.command {
        KeysCommand::Create {
            name,
            scope,
            owner,
            metadata,
            rate,
            burst,
            quota,
            expires,
        } => {
            let limits = KeyLimits::parse(rate.as_deref(), *burst, quota.as_deref());
            let limits = limits.map_err(|error| Refusal(error.to_string(), exit::USAGE))?;
            let fields = KeyFields {
                name: name.clone(),
                owner: owner.clone(),
                scopes: scope.clone(),
                metadata: metadata.clone().unwrap_or_default(),
                expires: expires.map(|after| seconds(now + after)),
                limits,
            };
            let made = store.create(&fields, now).map_err(refused)?;
            print_new(&made, json)?;
            refresh_server(&control)?;
        }
        KeysCommand::Rotate { id, overlap } => {
            let made = store.rotate(*id, *overlap, now).map_err(refused)?;
            print_new(&made, json)?;
            refresh_server(&control)?;
        }
        KeysCommand::Revoke { id } => {
            let record = store.revoke(*id, now).map_err(refused)?;
            refresh_server(&control)?;
            if json {
                print_json(&record_json(&record, now))?;
            } else {
                output::print(&format!("revoked {} ({})", record.id, shown(&record.name)))?;
            }
        }
        KeysCommand::List { owner } => {
            let records = store.list(owner.as_deref()).map_err(refused)?;
            if json {
                let records = records.iter().map(|record| record_json(record, now));
                print_json(&records.collect())?;
            } else {
                output::print(&table(&records, now))?;
            }
        }
        KeysCommand::Show { id } => {
            let record = store.show(*id).map_err(refused)?;
            print_record(&record, now, json)?;
        }
        KeysCommand::Verify => return verify(&store, now, json),
        KeysCommand::Export => {
            let export = store.export().map_err(refused)?;
            print_json(&serde_json::to_value(&export).map_err(|error| failed(&error))?)?;
        }
        KeysCommand::Import { file, replace } => {
            let export = read_export(file)?;
            let report = store.import(&export, *replace).map_err(refused)?;
            refresh_server(&control)?;
            if json {
                print_json(&json!(report))?;
            } else {
                let text = format!("added {}, replaced {}", report.added, report.replaced);
                output::print(&text)?;
            }
        }
    }
    Ok(exit::DONE)
}

/// Reads a key from standard input and says what the store knows of it.
fn verify(store: &Store, now: SystemTime, json: bool) -> Result<i32, Refusal> {
    if std::io::stdin().is_terminal() {
        output::print_diagnostics("the key, and then Enter and Ctrl-D:");
    }
    let mut text = String::new();
    let read = std::io::stdin().take(4096).read_to_string(&mut text);
    read.map_err(|error| failed(&format!("cannot read a key from standard input: {error}")))?;
    let known = match ApiKey::parse(text.trim()) {
        Ok(key) => store.verify(&key, now).map_err(|error| failed(&error))?,
        Err(error) if !json => return Err(failed(&format!("this is no API key: {error}"))),
        Err(_) => None,
    };
    let active = known
        .as_ref()
        .is_some_and(|known| known.status == Status::Active);
    if json {
        let status = known
            .as_ref()
            .map_or("unknown", |known| known.status.word());
        let record = known.as_ref().map(|known| record_json(&known.record, now));
        print_json(&json!({ "valid": active, "status": status, "key": record }))?;
    } else {
        let Some(known) = &known else {
            return Err(failed(&"the store does not know this key"));
        };
        let record = &known.record;
        let text = format!(
            "{}: {} ({})",
            known.status.word(),
            record.id,
            shown(&record.name)
        );
        output::print(&text)?;
    }
    Ok(if active { exit::DONE } else { exit::FAILED })
}

fn read_export(file: &Path) -> Result<Export, Refusal> {
    let named = |error: &dyn std::fmt::Display| failed(&format!("{}: {error}", file.display()));
    let from: Box<dyn std::io::Read> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(file).map_err(|error| named(&error))?)
    };
    let from = BufReader::with_capacity(1 << 16, from.take(MAX_IMPORT));
    // It has the hashes of keys.
    serde_json::from_reader(from).map_err(|error| {
        let why = without_value(&error);
        named(&format_args!(
            "{why}\n  fix: take what `stockade keys export` prints"
        ))
    })
}

/// A key that was just made: alone on standard output, so that a script can take it.
fn print_new(made: &NewKey, json: bool) -> Result<(), Refusal> {
    let record = &made.record;
    if json {
        let mut value = record_json(record, SystemTime::now());
        value["key"] = made.key.reveal().into();
        return print_json(&value);
    }
    output::print(made.key.reveal())?;
    output::print_diagnostics(&format!(
        "{} ({}): keep it now, it is not shown again",
        record.id,
        shown(&record.name)
    ));
    if record.scopes.is_empty() {
        output::print_diagnostics(
            "warning: the key has no scope, so it is let in nowhere; make one with --scope",
        );
    }
    Ok(())
}

fn print_json(value: &Value) -> Result<(), Refusal> {
    Ok(output::value(&value.to_string())?)
}

fn print_record(record: &KeyRecord, now: SystemTime, json: bool) -> Result<(), Refusal> {
    if json {
        return print_json(&record_json(record, now));
    }
    let mut lines = vec![
        format!("id        {}", record.id),
        format!("name      {}", shown(&record.name)),
        format!("owner     {}", shown(&record.owner)),
        format!("status    {}", record.status(seconds(now)).word()),
        format!("scopes    {}", record.scopes.join(" ")),
        format!(
            "metadata  {}",
            shown(&Value::Object(record.metadata.clone()).to_string())
        ),
        format!("limits    {}", limits(record)),
        format!("created   {}", time(Some(record.created))),
        format!("expires   {}", time(record.expires)),
        format!("revoked   {}", time(record.revoked)),
        format!("last use  {}", time(record.last_used)),
    ];
    for secret in &record.secrets {
        let ends = secret
            .ends
            .map_or(String::new(), |ends| format!(", ends {}", time(Some(ends))));
        let hint = shown(&secret.hint);
        lines.push(format!(
            "text      {hint}… of {}{ends}",
            time(Some(secret.created))
        ));
    }
    Ok(output::print(&lines.join("\n"))?)
}

/// The limits of a key on one line, or `-`.
fn limits(record: &KeyRecord) -> String {
    let written = json!(record.limits);
    let parts = ["rate", "burst", "quota"].into_iter().filter_map(|name| {
        let value = written.get(name)?;
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        Some(format!("{name} {value}"))
    });
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() {
        "-".to_owned()
    } else {
        parts.join(", ")
    }
}

fn record_json(record: &KeyRecord, now: SystemTime) -> Value {
    let mut value = json!(record);
    value["status"] = record.status(seconds(now)).word().into();
    value
}

/// All keys as a table with aligned columns.
fn table(records: &[KeyRecord], now: SystemTime) -> String {
    let head = [
        "id", "name", "owner", "status", "scopes", "expires", "last use",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(records.iter().map(|record| {
        [
            record.id.to_string(),
            shown(&record.name),
            shown(&record.owner),
            record.status(seconds(now)).word().to_owned(),
            record.scopes.join(" "),
            time(record.expires),
            time(record.last_used),
        ]
        .to_vec()
    }));
    output::table(&rows)
}

/// Text of an import or a command line, without what steers a terminal.
fn shown(text: &str) -> String {
    harmless_line(text, 8192)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A time in UTC to the second, or `-`.
fn time(seconds: Option<u64>) -> String {
    let time = seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    // Beyond the year 9999 there is no such text.
    let known = time.filter(|time| seconds < Some(253_402_300_800) && *time >= UNIX_EPOCH);
    known.map_or("-".to_owned(), |time| {
        humantime::format_rfc3339_seconds(time).to_string()
    })
}
