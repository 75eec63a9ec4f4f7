//! `stockade limits`: the limits of what clients use over time, how much a client uses, and counters that are set back.

use std::net::IpAddr;

use clap::{Args, Subcommand};
use http::Method;
use serde::{Deserialize, Serialize};
use stockade_auth::KeyId;
use stockade_serve::AdminClient;

use super::guest::Refusal;
use super::live::{ServerArgs, columns, failed, run, uptime};
use super::units::exact_bytes;
use super::{exit, output};

pub(crate) const EXAMPLES: &str = "\
Examples:
  stockade limits list
  stockade limits list shop --json
  stockade limits show --key key_0aB3dE5fG7h
  stockade limits show shop --address 192.0.2.7
  stockade limits show --header 'x-tenant: acme' --claim 'sub: alice'
  stockade limits reset --key key_0aB3dE5fG7h
  stockade limits reset 9f86d081884c7d65

Counters do not have the names of those that they count for: `show` looks up those of the client that its options describe, \
and `reset` takes the id of a counter that `show` prints. A client whose counter is set back has the whole limit again at \
once. What is set back is in the audit log.

Exit codes: 0 done, 1 it could not be done, or no server answers, 2 bad usage.";

/// Columns of a line that is printed.
const WIDTH: usize = 240;

#[derive(Args)]
pub(crate) struct LimitsArgs {
    #[command(subcommand)]
    command: LimitsCommand,
}

#[derive(Subcommand)]
enum LimitsCommand {
    /// List the limits of all instances, or of one
    #[command(after_help = "Example:\n  stockade limits list shop")]
    List(ListArgs),
    /// Show how much a client uses of each limit
    #[command(after_help = "Example:\n  stockade limits show --key key_0aB3dE5fG7h")]
    Show(ShowArgs),
    /// Set one counter back, or those of an API key
    #[command(after_help = "Example:\n  stockade limits reset --key key_0aB3dE5fG7h")]
    Reset(ResetArgs),
}

#[derive(Args)]
struct ListArgs {
    /// The name of an instance in the configuration; all unless given
    instance: Option<String>,

    #[command(flatten)]
    answer: AnswerArgs,
}

// Without any of the client, what counts for all clients together is shown.
#[derive(Args)]
struct ShowArgs {
    /// The name of an instance in the configuration; all unless given
    instance: Option<String>,

    /// The id of the client's API key
    #[arg(long, value_name = "ID", value_parser = key)]
    key: Option<KeyId>,

    /// The client's address
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    address: Option<IpAddr>,

    /// A header that the client sends, as 'x-tenant: acme'; may be given more than once
    #[arg(long, value_name = "HEADER")]
    header: Vec<String>,

    /// A claim of the client's token, as 'sub: alice'; may be given more than once
    #[arg(long, value_name = "CLAIM")]
    claim: Vec<String>,

    #[command(flatten)]
    answer: AnswerArgs,
}

#[derive(Args)]
struct ResetArgs {
    /// The id of a counter, which `stockade limits show` prints
    #[arg(required_unless_present = "key")]
    counter: Option<String>,

    /// All counters of the API key with this id: of the limits that it has itself, and of those by key alone
    #[arg(long, value_name = "ID", value_parser = key, conflicts_with = "counter")]
    key: Option<KeyId>,

    #[command(flatten)]
    answer: AnswerArgs,
}

#[derive(Args)]
struct AnswerArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerArgs,
}

