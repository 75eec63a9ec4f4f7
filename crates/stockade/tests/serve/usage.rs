//! What instances and API keys used: counted, written, read by the command while the server writes, and not lost.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use stockade_serve::{AdminClient, AskError};

use crate::client::{get, post, run, send};
use crate::server::{PATIENCE, PLAIN, Server, stockade};

/// Burns CPU, keeps state, answers later, or works on after its answer, as the path says.
const CODE: &str = "
  // An amount of work, and not of time: the machine may be busy. A unit is a few milliseconds.
  function burn(units) {
    let x = 0;
    for (let i = 0; i < units * 1e6; i++) x = (x * 31 + i) | 0;
    return x;
  }
  const pause = () => new Promise((resolve) => setTimeout(resolve, 1));
  export default {
    async fetch(request, env, ctx) {
      const { pathname } = new URL(request.url);
      const [, what, number] = pathname.split('/');
      switch (what) {
        case 'burn': burn(Number(number)); return new Response('x'.repeat(1000));
        case 'state': await env.STATE.put('a', 'y'.repeat(500)); return new Response(await env.STATE.get('a'));
        case 'fetch': return await fetch(`http://127.0.0.1:${number}/burn/0`);
        case 'fail': throw new Error('no');
        case 'later': case 'gone': {
          const left = async () => { for (let i = 0; i < 10; i++) { burn(Number(number) / 10); await pause(); } };
          if (what === 'gone') await left();
          else ctx.waitUntil(left());
          return new Response('at once');
        }
      }
      return new Response('ok');
    },
  };";

