//! How many requests one isolate answers, without a process boundary and without HTTP: run with `--bench`.
#![expect(clippy::print_stdout, reason = "what it measures is its output")]

use std::time::Instant;

use libtest_mimic::Failed;
use serde_json::json;
use stockade_protocol::Payload;

use crate::cases;
use crate::guest::{Content, Guest, Said};

cases![
    bench_hello,
    bench_hello_async,
    bench_headers,
    bench_json_echo,
    bench_html,
    bench_stream,
];

const REQUESTS: u64 = 200_000;

/// Requests on their way at once.
const AHEAD: u64 = 64;

const HEADERS: &str = r#"["host","127.0.0.1:8080","accept","*/*","user-agent","bench/1.0","x-request-id","0123456789abcdef"]"#;

async fn measure(name: &str, code: &str, body: Option<&[u8]>) -> Result<(), Failed> {
    let mut guest = Guest::start(code).await?;
    for round in 0..3 {
        let began = Instant::now();
        let cpu = guest.handle.stats().cpu;
        let (mut sent, mut answered) = (0, 0);
        while answered < REQUESTS {
            while sent < REQUESTS && sent - answered < AHEAD {
                let mark = if body.is_some() {
                    "\"\\u0000b0\""
                } else {
                    "null"
                };
                let json = format!(
                    r#"[{sent},"GET","http://127.0.0.1:8080/hello?a=1",{HEADERS},{mark},null]"#
                );
                let payload = Payload {
                    json,
                    bytes: body.map(<[u8]>::to_vec).into_iter().collect(),
                    marked: body.is_some(),
                };
                guest.handle.control("http.request", payload)?;
                sent += 1;
            }
            match guest.next().await? {
                Said::Control(name, _) if name == "http.response" => answered += 1,
                other => return Err(format!("{other:?}").into()),
            }
        }
        let took = began.elapsed();
        let cpu = guest.handle.stats().cpu - cpu;
        if round == 2 {
            println!(
                "{}",
                json!({
                    "bench": name,
                    "per_second": (REQUESTS as f64 / took.as_secs_f64()).round(),
                    "cpu_us": cpu.as_secs_f64() * 1e6 / REQUESTS as f64,
                })
            );
        }
    }
    Ok(())
}

async fn bench_hello() -> Result<(), Failed> {
    let code = "export default { fetch: () => new Response('Hello, world!') }";
    measure("hello", code, None).await
}

async fn bench_hello_async() -> Result<(), Failed> {
    let code = "export default { async fetch(request, env, ctx) { return new Response('Hello ' + request.method) } }";
    measure("hello async", code, None).await
}

async fn bench_headers() -> Result<(), Failed> {
    let code = "export default { async fetch(request) {
        const url = new URL(request.url);
        const agent = request.headers.get('user-agent');
        return new Response(url.pathname + agent, { headers: { 'content-type': 'text/plain', 'x-b': '1', 'cache-control': 'no-store' } });
    } }";
    measure("url and headers", code, None).await
}

async fn bench_json_echo() -> Result<(), Failed> {
    let code =
        "export default { async fetch(request) { return Response.json(await request.json()) } }";
    measure(
        "json echo",
        code,
        Some(b"{\"name\":\"value\",\"list\":[1,2,3]}"),
    )
    .await
}

async fn bench_html() -> Result<(), Failed> {
    let code = "const page = '<p>'.repeat(10000);
        export default { fetch: () => new Response(page, { headers: { 'content-type': 'text/html' } }) }";
    measure("30 KB of text", code, None).await
}

/// A stream of 1 MiB in pieces of 64 KiB, read with a window of 8.
async fn bench_stream() -> Result<(), Failed> {
    const STREAMS: u64 = 2000;
    let code = "const piece = new Uint8Array(64 * 1024);
        export default { fetch() {
            let left = 16;
            return new Response(new ReadableStream({
                pull(c) { c.enqueue(piece); if (--left === 0) c.close(); }
            }));
        } }";
    let mut guest = Guest::start(code).await?;
    let began = Instant::now();
    let cpu = guest.handle.stats().cpu;
    for _ in 0..STREAMS {
        let Content::Stream(id) = guest.fetch("/").await?.body else {
            return Err("no stream".into());
        };
        guest.send_control("stream.pull", &json!({ "id": id, "n": 8 }))?;
        while guest.chunk(id).await?.is_some() {
            guest.send_control("stream.pull", &json!({ "id": id }))?;
        }
    }
    let cpu = guest.handle.stats().cpu - cpu;
    println!(
        "{}",
        json!({
            "bench": "stream of 1 MiB",
            "mib_per_second": (STREAMS as f64 / began.elapsed().as_secs_f64()).round(),
            "cpu_us_per_mib": cpu.as_secs_f64() * 1e6 / STREAMS as f64,
        })
    );
    Ok(())
}
