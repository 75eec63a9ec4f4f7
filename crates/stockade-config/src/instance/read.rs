//! Reads one instance from its own keys and from what holds for all.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use croner::parser::{CronParser, Seconds, Year};
use serde_json::{Map, Number, Value as Json};
use stockade_policy::{CgroupUse, CpuShare, Isolation, Limits, Wx};

use super::assets::assets;
use super::keys::{AUTOSCALE, BINDING, FILES, SECRET};
use super::{
    Autoscale, Binding, Cron, EncodedSlashes, FileGrant, FileMode, Instance, InstanceLimits,
    Recycle, Scaling, Secret, SecretSource, StateBinding,
};
use crate::fields::Fields;
use crate::guard::{self, guard_host};
use crate::keys::{Expect, INSTANCE_NAME, Kind};
use crate::mistake::shown;
use crate::tls;
use crate::tree::{Node, Place, Remark, Use, Value};
use crate::url::UrlPattern;

/// The most nodes of one instance's `env`, texts counted by their length.
const MOST_ENV: usize = 5000;

/// What an instance is read from.
pub(crate) struct Wider<'a, 'b> {
    /// `defaults`.
    pub(crate) defaults: &'b Fields<'a>,
    /// `security`.
    pub(crate) security: &'b Fields<'a>,
    /// `scaling`.
    pub(crate) scaling: &'b Fields<'a>,
}

/// An instance and where its parts stand.
pub(crate) struct Marked {
    pub(crate) instance: Instance,
    pub(crate) at: Place,
    pub(crate) path: String,
    /// Of each URL, in order.
    pub(crate) urls: Vec<(Place, String)>,
    /// Of each binding, by its name.
    pub(crate) bindings: BTreeMap<String, (Place, String)>,
    /// Of `client_auth`.
    pub(crate) client_auth: Place,
}

/// Reads an instance from its own section. `single` is the short form with one site.
pub(crate) fn read(own: Fields<'_>, name: &str, wider: &Wider<'_, '_>, single: bool) -> Marked {
    let (at, path) = (own.at, own.path.clone());
    let scaling_from = scaling_source(&own, wider);
    let alone = own.alone();
    let fields = own.over(Some(wider.defaults));
    let limits = limits(&fields);
    let urls = urls(&fields);
    let (bindings, binding_marks) = bindings(&fields);
    let assets = assets(&fields);
    let mut code = fields.path("code");
    if code.is_none() && !fields.has("code") && assets.is_none() {
        if single {
            code = Some(default_code(&fields));
        } else {
            let what = "the instance has neither `code` nor `assets`, so it can answer nothing";
            let allowed = "code: the path of a module or of a folder with one";
            let remark = Remark::allowed(what, allowed);
            fields.reader().source.error(at, &path, remark);
        }
    }
    let wx_policy = wider.security.section("wx_policy");
    let words = [("jit", Wx::Jit), ("strict", Wx::Strict)];
    let strict = if wx_policy.flag("strict") {
        Wx::Strict
    } else {
        Wx::Jit
    };
    let scaling = scaling(&scaling_from, &fields, &limits);
    let instance = Instance {
        name: name.to_owned(),
        isolation: isolation(&fields, wider.security),
        wx: fields.word("wx", &words).unwrap_or(strict),
        wx_audit: if fields.has("wx_audit") {
            fields.flag("wx_audit")
        } else {
            wx_policy.flag("audit_logging")
        },
        cgroup: cgroup(&fields, wider.security),
        env: env(&fields),
        secrets: secrets(&fields),
        bindings,
        state: state(&fields, &limits),
        files: files(&fields, &limits),
        crons: crons(&fields),
        recycle: recycle(&fields, &limits),
        data_guard: guard::read(
            &fields
                .section("data_guard")
                .over(Some(&wider.security.section("data_guard"))),
        ),
        encoded_slashes: encoded_slashes(&fields),
        client_auth: tls::client_auth(&fields, "client_auth"),
        urls: urls.iter().map(|(url, ..)| url.clone()).collect(),
        code,
        assets,
        limits,
        scaling,
    };
    names(&instance, &alone);
    Marked {
        client_auth: fields.place("client_auth"),
        instance,
        at,
        path,
        urls: urls.into_iter().map(|(_, at, path)| (at, path)).collect(),
        bindings: binding_marks,
    }
}

