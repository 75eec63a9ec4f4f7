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
            let elsewhere = nearest(names(), key)
                .is_none()
                .then(|| elsewhere(top, key, path))
                .flatten()
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

/// The path to a section that has the key: of several, the one that has most of the way to `path` in common
/// with it, and of equal ones the first.
fn elsewhere(top: &'static Section, key: &str, path: &str) -> Option<String> {
    let mut places = Vec::new();
    find(top, key, String::new(), 6, &mut places);
    let apart = |place: &String| std::cmp::Reverse(in_common(place, path));
    let place = places.into_iter().min_by_key(apart)?;
    Some(if place.is_empty() {
        "the top of the file".to_owned()
    } else {
        place
    })
}

/// How many keys the ways to two places begin with in common; `<name>` is every name.
fn in_common(place: &str, path: &str) -> usize {
    let keys = |way| str::split(way, '.').map(|key| key.split('[').next().unwrap_or_default());
    keys(place)
        .zip(keys(path))
        .take_while(|(key, other)| key == other || *key == "<name>")
        .count()
}

/// Adds the paths to `section` and to the sections below it that have the key. What is below one that has it
/// is left out.
fn find(
    section: &'static Section,
    key: &str,
    path: String,
    depth: usize,
    places: &mut Vec<String>,
) {
    if section.key(key).is_some() {
        places.push(path);
    } else if depth > 0 {
        for inner in section.keys {
            find_in(inner.kind, key, join(&path, inner.name), depth, places);
        }
    }
}

fn find_in(kind: Kind, key: &str, path: String, depth: usize, places: &mut Vec<String>) {
    match kind {
        Kind::Section(section) => find(section, key, path, depth - 1, places),
        Kind::List(kind) => find_in(*kind, key, format!("{path}[]"), depth, places),
        Kind::Map(_, kind) => find_in(*kind, key, format!("{path}.<name>"), depth, places),
        Kind::Either(kinds) => {
            for kind in kinds {
                find_in(*kind, key, path.clone(), depth, places);
            }
        }
        _ => {}
    }
}
