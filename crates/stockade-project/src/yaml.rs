//! Writes a configuration as YAML for people.

use std::fmt::Write as _;

use serde_json::Value;

/// The line by which editors complete and check a configuration, with the schema that `stockade schema` prints.
pub(crate) const SCHEMA_LINE: &str = "# yaml-language-server: $schema=./stockade.schema.json\n";

/// A value in block style. Texts are quoted as JSON quotes them, which YAML reads.
pub(crate) fn block(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value, 0);
    out
}

fn write(out: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(keys) if !keys.is_empty() => {
            for (key, value) in keys {
                let _ = write!(out, "{indent}{}:", word(key));
                below(out, value, depth + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let _ = writeln!(out, "{indent}- {item}");
            }
        }
        other => {
            let _ = writeln!(out, "{indent}{other}");
        }
    }
}

/// What stands after a key: on its line, or below it.
fn below(out: &mut String, value: &Value, depth: usize) {
    let is_block = match value {
        Value::Object(keys) => !keys.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if is_block {
        out.push('\n');
        write(out, value, depth);
    } else {
        match value {
            Value::String(text) => {
                let _ = writeln!(out, " {}", word(text));
            }
            other => {
                let _ = writeln!(out, " {other}");
            }
        }
    }
}

/// A text without quotes where no reader of YAML takes it for anything else.
fn word(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars
        .next()
        .is_some_and(|char| char.is_ascii_alphabetic() || matches!(char, '.' | '/'));
    let rest =
        chars.all(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '.' | '/'));
    let other = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_word = text.contains(|char: char| char.is_ascii_alphabetic())
        && !other.contains(&text.to_ascii_lowercase().as_str())
        && !text.starts_with(".inf")
        && !text.starts_with(".nan");
    if first && rest && is_word {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;
    use stockade_config::Config;

    use super::*;

    #[test]
    fn block_is_read_as_what_was_written() {
        let value = json!({
            "version": "1.0",
            "instances": { "shop": {
                "code": "./src/index.ts",
                "urls": ["*.example.com/api/*", "localhost"],
                "env": { "A": "no", "B": "x: y # z", "C": [1, { "d": null }], "D": {}, "E": "1e3", "F": "\u{85}é\n" },
            } },
        });
        let text = block(&value);
        assert!(text.contains("    code: ./src/index.ts\n"), "{text}");
        let loaded = Config::parse(&text, "stockade.yaml", Path::new("/srv")).unwrap();
        let env = &loaded.config.instances["shop"].env;
        let expected = value["instances"]["shop"]["env"].as_object().unwrap();
        for (name, value) in expected {
            assert_eq!(&env[name], value, "{text}");
        }
    }
}
