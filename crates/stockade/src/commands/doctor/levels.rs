//! The proof of a level: an isolate that really starts there and evaluates something.

use std::time::{Duration, Instant};

use serde::Serialize;
use stockade::{CgroupUse, CreateError, IsolateOptions, Isolation, Sandbox, SandboxOptions, Wx};
use stockade_jail::Layer;

use crate::commands::guest::Refusal;
use crate::commands::run_guest::block_on;

/// How long an isolate may take to start and to evaluate.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is tried, weakest first.
const LEVELS: [(Isolation, Wx, CgroupUse); 7] = [
    (Isolation::Thread, Wx::Jit, CgroupUse::Auto),
    (Isolation::Process, Wx::Jit, CgroupUse::Auto),
    (Isolation::Process, Wx::Strict, CgroupUse::Auto),
    (Isolation::Process, Wx::Jit, CgroupUse::Require),
    (Isolation::Container, Wx::Jit, CgroupUse::Auto),
    (Isolation::Container, Wx::Strict, CgroupUse::Auto),
    (Isolation::Container, Wx::Jit, CgroupUse::Require),
];

/// One level, and whether an isolate runs there.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Trial {
    pub(super) isolation: Isolation,
    pub(super) wx: Wx,
    pub(super) cgroup: CgroupUse,
    pub(super) works: bool,
    /// Only those need it who ask for it by name. Without it, the other levels are complete.
    pub(super) optional: bool,
    /// Milliseconds until the isolate was ready.
    pub(super) start_ms: Option<f64>,
    /// Milliseconds of `1+1`.
    pub(super) evaluate_ms: Option<f64>,
    /// Layers that the level needs and this machine has not.
    pub(super) missing: Vec<String>,
    pub(super) error: Option<Failure>,
}

/// Why it does not work.
#[derive(Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failure {
    pub(super) what: String,
    pub(super) checked: String,
    pub(super) fix: String,
}

impl Trial {
    /// The level as a user asks for it.
    pub(super) fn name(&self) -> String {
        let mut name = self.isolation.name().to_owned();
        if self.wx == Wx::Strict {
            name.push_str(", wx: strict");
        }
        if self.cgroup == CgroupUse::Require {
            name.push_str(", cgroup: require");
        }
        name
    }
}

/// Tries the levels that `wanted` takes, one after the other.
pub(super) fn try_all(
    layers: &[Layer],
    wanted: impl Fn(Isolation, Wx) -> bool,
) -> Result<Vec<Trial>, Refusal> {
    let mut trials = Vec::new();
    block_on(async {
        for (isolation, wx, cgroup) in LEVELS {
            if wanted(isolation, wx) {
                trials.push(try_one(layers, isolation, wx, cgroup).await);
            }
        }
    })?;
    Ok(trials)
}

async fn try_one(layers: &[Layer], isolation: Isolation, wx: Wx, cgroup: CgroupUse) -> Trial {
    let missing = missing(layers, isolation, wx, cgroup);
    let mut trial = Trial {
        isolation,
        wx,
        cgroup,
        works: false,
        optional: cgroup == CgroupUse::Require,
        start_ms: None,
        evaluate_ms: None,
        missing,
        error: None,
    };
    let sandbox = Sandbox::new(SandboxOptions {
        warm: 0,
        defaults: IsolateOptions {
            isolation,
            wx,
            cgroup,
            ..IsolateOptions::default()
        },
        ..SandboxOptions::default()
    });
    let ran = tokio::time::timeout(PATIENCE, run(&sandbox, &mut trial)).await;
    sandbox.shutdown();
    trial.error = match ran {
        Ok(Err(failure)) => Some(failure),
        Err(_) => Some(Failure {
            what: format!("no isolate was ready within {} s", PATIENCE.as_secs()),
            checked: "creating an isolate and evaluating 1+1".to_owned(),
            fix: "the machine may be overloaded: try again; otherwise report this as a defect"
                .to_owned(),
        }),
        // A level that starts without one of its layers would be worse than none.
        Ok(Ok(())) if !trial.missing.is_empty() => Some(Failure {
            what: format!(
                "an isolate runs although layers are missing: {}",
                trial.missing.join(", ")
            ),
            checked: "each layer by itself, and creating an isolate".to_owned(),
            fix: "report this as a defect, and do not rely on this level here".to_owned(),
        }),
        Ok(Ok(())) => None,
    };
    trial.works = trial.error.is_none();
    trial
}

async fn run(sandbox: &Sandbox, trial: &mut Trial) -> Result<(), Failure> {
    let begin = Instant::now();
    let mut isolate = sandbox
        .create_default()
        .await
        .map_err(|error| match error {
            CreateError::Start(error) => Failure {
                what: error.what,
                checked: error.checked,
                fix: error.fix,
            },
            error => Failure {
                what: error.to_string(),
                checked: "creating an isolate".to_owned(),
                fix: "choose another level".to_owned(),
            },
        })?;
    trial.start_ms = Some(milliseconds(begin));
    let begin = Instant::now();
    let wrong = |what: String| Failure {
        what,
        checked: "evaluating 1+1 in a new isolate".to_owned(),
        fix: "report this as a defect".to_owned(),
    };
    let value = isolate
        .evaluate("1+1")
        .await
        .map_err(|error| wrong(error.to_string()))?;
    trial.evaluate_ms = Some(milliseconds(begin));
    match value.read::<f64>() {
        Ok(2.0) => Ok(()),
        other => Err(wrong(format!("1+1 is {other:?}"))),
    }
}

fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e5).round() / 1e2
}

/// The layers that a level needs and that are not there.
fn missing(layers: &[Layer], isolation: Isolation, wx: Wx, cgroup: CgroupUse) -> Vec<String> {
    if isolation == Isolation::Thread {
        return Vec::new();
    }
    let mut needs = vec![isolation.name()];
    if wx == Wx::Strict {
        needs.push("wx: strict");
    }
    if cgroup == CgroupUse::Require {
        needs.push("cgroup: require");
    }
    layers
        .iter()
        .filter(|layer| !layer.available)
        .filter(|layer| {
            layer
                .needed_by
                .iter()
                .any(|need| needs.contains(&need.as_str()))
        })
        .map(|layer| layer.name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, needed_by: &[&str], available: bool) -> Layer {
        Layer {
            name: name.to_owned(),
            needed_by: needed_by.iter().map(|&by| by.to_owned()).collect(),
            available,
            tested: String::new(),
            fix: String::new(),
            kernel: String::new(),
        }
    }

    #[test]
    fn missing_names_what_the_level_needs_and_nothing_else() {
        let layers = [
            layer("seccomp", &["process", "container"], true),
            layer("root", &["container"], false),
            layer("w^x", &["wx: strict"], false),
            layer("cgroup memory", &["cgroup: require"], false),
            layer("user id", &[], false),
        ];
        let missing = |isolation, wx, cgroup| missing(&layers, isolation, wx, cgroup);
        let none: [&str; 0] = [];
        assert_eq!(
            missing(Isolation::Thread, Wx::Strict, CgroupUse::Require),
            none
        );
        assert_eq!(missing(Isolation::Process, Wx::Jit, CgroupUse::Auto), none);
        assert_eq!(
            missing(Isolation::Process, Wx::Strict, CgroupUse::Auto),
            ["w^x"]
        );
        assert_eq!(
            missing(Isolation::Container, Wx::Jit, CgroupUse::Auto),
            ["root"]
        );
        assert_eq!(
            missing(Isolation::Container, Wx::Jit, CgroupUse::Require),
            ["root", "cgroup memory"]
        );
    }
}
