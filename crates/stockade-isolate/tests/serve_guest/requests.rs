//! What a handler sees of a request.

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::guest::{Content, Guest, Said};
use crate::{cases, holds, same};

cases![
    request_shows_what_the_host_sent,
    request_without_cf_has_none,
    request_body_can_be_text_json_form_and_bytes,
    request_body_streams_in_order_and_only_when_read,
    request_of_a_gone_client_aborts_its_signal,
    signal_touched_after_the_abort_is_aborted,
    answer_after_the_abort_has_no_body,
    handler_is_called_on_its_object,
    wait_until_is_reported_when_it_settles,
    wait_until_that_rejects_is_uncaught_and_settles,
    wait_until_settled_before_the_answer_is_not_pending,
    imported_wait_until_is_that_of_the_handler_that_runs,
    concurrent_requests_are_answered_by_their_ids,
    request_can_be_cloned_and_passed_on,
    scheduled_handler_gets_its_controller,
    scheduled_handler_that_throws_is_reported,
    scheduled_handler_waits_for_wait_until,
];

async fn request_shows_what_the_host_sent() -> Result<(), Failed> {
    let code = "export default { async fetch(r, env, ctx) {
        return Response.json({ method: r.method, url: r.url, headers: [...r.headers],
            cf: r.cf, body: await r.text(), used: r.bodyUsed, redirect: r.redirect,
            props: ctx.props, pass: ctx.passThroughOnException() ?? null });
    } }";
    let mut guest = Guest::start(code).await?;
    let cf = json!({ "httpProtocol": "HTTP/2", "clientIp": "127.0.0.1" });
    let headers = [
        "host",
        "site.example",
        "x-a",
        "1",
        "x-a",
        "2",
        "cookie",
        "a=b",
    ];
    let url = "https://site.example/a%2Fb?c=d#e";
    let request = json!([1, "PUT", url, headers, "\0b0", cf]);
    guest.send_control_marked("http.request", &request, vec![b"caf\xc3\xa9".to_vec()])?;
    let answer = guest.response().await?;
    same!(answer.header("content-type"), Some("application/json"));
    let seen: Value = serde_json::from_str(&answer.text())?;
    let headers = json!([["cookie", "a=b"], ["host", "site.example"], ["x-a", "1, 2"]]);
    same!(
        seen,
        json!({ "method": "PUT", "url": url, "headers": headers, "cf": cf, "body": "café",
            "used": true, "redirect": "manual", "props": {}, "pass": null })
    );
    Ok(())
}

async fn request_without_cf_has_none() -> Result<(), Failed> {
    let code = "export default { fetch: (r) => new Response(`${r.cf} ${new Request(r.url).cf}`) }";
    let mut guest = Guest::start(code).await?;
    same!(guest.fetch("/").await?.text(), "undefined undefined");
    Ok(())
}

async fn request_body_can_be_text_json_form_and_bytes() -> Result<(), Failed> {
    let code = "export default { async fetch(r) {
        const how = new URL(r.url).pathname.slice(1);
        if (how === 'none') return new Response(String(r.body));
        if (how === 'form') return new Response((await r.formData()).get('a'));
        if (how === 'bytes') return new Response(await r.bytes());
        if (how === 'buffer') return new Response(await r.arrayBuffer());
        if (how === 'stream') return new Response(r.body);
        return Response.json(await r.json());
    } }";
    let mut guest = Guest::start(code).await?;
    guest.post(1, "/json", b"{\"a\": [1]}")?;
    same!(guest.response().await?.text(), "{\"a\":[1]}");
    for how in ["/bytes", "/buffer", "/stream"] {
        guest.post(1, how, b"abc")?;
        let answer = guest.response().await?;
        match answer.body {
            Content::Stream(id) => {
                guest.send_control("stream.pull", &json!({ "id": id }))?;
                same!(guest.chunk(id).await?, Some(b"abc".to_vec()));
            }
            _ => same!(answer.text(), "abc"),
        }
        if how == "/stream"
            && let Content::Stream(id) = answer.body
        {
            guest.send_control("stream.pull", &json!({ "id": id }))?;
            same!(guest.chunk(id).await?, None);
        }
    }
    let form = ["content-type", "application/x-www-form-urlencoded"];
    let request = json!([1, "POST", "https://site.example/form", form, "\0b0", null]);
    guest.send_control_marked("http.request", &request, vec![b"a=1%202".to_vec()])?;
    same!(guest.response().await?.text(), "1 2");
    same!(guest.fetch("/none").await?.text(), "null");
    Ok(())
}

