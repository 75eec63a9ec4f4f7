//! Sources that become more than their text, or need more time than its length says.

use super::ts;
use crate::MAX_COMPILED_BYTES;
use crate::compile::MAX_INDENTATION;
use crate::measure::MAX_ENUM_BYTES;

#[track_caller]
fn check_refused(source: &str, message: &str) {
    assert!(source.len() <= MAX_COMPILED_BYTES);
    let error = ts(source).unwrap_err();
    assert!(error.message.starts_with(message), "{error}");
}

/// An enum whose members each are the one before it twice.
fn doubling(members: usize, twice: impl Fn(&str) -> String) -> String {
    let mut source = "enum A { m0 = 'x'".to_owned();
    for member in 1..members {
        let value = twice(&format!("m{}", member - 1));
        source.push_str(&format!(", m{member} = {value}"));
    }
    source + "}"
}

const TOO_LONG: &str = "the values of enums are too long";
const TOO_MANY: &str = "names are looked up in too many";

#[test]
fn enum_whose_values_double_is_refused_in_each_form() {
    let forms: [fn(&str) -> String; 5] = [
        |before| format!("{before} + {before}"),
        |before| format!("`${{{before}}}${{{before}}}`"),
        |before| format!("A.{before} + A['{before}']"),
        |before| format!("+({before} + +{before})"),
        |before| format!("(class {{ static {{ enum B {{ n = A.{before} }} }} }}, 1) + {before}"),
    ];
    for form in &forms[..4] {
        check_refused(&doubling(64, form), TOO_LONG);
    }
    for form in forms {
        let code = ts(&doubling(6, form)).unwrap().code;
        assert!(code.contains("m5"), "{code}");
    }
}

#[test]
fn enum_whose_values_double_across_declarations_is_refused() {
    let mut source = "enum A0 { x = 'x' }".to_owned();
    for number in 1..64 {
        let before = number - 1;
        source.push_str(&format!(
            "enum A{number} {{ x = A{before}.x + A{before}.x }}"
        ));
    }
    check_refused(&source, TOO_LONG);
    check_refused(&source.replace("enum A", "export enum A"), TOO_LONG);
}

#[test]
fn enum_that_joins_a_long_text_often_is_refused() {
    let text = "x".repeat(MAX_COMPILED_BYTES / 2);
    let joined = "+ ''".repeat(MAX_ENUM_BYTES as usize / text.len());
    check_refused(&format!("enum A {{ b = '{text}' {joined} }}"), TOO_LONG);
    let code = ts(&format!("enum A {{ b = '{text}' + 'y' }}"))
        .unwrap()
        .code;
    assert!(code.contains("xy\""));
}

#[test]
fn enums_and_namespaces_that_are_merged_often_are_refused() {
    check_refused(&"enum A { b = c }\n".repeat(100_000), TOO_MANY);
    check_refused(&"namespace A { x }\n".repeat(100_000), TOO_MANY);
    ts(&"enum A { b = c }\n".repeat(1000)).unwrap();
    ts(&"namespace A { x }\n".repeat(1000)).unwrap();
}

#[test]
fn names_in_too_many_scopes_are_refused() {
    let nested = |depth, names| {
        let (open, close) = ("{".repeat(depth), "}".repeat(depth));
        format!("let a: any;{open}{}{close}", "b;".repeat(names))
    };
    check_refused(&nested(4000, 400_000), TOO_MANY);
    ts(&nested(4, 400_000)).unwrap();
    ts(&nested(4000, 4)).unwrap();
}

#[test]
fn code_of_a_deep_source_is_not_indented() {
    let (open, close) = ("{".repeat(4000), "}".repeat(4000));
    let source = format!("let a: any;{open}{}{close}", "1;".repeat(400_000));
    let code = ts(&source).unwrap().code;
    assert!(code.len() < source.len() * 3 && code.len() < MAX_INDENTATION);
    assert!(ts("if (a) { b }").unwrap().code.contains("\n\tb;"));
}
