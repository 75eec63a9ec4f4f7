//! What single values of a file are read with.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use regex::Regex;

use crate::fields::{Found, Reader};
use crate::hints::nearest;
use crate::keys::{Format, Kind};
use crate::mistake::shown;
use crate::tree::{Node, Remark, Use, Value};
use crate::units::{size_fix, time_fix};

impl<'a> Reader<'a> {
    pub(crate) fn refuse(&self, found: &Found<'_>, remark: impl Into<Remark>) {
        self.source.error(found.node.place, &found.path, remark);
    }

    /// Tells that a value is not of its kind.
    pub(crate) fn wrong(&self, found: &Found<'_>, kind: &Kind) {
        if self.source.full() {
            return self.refuse(found, Remark::default());
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

    pub(crate) fn expect(&self, found: &Found<'_>, format: Format, path: &Path) {
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
