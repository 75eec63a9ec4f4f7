//! Reads options from the JSON object that a script passes.
//!
//! Reading goes on after a problem, so that one error names them all. An option that is `null` or left
//! out keeps its default.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::limits::{
    CpuShare, Limits, MAX_IO_BYTES, MAX_IO_OPS, MAX_MEMORY_MB, MAX_PENDING_REQUESTS, MIN_IO_BYTES,
    MIN_MEMORY, MIN_TIME,
};
use crate::options::{
    CgroupUse, ConsoleMode, IsolateOptions, Isolation, KILL_GRACE, MAX_MODULE_BYTES, MAX_NAME_LEN,
    SandboxOptions, Wx,
};
use crate::problem::{OptionProblem, OptionsError};

const ISOLATE_KEYS: &[&str] = &[
    "name",
    "isolation",
    "group",
    "template",
    "wx",
    "cgroup",
    "killGraceMs",
    "cpuLimitMs",
    "cpuTotalMs",
    "cpuShare",
    "wallLimitMs",
    "requestTimeoutMs",
    "memoryLimitMb",
    "ioOpsPerSecond",
    "ioBytesPerSecond",
    "maxPendingRequests",
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
    /// Names every unknown key, every value of the wrong type or range, and every pair of options
    /// that do not go together.
    pub fn with_json(&self, json: &Map<String, Value>) -> Result<Self, OptionsError> {
        let mut reader = Reader::new(json);
        let options = reader.isolate(self);
        reader.unknown(&[ISOLATE_KEYS]);
        if let Err(error) = options.check() {
            reader.add(error);
        }
        reader.finish(options)
    }
}

impl SandboxOptions {
    /// Reads the object a script passes to `new V8Sandbox`, over these defaults. Whether the options
    /// of an isolate go together is checked when there is one, for its own may replace them.
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
    problems: Vec<OptionProblem>,
}

impl<'a> Reader<'a> {
    fn new(json: &'a Map<String, Value>) -> Self {
        Self {
            json,
            problems: Vec::new(),
        }
    }

    fn problem(&mut self, option: &str, message: String) {
        self.problems.push(OptionProblem {
            option: option.to_owned(),
            message,
        });
    }

