//! `stockade doctor`: which levels of isolation work on this machine, and whether they hold.

mod attack;
mod describe;
mod levels;

use std::io::IsTerminal as _;
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use serde::Serialize;
use stockade::{Isolation, Wx};
use stockade_jail::Layer;

use super::exit;
use super::guest::Refusal;
use super::output;
use crate::version::{V8Release, VERSION};
use attack::Attacked;
use describe::Style;
use levels::Trial;

pub(crate) const EXAMPLES: &str = "\
Examples:
  stockade doctor                             tests each layer, and reports which levels work here
  stockade doctor --attack                    also tries to get out of each level that works
  stockade doctor --attack fork --level container
  stockade doctor --json | jq '.levels[] | select(.works | not)'

Exit codes: 0 every level works and no attack succeeds, 1 a level does not work or is broken, 2 bad
usage. What is optional, such as cgroup: require, does not count.";

#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,

    /// Try to get out of each level that works, by everything that does no harm if it succeeds; or only by
    /// what has this text in its name, or is of the group of this number
    #[arg(long, value_name = "FILTER", num_args = 0..=1, default_missing_value = "")]
    attack: Option<String>,

    /// Only this level
    #[arg(long, value_name = "LEVEL")]
    level: Option<LevelName>,

    /// Only with (jit) or without (strict) a compiler
    #[arg(long, value_name = "MODE")]
    wx: Option<WxName>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LevelName {
    Process,
    Container,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WxName {
    Jit,
    Strict,
}

impl DoctorArgs {
    /// Whether the levels tried are to include this one.
    fn takes(&self, isolation: Isolation, wx: Wx) -> bool {
        let level = match self.level {
            None => true,
            Some(LevelName::Process) => isolation == Isolation::Process,
            Some(LevelName::Container) => isolation == Isolation::Container,
        };
        let mode = match self.wx {
            None => true,
            Some(WxName::Jit) => wx == Wx::Jit,
            Some(WxName::Strict) => wx == Wx::Strict,
        };
        level && mode
    }
}

/// All that was found.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Findings {
    version: &'static str,
    v8: V8Release,
    kernel: String,
    architecture: &'static str,
    /// Every level that was tried and is not optional works, and no level is broken.
    ok: bool,
    layers: Vec<Layer>,
    levels: Vec<Trial>,
    attack: Option<Attacked>,
}

/// Runs the command and gives the exit code.
pub(crate) fn doctor(args: &DoctorArgs) -> Result<i32, Refusal> {
    let style = Style::of_standard_output();
    if let Some(filter) = &args.attack {
        // Before any thread starts: it executes this program again.
        attack::prepare(filter)?;
    }
    stockade::initialize();
    let layers = stockade_jail::layers();
    let kernel = kernel();
    let version = VERSION.as_str();
    let v8 = V8Release::at(SystemTime::now());
    let levels = levels::try_all(&layers, |isolation, wx| args.takes(isolation, wx))?;
    let attack = args
        .attack
        .as_ref()
        .map(|filter| attack::run(filter, &levels, !args.json));
    let whole = levels.iter().all(|level| level.works || level.optional);
    let ok = whole && attack.as_ref().is_none_or(Attacked::levels_hold);
    if !args.json {
        output::say(&describe::summary(&levels, attack.as_ref(), style));
        output::say(&describe::layers(&layers, version, &v8, &kernel, style));
        output::say(&describe::levels(&levels, style));
        if let Some(attack) = &attack {
            output::say(&describe::attack(attack, style));
        }
    }
    if args.json {
        let findings = Findings {
            version,
            v8,
            kernel,
            architecture: std::env::consts::ARCH,
            ok,
            layers,
            levels,
            attack,
        };
        let indented = std::io::stdout().is_terminal();
        let json = match indented {
            true => serde_json::to_string_pretty(&findings),
            false => serde_json::to_string(&findings),
        };
        output::say(&json.map_err(|error| Refusal(error.to_string(), exit::FAILED))?);
    }
    Ok(if ok { exit::DONE } else { exit::FAILED })
}

/// The kernel's release.
fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(
        |_| "unknown".to_owned(),
        |release| release.trim().to_owned(),
    )
}
