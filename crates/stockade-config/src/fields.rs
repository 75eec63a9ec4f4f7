//! Takes values out of a section by key, and tells what is wrong with them.
//!
//! A section may lie in several layers, the nearest first: an instance's own keys, then those that hold
//! for all instances. A key is taken from the nearest layer that has it. An accessor of a key that is
//! wrong gives its default, so that reading goes on; the mistake keeps the configuration from being used.

#[cfg(test)]
use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::hints::{extension, unknown_key};
use crate::keys::{Format, Key, Kind, Preset, Section};
use crate::mistake::shown;
use crate::tree::{Entry, Node, Place, Remark, Source, Value};
use crate::units::{size, time};

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
                unknown_key(&reader, section, entry, path);
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

    /// The section of the nearest layer that has the key, as a whole: nothing in it is taken from wider ones.
    pub(crate) fn nearest_section(&self, name: &str) -> Self {
        let has = |layer: &&Layer<'a>| {
            let mut entries = layer.entries.iter();
            entries.any(|entry| &*entry.key == name && !entry.node.is_null())
        };
        let nearest = self.layers.iter().find(has);
        self.below(name, nearest.map_or(&[], std::slice::from_ref))
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
