//! YAML text to a tree, within bounds.
//!
//! One document; keys are scalars, each once in its mapping; tags other than YAML's own are refused;
//! anchors and aliases are shared, never copied, and counted as often as they are used; `<<` merges.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use serde_saphyr::granit_parser::{
    ErrorKind, Event, Marker, Options, Parser, ScalarStyle, Span as ParserSpan,
};

use crate::diagnostic::shown;
use crate::tree::{MapEntry, Node, Source, Span, Value};

/// The longest file.
pub(crate) const MAX_YAML_BYTES: usize = 8 << 20;

/// Nodes of a file, aliases counted as often as they are used.
const MAX_NODES: usize = 500_000;

/// Lists and mappings in each other.
const MAX_NESTING: usize = 32;

/// The tree, or `None` where the text is not YAML or exceeds a bound. What is wrong is reported to `source`;
/// a text with errors may give a tree too, so that more of them are found.
pub(crate) fn read(text: &str, source: &Source<'_>) -> Option<Node> {
    if text.len() > MAX_YAML_BYTES {
        let what = format!(
            "the file has {} bytes; the limit is {} MiB",
            text.len(),
            MAX_YAML_BYTES >> 20
        );
        source.error(Span::default(), "", what);
        return None;
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = MAX_NESTING;
    options.block_nesting_limit = MAX_NESTING;
    let mut builder = Builder::new(text, source);
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => {
                if !builder.take(event, builder.span(span)) {
                    return None;
                }
            }
            Err(error) => {
                let at = builder.point(error.marker());
                let what = match error.kind() {
                    ErrorKind::RecursionLimitExceeded => too_deep(),
                    _ => syntax(&error.info(), text, at),
                };
                source.error(at, "", what);
                return None;
            }
        }
    }
    let root = builder.root;
    if root.is_none() {
        source.error(
            Span::default(),
            "",
            "the file is empty: it needs `version: \"1.0\"` and `instances`".to_owned(),
        );
    }
    root
}

fn too_deep() -> String {
    format!("lists and mappings lie more than {MAX_NESTING} deep in each other")
}

fn syntax(info: &str, text: &str, at: Span) -> String {
    let start = text
        .get(..at.start)
        .and_then(|before| before.rfind('\n'))
        .map_or(0, |newline| newline + 1);
    let indent = text
        .get(start..)
        .unwrap_or_default()
        .chars()
        .take_while(|c| c.is_whitespace())
        .any(|c| c == '\t');
    let tab = if indent {
        " (the line is indented with a tab: YAML takes spaces only)"
    } else {
        ""
    };
    format!("this is not YAML: {}{tab}", shown_long(info))
}

