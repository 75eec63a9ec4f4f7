//! What `env` holds: variables, secrets, other sites, state, folders; and what the outside allows.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::client::run;
use crate::server::{PLAIN, Server, folder};

/// A site that evaluates what it is sent, with `env` at hand. Only for tests.
pub(crate) const EVALUATES: &str = "export default {
  async fetch(request, env, ctx) {
    const run = new Function('env', 'request', `return (async () => { ${await request.text()} })()`);
    try { return Response.json({ value: (await run(env, request)) ?? null }); }
    catch (error) { return Response.json({ name: error?.name, message: error?.message }); }
  },
  add(a, b) { return a + b; },
  same(value) { return value; },
  kinds(...args) { return args.map((value) => typeof value); },
  instance() { return new (class Own {}); },
};";

pub(crate) async fn evaluate(server: &Server, code: &str) -> Value {
    evaluate_at(server, "a", code).await
}

async fn evaluate_at(server: &Server, host: &str, code: &str) -> Value {
    let answer = server.post(host, "/", code.to_owned()).await;
    assert_eq!(
        answer.status,
        200,
        "{}\n{}",
        answer.text(),
        server.log_text()
    );
    let answer = answer.json();
    match answer.get("value") {
        Some(value) => value.clone(),
        None => answer,
    }
}

#[test]
fn env_holds_variables_and_secrets() {
    let config = format!(
        "{PLAIN}instances:
  site:
    code: ./main.js
    urls: [\"/*\"]
    env: {{NAME: Ada, LIST: [1, 2]}}
    secrets:
      PLAIN: {{file: ./secret.txt}}
      FROM: {{variable: STOCKADE_TEST_SECRET}}
      KEPT: {{file: ./secret.txt, hosts: [api.example.com]}}
"
    );
    let folder = folder(
        &config,
        &[("main.js", EVALUATES), ("secret.txt", "hush hush\n")],
    );
    let environment = BTreeMap::from([("STOCKADE_TEST_SECRET", "from outside")]);
    let server = Server::start_in(folder, &environment);
    run(async {
        let env = evaluate(&server, "return env").await;
        assert_eq!(env["NAME"], "Ada");
        assert_eq!(env["LIST"], json!([1, 2]));
        assert_eq!(env["PLAIN"], "hush hush");
        assert_eq!(env["FROM"], "from outside");
        let kept = env["KEPT"].as_str().unwrap();
        assert!(kept.starts_with("stockade-secret-"), "{kept}");
        // Keys that are between the runtimes are no business of the guest.
        assert!(
            env.as_object()
                .unwrap()
                .keys()
                .all(|key| !key.starts_with('\0'))
        );
    });
    assert!(!server.log_text().contains("hush"));
}

#[test]
fn binding_reaches_the_other_site_by_fetch_and_by_method() {
    let config = format!(
        "{PLAIN}instances:
  front:
    code: ./main.js
    urls: [front.example]
    bindings: {{other: back}}
  back:
    code: ./main.js
"
    );
    let server = Server::start(&config, &[("main.js", EVALUATES)]);
    run(async {
        let host = "front.example";
        let sum = evaluate_at(&server, host, "return env.other.add(2, 3)").await;
        assert_eq!(sum, 5);
        let code = "const answer = await env.other.fetch('http://x/y', { method: 'POST', body: 'return 7 + 1' });
                    return [answer.status, (await answer.json()).value]";
        assert_eq!(evaluate_at(&server, host, code).await, json!([200, 8]));
        let missing = evaluate_at(&server, host, "return env.other.constructor('x')").await;
        assert!(
            missing.get("name").is_some() || missing.is_object(),
            "{missing}"
        );
        // The one that is bound has no URL.
        assert_eq!(server.get("back.example", "/").await.status, 404);
    });
}

#[test]
fn call_of_another_site_carries_values_as_they_are_or_is_refused() {
    let config = format!(
        "{PLAIN}instances:
  front:
    code: ./main.js
    urls: [front.example]
    bindings: {{other: back}}
  back:
    code: ./main.js
"
    );
    let server = Server::start(&config, &[("main.js", EVALUATES)]);
    run(async {
        let evaluate = async |code: &str| evaluate_at(&server, "front.example", code).await;
        let values = "const given = [new Date(5), new Map([[{ a: 1 }, new Set([NaN, -Infinity])]]),
               { a: undefined, b: [undefined] }, -0, -12n, new RangeError('x', { cause: new Date(6) }),
               '\\0s1', 'a\\ud800', { '\\udc00': 2 ** 53 }, new Uint8Array([7])];
             const got = await env.other.same(given);
             const [key, set] = [...got[1]][0];
             return [got.length, got[0].getTime(), key.a, set.has(NaN) && set.has(-Infinity),
               Object.keys(got[2]), 0 in got[2].b && got[2].b[0] === undefined, Object.is(got[3], -0),
               got[4] === -12n, got[5] instanceof RangeError, got[5].message, got[5].cause.getTime(),
               got[6] === given[6] && got[7] === given[7] && got[8]['\\udc00'] === 2 ** 53, got[9][0]]";
        let expected = json!([
            10,
            5,
            1,
            true,
            ["a", "b"],
            true,
            true,
            true,
            true,
            "x",
            6,
            true,
            7
        ]);
        assert_eq!(evaluate(values).await, expected);
        let kinds =
            "return [await env.other.kinds(undefined, null), await env.other.same() === undefined,
             Number.isNaN(await env.other.same(NaN)), (await env.other.same({ z: 1, a: 2 })).z]";
        let expected = json!([["undefined", "object"], true, true, 1]);
        assert_eq!(evaluate(kinds).await, expected);
        for (code, part) in [
            ("env.other.same(Symbol())", "a symbol cannot be passed"),
            ("env.other.same([Symbol()])", "a symbol cannot be passed"),
            ("env.other.same(new (class Own {}))", "Own object cannot"),
            ("env.other.same(/x/)", "RegExp object cannot"),
            ("env.other.same(new Float64Array(1))", "Float64Array cannot"),
            (
                "(() => { const o = {}; o.o = [o]; return env.other.same(o) })()",
                "contains itself",
            ),
            ("env.other.instance()", "Own object cannot"),
            (
                "env.other.nosuch()",
                "the site \"back\" has no method \"nosuch\"",
            ),
            ("env.other['a\\ud800']()", "surrogate"),
        ] {
            let refused = evaluate(&format!("return {code}")).await;
            assert_eq!(refused["name"], "TypeError", "{code}: {refused}");
            let message = refused["message"].as_str().unwrap();
            assert!(message.contains(part), "{code}: {message}");
        }
        assert_eq!(evaluate("return env.other.add(2, 3)").await, 5);
    });
    assert!(
        !server.log_text().contains("misbehaved"),
        "{}",
        server.log_text()
    );
}

