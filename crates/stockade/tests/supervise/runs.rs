//! What runs give.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{LEVELS, Server};

#[test]
fn run_gives_result_console_usage_at_each_level() {
    let server = Server::start();
    let mut client = server.client();
    for level in LEVELS {
        let sandbox = client.open(json!({ "level": level, "env": { "NAME": "Ada" }, "files": {
            "lib/tax.ts": "export const tax: number = 2;", "rows.json": "[1,2]",
            "data.csv": "a,b", "raw.bin": { "$bytes": "AAEC" },
        } }));
        let outcome = client.run(
            &sandbox,
            "import { tax } from './lib/tax.ts';
             import rows from './rows.json' with { type: 'json' };
             interface A { x: number }
             console.log('one', tax); console.error('two\\nlines');
             const csv = await NETWORK.env.FILES.read('data.csv', 'text');
             const raw = await NETWORK.env.FILES.read('raw.bin', 'bytes');
             const a: A = { x: rows.length * tax };
             ({ ...a, csv, raw: [...new Uint8Array(raw)], name: NETWORK.env.NAME })",
        );
        assert_eq!(
            outcome["result"],
            json!({ "x": 4, "csv": "a,b", "raw": [0, 1, 2], "name": "Ada" }),
            "{level}: {outcome}"
        );
        let console = json!([{ "level": "info", "text": "one 2" }, { "level": "error", "text": "two\nlines" }]);
        assert_eq!(outcome["console"], console);
        assert_eq!(outcome["consoleTruncated"], false);
        assert_eq!(outcome["level"], *level);
        assert!(
            outcome["usage"]["cpuMs"].as_f64().unwrap() > 0.0,
            "{outcome}"
        );
        assert!(
            outcome["usage"]["memoryBytes"].as_u64().unwrap() > 0,
            "{outcome}"
        );
        // Nothing of one run is there in the next.
        client.run(&sandbox, "globalThis.left = 1; var also = 2");
        let next = client.run(&sandbox, "[typeof left, typeof also]");
        assert_eq!(next["result"], json!(["undefined", "undefined"]));
    }
}

#[test]
fn run_errors_have_kind_and_place_at_each_level() {
    let server = Server::start();
    let mut client = server.client();
    for level in LEVELS {
        let options = json!({ "level": level, "cpu": "2s", "memory": "16mb", "timeout": "20s" });
        let sandbox = client.open(options);
        for (code, kind, line, column) in [
            (
                "interface A {}\n\n  throw new TypeError('no')",
                "thrown",
                Some(3),
                Some(9),
            ),
            ("let a = 1;\nlet b = ;", "syntax", Some(2), Some(9)),
            (
                "const f: Function = () => {\n  null.x;\n};\nf()",
                "thrown",
                Some(2),
                Some(8),
            ),
            ("for (;;);", "cpu_limit_exceeded", None, None),
            (
                "const all = []; for (;;) all.push(new Array(1000).fill(all.length))",
                "memory_limit_exceeded",
                None,
                None,
            ),
            ("await new Promise(() => {})", "never_settles", None, None),
            ("(() => 1).name; 1n", "not_json", None, None),
            ("() => () => 1", "not_json", None, None),
            ("new Uint8Array(3)", "not_json", None, None),
            ("const o = {}; o.o = o; o", "not_json", None, None),
            ("import './missing.ts'", "thrown", None, None),
        ] {
            let outcome = client.run(&sandbox, code);
            let error = &outcome["error"];
            assert_eq!(error["kind"], kind, "{level}: {code}: {outcome}");
            assert_eq!(
                error["line"].as_u64(),
                line.or(error["line"].as_u64()),
                "{level}: {code}: {outcome}"
            );
            assert_eq!(
                error["column"].as_u64(),
                column.or(error["column"].as_u64()),
                "{level}: {code}: {outcome}"
            );
            assert!(outcome.get("result").is_none());
        }
        // The control: the same sandbox goes on.
        assert_eq!(client.run(&sandbox, "return 1")["result"], 1);
    }
}

