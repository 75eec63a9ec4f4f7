//! What `env` holds: other sites, assets, state, folders; and `fetch` to the world.

use libtest_mimic::Failed;
use serde_json::{Value, json};
use stockade_protocol::GuestError;

use crate::guest::{Content, Guest, Said};
use crate::{cases, holds, same};

cases![
    service_fetch_asks_the_host_and_gives_a_response,
    service_method_asks_the_host_and_gives_its_value,
    service_is_not_thenable,
    assets_have_fetch_alone,
    request_is_passed_on_with_its_stream,
    state_values_keep_their_kind,
    state_calls_have_the_fields_of_the_wire,
    state_atomic_is_one_call,
    state_watch_is_a_stream_of_changes,
    files_calls_have_the_fields_of_the_wire,
    bad_argument_rejects_and_asks_nothing,
    refusal_of_the_host_is_an_error,
];

fn env() -> Value {
    json!({ "\0bindings": {
        "other": { "kind": "service" },
        "ASSETS": { "kind": "assets" },
        "STATE": { "kind": "state" },
        "FILES": { "kind": "files" },
    } })
}

/// A site whose handler is this expression of `r` and `env`; a value that is not a response becomes JSON.
async fn site(expression: &str) -> Result<Guest, Failed> {
    let code = format!(
        "export default {{ async fetch(r, env) {{
            const value = await ({expression});
            return value instanceof Response ? value : Response.json(value ?? null);
        }} }}"
    );
    let guest = Guest::start_with(&code, env()).await?;
    guest.post(7, "/path?q", b"body")?;
    Ok(guest)
}

async fn value(guest: &mut Guest) -> Result<Value, Failed> {
    let text = guest.response().await?.text();
    Ok(serde_json::from_str(&text)?)
}

async fn service_fetch_asks_the_host_and_gives_a_response() -> Result<(), Failed> {
    let mut guest = site("env.other.fetch(new Request(r, { headers: { 'x-a': '1' } }))").await?;
    let (id, asked, bytes) = guest.asked("binding.fetch").await?;
    same!(
        asked,
        json!({ "binding": "other", "url": "https://site.example/path?q", "method": "POST",
            "headers": ["x-a", "1"], "body": "\0b0" })
    );
    same!(bytes, vec![b"body".to_vec()]);
    // A redirect is the client's to follow.
    let headers = json!([["location", "/new"], ["set-cookie", "a=1"]]);
    guest.answer(
        id,
        &json!({ "status": 302, "headers": headers, "body": "moved" }),
    )?;
    let answer = guest.response().await?;
    same!(
        (answer.status, answer.header("location")),
        (302, Some("/new"))
    );
    Ok(())
}

async fn service_method_asks_the_host_and_gives_its_value() -> Result<(), Failed> {
    let mut guest = site("env.other.add(1, { two: new Uint8Array([2]) })").await?;
    let (id, asked, bytes) = guest.asked("binding.call").await?;
    same!(
        asked,
        json!({ "binding": "other", "method": "add", "args": [1, { "two": "\0b0" }] })
    );
    same!(bytes, vec![vec![2]]);
    guest.answer(id, &json!({ "sum": 3 }))?;
    same!(value(&mut guest).await?, json!({ "sum": 3 }));
    Ok(())
}

async fn service_is_not_thenable() -> Result<(), Failed> {
    let expression = "(async () => {
        const other = await env.other;
        return [typeof other.then, typeof other.fetch, typeof other.anything, String(other),
            typeof other.constructor, Object.keys(env)];
    })()";
    let mut guest = site(expression).await?;
    same!(
        value(&mut guest).await?,
        json!([
            "undefined",
            "function",
            "function",
            "[object Fetcher]",
            "function",
            ["other", "ASSETS", "STATE", "FILES"]
        ])
    );
    Ok(())
}

