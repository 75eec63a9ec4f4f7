//! What the commands for a running server share: the way to a running server, and what it says about its instances.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stockade_protocol::harmless_line;
use stockade_serve::{AdminClient, AskError};

use super::guest::Refusal;
use super::serve::{CONFIG, control};
use super::{exit, meant};

/// The server that a command asks.
#[derive(Args)]
pub(crate) struct ServerArgs {
    /// The configuration file of the server
    #[arg(long, default_value = CONFIG, value_name = "FILE", value_parser = meant::configuration())]
    config: PathBuf,

    /// The server's control socket, where the configuration does not say
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
}

impl ServerArgs {
    /// # Errors
    /// When there is no configuration that names the server.
    pub(crate) fn client(&self) -> Result<AdminClient, Refusal> {
        Ok(match &self.control {
            Some(path) => AdminClient::at_socket(path),
            None => AdminClient::at_socket(&control(&self.config)?),
        })
    }
}

pub(crate) fn failed(error: &dyn std::fmt::Display) -> Refusal {
    Refusal(error.to_string(), exit::FAILED)
}

/// Runs what a command does on a runtime of its own.
pub(crate) fn run<T>(work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    runtime.block_on(work)
}

/// The server, as `/v1/status` describes it.
#[derive(Deserialize)]
pub(crate) struct ServerStatus {
    pub(crate) version: String,
    pub(crate) state: String,
    pub(crate) uptime_seconds: u64,
    pub(crate) config_path: String,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) connections: u64,
    pub(crate) requests: u64,
    pub(crate) websockets: u64,
    pub(crate) audit: Option<AuditLog>,
    /// None too if the server is of a version that does not state it.
    #[serde(default)]
    pub(crate) refused_reload: Option<RefusedReload>,
    #[serde(default)]
    pub(crate) state_writable: Option<bool>,
}

/// A reload after which the configuration before it stayed in use.
#[derive(Deserialize)]
pub(crate) struct RefusedReload {
    pub(crate) at: String,
    pub(crate) why: String,
}

#[derive(Deserialize)]
pub(crate) struct Listener {
    pub(crate) address: String,
}

#[derive(Deserialize)]
pub(crate) struct AuditLog {
    pub(crate) last: u64,
    pub(crate) dropped: u64,
    pub(crate) failing: Option<String>,
}

#[derive(Deserialize)]
struct Instances {
    instances: Vec<Instance>,
}

/// An instance, as `/v1/instances` describes it.
#[derive(Deserialize)]
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) isolation: String,
    pub(crate) has_code: bool,
    pub(crate) ready: bool,
    pub(crate) mirrors_wanted: u64,
    pub(crate) start_error: Option<String>,
    /// The versions of its code that get requests.
    pub(crate) versions: Vec<Version>,
    /// Versions that answer at hosts of their own.
    pub(crate) previews: Vec<Preview>,
    mirrors: Vec<Mirror>,
}

/// A version of an instance's code, and its share of the requests.
#[derive(Deserialize)]
pub(crate) struct Version {
    pub(crate) version: String,
    pub(crate) percent: u8,
    pub(crate) ready: bool,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
}

/// A version that runs as a preview.
#[derive(Deserialize)]
pub(crate) struct Preview {
    pub(crate) version: String,
    pub(crate) host: Option<String>,
    pub(crate) ready: bool,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
}

#[derive(Deserialize)]
struct Mirror {
    preview: bool,
    state: String,
    memory_bytes: u64,
}

impl Instance {
    /// Mirrors that are ready, of the versions that get requests.
    pub(crate) fn mirrors_ready(&self) -> usize {
        let mirrors = self.mirrors.iter().filter(|mirror| !mirror.preview);
        mirrors.filter(|mirror| mirror.state == "ready").count()
    }

    /// Bytes of memory of all mirrors, those of previews too.
    pub(crate) fn memory(&self) -> u64 {
        self.mirrors.iter().map(|mirror| mirror.memory_bytes).sum()
    }
}

#[derive(Deserialize)]
struct History {
    instances: BTreeMap<String, Vec<Sample>>,
}

