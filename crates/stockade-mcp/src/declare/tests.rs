use serde_json::json;

use super::*;

fn of(schema: Value) -> String {
    let Value::Object(schema) = schema else {
        panic!("not an object")
    };
    type_of(&schema)
}

#[test]
fn object_lists_its_properties_with_comments() {
    let schema = json!({
        "type": "object",
        "properties": {
            "title": { "type": "string", "description": "The title" },
            "labels": { "type": "array", "items": { "type": "string" } },
            "state": { "enum": ["open", "closed"] },
            "owner-id": { "type": ["integer", "null"] },
            "deep": { "type": "object", "properties": { "x": { "type": "boolean" } }, "required": ["x"] },
        },
        "required": ["title"],
    });
    assert_eq!(
        of(schema),
        "{\n  /** The title */\n  title: string;\n  labels?: string[];\n  state?: \"open\" | \"closed\";\n  \
         \"owner-id\"?: number | null;\n  deep?: {\n    x: boolean;\n  };\n}"
    );
}

#[test]
fn maps_tuples_unions_and_intersections_have_their_types() {
    for (schema, expected) in [
        (json!({}), "unknown"),
        (json!({ "type": "object" }), "Record<string, unknown>"),
        (
            json!({ "type": "object", "additionalProperties": false }),
            "{}",
        ),
        (
            json!({ "type": "object", "additionalProperties": { "type": "number" } }),
            "Record<string, number>",
        ),
        (
            json!({ "type": "array", "prefixItems": [{ "type": "string" }, { "const": 3 }] }),
            "[string, 3]",
        ),
        (
            json!({ "type": "array", "items": { "anyOf": [{ "type": "string" }, { "type": "null" }] } }),
            "(string | null)[]",
        ),
        (
            json!({ "allOf": [{ "type": "string" }, { "anyOf": [{ "const": 1 }, { "const": 2 }] }] }),
            "string & (1 | 2)",
        ),
        (json!({ "$ref": "https://example.com/schema" }), "unknown"),
        (
            json!({ "$ref": "#/$defs/a~1b", "$defs": { "a/b": { "type": "string" } } }),
            "string",
        ),
        (json!({ "not": {} }), "unknown"),
        (json!({ "type": "array", "items": false }), "never[]"),
    ] {
        assert_eq!(of(schema.clone()), expected, "{schema}");
    }
}

#[test]
fn recursive_reference_ends_as_unknown() {
    let tree = json!({
        "type": "object",
        "properties": { "children": { "type": "array", "items": { "$ref": "#" } } },
    });
    let text = of(tree);
    assert!(text.contains("unknown /* recursive */"), "{text}");
    let loop_of_two = json!({
        "$ref": "#/$defs/a",
        "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } },
    });
    assert_eq!(of(loop_of_two), "unknown /* recursive */");
}

#[test]
fn bomb_of_references_is_bounded() {
    // Each level has ten of the next one: 10^20 types if it were followed.
    let mut defs = Map::new();
    for level in 0..20 {
        let mut properties = Map::new();
        for name in 0..10 {
            properties.insert(
                format!("p{name}"),
                json!({ "$ref": format!("#/$defs/d{}", level + 1) }),
            );
        }
        defs.insert(
            format!("d{level}"),
            json!({ "type": "object", "properties": properties }),
        );
    }
    let text = of(json!({ "$ref": "#/$defs/d0", "$defs": defs }));
    assert!(text.len() <= DECLARATION_BYTES, "{}", text.len());
}

#[test]
fn deep_and_wide_schemas_are_bounded() {
    let mut deep = json!({ "type": "string" });
    for _ in 0..100 {
        deep = json!({ "type": "array", "items": deep });
    }
    assert_eq!(
        of(deep),
        format!("unknown{}", "[]".repeat(DECLARATION_DEPTH + 1))
    );
    let wide: Map<String, Value> = (0..100_000)
        .map(|n| (format!("k{n}"), json!({ "type": "string" })))
        .collect();
    assert_eq!(
        of(json!({ "type": "object", "properties": wide })),
        "unknown"
    );
    let words: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    assert_eq!(of(json!({ "enum": words })), "string");
}

#[test]
fn text_cannot_leave_its_comment_or_string() {
    let schema = json!({
        "type": "object",
        "properties": {
            "a": { "type": "string", "description": "x */ }; evil(); /* \u{2028} y" },
            "*/ evil(); /*": { "enum": ["\"; evil(); \"", "*/"] },
            "__proto__": { "type": "number" },
        },
    });
    let text = of(schema);
    assert!(!text.replace(" */\n", "").contains("*/"), "{text}");
    assert!(
        text.contains(r#""*\/ evil(); /*"?: "\"; evil(); \"" | "*\/";"#),
        "{text}"
    );
    assert!(text.contains(r#""__proto__"?: number;"#), "{text}");
    assert_eq!(
        comment("a\nb */ c", "  "),
        "  /**\n   * a\n   * b * / c\n   */\n"
    );
    assert_eq!(comment("*\u{200b}/ \u{1b}[2J", ""), "/** * /  [2J */\n");
}

#[test]
fn one_line_is_cut_at_a_number_of_characters() {
    assert_eq!(one_line("a\n b\t c", 10), "a b c");
    assert_eq!(one_line("abcdefghij klm", 5), "abcd…");
    assert_eq!(one_line(&"ä".repeat(1 << 20), 3), "ää…");
}
