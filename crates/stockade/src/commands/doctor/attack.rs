//! `--attack`: the safe part of the native suite, at the levels that work here.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;
use stockade::{CgroupUse, Isolation, Wx};

use super::levels::Trial;
use crate::commands::exit;
use crate::commands::guest::Refusal;

/// The results of all attempts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attacked {
    pub(super) summary: Count,
    #[serde(rename = "walls")]
    pub(super) levels: Vec<AttackedLevel>,
    /// Attempts that are not made on a user's machine: they would harm it if the level failed.
    pub(super) skipped: Vec<Skipped>,
    /// Every attempt at every level.
    pub(super) attempts: Vec<Attempt>,
}

/// How many attempts ended how.
#[derive(Serialize, Default, Clone, Copy)]
#[serde(rename_all = "camelCase")]
pub(super) struct Count {
    pub(super) held: usize,
    pub(super) given_up: usize,
    pub(super) broken: usize,
    /// At each level.
    pub(super) skipped: usize,
}

/// One level with its mode.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AttackedLevel {
    pub(super) level: &'static str,
    pub(super) wx: &'static str,
    pub(super) held: usize,
    pub(super) given_up: usize,
    pub(super) broken: usize,
    /// Why nothing, or not everything, was tried.
    pub(super) error: Option<String>,
}

/// An attempt that was left out.
#[derive(Serialize)]
pub(super) struct Skipped {
    pub(super) group: u8,
    pub(super) name: &'static str,
}

/// One attempt at one level.
#[derive(Serialize)]
pub(super) struct Attempt {
    pub(super) group: u8,
    pub(super) name: &'static str,
    #[serde(rename = "twin")]
    control: &'static str,
    pub(super) level: &'static str,
    pub(super) wx: &'static str,
    #[serde(rename = "verdict")]
    pub(super) outcome: Outcome,
    /// Why it was given up, or what is broken.
    pub(super) why: Option<String>,
    denial: Option<String>,
    micros: u64,
}

#[derive(Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) enum Outcome {
    Held,
    GivenUp,
    Broken,
}

impl Attacked {
    /// Nothing is broken, and every level was tried.
    pub(super) fn levels_hold(&self) -> bool {
        self.summary.broken == 0 && self.levels.iter().all(|level| level.error.is_none())
    }

    /// The groups of attempts in which something ended so, each with what did.
    pub(super) fn by_group(&self) -> BTreeMap<u8, Count> {
        let mut groups: BTreeMap<u8, Count> = BTreeMap::new();
        for attempt in &self.attempts {
            let count = groups.entry(attempt.group).or_default();
            match attempt.outcome {
                Outcome::Held => count.held += 1,
                Outcome::GivenUp => count.given_up += 1,
                Outcome::Broken => count.broken += 1,
            }
        }
        for skipped in &self.skipped {
            groups.entry(skipped.group).or_default().skipped += 1;
        }
        groups
    }
}

fn wanted(filter: &str, group: u8, name: &str) -> bool {
    match filter.parse::<u8>() {
        Ok(number) => number == group,
        Err(_) => name.contains(filter),
    }
}

/// Plants the secrets that workers must not find, and sees that there is something to try. It executes this
/// program again with the same arguments, the first time.
#[cfg(target_os = "linux")]
pub(super) fn prepare(filter: &str) -> Result<(), Refusal> {
    if !stockade_attack::attacks().any(|attack| wanted(filter, attack.group, attack.name)) {
        return Err(Refusal(
            format!("no attempt has '{filter}' in its name, nor is it the number of a group"),
            exit::USAGE,
        ));
    }
    stockade_attack::plant_secrets().map_err(|error| {
        Refusal(
            format!(
                "cannot plant the secrets that workers must not find ({error})\n  checked: executing this \
                 program again\n  fix: mount /proc"
            ),
            exit::FAILED,
        )
    })
}

#[cfg(not(target_os = "linux"))]
pub(super) fn prepare(_: &str) -> Result<(), Refusal> {
    Err(Refusal(
        "only on Linux are there isolation layers to attack".to_owned(),
        exit::FAILED,
    ))
}

