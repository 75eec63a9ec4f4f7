//! Options of a sandbox and of one isolate.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::limits::Limits;
use crate::problem::{OptionProblem, OptionsError};

/// Longest name of an isolate or a group, in bytes.
pub const MAX_NAME_LEN: usize = 128;

/// Most source text that one isolate's `modules` may hold, in bytes.
pub const MAX_MODULE_BYTES: usize = 64 << 20;

/// How coarse a guest's clocks are unless `timerPrecisionUs` says otherwise.
pub const DEFAULT_TIMER_PRECISION: Duration = Duration::from_micros(100);

/// What `killGraceMs` is unless it is given.
pub const DEFAULT_KILL_GRACE: Duration = Duration::from_millis(200);

/// The range of `killGraceMs`.
pub const KILL_GRACE: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_millis(10_000);

/// How strongly an isolate is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A V8 isolate on a thread of this process: for code trusted not to carry a V8 exploit.
    #[default]
    Thread,
    /// A confined process.
    Process,
    /// A confined process in namespaces of its own.
    Container,
    /// A virtual machine.
    Vm,
}

impl Isolation {
    /// Every level with the name users write, weakest first.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("thread", Self::Thread),
        ("process", Self::Process),
        ("container", Self::Container),
        ("vm", Self::Vm),
    ];

    /// The level called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, level)| *level)
    }

    /// The name users write.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Process => "process",
            Self::Container => "container",
            Self::Vm => "vm",
        }
    }
}

/// Where a guest's `console` goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleMode {
    /// Nowhere: its methods do nothing.
    #[default]
    Silent,
    /// To the host, as the system event `console`.
    Event,
    /// To the standard output and standard error of `stockade run`, a prefix before each line. Where
    /// isolates are used as a library, lines come as with [`ConsoleMode::Event`].
    Inherit,
    /// To the host, all of it: nothing is cut or dropped, and the guest waits while the host does not take
    /// it. What one call prints comes in one or more pieces, the last of which ends with a newline. Not for
    /// scripts; as a program's output is.
    Whole,
}

/// Whether memory of an isolate's worker may be both written and executed, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wx {
    /// V8 compiles to machine code; pages change between writable and executable.
    #[default]
    Jit,
    /// Never: V8 interprets, and the kernel refuses every way to executable memory. Not for
    /// [`Isolation::Thread`].
    Strict,
}

/// Whether an isolate's worker must be in a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupUse {
    /// Where the machine lets this user make cgroups.
    #[default]
    Auto,
    /// Without cgroups for memory and pids the isolate does not start. Not for
    /// [`Isolation::Thread`].
    Require,
}

/// What gets an isolate that was never used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Fresh {
    /// A mirror of a site, which then answers many requests.
    #[default]
    Mirror,
    /// Each request to a site: the isolate ends with its answer. Not for [`Isolation::Thread`].
    Request,
}

/// Everything that makes one isolate, checked; what options must have in common is checked by
/// [`IsolateOptions::check`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IsolateOptions {
    /// A name for logs and the debugger; at most [`MAX_NAME_LEN`] bytes, no control characters.
    pub name: Option<String>,
    /// Its isolation level.
    pub isolation: Isolation,
    /// Isolates of one group trust each other: they may share a worker. `None` shares with nobody. At
    /// most [`MAX_NAME_LEN`] bytes, no control characters; not for [`Isolation::Thread`].
    pub group: Option<String>,
    /// Its worker is cloned from a template that only isolates with this name use, and shares no address with others.
    /// `None` is the template of all others. At most [`MAX_NAME_LEN`] bytes, no control characters; not for
    /// [`Isolation::Thread`], and not with `group`.
    pub template: Option<String>,
    /// Whether its worker may ever execute what it has written.
    pub wx: Wx,
    /// Whether its worker must be in a cgroup.
    pub cgroup: CgroupUse,
    /// How long it may run on after V8 was asked to end it, before its worker is killed; within
    /// [`KILL_GRACE`]. A thread cannot be killed.
    pub kill_grace: Duration,
    /// What it may use.
    pub limits: Limits,
    /// What the guest reads as `NETWORK.env`.
    pub env: Map<String, Value>,
    /// What the guest may `import`: specifier to source text.
    pub modules: BTreeMap<String, String>,
    /// The module that is run when the isolate starts; `None` is the first there is of `main`, `main.ts`,
    /// `main.js`, `main.tsx`, `main.jsx` and `main.mjs`.
    pub main: Option<String>,
    /// Where its `console` goes.
    pub console: ConsoleMode,
    /// How coarse its clocks are.
    pub timer_precision: Duration,
    /// Whether `SharedArrayBuffer` and `Atomics.wait` exist.
    pub shared_array_buffer: bool,
    /// Whether debuggers may be let into its worker.
    pub inspect: bool,
    /// Whether a CPU profile of it is recorded from its first statement.
    pub record_cpu: bool,
}

