//! What a site's `fetch` takes of its host, and that it gives it back, whatever the site does with a response.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::client::run;
use crate::server::{PLAIN, Server};

/// Runs the code that it is sent, and answers with its value.
const EVALUATES: &str = "
  export default {
    async fetch(request, env) {
      const code = await request.clone().text();
      const run = new Function('env', 'request', `return (async () => { ${code} })()`);
      try { return Response.json({ value: (await run(env, request)) ?? null }); }
      catch (error) {
        return Response.json({
          name: error?.name, message: error?.message, type: error instanceof TypeError, stack: error?.stack,
        });
      }
    },
  };";

/// Answers each path in its own way.
struct Upstream {
    address: SocketAddr,
    /// Paths of responses that were broken off by the client.
    closed: mpsc::Receiver<String>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, closed) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sender = sender.clone();
                std::thread::spawn(move || serve(&stream, &sender));
            }
        });
        Self { address, closed }
    }
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// One connection. What cannot be written or read any more was closed by the client.
fn serve(stream: &TcpStream, closed: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        loop {
            let before = head.len();
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
            if head[before..].trim().is_empty() {
                break;
            }
        }
        let path = head.split(' ').nth(1).unwrap_or("").to_owned();
        let mut writer = stream;
        let whole = |status: &str, text: &str| {
            format!(
                "HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
                chunk(text)
            )
        };
        let answer = match path.as_str() {
            "/to" => whole("302 Found\r\nlocation: /small", "moved"),
            "/mail" => whole("302 Found\r\nlocation: mailto:a@b.example", "moved"),
            "/head" => whole("200 OK", &head),
            "/drips" | "/large" => {
                let begun = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
                let _ = writer.write_all((begun + &chunk("first")).as_bytes());
                if path == "/large" {
                    let piece = chunk(&"x".repeat(10_000));
                    while writer.write_all(piece.as_bytes()).is_ok() {}
                } else {
                    let _ = reader.read(&mut [0]);
                }
                let _ = closed.send(path);
                return;
            }
            _ => whole("200 OK", "small"),
        };
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn server(upstream: SocketAddr) -> Server {
    let port = upstream.port();
    let config = format!(
        "{PLAIN}instances:
  site:
    code: ./main.js
    urls: [site.example]
    bindings: {{other: other}}
    env: {{ORIGIN: \"http://{upstream}\"}}
    data_guard:
      rules: [{{name: mine, addresses: [127.0.0.1/32], ports: [{port}], schemes: [http]}}]
      allow_private: [127.0.0.1/32]
      concurrent: 20
  other:
    code: ./other.js
    limits: {{concurrency: 20}}
"
    );
    let other = "
      const endless = () => new ReadableStream({ pull: (c) => c.enqueue(new Uint8Array(50_000)) });
      export default { fetch(request) {
        const { pathname } = new URL(request.url);
        if (pathname === '/to') return new Response(endless(), { status: 302, headers: { location: '/small' } });
        if (pathname === '/endless') return new Response(endless());
        return new Response(new Blob(['small']).stream());
      } };";
    Server::start(&config, &[("main.js", EVALUATES), ("other.js", other)])
}

async fn evaluate(server: &Server, code: &str) -> Value {
    let answer = server.post("site.example", "/", code.to_owned()).await;
    assert_eq!(
        answer.status,
        200,
        "{}\n{}",
        answer.text(),
        server.log_text()
    );
    let answer = answer.json();
    answer.get("value").unwrap_or(&answer).clone()
}

/// More than the places there are, several times over.
const MANY: usize = 70;

#[test]
fn response_that_is_not_read_gives_its_place_back() {
    let upstream = Upstream::start();
    let server = server(upstream.address);
    run(async {
        for (name, one) in [
            (
                "followed",
                "done += (await (await fetch(env.ORIGIN + '/to')).text()).length",
            ),
            (
                "error",
                "await fetch(env.ORIGIN + '/to', { redirect: 'error' }).catch(() => done += 5)",
            ),
            (
                "location",
                "await fetch(env.ORIGIN + '/mail').catch(() => done += 5)",
            ),
            (
                "integrity",
                "await fetch(env.ORIGIN + '/small', { integrity: 'sha256-AAAA' }).catch(() => done += 5)",
            ),
            (
                "small and dropped",
                "done += (await fetch(env.ORIGIN + '/small')).ok ? 5 : 0",
            ),
            (
                "small and kept",
                "(globalThis.kept ??= []).push(await fetch(env.ORIGIN + '/small')); done += 5",
            ),
            (
                "large and dropped",
                "done += (await fetch(env.ORIGIN + '/large')).ok ? 5 : 0",
            ),
            (
                "large and cancelled",
                "await (await fetch(env.ORIGIN + '/large')).body.cancel(); done += 5",
            ),
            (
                "bound and followed",
                "done += (await (await env.other.fetch('http://o/to')).text()).length",
            ),
            (
                "bound and dropped",
                "done += (await env.other.fetch('http://o/endless')).ok ? 5 : 0",
            ),
            (
                "bound and small",
                "(globalThis.kept ??= []).push(await env.other.fetch('http://o/small')); done += 5",
            ),
        ] {
            let code =
                format!("let done = 0; for (let i = 0; i < {MANY}; i++) {{ {one} }} return done");
            let done = evaluate(&server, &code).await;
            assert_eq!(done, MANY * 5, "{name}: {done}\n{}", server.log_text());
        }
        // What was kept can still be read.
        let code =
            "const texts = await Promise.all(kept.map((one) => one.text())); kept = undefined;
            return [texts.length, new Set(texts).size, texts[0]]";
        assert_eq!(evaluate(&server, code).await, json!([2 * MANY, 1, "small"]));
    });
}

#[test]
fn abort_after_the_head_fails_the_body_and_closes_the_upstream() {
    let upstream = Upstream::start();
    let server = server(upstream.address);
    run(async {
        for (how, name) in [
            ("AbortSignal.timeout(1000)", "TimeoutError"),
            ("stop.signal", "AbortError"),
            ("AbortSignal.any([stop.signal])", "AbortError"),
        ] {
            let code = format!(
                "const stop = new AbortController();
                 const response = await fetch(env.ORIGIN + '/drips', {{ signal: {how} }});
                 const reader = response.body.getReader();
                 const first = new TextDecoder().decode((await reader.read()).value);
                 setTimeout(() => stop.abort(), 50);
                 const error = await reader.read().catch((error) => error);
                 return [first, error.name]"
            );
            assert_eq!(
                evaluate(&server, &code).await,
                json!(["first", name]),
                "{how}"
            );
            let closed = upstream.closed.recv_timeout(crate::server::PATIENCE);
            assert_eq!(closed.unwrap(), "/drips", "{how}");
        }
        // Where the body is read for its integrity, before the response is there.
        let code = "const read = fetch(env.ORIGIN + '/drips', { integrity: 'sha256-AAAA', signal: AbortSignal.timeout(1000) });
             return await read.catch((error) => error.name)";
        assert_eq!(evaluate(&server, code).await, "TimeoutError");
        let closed = upstream.closed.recv_timeout(crate::server::PATIENCE);
        assert_eq!(closed.unwrap(), "/drips");
        // One that comes too late changes nothing.
        let code = "const stop = new AbortController();
             const response = await fetch(env.ORIGIN + '/small', { signal: stop.signal });
             const text = await response.text(); stop.abort(); return text";
        assert_eq!(evaluate(&server, code).await, "small");
    });
}

#[test]
fn fetch_says_what_it_is_and_where_it_failed() {
    let upstream = Upstream::start();
    let server = server(upstream.address);
    run(async {
        let head = evaluate(&server, "return (await fetch(env.ORIGIN + '/head')).text()").await;
        let head = head.as_str().unwrap().to_lowercase();
        assert!(head.contains("\r\naccept: */*\r\n"), "{head}");
        assert!(head.contains("\r\nuser-agent: stockade\r\n"), "{head}");
        for url in [
            "http://other.example/",
            "about:blank",
            "file:///etc/passwd",
            "custom:x",
        ] {
            let failed = evaluate(&server, &format!("await fetch('{url}')")).await;
            assert_eq!(failed["type"], true, "{failed}");
            let stack = failed["stack"].as_str().unwrap();
            assert!(stack.contains("main.js"), "{stack}");
            assert!(!stack.contains("ext:"), "{stack}");
        }
        let local = "const url = URL.createObjectURL(new Blob(['blob']));
             return [await (await fetch('data:,data')).text(), await (await fetch(url)).text()]";
        assert_eq!(evaluate(&server, local).await, json!(["data", "blob"]));
    });
}

#[test]
fn copies_of_a_request_know_its_client() {
    let upstream = Upstream::start();
    let server = server(upstream.address);
    run(async {
        let code = "const copies = [request, request.clone(), new Request(request), new Request(request.url)];
             return copies.map((one) => one.cf?.clientIp ?? null)";
        let seen = evaluate(&server, code).await;
        assert_eq!(seen, json!(["127.0.0.1", "127.0.0.1", "127.0.0.1", null]));
    });
}

#[test]
fn site_has_what_workers_have_beyond_the_platform() {
    let upstream = Upstream::start();
    let server = server(upstream.address);
    run(async {
        for (code, value) in [
            ("return navigator.userAgent", json!("Cloudflare-Workers")),
            (
                "const { AsyncLocalStorage: found } = process.getBuiltinModule('node:async_hooks');
                 let wrong; try { process.getBuiltinModule(5) } catch (e) { wrong = e.name }
                 return [found === AsyncLocalStorage, process.getBuiltinModule('async_hooks').AsyncLocalStorage === found,
                   process.getBuiltinModule('node:fs') === undefined, wrong, process.versions.node === undefined,
                   'NODE_ENV' in process.env, Object.keys(globalThis).includes('process')]",
                json!([true, true, true, "TypeError", true, false, false]),
            ),
            ("return [global === globalThis, Object.keys(globalThis).includes('global')]", json!([true, false])),
            (
                "const { subtle } = crypto; const of = (...list) => new Uint8Array(list);
                 return [subtle.timingSafeEqual(of(1, 2), of(1, 2)), subtle.timingSafeEqual(of(1, 2), of(1, 3).buffer),
                   subtle.timingSafeEqual(of(), new DataView(new ArrayBuffer(0))),
                   (() => { try { subtle.timingSafeEqual(of(1), of(1, 2)) } catch (e) { return e.name } })()]",
                json!([true, false, true, "TypeError"]),
            ),
            (
                "const waited = await scheduler.wait(1);
                 const stop = new AbortController(); const never = scheduler.wait(2 ** 40, { signal: stop.signal });
                 stop.abort();
                 return [waited === undefined, await never.catch((e) => e.name)]",
                json!([true, "AbortError"]),
            ),
            (
                "const { readable, writable } = new IdentityTransformStream();
                 const writer = writable.getWriter();
                 const written = writer.write(new TextEncoder().encode('abcd')).then(() => writer.close());
                 const reader = readable.getReader({ mode: 'byob' });
                 const first = await reader.read(new Uint8Array(3));
                 const second = await reader.read(new Uint8Array(3));
                 const last = await reader.read(new Uint8Array(3));
                 await written;
                 return [first.value.length, second.value.length, last.done]",
                json!([3, 1, true]),
            ),
            (
                "const { readable, writable } = new IdentityTransformStream();
                 const text = new Response(readable).text().catch((e) => e.name);
                 const write = writable.getWriter().write(5).catch((e) => e.name);
                 return [await write, await text]",
                json!(["TypeError", "TypeError"]),
            ),
            (
                "const { readable, writable } = new IdentityTransformStream();
                 const text = new Response(readable).text();
                 const writer = writable.getWriter();
                 await writer.write('téxt'); await writer.write(''); await writer.close();
                 return await text",
                json!("téxt"),
            ),
            (
                "const lengths = [0, -0, 5n, 2n ** 64n - 1n, 0.5, NaN, -1, -1n, 2n ** 64n];
                 const made = lengths.map((length) => {
                   try { return new FixedLengthStream(length) instanceof IdentityTransformStream } catch (e) { return e.name }
                 });
                 return [...made, String(new FixedLengthStream(1)), Object.keys(FixedLengthStream.prototype).length]",
                json!([
                    true, true, true, true, "RangeError", "RangeError", "RangeError", "RangeError", "RangeError",
                    "[object FixedLengthStream]", 0
                ]),
            ),
            (
                "const { writable } = new FixedLengthStream(10, { highWaterMark: 100 });
                 const writer = writable.getWriter(); const before = writer.desiredSize;
                 writer.write('abc').catch(() => {});
                 return [before, writer.desiredSize]",
                json!([10, 1]),
            ),
            (
                "const { readable, writable } = new FixedLengthStream(5);
                 const writer = writable.getWriter();
                 const written = writer.write('abc').catch((e) => e.message);
                 await writer.abort(new Error('enough'));
                 return [await written, await new Response(readable).text().catch((e) => e.message)]",
                json!(["enough", "enough"]),
            ),
            (
                "const { readable, writable } = new IdentityTransformStream();
                 const failed = writable.getWriter().write(new Uint8Array(1)).catch((e) => e.message);
                 await readable.cancel(new Error('enough'));
                 return await failed",
                json!("enough"),
            ),
            (
                "const { readable, writable } = new FixedLengthStream(5);
                 const piped = new Blob(['small']).stream().pipeTo(writable);
                 const r = await fetch(env.ORIGIN + '/head', { method: 'POST', body: readable });
                 await piped;
                 return /content-length: 5/i.test(await r.text())",
                json!(true),
            ),
            (
                "const outcome = async (length) => {
                   const { readable, writable } = new FixedLengthStream(length);
                   const piped = new Blob(['small']).stream().pipeTo(writable).catch((e) => e.name);
                   return [await new Response(readable).text().catch((e) => e.name), await piped ?? null];
                 };
                 return [await outcome(5), await outcome(4), await outcome(6)]",
                json!([["small", null], ["RangeError", "RangeError"], ["RangeError", "RangeError"]]),
            ),
        ] {
            assert_eq!(evaluate(&server, code).await, value, "{code}");
        }
    });
}

#[test]
fn response_of_a_fixed_length_has_it() {
    let server = Server::site(
        "export default { fetch() {
           const { readable, writable } = new FixedLengthStream(3);
           new Blob(['abc']).stream().pipeTo(writable);
           return new Response(readable);
         } };",
        "",
    );
    run(async {
        let answer = server.get("a.example", "/").await;
        assert_eq!(answer.header("content-length"), "3");
        assert_eq!(answer.text(), "abc");
    });
}