#[test]
fn errors_say_where_and_of_what_they_came() {
    let server = Server::start();
    let mut client = server.client();
    let sandbox = client.open(json!({ "level": "thread", "files": {
        "bad.ts": "const a = 1;\nexport const x = ( => 5", "rows.csv": "a",
    } }));
    let mut error = |code: &str| client.run(&sandbox, code)["error"].take();
    let place = |error: &Value| {
        let at = |key: &str| error[key].as_u64().unwrap_or_default();
        let source = error["source"].as_str().unwrap_or_default();
        format!("{source}:{}:{}", at("line"), at("column"))
    };

    let missing = error("const a: number = 1;\n\nimport { b } from './b.ts';\nb");
    assert_eq!(place(&missing), "main.ts:3:19", "{missing}");
    let broken = error("import { x } from './bad.ts';\nx");
    assert_eq!(place(&broken), "guest:///bad.ts:2:20", "{broken}");
    assert_eq!(broken["name"], "SyntaxError");
    assert_eq!(broken.get("code"), None, "{broken}");
    let module = error("import fs from 'node:fs';\nfs.readFileSync('rows.csv')");
    assert_eq!(place(&module), "main.ts:2:4", "{module}");
    assert_eq!(module["code"], "ENOENT");

    for (code, text) in [
        ("throw { a: 1, b: [2] }", "{ a: 1, b: [ 2 ] }"),
        ("await Promise.reject([1, 'x'])", "[ 1, 'x' ]"),
        ("throw new Map([[1, 2]])", "Map(1) { 1 => 2 }"),
        ("throw { get a() { throw 1 } }", "{ a: [Getter] }"),
        ("throw 'text'", "text"),
        ("throw null", "null"),
    ] {
        let thrown = error(code);
        assert_eq!(thrown["message"], text, "{code}: {thrown}");
        assert_eq!(thrown["name"], "", "{code}: {thrown}");
    }

    let caused = error("throw new Error('out', { cause: new TypeError('in') })");
    let stack = caused["stack"].as_str().unwrap();
    assert!(
        stack.contains("\nCaused by: TypeError: in\n    at main.ts:1:"),
        "{stack}"
    );
    let all = error("await Promise.any([Promise.reject(new Error('first'))])");
    assert!(
        all["stack"].as_str().unwrap().contains("Error: first"),
        "{all}"
    );
    let not_json = error("({ a: 1n })");
    assert!(
        !not_json["stack"].as_str().unwrap().contains("ext:"),
        "{not_json}"
    );
}

#[test]
fn error_that_nothing_caught_before_the_result_is_in_the_console() {
    let server = Server::start();
    let mut client = server.client();
    for level in LEVELS {
        let sandbox = client.open(json!({ "level": level }));
        for end in ["5", "throw new Error('end')"] {
            for _ in 0..20 {
                let code = format!("(async () => {{ throw new Error('lost') }})(); {end}");
                let outcome = client.run(&sandbox, &code);
                let lines = outcome["console"].as_array().unwrap();
                assert_eq!(lines.len(), 1, "{level}: {outcome}");
                let line = lines[0]["text"].as_str().unwrap();
                assert!(line.starts_with("uncaught Error: lost"), "{outcome}");
            }
        }
        // What is caught is none.
        let caught = client.run(
            &sandbox,
            "const p = Promise.reject(1); p.catch(() => {}); 5",
        );
        assert_eq!(caught["console"], json!([]), "{level}: {caught}");
    }
}

