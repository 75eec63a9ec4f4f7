//! Options of a sandbox and of one isolate, read from the JSON object a script passes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::limits::{CpuShare, Limits, MIN_MEMORY};
use crate::problem::{OptionsError, Problem};

/// Longest name of an isolate, in bytes.
pub const MAX_NAME_LEN: usize = 128;

/// Most source text that one isolate's `modules` may hold, in bytes.
pub const MAX_MODULE_BYTES: usize = 64 << 20;

/// How coarse a guest's clocks are unless `timerPrecisionUs` says otherwise.
pub const DEFAULT_TIMER_PRECISION: Duration = Duration::from_micros(100);

/// How strongly an isolate is walled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConsoleMode {
    /// Nowhere: its methods do nothing.
    #[default]
    Silent,
    /// To the host, as the system event `console`.
    Event,
    /// To the standard output and standard error of `stockade run`, a prefix before each line. Where
    /// isolates are used as a library, lines come as with [`ConsoleMode::Event`].
    Inherit,
}

/// Everything that makes one isolate, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct IsolateOptions {
    /// A name for logs and the debugger; at most [`MAX_NAME_LEN`] bytes, no control characters.
    pub name: Option<String>,
    /// The wall around it.
    pub isolation: Isolation,
    /// What it may use.
    pub limits: Limits,
    /// What the guest reads as `NETWORK.env`.
    pub env: Map<String, Value>,
    /// What the guest may `import`: specifier to source text.
    pub modules: BTreeMap<String, String>,
    /// Where its `console` goes.
    pub console: ConsoleMode,
    /// How coarse its clocks are.
    pub timer_precision: Duration,
    /// Whether `SharedArrayBuffer` and `Atomics.wait` exist.
    pub shared_array_buffer: bool,
}

impl Default for IsolateOptions {
    fn default() -> Self {
        Self {
            name: None,
            isolation: Isolation::default(),
            limits: Limits::default(),
            env: Map::new(),
            modules: BTreeMap::new(),
            console: ConsoleMode::default(),
            timer_precision: DEFAULT_TIMER_PRECISION,
            shared_array_buffer: false,
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

const ISOLATE_KEYS: &[&str] = &[
    "name",
    "isolation",
    "cpuLimitMs",
    "cpuTotalMs",
    "cpuShare",
    "wallLimitMs",
    "requestTimeoutMs",
    "memoryLimitMb",
    "env",
    "modules",
    "console",
    "timerPrecisionUs",
    "sharedArrayBuffer",
];
const SANDBOX_KEYS: &[&str] = &["threads", "warm"];

impl IsolateOptions {
    /// Reads the object a script passes to `createIsolate`, over these defaults.
    ///
    /// # Errors
    /// Names every unknown key and every value of the wrong type or range.
    pub fn with_json(&self, json: &Map<String, Value>) -> Result<Self, OptionsError> {
        let mut reader = Reader::new(json);
        let options = reader.isolate(self);
        reader.unknown(&[ISOLATE_KEYS]);
        reader.finish(options)
    }
}

impl SandboxOptions {
    /// Reads the object a script passes to `new V8Sandbox`, over these defaults.
    ///
    /// # Errors
    /// Names every unknown key and every value of the wrong type or range.
    pub fn with_json(&self, json: &Map<String, Value>) -> Result<Self, OptionsError> {
        let mut reader = Reader::new(json);
        let threads = reader.whole("threads", 1, 1024);
        let warm = reader.whole("warm", 0, 1024);
        let defaults = reader.isolate(&self.defaults);
        reader.unknown(&[SANDBOX_KEYS, ISOLATE_KEYS]);
        reader.finish(Self {
            threads: threads.map_or(self.threads, |n| n as usize),
            warm: warm.map_or(self.warm, |n| n as usize),
            defaults,
        })
    }
}

/// Takes options out of an object one by one and collects what is wrong.
struct Reader<'a> {
    json: &'a Map<String, Value>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn new(json: &'a Map<String, Value>) -> Self {
        Self {
            json,
            problems: Vec::new(),
        }
    }

    fn problem(&mut self, option: &str, message: String) {
        self.problems.push(Problem {
            option: option.to_owned(),
            message,
        });
    }

    fn wrong(&mut self, option: &str, allowed: &str, value: &Value) {
        let mut shown = value.to_string();
        if shown.len() > 60 {
            let end = (0..=60)
                .rev()
                .find(|&i| shown.is_char_boundary(i))
                .unwrap_or(0);
            shown.truncate(end);
            shown.push('…');
        }
        self.problem(option, format!("{shown} is not {allowed}"));
    }

    fn value(&self, option: &str) -> Option<&'a Value> {
        self.json.get(option).filter(|value| !value.is_null())
    }

    fn whole(&mut self, option: &str, min: u64, max: u64) -> Option<u64> {
        let value = self.value(option)?;
        let number = value.as_u64().or_else(|| {
            // JavaScript has one kind of number: 5.0 and 5 are the same.
            value
                .as_f64()
                .filter(|n| n.fract() == 0.0 && *n >= 0.0 && *n <= 9e15)
                .map(|n| n as u64)
        });
        let found = number.filter(|n| (min..=max).contains(n));
        if found.is_none() {
            self.wrong(
                option,
                &format!("a whole number from {min} to {max}"),
                value,
            );
        }
        found
    }

