//! What all readers of a file share: they read a single value, and report one that is not of its kind.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use regex::Regex;

use crate::diagnostic::shown;
use crate::hints::nearest;
use crate::keys::{Format, Kind, Section};
use crate::tree::{Message, Node, Source, Span, Use, Value};
use crate::units::{size_fix, time_fix};

/// What all of a file's readers need.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) source: &'a Source<'a>,
    /// The folder of the file, absolute.
    pub(crate) base: &'a Path,
    /// The outermost section, for hints where a key belongs.
    pub(crate) top: &'static Section,
    /// Whether a secret of a grant may be plain text: it may where a program gives it, and not in a file.
    pub(crate) plain_secrets: bool,
}

/// A value and the keys that lead to it.
#[derive(Clone)]
pub(crate) struct Located<'a> {
    pub(crate) node: &'a Node,
    /// Where its key stands; of what has no key, the value itself.
    pub(crate) at: Span,
    pub(crate) path: String,
}

impl<'a> Located<'a> {
    /// A value that does not stand in the file.
    pub(crate) fn nowhere(node: &'a Node) -> Self {
        Self {
            node,
            at: Span::default(),
            path: String::new(),
        }
    }

    /// Whether the value stands in the file.
    pub(crate) fn is_written(&self) -> bool {
        self.node.span != Span::default()
    }
}

/// Reads a single value of a kind, and reports one that is wrong.
pub(crate) type ParseFn<T> = for<'n> fn(Reader<'n>, &Located<'n>, &Kind) -> Option<T>;

impl<'a> Reader<'a> {
    pub(crate) fn refuse(&self, found: &Located<'_>, message: impl Into<Message>) {
        self.source.error(found.node.span, &found.path, message);
    }

    /// Reports that a value is not of its kind.
    pub(crate) fn wrong(&self, found: &Located<'_>, kind: &Kind) {
        if self.source.full() {
            return self.refuse(found, Message::default());
        }
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
            Kind::Enum(words) => nearest(words.iter().copied(), text),
            Kind::Size(min, max) => size_fix(text, |bytes| (*min..=*max).contains(&bytes)),
            Kind::Time(min, max) => {
                let range = Duration::from_millis(*min)..=Duration::from_millis(*max);
                time_fix(text, |time| range.contains(&time))
            }
            Kind::Bool => match text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "1" | "true" => Some("true".to_owned()),
                "no" | "off" | "0" | "false" => Some("false".to_owned()),
                _ => None,
            },
            _ => None,
        };
        let message = Message {
            what,
            allowed: Some(kind.allowed()),
            nearest,
        };
        self.refuse(found, message);
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

    /// The path a value is. A path of the file is checked before the file can be served.
    pub(crate) fn path(&self, found: &Located<'a>, format: Format) -> Option<PathBuf> {
        let path = self.absolute(self.text(found, format)?);
        if found.is_written() {
            self.expect(found, format, &path);
        }
        Some(path)
    }

    fn expect(&self, found: &Located<'_>, format: Format, path: &Path) {
        if let Some(expect) = format.expect {
            self.source.use_of(Use {
                expect,
                subject: path.to_owned(),
                span: found.node.span,
                path: found.path.clone(),
            });
        }
    }

    /// Text of a value where it has this format; reports it otherwise.
    pub(crate) fn text(&self, found: &Located<'a>, format: Format) -> Option<&'a str> {
        let text = format.of(found.node);
        if text.is_none() {
            self.wrong(found, &Kind::Text(format));
        }
        text
    }

    /// What `read` makes of a value; reports a value that it makes nothing of.
    pub(crate) fn scalar<T>(
        &self,
        found: &Located<'_>,
        kind: &Kind,
        read: impl Fn(&Node) -> Option<T>,
    ) -> Option<T> {
        let value = read(found.node);
        if value.is_none() {
            self.wrong(found, kind);
        }
        value
    }

    /// What one of a few words stands for: the value that has the word's place.
    pub(crate) fn word<T: Copy>(
        &self,
        found: &Located<'_>,
        kind: &Kind,
        words: &[&str],
        values: &[T],
    ) -> Option<T> {
        self.scalar(found, kind, |node| {
            let text = node.text()?;
            let at = words.iter().position(|word| *word == text)?;
            values.get(at).copied()
        })
    }

    /// What `read` makes of a text; it says why one is wrong.
    pub(crate) fn parsed<T>(
        &self,
        found: &Located<'a>,
        kind: &Kind,
        read: impl Fn(&str) -> Result<T, Message>,
    ) -> Option<T> {
        let Kind::Text(format) = kind else {
            debug_assert!(false, "{} is not a string", found.path);
            return None;
        };
        match read(self.text(found, *format)?) {
            Ok(value) => Some(value),
            Err(message) => {
                self.refuse(found, message);
                None
            }
        }
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
        debug_assert!(entry.is_some(), "{pattern} is not an expression");
        entry.as_ref().is_some_and(|regex| regex.is_match(text))
    })
}
