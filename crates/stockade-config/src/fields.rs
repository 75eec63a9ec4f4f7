//! Takes values out of a section by key, and reports what is wrong with them.
//!
//! A section may lie in several layers, the nearest first: an instance's own keys, then those that hold
//! for all instances. A key is taken from the nearest layer that has it.

use std::collections::HashSet;

use crate::diagnostic::shown;
use crate::hints::{extension, renamed_key, unknown_key};
use crate::keys::{Key, Kind, Presence, Section};
use crate::reader::{Located, ParseFn, Reader};
use crate::tree::{MapEntry, Message, Node, Span, join};

/// A section of the file.
pub(crate) struct Fields<'a> {
    reader: Reader<'a>,
    section: &'static Section,
    layers: Vec<Layer<'a>>,
    /// Where to point when a key is missing.
    pub(crate) at: Span,
    pub(crate) path: String,
}

#[derive(Clone)]
struct Layer<'a> {
    entries: &'a [MapEntry],
    path: String,
}

impl<'a> Layer<'a> {
    /// The value of a key by its name or its old one, unless it is not there or null.
    fn find(&self, key: &Key) -> Option<Located<'a>> {
        let named = |name: &str| self.entries.iter().find(|entry| &*entry.key == name);
        let entry = named(key.name).or_else(|| named(key.old_name?))?;
        (!entry.node.is_null()).then(|| Located {
            node: &entry.node,
            at: entry.at,
            path: join(&self.path, &entry.key),
        })
    }
}

