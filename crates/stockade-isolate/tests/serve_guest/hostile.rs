//! A guest that changes what the runtime is made of, and a host that says what it should not.

use libtest_mimic::Failed;
use serde_json::json;

use crate::guest::{Guest, Said};
use crate::{cases, holds, same};

cases![
    replaced_prototypes_do_not_stop_the_runtime,
    setters_on_object_prototype_see_nothing,
    replaced_promise_then_does_not_forge,
    to_json_on_prototypes_harms_its_own_answers_alone,
    forged_inner_objects_fail_their_own_request,
    constructors_of_the_runtime_are_illegal,
    malformed_message_of_the_host_ends_nothing,
    guest_reaches_no_op_and_no_control,
    text_without_memory_for_its_words_ends_its_guest_alone,
];

async fn replaced_prototypes_do_not_stop_the_runtime() -> Result<(), Failed> {
    let code = "
        const broken = () => { throw new Error('replaced') };
        Array.prototype.push = broken; Array.prototype.join = broken; Array.prototype[Symbol.iterator] = broken;
        Map.prototype.get = broken; Map.prototype.set = broken; Map.prototype.delete = broken;
        Set.prototype.has = broken; WeakMap.prototype.get = broken;
        String.prototype.toLowerCase = broken; String.prototype.slice = broken;
        JSON.stringify = broken; JSON.parse = broken; Object.keys = broken; Reflect.apply = broken;
        Function.prototype.call = broken; Function.prototype.apply = broken;
        globalThis.Response2 = Response; globalThis.Promise = undefined; globalThis.Uint8Array = undefined;
        export default {
            fetch(r, env, ctx) { ctx.waitUntil(1); return new Response(r.method, { headers: { 'x-a': '1' } }) },
            scheduled() {},
        }";
    let mut guest = Guest::start(code).await?;
    for _ in 0..2 {
        let answer = guest.fetch("/").await?;
        same!(
            (answer.text().as_str(), answer.header("x-a")),
            ("GET", Some("1"))
        );
        same!(guest.expect("http.settled").await?.json, "[7]");
    }
    guest.send_control("cron.run", &json!([1, "* * * * *", 1]))?;
    same!(guest.expect("cron.done").await?.json, "[1,null]");
    Ok(())
}

async fn setters_on_object_prototype_see_nothing() -> Result<(), Failed> {
    // Keys of the objects that serve mode itself makes; classes of Deno's may assign to theirs.
    let mut wrong = Vec::new();
    for key in [
        "id",
        "request",
        "open",
        "settled",
        "aborted",
        "fetch",
        "target",
        "entrypoint",
        "method",
        "body",
        "cf",
        "handlers",
        "exports",
        "1",
        "2",
        "6",
        "get",
        "set",
        "value",
        "webSocket",
        "name",
        "controller",
        "wanted",
        "reader",
        "headers",
        "status",
        "kind",
        "n",
    ] {
        let code = format!(
            "let seen = '';
            Object.defineProperty(Object.prototype, '{key}', {{ __proto__: null, configurable: true,
                get() {{ return undefined }}, set(value) {{ seen += '{key} ' }} }});
            export default {{ fetch: () => new Response(seen) }}"
        );
        let seen = async {
            let mut guest = Guest::start(&code).await?;
            guest.post(1, "/", b"x")?;
            guest.response().await?;
            Ok::<_, Failed>(guest.fetch("/").await?.text())
        };
        match seen.await {
            Ok(text) if text.is_empty() => {}
            other => wrong.push((key, other)),
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("{wrong:?}").into())
    }
}

async fn replaced_promise_then_does_not_forge() -> Result<(), Failed> {
    let code = "
        Promise.prototype.then = function () { throw new Error('replaced') };
        export default { fetch: async () => new Response('x') }";
    let mut guest = Guest::start(code).await?;
    same!(guest.fetch("/").await?.text(), "x");
    Ok(())
}

async fn to_json_on_prototypes_harms_its_own_answers_alone() -> Result<(), Failed> {
    let code = "
        Array.prototype.toJSON = () => ['x-forged', '1'];
        export default { fetch: () => new Response(null, { headers: { 'x-a': '1' } }) }";
    let mut guest = Guest::create(&[("main.js", code)], json!({})).await?;
    guest.control().await?;
    guest.get(7, "/")?;
    // Whatever it is, it is about this request, or no JSON of its form.
    let (name, data) = guest.control().await?;
    same!(name.starts_with("http."), true);
    holds!(data.json, "[7,");
    Ok(())
}