#[test]
fn tools_are_called_both_ways_at_each_level() {
    let server = Server::start();
    let mut client = server.client();
    for level in LEVELS {
        let sandbox = client.open(
            json!({ "level": level, "tools": { "add": { "description": "adds" }, "a.b": {} } }),
        );
        let code = "async () => {
            const sums = await Promise.all([1, 2, 3].map((a) => tools.add({ a, b: 1 })));
            const failed = await tools.a.b().catch((e) => e instanceof Error && e.message);
            return { sums, failed, frozen: Object.isFrozen(tools), none: typeof tools.none };
        }";
        let id = client.send(
            "run",
            json!({ "sandbox": sandbox, "code": code, "run": "mine" }),
        );
        let outcome = client.answer_with(id, |params| {
            assert_eq!(params["run"], "mine");
            match params["name"].as_str() {
                Some("add") => Ok(json!(
                    params["input"]["a"].as_i64().unwrap() + params["input"]["b"].as_i64().unwrap()
                )),
                _ => {
                    assert!(params.get("input").is_none());
                    Err("not today".to_owned())
                }
            }
        });
        let expected = json!({ "sums": [2, 3, 4], "failed": "not today", "frozen": true, "none": "undefined" });
        assert_eq!(outcome["result"]["result"], expected, "{level}: {outcome}");
        assert_eq!(outcome["result"]["run"], "mine");
    }
}

#[test]
fn name_and_code_of_errors_go_both_ways_at_each_level() {
    let server = Server::start();
    let mut client = server.client();
    for level in LEVELS {
        let sandbox = client.open(json!({ "level": level, "tools": { "t": {} } }));
        let mut run = |code: &str, data: Value| {
            let params = json!({ "sandbox": sandbox, "code": code });
            let id = client.send("run", params);
            let outcome = client.answer_by(id, |_| {
                Err(json!({ "code": 1, "message": "no", "data": data }))
            });
            outcome["result"].clone()
        };
        let caught =
            "await tools.t().catch((e) => [e instanceof RangeError, e.name, e.message, e.code])";
        let outcome = run(caught, json!({ "name": "RangeError", "code": "E1" }));
        assert_eq!(
            outcome["result"],
            json!([true, "RangeError", "no", "E1"]),
            "{level}"
        );
        let outcome = run(caught, json!({ "name": "x".repeat(257), "other": 1 }));
        assert_eq!(
            outcome["result"],
            json!([false, "Error", "no", null]),
            "{level}"
        );
        let error = run("await tools.t()", json!({ "name": "Own", "code": "E2" }))["error"].clone();
        assert_eq!(
            (&error["kind"], &error["name"], &error["code"]),
            (&json!("thrown"), &json!("Own"), &json!("E2"))
        );
        for (thrown, code) in [
            (
                "Object.assign(new Error('x'), { code: 'ENOENT' })",
                json!("ENOENT"),
            ),
            ("{ code: 7 }", json!("7")),
            (
                "Object.assign(new Error('x'), { code: 'stockade:not_json' })",
                Value::Null,
            ),
            (
                "Object.assign(new Error('x'), { code: 'x'.repeat(300) })",
                Value::Null,
            ),
            (
                "Object.assign(new Error('x'), { get code() { throw 1 } })",
                Value::Null,
            ),
            ("{ get code() { throw 1 } }", Value::Null),
            ("5", Value::Null),
        ] {
            let error = run(&format!("throw ({thrown})"), Value::Null)["error"].clone();
            assert_eq!(
                (&error["kind"], &error["code"]),
                (&json!("thrown"), &code),
                "{level}: {thrown}: {error}"
            );
        }
    }
}

