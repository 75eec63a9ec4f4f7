//! `stockade audit`: verifies, searches and follows an audit log.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::Value;
use stockade_audit::{AuditError, Filter, Line, Lines, PublicKey, verify};
use stockade_protocol::harmless;

use super::configuration::{ConfigArgs, Configured};
use super::guest::Refusal;
use super::{exit, output};

/// Where the log is, unless it is named by the command line or a configuration.
const FOLDER: &str = "audit";

/// Bytes of one field that a line for people has.
const MAX_SHOWN: usize = 200;

pub(crate) const AUDIT_EXAMPLES: &str = "\
Examples:
  stockade audit verify                           whether the log of ./stockade.yaml, or ./audit, is what the server wrote
  stockade audit verify --config /etc/stockade/stockade.yaml
  stockade audit verify --key ops.pub /srv/audit  by a public key that was kept elsewhere
  stockade audit search --instance shop --since 2h
  stockade audit search --event egress_refused --json | jq .target
  stockade audit tail -f                          the last lines, and what comes

Exit codes: 0 the log is whole, or lines were printed; 1 the log is not what was written; 2 bad usage.";

#[derive(Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,

    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Check that no line was changed, removed, added or moved
    Verify(VerifyArgs),
    /// Print the lines that match
    Search(SearchArgs),
    /// Print the last lines
    Tail(TailArgs),
}

#[derive(Args)]
struct VerifyArgs {
    #[command(flatten)]
    place: Place,

    /// The public key to verify with. Without it, the file key.pub of the folder is taken, which anybody who can write there can replace
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,

    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct SearchArgs {
    #[command(flatten)]
    place: Place,

    #[command(flatten)]
    wanted: Wanted,
}

#[derive(Args)]
struct TailArgs {
    #[command(flatten)]
    place: Place,

    /// Wait for more lines, until Ctrl-C
    #[arg(short, long)]
    follow: bool,

    /// How many lines to begin with
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    lines: u32,

    #[command(flatten)]
    wanted: Wanted,
}

#[derive(Args)]
struct Wanted {
    /// Only these events; may be repeated
    #[arg(long = "event", value_name = "NAME")]
    events: Vec<String>,

    /// Only lines of this instance
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,

    /// Only lines from then on: a time such as 2026-11-30T12:00:00Z, or how long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<SystemTime>,

    /// Only lines until then
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<SystemTime>,

    /// Only lines that contain this text
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,

    /// Print the lines as they were written
    #[arg(long)]
    json: bool,
}

// Where the log is; a comment of documentation would become that of the command.
#[derive(Args)]
struct Place {
    /// The log's folder [default: what the configuration says, or ./audit without a configuration]
    folder: Option<PathBuf>,
}

impl Place {
    /// Finds the folder: what the command line says, then what the configuration says, then the default.
    fn find(&self, config: &ConfigArgs) -> Result<PathBuf, Refusal> {
        if let Some(folder) = &self.folder {
            if config.is_named() {
                let message =
                    "the folder and --config may name two logs\n  fix: leave out one of them";
                return Err(Refusal(message.to_owned(), exit::USAGE));
            }
            return Ok(folder.clone());
        }
        let Some(Configured { path, config }) = config.read()? else {
            return Ok(PathBuf::from(FOLDER));
        };
        config.audit.map(|audit| audit.folder).ok_or_else(|| {
            let message = format!(
                "{} has no audit log\n  fix: add `audit: {{ folder: ./audit }}` to it, or name the folder of the log",
                path.display()
            );
            Refusal(message, exit::USAGE)
        })
    }
}

impl Wanted {
    fn filter(&self) -> Filter {
        Filter {
            events: self.events.clone(),
            instance: self.instance.clone(),
            since: self.since,
            until: self.until,
            text: self.text.clone(),
        }
    }
}

fn moment(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return (SystemTime::now().checked_sub(ago))
            .ok_or_else(|| "that is too long ago".to_owned());
    }
    humantime::parse_rfc3339_weak(text).map_err(|_| {
        "write a time such as 2026-11-30T12:00:00Z, or how long ago, such as 2h".to_owned()
    })
}

/// What is wrong with a log, or that there is none.
fn why(folder: &Path, error: &AuditError) -> String {
    let is_missing = match error {
        AuditError::File { source, .. } => {
            matches!(
                source.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory
            )
        }
        _ => false,
    };
    match is_missing {
        true if !folder.is_dir() => format!(
            "{}: there is no such folder, and so no audit log\n  fix: name the folder of the log, or the configuration with --config",
            folder.display()
        ),
        true => format!(
            "{error}\n  fix: name the folder of an audit log; --key names the public key of `verify`"
        ),
        false => error.to_string(),
    }
}

