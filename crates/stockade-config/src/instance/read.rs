//! Reads one instance from its own keys and from what holds for all.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use croner::parser::{CronParser, Seconds, Year};
use stockade_http::EncodedSlashes;
use stockade_policy::{CgroupUse, CpuShare, Isolation, Limits, Wx};

use super::assets::assets;
use super::grants::{bindings, env, files, secrets, state};
use super::scaling::{recycle, scaling, scaling_source};
use super::{Cron, Instance, InstanceLimits};
use crate::fields::Fields;
use crate::guard;
use crate::keys::Expect;
use crate::mistake::shown;
use crate::tls;
use crate::tree::{Place, Remark, Use};
use crate::url::UrlPattern;

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

fn default_code(fields: &Fields<'_>) -> PathBuf {
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
