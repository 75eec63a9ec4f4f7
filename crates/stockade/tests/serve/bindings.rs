//! What `env` holds: variables, secrets, other sites, state, folders; and what the outside allows.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::client::run;
use crate::server::{PLAIN, Server, folder};

/// A site that evaluates what it is sent, with `env` at hand. Only for tests.
const EVALUATES: &str = "export default {
  async fetch(request, env, ctx) {
    const run = new Function('env', 'request', `return (async () => { ${await request.text()} })()`);
    try { return Response.json({ value: (await run(env, request)) ?? null }); }
    catch (error) { return Response.json({ name: error?.name, message: error?.message }); }
  },
  add(a, b) { return a + b; },
};";

async fn evaluate(server: &Server, code: &str) -> Value {
    evaluate_at(server, "a", code).await
}

async fn evaluate_at(server: &Server, host: &str, code: &str) -> Value {
    let answer = server.post(host, "/", code.to_owned()).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), server.told());
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
    assert!(!server.told().contains("hush"));
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
        assert_eq!(seen, (1..=40).collect::<Vec<_>>(), "{}", server.told());
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
fn state_tells_watchers_of_other_mirrors() {
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
        for code in [
            "return env.DATA.read('../outside.txt', 'text')",
            "return env.DATA.read('link', 'text')",
            "return env.FIXED.write('a.txt', 'x')",
        ] {
            let refused = evaluate(&server, code).await;
            assert!(refused["name"].is_string(), "{code}: {refused}");
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
fn outside_is_refused_unless_listed_and_told() {
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
            server.told()
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