fn default_code(fields: &Fields<'_>) -> std::path::PathBuf {
    let path = fields.reader().absolute(".");
    fields.reader().source.use_of(Use {
        expect: Expect::Code,
        subject: path.clone(),
        place: fields.at,
        path: format!("{}.code", fields.path),
    });
    path
}

fn isolation(fields: &Fields<'_>, security: &Fields<'_>) -> Isolation {
    let from = if fields.has("isolation") {
        fields
    } else {
        security
    };
    if from
        .find("isolation")
        .is_some_and(|found| found.node.text() == Some("vm"))
    {
        let allowed = "thread, process or container";
        let what = "there is no isolation by virtual machines yet";
        from.refuse("isolation", Remark::allowed(what, allowed));
        return Isolation::Container;
    }
    let words = [
        ("thread", Isolation::Thread),
        ("process", Isolation::Process),
        ("container", Isolation::Container),
    ];
    let level = from
        .word("isolation", &words)
        .unwrap_or(Isolation::Container);
    if level == Isolation::Thread {
        let what = "instances with `thread` share one worker: code that breaks out of V8 in one of them has them all";
        from.warn(
            "isolation",
            Remark::allowed(what, "process or container for code that is not trusted"),
        );
    }
    level
}

fn cgroup(fields: &Fields<'_>, security: &Fields<'_>) -> CgroupUse {
    let from = if fields.has("cgroup") {
        fields
    } else {
        security
    };
    let words = [("auto", CgroupUse::Auto), ("require", CgroupUse::Require)];
    from.word("cgroup", &words).unwrap_or_default()
}

fn encoded_slashes(fields: &Fields<'_>) -> EncodedSlashes {
    let words = [
        ("reject", EncodedSlashes::Reject),
        ("keep", EncodedSlashes::Keep),
        ("decode", EncodedSlashes::Decode),
    ];
    fields.word("encoded_slashes", &words).unwrap_or_default()
}

fn limits(fields: &Fields<'_>) -> InstanceLimits {
    let limits = fields.section("limits");
    let once = |short: &str, long: &str| {
        if fields.has(short) && fields.own_section("limits").has(long) {
            let what = format!("there is limits.{long} too");
            fields.refuse(short, Remark::allowed(what, "one of both"));
        }
    };
    once("memory_limit", "memory");
    once("cpu_limit", "cpu_limit");
    once("timeout_seconds", "timeout");
    let cores = fields
        .maybe_number("cpu_limit")
        .unwrap_or_else(|| limits.number("cpu_limit"));
    let cpu = limits.time("cpu");
    let wall = limits.maybe_time("wall");
    let timeout = fields
        .maybe_number("timeout_seconds")
        .map_or_else(|| limits.time("timeout"), Duration::from_secs_f64);
    InstanceLimits {
        memory: fields
            .maybe_size("memory_limit")
            .unwrap_or_else(|| limits.size("memory")),
        cpu,
        cpu_share: CpuShare::new(cores.min(1.0)).unwrap_or(CpuShare::FULL),
        wall: wall.or(Limits::wall_for(Some(cpu))).unwrap_or_default(),
        timeout,
        concurrency: limits.count("concurrency"),
        queue: limits.count("queue"),
        queue_timeout: limits.time("queue_timeout"),
        start_timeout: limits.time("start_timeout"),
        wait_until: limits.time("wait_until"),
        io_ops: limits.maybe_count32("io_ops").and_then(NonZeroU32::new),
        bandwidth: limits.maybe_size("bandwidth").and_then(NonZeroU64::new),
        subrequests: limits.count32("subrequests"),
        storage: limits.size("storage"),
        max_body: limits.size("max_body"),
        max_response: limits.maybe_size("max_response"),
        websockets: limits.count("websockets"),
        kill_grace: limits.time("kill_grace"),
    }
}