async fn request_body_streams_in_order_and_only_when_read() -> Result<(), Failed> {
    let code = "export default { async fetch(r) {
        console.log('begun');
        await new Promise((resolve) => setTimeout(resolve, 5));
        console.log('reads');
        let text = '';
        for await (const chunk of r.body) text += new TextDecoder().decode(chunk);
        return new Response(text);
    } }";
    let mut guest = Guest::start(code).await?;
    let request = json!([1, "POST", "https://site.example/", [], "\0s40", null]);
    guest.send_control_marked("http.request", &request, Vec::new())?;
    for line in ["begun", "reads"] {
        match guest.next().await? {
            Said::Console(text) => same!(text, line),
            other => return Err(format!("{other:?}").into()),
        }
    }
    let pull: Value = serde_json::from_str(&guest.expect("stream.pull").await?.json)?;
    same!(pull, json!({ "id": 40, "n": 8 }));
    for part in ["one ", "two ", "three"] {
        let chunk = json!({ "id": 40, "chunk": "\0b0" });
        guest.send_control_marked("stream.chunk", &chunk, vec![part.as_bytes().to_vec()])?;
    }
    guest.send_control("stream.end", &json!({ "id": 40 }))?;
    same!(guest.response().await?.text(), "one two three");
    Ok(())
}

async fn request_of_a_gone_client_aborts_its_signal() -> Result<(), Failed> {
    let code = "export default { fetch: (r) => new Promise((resolve, reject) => {
        r.signal.addEventListener('abort', () => reject(r.signal.reason));
    }) }";
    let mut guest = Guest::start(code).await?;
    guest.get(5, "/")?;
    guest.send_control("http.abort", &json!([5]))?;
    let (id, name, message, _) = guest.failure().await?;
    same!((id, name.as_str()), (5, "AbortError"));
    holds!(message, "cancelled");
    // One that is unknown, or over, is nobody's.
    guest.send_control("http.abort", &json!([5]))?;
    guest.send_control("http.abort", &json!([99]))?;
    Ok(())
}

async fn signal_touched_after_the_abort_is_aborted() -> Result<(), Failed> {
    let code = "export default { async fetch(r) {
        console.log('begun');
        await new Promise((resolve) => setTimeout(resolve, 30));
        console.log(String(r.signal.aborted));
        return new Response('');
    } }";
    let mut guest = Guest::start(code).await?;
    guest.get(5, "/")?;
    let Said::Console(_) = guest.next().await? else {
        return Err("not begun".into());
    };
    guest.send_control("http.abort", &json!([5]))?;
    match guest.next().await? {
        Said::Console(text) => same!(text, "true"),
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}

async fn answer_after_the_abort_has_no_body() -> Result<(), Failed> {
    let code = "export default { async fetch(r) {
        console.log('begun');
        await new Promise((resolve) => setTimeout(resolve, 30));
        const body = new ReadableStream({ cancel: () => console.log('cancelled') });
        return new Response(body);
    } }";
    let mut guest = Guest::start(code).await?;
    guest.get(5, "/")?;
    guest.next().await?;
    guest.send_control("http.abort", &json!([5]))?;
    let mut seen = Vec::new();
    for _ in 0..2 {
        match guest.next().await? {
            Said::Console(text) => seen.push(text),
            Said::Control(name, data) => {
                same!(name, "http.response");
                same!(data.json, "[5,204,[],null,null,false]");
            }
            other => return Err(format!("{other:?}").into()),
        }
    }
    same!(seen, ["cancelled"]);
    Ok(())
}

async fn handler_is_called_on_its_object() -> Result<(), Failed> {
    let code = "class App { #name = 'app'; fetch() { return new Response(this.#name) } }
        export default new App()";
    let mut guest = Guest::start(code).await?;
    same!(guest.fetch("/").await?.text(), "app");
    Ok(())
}

async fn wait_until_is_reported_when_it_settles() -> Result<(), Failed> {
    let code = "export default { fetch(r, env, ctx) {
        ctx.waitUntil(new Promise((resolve) => setTimeout(resolve, 10)));
        ctx.waitUntil(Promise.resolve().then(() => console.log('soon')));
        return new Response('now');
    } }";
    let mut guest = Guest::start(code).await?;
    guest.get(3, "/")?;
    let answer = guest.response().await?;
    same!((answer.pending, answer.text().as_str()), (true, "now"));
    let Said::Console(_) = guest.next().await? else {
        return Err("no line".into());
    };
    same!(guest.expect("http.settled").await?.json, "[3]");
    Ok(())
}

async fn wait_until_that_rejects_is_uncaught_and_settles() -> Result<(), Failed> {
    let code = "export default { fetch(r, env, ctx) {
        ctx.waitUntil((async () => { throw new Error('behind') })());
        return new Response(new ReadableStream({ start: (c) => c.close() }));
    } }";
    let mut guest = Guest::start(code).await?;
    guest.get(3, "/")?;
    same!(guest.response().await?.pending, true);
    match guest.next().await? {
        Said::Uncaught(error) => same!(error.message, "behind"),
        other => return Err(format!("{other:?}").into()),
    }
    same!(guest.expect("http.settled").await?.json, "[3]");
    Ok(())
}

async fn wait_until_settled_before_the_answer_is_not_pending() -> Result<(), Failed> {
    let code = "export default { async fetch(r, env, ctx) {
        ctx.waitUntil(1);
        await new Promise((resolve) => setTimeout(resolve, 5));
        return new Response('x');
    } }";
    let mut guest = Guest::start(code).await?;
    same!(guest.fetch("/").await?.pending, false);
    Ok(())
}

