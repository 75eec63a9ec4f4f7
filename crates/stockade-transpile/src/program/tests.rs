use super::*;

fn run(source: &str) -> String {
    program(source, "main.ts", None).unwrap().code
}

/// The code of a session without what every run has around it.
fn session(source: &str, declared: &[&str]) -> (Vec<String>, String) {
    let declared = declared.iter().map(|name| (*name).to_owned()).collect();
    let program = program(source, "main.ts", Some(&declared)).unwrap();
    let (_, body) = program.code.split_once("(async () => {await 0;").unwrap();
    let body = body.strip_suffix("})()").unwrap().replace('\t', "");
    (program.declares, body)
}

fn body(source: &str) -> String {
    let code = run(source);
    let body = code
        .strip_prefix("\"use strict\";(async () => {await 0;")
        .unwrap();
    body.strip_suffix("})()").unwrap().replace('\t', "")
}

#[test]
fn result_of_each_form_is_returned() {
    for (source, expected) in [
        ("1 + 1", "return (1 + 1);\n"),
        ("const a: number = 1; a", "const a = 1;;\nreturn (a);\n"),
        ("'a text'", "return \"a text\";\n"),
        ("let a = 1; if (a) a = 2;", "let a = 1;;\nif (a) a = 2;;\n"),
        ("return 5", "return 5;;\n"),
        ("f(); function f() {}", "return (f());\nfunction f() {};\n"),
        (
            "export default 7",
            "const __default = (7);\nreturn typeof __default === \"function\" ? __default() : __default;\n",
        ),
        ("async () => 1", "return (async () => 1)();\n"),
        (
            "(async function () {});",
            "return ((async function() {}))();\n",
        ),
        ("g(); () => 1", "g();;\nreturn (() => 1);\n"),
        ("", ""),
    ] {
        assert_eq!(body(source), expected, "{source}");
    }
    let named = body("export default async function main() {}");
    assert!(
        named.starts_with("async function main() {};\nreturn typeof main"),
        "{named}"
    );
    let listed = body("const x = 1; export { x as default }");
    assert!(listed.ends_with("? x() : x;\n"), "{listed}");
}

#[test]
fn imports_come_first_and_are_awaited() {
    let source = "use(a, b, c, d); import a, { b, x as c } from './a.ts'; import * as d from './d.json' with { type: 'json' }; \
                  import './e.ts'; import type { T } from './t.ts'; import { unused } from './u.ts';";
    let expected = "const { \"default\": a, \"b\": b, \"x\": c } = await import(\"./a.ts\");\n\
                    const d = await import(\"./d.json\", { with: { type: \"json\", } }), {  } = d;\n\
                    await import(\"./e.ts\");\nreturn (use(a, b, c, d));\n";
    assert_eq!(body(source), expected);
}

#[test]
fn text_that_does_not_parse_is_refused_with_its_place() {
    let error = program("let a = 1;\nconst = 1", "main.ts", None).unwrap_err();
    assert_eq!((error.line, error.column), (2, 7));
}

#[test]
fn fence_of_markdown_is_refused_with_what_to_do() {
    let error = program("\n```ts\nreturn 5\n```", "main.ts", None).unwrap_err();
    assert_eq!((error.line, error.column), (2, 1));
    assert!(error.message.contains("leave out"), "{}", error.message);
    assert!(program("return `a` + ``", "main.ts", None).is_ok());
}

#[test]
fn name_of_the_default_is_none_of_the_code() {
    let code = run("const __default = 1; export default __default + 1");
    assert!(
        code.contains("const __default_ = (__default + 1);"),
        "{code}"
    );
}