#[test]
fn state_gives_back_what_was_put_or_refuses_it() {
    let server = Server::site(EVALUATES, "    state: true\n");
    run(async {
        for value in [
            "'\\ufeffx'",
            "'\\ufeff'",
            "['\\ufeff', 'a\\ud800']",
            "{ a: 1, b: { c: [null, true, 'x'] } }",
            "Object.assign(Object.create(null), { a: 1 })",
        ] {
            let code = format!(
                "const given = {value};
                 await env.STATE.put('k', given);
                 const got = await env.STATE.get('k');
                 return typeof given === 'string' ? got === given : JSON.stringify(got) === JSON.stringify(given)"
            );
            assert_eq!(evaluate(&server, &code).await, true, "{value}");
        }
        let json = "await env.STATE.put('k', '\\ufeff{\"a\":1}'); return (await env.STATE.get('k', 'json')).a";
        assert_eq!(evaluate(&server, json).await, 1);
        let dates = "await env.STATE.put('k', { at: new Date(0), no: undefined }); return env.STATE.get('k')";
        let expected = json!({ "at": "1970-01-01T00:00:00.000Z" });
        assert_eq!(evaluate(&server, dates).await, expected);
        for (value, part) in [
            ("new Map([[1, 2]])", "the value is a Map"),
            ("{ a: [1, new Set()] }", "the value.a[1] is a Set"),
            ("new (class Own { x = 1 })", "a Own object"),
            ("{ e: new Error('x') }", "the value.e is a Error object"),
            ("/x/", "a RegExp object"),
            ("Promise.resolve()", "a Promise object"),
            ("{ b: new Uint8Array(1) }", "the value.b is bytes"),
            ("[NaN]", "the value[0] is NaN"),
            ("[undefined]", "the value[0] is undefined"),
            ("{ f() {} }", "the value.f is a function"),
            ("() => 1", "not function"),
            ("undefined", "not undefined"),
            ("1n", "BigInt"),
            ("'a\\ud800'", "surrogate"),
        ] {
            let put = format!("return env.STATE.put('bad', {value})");
            let refused = evaluate(&server, &put).await;
            assert_eq!(refused["name"], "TypeError", "{value}: {refused}");
            let message = refused["message"].as_str().unwrap();
            assert!(message.contains(part), "{value}: {message}");
            let atomic = format!("return env.STATE.atomic().put('bad', {value}).commit()");
            assert_eq!(
                evaluate(&server, &atomic).await["name"],
                "TypeError",
                "{value}"
            );
        }
        assert_eq!(
            evaluate(&server, "return env.STATE.get('bad')").await,
            Value::Null
        );
        for options in [
            "{ version: NaN }",
            "{ version: 0.5 }",
            "{ ttl: NaN }",
            "{ ttl: 0 }",
            "{ ttl: '1' }",
        ] {
            let put = format!("return env.STATE.put('k', 1, {options})");
            let refused = evaluate(&server, &put).await;
            assert!(refused["name"].is_string(), "{options}: {refused}");
        }
    });
}