/// Attacks every level that works, and shows its progress on a terminal.
pub(super) fn run(filter: &str, levels: &[Trial], progress: bool) -> Attacked {
    let mut all = Attacked {
        summary: Count::default(),
        levels: Vec::new(),
        skipped: Vec::new(),
        attempts: Vec::new(),
    };
    let progress = Progress(progress && std::io::stderr().is_terminal());
    let attacked = levels
        .iter()
        .filter(|level| level.isolation != Isolation::Thread && level.cgroup == CgroupUse::Auto);
    for level in attacked {
        let mut result = AttackedLevel {
            level: level.isolation.name(),
            wx: match level.wx {
                Wx::Jit => "jit",
                Wx::Strict => "strict",
            },
            held: 0,
            given_up: 0,
            broken: 0,
            error: None,
        };
        if level.works {
            attack_level(filter, level, &mut result, &mut all.attempts, &progress);
        } else {
            result.error = Some("the level does not work here".to_owned());
        }
        all.summary.held += result.held;
        all.summary.given_up += result.given_up;
        all.summary.broken += result.broken;
        all.levels.push(result);
    }
    progress.end();
    leave_out(filter, &mut all);
    all
}

#[cfg(target_os = "linux")]
fn leave_out(filter: &str, all: &mut Attacked) {
    all.skipped.extend(
        stockade_attack::attacks()
            .filter(|attack| !attack.safe && wanted(filter, attack.group, attack.name))
            .map(|attack| Skipped {
                group: attack.group,
                name: attack.name,
            }),
    );
    all.summary.skipped = all.skipped.len();
}

#[cfg(not(target_os = "linux"))]
fn leave_out(_: &str, _: &mut Attacked) {}

#[cfg(target_os = "linux")]
fn attack_level(
    filter: &str,
    trial: &Trial,
    result: &mut AttackedLevel,
    attempts: &mut Vec<Attempt>,
    progress: &Progress,
) {
    use stockade_jail::{Level, Wx as JailWx};

    let level = match trial.isolation {
        Isolation::Container => Level::Container,
        _ => Level::Process,
    };
    let wx = match trial.wx {
        Wx::Jit => JailWx::Jit,
        Wx::Strict => JailWx::Strict,
    };
    let selected: Vec<_> = stockade_attack::attacks()
        .filter(|attack| attack.safe && wanted(filter, attack.group, attack.name))
        .collect();
    let arena = match stockade_attack::Arena::open(level, wx) {
        Ok(arena) => arena,
        Err(error) => {
            result.error = Some(error.to_string());
            return;
        }
    };
    for (done, attack) in selected.iter().enumerate() {
        progress.show(result, done + 1, selected.len(), attack.name);
        let report = match arena.run(attack) {
            Ok(report) => report,
            Err(error) => {
                result.error = Some(format!("{}: {error}", attack.name));
                return;
            }
        };
        let (outcome, why) = match report.result {
            stockade_attack::AttemptResult::Held => (Outcome::Held, None),
            stockade_attack::AttemptResult::Skipped { why } => (Outcome::GivenUp, Some(why)),
            stockade_attack::AttemptResult::Broken { why } => (Outcome::Broken, Some(why)),
        };
        match outcome {
            Outcome::Held => result.held += 1,
            Outcome::GivenUp => result.given_up += 1,
            Outcome::Broken => result.broken += 1,
        }
        attempts.push(Attempt {
            group: report.group,
            name: report.name,
            control: report.control,
            level: result.level,
            wx: result.wx,
            outcome,
            why,
            denial: report.denial,
            micros: report.micros,
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn attack_level(_: &str, _: &Trial, _: &mut AttackedLevel, _: &mut Vec<Attempt>, _: &Progress) {}

/// How far it is, on standard error where that is a terminal.
struct Progress(bool);

impl Progress {
    fn show(&self, level: &AttackedLevel, done: usize, of: usize, name: &str) {
        if self.0 {
            let name: String = name.chars().take(40).collect();
            let line = format!(
                "\r[{done:>3}/{of}] {}, wx: {}: {name}\x1b[K",
                level.level, level.wx
            );
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn end(&self) {
        if self.0 {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_takes_names_and_numbers_of_groups() {
        assert!(wanted("", 24, "fork"));
        assert!(wanted("for", 24, "fork"));
        assert!(!wanted("clone", 24, "fork"));
        assert!(wanted("24", 24, "fork"));
        assert!(!wanted("2", 24, "clone3 with 24 flags"));
    }
}
