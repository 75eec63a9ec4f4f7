//! A file as a tree in which every node knows its place.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;

use crate::keys::Expect;

use crate::diagnostic::{Diagnostic, Severity, excerpt, shown};

/// Where a node stands: bytes of the text, and line and column from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A value and where it stands. Aliases share what they stand for.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
    /// Nodes and text in it, aliases counted as often as they are used.
    pub(crate) weight: usize,
}

/// What YAML has.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Its text, and whether it stood in quotes or in a block: then it is nothing but text.
    Scalar {
        text: Rc<str>,
        quoted: bool,
    },
    List(Rc<[Node]>),
    Map(Rc<[MapEntry]>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct MapEntry {
    pub(crate) key: Rc<str>,
    pub(crate) at: Span,
    pub(crate) node: Node,
}

impl Node {
    /// Text that does not stand in the file, such as a default.
    pub(crate) fn plain(text: &str) -> Self {
        Self {
            span: Span::default(),
            value: Value::Scalar {
                text: text.into(),
                quoted: false,
            },
            weight: 1,
        }
    }

    /// A mapping with this value alone: the long form of a section whose short form is the value of one key.
    pub(crate) fn under(&self, key: &str, at: Span) -> Self {
        let entry = MapEntry {
            key: key.into(),
            at,
            node: self.clone(),
        };
        Self {
            value: Value::Map([entry].into()),
            ..self.clone()
        }
    }

    /// YAML's null: nothing, `~` or `null` (YAML 1.2.2, section 10.2.1.1).
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, quoted: false }
            if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self) -> Option<bool> {
        match &self.value {
            Value::Scalar {
                text,
                quoted: false,
            } => match &**text {
                "true" | "True" | "TRUE" => Some(true),
                "false" | "False" | "FALSE" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    pub(crate) fn list(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn map(&self) -> Option<&[MapEntry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// What a reader of the file would call it.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping of keys to values",
            Value::Scalar { .. } if self.is_null() => "empty",
            Value::Scalar { .. } => "text",
        }
    }
}

/// The text and what was found wrong with it so far.
pub(crate) struct Source<'a> {
    file: String,
    text: &'a str,
    found: RefCell<Vec<(Span, Diagnostic)>>,
    /// Diagnostics beyond [`MOST_DIAGNOSTICS`].
    dropped: Cell<usize>,
    uses: RefCell<Vec<Use>>,
    /// Bytes that no excerpt may show.
    hidden: RefCell<HashSet<Range<usize>>>,
}

/// The most diagnostics that are kept; a file with more has one cause.
const MOST_DIAGNOSTICS: usize = 1000;

/// A path, or an environment variable, that must be there before the file can be served.
#[derive(Debug, Clone)]
pub(crate) struct Use {
    pub(crate) expect: Expect,
    pub(crate) subject: PathBuf,
    pub(crate) span: Span,
    pub(crate) path: String,
}

/// What to say of a place.
#[derive(Default)]
pub(crate) struct Message {
    pub(crate) what: String,
    pub(crate) allowed: Option<String>,
    pub(crate) nearest: Option<String>,
}

impl From<String> for Message {
    fn from(what: String) -> Self {
        Self {
            what,
            ..Self::default()
        }
    }
}

impl Message {
    pub(crate) fn allowed(what: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            allowed: Some(allowed.into()),
            nearest: None,
        }
    }
}

impl<'a> Source<'a> {
    pub(crate) fn new(file: &str, text: &'a str) -> Self {
        Self {
            file: file.to_owned(),
            text,
            found: RefCell::default(),
            dropped: Cell::new(0),
            uses: RefCell::default(),
            hidden: RefCell::default(),
        }
    }

    pub(crate) fn error(&self, at: Span, path: &str, message: impl Into<Message>) {
        self.add(Severity::Error, at, path, message.into());
    }

    pub(crate) fn warning(&self, at: Span, path: &str, message: impl Into<Message>) {
        self.add(Severity::Warning, at, path, message.into());
    }

    fn add(&self, severity: Severity, at: Span, path: &str, message: Message) {
        if self.full() {
            self.dropped.set(self.dropped.get().saturating_add(1));
            return;
        }
        let diagnostic = Diagnostic {
            severity,
            file: self.file.clone(),
            line: at.line,
            column: at.column,
            length: 1,
            path: path.to_owned(),
            excerpt: String::new(),
            excerpt_column: 0,
            what: message.what,
            allowed: message.allowed,
            nearest: message.nearest,
        };
        self.found.borrow_mut().push((at, diagnostic));
    }

    /// Whether further diagnostics are only counted, so that no work need go into them.
    pub(crate) fn full(&self) -> bool {
        self.found.borrow().len() >= MOST_DIAGNOSTICS
    }

    /// Keeps the text of a value, a secret, out of every excerpt.
    pub(crate) fn hide(&self, at: Span) {
        self.hidden.borrow_mut().insert(at.start..at.end);
    }

    /// Fills in the line a diagnostic is in, or what is near in a long one, without what is hidden; `hidden`
    /// is sorted.
    fn quote(&self, at: Span, diagnostic: &mut Diagnostic, hidden: &[Range<usize>]) {
        const NEAR: usize = 1024;
        let text = self.text;
        let start = floor(text, at.start);
        let near = floor(text, start.saturating_sub(NEAR));
        let before = text.get(near..start).unwrap_or_default();
        let first = before
            .rfind('\n')
            .map_or(near, |newline| near + newline + 1);
        let after = text.get(start..floor(text, start.saturating_add(NEAR)));
        let after = after.unwrap_or_default();
        let last = start + after.find(['\n', '\r']).unwrap_or(after.len());
        let end = floor(text, at.end.max(at.start)).min(last);
        let meant = text.get(start..end).unwrap_or_default();
        let line = text.get(first..last).unwrap_or_default();
        let shown: String = line
            .char_indices()
            .map(|(index, c)| {
                let at = first + index;
                let next = hidden.partition_point(|range| range.end <= at);
                let inside = hidden.get(next).is_some_and(|range| range.contains(&at));
                if inside { '*' } else { c }
            })
            .collect();
        let column = text.get(first..start).unwrap_or_default().chars().count();
        (diagnostic.excerpt, diagnostic.excerpt_column) = excerpt(&shown, column);
        diagnostic.length = meant.trim_end().chars().count().max(1);
    }

    pub(crate) fn use_of(&self, found: Use) {
        self.uses.borrow_mut().push(found);
    }

    /// What must be there, in the order it was read.
    pub(crate) fn uses(&self) -> Vec<Use> {
        self.uses.borrow().clone()
    }

    /// What was found, errors and warnings apart, and how many more diagnostics there are.
    pub(crate) fn finish(self) -> (Vec<Diagnostic>, Vec<Diagnostic>, usize) {
        let mut hidden: Vec<_> = self.hidden.take().into_iter().collect();
        // Ranges are of whole values, so none lies across another.
        hidden.sort_unstable_by_key(|range| (range.end, range.start));
        let mut found: Vec<_> = self
            .found
            .take()
            .into_iter()
            .map(|(at, mut diagnostic)| {
                self.quote(at, &mut diagnostic, &hidden);
                diagnostic
            })
            .collect();
        crate::diagnostic::sort(&mut found);
        let (errors, warnings) = found
            .into_iter()
            .partition(|diagnostic| diagnostic.severity == Severity::Error);
        (errors, warnings, self.dropped.get())
    }
}

fn floor(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at)
        .rev()
        .find(|&i| text.is_char_boundary(i))
        .unwrap_or(0)
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