#[test]
fn text_that_is_no_unicode_is_a_refused_argument_and_ends_no_mirror() {
    let config = format!(
        "{PLAIN}instances:
  site:
    code: ./main.js
    urls: [\"/*\"]
    state: true
    files:
      - {{path: ./data, binding: DATA, mode: write}}
"
    );
    let files = [("main.js", EVALUATES), ("data/there.txt", "there")];
    let server = Server::start(&config, &files);
    run(async {
        for call in [
            "env.STATE.put('a\\ud800', 1)",
            "env.STATE.get('\\udc00a')",
            "env.STATE.getMany(['a', '\\ud800'])",
            "env.STATE.delete('a\\ud800')",
            "env.STATE.atomic().check('a\\ud800', null).commit()",
            "env.STATE.atomic().put('a\\ud800', new Uint8Array(1)).commit()",
            "env.STATE.atomic().delete('a\\ud800').commit()",
            "env.STATE.list({ prefix: 'a\\ud800' })",
            "env.STATE.list({ start: 'a\\ud800' })",
            "env.STATE.list({ cursor: new Uint8Array(1), end: '\\udfff' })",
            "env.STATE.watch({ prefix: '\\ud800' }).getReader().read()",
            "env.DATA.write('a\\ud800', 'x')",
            "env.DATA.write('a\\ud800', new Blob(['x']).stream())",
            "env.DATA.read('a\\ud800')",
            "env.DATA.list('a\\ud800')",
            "env.DATA.list('', { cursor: 'a\\ud800' })",
        ] {
            let refused = evaluate(&server, &format!("return {call}")).await;
            assert_eq!(refused["name"], "TypeError", "{call}: {refused}");
        }
        // The control: the other half is there.
        let whole = "await env.STATE.put('a\\ud83d\\ude00', 1); return env.STATE.get('a😀')";
        assert_eq!(evaluate(&server, whole).await, 1);
        let file =
            "await env.DATA.write('a\\ud83d\\ude00', 'x'); return env.DATA.read('a😀', 'text')";
        assert_eq!(evaluate(&server, file).await, "x");
    });
    assert!(
        !server.log_text().contains("misbehaved"),
        "{}",
        server.log_text()
    );
}

#[test]
fn binding_learns_of_no_client_that_its_caller_makes_up() {
    let config = format!(
        "{PLAIN}instances:
  front:
    code: ./main.js
    urls: [front.example]
    bindings: {{other: back}}
  back:
    code: ./main.js
"
    );
    let server = Server::start(&config, &[("main.js", EVALUATES)]);
    run(async {
        let names =
            "['cf-connecting-ip', 'cf-ipcountry', 'x-forwarded-for', 'x-real-ip', 'x-request-id']";
        let of_back = format!("return {names}.map((name) => request.headers.get(name))");
        let ask = |headers: &str| {
            let body = json!(of_back);
            format!(
                "const headers = new Headers({headers});
                 const answer = await env.other.fetch('http://x/', {{ method: 'POST', headers, body: {body} }});
                 return [(await answer.json()).value, request.headers.get('x-request-id')]"
            )
        };
        let forged = "{ 'cf-connecting-ip': '192.0.2.1', 'cf-ipcountry': 'CH', 'x-forwarded-for': '192.0.2.1',
                        'x-real-ip': '192.0.2.1', 'x-request-id': 'mine' }";
        let seen = evaluate_at(&server, "front.example", &ask(forged)).await;
        let nothing = json!([null, null, null, null, null]);
        assert_eq!(seen[0], nothing, "{seen}");
        // A request that is passed on is that of its client, whatever else is written into it.
        let forged =
            "[...request.headers, ['cf-connecting-ip', '192.0.2.1'], ['x-real-ip', '192.0.2.1']]";
        let seen = evaluate_at(&server, "front.example", &ask(forged)).await;
        let client = json!(["127.0.0.1", null, "127.0.0.1", null, seen[1]]);
        assert_eq!(seen[0], client, "{seen}");
    });
}

