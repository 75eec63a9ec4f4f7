//! Takes values out of a section by key, and tells what is wrong with them.
//!
//! A section may lie in several layers, the nearest first: an instance's own keys, then those that hold
//! for all instances. A key is taken from the nearest layer that has it. An accessor of a key that is
//! wrong gives its default, so that reading goes on; the mistake keeps the configuration from being used.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use regex::Regex;

use crate::keys::{Format, Key, Kind, Preset, Section};
use crate::mistake::shown;
use crate::tree::{Entry, Node, Place, Remark, Source, Use, Value};
use crate::units::{size, size_fix, time, time_fix};

#[cfg(test)]
thread_local! {
    /// Sections and keys that readers asked for.
    pub(crate) static ASKED: RefCell<std::collections::BTreeSet<(&'static str, &'static str)>> =
        RefCell::default();
}

/// What all of a file's readers need.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) source: &'a Source<'a>,
    /// The folder of the file, absolute.
    pub(crate) base: &'a Path,
    /// The outermost section, for hints where a key belongs.
    pub(crate) top: &'static Section,
}

/// A section of the file.
pub(crate) struct Fields<'a> {
    reader: Reader<'a>,
    section: &'static Section,
    layers: Vec<Layer<'a>>,
    /// Where to point when a key is missing.
    pub(crate) at: Place,
    pub(crate) path: String,
}

#[derive(Clone)]
struct Layer<'a> {
    entries: &'a [Entry],
    path: String,
}

/// A value and the keys that lead to it.
#[derive(Clone)]
pub(crate) struct Found<'a> {
    pub(crate) node: &'a Node,
    /// Where its key stands; of what has no key, the value itself.
    pub(crate) at: Place,
    pub(crate) path: String,
}

impl<'a> Fields<'a> {
    /// A section of one layer. Unknown keys are told at once; `None` where the node is no mapping.
    pub(crate) fn new(
        reader: Reader<'a>,
        section: &'static Section,
        found: &Found<'a>,
    ) -> Option<Self> {
        let Found { node, at, path } = found;
        let Some(entries) = node.map() else {
            reader.wrong(found, &Kind::Section(section));
            return None;
        };
        for entry in entries {
            if section.key(&entry.key).is_none() && !(path.is_empty() && extension(&entry.key)) {
                reader.unknown_key(section, entry, path);
            }
        }
        Some(Self {
            reader,
            section,
            layers: vec![Layer {
                entries,
                path: path.clone(),
            }],
            at: *at,
            path: path.clone(),
        })
    }

    /// A section that is not there: everything has its default.
    pub(crate) fn empty(
        reader: Reader<'a>,
        section: &'static Section,
        at: Place,
        path: &str,
    ) -> Self {
        Self {
            reader,
            section,
            layers: Vec::new(),
            at,
            path: path.to_owned(),
        }
    }

    /// The same, with what `wider` says where this says nothing.
    pub(crate) fn over(mut self, wider: Option<&Self>) -> Self {
        if let Some(wider) = wider {
            self.layers.extend(wider.layers.iter().cloned());
        }
        self
    }

    /// The nearest layer alone.
    pub(crate) fn alone(&self) -> Self {
        Self {
            reader: self.reader,
            section: self.section,
            layers: self.layers.iter().take(1).cloned().collect(),
            at: self.at,
            path: self.path.clone(),
        }
    }