async fn forged_inner_objects_fail_their_own_request() -> Result<(), Failed> {
    let code = "export default { fetch(r) {
        const response = new Response('x', { status: 201, headers: { 'x-a': '1' } });
        for (const symbol of Object.getOwnPropertySymbols(response)) {
            const how = new URL(r.url).pathname;
            response[symbol] = how === '/object' ? {} : how === '/number' ? 5 : new Proxy({}, {
                get() { throw new Error('trap') } });
        }
        return response;
    } }";
    let mut guest = Guest::start(code).await?;
    for path in ["/object", "/number", "/trap"] {
        guest.get(7, path)?;
        let (name, data) = guest.control().await?;
        same!(name.starts_with("http."), true);
        holds!(data.json, "[7,");
    }
    Ok(())
}

async fn constructors_of_the_runtime_are_illegal() -> Result<(), Failed> {
    let code = "export default { fetch(r, env, ctx) {
        const names = [];
        const attempt = (work) => { try { work(); names.push('made') } catch (error) { names.push(error.name) } };
        attempt(() => new ctx.constructor({}, {}));
        attempt(() => new navigator.constructor());
        attempt(() => ctx.waitUntil.call({}, 1));
        attempt(() => ctx.waitUntil());
        attempt(() => Response('x'));
        attempt(() => WebSocketPair());
        attempt(() => new (Object.getPrototypeOf(new WebSocketPair()[0]).constructor)());
        return Response.json(names);
    } }";
    let mut guest = Guest::start(code).await?;
    same!(
        guest.fetch("/").await?.text(),
        "[\"TypeError\",\"TypeError\",\"TypeError\",\"TypeError\",\"TypeError\",\"TypeError\",\"TypeError\"]"
    );
    Ok(())
}

async fn malformed_message_of_the_host_ends_nothing() -> Result<(), Failed> {
    let mut guest = Guest::start("export default { fetch: () => new Response('x') }").await?;
    for name in [
        "http.request",
        "http.abort",
        "cron.run",
        "socket.message",
        "stream.pull",
        "target.release",
        "unknown",
    ] {
        for data in [
            json!(null),
            json!({}),
            json!("x"),
            json!([null, null, null, null, 5]),
        ] {
            guest.send_control(name, &data)?;
        }
    }
    guest.get(77, "/")?;
    loop {
        if let Said::Control(name, data) = guest.next().await?
            && name == "http.response"
            && data.json.starts_with("[77,")
        {
            return Ok(());
        }
    }
}

async fn guest_reaches_no_op_and_no_control() -> Result<(), Failed> {
    let code = "export default { fetch(r, env, ctx) {
        const names = Object.getOwnPropertyNames(globalThis).filter((name) => /deno|core|stockade|network/i.test(name));
        const workers = globalThis[Symbol.for('cloudflare:workers')];
        return Response.json([names, Object.keys(workers), Object.isFrozen(workers), Object.keys(ctx),
            Object.getOwnPropertySymbols(ctx).length]);
    } }";
    let mut guest = Guest::start(code).await?;
    same!(
        guest.fetch("/").await?.text(),
        "[[],[\"RpcPromise\",\"RpcStub\",\"RpcTarget\",\"WorkerEntrypoint\",\"env\"],true,[],0]"
    );
    Ok(())
}

async fn text_without_memory_for_its_words_ends_its_guest_alone() -> Result<(), Failed> {
    // Segmenters of Chinese and of sentences use what ICU gives them without a check. The lengths are a little above the limit
    // and far above it.
    for (language, granularity, text, length) in [
        ("ja", "word", "\u{6f22}", 3_000_000),
        ("en", "sentence", "Ab. ", 3_000_000),
        ("ja", "word", "\u{6f22}", 20_000_000),
    ] {
        let code = format!(
            "const first = (length) => {{
                const segmenter = new Intl.Segmenter('{language}', {{ granularity: '{granularity}' }});
                return segmenter.segment('{text}'.repeat(length))[Symbol.iterator]().next().value.index;
            }};
            const all = [];
            export default {{ fetch(request) {{
                if (request.url.endsWith('/short')) return new Response(first(1000));
                while (all.length < 50) all.push(new ArrayBuffer(1 << 20));
                for (;;) all.push(first({length}));
            }} }}"
        );
        let mut guest = Guest::start_within(&code, 64 << 20).await?;
        same!(guest.fetch("/short").await?.text(), "0");
        guest.get(1, "/long")?;
        match guest.next().await {
            Err(failed) if format!("{failed:?}").contains("memoryLimitMb") => {}
            other => return Err(format!("{other:?}").into()),
        }
        let mut other = Guest::start_within(&code, 64 << 20).await?;
        same!(other.fetch("/short").await?.text(), "0");
    }
    Ok(())
}