fn urls(fields: &Fields<'_>) -> Vec<(UrlPattern, Place, String)> {
    let mut out = Vec::new();
    for item in fields.list("urls") {
        let Some(text) = fields.reader().text(&item, crate::keys::URL) else {
            continue;
        };
        match UrlPattern::parse(text) {
            Ok(url) => out.push((url, item.node.place, item.path)),
            Err(remark) => fields.reader().refuse(&item, remark),
        }
    }
    out
}

fn env(fields: &Fields<'_>) -> BTreeMap<String, Json> {
    let mut out = BTreeMap::new();
    let mut weight = 0_usize;
    for (name, found) in fields.entries("env") {
        weight = weight.saturating_add(found.node.weight);
        if weight > MOST_ENV {
            let what = format!(
                "the variables of an instance are more than {MOST_ENV} values, or longer than {} KiB",
                MOST_ENV * 64 / 1024
            );
            let allowed = "large data in the site's folder, imported by its code";
            fields
                .reader()
                .refuse(&found, Remark::allowed(what, allowed));
            break;
        }
        let lower = name.to_ascii_lowercase();
        let secret = [
            "secret",
            "password",
            "passwd",
            "token",
            "api_key",
            "apikey",
            "private_key",
        ];
        if found.node.text().is_some() && secret.iter().any(|word| lower.contains(word)) {
            fields.reader().source.hide(found.node.place);
            let what = "a secret in this file is read by everyone who reads the file";
            let allowed = format!("secrets: {{{name}: {{file: …}}}} or {{variable: …}}");
            let remark = Remark::allowed(what, allowed);
            fields
                .reader()
                .source
                .warning(found.node.place, &found.path, remark);
        }
        out.insert(name.to_owned(), json(found.node));
    }
    out
}

/// A value as JSON (YAML 1.2.2, section 10.2: the JSON-like scalars).
fn json(node: &Node) -> Json {
    match &node.value {
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Map(entries) => {
            let entry = |entry: &crate::tree::Entry| (entry.key.to_string(), json(&entry.node));
            Json::Object(entries.iter().map(entry).collect::<Map<_, _>>())
        }
        Value::Scalar { .. } if node.is_null() => Json::Null,
        Value::Scalar { text, quoted } => {
            if let Some(flag) = node.flag() {
                return Json::Bool(flag);
            }
            let begins = text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
            let number = (begins && !quoted)
                .then(|| serde_json::from_str::<Number>(text).ok())
                .flatten();
            number.map_or_else(|| Json::String(text.to_string()), Json::Number)
        }
    }
}

fn secrets(fields: &Fields<'_>) -> BTreeMap<String, Secret> {
    let mut out = BTreeMap::new();
    for (name, found) in fields.entries("secrets") {
        if found.node.text().is_some() {
            fields.reader().source.hide(found.node.place);
            let what = "a secret does not stand in this file";
            let allowed = "{file: path} or {variable: NAME}";
            fields
                .reader()
                .refuse(&found, Remark::allowed(what, allowed));
            continue;
        }
        let Some(secret) = Fields::new(fields.reader(), &SECRET, &found) else {
            continue;
        };
        let hosts = secret.texts("hosts", guard_host);
        let source = match (secret.path("file"), secret.text("variable")) {
            (Some(file), None) => SecretSource::File(file),
            (None, Some(variable)) => {
                if let Some(at) = secret.find("variable") {
                    fields.reader().source.use_of(Use {
                        expect: Expect::Variable,
                        subject: variable.clone().into(),
                        place: at.node.place,
                        path: at.path,
                    });
                }
                SecretSource::Variable(variable)
            }
            (file, _) => {
                if file.is_some() || !(secret.has("file") || secret.has("variable")) {
                    let what = "a secret comes from one place";
                    let allowed = "either file: or variable:";
                    fields
                        .reader()
                        .refuse(&found, Remark::allowed(what, allowed));
                }
                continue;
            }
        };
        if secret.has("hosts") && secret.list("hosts").is_empty() {
            let what = "a secret with no hosts is of no use";
            secret.refuse(
                "hosts",
                Remark::allowed(what, "a list of hosts, or no `hosts`"),
            );
        }
        let secret = Secret {
            source,
            over_plain_http: secret.flag("over_plain_http"),
            in_urls: secret.flag("in_urls"),
            hosts: secret.has("hosts").then_some(hosts),
            value: None,
        };
        out.insert(name.to_owned(), secret);
    }
    out
}

