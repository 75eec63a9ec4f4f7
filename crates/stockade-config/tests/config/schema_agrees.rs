//! The schema says the same as the reader.

use std::collections::BTreeMap;
use std::fs;

use regex::Regex;
use serde_json::{Value, json};
use stockade_config::schema;

use crate::{parse, root};

/// Why a value does not match, by the part of JSON Schema that is used.
fn check(schema: &Value, top: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut out = Vec::new();
    let Some(rules) = schema.as_object() else {
        assert!(schema.is_boolean(), "{schema}");
        return if schema == &json!(true) {
            out
        } else {
            vec![format!("{path}: not allowed")]
        };
    };
    for (rule, says) in rules {
        let good = match rule.as_str() {
            "$ref" => {
                let name = says.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                out.extend(check(&top["$defs"][name], top, value, path));
                true
            }
            "anyOf" => {
                let all = says.as_array().unwrap().iter();
                all.clone()
                    .any(|one| check(one, top, value, path).is_empty())
            }
            "type" => is_type(says, value),
            "enum" => says.as_array().unwrap().contains(value),
            "const" => says == value,
            "pattern" => {
                let pattern = Regex::new(says.as_str().unwrap()).unwrap();
                value.as_str().is_none_or(|text| pattern.is_match(text))
            }
            "minimum" => value.as_f64().is_none_or(|n| n >= says.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|n| n <= says.as_f64().unwrap()),
            "minItems" => value
                .as_array()
                .is_none_or(|items| items.len() as u64 >= says.as_u64().unwrap()),
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    out.extend(check(says, top, item, &format!("{path}[{n}]")));
                }
                true
            }
            "required" => says
                .as_array()
                .unwrap()
                .iter()
                .all(|key| value.get(key.as_str().unwrap()).is_some()),
            "propertyNames" => {
                for key in value.as_object().into_iter().flatten().map(|(key, _)| key) {
                    out.extend(check(says, top, &json!(key), path));
                }
                true
            }
            "properties" => {
                for (key, inner) in says.as_object().unwrap() {
                    if let Some(value) = value.get(key) {
                        out.extend(check(inner, top, value, &format!("{path}.{key}")));
                    }
                }
                true
            }
            "additionalProperties" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    let known = rules
                        .get("properties")
                        .is_some_and(|keys| keys.get(key).is_some());
                    let extension =
                        rules.contains_key("patternProperties") && key.starts_with("x-");
                    if !known && !extension {
                        out.extend(check(says, top, value, &format!("{path}.{key}")));
                    }
                }
                true
            }
            "deprecated" | "description" | "default" | "examples" | "title" | "$schema"
            | "$defs" | "patternProperties" => true,
            other => panic!("{other} is not checked"),
        };
        if !good {
            out.push(format!("{path}: {value} against {rule} {says}"));
        }
    }
    out
}

fn is_type(says: &Value, value: &Value) -> bool {
    let one = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("{other}"),
    };
    match says {
        Value::Array(names) => names.iter().any(|name| one(name.as_str().unwrap())),
        name => one(name.as_str().unwrap()),
    }
}

fn says(text: &str) -> Vec<String> {
    let value: Value = serde_saphyr::from_str(text).unwrap();
    let schema = schema();
    check(&schema, &schema, &value, "")
}

/// The same with its keys in alphabetical order, however the JSON library was built.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let entries = map.into_iter().map(|(key, value)| (key, sorted(value)));
            let entries: BTreeMap<_, _> = entries.collect();
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

#[test]
fn schema_in_docs_is_the_one_printed() {
    let path = root().join("docs/schema/stockade.schema.json");
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = serde_json::to_string_pretty(&sorted(schema())).unwrap() + "\n";
        fs::write(&path, text).unwrap();
    }
    // Not as text: the order of keys depends on how the JSON library was built.
    let found: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert!(
        found == schema(),
        "run this test with UPDATE=1, then review the difference"
    );
}

#[test]
fn schema_takes_the_example() {
    let text = fs::read_to_string(root().join("examples/serve/stockade.yaml")).unwrap();
    assert_eq!(says(&text), Vec::<String>::new());
}

#[test]
fn schema_takes_every_whole_file_of_the_reference() {
    let text = fs::read_to_string(root().join("docs/config.md")).unwrap();
    for block in text.split("```yaml\n").skip(1) {
        let block = block.split("```").next().unwrap();
        if block.starts_with("version:") {
            assert_eq!(says(block), Vec::<String>::new(), "{block}");
        }
    }
}

#[test]
fn schema_examples_and_defaults_match_their_own_schema() {
    fn walk(schema: &Value, top: &Value, path: &str, seen: &mut usize) {
        let Some(rules) = schema.as_object() else {
            return;
        };
        let samples = rules.get("examples").and_then(Value::as_array);
        let samples = samples.into_iter().flatten().chain(rules.get("default"));
        for sample in samples {
            *seen += 1;
            assert_eq!(check(schema, top, sample, path), Vec::<String>::new());
        }
        for key in ["properties", "$defs"] {
            for (name, inner) in rules
                .get(key)
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
            {
                walk(inner, top, &format!("{path}.{name}"), seen);
            }
        }
    }
    let (schema, mut seen) = (schema(), 0);
    walk(&schema, &schema, "", &mut seen);
    assert!(seen > 80, "{seen}");
}