    /// Milliseconds, fractions allowed; `Some(None)` is 0, no limit.
    fn millis(&mut self, option: &str) -> Option<Option<Duration>> {
        let value = self.value(option)?;
        match value.as_f64().filter(|ms| (0.0..=1e12).contains(ms)) {
            Some(0.0) => Some(None),
            Some(ms) => Some(Some(Duration::from_secs_f64(ms / 1e3))),
            None => {
                self.wrong(
                    option,
                    "a number of milliseconds from 0 (no limit) to 1e12",
                    value,
                );
                None
            }
        }
    }

    fn isolate(&mut self, defaults: &IsolateOptions) -> IsolateOptions {
        let mut options = defaults.clone();
        self.limits(&mut options.limits);
        if let Some(value) = self.value("name") {
            match value.as_str() {
                Some(name) if name.len() <= MAX_NAME_LEN && !name.contains(char::is_control) => {
                    options.name = Some(name.to_owned());
                }
                _ => self.wrong(
                    "name",
                    "a string of at most 128 bytes without control characters",
                    value,
                ),
            }
        }
        if let Some(value) = self.value("isolation") {
            match value.as_str().and_then(Isolation::from_name) {
                Some(isolation) => options.isolation = isolation,
                None => self.wrong(
                    "isolation",
                    "'thread', 'process', 'container' or 'vm'",
                    value,
                ),
            }
        }
        if let Some(value) = self.value("console") {
            match value.as_str() {
                Some("silent") => options.console = ConsoleMode::Silent,
                Some("event") => options.console = ConsoleMode::Event,
                Some("inherit") => options.console = ConsoleMode::Inherit,
                _ => self.wrong("console", "'silent', 'event' or 'inherit'", value),
            }
        }
        if let Some(value) = self.value("env") {
            match value.as_object() {
                Some(env) => options.env = env.clone(),
                None => self.wrong("env", "an object", value),
            }
        }
        if let Some(value) = self.value("modules") {
            self.modules(value, &mut options.modules);
        }
        if let Some(us) = self.whole("timerPrecisionUs", 1, 1_000_000) {
            options.timer_precision = Duration::from_micros(us);
        }
        if let Some(value) = self.value("sharedArrayBuffer") {
            match value.as_bool() {
                Some(on) => options.shared_array_buffer = on,
                None => self.wrong("sharedArrayBuffer", "true or false", value),
            }
        }
        options
    }

    fn limits(&mut self, limits: &mut Limits) {
        if let Some(cpu) = self.millis("cpuLimitMs") {
            limits.cpu = cpu;
            limits.wall = Limits::wall_for(cpu);
        }
        if let Some(total) = self.millis("cpuTotalMs") {
            limits.cpu_total = total;
        }
        if let Some(wall) = self.millis("wallLimitMs") {
            limits.wall = wall;
        }
        if let Some(timeout) = self.millis("requestTimeoutMs") {
            limits.request_timeout = timeout;
        }
        if let Some(value) = self.value("cpuShare") {
            let share = value.as_f64();
            match share.and_then(CpuShare::new) {
                Some(share) => limits.cpu_share = share,
                None if share == Some(0.0) => limits.cpu_share = CpuShare::FULL,
                None => self.wrong(
                    "cpuShare",
                    "a share of one core above 0 and at most 1",
                    value,
                ),
            }
        }
        if let Some(value) = self.value("memoryLimitMb") {
            let least = MIN_MEMORY >> 20;
            match value
                .as_f64()
                .filter(|mb| *mb == 0.0 || (least as f64..=1e7).contains(mb))
            {
                Some(0.0) => limits.memory = None,
                Some(mb) => limits.memory = Some((mb * 1048576.0) as u64),
                None => {
                    let allowed = format!("0 (no limit) or megabytes from {least} to 1e7");
                    self.wrong("memoryLimitMb", &allowed, value);
                }
            }
        }
    }

    fn modules(&mut self, value: &Value, modules: &mut BTreeMap<String, String>) {
        let Some(given) = value.as_object() else {
            return self.wrong("modules", "an object of specifiers and source texts", value);
        };
        modules.clear();
        let mut bytes = 0_usize;
        for (specifier, source) in given {
            match source.as_str() {
                Some(source) => {
                    bytes = bytes.saturating_add(source.len());
                    modules.insert(specifier.clone(), source.to_owned());
                }
                None => self.wrong(&format!("modules[{specifier:?}]"), "source text", source),
            }
        }
        if bytes > MAX_MODULE_BYTES {
            let limit = MAX_MODULE_BYTES >> 20;
            self.problem(
                "modules",
                format!("{bytes} bytes of source; the limit is {limit} MiB"),
            );
        }
    }

    fn unknown(&mut self, known: &[&[&str]]) {
        for key in self.json.keys() {
            let all = || known.iter().flat_map(|keys| keys.iter());
            if all().any(|k| k == key) {
                continue;
            }
            let nearest = all()
                .map(|k| {
                    (
                        strsim::damerau_levenshtein(&k.to_lowercase(), &key.to_lowercase()),
                        *k,
                    )
                })
                .filter(|(distance, _)| *distance <= 3)
                .min();
            let hint = nearest.map_or(String::new(), |(_, k)| format!("; did you mean {k}?"));
            self.problem(key, format!("there is no such option{hint}"));
        }
    }

    fn finish<T>(self, options: T) -> Result<T, OptionsError> {
        if self.problems.is_empty() {
            Ok(options)
        } else {
            Err(OptionsError {
                problems: self.problems,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn isolate_options_every_mistake_is_named() {
        let error = read(serde_json::json!({
            "cpuLimit": 5, "memoryLimitMb": 1, "console": "loud", "isolation": "moat",
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
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
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
