//! What the host gets of a handler's answer.

use libtest_mimic::Failed;
use serde_json::json;

use crate::guest::{Content, Guest};
use crate::{cases, holds, same};

cases![
    text_bytes_json_and_nothing_are_one_message,
    headers_keep_their_order_and_several_cookies,
    body_from_blob_form_and_params_has_its_type,
    null_body_statuses_have_no_body,
    redirect_has_location_and_no_body,
    response_made_of_another_keeps_its_body,
    large_body_goes_as_a_stream_with_its_length,
    subclass_of_response_is_a_response,
    thenable_is_awaited,
    answer_that_is_no_response_teaches,
    answer_whose_body_is_used_or_locked_fails,
    handler_that_throws_reports_error_and_place,
    handler_that_throws_no_error_is_reported,
    rejection_nobody_handles_ends_nothing,
];

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    list.iter().map(owned).collect()
}

async fn text_bytes_json_and_nothing_are_one_message() -> Result<(), Failed> {
    let code = "export default { fetch(r) {
        switch (new URL(r.url).pathname) {
            case '/text': return new Response('héllo 🌍');
            case '/latin': return new Response('h\\xe9');
            case '/empty': return new Response('');
            case '/bytes': return new Response(new Uint8Array([0, 255, 7]));
            case '/buffer': return new Response(new Uint8Array([1, 2]).buffer);
            case '/json': return Response.json({ a: 'b' });
            case '/status': return new Response('made', { status: 201 });
            case '/html': return new Response('<p>', { headers: { 'Content-Type': 'text/html' } });
            default: return new Response();
        } } }";
    let mut guest = Guest::start(code).await?;
    let text = [("Content-Type", "text/plain;charset=UTF-8")];
    type Expected<'a> = (&'a str, u64, &'a [(&'a str, &'a str)], Content);
    let cases: &[Expected<'_>] = &[
        ("/text", 200, &text, Content::Bytes("héllo 🌍".into())),
        ("/latin", 200, &text, Content::Bytes("hé".into())),
        ("/empty", 200, &text, Content::Bytes(Vec::new())),
        ("/bytes", 200, &[], Content::Bytes(vec![0, 255, 7])),
        ("/buffer", 200, &[], Content::Bytes(vec![1, 2])),
        (
            "/json",
            200,
            &[("Content-Type", "application/json")],
            Content::Bytes(b"{\"a\":\"b\"}".into()),
        ),
        ("/status", 201, &text, Content::Bytes(b"made".into())),
        (
            "/html",
            200,
            &[("Content-Type", "text/html")],
            Content::Bytes(b"<p>".into()),
        ),
        ("/", 200, &[], Content::None),
    ];
    for (path, status, headers, body) in cases {
        let answer = guest.fetch(path).await?;
        same!((*path, answer.status), (*path, *status));
        same!(answer.headers, pairs(headers));
        same!(answer.body, *body);
        same!((answer.socket, answer.pending), (None, false));
    }
    Ok(())
}

async fn headers_keep_their_order_and_several_cookies() -> Result<(), Failed> {
    let code = "export default { fetch() {
        const response = new Response('x', { headers: [['X-B', '1'], ['set-cookie', 'a=1; Path=/'], ['X-A', '2']] });
        response.headers.append('Set-Cookie', 'b=2');
        response.headers.append('x-b', '3');
        return response;
    } }";
    let mut guest = Guest::start(code).await?;
    let answer = guest.fetch("/").await?;
    same!(
        answer.headers,
        pairs(&[
            ("X-B", "1"),
            ("set-cookie", "a=1; Path=/"),
            ("X-A", "2"),
            ("Content-Type", "text/plain;charset=UTF-8"),
            ("set-cookie", "b=2"),
            ("X-B", "3"),
        ])
    );
    same!(answer.text(), "x");
    Ok(())
}

