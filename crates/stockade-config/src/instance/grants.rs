//! What an instance is granted: variables, secrets, bindings, state, folders.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Number, Value as Json};
use stockade_http::HostPattern;

use crate::fields::Fields;
use crate::grants::FileMode;
use crate::keys::{
    FOLDER, HOST, INSTANCE_NAME, Key, Kind, SECRET_FILE, VARIABLE, boolean, integer, list, size,
    text,
};
use crate::secret::{self, SecretSource, SecretText};
use crate::section::{Record, Words, section};
use crate::tree::{Message, Node, Span, Value};

section! {
    /// A secret, from `file` or from `variable`. With `hosts`, the guest never sees the
    /// secret: it gets a placeholder, which the broker replaces in headers of requests to
    /// those hosts.
    pub struct Secret "secret" {
        /// A file that contains the secret, at most 64 KiB of text. One line break at
        /// its end is removed.
        key "file" = text(SECRET_FILE),
        /// An environment variable of the supervisor.
        key "variable" = text(VARIABLE),
        /// Where it comes from.
        pub source: SecretSource => secret::source,
        /// The hosts for which the broker inserts the secret.
        pub hosts: Option<Vec<HostPattern>> = list(&Kind::Text(HOST)).like(&["[api.example.com]"]) => hosts,
        /// With `hosts`: also inserts the secret over plain HTTP, where anyone on the
        /// network path can read it.
        pub over_plain_http: bool = boolean().default("false"),
        /// With `hosts`: also inserts the secret in paths and queries, which servers
        /// write to their logs.
        pub in_urls: bool = boolean().default("false"),
        /// The secret, where [`Config::load`](crate::Config::load) read it.
        pub value: Option<SecretText> => |_| None,
    }
}

section! {
    /// Another instance. Calls do not use the network.
    pub struct Binding "binding" {
        /// The name of the instance.
        pub instance: String = text(INSTANCE_NAME).required(),
    }
}

section! {
    /// The state that the mirrors of an instance share.
    pub struct StateBinding "instance_state" {
        /// The name of the binding in `env`.
        pub binding: String = text(VARIABLE).default("STATE"),
        /// Storage of the keyspace.
        pub storage: u64 = size(0, 1 << 50).derived("`limits.storage`"),
        /// Size of one value.
        pub max_value: u64 = size(1, 16 << 20).default("1mb"),
        /// Writes per second on average. Further writes wait.
        pub write_rate: u32 = integer(1, 1_000_000).default("10000"),
    }
}

section! {
    /// A folder that an instance may read or write. No link in it leads outside.
    pub struct FileGrant "files" {
        /// The folder.
        pub path: PathBuf = text(FOLDER).required().like(&["./data"]),
        /// The name of the binding in `env`.
        pub binding: String = text(VARIABLE).default("FILES"),
        /// `write` allows reading, creating, changing and deleting.
        pub mode: FileMode = Key::of(FileMode::KIND).default("read"),
        /// Storage of the folder, with `mode: write`.
        pub storage: u64 = size(0, 1 << 50).derived("`limits.storage`"),
        /// Size of one file.
        pub max_file: u64 = size(1, 1 << 40).default("100mb"),
    }
}

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
                .refuse(&found, Message::allowed(what, allowed));
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
            fields.reader().source.hide(found.node.span);
            let what = "a secret in this file is read by everyone who reads the file";
            let allowed = format!("secrets: {{{name}: {{file: …}}}} or {{variable: …}}");
            let message = Message::allowed(what, allowed);
            fields
                .reader()
                .source
                .warning(found.node.span, &found.path, message);
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
            let entry = |entry: &crate::tree::MapEntry| (entry.key.to_string(), json(&entry.node));
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
            fields.reader().source.hide(found.node.span);
            let what = "a secret must not be written in this file";
            let allowed = "{file: path} or {variable: NAME}";
            fields
                .reader()
                .refuse(&found, Message::allowed(what, allowed));
            continue;
        }
        let Some(section) = Fields::new(fields.reader(), Secret::SECTION, &found) else {
            continue;
        };
        let secret = Secret::read(&section);
        if !(section.has("file") ^ section.has("variable")) {
            let what = "a secret comes from one place";
            let allowed = "either file: or variable:";
            fields
                .reader()
                .refuse(&found, Message::allowed(what, allowed));
        }
        let risky = [
            ("over_plain_http", secret.over_plain_http),
            ("in_urls", secret.in_urls),
        ];
        for (key, _) in risky.iter().filter(|(_, on)| *on && secret.hosts.is_none()) {
            let what =
                "without `hosts` the guest has the secret itself, and sends it where it likes";
            let allowed = "hosts: [api.example.com], or no such key";
            section.warn(key, Message::allowed(what, allowed));
        }
        out.insert(name.to_owned(), secret);
    }
    out
}

/// The hosts towards which the broker fills in a secret; `None` hands the secret itself to the guest.
fn hosts(secret: &Fields<'_>) -> Option<Vec<HostPattern>> {
    if secret.has("hosts") && secret.list("hosts").is_empty() {
        let what = "a secret with no hosts is of no use";
        secret.refuse(
            "hosts",
            Message::allowed(what, "a list of hosts, or no `hosts`"),
        );
    }
    secret.has("hosts").then(|| secret.get("hosts"))
}

/// Where bindings stand, by their names.
pub(super) type Marks = BTreeMap<String, (Span, String)>;

pub(super) fn bindings(fields: &Fields<'_>) -> (BTreeMap<String, Binding>, Marks) {
    let (mut out, mut marks) = (BTreeMap::new(), BTreeMap::new());
    for (name, found) in fields.entries("bindings") {
        let (instance, at) = if found.node.map().is_some() {
            let Some(section) = Fields::new(fields.reader(), Binding::SECTION, &found) else {
                continue;
            };
            (section.get("instance"), section.span("instance"))
        } else {
            let text = fields.reader().text(&found, INSTANCE_NAME);
            (text.map(str::to_owned), found.node.span)
        };
        if let Some(instance) = instance {
            out.insert(name.to_owned(), Binding { instance });
            marks.insert(name.to_owned(), (at, found.path));
        }
    }
    (out, marks)
}

pub(super) fn state(fields: &Fields<'_>) -> Option<StateBinding> {
    let section = fields.switch("state", false)?;
    let mut state = StateBinding::read(&section);
    if !section.has("storage") {
        state.storage = storage(fields);
    }
    Some(state)
}

pub(super) fn files(fields: &Fields<'_>) -> Vec<FileGrant> {
    let mut out = Vec::new();
    for item in fields.list("files") {
        let Some(section) = Fields::new(fields.reader(), FileGrant::SECTION, &item) else {
            continue;
        };
        let mut grant = FileGrant::read(&section);
        if !section.has("storage") {
            grant.storage = storage(fields);
        }
        out.push(grant);
    }
    out
}

/// `limits.storage` of an instance.
fn storage(fields: &Fields<'_>) -> u64 {
    fields.section("limits").get("storage")
}
