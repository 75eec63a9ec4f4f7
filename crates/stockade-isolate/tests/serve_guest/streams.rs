//! Bodies that stream, and how far ahead they may be.

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::guest::{Content, Guest, Said};
use crate::{cases, holds, same};

cases![
    stream_sends_no_more_than_was_asked_for,
    stream_that_ends_or_fails_is_reported_once,
    stream_the_reader_cancels_is_cancelled,
    stream_chunk_that_is_no_bytes_fails_it,
    stream_of_a_gone_client_aborts_the_signal_too,
    stream_from_upstream_passes_through,
    stream_of_the_host_is_given_back_only_if_untouched,
    request_stream_read_by_the_handler_is_answered_as_it_comes,
    request_stream_that_fails_rejects_the_reader,
    request_stream_that_ended_before_it_was_read_is_not_waited_for,
    request_stream_nobody_wants_is_cancelled,
    transform_of_a_request_streams,
];

async fn stream(guest: &mut Guest, path: &str) -> Result<u64, Failed> {
    match guest.fetch(path).await?.body {
        Content::Stream(id) => Ok(id),
        other => Err(format!("{other:?}").into()),
    }
}

async fn line(guest: &mut Guest) -> Result<String, Failed> {
    match guest.next().await? {
        Said::Console(text) => Ok(text),
        other => Err(format!("{other:?}").into()),
    }
}

async fn stream_sends_no_more_than_was_asked_for() -> Result<(), Failed> {
    let code = "export default { fetch: () => {
        let n = 0;
        return new Response(new ReadableStream({
            pull(c) { n++; c.enqueue('chunk ' + n); }
        }, { highWaterMark: 0 }));
    } }";
    let mut guest = Guest::start(code).await?;
    let id = stream(&mut guest, "/").await?;
    guest.send_control("stream.pull", &json!({ "id": id }))?;
    same!(guest.chunk(id).await?, Some(b"chunk 1".to_vec()));
    guest.send_control("stream.pull", &json!({ "id": id, "n": 3 }))?;
    for n in 2..=4 {
        same!(
            guest.chunk(id).await?,
            Some(format!("chunk {n}").into_bytes())
        );
    }
    // Nothing more is on its way: the next thing said is the answer to another request.
    guest.get(8, "/")?;
    same!(guest.response().await?.id, 8);
    guest.send_control("stream.cancel", &json!({ "id": id, "reason": "enough" }))?;
    guest.send_control("stream.pull", &json!({ "id": id, "n": 3 }))?;
    guest.get(9, "/")?;
    same!(guest.response().await?.id, 9);
    Ok(())
}

async fn stream_that_ends_or_fails_is_reported_once() -> Result<(), Failed> {
    let code = "export default { fetch: (r) => new Response(new ReadableStream({
        pull(c) {
            if (r.url.endsWith('/end')) { c.enqueue(new Uint8Array([1])); c.close(); }
            else c.error(new Error('broke'));
        }
    }, { highWaterMark: 0 })) }";
    let mut guest = Guest::start(code).await?;
    let id = stream(&mut guest, "/end").await?;
    guest.send_control("stream.pull", &json!({ "id": id, "n": 8 }))?;
    same!(guest.chunk(id).await?, Some(vec![1]));
    same!(guest.chunk(id).await?, None);
    let id = stream(&mut guest, "/fail").await?;
    guest.send_control("stream.pull", &json!({ "id": id, "n": 8 }))?;
    let error: Value = serde_json::from_str(&guest.expect("stream.error").await?.json)?;
    same!(error, json!({ "id": id, "message": "broke" }));
    Ok(())
}

async fn stream_the_reader_cancels_is_cancelled() -> Result<(), Failed> {
    let code = "export default { fetch: () => new Response(new ReadableStream({
        cancel(reason) { console.log(String(reason)) }
    })) }";
    let mut guest = Guest::start(code).await?;
    let id = stream(&mut guest, "/").await?;
    guest.send_control("stream.cancel", &json!({ "id": id, "reason": "bye" }))?;
    same!(line(&mut guest).await?, "Error: bye");
    Ok(())
}