impl Default for IsolateOptions {
    fn default() -> Self {
        Self {
            name: None,
            isolation: Isolation::default(),
            group: None,
            template: None,
            wx: Wx::default(),
            cgroup: CgroupUse::default(),
            kill_grace: DEFAULT_KILL_GRACE,
            limits: Limits::default(),
            env: Map::new(),
            modules: BTreeMap::new(),
            main: None,
            console: ConsoleMode::default(),
            timer_precision: DEFAULT_TIMER_PRECISION,
            shared_array_buffer: false,
            inspect: false,
            record_cpu: false,
        }
    }
}

/// Options of a whole sandbox.
#[derive(Debug, Clone, PartialEq)]
pub struct SandboxOptions {
    /// How many isolates may compute at length at the same time, at least 1.
    pub threads: usize,
    /// How many started isolates to keep ready, so that creating one is quick.
    pub warm: usize,
    /// What an isolate gets where its own options say nothing.
    pub defaults: IsolateOptions,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            threads: 2,
            warm: 1,
            defaults: IsolateOptions::default(),
        }
    }
}

impl IsolateOptions {
    /// Checks what options must have in common.
    ///
    /// # Errors
    /// Names every option that cannot hold at this level of isolation.
    pub fn check(&self) -> Result<(), OptionsError> {
        if self.template.is_some() && self.group.is_some() {
            let message = "isolates of a group have no template; leave out 'template' or 'group'";
            return Err(OptionsError {
                problems: vec![OptionProblem {
                    option: "template".to_owned(),
                    message: message.to_owned(),
                }],
            });
        }
        if self.isolation != Isolation::Thread {
            return Ok(());
        }
        let mut problems = Vec::new();
        let mut refuse = |option: &str, why: &str| {
            problems.push(OptionProblem {
                option: option.to_owned(),
                message: format!("{why}; choose isolation 'process' or 'container'"),
            });
        };
        if self.wx == Wx::Strict {
            refuse(
                "wx",
                "'strict' cannot hold with isolation 'thread', where V8's compiler serves the whole \
                 process",
            );
        }
        if self.group.is_some() {
            refuse(
                "group",
                "isolates of a group share a worker, and isolation 'thread' has none",
            );
        }
        if self.template.is_some() {
            refuse(
                "template",
                "workers are cloned from templates, and isolation 'thread' has none",
            );
        }
        if self.cgroup == CgroupUse::Require {
            refuse(
                "cgroup",
                "'require' cannot hold with isolation 'thread', which has no process of its own",
            );
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(OptionsError { problems })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroU64};

    use super::*;
    use crate::limits::CpuShare;

    fn read(json: Value) -> Result<IsolateOptions, OptionsError> {
        let Value::Object(map) = json else {
            panic!("an object")
        };
        IsolateOptions::default().with_json(&map)
    }

    #[test]
    fn isolate_options_zero_means_no_limit() {
        let options = read(serde_json::json!({
            "cpuLimitMs": 0, "memoryLimitMb": 0, "wallLimitMs": 0, "cpuShare": 0
        }))
        .unwrap();
        assert_eq!(options.limits.cpu, None);
        assert_eq!(options.limits.memory, None);
        assert_eq!(options.limits.wall, None);
        assert_eq!(options.limits.cpu_share, CpuShare::FULL);
    }

    #[test]
    fn isolate_options_cpu_limit_moves_wall_limit() {
        let options = read(serde_json::json!({ "cpuLimitMs": 2000 })).unwrap();
        assert_eq!(options.limits.wall, Some(Duration::from_secs(20)));
        let options = read(serde_json::json!({ "cpuLimitMs": 2000, "wallLimitMs": 7 })).unwrap();
        assert_eq!(options.limits.wall, Some(Duration::from_millis(7)));
    }

    #[test]
    fn isolate_options_every_error_is_named() {
        let error = read(serde_json::json!({
            "cpuLimit": 5, "cpuTotalMs": 0.5, "memoryLimitMb": 1, "console": "loud", "isolation": "moat",
            "modules": { "./a.js": 3 }, "cpuLimitMs": "x"
        }))
        .unwrap_err();
        let text = error.to_string();
        for part in [
            "cpuLimit: there is no such option; did you mean cpuLimitMs?",
            "memoryLimitMb: 1 is not 0 (no limit) or megabytes from 8 to 1e7",
            "console: \"loud\" is not",
            "isolation: \"moat\" is not",
            "modules[\"./a.js\"]: 3 is not source text",
            "cpuLimitMs: \"x\" is not",
            "cpuTotalMs: 0.5 is not 0 (no limit) or milliseconds from 1 to",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }

    fn problems(json: Value) -> Vec<String> {
        let error = read(json).unwrap_err();
        error
            .problems
            .iter()
            .map(OptionProblem::to_string)
            .collect()
    }

    #[test]
    fn isolate_options_of_isolation_are_read() {
        let options = read(serde_json::json!({
            "isolation": "container", "group": "tenant-a", "wx": "strict", "cgroup": "require",
            "killGraceMs": 50, "ioOpsPerSecond": 100, "ioBytesPerSecond": 1e9,
            "maxPendingRequests": 3
        }))
        .unwrap();
        assert_eq!(options.group.as_deref(), Some("tenant-a"));
        assert_eq!(options.wx, Wx::Strict);
        assert_eq!(options.cgroup, CgroupUse::Require);
        assert_eq!(options.kill_grace, Duration::from_millis(50));
        assert_eq!(options.limits.io_ops.map(NonZeroU32::get), Some(100));
        assert_eq!(
            options.limits.io_bytes.map(NonZeroU64::get),
            Some(1_000_000_000)
        );
        assert_eq!(options.limits.pending_requests, 3);
        let none = serde_json::json!({ "ioOpsPerSecond": 0, "ioBytesPerSecond": 0, "group": null });
        assert_eq!(read(none).unwrap(), IsolateOptions::default());
    }

    #[test]
    fn isolate_options_of_isolation_out_of_range_are_named() {
        let text = problems(serde_json::json!({
            "group": "a\nb", "wx": "loose", "cgroup": true, "killGraceMs": 0,
            "ioOpsPerSecond": 1_000_001, "ioBytesPerSecond": 1023, "maxPendingRequests": 16385,
            "ioBytePerSecond": 1, "killGrace": 1
        }));
        for part in [
            "group: \"a\\nb\" is not a string of at most 128 bytes",
            "wx: \"loose\" is not 'jit' or 'strict'",
            "cgroup: true is not 'auto' or 'require'",
            "killGraceMs: 0 is not a whole number from 1 to 10000",
            "ioOpsPerSecond: 1000001 is not 0 (no limit) or a whole number from 1 to 1000000",
            "ioBytesPerSecond: 1023 is not 0 (no limit) or a whole number from 1024 to",
            "maxPendingRequests: 16385 is not a whole number from 1 to 16384",
            "ioBytePerSecond: there is no such option; did you mean ioBytesPerSecond?",
            "killGrace: there is no such option; did you mean killGraceMs?",
        ] {
            assert!(
                text.iter().any(|problem| problem.starts_with(part)),
                "{part:?} is missing in\n{text:#?}"
            );
        }
        let long = serde_json::json!({ "isolation": "process", "group": "é".repeat(65) });
        assert!(read(long).is_err());
        let longest = serde_json::json!({ "isolation": "process", "group": "é".repeat(64) });
        assert!(read(longest).is_ok());
    }

    #[test]
    fn isolate_options_that_need_a_process_are_refused_for_a_thread() {
        let text =
            problems(serde_json::json!({ "wx": "strict", "group": "", "cgroup": "require" }));
        let own = problems(serde_json::json!({ "template": "a" }));
        assert!(
            own[0].starts_with("template: workers are cloned"),
            "{own:?}"
        );
        let both = serde_json::json!({ "isolation": "process", "template": "a", "group": "a" });
        assert!(problems(both)[0].contains("leave out"));
        read(serde_json::json!({ "isolation": "process", "template": "a" })).unwrap();
        assert_eq!(text.len(), 3, "{text:#?}");
        for (problem, option) in text.iter().zip(["wx: ", "group: ", "cgroup: "]) {
            assert!(
                problem.starts_with(option) && problem.contains("choose isolation 'process'"),
                "{problem}"
            );
        }
    }

    #[test]
    fn isolate_options_defaults_and_overrides_are_checked_together() {
        let object = |json: Value| json.as_object().cloned().unwrap();
        let sandbox = SandboxOptions::default()
            .with_json(&object(serde_json::json!({ "wx": "strict" })))
            .unwrap();
        let with = |json| sandbox.defaults.with_json(&object(json));
        assert!(with(serde_json::json!({})).is_err());
        assert!(with(serde_json::json!({ "wx": "jit" })).is_ok());
        assert!(with(serde_json::json!({ "isolation": "process" })).is_ok());
    }

    #[test]
    fn sandbox_options_take_both_kinds_of_keys() {
        let Value::Object(map) = serde_json::json!({ "threads": 4, "memoryLimitMb": 64 }) else {
            panic!("an object")
        };
        let options = SandboxOptions::default().with_json(&map).unwrap();
        assert_eq!(options.threads, 4);
        assert_eq!(options.defaults.limits.memory, Some(64 << 20));
    }
}