/// Two sites, of which the second has API keys.
fn config(more: &str) -> String {
    format!(
        "{PLAIN}usage: {{path: ./usage.db, interval: 1s{more}}}
instances:
  open:
    code: ./main.js
    urls: [\"open.example/*\"]
  keyed:
    code: ./main.js
    urls: [\"keyed.example/*\"]
    mirrors: 1
    state: true
    auth: {{api_key: {{header: x-api-key}}}}
    data_guard:
      rules: [{{name: mine, addresses: [127.0.0.1/32], schemes: [http], ports: [1-65535]}}]
      allow_private: [127.0.0.1/32]
    limits: {{cpu: 30s, wall: 60s}}
"
    )
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = stockade();
    command.args(arguments).current_dir(folder);
    command
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = command(folder, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Makes a key; its id and its text.
fn key(folder: &Path, name: &str) -> (String, String) {
    let made = json(
        folder,
        &["keys", "create", name, "--scope", "write", "--json"],
    );
    let of = |field: &str| made[field].as_str().unwrap().to_owned();
    (of("id"), of("key"))
}

async fn ask(server: &Server, host: &str, path: &str, key: Option<&str>) -> u16 {
    let mut request = get(host, path);
    if let Some(key) = key {
        request
            .headers_mut()
            .insert("x-api-key", key.parse().unwrap());
    }
    send(server.address(), request).await.status
}

/// Waits until what the command reports is as wanted.
fn reported(folder: &Path, arguments: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
    let all = [&["usage", "--json"], arguments].concat();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = json(folder, &all);
        if wanted(&report) {
            return report;
        }
        assert!(Instant::now() < deadline, "{report:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn row<'a>(report: &'a Value, field: &str, value: &Value) -> &'a Value {
    let mut rows = report["rows"].as_array().unwrap().iter();
    rows.find(|row| row[field] == *value)
        .unwrap_or_else(|| panic!("no row with {field} {value}: {report:#}"))
}

fn number(row: &Value, field: &str) -> f64 {
    row[field].as_f64().unwrap()
}

#[test]
fn usage_of_instances_and_keys_adds_up_to_what_metrics_say() {
    let server = Server::start(&config(", key_metrics: true"), &[("main.js", CODE)]);
    let folder = server.folder.path();
    let (ada, ada_key) = key(folder, "ada");
    let (bob, bob_key) = key(folder, "bob");
    let port = server.address().port();
    run(async {
        for _ in 0..3 {
            assert_eq!(ask(&server, "open.example", "/burn/1", None).await, 200);
            assert_eq!(
                ask(&server, "keyed.example", "/burn/20", Some(&ada_key)).await,
                200
            );
            assert_eq!(
                ask(&server, "keyed.example", "/burn/60", Some(&bob_key)).await,
                200
            );
        }
        assert_eq!(
            ask(&server, "keyed.example", "/state", Some(&ada_key)).await,
            200
        );
        let path = format!("/fetch/{port}");
        assert_eq!(
            ask(&server, "keyed.example", &path, Some(&bob_key)).await,
            404
        );
        assert_eq!(
            ask(&server, "keyed.example", "/fail", Some(&bob_key)).await,
            500
        );
        assert_eq!(ask(&server, "keyed.example", "/", None).await, 401);
    });
    let report = reported(folder, &["--by", "instance"], |report| {
        report["total"]["requests"] == 12
    });
    let keyed = row(&report, "instance", &"keyed".into());
    let by_key = json(
        folder,
        &["usage", "--json", "--by", "key", "--instance", "keyed"],
    );
    let of_key = |id: &str| row(&by_key, "api_key", &id.into());

    // What each key caused is its own, exactly: no two requests were open at a time.
    assert_eq!(
        (
            number(of_key(&ada), "requests"),
            number(of_key(&bob), "requests")
        ),
        (4.0, 5.0)
    );
    assert_eq!(
        (
            number(of_key(&ada), "errors"),
            number(of_key(&bob), "errors")
        ),
        (0.0, 1.0)
    );
    let (of_ada, of_bob) = (
        number(of_key(&ada), "cpu_seconds"),
        number(of_key(&bob), "cpu_seconds"),
    );
    assert!(of_ada > 0.0 && of_bob > 1.5 * of_ada, "{by_key:#}");
    assert_eq!(number(of_key(&ada), "state_operations"), 2.0);
    assert!(number(of_key(&ada), "state_sent") >= 500.0, "{by_key:#}");
    assert!(
        number(of_key(&ada), "state_received") >= 500.0,
        "{by_key:#}"
    );
    assert_eq!(number(of_key(&bob), "egress_requests"), 1.0);
    assert!(number(of_key(&bob), "egress_received") > 0.0, "{by_key:#}");
    assert_eq!(number(of_key(&ada), "egress_requests"), 0.0);
    assert!(number(keyed, "memory_byte_seconds") > 0.0, "{report:#}");
    // A request that the gateway refused has not reached the instance.
    assert_eq!(
        number(row(&by_key, "api_key", &Value::Null), "requests"),
        0.0
    );
    for field in ["requests", "errors", "bytes_in", "bytes_out", "state_sent"] {
        assert_eq!(
            number(&by_key["total"], field),
            number(keyed, field),
            "{field}"
        );
    }

    // The sums are those of the metrics.
    run(async {
        for (series, field) in [
            (
                "stockade_response_body_bytes_total{instance=\"keyed\"}",
                "bytes_out",
            ),
            (
                "stockade_request_duration_seconds_count{instance=\"keyed\"}",
                "requests",
            ),
            (
                "stockade_state_operations_total{instance=\"keyed\",outcome=\"ok\"}",
                "state_operations",
            ),
        ] {
            assert_eq!(server.metric(series).await, number(keyed, field), "{field}");
        }
        // CPU is counted once a second, and goes on while it is read.
        let client = AdminClient::at_socket(&server.path("stockade.sock"));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let path = "/v1/usage?by=instance&instance=keyed";
            let report: Value = client.json(Method::GET, path, None).await.unwrap();
            let counted = number(&report["total"], "cpu_seconds");
            let series = "stockade_isolate_cpu_seconds_total{instance=\"keyed\"}";
            let metric = server.metric(series).await;
            if (metric - counted).abs() <= 0.05 {
                break;
            }
            assert!(Instant::now() < deadline, "{counted}, {series} {metric}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let series =
            format!("stockade_usage_requests_total{{instance=\"keyed\",api_key=\"{bob}\"}}");
        assert_eq!(server.metric(&series).await, 5.0);
        assert_eq!(server.metric("stockade_usage_writable").await, 1.0);
    });

    // The admin API has the server write first, so it knows the request that was just answered.
    run(async {
        let client = AdminClient::at_socket(&server.path("stockade.sock"));
        let get = async |query: &str| client.json::<Value>(Method::GET, query, None).await;
        assert_eq!(ask(&server, "open.example", "/", None).await, 200);
        // The request is counted at the end of its response, which its client may see first.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let report = get("/v1/usage?by=instance&instance=open").await.unwrap();
            let requests = number(&report["total"], "requests");
            if requests == 4.0 {
                break;
            }
            assert!(requests == 3.0 && Instant::now() < deadline, "{report:#}");
        }
        let of_key = get(&format!("/v1/usage?key={ada}&by=day,key"))
            .await
            .unwrap();
        assert_eq!(of_key["rows"][0]["api_key"], ada);
        assert_eq!(number(&of_key["total"], "requests"), 4.0);
        let csv = client.send(Method::GET, "/v1/usage?format=csv", None).await;
        let csv = csv.unwrap().chunk().await.unwrap().unwrap();
        assert!(csv.starts_with(b"day,instance,api_key,requests,"));
        for query in ["by=hour", "since=yesterday", "key=x", "other=1"] {
            let refused = get(&format!("/v1/usage?{query}")).await;
            assert!(
                matches!(refused, Err(AskError::Refused { status, .. }) if status == 400),
                "{query}"
            );
        }
    });

    // For people, and for spreadsheets.
    let text = |arguments: &[&str]| {
        let output = command(folder, arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let table = text(&["usage", "--by", "key"]);
    assert!(table.contains(&ada) && table.contains("total"), "{table}");
    let csv = text(&["usage", "--csv", "--key", &bob]);
    assert!(csv.starts_with("day,instance,api_key,requests,"), "{csv}");
    assert_eq!(csv.lines().count(), 2, "{csv}");
    assert!(text(&["usage", "--since", "2999-01-01"]).ends_with(" 0 B·s\n"));
}

#[test]
fn work_that_a_guest_hides_behind_its_response_is_charged() {
    let server = Server::start(&config(""), &[("main.js", CODE)]);
    let folder = server.folder.path();
    let [open, later, gone] = ["open", "later", "gone"].map(|name| key(folder, name));
    run(async {
        // The same work three times: in the open,
        let status = ask(&server, "keyed.example", "/burn/300", Some(&open.1)).await;
        assert_eq!(status, 200);
        // after the response, by waitUntil,
        let status = ask(&server, "keyed.example", "/later/300", Some(&later.1)).await;
        assert_eq!(status, 200);
    });
    let cpu = |report: &Value, id: &str| {
        let mut rows = report["rows"].as_array().unwrap().iter();
        rows.find(|row| row["api_key"] == id)
            .map_or(0.0, |row| number(row, "cpu_seconds"))
    };
    let arguments = ["--by", "key", "--instance", "keyed"];
    reported(folder, &arguments, |report| {
        cpu(report, &open.0) > 0.0 && cpu(report, &later.0) > 0.5 * cpu(report, &open.0)
    });
    run(async {
        // and for a client that goes while its request is open.
        let in_flight = "stockade_requests_in_flight{instance=\"keyed\"}";
        tokio::select! {
            status = ask(&server, "keyed.example", "/gone/300", Some(&gone.1)) => assert_eq!(status, 200),
            _ = server.until(in_flight, |now| now == 1.0) => {}
        }
    });
    let report = reported(folder, &arguments, |report| {
        cpu(report, &gone.0) > 0.5 * cpu(report, &open.0)
    });
    // Hardly anything of it is nobody's: only the start of the mirror.
    let nobody = number(row(&report, "api_key", &Value::Null), "cpu_seconds");
    assert!(nobody < 0.5 * cpu(&report, &open.0), "{report:#}");
}

#[test]
fn workers_that_are_killed_in_the_middle_are_charged_for_what_they_did() {
    let server = Server::start(&config(""), &[("main.js", CODE)]);
    let folder = server.folder.path();
    let (ada, ada_key) = key(folder, "ada");
    run(async {
        assert_eq!(
            ask(&server, "keyed.example", "/", Some(&ada_key)).await,
            200
        );
        let dies = ask(&server, "keyed.example", "/burn/4000", Some(&ada_key));
        let kill = async {
            // Not before it computes: the metric is the kernel's clock.
            let series = "stockade_isolate_cpu_seconds_total{instance=\"keyed\"}";
            server.until(series, |cpu| cpu > 0.4).await;
            for worker in server.processes() {
                let _ = kill_process(Pid::from_raw(worker.cast_signed()).unwrap(), Signal::KILL);
            }
        };
        let (_, ()) = tokio::join!(dies, kill);
    });
    let arguments = ["--by", "key", "--key", &ada];
    reported(folder, &arguments, |report| {
        number(&report["total"], "cpu_seconds") >= 0.4
    });
}

#[test]
fn killed_server_loses_only_what_it_had_not_written_and_counts_nothing_twice() {
    let mut server = Server::start(&config(""), &[("main.js", CODE)]);
    let (mut sent, mut before) = (0, 0.0);
    for _ in 0..4 {
        run(async {
            for _ in 0..25 {
                assert_eq!(ask(&server, "open.example", "/", None).await, 200);
            }
        });
        sent += 25;
        // Something of them is written; the rest may be lost with the server.
        let folder = server.folder.path();
        let report = reported(folder, &["--instance", "open"], |report| {
            number(&report["total"], "requests") > before
        });
        before = number(&report["total"], "requests");
        server = server.again();
        let report = json(
            server.folder.path(),
            &["usage", "--json", "--instance", "open"],
        );
        let after = number(&report["total"], "requests");
        assert!(
            after >= before && after <= f64::from(sent),
            "{after} after {before} of {sent}"
        );
        before = after;
    }
    // A server that stops writes everything.
    run(async {
        for _ in 0..25 {
            assert_eq!(ask(&server, "open.example", "/", None).await, 200);
        }
    });
    server.signal(Signal::TERM);
    assert!(server.ended().success());
    let report = json(
        server.folder.path(),
        &["usage", "--json", "--instance", "open"],
    );
    assert_eq!(number(&report["total"], "requests"), before + 25.0);
}

#[test]
fn long_response_is_counted_while_it_lasts() {
    let code = "export default { fetch() {
      const stream = new ReadableStream({ async pull(controller) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        controller.enqueue(new Uint8Array(1000));
      } });
      return new Response(stream);
    } };";
    let server = Server::start(&config(""), &[("main.js", code)]);
    let folder = server.folder.path().to_owned();
    run(async {
        let response = crate::client::open(server.address(), get("open.example", "/")).await;
        let reading = tokio::spawn(crate::client::whole(response));
        let read = tokio::task::spawn_blocking(move || {
            reported(&folder, &["--instance", "open"], |report| {
                number(&report["total"], "bytes_out") >= 10_000.0
            })
        });
        let report = read.await.unwrap();
        assert_eq!(number(&report["total"], "requests"), 0.0);
        reading.abort();
    });
}

#[test]
fn receipt_of_a_request_states_what_it_used_and_is_verified() {
    let code = "export default { async fetch(request, env) {
      const url = new URL(request.url);
      if (url.pathname === '/refused') await fetch('http://elsewhere.example/').catch(() => {});
      if (url.pathname === '/egress') {
        const answer = await fetch(url.searchParams.get('to'), { method: 'POST', body: await request.text() });
        await answer.text();
        await env.ME.signEvent({ kind: 2, content: '', tags: [], created_at: 1 }).catch(() => {});
      }
      if (url.pathname === '/burn') { const end = performance.now() + 300; while (performance.now() < end); }
      return new Response('hello');
    } };";
    let port = answers_once_a_connection();
    let config = format!(
        "{PLAIN}instances:\n  site:\n    code: ./main.js\n    urls: [\"/*\"]\n    receipts: ./receipt.key\n    \
         limits: {{cpu: 10s}}\n    grants: {{ME: {{nostr: {{key: {{file: ./key.txt}}, permissions: [\"sign_event:1\"]}}}}}}\n    \
         data_guard: {{rules: [{{addresses: [127.0.0.1], ports: [{port}], schemes: [http]}}], allow_private: [127.0.0.1]}}\n"
    );
    let server = Server::start(&config, &[("main.js", code), ("key.txt", &"01".repeat(32))]);
    let stated = |path: &str, body: &str| {
        let answer = run(send(server.address(), post("a", path, body.to_owned())));
        assert_eq!(answer.status, 200);
        let id = answer.header("stockade-receipt").to_owned();
        assert_eq!(id.len(), 32, "{id}");
        let line = server.logged(|line| line["id"] == id.as_str());
        let signed = line["receipt"].as_str().unwrap().to_owned();
        std::fs::write(server.path("request.receipt"), &signed).unwrap();
        let verify = |file: &str| {
            let mut command = crate::server::stockade();
            command.args(["verify", file, "--key", "receipt.pub", "--json"]);
            command.current_dir(server.folder.path()).output().unwrap()
        };
        let verified = verify("request.receipt");
        assert!(verified.status.success(), "{verified:?}");
        let at = signed.len() / 2;
        let other = if signed.as_bytes()[at] == b'A' {
            "B"
        } else {
            "A"
        };
        let forged = format!("{}{other}{}", &signed[..at], &signed[at + 1..]);
        std::fs::write(server.path("forged.receipt"), forged).unwrap();
        assert_eq!(verify("forged.receipt").status.code(), Some(1));
        let stated: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
        assert_eq!(stated["jti"], id.as_str());
        assert_eq!(stated["policy"]["isolation"], "container");
        assert_eq!(stated["usage"]["sent_bytes"], 5);
        assert_eq!(
            (&stated["result"]["status"], &stated["result"]["complete"]),
            (&serde_json::json!(200), &serde_json::json!(true))
        );
        stated
    };
    let receipt = |path: &str| {
        let stated = stated(path, "");
        (
            stated["usage"]["cpu_ms"].as_f64().unwrap(),
            stated["refused"].as_u64().unwrap(),
        )
    };
    // The first request may pay for what the guest compiles.
    receipt("/");
    let (idle, none) = receipt("/");
    let (busy, _) = receipt("/burn");
    assert!(busy > idle, "{busy} {idle}");
    let (_, refused) = receipt("/refused");
    assert_eq!((none, refused), (0, 1));

    // What the guest received, sent on and was refused by a grant.
    let stated = stated(
        &format!("/egress?to=http://127.0.0.1:{port}/"),
        &"x".repeat(1000),
    );
    let usage = &stated["usage"];
    let numbers = |names: &[&str]| {
        names
            .iter()
            .map(|name| usage[*name].as_u64())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        numbers(&[
            "received_bytes",
            "egress_requests",
            "egress_sent_bytes",
            "egress_received_bytes"
        ]),
        [Some(1000), Some(1), Some(1000), Some(9)],
        "{stated}"
    );
    assert_eq!(
        (&stated["version"], &stated["refused_grants"]),
        (&2.into(), &1.into()),
        "{stated}"
    );
    assert_eq!(stated["refused"], 0);
}

/// A server that answers one request of each connection with nine bytes; its port.
fn answers_once_a_connection() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut read = Vec::new();
            // The head, and a thousand bytes.
            let is_all = |read: &[u8]| {
                let head = read.windows(4).position(|four| four == b"\r\n\r\n");
                head.is_some_and(|head| read.len() >= head + 4 + 1000)
            };
            while !is_all(&read) {
                let mut piece = [0; 4096];
                let count = stream.read(&mut piece).unwrap();
                read.extend_from_slice(&piece[..count]);
            }
            let answer =
                b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 9\r\n\r\nnine byte";
            stream.write_all(answer).unwrap();
        }
    });
    port
}