    pub(crate) fn reader(&self) -> Reader<'a> {
        self.reader
    }

    fn key(&self, name: &str) -> Option<&'static Key> {
        #[cfg(test)]
        ASKED.with_borrow_mut(|asked| asked.insert((self.section.name, name.to_owned().leak())));
        let key = self.section.key(name);
        debug_assert!(key.is_some(), "{} has no key {name}", self.section.name);
        key
    }

    /// The value of a key, unless it is not there or null.
    pub(crate) fn find(&self, name: &str) -> Option<Found<'a>> {
        self.key(name)?;
        self.layers.iter().find_map(|layer| {
            let entry = layer.entries.iter().find(|entry| &*entry.key == name)?;
            (!entry.node.is_null()).then(|| Found {
                node: &entry.node,
                at: entry.at,
                path: join(&layer.path, name),
            })
        })
    }

    /// Where a key's value stands, else the section.
    pub(crate) fn place(&self, name: &str) -> Place {
        self.find(name).map_or(self.at, |found| found.node.place)
    }

    /// Whether the key is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Reads a key's value by `read`, which gives `None` for a value that is not of the key's kind.
    fn value<T>(&self, name: &str, read: impl Fn(&Node, &Kind) -> Option<T>) -> Option<T> {
        let key = self.key(name)?;
        if let Some(found) = self.find(name) {
            if key.takes_none() && found.node.text() == Some("none") {
                return None;
            }
            let value = read(found.node, &key.kind);
            if value.is_none() {
                self.reader.wrong(&found, &key.kind);
            }
            if value.is_some() {
                return value;
            }
        } else if key.default == Preset::Needed {
            self.missing(name);
        }
        let Preset::Is(default) = key.default else {
            return None;
        };
        let node = Node {
            place: Place::default(),
            value: Value::Scalar {
                text: default.into(),
                quoted: false,
            },
            weight: 1,
        };
        let value = read(&node, &key.kind);
        debug_assert!(value.is_some(), "default of {name} is wrong");
        value
    }

    /// Tells that a key is missing.
    pub(crate) fn missing(&self, name: &str) {
        let allowed = self.key(name).map(|key| key.kind.allowed());
        let remark = Remark {
            what: format!("the key `{name}` is missing"),
            allowed,
            nearest: None,
        };
        self.reader.source.error(self.at, &self.path, remark);
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.value(name, |node, _| node.flag()).unwrap_or_default()
    }

    pub(crate) fn maybe_whole(&self, name: &str) -> Option<u64> {
        self.value(name, whole)
    }

    pub(crate) fn whole(&self, name: &str) -> u64 {
        self.maybe_whole(name).unwrap_or_default()
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        usize::try_from(self.whole(name)).unwrap_or(usize::MAX)
    }

    pub(crate) fn maybe_count32(&self, name: &str) -> Option<u32> {
        self.maybe_whole(name)
            .map(|n| u32::try_from(n).unwrap_or(u32::MAX))
    }

    pub(crate) fn count32(&self, name: &str) -> u32 {
        self.maybe_count32(name).unwrap_or_default()
    }

    pub(crate) fn maybe_number(&self, name: &str) -> Option<f64> {
        self.value(name, |node, kind| {
            let Kind::Number(min, max) = kind else {
                return None;
            };
            let text = plain(node)?;
            let decimal = text
                .bytes()
                .all(|b| b.is_ascii_digit() || b == b'.' || b == b'-');
            let number: f64 = decimal.then(|| text.parse().ok()).flatten()?;
            (*min..=*max).contains(&number).then_some(number)
        })
    }

    pub(crate) fn number(&self, name: &str) -> f64 {
        self.maybe_number(name).unwrap_or_default()
    }

    pub(crate) fn maybe_size(&self, name: &str) -> Option<u64> {
        self.value(name, |node, kind| {
            let Kind::Size(min, max) = kind else {
                return None;
            };
            let bytes = size(node.text()?)?;
            (*min..=*max).contains(&bytes).then_some(bytes)
        })
    }

    pub(crate) fn size(&self, name: &str) -> u64 {
        self.maybe_size(name).unwrap_or_default()
    }

    pub(crate) fn size_here(&self, name: &str) -> usize {
        usize::try_from(self.size(name)).unwrap_or(usize::MAX)
    }

    pub(crate) fn maybe_time(&self, name: &str) -> Option<Duration> {
        self.value(name, |node, kind| {
            let Kind::Time(min, max) = kind else {
                return None;
            };
            let found = time(node.text()?)?;
            let range = Duration::from_millis(*min)..=Duration::from_millis(*max);
            range.contains(&found).then_some(found)
        })
    }

    pub(crate) fn time(&self, name: &str) -> Duration {
        self.maybe_time(name).unwrap_or_default()
    }

    /// One of a few words; `words` are those of the key's kind.
    pub(crate) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Option<T> {
        debug_assert!(
            self.key(name).is_some_and(|key| match key.kind {
                Kind::Words(known) => known.iter().eq(words.iter().map(|(word, _)| word)),
                _ => false,
            }),
            "the words of {name} differ from its table's"
        );
        self.value(name, |node, _| {
            let text = node.text()?;
            words
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, meaning)| *meaning)
        })
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.value(name, |node, kind| match kind {
            Kind::Text(format) => format.of(node).map(str::to_owned),
            _ => None,
        })
    }

    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        let text = self.text(name)?;
        let Some(Kind::Text(format)) = self.key(name).map(|key| key.kind) else {
            return None;
        };
        let path = self.reader.absolute(&text);
        if let Some(found) = self.find(name) {
            self.reader.expect(&found, format, &path);
        }
        Some(path)
    }

    /// Every entry of a list; nothing where it is none.
    pub(crate) fn list(&self, name: &str) -> Vec<Found<'a>> {
        let Some(found) = self.find(name) else {
            return Vec::new();
        };
        let Some(items) = found.node.list() else {
            if let Some(key) = self.key(name) {
                self.reader.wrong(&found, &key.kind);
            }
            return Vec::new();
        };
        let item = |(index, node): (usize, &'a Node)| Found {
            node,
            at: node.place,
            path: format!("{}[{index}]", found.path),
        };
        items.iter().enumerate().map(item).collect()
    }

    /// Texts of a list, read by `read`, which says why one is wrong.
    pub(crate) fn texts<T>(&self, name: &str, read: impl Fn(&str) -> Result<T, Remark>) -> Vec<T> {
        let format = match self.key(name).map(|key| key.kind) {
            Some(Kind::List(Kind::Text(format))) => *format,
            _ => {
                debug_assert!(false, "{name} is no list of texts");
                return Vec::new();
            }
        };
        let mut out = Vec::new();
        for item in self.list(name) {
            match format.of(item.node).map(&read) {
                Some(Ok(value)) => out.push(value),
                Some(Err(remark)) => self.reader.refuse(&item, remark),
                None => self.reader.wrong(&item, &Kind::Text(format)),
            }
        }
        out
    }

    /// Paths of a list.
    pub(crate) fn paths(&self, name: &str, format: Format) -> Vec<PathBuf> {
        let items = self.list(name);
        let path = |item: &Found<'a>| self.reader.path(item, format);
        items.iter().filter_map(path).collect()
    }

    /// Entries of a mapping whose keys are names, those of all layers together.
    pub(crate) fn entries(&self, name: &str) -> Vec<(&'a str, Found<'a>)> {
        let Some(key) = self.key(name) else {
            return Vec::new();
        };
        let Kind::Map(format, _) = key.kind else {
            debug_assert!(false, "{name} is no mapping of names");
            return Vec::new();
        };
        let mut out: Vec<(&str, Found<'_>)> = Vec::new();
        let mut seen: HashSet<&str> = HashSet::new();
        for layer in &self.layers {
            let Some(entry) = layer.entries.iter().find(|entry| &*entry.key == name) else {
                continue;
            };
            let found = Found {
                node: &entry.node,
                at: entry.at,
                path: join(&layer.path, name),
            };
            if found.node.is_null() {
                continue;
            }
            let Some(entries) = found.node.map() else {
                self.reader.wrong(&found, &key.kind);
                continue;
            };
            for entry in entries {
                let path = join(&found.path, &entry.key);
                if !format.matches(&entry.key) {
                    let what = format!("{:?} is no such name", shown(&entry.key));
                    let remark = Remark::allowed(what, format.what);
                    self.reader.source.error(entry.at, &path, remark);
                } else if seen.insert(&entry.key) {
                    let (node, at) = (&entry.node, entry.at);
                    out.push((&entry.key, Found { node, at, path }));
                }
            }
        }
        out
    }

    /// A section below this one, over the same section of wider layers; all defaults where there is
    /// none. A layer that has something else there is told and left out.
    pub(crate) fn section(&self, name: &str) -> Self {
        self.below(name, &self.layers)
    }

    /// The same without wider layers.
    pub(crate) fn own_section(&self, name: &str) -> Self {
        self.below(name, self.layers.get(..1).unwrap_or_default())
    }

    fn below(&self, name: &str, layers: &[Layer<'a>]) -> Self {
        let section = match self.key(name).map(|key| key.kind) {
            Some(Kind::Section(section)) => section,
            Some(Kind::Either(kinds)) => {
                let section = kinds.iter().find_map(|kind| match kind {
                    Kind::Section(section) => Some(*section),
                    _ => None,
                });
                section.unwrap_or(self.section)
            }
            _ => {
                debug_assert!(false, "{name} is no section");
                self.section
            }
        };
        let mut out = Self::empty(self.reader, section, self.at, &join(&self.path, name));
        for layer in layers {
            let Some(entry) = layer.entries.iter().find(|entry| &*entry.key == name) else {
                continue;
            };
            // Where a short form is allowed too, its reader has told what is wrong.
            if entry.node.is_null() || entry.node.map().is_none() && !self.only_section(name) {
                continue;
            }
            let found = Found {
                node: &entry.node,
                at: entry.at,
                path: join(&layer.path, name),
            };
            if let Some(fields) = Self::new(self.reader, section, &found) {
                if out.layers.is_empty() {
                    out.at = fields.at;
                    out.path = fields.path.clone();
                }
                out.layers.extend(fields.layers);
            }
        }
        out
    }

    fn only_section(&self, name: &str) -> bool {
        matches!(self.key(name).map(|key| key.kind), Some(Kind::Section(_)))
    }

    /// Tells what is wrong with a key's value.
    pub(crate) fn refuse(&self, name: &str, remark: impl Into<Remark>) {
        match self.find(name) {
            Some(found) => self.reader.refuse(&found, remark),
            None => self.reader.source.error(self.at, &self.path, remark),
        }
    }

    /// Tells what is hardly meant with a key's value.
    pub(crate) fn warn(&self, name: &str, remark: impl Into<Remark>) {
        let (at, path) = match self.find(name) {
            Some(found) => (found.node.place, found.path),
            None => (self.at, self.path.clone()),
        };
        self.reader.source.warning(at, &path, remark);
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn refuse(&self, found: &Found<'_>, remark: impl Into<Remark>) {
        self.source.error(found.node.place, &found.path, remark);
    }

    /// Tells that a value is not of its kind.
    pub(crate) fn wrong(&self, found: &Found<'_>, kind: &Kind) {
        let text = match &found.node.value {
            Value::Scalar { text, .. } => text,
            _ => "",
        };
        let what = match &found.node.value {
            Value::Scalar { .. } if found.node.is_null() => "a value is missing".to_owned(),
            Value::Scalar { .. } => format!("{:?} is not allowed", shown(text)),
            _ => format!("{} is not allowed", found.node.kind()),
        };
        let nearest = match kind {
            Kind::Words(words) => nearest(words.iter().copied(), text),
            Kind::Size(..) => size_fix(text),
            Kind::Time(..) => time_fix(text),
            Kind::Flag => match text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "1" | "true" => Some("true".to_owned()),
                "no" | "off" | "0" | "false" => Some("false".to_owned()),
                _ => None,
            },
            _ => None,
        };
        let remark = Remark {
            what,
            allowed: Some(kind.allowed()),
            nearest,
        };
        self.refuse(found, remark);
    }

    fn unknown_key(&self, section: &'static Section, entry: &Entry, path: &str) {
        if self.source.full() {
            // Told as one of many, without the work of a hint.
            return self.source.error(entry.at, path, Remark::default());
        }
        if let Some(later) = later(&entry.key).filter(|_| path.is_empty()) {
            return self.source.error(entry.at, &entry.key, later.to_owned());
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
                let elsewhere = elsewhere(self.top, key, String::new(), 6)
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
        let remark = Remark {
            what,
            allowed: Some(all.join(", ")),
            nearest,
        };
        self.source.error(entry.at, &join(path, key), remark);
    }

    /// A path of the file, from the folder the file is in, without `.` and `..` where those only lead
    /// back.
    pub(crate) fn absolute(&self, text: &str) -> PathBuf {
        let mut out = PathBuf::new();
        for part in self.base.join(text).components() {
            match part {
                Component::CurDir => {}
                part => out.push(part),
            }
        }
        out
    }

    /// The path a node is, which is to be looked at before the file can be served.
    pub(crate) fn path(&self, found: &Found<'a>, format: Format) -> Option<PathBuf> {
        let path = self.absolute(self.text(found, format)?);
        self.expect(found, format, &path);
        Some(path)
    }

    fn expect(&self, found: &Found<'_>, format: Format, path: &Path) {
        if let Some(expect) = format.expect {
            self.source.use_of(Use {
                expect,
                subject: path.to_owned(),
                place: found.node.place,
                path: found.path.clone(),
            });
        }
    }

    /// Text of a node where it has this format; tells what is wrong otherwise.
    pub(crate) fn text(&self, found: &Found<'a>, format: Format) -> Option<&'a str> {
        let text = format.of(found.node);
        if text.is_none() {
            self.wrong(found, &Kind::Text(format));
        }
        text
    }
}

impl Format {
    /// The text of a node that has this format.
    pub(crate) fn of<'n>(&self, node: &'n Node) -> Option<&'n str> {
        node.text().filter(|text| self.matches(text))
    }

    /// Whether a text has this format; the longest text of a file that means something is a URL.
    pub(crate) fn matches(&self, text: &str) -> bool {
        const MOST: usize = 8192;
        text.len() <= MOST
            && !text.contains(char::is_control)
            && self.pattern.is_none_or(|pattern| matches(pattern, text))
    }
}

/// Whether a text matches one of the tables' expressions, each of which is compiled once.
fn matches(pattern: &'static str, text: &str) -> bool {
    thread_local! {
        static COMPILED: RefCell<HashMap<&'static str, Option<Regex>>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|compiled| {
        let entry = compiled
            .entry(pattern)
            .or_insert_with(|| Regex::new(pattern).ok());
        debug_assert!(entry.is_some(), "{pattern} is no expression");
        entry.as_ref().is_some_and(|regex| regex.is_match(text))
    })
}

