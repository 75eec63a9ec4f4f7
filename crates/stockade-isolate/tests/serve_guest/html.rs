//! `HTMLRewriter`: what handlers see and change, and what hostile ones do.

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::guest::{Content, Guest};
use crate::{cases, holds, same};

cases![
    handlers_change_what_the_parser_finds,
    handlers_that_wait_hold_back_what_follows,
    handler_that_throws_fails_the_body,
    handler_that_never_ends_holds_only_its_own_document,
    isolate_that_ends_while_a_handler_waits_ends,
    tokens_are_of_no_use_after_their_handlers,
    documents_and_selectors_are_bounded,
    million_elements_within_elements_fail_the_body,
    stream_that_nobody_reads_is_not_read_ahead,
    classes_cannot_be_made_or_called_by_a_guest,
];

/// Answers with what `work` gives for `html(rewriter, text)`, which rewrites a text.
fn site(work: &str) -> String {
    format!(
        "const html = (rewriter, text) => rewriter.transform(new Response(text)).text();
        export default {{ async fetch(request) {{
            try {{ return Response.json(await (async () => {{ {work} }})() ?? null) }}
            catch (error) {{ return Response.json(`${{error?.name}}: ${{error?.message}}`) }}
        }} }}"
    )
}

async fn value_of(work: &str) -> Result<Value, Failed> {
    let mut guest = Guest::start(&site(work)).await?;
    Ok(serde_json::from_str(&guest.fetch("/").await?.text())?)
}

async fn handlers_change_what_the_parser_finds() -> Result<(), Failed> {
    let work = r#"
        const seen = [];
        class Links {
            constructor(attribute) { this.attribute = attribute }
            element(e) {
                const value = e.getAttribute(this.attribute);
                if (value) e.setAttribute(this.attribute, value.replace("http:", "https:"));
                seen.push([e.tagName, [...e.attributes], e.namespaceURI, e.removed, e.hasAttribute("HREF")]);
            }
        }
        const rewriter = new HTMLRewriter()
            .on("a[href]", new Links("href"))
            .on("p", {
                element(e) {
                    e.before("<hr>", { html: true }).after("<", { html: false }).prepend("[").append("]");
                    e.onEndTag((tag) => { seen.push(tag.name); tag.before("!") });
                    e.tagName = "div";
                    e.onEndTag((tag) => seen.push(tag.name));
                },
                comments(c) { c.text = c.text.toUpperCase() },
                text(t) { seen.push([t.text, t.lastInTextNode]); if (t.text === "x") t.replace("<i>x</i>", { html: true }) },
            })
            .on("b", { element: (e) => { e.removeAndKeepContent(); seen.push(e.removed) } })
            .on("i", { element: (e) => e.remove() })
            .on("u", { element: (e) => e.setInnerContent("<&>") })
            .onDocument({
                doctype: (d) => { seen.push([d.name, d.publicId, d.systemId]) },
                end: (end) => end.append("<!-- end -->", { html: true }),
            });
        const response = new Response(
            "<!DOCTYPE html><a HREF='http://x/' id=1>l</a><p>x<!--c--><b>bold</b><i>gone</i></p><u>in</u><br>",
            { status: 201, headers: { "content-type": "text/html", "content-length": "9", "x-kept": "1" } },
        );
        const done = rewriter.transform(response);
        return [await done.text(), done.status, [...done.headers], response.bodyUsed, seen];"#;
    let expected = json!([
        "<!DOCTYPE html><a HREF=\"https://x/\" id=1>l</a><hr><div>[<i>x</i><!--C-->bold]!</div>&lt;<u>&lt;&amp;&gt;</u><br>\
         <!-- end -->",
        201,
        [["content-type", "text/html"], ["x-kept", "1"]],
        true,
        [
            ["html", null, null],
            [
                "a",
                [["href", "https://x/"], ["id", "1"]],
                "http://www.w3.org/1999/xhtml",
                false,
                true
            ],
            ["x", false],
            ["", true],
            true,
            ["bold", false],
            ["", true],
            ["gone", false],
            ["", true],
            "div",
            "div"
        ]
    ]);
    let value = value_of(work).await?;
    same!(value, expected);
    // Content that is read keeps its place among the changes of its handler.
    let work = r#"
        const stream = () => new Response("<2>").body;
        return html(new HTMLRewriter().on("p", { element(e) {
            e.append("1").append(stream()).append("3").append(new Response("4"), { html: true }).append(new Response(null));
            e.tagName = "q";
            e.onEndTag((tag) => { tag.before(stream(), { html: true }).before("5") });
        } }), "<p></p>")"#;
    same!(value_of(work).await?, json!("<q>1&lt;2&gt;34<2>5</q>"));
    // A body that is none is not rewritten.
    let work = "const r = new Response(null, { status: 204 }); return new HTMLRewriter().transform(r) === r";
    same!(value_of(work).await?, json!(true));
    Ok(())
}