async fn stream_chunk_that_is_no_bytes_fails_it() -> Result<(), Failed> {
    let code = "export default { fetch: () => new Response(new ReadableStream({
        start(c) { c.enqueue({ a: 1 }) }, cancel() { console.log('cancelled') }
    })) }";
    let mut guest = Guest::start(code).await?;
    let id = stream(&mut guest, "/").await?;
    guest.send_control("stream.pull", &json!({ "id": id }))?;
    let mut texts = String::new();
    for _ in 0..2 {
        match guest.next().await? {
            Said::Control(name, data) => texts += &(name + &data.json),
            Said::Console(text) => texts += &text,
            other => return Err(format!("{other:?}").into()),
        }
    }
    holds!(texts, "must be text or bytes");
    holds!(texts, "cancelled");
    Ok(())
}

async fn stream_of_a_gone_client_aborts_the_signal_too() -> Result<(), Failed> {
    let code = "export default { fetch(r) {
        r.signal.onabort = () => console.log('aborted');
        return new Response(new ReadableStream({ cancel() { console.log('cancelled') } }));
    } }";
    let mut guest = Guest::start(code).await?;
    let id = stream(&mut guest, "/").await?;
    guest.send_control("http.abort", &json!([7]))?;
    same!(line(&mut guest).await?, "aborted");
    guest.send_control("stream.cancel", &json!({ "id": id, "reason": "gone" }))?;
    same!(line(&mut guest).await?, "cancelled");
    Ok(())
}

async fn stream_from_upstream_passes_through() -> Result<(), Failed> {
    let code =
        "export default { fetch: (r) => fetch('https://origin.example/', { signal: r.signal }) }";
    let mut guest = Guest::start(code).await?;
    guest.get(7, "/")?;
    let (request, asked, _) = guest.asked("fetch").await?;
    same!(asked["url"], "https://origin.example/");
    let headers = json!([
        ["content-type", "text/css"],
        ["set-cookie", "a=1"],
        ["set-cookie", "b=2"]
    ]);
    let answer = json!({ "status": 203, "statusText": "", "headers": headers, "body": "\0s5" });
    guest.answer_marked(request, &answer, Vec::new())?;
    let answer = guest.response().await?;
    same!(
        (answer.status, answer.header("content-type")),
        (203, Some("text/css"))
    );
    let cookies = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie");
    same!(cookies.count(), 2);
    same!(answer.body, Content::Returned(5));
    Ok(())
}

async fn stream_of_the_host_is_given_back_only_if_untouched() -> Result<(), Failed> {
    let code = "export default { async fetch(r) {
        const { body } = r;
        switch (new URL(r.url).pathname) {
            case '/same': return new Response(body);
            case '/init': { const first = new Response(body, { status: 201 }); return new Response(first.body, first); }
            case '/clone': return new Response(body).clone();
            case '/tee': return new Response(body.tee()[0]);
            case '/twice': { const response = new Response(body); globalThis.kept ??= response; return globalThis.kept; }
            default: body.getReader(); return new Response('own');
        }
    } }";
    let mut guest = Guest::start(code).await?;
    for (id, path, returned) in [
        (3, "/same", true),
        (4, "/init", true),
        (5, "/clone", false),
        (6, "/tee", false),
        (8, "/twice", true),
        (9, "/twice", false),
        (10, "/locked", false),
    ] {
        let url = format!("https://site.example{path}");
        let request = json!([1, "POST", url, [], format!("\0s{id}"), null]);
        guest.send_control_marked("http.request", &request, Vec::new())?;
        if id == 9 {
            holds!(guest.failure().await?.2, "has been read already");
            continue;
        }
        let mut said = guest.control().await?;
        while said.0 == "stream.pull" {
            said = guest.control().await?;
        }
        same!(said.0, "http.response");
        same!((path, said.1.json.contains("\\u0000h")), (path, returned));
    }
    Ok(())
}

