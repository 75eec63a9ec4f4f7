//! What becomes of TypeScript.

use oxc_sourcemap::SourceMap;

use super::ts;
use crate::{Language, MAX_COMPILED_BYTES, MAX_SOURCE_BYTES, Options, Transpiled, transpile};

#[track_caller]
fn check(source: &str, expect: &str) {
    match ts(source) {
        Ok(done) => assert_eq!(done.code.trim_end(), expect.trim_end()),
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn check_error(source: &str, expect: &str) {
    assert_eq!(ts(source).unwrap_err().to_string(), expect);
}

#[test]
fn types_are_stripped() {
    check(
        "let a: number = 1 as any;\ninterface B {}\ntype C = B;",
        "let a = 1;",
    );
    check(
        "export function f<T>(a?: T): a is T { return a!; }",
        "export function f(a) {\n\treturn a;\n}",
    );
    check(
        "abstract class A { abstract b(): void; declare c: number }",
        "class A {}",
    );
    check("let f = <T,>(a: T) => a satisfies T;", "let f = (a) => a;");
}

#[test]
fn modern_syntax_stays_as_written() {
    check(
        "using a = b;\nawait c?.#d;".replace(".#d", ".d").as_str(),
        "using a = b;\nawait c?.d;",
    );
    check(
        "class A {\n\t#a = 1;\n\tstatic {}\n}",
        "class A {\n\t#a = 1;\n\tstatic {}\n}",
    );
    check("a ??= b ** c;", "a ??= b ** c;");
}

#[test]
fn enum_becomes_an_object() {
    let code = ts("enum A { b = 1 << 2, c, d = 'x' }").unwrap().code;
    assert!(code.contains("A[A[\"b\"] = 4] = \"b\""), "{code}");
    assert!(code.contains("A[A[\"c\"] = 5] = \"c\""), "{code}");
    assert!(code.contains("A[\"d\"] = \"x\""), "{code}");
    assert!(ts("const enum A { b } A.b").unwrap().code.contains("A.b"));
}

#[test]
fn namespace_becomes_an_object() {
    let code = ts("namespace A { export const b = 1 }").unwrap().code;
    assert!(
        code.contains("let A;") && code.contains("_A.b = 1"),
        "{code}"
    );
    let error = ts("namespace A { export let b = 1 }").unwrap_err();
    assert!(error.message.contains("non-const"), "{error}");
}

#[test]
fn parameter_property_becomes_a_field() {
    check(
        "class A { constructor(private b = 1) {} }",
        "class A {\n\tb;\n\tconstructor(b = 1) {\n\t\tthis.b = b;\n\t}\n}",
    );
}

#[test]
fn import_used_only_as_a_type_is_removed_and_bare_import_stays() {
    check(
        "import { A, B } from 'x'; import type { C } from 'y'; import 'z'; import { D } from 'd'; new A();",
        "import { A } from \"x\";\nimport \"z\";\nnew A();",
    );
    check("import def from 'x'; export {};", "export {};");
    check(
        "export type { A } from 'b'; export { type B, c } from 'c'",
        "export { c } from \"c\";",
    );
}

#[test]
fn decorator_calls_what_is_defined_before_the_code() {
    let code = ts("#!/bin/x\n@d class A { @e f() {} }").unwrap().code;
    let mut lines = code.lines();
    assert_eq!(lines.next(), Some("#!/bin/x"));
    assert!(
        lines
            .next()
            .is_some_and(|line| line.starts_with("var babelHelpers = ")),
        "{code}"
    );
    assert!(
        code.contains("babelHelpers.decorate([e], A.prototype, \"f\", null)"),
        "{code}"
    );
    let code = ts("'use strict';\n@d class A {}").unwrap().code;
    assert!(code.starts_with("\"use strict\"; var"), "{code}");
}

#[test]
fn jsx_becomes_calls() {
    let options = Options {
        specifier: "a.tsx",
        language: Language::Tsx,
        module: true,
    };
    let done = transpile("x = <a b={c as any}>don't</a>;", &options).unwrap();
    let expect = "x = /* @__PURE__ */ React.createElement(\"a\", { b: c }, \"don't\");\n";
    assert_eq!(done.code, expect);
}

#[test]
fn javascript_passes_through_unread() {
    let options = Options {
        specifier: "a.js",
        language: Language::JavaScript,
        module: false,
    };
    let code = "with (a) b //\n((((".to_owned();
    assert_eq!(
        transpile(&code, &options),
        Ok(Transpiled {
            code,
            source_map: None
        })
    );
}

#[test]
fn script_may_use_names_that_modules_reserve() {
    let options = Options {
        specifier: "a.ts",
        language: Language::TypeScript,
        module: false,
    };
    assert_eq!(
        transpile("var await: number = 1;", &options).unwrap().code,
        "var await = 1;\n"
    );
    assert!(ts("var await: number = 1;").is_err());
}

#[test]
fn error_shows_line_and_caret() {
    check_error(
        "let a = 1;\n\tlet b: = 2;",
        "SyntaxError: Unexpected token at a.ts:2:9\n let b: = 2;\n        ^",
    );
    check_error(
        "let a: 1;\nlet a: 2;",
        "SyntaxError: Identifier `a` has already been declared at a.ts:1:5\nlet a: 1;\n    ^",
    );
    check_error(
        "if (a) {",
        "SyntaxError: Expected `}` but found `EOF` at a.ts:1:9\nif (a) {\n        ^",
    );
}

#[test]
fn source_longer_than_the_limit_is_refused() {
    let options = Options {
        specifier: "a.js",
        language: Language::JavaScript,
        module: false,
    };
    let error = transpile(&" ".repeat(MAX_SOURCE_BYTES + 1), &options).unwrap_err();
    assert_eq!(
        error.message,
        "source has 16777217 bytes, more than the limit of 16777216"
    );
    assert_eq!(error.excerpt, None);
    assert!(ts(&" ".repeat(MAX_COMPILED_BYTES)).is_ok());
    let error = ts(&" ".repeat(MAX_COMPILED_BYTES + 1)).unwrap_err();
    assert!(
        error.message.starts_with("source has 2097153 bytes"),
        "{error}"
    );
}

#[track_caller]
fn check_position(source: &str, of: &str) {
    let done = ts(source).unwrap();
    let map = String::from_utf8(done.source_map.unwrap()).unwrap();
    let map = SourceMap::from_json_string(&map).unwrap();
    let find = |text: &str| -> (u32, u32) {
        let before = &text[..text.find(of).unwrap()];
        let column = before.rsplit('\n').next().unwrap().encode_utf16().count();
        (before.matches('\n').count() as u32, column as u32)
    };
    let (line, column) = find(&done.code);
    let table = map.generate_lookup_table();
    let token = map.lookup_token(&table, line, column).unwrap();
    assert_eq!(
        (token.get_src_line(), token.get_src_col()),
        find(source),
        "{}",
        done.code
    );
    assert_eq!(map.get_sources().collect::<Vec<_>>(), ["a.ts"]);
}

#[test]
fn source_map_leads_to_the_original_line_and_column() {
    let source = "interface A {\n  b: string;\n}\n\nlet 名: A = { b: '😀' }; fail(名 as A);\n";
    check_position(source, "fail(");
    check_position("@d class A { f(): void { fail(1) } }", "fail(");
    check_position(
        "enum A { b }\ntype B = 1;\n\n\nthrow new Error('x')",
        "new Error",
    );
}