async fn handlers_that_wait_hold_back_what_follows() -> Result<(), Failed> {
    let work = r#"
        const order = [];
        const rewriter = new HTMLRewriter().on("img", {
            async element(e) {
                order.push("begin " + e.getAttribute("id"));
                const response = await fetch("https://images.example/" + e.getAttribute("id"));
                e.setAttribute("alt", await response.text());
                order.push("end " + e.getAttribute("id"));
                e.removeAttribute("ID");
            },
            text() {},
        });
        return [await html(rewriter, "<img id=1><p><img id=2>"), order];"#;
    let mut guest = Guest::start(&site(work)).await?;
    guest.get(7, "/")?;
    for id in ["1", "2"] {
        let (request, data, _) = guest.asked("fetch").await?;
        same!(data["url"], format!("https://images.example/{id}"));
        let answer = json!({ "status": 200, "headers": [], "body": "\0b0" });
        guest.answer_marked(request, &answer, vec![format!("image {id}").into_bytes()])?;
    }
    let value: Value = serde_json::from_str(&guest.response().await?.text())?;
    same!(value[0], "<img alt=\"image 1\"><p><img alt=\"image 2\">");
    same!(value[1], json!(["begin 1", "end 1", "begin 2", "end 2"]));
    Ok(())
}

async fn handler_that_throws_fails_the_body() -> Result<(), Failed> {
    let work = r#"
        const tried = [];
        const handlers = [
            { element() { throw new RangeError("at once") } },
            { async element() { await null; throw new RangeError("later") } },
            { element: (e) => e.onEndTag(() => { throw new RangeError("at the end") }) },
            { element: (e) => { e.tagName = "a b" } },
            { element: (e) => e.setAttribute("=", "") },
            { comments: (c) => { c.text = "-->" } },
            { element: (e) => e.append(new Response(new Uint8Array([255]))) },
            { element: (e) => e.append({ toString() { throw new RangeError("of a conversion") } }) },
        ];
        for (const each of handlers) {
            let cancelled;
            const source = new ReadableStream({
                start(c) { c.enqueue(new TextEncoder().encode("<p>x<!-- --></p>")) },
                cancel(reason) { cancelled = reason },
            });
            const rewriter = new HTMLRewriter().on("p", each);
            const error = await rewriter.transform(new Response(source)).text().catch((e) => e);
            tried.push([error.message, cancelled === error]);
        }
        // What the guest catches is as if it had not been.
        tried.push(await html(new HTMLRewriter().on("p", {
            element(e) { try { e.tagName = "" } catch (error) { e.tagName = "q" } },
        }), "<p></p>"));
        return tried;"#;
    let value = value_of(work).await?;
    let messages = [
        "at once",
        "later",
        "at the end",
        "Parser error: ` ` character is forbidden in the tag name",
        "Parser error: `=` character is forbidden in the attribute name",
        "Parser error: Comment text shouldn't contain a comment-closing sequence",
        "Parser error: Invalid UTF-8",
        "of a conversion",
    ];
    for (at, message) in messages.iter().enumerate() {
        holds!(value[at][0].as_str().unwrap_or_default(), message);
        same!(value[at][1], true);
    }
    same!(value[messages.len()], "<q></q>");
    Ok(())
}