impl<'a> Fields<'a> {
    /// A section of one layer. Unknown keys are reported at once; `None` where the node is no mapping.
    pub(crate) fn new(
        reader: Reader<'a>,
        section: &'static Section,
        found: &Located<'a>,
    ) -> Option<Self> {
        let Located { node, at, path } = found;
        let Some(entries) = node.map() else {
            reader.wrong(found, &Kind::Section(section));
            return None;
        };
        for entry in entries {
            if let Some(key) = section.renamed(&entry.key) {
                renamed_key(reader.source, key, entry, entries, path);
            } else if section.key(&entry.key).is_none()
                && !(path.is_empty() && extension(&entry.key))
            {
                unknown_key(reader.source, reader.top, section, entry, path);
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
    fn empty(reader: Reader<'a>, section: &'static Section, at: Span, path: &str) -> Self {
        Self {
            reader,
            section,
            layers: Vec::new(),
            at,
            path: path.to_owned(),
        }
    }

    /// This section, with what `wider` says where it says nothing.
    pub(crate) fn over(mut self, wider: &Self) -> Self {
        self.layers.extend(wider.layers.iter().cloned());
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

    /// Whether the section has this key at all.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.section.key(name).is_some()
    }

    /// Whether the key must be there.
    pub(crate) fn is_required(&self, name: &str) -> bool {
        self.key(name)
            .is_some_and(|key| key.presence == Presence::Required)
    }

    fn key(&self, name: &str) -> Option<&'static Key> {
        let key = self.section.key(name);
        debug_assert!(key.is_some(), "{} has no key {name}", self.section.name);
        key
    }

    /// The value of a key, unless it is not there or null.
    pub(crate) fn find(&self, name: &str) -> Option<Located<'a>> {
        let key = self.key(name)?;
        let found = |layer: &Layer<'a>| layer.find(key);
        self.layers.iter().find_map(found)
    }

    /// Where a key's value stands, else the section.
    pub(crate) fn span(&self, name: &str) -> Span {
        self.find(name).map_or(self.at, |found| found.node.span)
    }

    /// Whether the key is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The value of a key, or its default; `None` where the key has neither.
    pub(crate) fn value<T>(&self, name: &str, parse: ParseFn<T>) -> Option<T> {
        let key = self.key(name)?;
        if let Some(found) = self.find(name) {
            if key.takes_none() && found.node.text() == Some("none") {
                return None;
            }
            let value = parse(self.reader, &found, &key.kind);
            if value.is_some() {
                return value;
            }
        } else if key.presence == Presence::Required {
            self.missing(name);
        }
        let Presence::Default(text) = key.presence else {
            return None;
        };
        let node = Node::plain(text);
        let value = parse(self.reader, &Located::nowhere(&node), &key.kind);
        debug_assert!(value.is_some(), "default of {name} is wrong");
        value
    }

    /// Every entry of a list that is of its kind.
    pub(crate) fn items<T>(&self, name: &str, parse: ParseFn<T>) -> Vec<T> {
        self.each(name, |item, kind| parse(self.reader, item, kind))
    }

    /// Every text of a list for which `read` does not say why it is wrong.
    pub(crate) fn texts<T>(&self, name: &str, read: fn(&str) -> Result<T, Message>) -> Vec<T> {
        self.each(name, |item, kind| self.reader.parsed(item, kind, read))
    }

    fn each<T>(&self, name: &str, read: impl Fn(&Located<'a>, &Kind) -> Option<T>) -> Vec<T> {
        let Some(Kind::List(kind)) = self.key(name).map(|key| key.kind) else {
            debug_assert!(false, "{name} is not a list");
            return Vec::new();
        };
        let items = self.list(name);
        items.iter().filter_map(|item| read(item, kind)).collect()
    }

    /// Reports that a key is missing.
    pub(crate) fn missing(&self, name: &str) {
        let allowed = self.key(name).map(|key| key.kind.allowed());
        let message = Message {
            what: format!("the key `{name}` is missing"),
            allowed,
            nearest: None,
        };
        self.reader.source.error(self.at, &self.path, message);
    }

    /// Every entry of a list; nothing where it is none.
    pub(crate) fn list(&self, name: &str) -> Vec<Located<'a>> {
        let Some(found) = self.find(name) else {
            return Vec::new();
        };
        let Some(items) = found.node.list() else {
            if let Some(key) = self.key(name) {
                self.reader.wrong(&found, &key.kind);
            }
            return Vec::new();
        };
        if items.is_empty() && self.key(name).is_some_and(|key| key.nonempty) {
            let allowed = format!("at least one entry, or no `{name}`");
            let message = Message::allowed("an empty list allows nothing", allowed);
            self.reader.refuse(&found, message);
        }
        let item = |(index, node): (usize, &'a Node)| Located {
            node,
            at: node.span,
            path: format!("{}[{index}]", found.path),
        };
        items.iter().enumerate().map(item).collect()
    }

    /// Entries of a mapping whose keys are names, those of all layers together.
    pub(crate) fn entries(&self, name: &str) -> Vec<(&'a str, Located<'a>)> {
        let Some(key) = self.key(name) else {
            return Vec::new();
        };
        let Kind::Map(format, _) = key.kind else {
            debug_assert!(false, "{name} is not a mapping of names");
            return Vec::new();
        };
        let mut out: Vec<(&str, Located<'_>)> = Vec::new();
        let mut seen: HashSet<&str> = HashSet::new();
        for layer in &self.layers {
            let Some(found) = layer.find(key) else {
                continue;
            };
            let Some(entries) = found.node.map() else {
                self.reader.wrong(&found, &key.kind);
                continue;
            };
            for entry in entries {
                let path = join(&found.path, &entry.key);
                if !format.matches(&entry.key) {
                    let what = format!("{:?} is not allowed here", shown(&entry.key));
                    let message = Message::allowed(what, format.what);
                    self.reader.source.error(entry.at, &path, message);
                } else if seen.insert(&entry.key) {
                    let (node, at) = (&entry.node, entry.at);
                    out.push((&entry.key, Located { node, at, path }));
                }
            }
        }
        out
    }

    /// A section below this one, over the same section of wider layers; all defaults where there is
    /// none. A layer that has something else there is reported and left out.
    pub(crate) fn section(&self, name: &str) -> Self {
        self.below(name, &self.layers)
    }

    /// A section below this one, without wider layers.
    pub(crate) fn own_section(&self, name: &str) -> Self {
        self.below(name, self.layers.get(..1).unwrap_or_default())
    }

    /// The section of the nearest layer that has the key, as a whole: nothing in it is taken from wider ones.
    pub(crate) fn nearest_section(&self, name: &str) -> Self {
        let key = self.key(name);
        let has = |layer: &&Layer<'a>| key.is_some_and(|key| layer.find(key).is_some());
        let nearest = self.layers.iter().find(has);
        self.below(name, nearest.map_or(&[], std::slice::from_ref))
    }

    /// The section of a key that may be `true` or `false` too; `None` for `false`. Without the key it is `without`.
    pub(crate) fn switch(&self, name: &str, without: bool) -> Option<Self> {
        let on = match self.find(name) {
            None => without,
            Some(found) if found.node.map().is_some() => true,
            Some(found) => found.node.flag().unwrap_or_else(|| {
                if let Some(key) = self.key(name) {
                    self.reader.wrong(&found, &key.kind);
                }
                true
            }),
        };
        on.then(|| self.section(name))
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
                debug_assert!(false, "{name} is not a section");
                self.section
            }
        };
        let mut out = Self::empty(self.reader, section, self.at, &join(&self.path, name));
        let Some(key) = self.key(name) else {
            return out;
        };
        let mut placed = false;
        for found in layers.iter().filter_map(|layer| layer.find(key)) {
            // Where a short form is allowed too, its reader has reported what is wrong with it. A key that is
            // missing in what the short form stands for is missing there.
            if found.node.map().is_none() && !matches!(key.kind, Kind::Section(_)) {
                if !placed {
                    (out.at, out.path, placed) = (found.at, found.path, true);
                }
                continue;
            }
            if let Some(fields) = Self::new(self.reader, section, &found) {
                if !placed {
                    (out.at, out.path, placed) = (fields.at, fields.path.clone(), true);
                }
                out.layers.extend(fields.layers);
            }
        }
        out
    }

    /// Reports what is wrong with a key's value.
    pub(crate) fn refuse(&self, name: &str, message: impl Into<Message>) {
        match self.find(name) {
            Some(found) => self.reader.refuse(&found, message),
            None => self.reader.source.error(self.at, &self.path, message),
        }
    }

    /// Warns about a suspicious value of a key.
    pub(crate) fn warn(&self, name: &str, message: impl Into<Message>) {
        let (at, path) = match self.find(name) {
            Some(found) => (found.node.span, found.path),
            None => (self.at, self.path.clone()),
        };
        self.reader.source.warning(at, &path, message);
    }
}