/// A page of limits, as `/v1/limits` has it.
#[derive(Deserialize)]
struct Page {
    limits: Vec<Limit>,
    cursor: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct Limit {
    instance: String,
    name: String,
    by: Vec<String>,
    methods: Vec<String>,
    paths: Vec<String>,
    unit: String,
    amount: u64,
    window_seconds: u64,
    at_once: u64,
    counter: Option<Counter>,
}

#[derive(Deserialize, Serialize)]
struct Counter {
    id: String,
    used: u64,
    left: u64,
    resets_in_ms: u64,
}

/// All pages.
#[derive(Serialize)]
struct All {
    limits: Vec<Limit>,
}

#[derive(Deserialize, Serialize)]
struct Reset {
    counters: u64,
}

fn address(text: &str) -> Result<IpAddr, String> {
    let parsed = text.parse();
    parsed.map_err(|_| "expected an IP address, as 192.0.2.7 or 2001:db8::7".to_owned())
}

fn key(text: &str) -> Result<KeyId, String> {
    KeyId::parse(text).ok_or_else(|| "expected the id of a key, as key_0aB3dE5fG7h".to_owned())
}

/// Runs the command and gives the exit code.
pub(crate) fn limits(args: &LimitsArgs) -> Result<i32, Refusal> {
    match &args.command {
        LimitsCommand::List(args) => {
            let all = ask(&args.answer, args.instance.as_deref(), &[])?;
            print(&args.answer, &all, |all| table(&all.limits, false))
        }
        LimitsCommand::Show(args) => {
            let mut all = ask(&args.answer, args.instance.as_deref(), &args.query())?;
            all.limits.retain(|limit| limit.counter.is_some());
            print(&args.answer, &all, |all| table(&all.limits, true))
        }
        LimitsCommand::Reset(args) => reset(args),
    }
}

fn reset(args: &ResetArgs) -> Result<i32, Refusal> {
    let path = match (&args.key, &args.counter) {
        (Some(key), _) => format!("/v1/limits/keys/{key}"),
        (None, counter) => {
            let counter = counter.as_deref().unwrap_or_default();
            let id: String = url::form_urlencoded::byte_serialize(counter.as_bytes()).collect();
            format!("/v1/limits/{id}")
        }
    };
    let client = args.answer.server.client()?;
    let reset: Reset = run(async {
        let asking = client.json(Method::DELETE, &path, None).await;
        asking.map_err(|error| failed(&error))
    })?;
    print(&args.answer, &reset, |reset| match reset.counters {
        0 => "nothing was used".to_owned(),
        1 => "set one counter back".to_owned(),
        count => format!("set {count} counters back"),
    })
}

impl ShowArgs {
    fn query(&self) -> Vec<(&'static str, String)> {
        let headers = self.header.iter().map(|text| ("header", text.clone()));
        let claims = self.claim.iter().map(|text| ("claim", text.clone()));
        let key = self.key.map(|key| ("key", key.to_string()));
        let address = self.address.map(|address| ("address", address.to_string()));
        (key.into_iter().chain(address))
            .chain(headers)
            .chain(claims)
            .collect()
    }
}

fn print<T: Serialize>(
    answer: &AnswerArgs,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<i32, Refusal> {
    if answer.json {
        let json = serde_json::to_string(value).map_err(|error| failed(&error))?;
        output::value(&json)?;
    } else {
        output::print(&text(value))?;
    }
    Ok(exit::DONE)
}

/// Asks for all pages.
fn ask(
    answer: &AnswerArgs,
    instance: Option<&str>,
    client: &[(&'static str, String)],
) -> Result<All, Refusal> {
    let server = answer.server.client()?;
    run(async {
        let mut all = All { limits: Vec::new() };
        let mut cursor = None;
        loop {
            let mut page = page(&server, instance, client, cursor.as_deref()).await?;
            all.limits.append(&mut page.limits);
            match page.cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    })
}

async fn page(
    server: &AdminClient,
    instance: Option<&str>,
    client: &[(&'static str, String)],
    cursor: Option<&str>,
) -> Result<Page, Refusal> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", "1000");
    for (name, value) in [("instance", instance), ("cursor", cursor)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    query.extend_pairs(client);
    let path = format!("/v1/limits?{}", query.finish());
    let page = server.json(Method::GET, &path, None).await;
    page.map_err(|error| failed(&error))
}

/// The limits for people, with what is used of them where that is asked for.
fn table(limits: &[Limit], with_use: bool) -> String {
    if limits.is_empty() {
        return match with_use {
            true => "no limit counts for this client".to_owned(),
            false => {
                "nothing is limited: the key rate_limits of the configuration limits".to_owned()
            }
        };
    }
    let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
    let mut rows: Vec<Vec<String>> =
        vec![row(&["INSTANCE", "LIMIT", "BY", "OF", "AMOUNT", "AT ONCE"])];
    if with_use {
        rows[0].extend(row(&["USED", "LEFT", "RESETS IN", "COUNTER"]) as Vec<String>);
    }
    for limit in limits {
        let amount = |units| amount(&limit.unit, units);
        let by = match limit.by.is_empty() {
            true => "the key itself".to_owned(),
            false => limit.by.join(" "),
        };
        let mut cells = vec![
            limit.instance.clone(),
            limit.name.clone(),
            by,
            of(limit),
            format!("{}/{}", amount(limit.amount), window(limit.window_seconds)),
            amount(limit.at_once),
        ];
        if with_use {
            let counter = limit.counter.as_ref();
            let cell = |text: &dyn Fn(&Counter) -> String| counter.map(text).unwrap_or_default();
            cells.push(cell(&|counter| amount(counter.used)));
            cells.push(cell(&|counter| amount(counter.left)));
            cells.push(cell(&|counter| uptime(counter.resets_in_ms.div_ceil(1000))));
            cells.push(cell(&|counter| counter.id.clone()));
        }
        rows.push(cells);
    }
    columns(&rows, WIDTH).join("\n")
}

/// The requests that a limit is for.
fn of(limit: &Limit) -> String {
    if limit.methods.is_empty() && limit.paths.is_empty() {
        return "all".to_owned();
    }
    let parts = limit.methods.iter().chain(&limit.paths);
    parts.cloned().collect::<Vec<_>>().join(" ")
}

fn amount(unit: &str, units: u64) -> String {
    match unit {
        "bytes_in" | "bytes_out" => exact_bytes(units),
        "cpu_ms" => format!("{units}ms"),
        _ => units.to_string(),
    }
}

/// A window as the configuration has it.
fn window(seconds: u64) -> &'static str {
    match seconds {
        1 => "s",
        60 => "m",
        3600 => "h",
        86_400 => "day",
        _ => "month",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_units_and_what_is_used() {
        let limit = |unit: &str, by: &[&str], window_seconds| Limit {
            instance: "shop".to_owned(),
            name: format!("x-{unit}"),
            by: by.iter().map(|one| (*one).to_owned()).collect(),
            methods: vec!["POST".to_owned()],
            paths: vec!["/api/*".to_owned()],
            unit: unit.to_owned(),
            amount: 2048,
            window_seconds,
            at_once: 4096,
            counter: Some(Counter {
                id: "00000000000000ff".to_owned(),
                used: 1,
                left: 4095,
                resets_in_ms: 61_000,
            }),
        };
        let limits = [
            limit("requests", &["address", "header:x-tenant"], 1),
            limit("bytes_out", &["key"], 2_592_000),
            limit("cpu_ms", &[], 86_400),
        ];
        let text = table(&limits, true);
        for part in [
            "address header:x-tenant",
            "POST /api/*",
            "2048/s",
            "2.0 kB/month",
            "2048ms/day",
            "the key itself",
            "1 min 1 s  00000000000000ff",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!table(&limits, false).contains("COUNTER"));
        assert_eq!(table(&[], true), "no limit counts for this client");
    }
}