fn failed(folder: &Path, error: &AuditError) -> Refusal {
    Refusal(why(folder, error), exit::FAILED)
}

/// Runs `audit` and gives the exit code.
pub(crate) fn audit(args: &AuditArgs) -> Result<i32, Refusal> {
    let folder = |place: &Place| place.find(&args.config);
    match &args.command {
        AuditCommand::Verify(args) => check(&folder(&args.place)?, args),
        AuditCommand::Search(args) => search(&folder(&args.place)?, &args.wanted),
        AuditCommand::Tail(args) => tail(&folder(&args.place)?, args),
    }
}

fn check(folder: &Path, args: &VerifyArgs) -> Result<i32, Refusal> {
    let key = match &args.key {
        Some(file) => file.clone(),
        None => folder.join("key.pub"),
    };
    let result = PublicKey::open(&key).and_then(|key| verify(folder, &key));
    if args.json {
        let document = match &result {
            Ok(found) => serde_json::json!({
                "ok": true,
                "files": found.segments,
                "lines": found.lines,
                "first": found.first,
                "last": found.last,
                "digest": found.digest.map(|digest| digest.to_string()),
                "checkpoints": found.checkpoints,
                "unsigned": found.unsigned,
                "partial": found.partial,
            }),
            Err(error) => serde_json::json!({ "ok": false, "error": why(folder, error) }),
        };
        output::say(&document.to_string());
        return Ok(if result.is_ok() {
            exit::DONE
        } else {
            exit::FAILED
        });
    }
    let found = result.map_err(|error| failed(folder, &error))?;
    let mut text = format!(
        "{}: whole: lines {} to {} in {} files, {} checkpoints",
        folder.display(),
        found.first,
        found.last,
        found.segments,
        found.checkpoints
    );
    if found.unsigned > 0 {
        text += &format!(
            "; no checkpoint vouches for the last {} lines yet",
            found.unsigned
        );
    }
    if found.partial {
        text += "; a line at the end is being written, or was when the server ended";
    }
    output::say(&text);
    if let Some(digest) = found.digest {
        output::say(&format!("digest of line {}: {digest}", found.last));
    }
    Ok(exit::DONE)
}

fn search(folder: &Path, wanted: &Wanted) -> Result<i32, Refusal> {
    let filter = wanted.filter();
    let mut lines = Lines::of(folder);
    while let Some(line) = lines.next_line().map_err(|error| failed(folder, &error))? {
        if filter.wants(&line) {
            print(&line, wanted.json)?;
        }
    }
    Ok(exit::DONE)
}

fn tail(folder: &Path, args: &TailArgs) -> Result<i32, Refusal> {
    let filter = args.wanted.filter();
    let mut lines = Lines::of(folder);
    let mut last = std::collections::VecDeque::new();
    while let Some(line) = lines.next_line().map_err(|error| failed(folder, &error))? {
        if filter.wants(&line) {
            last.push_back(line);
            if last.len() > args.lines as usize {
                last.pop_front();
            }
        }
    }
    for line in &last {
        print(line, args.wanted.json)?;
    }
    if args.follow {
        let mut lines = lines.follow();
        while let Some(line) = lines.next_line().map_err(|error| failed(folder, &error))? {
            if filter.wants(&line) {
                print(&line, args.wanted.json)?;
            }
        }
    }
    Ok(exit::DONE)
}

/// Prints a line as it is, or for people: time, event, and `name=value`.
fn print(line: &Line, json: bool) -> Result<(), Refusal> {
    let text = if json {
        line.text.clone()
    } else {
        readable(line)
    };
    Ok(output::print(&text)?)
}

fn readable(line: &Line) -> String {
    let text = |name| harmless(line.text_of(name).unwrap_or_default(), MAX_SHOWN);
    let mut shown = format!("{} {}", text("at"), text("event"));
    for (name, value) in &line.fields {
        if matches!(
            name.as_str(),
            "n" | "at" | "previous" | "event" | "signature"
        ) {
            continue;
        }
        let value = match value {
            Value::String(text) if !text.is_empty() && !text.contains([' ', '"', '=']) => {
                text.clone()
            }
            other => other.to_string(),
        };
        shown += &format!(
            " {}={}",
            harmless(name, MAX_SHOWN),
            harmless(&value, MAX_SHOWN)
        );
    }
    shown
}
