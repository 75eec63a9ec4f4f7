//! Reads one instance from its own keys and from what holds for all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use stockade_limits::{Fresh, Isolation, Wx};

use super::grants::{Marks, bindings};
use super::scaling::{check_fresh, check_recycle, scaling, scaling_source};
use super::{Instance, InstanceLimits, TemplateUse, WxPolicy, share};
use crate::diagnostic::shown;
use crate::fields::Fields;
use crate::keys::{Expect, Kind, URL};
use crate::section::Record;
use crate::tree::{Message, Span, Use};
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
    pub(crate) at: Span,
    pub(crate) path: String,
    /// Of each URL, in order.
    pub(crate) urls: Vec<(Span, String)>,
    /// Of each binding, by its name.
    pub(crate) bindings: Marks,
    /// Of `client_auth`.
    pub(crate) client_auth: Span,
}

/// Reads an instance from its own section. `single` is the short form with one site.
pub(crate) fn read(own: Fields<'_>, name: &str, wider: &Wider<'_, '_>, single: bool) -> Marked {
    let (at, path) = (own.at, own.path.clone());
    let scaling_from = scaling_source(&own, [wider.defaults, wider.scaling]);
    let alone = own.alone();
    let fields = own.over(wider.defaults).over(wider.security);

    // Every key by itself, from the nearest layer that has it.
    let mut instance = Instance::read(&fields);
    name.clone_into(&mut instance.name);

    // What several keys decide together.
    short_limits(&fields, &mut instance.limits);
    if instance.code.is_none() && !fields.has("code") && instance.assets.is_none() {
        instance.code = missing_code(&fields, single);
    }
    let policy: WxPolicy = wider.security.get("wx_policy");
    if !fields.has("wx") && policy.strict {
        instance.wx = Wx::Strict;
    }
    if !fields.has("wx_audit") {
        instance.wx_audit = policy.audit_logging;
    }
    instance.scaling = scaling(&scaling_from, &fields, &instance.limits);
    check_recycle(&fields, &instance.recycle, &instance.limits);
    if instance.template == TemplateUse::Own && instance.isolation == Isolation::Thread {
        let what = "instances with `isolation: thread` share a worker, which has no template";
        let allowed = "shared, or `isolation: process` or `container`";
        fields.refuse("template", Message::allowed(what, allowed));
    }
    if instance.fresh == Fresh::Request {
        check_fresh(&fields, &instance);
    }

    // What is checked against the whole file needs to know where it stands.
    let (urls, url_marks) = urls(&fields);
    let (bindings, binding_marks) = bindings(&fields);
    (instance.urls, instance.bindings) = (urls, bindings);
    names(&instance, &alone);
    Marked {
        client_auth: fields.span("client_auth"),
        instance,
        at,
        path,
        urls: url_marks,
        bindings: binding_marks,
    }
}

/// The code of an instance that names neither code nor assets: for a single one the directory of the file.
fn missing_code(fields: &Fields<'_>, single: bool) -> Option<PathBuf> {
    let source = fields.reader().source;
    if !single {
        let what = "the instance has neither `code` nor `assets`, so it can answer nothing";
        let allowed = "code: the path of a module or of a folder with one";
        source.error(fields.at, &fields.path, Message::allowed(what, allowed));
        return None;
    }
    let path = fields.reader().absolute(".");
    source.use_of(Use {
        expect: Expect::Code,
        subject: path.clone(),
        span: fields.at,
        path: format!("{}.code", fields.path),
    });
    Some(path)
}

/// The level of isolation, and what is to be said about it.
pub(super) fn isolation(fields: &Fields<'_>) -> Isolation {
    let written = fields.find("isolation");
    if written.is_some_and(|found| found.node.text() == Some("vm")) {
        let allowed = "thread, process or container";
        let what = "there is no isolation by virtual machines yet";
        fields.refuse("isolation", Message::allowed(what, allowed));
        return Isolation::Container;
    }
    let level = fields.get("isolation");
    if level == Isolation::Thread {
        let what = "instances with `thread` share one worker: code that breaks out of V8 in one of them has them all";
        let allowed = "process or container for code that is not trusted";
        fields.warn("isolation", Message::allowed(what, allowed));
    }
    level
}

/// Applies the short forms of some limits.
fn short_limits(fields: &Fields<'_>, limits: &mut InstanceLimits) {
    let own = fields.own_section("limits");
    for (short, long) in [
        ("memory_limit", "memory"),
        ("cpu_limit", "cores"),
        ("timeout_seconds", "timeout"),
    ] {
        if fields.has(short) && own.has(long) {
            let what = format!("there is limits.{long} too");
            fields.refuse(short, Message::allowed(what, "one of both"));
        }
    }
    let memory: Option<u64> = fields.get("memory_limit");
    let cores: Option<f64> = fields.get("cpu_limit");
    let timeout: Option<f64> = fields.get("timeout_seconds");
    limits.memory = memory.unwrap_or(limits.memory);
    limits.cores = cores.map_or(limits.cores, share);
    limits.timeout = timeout.map_or(limits.timeout, Duration::from_secs_f64);
}

fn urls(fields: &Fields<'_>) -> (Vec<UrlPattern>, Vec<(Span, String)>) {
    let reader = fields.reader();
    let urls = fields.list("urls").into_iter().filter_map(|item| {
        let url = reader.parsed(&item, &Kind::Text(URL), UrlPattern::parse)?;
        Some((url, (item.node.span, item.path)))
    });
    urls.unzip()
}

/// Everything in `env` has a name of its own.
fn names(instance: &Instance, fields: &Fields<'_>) {
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    let mut add = |name, what: &str| {
        if let Some(first) = seen.get(name) {
            let message = format!("{first} and {what} would both be env.{}", shown(name));
            let message = Message::allowed(message, "a name of its own for each");
            let at = fields.at;
            fields.reader().source.error(at, &fields.path, message);
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
    instance.grants.keys().for_each(|name| add(name, "a grant"));
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