#[test]
fn state_is_one_for_all_mirrors_and_survives_a_kill() {
    let server = Server::site(EVALUATES, "    mirrors: 2\n    state: true\n");
    let count = "for (;;) {
        const { value, version } = await env.STATE.getWithVersion('n');
        if (await env.STATE.put('n', (value ?? 0) + 1, { version }) !== null) return (value ?? 0) + 1;
      }";
    let seen = run(async {
        let all = futures_util::future::join_all((0..40).map(|_| evaluate(&server, count))).await;
        let mut seen: Vec<i64> = all.iter().map(|value| value.as_i64().unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (1..=40).collect::<Vec<_>>(), "{}", server.log_text());
        evaluate(
            &server,
            "await env.STATE.put('bytes', new Uint8Array([1, 2]))",
        )
        .await;
        let list = evaluate(
            &server,
            "return (await env.STATE.list()).keys.map(k => k.key)",
        )
        .await;
        assert_eq!(list, json!(["bytes", "n"]));
        let atomic = "return (await env.STATE.atomic().check('absent', null).put('a', 'x').delete('bytes').commit()).ok";
        assert_eq!(evaluate(&server, atomic).await, true);
        evaluate(&server, count).await
    });
    assert_eq!(seen, 41);
    // kill -9
    let server = server.again();
    run(async {
        assert_eq!(evaluate(&server, "return env.STATE.get('n')").await, 41);
        assert_eq!(evaluate(&server, "return env.STATE.get('a')").await, "x");
        assert_eq!(
            evaluate(&server, "return env.STATE.get('bytes')").await,
            Value::Null
        );
    });
}