type Marks = BTreeMap<String, (Place, String)>;

fn bindings(fields: &Fields<'_>) -> (BTreeMap<String, Binding>, Marks) {
    let (mut out, mut marks) = (BTreeMap::new(), BTreeMap::new());
    for (name, found) in fields.entries("bindings") {
        let (instance, at) = if found.node.map().is_some() {
            let Some(section) = Fields::new(fields.reader(), &BINDING, &found) else {
                continue;
            };
            (section.text("instance"), section.place("instance"))
        } else {
            let text = fields.reader().text(&found, INSTANCE_NAME);
            (text.map(str::to_owned), found.node.place)
        };
        if let Some(instance) = instance {
            out.insert(name.to_owned(), Binding { instance });
            marks.insert(name.to_owned(), (at, found.path));
        }
    }
    (out, marks)
}

fn state(fields: &Fields<'_>, limits: &InstanceLimits) -> Option<StateBinding> {
    let found = fields.find("state")?;
    if found.node.map().is_none() {
        match found.node.flag() {
            Some(true) => {}
            Some(false) => return None,
            None => {
                let what = "not a switch and not a section";
                let allowed = "true, false, or {binding: STATE, storage: 100mb}";
                fields
                    .reader()
                    .refuse(&found, Remark::allowed(what, allowed));
            }
        }
    }
    let state = fields.section("state");
    Some(StateBinding {
        binding: state.text("binding").unwrap_or_default(),
        storage: state.maybe_size("storage").unwrap_or(limits.storage),
        max_value: state.size("max_value"),
        write_rate: state.maybe_count32("write_rate"),
    })
}

fn files(fields: &Fields<'_>, limits: &InstanceLimits) -> Vec<FileGrant> {
    let mut out = Vec::new();
    for item in fields.list("files") {
        let Some(grant) = Fields::new(fields.reader(), &FILES, &item) else {
            continue;
        };
        let modes = [("read", FileMode::Read), ("write", FileMode::Write)];
        let mode = grant.word("mode", &modes).unwrap_or(FileMode::Read);
        let binding = grant.text("binding").unwrap_or_default();
        let storage = grant.maybe_size("storage").unwrap_or(limits.storage);
        let max_file = grant.size("max_file");
        let Some(path) = grant.path("path") else {
            continue;
        };
        out.push(FileGrant {
            binding,
            path,
            mode,
            storage,
            max_file,
        });
    }
    out
}

fn crons(fields: &Fields<'_>) -> Vec<Cron> {
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    fields.texts("crons", |text| match parser.parse(text) {
        Ok(_) => Ok(Cron {
            text: text.to_owned(),
        }),
        Err(error) => Err(Remark::allowed(
            format!(
                "{:?} is no cron expression: {}",
                shown(text),
                shown(error.to_string().trim_end_matches('.'))
            ),
            crate::keys::CRON.what,
        )),
    })
}

/// The nearest section that says how many mirrors there are.
fn scaling_source<'a>(own: &Fields<'a>, wider: &Wider<'a, '_>) -> Fields<'a> {
    let says = |fields: &Fields<'_>| fields.has("mirrors") || fields.has("autoscale");
    let layers = [own, wider.defaults, wider.scaling];
    let nearest = layers.into_iter().find(|fields| says(fields));
    nearest.unwrap_or(own).alone()
}