/// What happened in one interval, as `/v1/metrics/history` describes it.
#[derive(Deserialize, Serialize, Default, Clone)]
pub(crate) struct Sample {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) cpu_ms: u64,
    pub(crate) in_flight: u64,
    pub(crate) queued: u64,
    pub(crate) kills: BTreeMap<String, u64>,
}

impl Sample {
    /// The sum of consecutive samples. Percentiles cannot be added: `p50_ms` is that of the interval in which the middle one of all
    /// requests was, by their `p50_ms`, and `p99_ms` the largest.
    fn sum(samples: &[Self]) -> Self {
        let Some(last) = samples.last() else {
            return Self::default();
        };
        let mut sum = Self {
            in_flight: last.in_flight,
            queued: last.queued,
            ..Self::default()
        };
        for sample in samples {
            sum.requests += sample.requests;
            sum.errors += sample.errors;
            sum.cpu_ms += sample.cpu_ms;
            if sample.p99_ms > sum.p99_ms {
                sum.p99_ms = sample.p99_ms;
            }
            for (reason, count) in &sample.kills {
                *sum.kills.entry(reason.clone()).or_default() += count;
            }
        }
        let medians = samples
            .iter()
            .filter_map(|one| Some((one.p50_ms?, one.requests)));
        let mut medians: Vec<(f64, u64)> = medians.collect();
        medians.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut before = 0;
        sum.p50_ms = medians.iter().find_map(|(median, requests)| {
            before += requests;
            (2 * before >= sum.requests).then_some(*median)
        });
        sum
    }
}

/// Everything about a server that fits on a screen.
pub(crate) struct Overview {
    pub(crate) server: ServerStatus,
    pub(crate) instances: Vec<Instance>,
    /// The last samples of each instance, each of `seconds`.
    pub(crate) samples: BTreeMap<String, Vec<Sample>>,
    pub(crate) seconds: f64,
}

/// What `status --json` prints.
#[derive(Serialize)]
pub(crate) struct Document {
    status: Value,
    instances: Value,
    metrics: Value,
}

/// The path of the last samples.
fn history(seconds: u32) -> String {
    format!("/v1/metrics/history?resolution={seconds}")
}

impl Overview {
    /// Asks the server, with samples of this number of seconds.
    ///
    /// # Errors
    /// When no server answers.
    pub(crate) async fn ask(client: &AdminClient, seconds: u32) -> Result<Self, AskError> {
        let server = client.json(Method::GET, "/v1/status", None).await?;
        let instances: Instances = client.json(Method::GET, "/v1/instances", None).await?;
        let path = history(seconds);
        let history: History = client.json(Method::GET, &path, None).await?;
        Ok(Self {
            server,
            instances: instances.instances,
            samples: history.instances,
            seconds: f64::from(seconds),
        })
    }

    /// Asks the server for the last ten seconds, as one sample of each instance.
    ///
    /// # Errors
    /// When no server answers.
    pub(crate) async fn ask_recent(client: &AdminClient) -> Result<Self, AskError> {
        let mut overview = Self::ask(client, 1).await?;
        let most = overview.samples.values().map(Vec::len).max().unwrap_or(0);
        if most == 0 {
            // There are too many instances for samples of each second.
            return Self::ask(client, 10).await;
        }
        let seconds = most.min(10);
        overview.seconds = seconds as f64;
        for samples in overview.samples.values_mut() {
            let recent = samples.split_off(samples.len().saturating_sub(seconds));
            *samples = vec![Sample::sum(&recent)];
        }
        Ok(overview)
    }

    /// The last sample of an instance.
    pub(crate) fn last(&self, name: &str) -> Sample {
        let samples = self.samples.get(name);
        samples
            .and_then(|all| all.last())
            .cloned()
            .unwrap_or_default()
    }
}

impl Document {
    /// Asks the server, with samples of ten seconds.
    ///
    /// # Errors
    /// When no server answers.
    pub(crate) async fn ask(client: &AdminClient) -> Result<Self, AskError> {
        Ok(Self {
            status: client.json(Method::GET, "/v1/status", None).await?,
            instances: client.json(Method::GET, "/v1/instances", None).await?,
            metrics: client.json(Method::GET, &history(10), None).await?,
        })
    }