/// `a.b`
pub(crate) fn join(path: &str, key: &str) -> String {
    let key = shown(key);
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

fn plain(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar {
            text,
            quoted: false,
        } => Some(text),
        _ => None,
    }
}

fn whole(node: &Node, kind: &Kind) -> Option<u64> {
    let (min, max) = match kind {
        Kind::Whole(min, max) => (min, max),
        Kind::Either(kinds) => return kinds.iter().find_map(|kind| whole(node, kind)),
        _ => return None,
    };
    let text = plain(node)?.replace('_', "");
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = digits.then(|| text.parse().ok()).flatten()?;
    (*min..=*max).contains(&number).then_some(number)
}

/// Keys that begin with `x-` are for the author: places of anchors.
fn extension(key: &str) -> bool {
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
        "log" | "logs" => "logging",
        "sites" | "services_list" | "workers" | "apps" => "instances",
        "memory_mb" | "mem" | "ram" => "memory",
        _ => return None,
    };
    Some(meant)
}

/// Keys that have their place and no meaning yet.
fn later(key: &str) -> Option<&'static str> {
    match key {
        "api_keys" => {
            Some("this comes later: there are no API keys yet, so nothing would check them")
        }
        "tracing" => {
            Some("this comes later: nothing is traced yet; `logging` and `metrics` are there")
        }
        "admin" => Some("this comes later: there is no admin API yet"),
        _ => None,
    }
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