#[test]
fn prelude_runs_before_each_run_with_errors_of_its_own_at_each_level() {
    let server = Server::start();
    let mut client = server.client();
    for level in LEVELS {
        let prelude = "import { tax } from './tax.ts';
            let runs = 0;
            const own: string = 'x';
            console.log('prepared');
            globalThis.next = (): number => ++runs * tax;
            globalThis.fail = () => { throw new RangeError('inside') };
            globalThis.called = await tools.t();
            () => 1";
        let mut run = |session: bool, prelude: &str, codes: &[&str]| -> Vec<Value> {
            let sandbox = client.open(json!({ "level": level, "session": session, "prelude": prelude,
                "tools": { "t": {} }, "files": { "tax.ts": "export const tax = 2;" }, "cpu": "500ms" }));
            let outcomes = codes.iter().map(|code| {
                let id = client.send("run", json!({ "sandbox": sandbox, "code": code }));
                client.answer_with(id, |_| Ok(json!("by a tool")))["result"].clone()
            });
            outcomes.collect()
        };
        let codes = [
            "[next(), called, typeof own]",
            "next()",
            "\n null.x",
            "fail()",
        ];
        let outcomes = run(false, prelude, &codes);
        assert_eq!(
            outcomes[0]["result"],
            json!([2, "by a tool", "undefined"]),
            "{level}: {}",
            outcomes[0]
        );
        assert_eq!(
            outcomes[0]["console"],
            json!([{ "level": "info", "text": "prepared" }])
        );
        assert_eq!(outcomes[1]["result"], 2);
        let place = |outcome: &Value| {
            let error = &outcome["error"];
            [&error["kind"], &error["source"], &error["line"]].map(Value::clone)
        };
        assert_eq!(
            place(&outcomes[2]),
            [json!("thrown"), json!("main.ts"), json!(2)]
        );
        assert_eq!(
            place(&outcomes[3]),
            [json!("thrown"), json!("prelude.ts"), json!(6)]
        );
        let outcomes = run(
            true,
            prelude,
            &[
                "next()",
                "let kept = next(); kept",
                "for (;;);",
                "[next(), typeof kept]",
            ],
        );
        assert_eq!(
            (&outcomes[0]["result"], &outcomes[1]["result"]),
            (&json!(2), &json!(4))
        );
        assert_eq!(outcomes[2]["stateLost"], true);
        assert_eq!(
            outcomes[3]["result"],
            json!([2, "undefined"]),
            "{level}: the next isolate is prepared, too"
        );
        for session in [false, true] {
            let outcomes = run(session, "\n  throw new TypeError('no')", &["1", "2"]);
            for outcome in &outcomes {
                assert_eq!(
                    place(outcome),
                    [json!("prelude_failed"), json!("prelude.ts"), json!(2)],
                    "{outcome}"
                );
            }
            let never = run(session, "await new Promise(() => {})", &["1"]);
            assert_eq!(never[0]["error"]["kind"], "prelude_failed");
            let endless = run(session, "for (;;);", &["1"]);
            assert_eq!(endless[0]["error"]["kind"], "cpu_limit_exceeded");
        }
        let wrong = client.call("open", json!({ "level": level, "prelude": "let a = ;" }));
        let message = wrong["error"]["message"].as_str().unwrap();
        assert!(message.contains("prelude.ts:1:9"), "{message}");
    }
}

#[test]
fn session_keeps_state_until_its_isolate_ends() {
    let server = Server::start();
    let mut client = server.client();
    for level in LEVELS {
        let options = json!({ "level": level, "session": true, "cpu": "200ms", "tools": { "add": {} },
            "files": { "a.ts": "export const n = 40; export default 2" } });
        let sandbox = client.open(options);
        let mut run = |code: &str| client.run(&sandbox, code);
        run(
            "import two, { n } from './a.ts'; let total = 1; const { a, b: [c] } = { a: 2, b: [3] }; class K { x = total }",
        );
        run(
            "function inc(by: number): number { total += by; return again(); } function again() { return total }",
        );
        assert_eq!(run("inc(5)")["result"], 6, "{level}");
        assert_eq!(
            run("[total, a, c, n + two, new K().x]")["result"],
            json!([6, 2, 3, 42, 6])
        );
        run("let total = 100; function again() { return -total }");
        assert_eq!(run("inc(1)")["result"], -101, "{level}");
        let thrown = run("total = 7;\nthrow new Error('x')");
        assert_eq!(
            (&thrown["error"]["kind"], &thrown["error"]["line"]),
            (&json!("thrown"), &json!(2))
        );
        assert!(thrown.get("stateLost").is_none());
        assert_eq!(run("const crypto = total; crypto")["result"], 7);
        let over = run("for (;;);");
        assert_eq!(
            (&over["error"]["kind"], &over["stateLost"]),
            (&json!("cpu_limit_exceeded"), &json!(true))
        );
        assert_eq!(run("typeof total")["result"], "undefined");
    }
}

