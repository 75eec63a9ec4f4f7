//! Sites each of whose requests gets a mirror that nobody used.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use futures_util::future::join_all;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

use crate::client::{get, run, send, websocket};
use crate::server::{PATIENCE, PLAIN, Server};

/// Counts in a global variable, and in the state that all mirrors share.
const COUNTS: &str = "globalThis.count = 0; const me = Math.random();
export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    if (pathname === '/busy') {
      setTimeout(() => { for (;;); }, 0);
      return new Response('answered');
    }
    if (pathname === '/forever') {
      ctx.waitUntil(new Promise(() => {}));
      setInterval(() => { globalThis.kept = new Array(1000).fill(1); }, 1);
      return new Response('answered');
    }
    if (pathname === '/later') {
      ctx.waitUntil(new Promise(done => setTimeout(done, 50)).then(() => env.STATE.put('later', me)));
      return Response.json(me);
    }
    if (pathname === '/socket') {
      const [client, server] = Object.values(new WebSocketPair());
      server.accept();
      server.addEventListener('message', () => server.send(String(++count)));
      server.addEventListener('close', () => ctx.waitUntil(env.STATE.put('closed', true)));
      return new Response(null, { status: 101, webSocket: client });
    }
    if (pathname === '/state') return Response.json((await env.STATE.get(new URL(request.url).search.slice(1))) ?? null);
    return Response.json({ me, count: ++count });
  },
};";

fn site(options: &str) -> Server {
    let options = format!("    fresh: request\n    state: true\n{options}");
    Server::site(COUNTS, &options)
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Cgroups of the workers of a server, in every hierarchy of this machine.
fn cgroups(server: u32) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut look = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = look.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                if is_of(&path, server) {
                    found.insert(path.clone());
                }
                look.push(path);
            }
        }
    }
    found
}

fn is_of(path: &Path, server: u32) -> bool {
    path.to_string_lossy()
        .contains(&format!("/stockade-{server}-"))
}

/// Processes, descriptors and cgroups that a server holds.
type Held = (usize, usize, usize);

fn held(server: &Server) -> Held {
    (
        server.processes().len(),
        descriptors(server.pid()),
        cgroups(server.pid()).len(),
    )
}

/// Waits until the server has its launcher, the worker that is kept started for all sites, and as many mirrors as are
/// kept ready; and holds no more than `most`, if that is known.
async fn at_rest(server: &Server, mirrors: usize, most: Option<Held>) -> Held {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = held(server);
        let no_more = most.is_none_or(|most| now.1 <= most.1 && now.2 <= most.2);
        if now.0 == 2 + mirrors && no_more {
            return now;
        }
        assert!(Instant::now() < deadline, "{most:?} before, {now:?} now");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[test]
fn fresh_requests_share_nothing_but_the_state_and_leave_nothing() {
    let server = site("    mirrors: 2\n");
    run(async {
        let announced = server.announced();
        assert!(
            announced.contains("container, a new mirror for each request"),
            "{announced}"
        );
        let mut seen = BTreeSet::new();
        let mut check = |answer: crate::client::Answer| {
            assert_eq!(answer.status, 200, "{}", server.log_text());
            let value = answer.json();
            assert_eq!(value["count"], 1, "a variable of another request");
            assert!(seen.insert(value["me"].to_string()), "the same mirror");
        };
        for _ in 0..20 {
            check(server.get("a", "/").await);
        }
        let before = at_rest(&server, 2, None).await;
        for _ in 0..16 {
            let all = (0..30).map(|_| send(server.address(), get("a", "/")));
            join_all(all).await.into_iter().for_each(&mut check);
            assert_eq!(server.status("/readyz").await.status, 200);
        }
        at_rest(&server, 2, Some(before)).await;
        let served = "stockade_mirror_ends_total{instance=\"site\",reason=\"served\"}";
        assert!(
            server.metric(served).await >= 500.0,
            "{}",
            server.log_text()
        );
    });
}

#[test]
fn fresh_guest_that_stays_busy_after_its_answer_is_ended() {
    let server = site(
        "    mirrors: 1\n    limits: {concurrency: 4, cpu: 10s, wall: 60s, wait_until: 500ms}\n",
    );
    run(async {
        assert_eq!(server.get("a", "/").await.status, 200);
        let before = at_rest(&server, 1, None).await;
        for path in ["/busy", "/forever"] {
            for _ in 0..6 {
                let answer = server.get("a", path).await;
                assert_eq!((answer.status, &*answer.text()), (200, "answered"));
            }
            // There is room for those that behave.
            let answer = server.get("a", "/").await;
            assert_eq!(answer.json()["count"], 1, "{}", server.log_text());
            at_rest(&server, 1, Some(before)).await;
        }
    });
}

#[test]
fn fresh_mirror_lives_for_its_promises_and_its_websocket() {
    let server = site("");
    run(async {
        let me = server.get("a", "/later").await.json();
        let state = async |key: &str, wanted: serde_json::Value| {
            let deadline = Instant::now() + PATIENCE;
            let path = format!("/state?{key}");
            while server.get("a", &path).await.json() != wanted {
                assert!(Instant::now() < deadline, "{}", server.log_text());
            }
        };
        state("later", me).await;
        let mut socket = websocket(server.address(), "a").await;
        for count in 1..=3 {
            socket.send(Message::text("count")).await.unwrap();
            let reported = socket.next().await.unwrap().unwrap();
            assert_eq!(reported, Message::text(count.to_string()));
        }
        socket.close(None).await.unwrap();
        while socket.next().await.is_some_and(|message| message.is_ok()) {}
        // What its handler does when it is closed is done.
        state("closed", true.into()).await;
    });
}

#[test]
fn fresh_calls_of_a_binding_have_a_mirror_each() {
    let entry = "import { WorkerEntrypoint } from 'cloudflare:workers';
    let count = 0;
    export default class extends WorkerEntrypoint {
      fetch() { return new Response(); }
      next() {
        const { env } = this;
        this.ctx.waitUntil(new Promise(done => setTimeout(done, 20)).then(() => env.STATE.put('done', true)));
        return ++count;
      }
      lines() { return new Blob(['a'.repeat(300000), 'b']).stream(); }
      async done() { return (await this.env.STATE.get('done')) ?? false; }
    }";
    let caller = "export default { async fetch(request, env) {
      const counts = [await env.BACK.next(), await env.BACK.next(), await env.BACK.next()];
      const text = await new Response(await env.BACK.lines()).text();
      while (!(await env.BACK.done()));
      return Response.json([...counts, text.length]);
    } };";
    let config = format!(
        "{PLAIN}instances:
  front: {{code: ./front.js, urls: [\"/*\"], bindings: {{BACK: back}}}}
  back: {{code: ./back.js, fresh: request, state: true}}
"
    );
    let server = Server::start(&config, &[("front.js", caller), ("back.js", entry)]);
    run(async {
        let answer = server.get("a", "/").await;
        let counts = serde_json::json!([1, 1, 1, 300_001]);
        assert_eq!(answer.json(), counts, "{}", server.log_text());
    });
}
