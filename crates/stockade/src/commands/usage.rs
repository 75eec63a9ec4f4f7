//! `stockade usage`: what instances and API keys used, from the file that a server writes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use stockade_protocol::harmless_line;
use stockade_usage::{By, Caller, Counts, Day, Group, Query, Report, Store};

use super::configuration::{ConfigArgs, Configured};
use super::guest::Refusal;
use super::units::exact_bytes;
use super::{exit, output};

/// The file, where no configuration names one.
const STORE: &str = "usage.db";

pub(crate) const USAGE_EXAMPLES: &str = "\
Examples:
  stockade usage                                   all days, instances and keys
  stockade usage --by instance --since 2026-11-01  the sum of each instance since then
  stockade usage --by key --instance shop          the sum of each API key at one instance
  stockade usage --by day,instance --key key_0aB3dE5fG7h
  stockade usage --csv > usage.csv
  stockade usage --json | jq .total

Days are in UTC. The row with the key - is of requests without an API key, and of what an instance did of itself; the \
row with the key * is of keys above the number that is counted apart. The server writes counts at each interval of the \
configuration, so the last seconds are missing.

Exit codes: 0 printed, 1 the file cannot be read, 2 bad usage.";

#[derive(Args)]
pub(crate) struct UsageArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// The file with the counts, where no configuration says [default: ./usage.db]
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,

    /// Only this instance
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,

    /// Only this API key, by its id; - for requests without one, * for those that are counted together
    #[arg(long, value_name = "ID", value_parser = caller, allow_hyphen_values = true)]
    key: Option<Caller>,

    /// From this day on, as 2026-11-30
    #[arg(long, value_name = "DAY")]
    since: Option<Day>,

    /// Up to this day, which is included
    #[arg(long, value_name = "DAY")]
    until: Option<Day>,

    /// What to add up by; several with commas between them [default: day,instance,key]
    #[arg(long, value_name = "WHAT", value_enum, value_delimiter = ',')]
    by: Vec<Grouping>,

    /// Print JSON: `rows` and `total`
    #[arg(long, conflicts_with = "csv")]
    json: bool,

    /// Print CSV with a line of names, without the total
    #[arg(long)]
    csv: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Grouping {
    Day,
    Instance,
    Key,
}

impl From<Grouping> for By {
    fn from(grouping: Grouping) -> Self {
        match grouping {
            Grouping::Day => Self::Day,
            Grouping::Instance => Self::Instance,
            Grouping::Key => Self::Key,
        }
    }
}

fn caller(text: &str) -> Result<Caller, String> {
    let text = if text == "-" { "" } else { text };
    Caller::parse(text)
        .ok_or_else(|| "expected the id of an API key, as key_0aB3dE5fG7h, or - or *".to_owned())
}

/// Runs the command and gives the exit code.
pub(crate) fn usage(args: &UsageArgs) -> Result<i32, Refusal> {
    let failed = |error: stockade_usage::StoreError| Refusal(error.to_string(), exit::FAILED);
    let store = Store::open_to_read(&place(args)?).map_err(failed)?;
    let query = Query {
        instance: args.instance.clone(),
        caller: args.key,
        since: args.since,
        until: args.until,
    };
    let by: Vec<By> = if args.by.is_empty() {
        By::ALL.to_vec()
    } else {
        args.by.iter().copied().map(By::from).collect()
    };
    let mut report = Report::new(&by);
    let read = store.each(&query, |row| {
        report.add(&row);
        true
    });
    read.map_err(failed)?;
    if args.json {
        output::value(&report.to_json().to_string())?;
    } else if args.csv {
        output::print(report.to_csv().trim_end())?;
    } else {
        output::print(&table(&report))?;
    }
    Ok(exit::DONE)
}

/// Finds the file: what the options say, then what the configuration says, then the default.
fn place(args: &UsageArgs) -> Result<PathBuf, Refusal> {
    if let Some(store) = &args.store {
        return Ok(store.clone());
    }
    let Some(Configured { path, config }) = args.config.read()? else {
        return Ok(PathBuf::from(STORE));
    };
    config.usage.map(|usage| usage.path).ok_or_else(|| {
        let message = format!(
            "{} counts no usage\n  fix: add `usage: {{ path: ./usage.db }}` to it, or name the file with --store",
            path.display()
        );
        Refusal(message, exit::USAGE)
    })
}

