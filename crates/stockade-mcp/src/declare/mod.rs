//! TypeScript declarations of tools, made of their JSON Schemas.
//!
//! A schema is hostile: it may be deep, refer to itself, be larger than everything else, or contain text that would end
//! a comment or a string. Depth, number of types and bytes are bounded, and what is beyond a bound is `unknown`.
//!
//! Deliberately absent: references to other documents, and rules that TypeScript has no type for, such as patterns.

use std::collections::HashSet;
use std::fmt::Write;

use serde_json::{Map, Value};

use crate::bounds::{DECLARATION_BYTES, DECLARATION_DEPTH, DECLARATION_TYPES};

/// The type of values that a schema allows, or `unknown` where the declaration would be too large.
pub(crate) fn type_of(schema: &Map<String, Value>) -> String {
    let mut writer = Writer {
        root: schema,
        types: 0,
        open: Vec::new(),
    };
    let text = writer.object_or_any(schema, 0);
    if text.len() > DECLARATION_BYTES {
        return "unknown".to_owned();
    }
    text
}

/// A comment of documentation with this text. Text that would end it cannot: `*/` becomes `* /`.
pub(crate) fn comment(text: &str, indent: &str) -> String {
    let text = printable(text);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    match lines.as_slice() {
        [] => String::new(),
        [line] => format!("{indent}/** {line} */\n"),
        lines => {
            let mut all = format!("{indent}/**\n");
            for line in lines {
                let _ = writeln!(all, "{indent} * {line}");
            }
            all + indent + " */\n"
        }
    }
}

/// Text without characters that end comments, move the cursor or turn the direction of text.
pub(crate) fn printable(text: &str) -> String {
    let shown: String = text
        .chars()
        .map(|letter| match letter {
            '\n' => '\n',
            '\u{2028}' | '\u{2029}' => '\n',
            letter if is_hidden(letter) => ' ',
            letter => letter,
        })
        .collect();
    shown.replace("*/", "* /").trim().to_owned()
}

/// Whether a character is invisible, moves the cursor or turns the direction of text, and so can hide what a text says.
pub(crate) fn is_hidden(letter: char) -> bool {
    let is_invisible = matches!(
        letter,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0e}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e0fff}'
    );
    is_invisible || letter.is_control()
}

struct Writer<'a> {
    root: &'a Map<String, Value>,
    /// Types that were written.
    types: usize,
    /// The references that are being followed.
    open: Vec<&'a str>,
}

impl<'a> Writer<'a> {
    fn any(&mut self, schema: &'a Value, depth: usize) -> String {
        match schema {
            Value::Bool(false) => "never".to_owned(),
            Value::Object(schema) => self.object_or_any(schema, depth),
            _ => "unknown".to_owned(),
        }
    }

    fn object_or_any(&mut self, schema: &'a Map<String, Value>, depth: usize) -> String {
        self.types += 1;
        if depth > DECLARATION_DEPTH || self.types > DECLARATION_TYPES {
            return "unknown".to_owned();
        }
        // References, values and combinations stand for the whole schema.
        if let Some(Value::String(reference)) = schema.get("$ref") {
            return self.reference(reference, depth);
        }
        if let Some(value) = schema.get("const") {
            return literal(value);
        }
        if let Some(Value::Array(values)) = schema.get("enum") {
            return union(values.iter().map(literal).collect());
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(Value::Array(choices)) = schema.get(key) {
                return union(
                    choices
                        .iter()
                        .map(|choice| self.any(choice, depth + 1))
                        .collect(),
                );
            }
        }
        if let Some(Value::Array(parts)) = schema.get("allOf") {
            return self.intersection(schema, parts, depth);
        }
        // One type, or several.
        match schema.get("type") {
            Some(Value::String(name)) => self.named(name, schema, depth),
            Some(Value::Array(names)) => {
                let named = names.iter().filter_map(Value::as_str);
                union(named.map(|name| self.named(name, schema, depth)).collect())
            }
            _ if schema.contains_key("properties") => self.named("object", schema, depth),
            _ if schema.contains_key("items") => self.named("array", schema, depth),
            _ => "unknown".to_owned(),
        }
    }

    fn intersection(
        &mut self,
        schema: &'a Map<String, Value>,
        parts: &'a [Value],
        depth: usize,
    ) -> String {
        let mut all: Vec<String> = Vec::new();
        if schema.contains_key("properties") {
            all.push(self.properties(schema, depth));
        }
        all.extend(parts.iter().map(|part| self.any(part, depth + 1)));
        all.retain(|part| part != "unknown");
        if all.is_empty() {
            return "unknown".to_owned();
        }
        let wrapped = all.iter().map(|part| wrap(part)).collect::<Vec<_>>();
        wrapped.join(" & ")
    }

    fn named(&mut self, name: &str, schema: &'a Map<String, Value>, depth: usize) -> String {
        match name {
            "string" => "string".to_owned(),
            "number" | "integer" => "number".to_owned(),
            "boolean" => "boolean".to_owned(),
            "null" => "null".to_owned(),
            "array" => self.array(schema, depth),
            "object" => self.properties(schema, depth),
            _ => "unknown".to_owned(),
        }
    }

    fn array(&mut self, schema: &'a Map<String, Value>, depth: usize) -> String {
        if let Some(Value::Array(items)) = schema.get("prefixItems") {
            let items: Vec<String> = items.iter().map(|item| self.any(item, depth + 1)).collect();
            return format!("[{}]", items.join(", "));
        }
        match schema.get("items") {
            Some(items) => format!("{}[]", wrap(&self.any(items, depth + 1))),
            None => "unknown[]".to_owned(),
        }
    }

