//! `stockade profile`: what a mirror of a running server is doing.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::Value;
use stockade::LONGEST_PROFILE;
use stockade_serve::{AdminClient, AskError};

use super::guest::Refusal;
use super::live::{ServerArgs, failed, run};
use super::recorded::draw;
use super::{exit, output};

pub(crate) const EXAMPLES: &str = "\
Examples:
  stockade profile shop                            10 s of the busiest mirror, as shop-3.cpuprofile
  stockade profile shop --seconds 30 --svg shop.svg
  stockade profile shop --mirror 3 --kind heap -o shop.heapsnapshot
  stockade profile shop --kind heap-statistics | jq .held

Chrome's DevTools open the files: Performance panel, Load profile; Memory panel, Load. A heap snapshot contains \
everything that the guest holds.

Exit codes: 0 the file is written, 1 it is not, 2 bad usage.";

#[derive(Args)]
pub(crate) struct ProfileArgs {
    /// The name of the instance in the configuration
    instance: String,

    /// The number of the mirror, as `/v1/instances` lists it; the one with most requests unless given
    #[arg(long, value_name = "NUMBER")]
    mirror: Option<u32>,

    /// What is wanted
    #[arg(long, value_enum, default_value_t = Kind::Cpu)]
    kind: Kind,

    /// How long a CPU profile is recorded, at most 300
    #[arg(long, value_name = "NUMBER", value_parser = seconds, default_value = "10")]
    seconds: f64,

    /// The file; `-` is standard output, where heap statistics go unless a file is named
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Also write a flame graph of the CPU profile to this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    #[command(flatten)]
    server: ServerArgs,
}

/// What can be made of a running mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Where the CPU time goes
    Cpu,
    /// What the heap holds
    Heap,
    /// How large the heap is
    HeapStatistics,
}

impl Kind {
    /// The word of the API, and the ending of files.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Cpu => ("cpu", "cpuprofile"),
            Self::Heap => ("heap", "heapsnapshot"),
            Self::HeapStatistics => ("heap-statistics", "json"),
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok();
    seconds
        .filter(|seconds| (0.01..=LONGEST_PROFILE.as_secs_f64()).contains(seconds))
        .ok_or_else(|| "expected a number from 0.01 to 300".to_owned())
}

/// Runs the command and gives the exit code.
pub(crate) fn profile(args: &ProfileArgs) -> Result<i32, Refusal> {
    if args.svg.is_some() && args.kind != Kind::Cpu {
        let message = "--svg draws a CPU profile: leave out --kind";
        return Err(Refusal(message.to_owned(), exit::USAGE));
    }
    if args.svg.is_some() && args.output.as_deref() == Some(Path::new("-")) {
        let message = "--svg needs the CPU profile in a file: leave out -o -";
        return Err(Refusal(message.to_owned(), exit::USAGE));
    }
    // As the configuration wants it, and as a URL takes it.
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if args.instance.is_empty() || !args.instance.bytes().all(is_plain) {
        let message = format!("{:?} is not the name of an instance", args.instance);
        return Err(Refusal(message, exit::USAGE));
    }
    let client = args.server.client()?;
    let (mirror, path) = run(fetch(&client, args))?;
    if let (Some(picture), Some(path)) = (&args.svg, &path) {
        let title = format!("{}, mirror {mirror}", args.instance);
        draw(path, picture, &title).map_err(|error| failed(&error))?;
    }
    for path in path.iter().chain(&args.svg) {
        output::say(&path.display().to_string());
    }
    Ok(exit::DONE)
}

/// Has the server make it, and writes it; gives the mirror's number and the file.
async fn fetch(
    client: &AdminClient,
    args: &ProfileArgs,
) -> Result<(u64, Option<PathBuf>), Refusal> {
    let refused = |error: AskError| failed(&error);
    let base = format!("/v1/instances/{}", args.instance);
    let mirror = match args.mirror {
        Some(mirror) => u64::from(mirror),
        None => {
            let shown: Value = client
                .json(Method::GET, &base, None)
                .await
                .map_err(refused)?;
            busiest(&shown).ok_or_else(|| {
                let name = &args.instance;
                failed(&format!("instance {name:?} has no mirror now\n  fix: send it a request, or set mirrors.min"))
            })?
        }
    };
    let (kind, ending) = args.kind.names();
    let path = format!(
        "{base}/mirrors/{mirror}/profile?kind={kind}&seconds={}",
        args.seconds
    );
    let mut answer = client
        .send(Method::POST, &path, None)
        .await
        .map_err(refused)?;
    let file = match &args.output {
        Some(path) if path == Path::new("-") => None,
        Some(path) => Some(path.clone()),
        None if args.kind == Kind::HeapStatistics => None,
        None => Some(PathBuf::from(format!(
            "{}-{mirror}.{ending}",
            args.instance
        ))),
    };
    let Some(file) = file else {
        let bytes = answer.bytes().await.map_err(refused)?;
        output::print(&String::from_utf8_lossy(&bytes))?;
        return Ok((mirror, None));
    };
    // What a guest holds may be secret.
    let opened = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&file);
    let cannot =
        |error: std::io::Error| failed(&format!("cannot write '{}': {error}", file.display()));
    let mut opened = opened.map_err(cannot)?;
    // One that was there keeps its mode.
    if opened.metadata().map_err(cannot)?.is_file() {
        let private = Permissions::from_mode(0o600);
        opened.set_permissions(private).map_err(cannot)?;
    }
    let written = async {
        while let Some(bytes) = answer.chunk().await.map_err(refused)? {
            opened.write_all(&bytes).map_err(cannot)?;
        }
        Ok::<(), Refusal>(())
    };
    if let Err(refusal) = written.await {
        // A part of it is of no use; the error that counts is the other one.
        let _ = std::fs::remove_file(&file);
        return Err(refusal);
    }
    Ok((mirror, Some(file)))
}

/// The mirror that handles most requests now.
fn busiest(instance: &Value) -> Option<u64> {
    let mirrors = instance.get("mirrors")?.as_array()?;
    let number = |mirror: &&Value, key: &str| mirror.get(key).and_then(Value::as_u64);
    let busiest = mirrors
        .iter()
        .max_by_key(|mirror| number(mirror, "in_flight"));
    busiest.and_then(|mirror| number(&mirror, "mirror"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busiest_mirror_is_the_one_with_most_requests() {
        let shown = serde_json::json!({ "mirrors": [
            { "mirror": 3, "in_flight": 1 }, { "mirror": 7, "in_flight": 4 }, { "mirror": 9, "in_flight": 0 },
        ] });
        assert_eq!(busiest(&shown), Some(7));
        assert_eq!(busiest(&serde_json::json!({ "mirrors": [] })), None);
    }
}
