//! The rules as they lie in the JSON files.

use std::collections::{BTreeMap, BTreeSet};

use seccompiler::TargetArch;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::spec::Wx;

/// The section of what is carried out.
pub(super) const ALLOW: &str = "allow";

/// Stands in the rules for the id of the process, which nobody knows before it runs. No id is as large.
pub(super) const PROCESS_ID: u32 = 4_294_963_664;

/// One filter, as `seccompiler` reads it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    mismatch_action: Value,
    match_action: Value,
    pub(super) filter: Vec<Rule>,
}

/// One rule: several for one call are alternatives.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) syscall: String,
    /// Who needs it.
    pub(super) comment: String,
    /// All must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) args: Option<Vec<Value>>,
}

/// Filters by the names of their sections.
pub(super) type Rules = BTreeMap<String, Section>;

/// The rules of `every-worker.json` with those of the mode and architecture, and those of a worker with files.
///
/// # Errors
/// One line, when a file is not as it should be or there is none for the architecture.
pub(super) fn rules(wx: Wx, files: bool, arch: TargetArch) -> Result<Rules, String> {
    let mode = match (arch, wx) {
        (TargetArch::x86_64, Wx::Jit) => include_str!("../../seccomp/worker-jit.x86_64.json"),
        (TargetArch::x86_64, Wx::Strict) => include_str!("../../seccomp/worker-strict.x86_64.json"),
        (TargetArch::aarch64, Wx::Jit) => include_str!("../../seccomp/worker-jit.aarch64.json"),
        (TargetArch::aarch64, Wx::Strict) => {
            include_str!("../../seccomp/worker-strict.aarch64.json")
        }
        (other, _) => return Err(format!("there are no rules for {other:?}")),
    };
    let mut rules = parse(
        "every-worker.json",
        include_str!("../../seccomp/every-worker.json"),
    )?;
    let mut more: Vec<_> = parse("the worker's rules", mode)?.into_iter().collect();
    if files {
        let text = include_str!("../../seccomp/database.json");
        more.extend(parse("database.json", text)?);
    }
    for (name, section) in more {
        match rules.get_mut(&name) {
            Some(common)
                if common.match_action == section.match_action
                    && common.mismatch_action == section.mismatch_action =>
            {
                common.filter.extend(section.filter);
            }
            Some(_) => return Err(format!("two sections \"{name}\" disagree on their actions")),
            None => {
                rules.insert(name, section);
            }
        }
    }
    Ok(rules)
}

fn parse(name: &str, text: &str) -> Result<Rules, String> {
    serde_json::from_str(text).map_err(|error| format!("{name}: {error}"))
}

/// The architecture of this program.
pub(super) fn native() -> Result<TargetArch, String> {
    TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())
}

/// The names of the system calls that a worker may make, sorted, on the architecture of this program.
/// Rules on their arguments hold besides.
pub fn allowed(wx: Wx) -> Vec<String> {
    let Ok(rules) = native().and_then(|arch| rules(wx, false, arch)) else {
        return Vec::new();
    };
    let names: BTreeSet<String> = rules
        .into_iter()
        .filter(|(name, _)| name == ALLOW)
        .flat_map(|(_, section)| section.filter)
        .map(|rule| rule.syscall)
        .collect();
    names.into_iter().collect()
}