async fn handler_that_never_ends_holds_only_its_own_document() -> Result<(), Failed> {
    let code = "
        export default { async fetch({ url }) {
            const stuck = new HTMLRewriter().on('p', { element: () => new Promise(() => {}) });
            if (url.endsWith('/stuck')) return stuck.transform(new Response('<b>1</b><p>2'));
            for (let i = 0; i < 100; i++) stuck.transform(new Response('<p>'));
            const other = new HTMLRewriter().on('p', { element: (e) => e.prepend('2') });
            return other.transform(new Response('<p>'));
        } }";
    let mut guest = Guest::start(code).await?;
    guest.get(1, "/stuck")?;
    let stuck = guest.response().await?;
    same!(stuck.id, 1);
    guest.get(2, "/")?;
    loop {
        match guest.control().await? {
            (name, data) if name == "http.response" => {
                holds!(data.json, "[2,200");
                break;
            }
            // What it says of its streams.
            _ => {}
        }
    }
    Ok(())
}

async fn isolate_that_ends_while_a_handler_waits_ends() -> Result<(), Failed> {
    let code = "
        export default { async fetch() {
            const stuck = new HTMLRewriter().on('p', { async element(e) { await fetch('https://a.example/'); e.remove() } });
            return new Response(await stuck.transform(new Response('<p>'.repeat(1000))).text());
        } }";
    let mut guest = Guest::start(code).await?;
    guest.get(1, "/")?;
    guest.asked("fetch").await?;
    guest.handle.destroy();
    match guest.next().await {
        Err(failed) if format!("{failed:?}").contains("it ended") => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

async fn tokens_are_of_no_use_after_their_handlers() -> Result<(), Failed> {
    let work = r#"
        const kept = [];
        const keep = (token) => { kept.push(token) };
        const rewriter = new HTMLRewriter()
            .on("p", { element(e) { keep(e); kept.iterator = e.attributes; e.onEndTag(keep) }, text: keep, comments: keep })
            .on("p", { element(e) { kept.again = e; e.own = kept[0].own; kept[0].own = 1 } })
            .onDocument({ doctype: keep, end: keep });
        await html(rewriter, "<!DOCTYPE html><p a=1>x<!-- --></p>");
        const uses = [(t) => t.name, (t) => t.tagName, (t) => t.text, (t) => (t.remove ?? t.append)?.call(t, "")];
        const thrown = new Set();
        let useless = 0;
        for (const token of kept) {
            for (const use of uses) {
                try { use(token) } catch (error) { thrown.add(error.message); useless++ }
            }
        }
        try { kept.iterator.next() } catch (error) { thrown.add(error.message); useless++ }
        return [kept.length, useless > kept.length, [...thrown], kept.again === kept[1], kept.again.own];"#;
    let value = value_of(work).await?;
    same!(value[0], 7);
    same!(value[1], true);
    let valid = value[2].as_array().map(Vec::len);
    same!(valid, Some(1));
    holds!(value[2][0].as_str().unwrap_or_default(), "no longer valid");
    same!(value[3], false);
    same!(value[4], Value::Null);
    Ok(())
}

async fn documents_and_selectors_are_bounded() -> Result<(), Failed> {
    let work = r#"
        const attempts = {
            length: () => new HTMLRewriter().on("a".repeat(10_000), {}),
            depth: () => new HTMLRewriter().on("a:not(".repeat(1000) + "b" + ")".repeat(1000), {}),
            number: () => { const r = new HTMLRewriter(); for (let i = 0; i < 2000; i++) r.on("a", {}) },
            total: () => {
                const r = new HTMLRewriter();
                for (let i = 0; i < 100; i++) r.on("a".repeat(2000), {});
                r.transform(new Response("x"));
            },
            syntax: () => new HTMLRewriter().on("a >", {}),
            support: () => new HTMLRewriter().on("a + b", {}),
            handlers: () => new HTMLRewriter().on("a", null),
            method: () => new HTMLRewriter().on("a", { element: 5 }),
            charset: () => new HTMLRewriter().transform(
                new Response("x", { headers: { "content-type": "text/html; charset=invalid" } })),
            used: async () => {
                const response = new Response("x");
                await response.text();
                new HTMLRewriter().transform(response);
            },
            text: () => new HTMLRewriter().transform(
                new Response(new ReadableStream({ start(c) { c.enqueue("text"); c.close() } }))).text(),
            nothing: () => html(new HTMLRewriter(), "x"),
        };
        const seen = {};
        for (const name in attempts) {
            try { seen[name] = await attempts[name]() } catch (error) { seen[name] = `${error.name}: ${error.message}` }
        }
        return seen;"#;
    let value = value_of(work).await?;
    for (name, part) in [
        (
            "length",
            "TypeError: Parser error: the length of a selector, 10000 bytes, is above the limit",
        ),
        ("depth", "is above the limit"),
        ("number", "at most 1000 handlers"),
        ("total", "the length of all selectors"),
        ("syntax", "TypeError: Parser error: "),
        ("support", "combinator"),
        ("handlers", "handlers must be an object"),
        ("method", "'element' of the handlers must be a function"),
        (
            "charset",
            "TypeError: Parser error: Unknown character encoding has been provided.",
        ),
        ("used", "TypeError"),
        ("text", "TypeError"),
        ("nothing", "x"),
    ] {
        holds!(value[name].as_str().unwrap_or_default(), part);
    }
    Ok(())
}

async fn million_elements_within_elements_fail_the_body() -> Result<(), Failed> {
    let work = r#"
        const rewriter = (selector) => new HTMLRewriter().on(selector, { element() {} });
        const nested = (n) => rewriter("a a").transform(new Response("<a>".repeat(n))).text().then((t) => t.length, String);
        // The control: as many that are not within each other.
        const flat = await html(rewriter("a a"), "<a></a>".repeat(100_000));
        return [await nested(1_000), flat.length, await nested(1_000_000)];"#;
    let value = value_of(work).await?;
    same!(value[0], 3000);
    same!(value[1], 700_000);
    holds!(
        value[2].as_str().unwrap_or_default(),
        "TypeError: Parser error: The memory limit has been exceeded"
    );
    Ok(())
}

async fn stream_that_nobody_reads_is_not_read_ahead() -> Result<(), Failed> {
    let work = r#"
        let pulled = 0, reason;
        const source = new ReadableStream({
            pull(c) { pulled++; c.enqueue(new Uint8Array(8192).fill(120)) },
            cancel(why) { reason = why },
        }, { highWaterMark: 0 });
        const { body } = new HTMLRewriter().on("*", { element() {} }).transform(new Response(source));
        await scheduler.wait(50);
        const before = pulled;
        const reader = body.getReader({ mode: "byob" });
        const { value } = await reader.read(new Uint8Array(10));
        await reader.cancel("enough");
        return [before <= 4, value.length, reason];"#;
    same!(value_of(work).await?, json!([true, 10, "enough"]));
    Ok(())
}

async fn classes_cannot_be_made_or_called_by_a_guest() -> Result<(), Failed> {
    let work = r#"
        let Element, prototype;
        await html(new HTMLRewriter().on("p", { element(e) { Element = e.constructor; prototype = Object.getPrototypeOf(e) } }), "<p>");
        const attempts = [
            () => new Element(),
            () => new Element(Symbol("ours"), { live: true, id: 1 }),
            () => prototype.remove.call({}),
            () => prototype.getAttribute.call(Object.create(prototype), "a"),
            () => HTMLRewriter(),
            () => HTMLRewriter.prototype.on.call({}, "a", {}),
            () => HTMLRewriter.prototype.transform.call(new HTMLRewriter(), {}),
        ];
        return attempts.map((attempt) => { try { attempt(); return "made" } catch (error) { return error.name } });"#;
    let value = value_of(work).await?;
    same!(
        value,
        json!([
            "TypeError",
            "TypeError",
            "TypeError",
            "TypeError",
            "TypeError",
            "TypeError",
            "TypeError"
        ])
    );
    // A prototype that the guest has changed sees nothing of the runtime's.
    let code = "
        const broken = () => { throw new Error('replaced') };
        Array.prototype.push = broken; Map.prototype.get = broken; Map.prototype.set = broken; Map.prototype.delete = broken;
        String.prototype.toLowerCase = broken; Function.prototype.call = broken; Reflect.apply = broken;
        ReadableStream.prototype.getReader = broken; Headers.prototype.get = broken;
        export default { fetch: () => new HTMLRewriter().on('p', { element: (e) => { e.setAttribute('A', '1') } })
            .transform(new Response('<p>')) }";
    let mut guest = Guest::start(code).await?;
    let answer = guest.fetch("/").await?;
    let text = match answer.body {
        Content::Stream(stream) => {
            guest.send_control("stream.pull", &json!({ "id": stream }))?;
            let chunk = guest.chunk(stream).await?.unwrap_or_default();
            String::from_utf8_lossy(&chunk).into_owned()
        }
        _ => answer.text(),
    };
    same!(text, "<p a=\"1\">");
    Ok(())
}
