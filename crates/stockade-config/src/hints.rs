//! Hints for keys that are not there: the nearest one, the one that other programs' name means, the section
//! it belongs to.

use crate::diagnostic::shown;
use crate::keys::{Key, Kind, Section};
use crate::tree::{MapEntry, Message, Source, join};

/// Reports a key that is in no table, and the key that was probably meant.
pub(crate) fn unknown_key(
    source: &Source<'_>,
    top: &'static Section,
    section: &'static Section,
    entry: &MapEntry,
    path: &str,
) {
    if source.full() {
        // Counted as one of many, without the work of a hint.
        return source.error(entry.at, path, Message::default());
    }
    let names = || section.keys.iter().map(|key| key.name);
    let key: &str = &entry.key;
    let (what, nearest) =
        if let Some(meant) = meant(key).filter(|meant| section.key(meant).is_some()) {
            (
                format!("there is no key {:?}", shown(key)),
                Some(meant.to_owned()),
            )
        } else {
            let elsewhere = elsewhere(top, key, String::new(), 6)
                .filter(|_| nearest(names(), key).is_none())
                .map(|place| format!("; it belongs to {place}"));
            let what = format!(
                "there is no key {:?} here{}",
                shown(key),
                elsewhere.unwrap_or_default()
            );
            (what, nearest(names(), key))
        };
    let mut all: Vec<_> = names().collect();
    all.sort_unstable();
    let message = Message {
        what,
        allowed: Some(all.join(", ")),
        nearest,
    };
    source.error(entry.at, &join(path, key), message);
}

/// Warns about a key by its old name, among `entries`, which must not have both names.
pub(crate) fn renamed_key(
    source: &Source<'_>,
    key: &Key,
    entry: &MapEntry,
    entries: &[MapEntry],
    path: &str,
) {
    let (old, path) = (&*entry.key, join(path, &entry.key));
    if entries.iter().any(|entry| &*entry.key == key.name) {
        let what = format!(
            "`{old}` is the old name of `{}`, which is there too",
            key.name
        );
        source.error(entry.at, &path, Message::allowed(what, "one of both"));
    } else {
        let what = format!("`{old}` is the old name of this key");
        source.warning(entry.at, &path, Message::allowed(what, key.name));
    }
}

/// Keys that begin with `x-` are for the author, who keeps anchors there.
pub(crate) fn extension(key: &str) -> bool {
    key.starts_with("x-")
}

/// The nearest of some names, if one is near.
pub(crate) fn nearest<'n>(names: impl Iterator<Item = &'n str>, text: &str) -> Option<String> {
    if text.len() > 64 {
        return None;
    }
    let text = text.to_lowercase().replace('-', "_");
    let far = (text.chars().count() / 3).clamp(1, 3);
    names
        .map(|name| {
            (
                strsim::damerau_levenshtein(&name.replace('-', "_"), &text),
                name,
            )
        })
        .filter(|(distance, _)| *distance <= far)
        .min()
        .map(|(_, name)| name.to_owned())
}

/// What other programs call a key of ours.
fn meant(key: &str) -> Option<&'static str> {
    let meant = match key {
        "egress" | "outbound" | "allow_net" | "network_policy" => "data_guard",
        "allow" | "allowlist" | "whitelist" | "allowed_hosts" | "hosts_allowed" => {
            "outbound_whitelist"
        }
        "main" | "script" | "entrypoint" | "entry" | "source" => "code",
        "environment" | "vars" | "variables" => "env",
        "replicas" | "count" => "mirrors",
        "routes" | "hosts" | "hostnames" | "host" | "url" | "domains" => "urls",
        "schedule" | "cron" | "schedules" | "triggers" => "crons",
        "static" | "public" | "www" => "assets",
        "services" | "service_bindings" => "bindings",
        "volumes" | "mounts" | "folders" => "files",
        "listen" | "bind" | "ports" => "listeners",
        "min" | "min_mirrors" => "min_instances",
        "max" | "max_mirrors" => "max_instances",
        "certificate" | "cert_file" | "crt" => "cert",
        "private_key" | "key_file" => "key",
        "mtls" => "client_auth",
        "client_ca" => "ca",
        "prometheus" => "metrics",
        "opentelemetry" | "otel" | "otlp" | "traces" => "tracing",
        "log" | "logs" => "logging",
        "sites" | "services_list" | "workers" | "apps" => "instances",
        "memory_mb" | "mem" | "ram" => "memory",
        _ => return None,
    };
    Some(meant)
}

/// The path to a section below `section` that has the key.
fn elsewhere(section: &'static Section, key: &str, path: String, depth: usize) -> Option<String> {
    if section.key(key).is_some() {
        return Some(if path.is_empty() {
            "the top of the file".to_owned()
        } else {
            path
        });
    }
    if depth == 0 {
        return None;
    }
    section
        .keys
        .iter()
        .find_map(|inner| below(inner.kind, key, join(&path, inner.name), depth))
}

fn below(kind: Kind, key: &str, path: String, depth: usize) -> Option<String> {
    match kind {
        Kind::Section(section) => elsewhere(section, key, path, depth - 1),
        Kind::List(kind) => below(*kind, key, format!("{path}[]"), depth),
        Kind::Map(_, kind) => below(*kind, key, format!("{path}.<name>"), depth),
        Kind::Either(kinds) => kinds
            .iter()
            .find_map(|kind| below(*kind, key, path.clone(), depth)),
        _ => None,
    }
}