fn shown_long(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// A list or mapping that is not closed yet.
struct Open {
    at: Span,
    anchor: usize,
    weight: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Map {
        entries: Vec<MapEntry>,
        seen: HashSet<Rc<str>>,
        /// The key whose value comes next.
        key: Option<Pending>,
        merges: Vec<Node>,
    },
}

enum Pending {
    Key(Rc<str>, Span),
    Merge,
    /// A key that was refused; its value goes too.
    Refused,
}

struct Builder<'a> {
    text: &'a str,
    source: &'a Source<'a>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    documents: usize,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn new(text: &'a str, source: &'a Source<'a>) -> Self {
        Self {
            text,
            source,
            open: Vec::new(),
            anchors: HashMap::new(),
            root: None,
            documents: 0,
            nodes: 0,
        }
    }

    fn span(&self, span: ParserSpan) -> Span {
        let start = self.offset(&span.start);
        Span {
            start,
            end: self.offset(&span.end).max(start),
            line: span.start.line(),
            column: span.start.col() + 1,
        }
    }

    fn point(&self, mark: &Marker) -> Span {
        let start = self.offset(mark);
        Span {
            start,
            end: start,
            line: mark.line(),
            column: mark.col() + 1,
        }
    }

    fn offset(&self, mark: &Marker) -> usize {
        mark.byte_offset()
            .unwrap_or(mark.index())
            .min(self.text.len())
    }

    /// Takes one event; `false` where it makes no sense to go on.
    fn take(&mut self, event: Event<'_>, at: Span) -> bool {
        if let Some(tag) = event.tag()
            && !tag.is_yaml_core_schema()
        {
            let what = format!("tag {} means nothing here", shown(&tag.original()));
            self.source.error(at, "", what);
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let what = "a second document begins here; one file is one document";
                    self.source.error(at, "", what.to_owned());
                    return false;
                }
                true
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain
                    && !tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                let node = Node {
                    span: at,
                    // A long text weighs as much as several values.
                    weight: 1 + text.len() / 64,
                    value: Value::Scalar {
                        text: text.as_ref().into(),
                        quoted: !plain,
                    },
                };
                self.close(anchor, node)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(at, anchor, Inside::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => {
                let inside = Inside::Map {
                    entries: Vec::new(),
                    seen: HashSet::new(),
                    key: None,
                    merges: Vec::new(),
                };
                self.begin(at, anchor, inside)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(at),
            Event::Alias(id) => self.alias(id, at),
            _ => true,
        }
    }

    fn begin(&mut self, at: Span, anchor: usize, inside: Inside) -> bool {
        if self.open.len() >= MAX_NESTING {
            self.source.error(at, "", too_deep());
            return false;
        }
        self.open.push(Open {
            at,
            anchor,
            weight: 1,
            inside,
        });
        true
    }

    fn end(&mut self, at: Span) -> bool {
        let Some(open) = self.open.pop() else {
            return false;
        };
        let value = match open.inside {
            Inside::List(items) => Value::List(items.into()),
            Inside::Map {
                mut entries,
                mut seen,
                merges,
                ..
            } => {
                for merged in merges {
                    for entry in merged.map().unwrap_or_default() {
                        if seen.insert(entry.key.clone()) {
                            entries.push(entry.clone());
                        }
                    }
                }
                Value::Map(entries.into())
            }
        };
        let span = Span {
            end: at.end.max(open.at.start),
            ..open.at
        };
        let node = Node {
            span,
            value,
            weight: open.weight,
        };
        self.close(open.anchor, node)
    }

    fn alias(&mut self, id: usize, at: Span) -> bool {
        // An alias within what it stands for has no end.
        let Some(node) = self.anchors.get(&id).cloned() else {
            let what = "this alias stands for something that it is itself in".to_owned();
            self.source.error(at, "", what);
            return false;
        };
        self.put(node)
    }

    fn close(&mut self, anchor: usize, node: Node) -> bool {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.put(node)
    }

    /// Puts a whole node where it belongs.
    fn put(&mut self, node: Node) -> bool {
        self.nodes = self.nodes.saturating_add(1);
        let span = node.span;
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return true;
        };
        open.weight = open.weight.saturating_add(node.weight);
        if self.nodes.max(open.weight) > MAX_NODES {
            let what = format!(
                "the file has more than {MAX_NODES} values, aliases counted as often as they are used"
            );
            self.source.error(span, "", what);
            return false;
        }
        match &mut open.inside {
            Inside::List(items) => items.push(node),
            Inside::Map {
                entries,
                seen,
                key,
                merges,
            } => match key.take() {
                None => *key = Some(read_key(&node, seen, self.source)),
                Some(Pending::Key(key, at)) => entries.push(MapEntry { key, at, node }),
                Some(Pending::Merge) => merge(&node, merges, self.source),
                Some(Pending::Refused) => {}
            },
        }
        true
    }
}

fn read_key(node: &Node, seen: &mut HashSet<Rc<str>>, source: &Source<'_>) -> Pending {
    let Value::Scalar { text, quoted } = &node.value else {
        let what = format!("a key is text, not {}", node.kind());
        source.error(node.span, "", what);
        return Pending::Refused;
    };
    if &**text == "<<" && !quoted {
        return Pending::Merge;
    }
    if !seen.insert(text.clone()) {
        let what = format!(
            "the key {} is there twice; the first one counts",
            shown(text)
        );
        source.error(node.span, "", what);
        return Pending::Refused;
    }
    Pending::Key(text.clone(), node.span)
}

