//! Mirrors that crash, are recycled, scaled and drained, and schedules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::client::{get, post, run, send};
use crate::server::{PLAIN, Server, folder};

/// Says which isolate it is.
const NAMED: &str = "const me = Math.random(); let n = 0; export default { async fetch(request) {
  const { pathname } = new URL(request.url);
  if (pathname === '/slow') await new Promise(done => setTimeout(done, 100));
  if (pathname === '/hang') await new Promise(done => setTimeout(done, 2000));
  return Response.json({ me, n: ++n });
} };";

fn mirrors(state: &str) -> String {
    format!("stockade_mirrors{{instance=\"site\",state=\"{state}\"}}")
}

fn ends(reason: &str) -> String {
    format!("stockade_mirror_ends_total{{instance=\"site\",reason=\"{reason}\"}}")
}

#[test]
fn mirror_that_is_killed_is_replaced_and_no_idempotent_request_is_lost() {
    let server = Server::site(NAMED, "    mirrors: 2\n");
    run(async {
        server.until(&mirrors("ready"), |ready| ready == 2.0).await;
        let requests = async {
            for _ in 0..40 {
                let all = (0..4).map(|_| send(server.address(), get("a", "/slow")));
                for answer in futures_util::future::join_all(all).await {
                    assert_eq!(answer.status, 200, "{}", server.log_text());
                }
            }
        };
        let kills = async {
            for round in 1..=3 {
                // Workers are the processes below the launcher.
                for worker in server.processes().into_iter().skip(1).take(1) {
                    let pid = Pid::from_raw(worker as i32).unwrap();
                    let _ = kill_process(pid, Signal::KILL);
                }
                tokio::time::sleep(Duration::from_millis(400 * round)).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! { () = requests => {}, () = kills => {} }
        server.until(&mirrors("ready"), |ready| ready == 2.0).await;
    });
}

#[test]
fn mirror_that_ends_under_a_request_that_is_not_idempotent_gives_502() {
    let server = Server::site(NAMED, "");
    run(async {
        let request = async { send(server.address(), post("a", "/hang", "x")).await };
        let kill = async {
            server
                .until("stockade_requests_in_flight{instance=\"site\"}", |now| {
                    now >= 1.0
                })
                .await;
            for worker in server.processes().into_iter().skip(1) {
                let _ = kill_process(Pid::from_raw(worker as i32).unwrap(), Signal::KILL);
            }
        };
        let (answer, ()) = tokio::join!(request, kill);
        assert_eq!(answer.status, 502, "{}", server.log_text());
        assert!(server.metric(&ends("crashed")).await >= 1.0);
        // And then it goes on.
        assert_eq!(server.get("a", "/").await.status, 200);
    });
}

#[test]
fn mirror_is_recycled_under_load_and_nothing_is_lost() {
    let server = Server::site(NAMED, "    recycle: {requests: 50}\n");
    run(async {
        let mut seen = BTreeSet::new();
        // A successor takes its time to start; until it is there the old one goes on.
        while seen.len() < 4 {
            let all = (0..10).map(|_| send(server.address(), get("a", "/")));
            for answer in futures_util::future::join_all(all).await {
                assert_eq!(answer.status, 200, "{}", server.log_text());
                seen.insert(answer.json()["me"].to_string());
            }
        }
        server
            .until(&ends("recycled_requests"), |ends| ends >= 2.0)
            .await;
    });
}

#[test]
fn site_scales_with_load_and_to_zero() {
    let server = Server::site(
        NAMED,
        "    limits: {concurrency: 4}
    autoscale: {min_instances: 0, max_instances: 3, queue_length: 2, stable_window: 6s, panic_window: 1s, scale_to_zero_after: 2s}
",
    );
    run(async {
        server.until(&mirrors("ready"), |ready| ready == 0.0).await;
        assert_eq!(server.status("/readyz").await.status, 200);
        assert_eq!(server.get("a", "/").await.status, 200);
        let cold = "stockade_mirror_starts_total{instance=\"site\",start=\"cold\"}";
        assert!(server.metric(cold).await >= 1.0, "{}", server.log_text());
        let load = async {
            loop {
                let all = (0..12).map(|_| send(server.address(), get("a", "/slow")));
                for answer in futures_util::future::join_all(all).await {
                    assert_eq!(answer.status, 200, "{}", server.log_text());
                }
            }
        };
        let ready = mirrors("ready");
        let grown = server.until(&ready, |ready| ready >= 3.0);
        tokio::select! { () = load => {}, _ = grown => {} }
        server.until(&mirrors("ready"), |ready| ready == 0.0).await;
    });
}

#[test]
fn scheduled_runs_when_it_is_time() {
    // The finest schedule there is is a minute, so this waits for one.
    let config = format!(
        "{PLAIN}instances:
  site:
    code: ./main.js
    urls: [\"/*\"]
    crons: [\"* * * * *\"]
"
    );
    let code = "let runs = []; export default {
      fetch() { return Response.json(runs); },
      scheduled(event) { runs.push(event.cron); },
    };";
    let server = Server::start(&config, &[("main.js", code)]);
    run(async {
        assert_eq!(server.get("a", "/").await.status, 200);
        // The next full minute.
        let deadline = Instant::now() + Duration::from_secs(75);
        while server.get("a", "/").await.json() != json!(["* * * * *"]) {
            assert!(Instant::now() < deadline, "scheduled was not called");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}

#[test]
fn mirror_is_listed_with_the_name_of_its_site() {
    let config =
        format!("{PLAIN}instances:\n  listed-by-name: {{code: ./main.js, urls: [\"/*\"]}}\n");
    let server = Server::start(&config, &[("main.js", NAMED)]);
    run(async { assert_eq!(server.get("a", "/").await.status, 200) });
    let listed = std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| line.starts_with(b"stockade-worker listed-by-name\0"))
    });
    assert!(listed, "{}", server.log_text());
}

#[test]
fn url_that_is_announced_answers() {
    let config = "listeners: [{address: \"0.0.0.0:0\"}]
instances:
  any: {code: ./main.js, urls: [/below/*, /exact]}
  host: {code: ./main.js, urls: [a.localhost, b.localhost/api/*]}
";
    let code = "export default { fetch(request) { return new Response(request.url); } };";
    let server = Server::start(config, &[("main.js", code)]);
    let announced = server.announced();
    let urls: Vec<&str> = announced
        .split_whitespace()
        .filter(|word| word.starts_with("http://") && !word.contains("/metrics"))
        .collect();
    assert_eq!(urls.len(), 4, "{announced}");
    run(async {
        for url in urls {
            let uri: hyper::Uri = url.parse().unwrap();
            let authority = uri.authority().unwrap();
            // Names below localhost are this machine (RFC 6761, section 6.3).
            let address = ([127, 0, 0, 1], authority.port_u16().unwrap()).into();
            let answer = send(address, get(authority.as_str(), uri.path())).await;
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, url),
                "{announced}"
            );
        }
    });
}

#[test]
fn drain_lets_requests_and_background_work_end() {
    let mut server = Server::site(
        "export default { async fetch(request, env, ctx) {
           ctx.waitUntil((async () => {
             await new Promise(done => setTimeout(done, 3000));
             await env.STATE.put('background', 'done');
           })());
           await new Promise(done => setTimeout(done, 2000));
           return new Response('complete');
         } };",
        "    state: true\n",
    );
    let status = run(async {
        let request = async { send(server.address(), get("a", "/")).await };
        let stop = async {
            server
                .until("stockade_requests_in_flight{instance=\"site\"}", |now| {
                    now >= 1.0
                })
                .await;
            server.signal(Signal::TERM);
            // While it drains it is not ready, and the old ones go on.
            while server.status("/readyz").await.status != 503 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let (answer, ()) = tokio::join!(request, stop);
        assert_eq!(answer.text(), "complete", "{}", server.log_text());
        server.ended()
    });
    assert!(status.success(), "{status} {}", server.log_text());
    assert!(!server.path("stockade.sock").exists());
    let code = "export default { async fetch(request, env) {
      return new Response(await env.STATE.get('background'));
    } };";
    std::fs::write(server.path("site/main.ts"), code).unwrap();
    let server = server.again();
    run(async { assert_eq!(server.get("a", "/").await.text(), "done") });
}

#[test]
fn one_thread_serves_many_and_reloads_and_drains() {
    let config = format!(
        "{PLAIN}instances:\n  site:\n    code: ./site/main.ts\n    urls: [\"/*\"]\n    mirrors: 2\n"
    );
    let folder = folder(&config, &[("site/main.ts", NAMED)]);
    let mut server = Server::start_with(folder, &BTreeMap::new(), &["--threads", "1"]);
    run(async {
        // One that takes its time does not hold up others.
        let slow = send(server.address(), get("a", "/hang"));
        let others = async {
            for _ in 0..50 {
                assert_eq!(server.get("a", "/").await.status, 200);
            }
            server.reloaded();
            assert_eq!(server.get("a", "/").await.status, 200);
        };
        let (slow, ()) = tokio::join!(slow, others);
        assert_eq!(slow.status, 200, "{}", server.log_text());
    });
    server.signal(Signal::TERM);
    assert!(server.ended().success(), "{}", server.log_text());
}

#[test]
fn drain_has_a_deadline_and_a_second_signal_ends_it() {
    let never = "export default { fetch() { return new Promise(() => {}); } };";
    for twice in [false, true] {
        let limits = "    limits: {timeout: 60s}\n";
        let timeout = if twice { "60s" } else { "500ms" };
        let config = format!(
            "{PLAIN}instances:\n  site:\n    code: ./main.js\n    urls: [\"/*\"]\n{limits}"
        );
        let folder = crate::server::folder(&config, &[("main.js", never)]);
        let path = folder.path().join("stockade.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let drain = format!("drain_timeout: {timeout}");
        std::fs::write(&path, text.replace("drain_timeout: 10s", &drain)).unwrap();
        let mut server = Server::start_in(folder, &std::collections::BTreeMap::new());
        let status = run(async {
            let address = server.address();
            tokio::spawn(async move {
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                let io = hyper_util::rt::TokioIo::new(stream);
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(io).await.unwrap();
                tokio::spawn(connection);
                let _ = sender.send_request(get("a", "/")).await;
            });
            server
                .until("stockade_requests_in_flight{instance=\"site\"}", |now| {
                    now >= 1.0
                })
                .await;
            server.signal(Signal::TERM);
            if twice {
                while server.status("/readyz").await.status != 503 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                server.signal(Signal::INT);
            }
            server.ended()
        });
        assert_eq!(status.code(), Some(1), "{}", server.log_text());
    }
}