async fn body_from_blob_form_and_params_has_its_type() -> Result<(), Failed> {
    let code = "export default { fetch(r) {
        switch (new URL(r.url).pathname) {
            case '/blob': return new Response(new Blob(['abc'], { type: 'text/css' }));
            case '/form': { const form = new FormData(); form.set('a', 'b'); return new Response(form); }
            default: return new Response(new URLSearchParams({ a: 'b c' }));
        } } }";
    let mut guest = Guest::start(code).await?;
    let blob = guest.fetch("/blob").await?;
    same!(blob.header("content-type"), Some("text/css"));
    same!(blob.header("content-length"), Some("3"));
    let form = guest.fetch("/form").await?;
    holds!(
        form.header("content-type").unwrap_or_default(),
        "multipart/form-data; boundary="
    );
    let params = guest.fetch("/").await?;
    same!(params.text(), "a=b+c");
    holds!(
        params.header("content-type").unwrap_or_default(),
        "x-www-form-urlencoded"
    );
    Ok(())
}

async fn null_body_statuses_have_no_body() -> Result<(), Failed> {
    let code = "export default { fetch: (r) =>
        new Response(null, { status: Number(new URL(r.url).pathname.slice(1)) }) }";
    let mut guest = Guest::start(code).await?;
    for status in [204, 205, 304] {
        let answer = guest.fetch(&format!("/{status}")).await?;
        same!((answer.status, answer.body), (status, Content::None));
    }
    Ok(())
}

async fn redirect_has_location_and_no_body() -> Result<(), Failed> {
    let code = "export default { fetch: (r) => Response.redirect(new URL('/new', r.url), 303) }";
    let mut guest = Guest::start(code).await?;
    let answer = guest.fetch("/old").await?;
    same!((answer.status, &answer.body), (303, &Content::None));
    same!(answer.header("location"), Some("https://site.example/new"));
    Ok(())
}

async fn response_made_of_another_keeps_its_body() -> Result<(), Failed> {
    let code = "export default { fetch() {
        const first = new Response('body', { status: 202, headers: { 'x-a': '1' } });
        const second = new Response(first.body, first);
        second.headers.set('x-b', '2');
        return second.clone();
    } }";
    let mut guest = Guest::start(code).await?;
    let answer = guest.fetch("/").await?;
    same!(
        (answer.status, answer.header("x-a"), answer.header("x-b")),
        (202, Some("1"), Some("2"))
    );
    Ok(())
}

async fn large_body_goes_as_a_stream_with_its_length() -> Result<(), Failed> {
    let code = "export default { fetch(r) {
        if (new URL(r.url).pathname === '/text') return new Response('é'.repeat(1_200_000));
        return new Response(new Uint8Array(2_000_000).fill(7));
    } }";
    let mut guest = Guest::start(code).await?;
    for (path, length) in [("/text", 2_400_000), ("/bytes", 2_000_000)] {
        let answer = guest.fetch(path).await?;
        same!(
            answer.header("content-length"),
            Some(length.to_string().as_str())
        );
        let Content::Stream(id) = answer.body else {
            return Err(format!("{path}: {:?}", answer.status).into());
        };
        let mut total = 0;
        guest.send_control("stream.pull", &json!({ "id": id, "n": 4 }))?;
        while let Some(chunk) = guest.chunk(id).await? {
            if chunk.len() > 128 << 10 {
                return Err(format!("a chunk of {} bytes", chunk.len()).into());
            }
            total += chunk.len();
            guest.send_control("stream.pull", &json!({ "id": id }))?;
        }
        same!(total, length);
    }
    Ok(())
}

async fn subclass_of_response_is_a_response() -> Result<(), Failed> {
    let code = "class Html extends Response {
            constructor(text) { super(text, { headers: { 'content-type': 'text/html' } }) }
        }
        export default { fetch() {
            const html = new Html('<b>');
            if (!(html instanceof Html) || !(html instanceof Response)) throw new Error('not one');
            return html;
        } }";
    let mut guest = Guest::start(code).await?;
    let answer = guest.fetch("/").await?;
    same!(
        (answer.text().as_str(), answer.header("content-type")),
        ("<b>", Some("text/html"))
    );
    Ok(())
}

async fn thenable_is_awaited() -> Result<(), Failed> {
    let code = "export default { fetch: () => ({ then(done) { done(new Response('later')) } }) }";
    let mut guest = Guest::start(code).await?;
    same!(guest.fetch("/").await?.text(), "later");
    Ok(())
}