async fn assets_have_fetch_alone() -> Result<(), Failed> {
    let mut guest =
        site("env.ASSETS.add === undefined && env.ASSETS.fetch('https://a/x.css')").await?;
    let (id, asked, _) = guest.asked("binding.fetch").await?;
    same!(
        (&asked["binding"], &asked["body"]),
        (&json!("ASSETS"), &json!(null))
    );
    let headers = json!([["content-type", "text/css"]]);
    let answer = json!({ "status": 200, "headers": headers, "body": "\0b0" });
    guest.answer_marked(id, &answer, vec![b"p {}".to_vec()])?;
    let answer = guest.response().await?;
    same!(
        (answer.header("content-type"), answer.text().as_str()),
        (Some("text/css"), "p {}")
    );
    Ok(())
}

async fn request_is_passed_on_with_its_stream() -> Result<(), Failed> {
    let code = "export default { fetch: (r, env) => r.url.endsWith('/world')
        ? fetch(new Request('https://world.example/', r)) : env.other.fetch(r) }";
    let mut guest = Guest::start_with(code, env()).await?;
    for (path, method) in [("/", "binding.fetch"), ("/world", "fetch")] {
        let url = format!("https://site.example{path}");
        let request = json!([1, "POST", url, ["x-a", "1"], "\0s3", null]);
        guest.send_control_marked("http.request", &request, Vec::new())?;
        let (id, asked, _) = guest.asked(method).await?;
        holds!(asked["body"].as_str().unwrap_or_default(), "\0s");
        guest.answer_marked(id, &json!({ "status": 200, "body": "\0s4" }), Vec::new())?;
        same!(guest.response().await?.body, Content::Returned(4));
    }
    Ok(())
}

async fn state_values_keep_their_kind() -> Result<(), Failed> {
    let cases = [
        ("'tëxt'", "t", "tëxt".as_bytes(), json!("tëxt")),
        (
            "{ a: [1, null] }",
            "j",
            b"{\"a\":[1,null]}",
            json!({ "a": [1, null] }),
        ),
        ("5", "j", b"5", json!(5)),
        ("null", "j", b"null", json!(null)),
        (
            "new Uint8Array([1, 2])",
            "b",
            &[1, 2],
            json!({ "0": 1, "1": 2 }),
        ),
    ];
    for (expression, kind, bytes, back) in cases {
        let code = format!("env.STATE.put('k', {expression}).then(() => env.STATE.get('k'))");
        let mut guest = site(&code).await?;
        let (id, asked, parts) = guest.asked("binding.call").await?;
        same!(
            (&asked["method"], &asked["args"][0]["kind"]),
            (&json!("put"), &json!(kind))
        );
        same!(parts, vec![bytes.to_vec()]);
        guest.answer(id, &json!(1))?;
        let (id, _, _) = guest.asked("binding.call").await?;
        let entry = json!({ "value": "\0b0", "kind": kind, "version": 1 });
        guest.answer_marked(id, &entry, vec![bytes.to_vec()])?;
        same!(value(&mut guest).await?, back);
    }
    Ok(())
}