#[test]
fn state_notifies_watchers_of_other_mirrors() {
    let server = Server::site(
        "export default { async fetch(request, env) {
           if (request.method === 'POST') { await env.STATE.put('k', await request.text()); return new Response('ok'); }
           const changes = env.STATE.watch('k').getReader();
           return new Response(new ReadableStream({ async pull(controller) {
             const { value } = await changes.read();
             const change = value.changes?.[0] ?? value;
             controller.enqueue(new TextEncoder().encode(`${change.type} ${change.key}`));
             controller.close();
           } }, { highWaterMark: 0 }));
         } };",
        "    mirrors: 2\n    state: true\n",
    );
    run(async {
        let watching = async { server.get("a", "/").await.text() };
        let writing = async {
            loop {
                assert_eq!(server.post("a", "/", "v").await.text(), "ok");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let seen = tokio::select! { seen = watching => seen, () = writing => String::new() };
        assert_eq!(seen, "put k");
    });
}

#[test]
fn state_of_one_site_is_not_that_of_another() {
    let config = format!(
        "{PLAIN}instances:
  a: {{code: ./main.js, urls: [a.example], state: true}}
  b: {{code: ./main.js, urls: [b.example], state: {{storage: 64kb}}}}
"
    );
    let server = Server::start(&config, &[("main.js", EVALUATES)]);
    run(async {
        evaluate_at(&server, "a.example", "return env.STATE.put('k', 'of a')").await;
        let other = evaluate_at(&server, "b.example", "return env.STATE.get('k')").await;
        assert_eq!(other, Value::Null);
        let large = "return env.STATE.put('k', 'x'.repeat(65536))";
        let refused = evaluate_at(&server, "b.example", large).await;
        assert_eq!(refused["name"], "QuotaExceededError", "{refused}");
    });
}

#[test]
fn files_are_read_and_written_in_the_granted_folder_only() {
    let config = format!(
        "{PLAIN}instances:
  site:
    code: ./main.js
    urls: [\"/*\"]
    files:
      - {{path: ./data, binding: DATA, mode: write}}
      - {{path: ./fixed, binding: FIXED}}
"
    );
    let files = [
        ("main.js", EVALUATES),
        ("data/there.txt", "there"),
        ("fixed/a.txt", "fixed"),
        ("outside.txt", "outside"),
    ];
    let server = Server::start(&config, &files);
    std::os::unix::fs::symlink("../outside.txt", server.path("data/link")).unwrap();
    run(async {
        let text = evaluate(&server, "return env.DATA.read('there.txt', 'text')").await;
        assert_eq!(text, "there");
        evaluate(&server, "return env.DATA.write('new/b.txt', 'written')").await;
        let part = "return env.DATA.read('new/b.txt', { type: 'text', offset: 2, length: 3 })";
        assert_eq!(evaluate(&server, part).await, "itt");
        let streamed = "return new Response(await env.DATA.readStream('new/b.txt')).text()";
        assert_eq!(evaluate(&server, streamed).await, "written");
        let names = "return (await env.DATA.list()).entries.map(e => e.name)";
        let names = evaluate(&server, names).await.to_string();
        assert!(
            names.contains("there.txt") && names.contains("new"),
            "{names}"
        );
        for (code, name) in [
            (
                "return env.DATA.read('../outside.txt', 'text')",
                "TypeError",
            ),
            ("return env.DATA.read('link', 'text')", "TypeError"),
            ("return env.FIXED.write('a.txt', 'x')", "TypeError"),
            (
                "return env.DATA.write('there.txt', 'x', { createNew: true })",
                "InvalidModificationError",
            ),
            ("return env.DATA.read('new')", "TypeMismatchError"),
            ("return env.DATA.delete('new')", "TypeMismatchError"),
            (
                "return env.DATA.nothing?.() ?? env.DATA.write(1, 'x')",
                "TypeError",
            ),
        ] {
            let refused = evaluate(&server, code).await;
            assert_eq!(refused["name"], name, "{code}: {refused}");
        }
        for code in [
            "return env.DATA.read('nowhere')",
            // The granted folder is the root there is.
            "return env.DATA.read('/etc/passwd', 'text')",
        ] {
            assert_eq!(evaluate(&server, code).await, Value::Null, "{code}");
        }
    });
    assert_eq!(
        std::fs::read_to_string(server.path("data/new/b.txt")).unwrap(),
        "written"
    );
    assert_eq!(
        std::fs::read_to_string(server.path("fixed/a.txt")).unwrap(),
        "fixed"
    );
}

#[test]
fn outside_is_refused_unless_listed_and_reported() {
    let outside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = outside.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in outside.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 1024];
            let _ = std::io::Read::read(&mut stream, &mut head);
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
            let _ = std::io::Write::write_all(&mut stream, answer.as_bytes());
        }
    });
    let config = format!(
        "{PLAIN}instances:
  open:
    code: ./main.js
    urls: [open.example]
    data_guard:
      rules: [{{name: mine, addresses: [127.0.0.1/32], ports: [{port}], schemes: [http]}}]
      allow_private: [127.0.0.1/32]
  shut:
    code: ./main.js
    urls: [shut.example]
"
    );
    let server = Server::start(&config, &[("main.js", EVALUATES)]);
    let code = format!("return (await fetch('http://127.0.0.1:{port}/')).text()");
    run(async {
        assert_eq!(
            evaluate_at(&server, "open.example", &code).await,
            "hi",
            "{}",
            server.log_text()
        );
        let refused = evaluate_at(&server, "shut.example", &code).await;
        assert_eq!(refused["name"], "TypeError", "{refused}");
        let metric =
            "stockade_egress_refused_total{instance=\"shut\",action=\"fetch\",reason=\"host\"}";
        assert_eq!(server.metric(metric).await, 1.0);
    });
    let event = server.logged(|line| line["instance"] == "shut" && line["reason"] == "host");
    assert!(event.to_string().contains(&port.to_string()), "{event}");
}