fn merge(node: &Node, merges: &mut Vec<Node>, source: &Source<'_>) {
    match &node.value {
        Value::Map(_) => merges.push(node.clone()),
        Value::List(items) if items.iter().all(|item| item.map().is_some()) => {
            merges.extend(items.iter().cloned());
        }
        _ => {
            let what = format!(
                "`<<` takes a mapping, or a list of them, not {}",
                node.kind()
            );
            source.error(node.span, "", what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Result<Node, Vec<String>> {
        let source = Source::new("a.yaml", text);
        let node = read(text, &source);
        let (errors, ..) = source.finish();
        match node {
            Some(node) if errors.is_empty() => Ok(node),
            _ => Err(errors.iter().map(ToString::to_string).collect()),
        }
    }

    fn refused(text: &str) -> String {
        tree(text).unwrap_err().join("\n")
    }

    #[test]
    fn yaml_nodes_know_their_places() {
        let root = tree("a: 1\nä: [x, 'ÿ z']\n").unwrap();
        let entries = root.map().unwrap();
        assert_eq!((entries[0].at.line, entries[0].at.column), (1, 1));
        assert_eq!((entries[1].at.line, entries[1].at.column), (2, 1));
        let items = entries[1].node.list().unwrap();
        assert_eq!((items[1].span.line, items[1].span.column), (2, 8));
        assert_eq!(items[1].text(), Some("ÿ z"));
    }

    #[test]
    fn yaml_scalars_keep_their_text_and_quotes() {
        let root =
            tree("a: 1.0\nb: \"1.0\"\nc:\nd: null\ne: 'null'\nf: true\ng: \"true\"\n").unwrap();
        let at = |n: usize| &root.map().unwrap()[n].node;
        assert_eq!(at(0).text(), Some("1.0"));
        assert_eq!(at(1).text(), Some("1.0"));
        assert!(at(2).is_null() && at(3).is_null() && !at(4).is_null());
        assert_eq!((at(5).flag(), at(6).flag()), (Some(true), None));
    }

    #[test]
    fn yaml_key_twice_is_refused_with_place() {
        let text = refused("a: 1\nb: 2\na: 3\n");
        assert!(
            text.starts_with("a.yaml:3:1: the key a is there twice"),
            "{text}"
        );
    }

    #[test]
    fn yaml_merge_fills_in_what_is_not_there() {
        let root = tree("x: &x {a: 1, b: 2}\ny: {b: 3, <<: *x}\n").unwrap();
        let y = root.map().unwrap()[1].node.map().unwrap();
        let text: Vec<_> = y
            .iter()
            .map(|entry| format!("{}={}", entry.key, entry.node.text().unwrap()))
            .collect();
        assert_eq!(text, ["b=3", "a=1"]);
        assert!(refused("a: {<<: 3}").contains("takes a mapping"));
    }

    #[test]
    fn yaml_alias_bomb_is_refused() {
        let mut text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (from, to) in ("abcdefgh".chars()).zip("bcdefghi".chars()) {
            let list = vec![format!("*{from}"); 10].join(", ");
            text += &format!("{to}: &{to} [{list}]\n");
        }
        assert!(refused(&text).contains("more than 500000 values"));
    }

    #[test]
    fn yaml_alias_within_itself_is_refused() {
        assert!(!refused("a: &a [*a]").is_empty());
        assert!(!refused("a: *b").is_empty());
    }

    #[test]
    fn yaml_too_deep_is_refused() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(
            refused(&deep).contains("more than 32 deep"),
            "{}",
            refused(&deep)
        );
        let block: String = (0..1000)
            .map(|n| format!("{}a:\n", " ".repeat(n)))
            .collect();
        assert!(
            refused(&block).contains("more than 32 deep"),
            "{}",
            refused(&block)
        );
        let mixed = format!("{}{}{}", "- ".repeat(20), "[".repeat(20), "]".repeat(20));
        assert!(refused(&mixed).contains("more than 32 deep"));
    }

    #[test]
    fn yaml_that_is_none_is_refused_with_place() {
        assert!(refused("a: [1, 2\nb: 3").contains("this is not YAML"));
        assert!(refused("a:\n\tb: 1\n").contains("takes spaces only"));
        assert!(refused("").contains("the file is empty"));
        assert!(refused("a: 1\n---\nb: 2\n").contains("second document"));
        assert!(refused("a: !include secret").contains("means nothing here"));
        assert!(refused("? [a, b]\n: c\n").contains("a key is text"));
    }
}