async fn request_stream_read_by_the_handler_is_answered_as_it_comes() -> Result<(), Failed> {
    let code = "export default { fetch(r) {
        const reader = r.body.getReader();
        return new Response(new ReadableStream({ async pull(c) {
            const { done, value } = await reader.read();
            if (done) c.close(); else c.enqueue(value);
        } }, { highWaterMark: 0 }));
    } }";
    let mut guest = Guest::start(code).await?;
    let request = json!([1, "POST", "https://site.example/", [], "\0s3", null]);
    guest.send_control_marked("http.request", &request, Vec::new())?;
    let Content::Stream(id) = guest.response().await?.body else {
        return Err("no stream".into());
    };
    guest.send_control("stream.pull", &json!({ "id": id }))?;
    guest.expect("stream.pull").await?;
    // More than was asked for of the answer waits in the guest.
    for n in 0..8 {
        guest.send_control_marked(
            "stream.chunk",
            &json!({ "id": 3, "chunk": "\0b0" }),
            vec![vec![n]],
        )?;
    }
    same!(guest.chunk(id).await?, Some(vec![0]));
    guest.send_control("stream.pull", &json!({ "id": id, "n": 7 }))?;
    for n in 1..8 {
        same!(guest.chunk(id).await?, Some(vec![n]));
    }
    Ok(())
}

async fn request_stream_that_fails_rejects_the_reader() -> Result<(), Failed> {
    let code = "export default { async fetch(r) { await r.text(); return new Response('') } }";
    let mut guest = Guest::start(code).await?;
    let request = json!([1, "POST", "https://site.example/", [], "\0s3", null]);
    guest.send_control_marked("http.request", &request, Vec::new())?;
    guest.expect("stream.pull").await?;
    guest.send_control(
        "stream.error",
        &json!({ "id": 3, "message": "the client is gone" }),
    )?;
    holds!(guest.failure().await?.2, "the client is gone");
    Ok(())
}

async fn request_stream_that_ended_before_it_was_read_is_not_waited_for() -> Result<(), Failed> {
    let code = "export default { async fetch(r) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        return new Response(await r.text());
    } }";
    let mut guest = Guest::start(code).await?;
    for _ in 0..2 {
        let request = json!([1, "POST", "https://site.example/", [], "\0s3", null]);
        guest.send_control_marked("http.request", &request, Vec::new())?;
        guest.send_control("stream.error", &json!({ "id": 3, "message": "too slow" }))?;
        holds!(guest.failure().await?.2, "too slow");
        guest.send_control_marked("http.request", &request, Vec::new())?;
        guest.send_control("stream.end", &json!({ "id": 3 }))?;
        same!(guest.response().await?.text(), "");
    }
    Ok(())
}

async fn request_stream_nobody_wants_is_cancelled() -> Result<(), Failed> {
    let code =
        "export default { async fetch(r) { await r.body.cancel('no'); return new Response('') } }";
    let mut guest = Guest::start(code).await?;
    let request = json!([1, "POST", "https://site.example/", [], "\0s3", null]);
    guest.send_control_marked("http.request", &request, Vec::new())?;
    let cancel: Value = serde_json::from_str(&guest.expect("stream.cancel").await?.json)?;
    same!(cancel, json!({ "id": 3, "reason": "no" }));
    guest.response().await?;
    Ok(())
}

async fn transform_of_a_request_streams() -> Result<(), Failed> {
    let code = "export default { fetch: (r) => new Response(r.body
        .pipeThrough(new TextDecoderStream())
        .pipeThrough(new TransformStream({ transform: (t, c) => c.enqueue(t.toUpperCase()) }))
        .pipeThrough(new TextEncoderStream())) }";
    let mut guest = Guest::start(code).await?;
    let request = json!([1, "POST", "https://site.example/", [], "\0s3", null]);
    guest.send_control_marked("http.request", &request, Vec::new())?;
    // The pipes read ahead: the request to the host and the answer come in either order.
    let mut stream = None;
    for _ in 0..2 {
        let (name, data) = guest.control().await?;
        if name == "http.response" {
            let parts: Value = serde_json::from_str(&data.json)?;
            stream = parts[3]
                .as_str()
                .and_then(|mark| mark[2..].parse::<u64>().ok());
        }
    }
    let id = stream.ok_or("no stream")?;
    guest.send_control_marked(
        "stream.chunk",
        &json!({ "id": 3, "chunk": "\0b0" }),
        vec![b"abc".to_vec()],
    )?;
    guest.send_control("stream.end", &json!({ "id": 3 }))?;
    guest.send_control("stream.pull", &json!({ "id": id, "n": 8 }))?;
    same!(guest.chunk(id).await?, Some(b"ABC".to_vec()));
    same!(guest.chunk(id).await?, None);
    Ok(())
}
