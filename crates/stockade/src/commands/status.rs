//! `stockade status`: what a running server does, on one screen.

use std::fmt::Write as _;

use clap::Args;

use super::guest::Refusal;
use super::live::{
    Document, Instance, Overview, Preview, RefusedReload, ServerArgs, Version, columns, failed,
    milliseconds, run, uptime,
};
use super::units::short_bytes;
use super::{exit, output};

pub(crate) const STATUS_EXAMPLES: &str = "\
Examples:
  stockade status
  stockade status --config /etc/stockade/stockade.yaml
  stockade status --json | jq .status.state

Rates are those of the last ten seconds. Exit codes: 0 a server answers and all its instances are ready, 1 an instance \
is not, or no server answers, 2 bad usage.";

/// Instances that are listed.
const LISTED: usize = 50;

#[derive(Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Print a JSON object with everything that the server says
    #[arg(long)]
    json: bool,
}

/// Runs `status` and gives the exit code.
pub(crate) fn status(args: &StatusArgs) -> Result<i32, Refusal> {
    let client = args.server.client()?;
    if args.json {
        let document = run(async { Document::ask(&client).await.map_err(|error| failed(&error)) })?;
        let text = serde_json::to_string(&document).map_err(|error| failed(&error))?;
        output::value(&text)?;
        return Ok(code(document.is_ready()));
    }
    let overview = run(async {
        Overview::ask_recent(&client)
            .await
            .map_err(|error| failed(&error))
    })?;
    output::say(&text(&overview));
    let ready = overview.instances.iter().all(|instance| instance.ready);
    Ok(code(ready))
}

fn code(ready: bool) -> i32 {
    if ready { exit::DONE } else { exit::FAILED }
}

/// The first lines: the server itself.
pub(crate) fn head(overview: &Overview) -> String {
    let server = &overview.server;
    let mut text = format!(
        "stockade {}, {} for {}: {}\n",
        server.version,
        server.state,
        uptime(server.uptime_seconds),
        server.config_path
    );
    let addresses = server.listeners.iter();
    let addresses: Vec<&str> = addresses.map(|listener| &*listener.address).collect();
    let _ = write!(
        text,
        "{}; {} connections, {} requests, {} WebSockets",
        addresses.join(" "),
        server.connections,
        server.requests,
        server.websockets
    );
    if let Some(audit) = &server.audit {
        let _ = write!(text, "\naudit log: {} lines", audit.last);
        if audit.dropped > 0 {
            let _ = write!(text, ", {} lost", audit.dropped);
        }
        if let Some(why) = &audit.failing {
            let _ = write!(text, ", cannot be written: {why}");
        }
    }
    if server.state_writable == Some(false) {
        text.push_str("\nshared state: cannot be written");
    }
    if let Some(RefusedReload { at, why }) = &server.refused_reload {
        let why = why.lines().next().unwrap_or_default();
        let why = stockade_protocol::harmless_line(why, 200);
        let _ = write!(
            text,
            "\nthe reload at {at} was refused, the configuration before it stays in use: {why}"
        );
    }
    text
}

/// The columns of all instances.
pub(crate) const COLUMNS: [&str; 8] = [
    "INSTANCE", "MIRRORS", "REQ/S", "ERR/S", "P50", "P99", "CPU", "MEMORY",
];

/// The cells of an instance.
pub(crate) fn cells(overview: &Overview, instance: &Instance) -> Vec<String> {
    let sample = overview.last(&instance.name);
    let per_second = |count: u64| format!("{:.1}", count as f64 / overview.seconds);
    let cpu = sample.cpu_ms as f64 / overview.seconds / 10.0;
    vec![
        instance.name.clone(),
        format!("{}/{}", instance.mirrors_ready(), instance.mirrors_wanted),
        per_second(sample.requests),
        per_second(sample.errors),
        milliseconds(sample.p50_ms),
        milliseconds(sample.p99_ms),
        format!("{cpu:.0}%"),
        short_bytes(instance.memory()),
    ]
}

/// A version of code with its share of the requests, and how it does.
fn share(version: &Version) -> String {
    let ready = if version.ready { "" } else { ", not ready" };
    let name = stockade_protocol::harmless_line(&version.version, 40);
    format!(
        "{name} {} % ({} requests, {} errors{ready})",
        version.percent, version.requests, version.errors
    )
}

/// A preview, and how it does.
fn preview(preview: &Preview) -> String {
    let ready = if preview.ready { "" } else { ", not ready" };
    let name = stockade_protocol::harmless_line(&preview.version, 40);
    let at = preview.host.as_ref().map(|host| {
        let host = stockade_protocol::harmless_line(host, 300);
        format!(" at {host}")
    });
    format!(
        "{name}{} ({} requests, {} errors{ready})",
        at.unwrap_or_default(),
        preview.requests,
        preview.errors
    )
}

fn text(overview: &Overview) -> String {
    let mut text = head(overview);
    text.push_str("\n\n");
    let row = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let mut rows: Vec<Vec<String>> = vec![row(&COLUMNS)];
    rows[0].extend(["LEVEL".to_owned(), "STATE".to_owned()]);
    for instance in overview.instances.iter().take(LISTED) {
        let mut cells = cells(overview, instance);
        let level = if instance.has_code {
            &instance.isolation
        } else {
            "files"
        };
        cells.push(level.to_owned());
        cells.push(if instance.ready { "ready" } else { "not ready" }.to_owned());
        rows.push(cells);
    }
    text.push_str(&columns(&rows, 120).join("\n"));
    let more = overview.instances.len().saturating_sub(LISTED);
    if more > 0 {
        let _ = write!(text, "\nand {more} more: --json lists all");
    }
    for instance in &overview.instances {
        if instance.versions.len() > 1 {
            let shares: Vec<String> = instance.versions.iter().map(share).collect();
            let _ = write!(text, "\n{}: {}", instance.name, shares.join(", "));
        }
        for one in &instance.previews {
            let _ = write!(text, "\n{}: preview {}", instance.name, preview(one));
        }
        if let Some(error) = &instance.start_error {
            let line = error.lines().next().unwrap_or_default();
            let line = stockade_protocol::harmless_line(line, 200);
            let _ = write!(text, "\n{} does not start: {line}", instance.name);
        }
    }
    text
}
