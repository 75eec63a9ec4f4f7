//! Reads what an instance is granted: variables, secrets, bindings, state, folders.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value as Json};

use super::grant_keys::{BINDING, FILES, SECRET};
use super::{Binding, FileGrant, FileMode, InstanceLimits, Secret, SecretSource, StateBinding};
use crate::fields::Fields;
use crate::guard::guard_host;
use crate::keys::{Expect, INSTANCE_NAME};
use crate::tree::{Node, Place, Remark, Use, Value};

/// The most nodes of one instance's `env`, texts counted by their length.
const MOST_ENV: usize = 5000;

pub(super) fn env(fields: &Fields<'_>) -> BTreeMap<String, Json> {
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

pub(super) fn secrets(fields: &Fields<'_>) -> BTreeMap<String, Secret> {
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
        for key in ["over_plain_http", "in_urls"] {
            if secret.flag(key) && !secret.has("hosts") {
                let what =
                    "without `hosts` the guest has the secret itself, and sends it where it likes";
                let allowed = "hosts: [api.example.com], or no such key";
                secret.warn(key, Remark::allowed(what, allowed));
            }
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

/// Where bindings stand, by their names.
pub(super) type Marks = BTreeMap<String, (Place, String)>;

pub(super) fn bindings(fields: &Fields<'_>) -> (BTreeMap<String, Binding>, Marks) {
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

pub(super) fn state(fields: &Fields<'_>, limits: &InstanceLimits) -> Option<StateBinding> {
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
        write_rate: state.count32("write_rate"),
    })
}

pub(super) fn files(fields: &Fields<'_>, limits: &InstanceLimits) -> Vec<FileGrant> {
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