    /// Whether all instances are ready.
    pub(crate) fn is_ready(&self) -> bool {
        let all = self.instances["instances"].as_array();
        all.is_some_and(|all| all.iter().all(|one| one["ready"] == true))
    }
}

/// Cells in columns: the first column to the left, the others to the right, each as wide as its widest cell.
pub(crate) fn columns(rows: &[Vec<String>], width: usize) -> Vec<String> {
    let count = rows.first().map_or(0, Vec::len);
    let wide = |at: usize| rows.iter().map(|row| row[at].chars().count()).max();
    let mut widths: Vec<usize> = (0..count).map(|at| wide(at).unwrap_or(0)).collect();
    // What is too wide is taken from the first column, which has the names.
    let all: usize = widths.iter().sum::<usize>() + 2 * count.saturating_sub(1);
    if let Some(first) = widths.first_mut() {
        *first = first.saturating_sub(all.saturating_sub(width)).max(8);
    }
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let cell = harmless_line(cell, 256);
            let cell: String = cell.chars().take(*width).collect();
            if at == 0 {
                line.push_str(&format!("{cell:width$}"));
            } else {
                line.push_str(&format!("  {cell:>width$}"));
            }
        }
        line.chars()
            .take(width)
            .collect::<String>()
            .trim_end()
            .to_owned()
    };
    rows.iter().map(line).collect()
}

/// Milliseconds, in few digits.
pub(crate) fn milliseconds(millis: Option<f64>) -> String {
    match millis {
        None => "-".to_owned(),
        Some(millis) if millis < 10.0 => format!("{millis:.1}ms"),
        Some(millis) if millis < 1000.0 => format!("{millis:.0}ms"),
        Some(millis) => format!("{:.1}s", millis / 1e3),
    }
}

/// A time since the start, in its two largest units.
pub(crate) fn uptime(seconds: u64) -> String {
    let duration = Duration::from_secs(seconds).as_secs();
    let (days, hours) = (duration / 86_400, duration / 3600 % 24);
    let (minutes, seconds) = (duration / 60 % 60, duration % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_into_the_width_and_show_no_control_characters() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
        let rows = vec![
            row(&["INSTANCE", "REQ/S", "CPU"]),
            row(&["a\u{1b}[2J", "1.5", "100%"]),
            row(&[&"x".repeat(200), "1000.0", "3%"]),
        ];
        let lines = columns(&rows, 40);
        assert!(
            lines.iter().all(|line| line.chars().count() <= 40),
            "{lines:?}"
        );
        assert!(
            lines.iter().all(|line| !line.contains('\u{1b}')),
            "{lines:?}"
        );
        assert!(
            lines[0].ends_with("   CPU") && lines[1].ends_with("  100%"),
            "{lines:?}"
        );
    }

    #[test]
    fn sum_of_samples_has_their_counts_and_percentiles_between_theirs() {
        let sample = |requests, p50_ms, p99_ms| Sample {
            requests,
            p50_ms,
            p99_ms,
            cpu_ms: 5,
            in_flight: requests,
            kills: BTreeMap::from([("cpu_limit_exceeded".to_owned(), 1)]),
            ..Sample::default()
        };
        let sum = Sample::sum(&[
            sample(1, Some(90.0), Some(99.0)),
            sample(0, None, None),
            sample(8, Some(2.0), Some(5.0)),
        ]);
        assert_eq!((sum.requests, sum.cpu_ms, sum.in_flight), (9, 15, 8));
        assert_eq!((sum.p50_ms, sum.p99_ms), (Some(2.0), Some(99.0)));
        assert_eq!(sum.kills["cpu_limit_exceeded"], 3);
        let none = Sample::sum(&[]);
        assert_eq!((none.requests, none.p50_ms), (0, None));
    }

    #[test]
    fn amounts_have_few_digits() {
        assert_eq!(milliseconds(None), "-");
        assert_eq!(milliseconds(Some(1.25)), "1.2ms");
        assert_eq!(milliseconds(Some(250.0)), "250ms");
        assert_eq!(milliseconds(Some(1500.0)), "1.5s");
        assert_eq!(uptime(59), "59 s");
        assert_eq!(uptime(3725), "1 h 2 min");
        assert_eq!(uptime(200_000), "2 d 7 h");
    }
}