/// Lines of an instance; both must say the same of each.
const LINES: &[(&str, bool)] = &[
    ("limits: {memory: 64mb}", true),
    ("limits: {memory: 64 MiB, cpu: 50ms, wall: 1m30s}", true),
    ("limits: {memory: 64}", false),
    ("limits: {memory: 64 megs}", false),
    ("limits: {memry: 64mb}", false),
    ("limits: {io_ops: none}", true),
    ("limits: {concurrency: none}", false),
    ("limits: {cores: 0.5}", true),
    ("limits: {cpu_limit: 0.5}", true),
    ("limits: {timeout: 30}", false),
    ("limits: {wait_until: 0}", true),
    ("limits: {concurrency: 0}", false),
    ("limits:", true),
    ("mirrors: 2", true),
    ("mirrors: two", false),
    ("mirrors: 2000", false),
    ("autoscale: false", true),
    ("autoscale: true", true),
    ("autoscale: {min_instances: 0, queue_length: 2.5}", true),
    ("autoscale: {minimum: 0}", false),
    ("isolation: process", true),
    ("isolation: vm", false),
    ("wx: strict", true),
    ("urls: [a.example.com, /x/*]", true),
    ("urls: a.example.com", false),
    ("env: {A: [1, {b: c}], b_2: null}", true),
    ("env: {a-b: 1}", false),
    ("secrets: {A: {file: ../a}}", true),
    ("secrets: {A: text}", false),
    ("bindings: {a: web, b: {instance: web}}", true),
    ("bindings: {a: Web}", false),
    ("state: true", true),
    ("state: {binding: S, storage: 1gb}", true),
    ("state: {size: 1gb}", false),
    ("files: [{path: a, mode: write}]", true),
    ("files: [{mode: write}]", false),
    (
        "grants: {N: {dns: {names: [a.example, \"*.b.example\"], records: [A, TXT], servers: [\"[::1]:53\"]}}}",
        true,
    ),
    (
        "grants: {N: {dns: {names: [a.example], limits: {rate: 5, timeout: 2s, total_bytes: 1mb}}}}",
        true,
    ),
    (
        "grants: {D: {files: {path: ./d, mode: write}, approve: {instance: web, timeout: 5s}}}",
        true,
    ),
    ("grants: {D: {files: {mode: write}}}", false),
    (
        "grants: {D: {files: {path: ./d}, approve: {method: m}}}",
        false,
    ),
    ("grants: {N: {dns: {names: []}}}", false),
    ("grants: {N: {dns: {records: [A]}}}", false),
    (
        "grants: {N: {dns: {names: [a.example], records: [ANY]}}}",
        false,
    ),
    (
        "grants: {N: {dns: {names: [a.example], limits: {handles: 1}}}}",
        false,
    ),
    ("grants: {N: {ftp: {}}}", false),
    ("grants: {a-b: {dns: {names: [a.example]}}}", false),
    ("crons: [\"*/5 * * * *\"]", true),
    ("crons: [\"* * *\"]", false),
    ("client_auth: none", true),
    ("client_auth: sometimes", false),
    (
        "data_guard: {rules: [{hosts: [a.example], ports: [443, 8000-8999], methods: [GET], schemes: [https]}]}",
        true,
    ),
    (
        "data_guard: {rules: [{hosts: [a.example], schemes: [ftp]}]}",
        false,
    ),
    (
        "data_guard: {rules: [{hosts: [a.example], methods: []}]}",
        false,
    ),
    (
        "data_guard: {rules: [{hosts: [a.example], ports: []}]}",
        false,
    ),
    ("data_guard: {outbound_whitelist: [], refuse: []}", true),
    ("client_auth: {ca: a.pem, subjects: []}", false),
    ("assets: ./public", true),
    (
        "assets: {folder: ./public, fallback: index.html, headers: {x-a: b}}",
        true,
    ),
    ("assets: {path: ./public}", false),
    ("encoded_slashes: keep", true),
    ("recycle: {requests: 100, age: 1h, memory: 100mb}", true),
    ("template: own", true),
    ("template: mine", false),
    ("fresh: request", true),
    ("fresh: mirror", true),
    ("fresh: true", false),
    ("timeout_seconds: 1.5", true),
    ("egress: {}", false),
];

#[test]
fn schema_and_reader_agree() {
    for (line, good) in LINES {
        let text = crate::with_web(line);
        let (reader, schema) = (parse(&text), says(&text));
        assert_eq!(reader.is_ok(), *good, "{line}: the reader says {reader:?}");
        assert_eq!(
            schema.is_empty(),
            *good,
            "{line}: the schema says {schema:?}"
        );
    }
}