#[test]
fn session_counts_cpu_time_for_each_run() {
    let server = Server::start();
    let mut client = server.client();
    let sandbox = client.open(json!({ "session": true, "cpu": "300ms" }));
    let busy = "const end = performance.now() + 120; while (performance.now() < end);";
    for _ in 0..4 {
        assert!(client.run(&sandbox, busy).get("error").is_none());
    }
    // Each activation is short, and the run is long.
    let many = "for (;;) { const end = performance.now() + 50; while (performance.now() < end); \
                await new Promise((done) => setTimeout(done, 1)); }";
    assert_eq!(
        client.run(&sandbox, many)["error"]["kind"],
        "cpu_limit_exceeded"
    );
}

#[test]
fn session_that_computes_between_runs_is_ended() {
    let server = Server::start();
    let mut client = server.client();
    for level in LEVELS {
        let sandbox = client.open(json!({ "level": level, "session": true, "cpu": "200ms" }));
        // Each activation is short.
        let busy = "let kept = 1; setInterval(() => { const end = performance.now() + 20; while (performance.now() < end); }, 1); kept";
        assert_eq!(client.run(&sandbox, busy)["result"], 1, "{level}");
        let lost = [1, 2, 4, 8].into_iter().find_map(|seconds| {
            std::thread::sleep(Duration::from_secs(seconds));
            let next = client.run(&sandbox, "typeof kept");
            next.get("stateLost").is_some().then_some(next)
        });
        let lost = lost.unwrap_or_else(|| panic!("{level}: it goes on"));
        assert_eq!(lost["result"], "undefined", "{level}: {lost}");
        // The control: one that waits for its next run.
        assert_eq!(
            client.run(&sandbox, "let kept = 2; setInterval(() => {}, 100); kept")["result"],
            2
        );
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(client.run(&sandbox, "kept")["result"], 2, "{level}");
    }
}

#[test]
fn console_is_streamed_in_order_and_before_the_outcome() {
    let server = Server::start();
    let mut client = server.client();
    let sandbox = client.open(json!({ "output": 2000 }));
    let code = "for (let i = 0; i < 1000; i++) console.warn('line', i); 1";
    let id = client.send(
        "run",
        json!({ "sandbox": sandbox, "code": code, "run": "r", "stream": true }),
    );
    let outcome = client.answer_with(id, |_| Err(String::new()))["result"].clone();
    assert_eq!(outcome["consoleTruncated"], true);
    let kept = outcome["console"].as_array().unwrap();
    assert!(kept.len() > 100 && kept.len() < 300, "{}", kept.len());
    let streamed: Vec<Value> = client
        .notes
        .iter()
        .map(|note| note["params"]["text"].clone())
        .collect();
    let kept: Vec<Value> = kept.iter().map(|line| line["text"].clone()).collect();
    assert_eq!(streamed, kept);
    assert_eq!(
        client.notes[0]["params"],
        json!({ "run": "r", "level": "warn", "text": "line 0" })
    );
}