/// A column of the table: its name, and what stands in it.
type Column = (&'static str, fn(&Counts) -> String);

/// The columns of counts. A column in which there is nothing is left out, except for the first four.
const COLUMNS: [Column; 13] = [
    ("requests", |counts| counts.requests.to_string()),
    ("errors", |counts| counts.errors.to_string()),
    ("cpu", |counts| seconds(counts.cpu_ns)),
    ("memory", |counts| memory(counts.memory_byte_seconds)),
    ("in", |counts| exact_bytes(counts.bytes_in)),
    ("out", |counts| exact_bytes(counts.bytes_out)),
    ("egress", |counts| counts.egress_requests.to_string()),
    ("egress bytes", |counts| {
        exact_bytes(counts.egress_sent.saturating_add(counts.egress_received))
    }),
    ("state", |counts| counts.state_operations.to_string()),
    ("state bytes", |counts| {
        exact_bytes(counts.state_sent.saturating_add(counts.state_received))
    }),
    ("grants", |counts| counts.grant_calls.to_string()),
    ("rows", |counts| counts.grant_rows.to_string()),
    ("msat", |counts| counts.grant_msat.to_string()),
];

/// Columns that are always there.
const ALWAYS: usize = 4;

/// The report for people, with the total as its last line.
fn table(report: &Report) -> String {
    let empty = Counts::default();
    let shown: Vec<&Column> = COLUMNS
        .iter()
        .enumerate()
        .filter(|(at, (_, of))| *at < ALWAYS || of(&report.total) != of(&empty))
        .map(|(_, column)| column)
        .collect();
    let text = |group: &Group, by: By| {
        let text = harmless_line(&group.text(by), 200);
        if text.is_empty() {
            "-".to_owned()
        } else {
            text
        }
    };
    let mut rows: Vec<Vec<String>> = vec![
        (report.by.iter().map(|by| by.name().replace('_', " ")))
            .chain(shown.iter().map(|column| column.0.to_owned()))
            .collect(),
    ];
    for (group, counts) in &report.groups {
        let groups = report.by.iter().map(|by| text(group, *by));
        let numbers = shown.iter().map(|column| (column.1)(counts));
        rows.push(groups.chain(numbers).collect());
    }
    let mut total = vec![String::new(); report.by.len()];
    if let Some(first) = total.first_mut() {
        *first = "total".to_owned();
    }
    total.extend(shown.iter().map(|column| (column.1)(&report.total)));
    rows.push(total);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..report.by.len() + shown.len()).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(at, (cell, width))| {
            if at < report.by.len() {
                format!("{cell:width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn seconds(nanoseconds: u64) -> String {
    format!("{:.3} s", nanoseconds as f64 / 1e9)
}

/// Bytes times seconds.
fn memory(byte_seconds: u64) -> String {
    exact_bytes(byte_seconds) + "·s"
}

#[cfg(test)]
mod tests {
    use super::*;
    use stockade_usage::Row;

    #[test]
    fn numbers_have_units() {
        assert_eq!(seconds(1_234_567_890), "1.235 s");
        assert_eq!(memory(3600 << 20), "3.5 GB·s");
    }

    #[test]
    fn table_ends_with_the_total_and_leaves_empty_columns_out() {
        let row = |key, requests, egress_requests| Row {
            day: "2026-11-30".parse().unwrap(),
            instance: "shop".into(),
            caller: Caller::of(key),
            counts: Counts {
                requests,
                egress_requests,
                ..Counts::default()
            },
        };
        let mut report = Report::new(&By::ALL);
        for row in [row(None, 12, 0), row(Some(7), 3, 1)] {
            report.add(&row);
        }
        let text = table(&report);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("day         instance  api key"),
            "{text}"
        );
        assert!(lines[0].ends_with("memory  egress"), "{text}");
        assert!(lines[1].starts_with("2026-11-30  shop      -  "), "{text}");
        assert!(
            lines[3].starts_with("total ") && lines[3].contains(" 15 "),
            "{text}"
        );
        assert_eq!(lines.len(), 4);
    }
}