async fn imported_wait_until_is_that_of_the_handler_that_runs() -> Result<(), Failed> {
    let code = "import { waitUntil } from 'cloudflare:workers';
        const soon = () => new Promise((resolve) => setTimeout(resolve, 1));
        let outside, finish;
        try { waitUntil(soon()) } catch (error) { outside = error.name }
        export default { async fetch(r) {
            const path = new URL(r.url).pathname;
            await soon();
            if (path === '/open') waitUntil(new Promise((resolve) => finish = resolve));
            if (path === '/finish') finish();
            await soon();
            return new Response(path + outside);
        } }";
    let mut guest = Guest::start(code).await?;
    guest.get(1, "/open")?;
    guest.get(2, "/plain")?;
    let mut answers = [guest.response().await?, guest.response().await?];
    answers.sort_by_key(|answer| answer.id);
    let pending: Vec<bool> = answers.iter().map(|answer| answer.pending).collect();
    same!(pending, [true, false]);
    same!(answers[1].text(), "/plainTypeError");
    guest.get(3, "/finish")?;
    same!(guest.expect("http.settled").await?.json, "[1]");
    same!(guest.response().await?.pending, false);
    Ok(())
}

async fn concurrent_requests_are_answered_by_their_ids() -> Result<(), Failed> {
    let code = "export default { async fetch(r) {
        const ms = Number(new URL(r.url).searchParams.get('ms'));
        await new Promise((resolve) => setTimeout(resolve, ms));
        return new Response(String(ms));
    } }";
    let mut guest = Guest::start(code).await?;
    guest.get(1, "/?ms=60")?;
    guest.get(2, "/?ms=1")?;
    let first = guest.response().await?;
    same!((first.id, first.text().as_str()), (2, "1"));
    let second = guest.response().await?;
    same!((second.id, second.text().as_str()), (1, "60"));
    Ok(())
}

async fn request_can_be_cloned_and_passed_on() -> Result<(), Failed> {
    let code = "export default { async fetch(r) {
        const copy = r.clone();
        const changed = new Request(r, { headers: { 'x-new': '1' } });
        const other = new Request('https://b.example/', copy);
        const seen = [await changed.text(), changed.headers.get('x-new'), changed.headers.get('x-twice'),
            await other.text(), other.headers.get('x-twice'), other.method];
        try { r.headers.set('a', 'b'); } catch (error) { seen.push(error.name); }
        return Response.json(seen);
    } }";
    let mut guest = Guest::start(code).await?;
    guest.post(1, "/", b"body")?;
    let seen: Value = serde_json::from_str(&guest.response().await?.text())?;
    same!(
        seen,
        json!(["body", "1", null, "body", "a, b", "POST", "TypeError"])
    );
    Ok(())
}

async fn scheduled_handler_gets_its_controller() -> Result<(), Failed> {
    let code = "export default { async scheduled(event, env, ctx) {
        event.noRetry();
        console.log(event.cron, event.scheduledTime, event.type, env.A, typeof ctx.waitUntil);
    } }";
    let mut guest = Guest::start_with(code, json!({ "A": "a" })).await?;
    guest.send_control(
        "cron.run",
        &json!([9, "*/5 * * * *", 1_700_000_000_000_u64]),
    )?;
    match guest.next().await? {
        Said::Console(text) => {
            same!(text, "*/5 * * * * 1700000000000 scheduled a function");
        }
        other => return Err(format!("{other:?}").into()),
    }
    same!(guest.expect("cron.done").await?.json, "[9,null]");
    // It has no other handler.
    guest.get(1, "/")?;
    holds!(guest.failure().await?.2, "no fetch handler");
    Ok(())
}

async fn scheduled_handler_that_throws_is_reported() -> Result<(), Failed> {
    let code = "export default { async scheduled() { throw new RangeError('off') }, fetch() {} }";
    let mut guest = Guest::start(code).await?;
    guest.send_control("cron.run", &json!([9, "* * * * *", 1]))?;
    match guest.next().await? {
        Said::Uncaught(error) => same!(error.to_string(), "RangeError: off"),
        other => return Err(format!("{other:?}").into()),
    }
    same!(guest.expect("cron.done").await?.json, "[9,\"off\"]");
    Ok(())
}

async fn scheduled_handler_waits_for_wait_until() -> Result<(), Failed> {
    let code = "export default { scheduled(event, env, ctx) {
        ctx.waitUntil(new Promise((resolve) => setTimeout(() => { console.log('done'); resolve() }, 10)));
    } }";
    let mut guest = Guest::start(code).await?;
    guest.send_control("cron.run", &json!([9, "* * * * *", 1]))?;
    let Said::Console(_) = guest.next().await? else {
        return Err("not waited".into());
    };
    same!(guest.expect("cron.done").await?.json, "[9,null]");
    Ok(())
}
