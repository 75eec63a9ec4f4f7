//! The JSON Schema of the file, for editors.

use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::keys::{Format, Key, Kind, Presence, Section};
use crate::section::Record;
use crate::units::{SIZE_PATTERN, TIME_PATTERN};

/// The JSON Schema (draft 2020-12) of the file. Ranges of sizes and times, and what must be right across
/// the file, are in its descriptions and in `stockade check` only.
#[must_use]
pub fn schema() -> Value {
    let mut definitions = Map::new();
    define(Config::SECTION, &mut definitions);
    let mut top = definitions.remove(Config::SECTION.name).unwrap_or_default();
    if let Some(top) = top.as_object_mut() {
        top.insert(
            "$schema".to_owned(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        top.insert("type".to_owned(), json!("object"));
        top.insert("title".to_owned(), json!("stockade.yaml"));
        top.insert("$defs".to_owned(), Value::Object(definitions));
        // Keys that begin with x- are places for anchors.
        top.insert("patternProperties".to_owned(), json!({ "^x-": true }));
    }
    top
}

fn define(section: &'static Section, definitions: &mut Map<String, Value>) {
    if definitions.contains_key(section.name) {
        return;
    }
    // The name is taken before the keys are described, which may lead here again.
    definitions.insert(section.name.to_owned(), Value::Null);
    let mut properties = Map::new();
    let mut required = Vec::new();
    for key in section.keys {
        properties.insert(key.name.to_owned(), property(key, definitions));
        if let Some(old) = key.old_name {
            let mut out = property(key, definitions);
            out["deprecated"] = json!(true);
            properties.insert(old.to_owned(), out);
        }
        if key.presence == Presence::Required {
            required.push(key.name);
        }
    }
    let mut out = json!({
        "type": ["object", "null"],
        "description": section.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        out["required"] = json!(required);
    }
    definitions.insert(section.name.to_owned(), out);
}

fn property(key: &Key, definitions: &mut Map<String, Value>) -> Value {
    let mut kind = kind(&key.kind, definitions);
    if key.nonempty && kind["type"] == "array" {
        kind["minItems"] = json!(1);
    }
    if key.takes_none() {
        kind = json!({ "anyOf": [kind, { "const": "none" }] });
    }
    // A key without a value is the same as none, as the reader takes it.
    let mut out = if key.presence == Presence::Required {
        kind
    } else {
        nullable(kind)
    };
    let mut description = format!("{} Allowed: {}.", key.doc, key.kind.allowed());
    match key.presence {
        Presence::Default(text) => {
            description += &format!(" Default: {text}.");
            out["default"] = value(text, &key.kind);
        }
        Presence::Derived(words) => description += &format!(" Default: {words}."),
        Presence::Required | Presence::Optional => {}
    }
    out["description"] = json!(description);
    if !key.examples.is_empty() {
        let examples = key.examples.iter().map(|text| value(text, &key.kind));
        out["examples"] = examples.collect();
    }
    out
}

/// This kind or null. Editors point to an error deep in a section more exactly where nothing is `anyOf`.
fn nullable(mut kind: Value) -> Value {
    if kind.get("$ref").is_some() {
        // A section itself says that it may be null.
        if let Some(kind) = kind.as_object_mut() {
            kind.remove("type");
        }
    } else if let Some(Value::Array(all)) = kind.get_mut("enum") {
        all.push(Value::Null);
    } else if let Some(Value::Array(all)) = kind.get_mut("anyOf") {
        all.push(json!({ "type": "null" }));
    } else if let Some(Value::String(one)) = kind.get("type") {
        kind["type"] = json!([one, "null"]);
    }
    kind
}

fn kind(kind: &Kind, definitions: &mut Map<String, Value>) -> Value {
    match kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Any => json!({}),
        Kind::Integer(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Number(min, max) => json!({ "type": "number", "minimum": min, "maximum": max }),
        Kind::Size(..) => json!({ "type": "string", "pattern": SIZE_PATTERN }),
        Kind::Time(..) => json!({
            "anyOf": [{ "type": "string", "pattern": TIME_PATTERN }, { "const": 0 }],
        }),
        Kind::Enum(words) => words_of(words),
        Kind::Text(format) => text(format),
        Kind::Section(section) => {
            define(section, definitions);
            json!({ "$ref": format!("#/$defs/{}", section.name), "type": "object" })
        }
        Kind::List(inner) => json!({ "type": "array", "items": self::kind(inner, definitions) }),
        Kind::Map(name, inner) => json!({
            "type": "object",
            "propertyNames": { "pattern": name.pattern },
            "additionalProperties": self::kind(inner, definitions),
        }),
        Kind::Either(kinds) => {
            let all: Vec<_> = kinds
                .iter()
                .map(|one| self::kind(one, definitions))
                .collect();
            json!({ "anyOf": all })
        }
    }
}

/// Words, and those that a YAML reader takes for numbers.
fn words_of(words: &[&str]) -> Value {
    let numbers = words.iter().filter_map(|word| word.parse::<f64>().ok());
    let mut all: Vec<Value> = words.iter().map(|word| json!(word)).collect();
    all.extend(numbers.map(|number| json!(number)));
    // YAML 1.1 readers take `off` for false.
    if words.contains(&"off") {
        all.push(json!(false));
    }
    json!({ "enum": all })
}

/// Text; numbers too where the text may look like one, for YAML readers take it for one.
fn text(format: &Format) -> Value {
    let string = match format.pattern {
        Some(pattern) => json!({ "type": "string", "pattern": pattern }),
        None => json!({ "type": "string" }),
    };
    let number = ["443", "1"].iter().all(|number| format.matches(number));
    if number {
        json!({ "anyOf": [string, { "type": ["number", "boolean"] }] })
    } else {
        string
    }
}

/// A default or an example as JSON.
fn value(text: &str, kind: &Kind) -> Value {
    match kind {
        Kind::Bool | Kind::Integer(..) | Kind::Number(..) => {
            serde_json::from_str(text).unwrap_or_else(|_| json!(text))
        }
        Kind::List(_) | Kind::Map(..) | Kind::Either(_) => {
            serde_saphyr::from_str(text).unwrap_or_else(|_| json!(text))
        }
        _ => json!(text),
    }
}