    /// Adds what is wrong with the options as a whole.
    fn add(&mut self, error: OptionsError) {
        self.problems.extend(error.problems);
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
        let found = whole_number(value).filter(|n| (min..=max).contains(n));
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
    fn millis(&mut self, option: &str, least: Duration) -> Option<Option<Duration>> {
        let value = self.value(option)?;
        let least = least.as_secs_f64() * 1e3;
        let range = least..=1e12;
        match value.as_f64().filter(|ms| *ms == 0.0 || range.contains(ms)) {
            Some(0.0) => Some(None),
            Some(ms) => Some(Some(Duration::from_secs_f64(ms / 1e3))),
            None => {
                let allowed = match least {
                    0.0 => "a number of milliseconds from 0 (no limit) to 1e12".to_owned(),
                    _ => format!("0 (no limit) or milliseconds from {least} to 1e12"),
                };
                self.wrong(option, &allowed, value);
                None
            }
        }
    }

    /// A whole number, where 0 is no limit: `Some(None)`.
    fn rate(&mut self, option: &str, min: u64, max: u64) -> Option<Option<NonZeroU64>> {
        let value = self.value(option)?;
        let found = whole_number(value).filter(|n| *n == 0 || (min..=max).contains(n));
        if found.is_none() {
            let allowed = format!("0 (no limit) or a whole number from {min} to {max}");
            self.wrong(option, &allowed, value);
        }
        found.map(NonZeroU64::new)
    }

    /// A short name for people.
    fn name(&mut self, option: &str) -> Option<String> {
        let value = self.value(option)?;
        let name = value
            .as_str()
            .filter(|name| name.len() <= MAX_NAME_LEN && !name.contains(char::is_control));
        if name.is_none() {
            let allowed =
                format!("a string of at most {MAX_NAME_LEN} bytes without control characters");
            self.wrong(option, &allowed, value);
        }
        name.map(str::to_owned)
    }

    /// One of a few words.
    fn word<T: Copy>(&mut self, option: &str, words: &[(&str, T)], allowed: &str) -> Option<T> {
        let value = self.value(option)?;
        let word = value.as_str().unwrap_or_default();
        let found = words.iter().find(|(name, _)| *name == word);
        if found.is_none() {
            self.wrong(option, allowed, value);
        }
        found.map(|(_, meaning)| *meaning)
    }

    fn isolate(&mut self, defaults: &IsolateOptions) -> IsolateOptions {
        let mut options = defaults.clone();
        self.limits(&mut options.limits);
        self.requests(&mut options.limits);
        if let Some(name) = self.name("name") {
            options.name = Some(name);
        }
        self.isolation(&mut options);
        let consoles = [
            ("silent", ConsoleMode::Silent),
            ("event", ConsoleMode::Event),
            ("inherit", ConsoleMode::Inherit),
        ];
        if let Some(console) = self.word("console", &consoles, "'silent', 'event' or 'inherit'") {
            options.console = console;
        }
        if let Some(value) = self.value("env") {
            match value.as_object() {
                Some(env) => options.env = env.clone(),
                None => self.wrong("env", "an object", value),
            }
        }
        if let Some(value) = self.value("modules") {
            self.modules(value, &mut options.modules);
            options.main = None;
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

    /// The isolation of the isolate.
    fn isolation(&mut self, options: &mut IsolateOptions) {
        let levels = "'thread', 'process', 'container' or 'vm'";
        if let Some(isolation) = self.word("isolation", &Isolation::NAMES, levels) {
            options.isolation = isolation;
        }
        if let Some(group) = self.name("group") {
            options.group = Some(group);
        }
        if let Some(template) = self.name("template") {
            options.template = Some(template);
        }
        let modes = [("jit", Wx::Jit), ("strict", Wx::Strict)];
        if let Some(wx) = self.word("wx", &modes, "'jit' or 'strict'") {
            options.wx = wx;
        }
        let uses = [("auto", CgroupUse::Auto), ("require", CgroupUse::Require)];
        if let Some(cgroup) = self.word("cgroup", &uses, "'auto' or 'require'") {
            options.cgroup = cgroup;
        }
        let grace = |duration: &Duration| duration.as_millis() as u64;
        let (least, most) = (grace(KILL_GRACE.start()), grace(KILL_GRACE.end()));
        if let Some(ms) = self.whole("killGraceMs", least, most) {
            options.kill_grace = Duration::from_millis(ms);
        }
    }

    fn limits(&mut self, limits: &mut Limits) {
        if let Some(cpu) = self.millis("cpuLimitMs", MIN_TIME) {
            limits.cpu = cpu;
            limits.wall = Limits::wall_limit_for(cpu);
        }
        if let Some(total) = self.millis("cpuTotalMs", MIN_TIME) {
            limits.cpu_total = total;
        }
        if let Some(wall_limit) = self.millis("wallLimitMs", MIN_TIME) {
            limits.wall = wall_limit;
        }
        if let Some(timeout) = self.millis("requestTimeoutMs", Duration::ZERO) {
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
                .filter(|mb| *mb == 0.0 || (least as f64..=MAX_MEMORY_MB).contains(mb))
            {
                Some(0.0) => limits.memory = None,
                Some(mb) => limits.memory = Some((mb * 1048576.0) as u64),
                None => {
                    let allowed =
                        format!("0 (no limit) or megabytes from {least} to {MAX_MEMORY_MB:e}");
                    self.wrong("memoryLimitMb", &allowed, value);
                }
            }
        }
    }

    /// How much the guest may ask of its host.
    fn requests(&mut self, limits: &mut Limits) {
        if let Some(ops) = self.rate("ioOpsPerSecond", 1, MAX_IO_OPS.into()) {
            limits.io_ops = ops.and_then(|ops| NonZeroU32::try_from(ops).ok());
        }
        if let Some(bytes) = self.rate("ioBytesPerSecond", MIN_IO_BYTES, MAX_IO_BYTES) {
            limits.io_bytes = bytes;
        }
        if let Some(most) = self.whole("maxPendingRequests", 1, MAX_PENDING_REQUESTS.into()) {
            limits.pending_requests = most as u32;
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

/// JavaScript has one kind of number: 5.0 and 5 are the same.
fn whole_number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|n| n.fract() == 0.0 && *n >= 0.0 && *n <= 9e15)
            .map(|n| n as u64)
    })
}
