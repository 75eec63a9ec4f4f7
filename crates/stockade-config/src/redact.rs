//! The text of a configuration without the values of `env`, for those who may see the one and not the other.
//!
//! All other secrets are in files and variables that the text only names.

use crate::tree::{Node, Source, Span, Value};
use crate::yaml;

/// What stands in place of a value.
const REDACTED: &str = "\"[redacted]\"";

/// The text with each value in an `env` replaced by [`REDACTED`]. `None` where the text is not YAML, so that no value could
/// be found.
#[must_use]
pub fn redact(text: &str) -> Option<String> {
    let source = Source::new("", text);
    let root = yaml::read(text, &source)?;
    let (errors, ..) = source.finish();
    if !errors.is_empty() {
        return None;
    }
    let mut spans = Vec::new();
    find(&root, false, &mut spans);
    // Aliases lead to the same place more than once.
    spans.sort_by_key(|span| (span.start, span.end));
    let (mut out, mut from) = (String::with_capacity(text.len()), 0);
    for span in spans {
        if span.start < from {
            continue;
        }
        out.push_str(text.get(from..span.start)?);
        // A block is text without quotes up to the end of its last line, behind which the next line may be indented.
        let value = text.get(span.start..span.end)?;
        match value.rsplit_once('\n') {
            Some((_, indent)) if indent.trim().is_empty() => {
                out.push_str("[redacted]\n");
                out.push_str(indent);
            }
            _ => out.push_str(REDACTED),
        }
        from = span.end;
    }
    out.push_str(text.get(from..)?);
    Some(out)
}

/// Collects where the values below keys named `env` stand.
fn find(node: &Node, hidden: bool, spans: &mut Vec<Span>) {
    match &node.value {
        Value::Map(entries) => {
            for entry in entries.iter() {
                find(&entry.node, hidden || &*entry.key == "env", spans);
            }
        }
        Value::List(items) => items.iter().for_each(|item| find(item, hidden, spans)),
        Value::Scalar { .. } if hidden && !node.is_null() => spans.push(node.span),
        Value::Scalar { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_env_are_redacted_and_nothing_else() {
        let text = "version: \"1.0\"\ndefaults: &d {env: {A: 'hunter2', B: [x, {C: y}]}}\ninstances:\n  a:\n    code: a.ts # env\n    env:\n      TEXT: |\n        line hunter2\n        more\n      N: 5\n    timeout_seconds: 5\n  b: {code: b.ts, env: {S: hunter2}}\n";
        let redacted = redact(text).unwrap();
        assert!(
            !redacted.contains("hunter2") && !redacted.contains("more"),
            "{redacted}"
        );
        for kept in [
            "version: \"1.0\"",
            "code: a.ts # env",
            "timeout_seconds: 5",
            "TEXT: ",
            "N: \"[redacted]\"",
        ] {
            assert!(redacted.contains(kept), "{kept}: {redacted}");
        }
        // It is YAML still, with the same keys.
        assert_eq!(redact(&redacted).unwrap(), redacted);
        assert_eq!(redact("a: [").as_deref(), None);
    }
}