    fn properties(&mut self, schema: &'a Map<String, Value>, depth: usize) -> String {
        let required: HashSet<&str> = match schema.get("required") {
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => HashSet::new(),
        };
        // A line for each property that is named.
        let indent = "  ".repeat(depth + 1);
        let mut fields = String::new();
        if let Some(Value::Object(properties)) = schema.get("properties") {
            for (name, property) in properties {
                if self.types > DECLARATION_TYPES || fields.len() > DECLARATION_BYTES {
                    let _ = writeln!(fields, "{indent}[more: string]: unknown;");
                    break;
                }
                if let Some(text) = property.get("description").and_then(Value::as_str) {
                    fields += &comment(one_line(text, 200).as_str(), &indent);
                }
                let optional = if required.contains(name.as_str()) {
                    ""
                } else {
                    "?"
                };
                let of = self.any(property, depth + 1);
                let _ = writeln!(fields, "{indent}{}{optional}: {of};", key(name));
            }
        }
        // Then what is said about others.
        let others = match schema.get("additionalProperties") {
            Some(others @ Value::Object(_)) => Some(self.any(others, depth + 1)),
            Some(Value::Bool(true)) => Some("unknown".to_owned()),
            // Without a word about others, a schema with properties means these.
            _ if fields.is_empty() && schema.get("additionalProperties").is_none() => {
                Some("unknown".to_owned())
            }
            _ => None,
        };
        match (fields.is_empty(), others) {
            (true, Some(of)) => format!("Record<string, {of}>"),
            (true, None) => "{}".to_owned(),
            (false, Some(of)) if of != "unknown" => {
                format!(
                    "{{\n{fields}{}}} & Record<string, {of}>",
                    "  ".repeat(depth)
                )
            }
            (false, _) => format!("{{\n{fields}{}}}", "  ".repeat(depth)),
        }
    }

    /// A reference within the document, as `#/$defs/Name`. A type that contains itself is `unknown` there.
    fn reference(&mut self, reference: &'a str, depth: usize) -> String {
        if self.open.contains(&reference) {
            return "unknown /* recursive */".to_owned();
        }
        let root = self.root;
        let found = match reference.strip_prefix('#') {
            Some("") => return self.follow(reference, root, depth),
            Some(path) => find(root, path),
            None => None,
        };
        match found {
            Some(Value::Object(schema)) => self.follow(reference, schema, depth),
            Some(Value::Bool(false)) => "never".to_owned(),
            _ => "unknown".to_owned(),
        }
    }

    fn follow(
        &mut self,
        reference: &'a str,
        schema: &'a Map<String, Value>,
        depth: usize,
    ) -> String {
        self.open.push(reference);
        let text = self.object_or_any(schema, depth + 1);
        self.open.pop();
        text
    }
}

/// The value at a JSON pointer (RFC 6901).
fn find<'a>(root: &'a Map<String, Value>, pointer: &str) -> Option<&'a Value> {
    let mut parts = pointer.strip_prefix('/')?.split('/');
    let part = |text: &str| text.replace("~1", "/").replace("~0", "~");
    let mut value = root.get(&part(parts.next()?))?;
    for name in parts.take(DECLARATION_DEPTH) {
        value = match value {
            Value::Object(map) => map.get(&part(name))?,
            Value::Array(list) => list.get(name.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

fn literal(value: &Value) -> String {
    match value {
        Value::String(text) if text.len() > 200 => "string".to_owned(),
        Value::String(text) => quoted(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(_) | Value::Object(_) => "unknown".to_owned(),
    }
}

/// Most members of a union that are written. A longer list of words is `string`.
const UNION: usize = 64;

fn union(mut members: Vec<String>) -> String {
    let mut seen = HashSet::new();
    members.retain(|member| seen.insert(member.clone()));
    if members.is_empty() {
        return "unknown".to_owned();
    }
    if members.iter().any(|member| member == "unknown") {
        return "unknown".to_owned();
    }
    if members.len() > UNION {
        let words = members.iter().all(|member| member.starts_with('"'));
        return if words { "string" } else { "unknown" }.to_owned();
    }
    members.join(" | ")
}

fn wrap(of: &str) -> String {
    if of.contains(" | ") || of.contains(" & ") {
        format!("({of})")
    } else {
        of.to_owned()
    }
}

/// A name of a property as it stands in a type.
fn key(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next();
    let is_identifier = first
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_' || first == '$')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '$')
        && name != "__proto__";
    if is_identifier {
        name.to_owned()
    } else {
        quoted(name)
    }
}

/// A string literal of ASCII, in which nothing ends a comment.
fn quoted(text: &str) -> String {
    let mut all = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => all.push_str("\\\""),
            '\\' => all.push_str("\\\\"),
            '\n' => all.push_str("\\n"),
            ' '..='~' => all.push(letter),
            letter => {
                let mut units = [0; 2];
                for unit in letter.encode_utf16(&mut units) {
                    let _ = write!(all, "\\u{unit:04x}");
                }
            }
        }
    }
    all.push('"');
    all.replace("*/", "*\\/")
}

/// The first `most` characters of a text, on one line.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let text = printable(text);
    let mut words = String::new();
    for word in text.split_whitespace() {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
        if words.len() > most * 4 {
            break;
        }
    }
    if words.chars().count() <= most {
        return words;
    }
    let cut: String = words.chars().take(most.saturating_sub(1)).collect();
    cut.trim_end().to_owned() + "…"
}

#[cfg(test)]
mod tests;