async fn state_calls_have_the_fields_of_the_wire() -> Result<(), Failed> {
    let cases = [
        ("env.STATE.get('k', 'json')", "get", json!({ "key": "k" })),
        (
            "env.STATE.getMany(['a', 'b'], { type: 'bytes' })",
            "getMany",
            json!({ "keys": ["a", "b"] }),
        ),
        (
            "env.STATE.put('k', 'v', { ttl: 60, version: null })",
            "put",
            json!({ "key": "k", "value": "\0b0", "kind": "t", "ttl": 60, "version": null }),
        ),
        (
            "env.STATE.delete('k', { version: 4 })",
            "delete",
            json!({ "key": "k", "version": 4 }),
        ),
        ("env.STATE.list()", "list", json!({})),
        ("env.STATE.usage()", "usage", json!({})),
        (
            "env.STATE.list({ prefix: 'p', start: 'a', end: 'b', limit: 5, cursor: 'c', reverse: true })",
            "list",
            json!({ "prefix": "p", "start": "a", "end": "b", "limit": 5, "cursor": "c", "reverse": true }),
        ),
    ];
    for (expression, method, request) in cases {
        let mut guest = site(expression).await?;
        let (_, asked, _) = guest.asked("binding.call").await?;
        same!(
            asked,
            json!({ "binding": "STATE", "method": method, "args": [request] })
        );
    }
    // What comes back.
    let mut guest = site("env.STATE.getWithVersion('k')").await?;
    let (id, _, _) = guest.asked("binding.call").await?;
    guest.answer(id, &json!(null))?;
    same!(
        value(&mut guest).await?,
        json!({ "value": null, "version": null })
    );
    let mut guest = site("env.STATE.getMany(['a', 'b'], 'json').then((m) => [...m])").await?;
    let (id, _, _) = guest.asked("binding.call").await?;
    let entry = json!([{ "value": "\0b0", "kind": "t", "version": 3 }, null]);
    guest.answer_marked(id, &entry, vec![b"[1]".to_vec()])?;
    same!(value(&mut guest).await?, json!([["a", [1]], ["b", null]]));
    Ok(())
}

async fn state_atomic_is_one_call() -> Result<(), Failed> {
    let expression = "env.STATE.atomic().check('a', 3).check('b', null)
        .put('a', { n: 1 }, { ttl: 5 }).delete('b').commit()";
    let mut guest = site(expression).await?;
    let (id, asked, bytes) = guest.asked("binding.call").await?;
    same!(
        asked["args"],
        json!([{
            "checks": [{ "key": "a", "version": 3 }, { "key": "b", "version": null }],
            "mutations": [
                { "op": "put", "key": "a", "value": "\0b0", "kind": "j", "ttl": 5 },
                { "op": "delete", "key": "b" },
            ],
        }])
    );
    same!(bytes, vec![b"{\"n\":1}".to_vec()]);
    guest.answer(id, &json!({ "ok": false }))?;
    same!(value(&mut guest).await?, json!({ "ok": false }));
    Ok(())
}

async fn state_watch_is_a_stream_of_changes() -> Result<(), Failed> {
    let expression = "(async () => {
        const seen = [];
        for await (const change of env.STATE.watch({ prefix: 'p/' }, { version: 2 })) {
            seen.push(change);
            if (seen.length === 3) break;
        }
        return seen;
    })()";
    let mut guest = site(expression).await?;
    let (id, asked, _) = guest.asked("binding.call").await?;
    same!(
        (&asked["method"], &asked["args"]),
        (&json!("watch"), &json!([{ "prefix": "p/", "version": 2 }]))
    );
    guest.answer_marked(id, &json!("\0s6"), Vec::new())?;
    guest.expect("stream.pull").await?;
    // Lines and characters may be cut anywhere.
    let text = "{\"key\":\"p/é\"}\n{\"lagged\":true}\n{\"version\":9}\n";
    for part in text.as_bytes().chunks(5) {
        let chunk = json!({ "id": 6, "chunk": "\0b0" });
        guest.send_control_marked("stream.chunk", &chunk, vec![part.to_vec()])?;
    }
    let mut pulls = 0;
    loop {
        match guest.next().await? {
            Said::Control(name, _) if name == "stream.pull" => pulls += 1,
            Said::Control(name, data) => {
                same!(name, "stream.cancel");
                holds!(data.json, "\"id\":6");
                break;
            }
            other => return Err(format!("{other:?}").into()),
        }
    }
    same!(pulls < 3, true);
    let seen = value(&mut guest).await?;
    same!(
        seen,
        json!([{ "key": "p/é" }, { "lagged": true }, { "version": 9 }])
    );
    Ok(())
}

