//! Sites that take too much, break, or are asked for too much.

use crate::client::{get, post, run, send};
use crate::server::{PLAIN, Server};

/// Does what its path says.
const HOSTILE: &str = "let all = []; export default { async fetch(request) {
  switch (new URL(request.url).pathname) {
    case '/spin': for (;;);
    case '/eat': for (;;) all.push(new Array(100000).fill(all.length));
    case '/never': await new Promise(() => {}); break;
    case '/slow': await new Promise(done => setTimeout(done, 400)); break;
    case '/headers': return new Response('', { headers: Array.from({ length: 500 }, (_, n) => [`x-${n}`, 'x'.repeat(300)]) });
    case '/stop-answering': return new Response(new ReadableStream({ start(c) { c.enqueue(new Uint8Array(1)); } }));
  }
  return new Response('well');
} };";

#[test]
fn limit_that_is_reached_has_its_status_and_the_site_goes_on() {
    let server = Server::site(
        HOSTILE,
        "    limits: {cpu: 500ms, memory: 32mb, timeout: 5s, max_body: 1kb}\n",
    );
    run(async {
        let status = async |path: &str| server.get("a", path).await.status;
        assert_eq!(status("/never").await, 504, "{}", server.log_text());
        assert_eq!(status("/headers").await, 502);
        assert_eq!(status("/").await, 200);
        let large = send(server.address(), post("a", "/", vec![b'x'; 2000])).await;
        assert_eq!(large.status, 413);
        // A request that ends its mirror is tried once more elsewhere where that is safe.
        for (path, reason) in [
            ("/spin", "cpu_limit_exceeded"),
            ("/eat", "memory_limit_exceeded"),
        ] {
            assert_eq!(
                send(server.address(), post("a", path, "")).await.status,
                502,
                "{path}"
            );
            let series =
                format!("stockade_mirror_ends_total{{instance=\"site\",reason=\"{reason}\"}}");
            server.until(&series, |value| value >= 1.0).await;
            while status("/").await != 200 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    });
}

#[test]
fn body_is_held_to_the_limit_of_the_gateway_whatever_the_site_allows() {
    let config = format!(
        "{PLAIN}limits: {{max_body: 1kb}}
instances:
  site: {{code: ./main.js, urls: [\"/*\"], limits: {{max_body: 10mb}}}}
"
    );
    let code = "export default { async fetch(request) { return new Response((await request.bytes()).length); } };";
    let server = Server::start(&config, &[("main.js", code)]);
    run(async {
        for (length, status) in [(1024, 200), (1025, 413), (2 << 20, 413)] {
            let request = post("a", "/", vec![b'x'; length]);
            assert_eq!(
                send(server.address(), request).await.status,
                status,
                "{length}"
            );
        }
    });
}

#[test]
fn site_that_is_full_answers_503_with_retry_after() {
    let server = Server::site(
        HOSTILE,
        "    limits: {concurrency: 1, queue: 1, timeout: 5s}\n",
    );
    run(async {
        assert_eq!(server.get("a", "/").await.status, 200);
        let requests = (0..8).map(|_| send(server.address(), get("a", "/slow")));
        let answers = futures_util::future::join_all(requests).await;
        let full: Vec<_> = answers
            .iter()
            .filter(|answer| answer.status == 503)
            .collect();
        assert!(!full.is_empty() && full.len() < 8, "{} of 8", full.len());
        for answer in full {
            let after: u64 = answer.header("retry-after").parse().unwrap();
            assert!((1..=60).contains(&after));
        }
        assert!(
            answers
                .iter()
                .all(|answer| matches!(answer.status, 200 | 503)),
            "{answers:?}"
        );
        let refused = "stockade_requests_refused_total{instance=\"site\",reason=\"queue_full\"}";
        assert!(server.metric(refused).await >= 1.0);
    });
}

#[test]
fn hostile_site_does_not_slow_its_neighbour() {
    let config = format!(
        "{PLAIN}instances:
  hostile: {{code: ./hostile.js, urls: [hostile.example], limits: {{cpu: 100ms, memory: 32mb, timeout: 1s}}}}
  good: {{code: ./good.js, urls: [good.example]}}
"
    );
    let good = "export default { fetch() { return new Response('good'); } };";
    let server = Server::start(&config, &[("hostile.js", HOSTILE), ("good.js", good)]);
    run(async {
        let attacks = async {
            for path in ["/spin", "/eat", "/never", "/headers", "/stop-answering"]
                .iter()
                .cycle()
            {
                let attack = send(server.address(), get("hostile.example", path));
                let _ = tokio::time::timeout(std::time::Duration::from_millis(300), attack).await;
            }
        };
        let requests = async {
            for _ in 0..300 {
                let answer = server.get("good.example", "/").await;
                assert_eq!((answer.status, answer.text().as_str()), (200, "good"));
            }
        };
        tokio::select! { () = attacks => {}, () = requests => {} }
    });
}

#[test]
fn isolation_of_every_level_serves() {
    let config = format!(
        "{PLAIN}instances:
  t: {{code: ./good.js, urls: [t.example], isolation: thread}}
  u: {{code: ./good.js, urls: [u.example], isolation: thread}}
  p: {{code: ./good.js, urls: [p.example], isolation: process}}
  c: {{code: ./good.js, urls: [c.example], isolation: container, wx: strict}}
"
    );
    let good = "export default { fetch() { return new Response('good'); } };";
    let server = Server::start(&config, &[("good.js", good)]);
    run(async {
        for host in ["t.example", "u.example", "p.example", "c.example"] {
            let answer = server.get(host, "/").await;
            assert_eq!(answer.status, 200, "{host} {}", server.log_text());
        }
    });
    // Not even level `thread` is a thread of the supervisor: there is no V8 in it.
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    for thread in threads {
        let name = std::fs::read_to_string(thread.unwrap().path().join("comm")).unwrap();
        assert!(!name.contains("V8") && !name.contains("isolate"), "{name}");
    }
}

/// Computes for as many milliseconds as its query says: before its response, after it, or in a timer.
const COMPUTES: &str = "const burn = ms => { const end = performance.now() + ms; while (performance.now() < end); };
export default { fetch(request) {
  const url = new URL(request.url), ms = Number(url.search.slice(1));
  switch (url.pathname) {
    case '/before': burn(ms); break;
    case '/timer': setTimeout(() => burn(ms), 0); break;
    case '/stream': return new Response(new ReadableStream({ pull(c) { burn(ms); c.enqueue(new Uint8Array(1)); c.close(); } }));
  }
  return new Response('well');
} };";

#[test]
fn cpu_time_beyond_a_limit_refuses_the_next_request_however_it_was_used() {
    let limits =
        "    rate_limits: [{by: \"header:x-tenant\", cpu: 200ms/h}]\n    limits: {cpu: 10s}\n";
    let server = Server::site(COMPUTES, limits);
    run(async {
        let ask = async |tenant: &str, path: &str| {
            let mut request = get("a", path);
            let headers = request.headers_mut();
            headers.insert("x-tenant", tenant.parse().unwrap());
            send(server.address(), request).await
        };
        for (hostile, path) in [
            ("before", "/before?400"),
            ("timer", "/timer?400"),
            ("stream", "/stream?400"),
        ] {
            assert_eq!(ask(hostile, path).await.status, 200, "{path}");
            // What it computes is charged when the guest is done, or once in a second. On a busy machine it gets little of
            // the time for which it asks.
            let refused = loop {
                let answer = ask(hostile, path).await;
                if answer.status == 429 {
                    break answer;
                }
            };
            let shown = refused.header("ratelimit-policy");
            assert_eq!(
                shown,
                "\"x-tenant-cpu\";q=200;qu=\"cpu-milliseconds\";w=3600"
            );
            let wait: u64 = refused.header("retry-after").parse().unwrap();
            assert!(wait > 0, "{path}: {wait}");
        }
        // One that computes as often and less goes on.
        for _ in 0..20 {
            assert_eq!(ask("harmless", "/before?1").await.status, 200);
        }
    });
}