#[test]
fn cancel_close_and_timeout_end_runs() {
    let server = Server::start();
    let mut client = server.client();
    let sandbox = client.open(json!({ "tools": { "wait": {} } }));
    let run = |client: &mut super::Client, name: &str| {
        let params = json!({ "sandbox": sandbox, "code": "await tools.wait()", "run": name });
        let id = client.send("run", params);
        // The guest has asked.
        assert_eq!(client.receive().unwrap()["method"], "tool");
        id
    };
    let id = run(&mut client, "a");
    let again = client.call(
        "run",
        json!({ "sandbox": sandbox, "code": "1", "run": "a" }),
    );
    assert_eq!(again["error"]["data"]["kind"], "run_exists");
    client.send("cancel", json!({ "run": "a" }));
    let mut answers = [client.receive().unwrap(), client.receive().unwrap()];
    answers.sort_by_key(|answer| answer["id"].as_u64());
    assert_eq!(answers[0]["id"], id);
    assert_eq!(answers[0]["result"]["error"]["kind"], "cancelled");
    assert_eq!(answers[1]["result"]["cancelled"], true);
    assert_eq!(
        client.call("cancel", json!({ "run": "a" }))["result"]["cancelled"],
        false
    );
    run(&mut client, "b");
    client.send("close", json!({ "sandbox": sandbox }));
    let answers = [client.receive().unwrap(), client.receive().unwrap()];
    assert!(
        answers
            .iter()
            .any(|answer| answer["result"]["error"]["kind"] == "cancelled")
    );
    let gone = client.call("run", json!({ "sandbox": sandbox, "code": "1" }));
    assert_eq!(gone["error"]["data"]["kind"], "no_such_sandbox");
    let sandbox = client.open(json!({ "timeout": "500ms" }));
    let outcome = client.run(
        &sandbox,
        "await new Promise((done) => setTimeout(done, 60_000))",
    );
    assert_eq!(outcome["error"]["kind"], "timeout");
}

#[test]
fn refused_hosts_are_listed() {
    let server = Server::start();
    let mut client = server.client();
    let code =
        "for (const url of ['http://a.example/x', 'https://b.example:8443/', 'http://a.example/y'])
                  await fetch(url).catch(() => {});
                new WebSocket('wss://c.example/');
                await new Promise((done) => setTimeout(done, 1))";
    let refused = |outcome: &Value| {
        let list = outcome["refused"].as_array().unwrap().clone();
        let text = |it: &Value| {
            format!(
                "{}:{} {}",
                it["host"].as_str().unwrap(),
                it["port"],
                it["reason"].as_str().unwrap()
            )
        };
        list.iter().map(text).collect::<Vec<_>>()
    };
    let sandbox = client.open(json!({}));
    let outcome = client.run(&sandbox, code);
    let expected = [
        "a.example:80 not_granted",
        "b.example:8443 not_granted",
        "c.example:443 not_granted",
    ];
    assert_eq!(refused(&outcome), expected, "{outcome}");
    let sandbox = client.open(json!({ "fetch": ["a.invalid"] }));
    let outcome = client.run(&sandbox, code);
    assert_eq!(
        refused(&outcome)[..2],
        ["a.example:80 host", "b.example:8443 host"],
        "{outcome}"
    );
}

#[test]
fn standard_input_serves_one_client_and_its_end_is_the_end() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_stockade"))
        .arg("supervise")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let mut stdout = BufReader::new(process.stdout.take().unwrap());
    let mut ask = |line: &str| {
        writeln!(stdin, "{line}").unwrap();
        let mut answer = String::new();
        stdout.read_line(&mut answer).unwrap();
        serde_json::from_str::<Value>(&answer).unwrap()
    };
    let about = ask(
        r#"{"jsonrpc":"2.0","id":"x","method":"initialize","params":{"client":"test","version":"1"}}"#,
    );
    assert_eq!(
        (&about["id"], &about["result"]["protocol"]),
        (&json!("x"), &json!(1))
    );
    ask(r#"{"jsonrpc":"2.0","id":1,"method":"open","params":{}}"#);
    let ran = ask(
        r#"{"jsonrpc":"2.0","id":2,"method":"run","params":{"sandbox":"s1","code":"export default async () => 6 * 7"}}"#,
    );
    assert_eq!(ran["result"]["result"], 42);
    drop(stdin);
    assert!(process.wait().unwrap().success());
}