async fn files_calls_have_the_fields_of_the_wire() -> Result<(), Failed> {
    let cases = [
        ("env.FILES.list()", "list", json!({ "path": "" })),
        (
            "env.FILES.list('a', { limit: 3, cursor: 'c' })",
            "list",
            json!({ "path": "a", "limit": 3, "cursor": "c" }),
        ),
        ("env.FILES.stat('a')", "stat", json!({ "path": "a" })),
        (
            "env.FILES.read('a', { offset: 1, length: 2 })",
            "read",
            json!({ "path": "a", "offset": 1, "length": 2 }),
        ),
        (
            "env.FILES.readStream('a')",
            "readStream",
            json!({ "path": "a" }),
        ),
        (
            "env.FILES.write('a', new Uint8Array([1]), { createNew: true })",
            "write",
            json!({ "path": "a", "data": "\0b0", "createNew": true }),
        ),
        (
            "env.STATE && env.FILES.createFolder('b')",
            "createFolder",
            json!({ "path": "b" }),
        ),
        (
            "env.FILES.write('a', 'text')",
            "write",
            json!({ "path": "a", "data": "\0b0" }),
        ),
        ("env.FILES.delete('a')", "delete", json!({ "path": "a" })),
        (
            "env.FILES.createFolder('a')",
            "createFolder",
            json!({ "path": "a" }),
        ),
    ];
    for (expression, method, request) in cases {
        let mut guest = site(expression).await?;
        let (_, asked, _) = guest.asked("binding.call").await?;
        same!(
            asked,
            json!({ "binding": "FILES", "method": method, "args": [request] })
        );
    }
    let mut guest = site("env.FILES.read('a', 'text')").await?;
    let (id, asked, _) = guest.asked("binding.call").await?;
    same!(asked["args"], json!([{ "path": "a" }]));
    guest.answer_marked(id, &json!("\0b0"), vec![b"content".to_vec()])?;
    same!(value(&mut guest).await?, json!("content"));
    Ok(())
}

async fn bad_argument_rejects_and_asks_nothing() -> Result<(), Failed> {
    for (expression, part) in [
        ("env.STATE.get(5)", "must be a string"),
        (
            "env.STATE.put('k', undefined)",
            "must be text, bytes or JSON",
        ),
        ("env.STATE.put('k', () => 1)", "must be text, bytes or JSON"),
        ("env.STATE.getMany('k')", "must be an array"),
        (
            "env.STATE.atomic().check('k', 'x').commit()",
            "must be a number, or null",
        ),
        ("env.FILES.read(5)", "a path must be a string"),
        ("env.FILES.write('a', { b: 1 })", "text, bytes or a stream"),
        ("env.other.fetch()", "1 argument required"),
        ("env.ASSETS.fetch('relative')", "Invalid URL"),
        ("new env.STATE.constructor()", "Illegal constructor"),
    ] {
        let mut guest = site(expression).await?;
        let (_, _, message, _) = guest.failure().await?;
        holds!(message, part);
    }
    Ok(())
}

async fn refusal_of_the_host_is_an_error() -> Result<(), Failed> {
    let expression = "fetch('https://x.example').catch((error) => [error.name, error.message])";
    let mut guest = site(expression).await?;
    let (id, _, _) = guest.asked("fetch").await?;
    let error = GuestError::new("no rule of data_guard allows host x.example");
    guest.handle.answer(id, Err(error))?;
    same!(
        value(&mut guest).await?,
        json!(["TypeError", "no rule of data_guard allows host x.example"])
    );
    for (name, class) in [
        ("TypeError", "TypeError"),
        ("RangeError", "RangeError"),
        ("BusyError", "Error"),
    ] {
        let expression = "env.STATE.get('k').catch((error) => [error.name, error.constructor.name,
            error.message, error.stack.startsWith(error.name) || error.stack.startsWith('Error')])";
        let mut guest = site(expression).await?;
        let (id, _, _) = guest.asked("binding.call").await?;
        let error = GuestError {
            name: name.to_owned(),
            ..GuestError::new("no")
        };
        guest.handle.answer(id, Err(error))?;
        same!(value(&mut guest).await?, json!([name, class, "no", true]));
    }
    Ok(())
}