fn scaling(from: &Fields<'_>, fields: &Fields<'_>, limits: &InstanceLimits) -> Scaling {
    let mirrors = from.count("mirrors");
    let Some(found) = from.find("autoscale") else {
        return Scaling::Fixed(mirrors);
    };
    if found.node.map().is_none() {
        match found.node.flag() {
            Some(false) => return Scaling::Fixed(mirrors),
            Some(true) => {}
            None => {
                let kind = Kind::Either(&[Kind::Flag, Kind::Section(&AUTOSCALE)]);
                fields.reader().wrong(&found, &kind);
            }
        }
    }
    let auto = from
        .section("autoscale")
        .over(Some(&fields.section("autoscale")));
    let min = auto.count("min_instances");
    let given = from.has("mirrors").then_some(mirrors);
    let max = auto.maybe_whole("max_instances").map_or_else(
        || min.max(given.unwrap_or(0)).max(4),
        |max| usize::try_from(max).unwrap_or(usize::MAX),
    );
    if min > max {
        let what = format!("min_instances {min} is more than max_instances {max}");
        auto.refuse(
            "min_instances",
            Remark::allowed(what, format!("0 to {max}")),
        );
    }
    if let Some(mirrors) = given.filter(|mirrors| !(min..=max).contains(mirrors) && min <= max) {
        let what = format!("{mirrors} mirrors to begin with lie outside of {min} to {max}");
        let allowed = format!("{min} to {max}, which autoscale allows");
        from.refuse("mirrors", Remark::allowed(what, allowed));
    }
    let (stable_window, panic_window) = (auto.time("stable_window"), auto.time("panic_window"));
    if panic_window > stable_window {
        let what = "panic_window is longer than stable_window";
        let allowed = "a tenth of stable_window is usual";
        auto.refuse("panic_window", Remark::allowed(what, allowed));
    }
    let threshold = auto.number("cpu_threshold");
    let queue = auto.maybe_number("queue_length");
    Scaling::Auto(Autoscale {
        min,
        max,
        initial: given.unwrap_or(min),
        cpu_percent: threshold * limits.cpu_share.fraction(),
        requests_per_mirror: queue.unwrap_or_else(|| (limits.concurrency as f64 / 2.0).max(1.0)),
        stable_window,
        panic_window,
        idle: auto.time("scale_to_zero_after"),
    })
}

fn recycle(fields: &Fields<'_>, limits: &InstanceLimits) -> Recycle {
    let recycle = fields.section("recycle");
    let memory = recycle.maybe_size("memory");
    if memory.is_some_and(|memory| memory >= limits.memory) {
        let limit = crate::units::show_size(limits.memory);
        let what = format!("a mirror ends at its limit of {limit} before it is recycled");
        recycle.refuse(
            "memory",
            Remark::allowed(what, format!("less than {limit}")),
        );
    }
    Recycle {
        requests: recycle.maybe_whole("requests"),
        memory,
        age: recycle.maybe_time("age"),
    }
}

/// Everything in `env` has a name of its own.
fn names(instance: &Instance, fields: &Fields<'_>) {
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    let mut add = |name, what: &str| {
        if let Some(first) = seen.get(name) {
            let message = format!("{first} and {what} would both be env.{}", shown(name));
            let remark = Remark::allowed(message, "a name of its own for each");
            let at = fields.at;
            fields.reader().source.error(at, &fields.path, remark);
        } else {
            seen.insert(name, what.to_owned());
        }
    };
    instance.env.keys().for_each(|name| add(name, "a variable"));
    instance
        .secrets
        .keys()
        .for_each(|name| add(name, "a secret"));
    instance
        .bindings
        .keys()
        .for_each(|name| add(name, "a binding"));
    if let Some(state) = &instance.state {
        add(&state.binding, "the state");
    }
    for grant in &instance.files {
        add(&grant.binding, "a folder of `files`");
    }
    if let Some(binding) = instance.assets.as_ref().and_then(|a| a.binding.as_ref()) {
        add(binding, "the assets");
    }
}