#[test]
fn session_declares_what_is_new_and_assigns_the_rest() {
    let (declares, code) = session(
        "let a = 1, b; const { c, d: [e = 2, ...f] } = g; var h; class K {} function m(x) { return m; }",
        &["a"],
    );
    assert_eq!(declares, ["b", "c", "e", "f", "h", "K", "m"]);
    let expected = "m = function (x) {\nreturn m;\n};\n(a = 1);\nb = undefined;\n\
                    ({ c, d: [e = 2, ...f] } = g);\nK = class K {};\n";
    assert_eq!(code, expected);
}

#[test]
fn session_keeps_imports_and_exports() {
    let (declares, code) = session(
        "import x, * as y from './a.ts'; import { z, type T } from './b.ts'; export const n = [x]; export default function k() {}",
        &[],
    );
    assert_eq!(declares, ["x", "y", "z", "n", "k"]);
    let expected = "y = await import(\"./a.ts\"); ({ \"default\": x } = y);\n\
                    ({ \"z\": z } = await import(\"./b.ts\"));\nk = function () {};\n";
    assert!(code.starts_with(expected), "{code}");
}

/// The place in the source that the map has for the first place of a text in the code.
fn source_of(source: &str, text: &str, declared: Option<&HashSet<String>>) -> (u32, u32) {
    place_of(program(source, "main.ts", declared).unwrap(), text)
}

fn place_of(made: Program, text: &str) -> (u32, u32) {
    let json = String::from_utf8(made.source_map).unwrap();
    let map = SourceMap::from_json_string(&json).unwrap();
    let at = made.code.find(text).unwrap();
    let before = &made.code[..at];
    let line = before.matches('\n').count() as u32;
    let column = before.rsplit('\n').next().unwrap().encode_utf16().count() as u32;
    let place = |token: &oxc_sourcemap::Token| (token.get_dst_line(), token.get_dst_col());
    let token = map
        .get_tokens()
        .filter(|token| place(token) <= (line, column))
        .last()
        .unwrap();
    assert_eq!(place(&token), (line, column), "no token at {text}");
    (token.get_src_line() + 1, token.get_src_col() + 1)
}

#[test]
fn places_are_those_of_the_text_as_it_was_given() {
    let source = "interface A { x: number }\n\nconst a: A = { x: 1 };\n  fail(a);\nimport { b } from './b.ts';\n/* 😀 */ last(b)";
    assert_eq!(source_of(source, "fail", None), (4, 3));
    assert_eq!(source_of(source, "last", None), (6, 10));
    assert_eq!(source_of(source, "fail", Some(&HashSet::new())), (4, 3));
    // The engine reports some errors at the statement.
    assert_eq!(source_of(source, "return (last", None), (6, 10));
    // So it does where an import fails.
    let source = "use(x);\n\nimport x from './x.ts';\nimport * as y from 'y';\nexport * from 'z';";
    for declared in [None, Some(&HashSet::new())] {
        assert_eq!(source_of(source, "\"./x.ts\"", declared), (3, 15));
        assert_eq!(source_of(source, "await import(\"z\"", declared), (5, 15));
    }
    let source = "let a = 1;\nfunction f() {\n  throw oops();\n}\nf()";
    assert_eq!(source_of(source, "oops", Some(&HashSet::new())), (3, 9));
}

#[test]
fn prelude_has_no_result_and_keeps_places() {
    let made = prelude("const a: number = 1;\n  fail(a)", "prelude.ts").unwrap();
    assert!(made.code.ends_with("})().then(() => {})"), "{}", made.code);
    assert!(made.declares.is_empty());
    assert_eq!(place_of(made, "fail"), (2, 3));
}

#[test]
fn hostile_text_is_refused_or_compiled() {
    let deep = "[".repeat(30_000);
    assert!(program(&deep, "main.ts", None).is_err());
    let long = "let a;".repeat(1 << 19);
    assert!(program(&long, "main.ts", None).is_err());
    // Many tokens in one line.
    let wide = format!("f({})", "1,".repeat(200_000));
    assert!(program(&wide, "main.ts", Some(&HashSet::new())).is_ok());
}