async fn answer_that_is_no_response_teaches() -> Result<(), Failed> {
    let code = "const answers = { undefined, null: null, text: 'x', object: { a: 1 }, error: Response.error(),
            fake: Object.create(Response.prototype), call: () => new Response() };
        export default { fetch: async (r) => answers[new URL(r.url).pathname.slice(1)] }";
    let mut guest = Guest::start(code).await?;
    for (path, part) in [
        ("/undefined", "not undefined (is a `return` missing?)"),
        ("/null", "not null"),
        ("/text", "not a string: wrap it, new Response"),
        ("/object", "not an object: wrap it, Response.json"),
        ("/error", "Response.error()"),
        ("/fake", "only looks like a Response"),
        ("/call", "not a function"),
    ] {
        guest.get(7, path)?;
        let (id, name, message, _) = guest.failure().await?;
        same!((path, id, name.as_str()), (path, 7, "TypeError"));
        holds!(message, part);
    }
    Ok(())
}

async fn answer_whose_body_is_used_or_locked_fails() -> Result<(), Failed> {
    let code = "export default { async fetch(r) {
        const path = new URL(r.url).pathname;
        if (path === '/twice') return globalThis.kept ??= new Response('once');
        const response = new Response(new ReadableStream({ start(c) { c.enqueue(new Uint8Array([1])); c.close() } }));
        if (path === '/locked') response.body.getReader();
        else await response.text();
        return response;
    } }";
    let mut guest = Guest::start(code).await?;
    guest.get(1, "/used")?;
    holds!(guest.failure().await?.2, "has been read already");
    guest.get(1, "/locked")?;
    holds!(guest.failure().await?.2, "locked");
    same!(guest.fetch("/twice").await?.text(), "once");
    guest.get(1, "/twice")?;
    holds!(guest.failure().await?.2, "has been read already");
    Ok(())
}

async fn handler_that_throws_reports_error_and_place() -> Result<(), Failed> {
    let code = "interface X {}\nexport default {\n  fetch(r: Request) {\n    if (r.url.endsWith('/later')) return this.later();\n    throw new RangeError('now');\n  },\n  async later() {\n    await null;\n    throw new SyntaxError('later');\n  },\n};";
    let mut guest = Guest::start(code).await?;
    guest.get(1, "/")?;
    let (_, name, message, stack) = guest.failure().await?;
    same!((name.as_str(), message.as_str()), ("RangeError", "now"));
    holds!(stack, "main.ts:5:11");
    guest.get(2, "/later")?;
    let (id, name, message, stack) = guest.failure().await?;
    same!(
        (id, name.as_str(), message.as_str()),
        (2, "SyntaxError", "later")
    );
    holds!(stack, "main.ts:9:11");
    Ok(())
}

async fn handler_that_throws_no_error_is_reported() -> Result<(), Failed> {
    let code = "export default { fetch(r) {
        if (r.url.endsWith('/text')) throw 'just text';
        if (r.url.endsWith('/getter')) throw { get message() { throw 1 }, toString() { throw 2 } };
        throw undefined;
    } }";
    let mut guest = Guest::start(code).await?;
    guest.get(1, "/text")?;
    holds!(guest.failure().await?.2, "just text");
    guest.get(1, "/getter")?;
    guest.failure().await?;
    guest.get(1, "/")?;
    holds!(guest.failure().await?.2, "undefined");
    Ok(())
}

async fn rejection_nobody_handles_ends_nothing() -> Result<(), Failed> {
    let code = "export default { fetch(r) {
        Promise.reject(new Error('lost'));
        return new Response('fine');
    } }";
    let mut guest = Guest::start(code).await?;
    for _ in 0..2 {
        guest.get(1, "/")?;
        let (mut answered, mut uncaught) = (false, false);
        while !answered || !uncaught {
            match guest.next().await? {
                crate::guest::Said::Control(name, _) => answered = name == "http.response",
                crate::guest::Said::Uncaught(error) => uncaught = error.message == "lost",
                other => return Err(format!("{other:?}").into()),
            }
        }
    }
    Ok(())
}