#[test]
fn response_is_its_stream_and_not_what_a_handler_has_put_on_it() {
    let server = Server::site(
        "export default { fetch() {
           Object.prototype.body = 'forged';
           const stream = new ReadableStream({ start(c) { c.enqueue(new Uint8Array([97])); c.close(); } });
           return new Response(Object.assign(stream, { body: 'mine', consumed: false }));
         } };",
        "",
    );
    run(async {
        assert_eq!(server.get("a.example", "/").await.text(), "a");
    });
}

#[test]
fn requests_at_once_have_their_own_context() {
    let server = Server::site(
        "import { AsyncLocalStorage } from 'node:async_hooks';
         const storage = new AsyncLocalStorage();
         const pause = (ms) => new Promise((done) => setTimeout(done, ms));
         async function deep() { await pause(1); await null; return storage.getStore(); }
         export default { async fetch(request) {
           const outside = storage.getStore();
           const { pathname } = new URL(request.url);
           if (pathname === '/left') { storage.enterWith('left behind'); return new Response('left'); }
           return storage.run(pathname, async () => {
             const seen = [outside ?? null];
             for (let i = 0; i < 5; i++) seen.push(await deep());
             return Response.json(seen);
           });
         } };",
        "    mirrors: 1\n",
    );
    run(async {
        let requests = (0..20).map(|number| {
            let server = &server;
            async move {
                let path = format!("/{number}");
                let answer = server.get("a.example", &path).await;
                assert_eq!(answer.json(), json!([null, path, path, path, path, path]));
                assert_eq!(server.get("a.example", "/left").await.text(), "left");
            }
        });
        futures_util::future::join_all(requests).await;
    });
}
