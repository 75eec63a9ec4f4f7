//! Traces of requests, as a collector receives them, and as they go on to other servers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::client::{get, run, send};
use crate::server::{PATIENCE, PLAIN, Server};
use crate::trace_receiver::{Answers, Collector, spans};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Writes the answers: the `traceparent` that the guest has, and the one that the upstream got.
const SITE: &str = "const storage = new AsyncLocalStorage();
export default { async fetch(request, env) {
  const { pathname, searchParams } = new URL(request.url);
  const own = request.headers.get('traceparent');
  if (pathname === '/own') return Response.json({ own, state: request.headers.get('tracestate') });
  if (pathname === '/state') { await env.STATE.put('a', 1); return new Response('ok'); }
  if (pathname === '/other') return env.OTHER.fetch('http://other/own');
  if (pathname === '/call') return new Response(await env.OTHER.greet('you'));
  if (pathname === '/socket') {
    const socket = new WebSocket(searchParams.get('to'));
    return new Response(await new Promise((resolve) => {
      socket.onopen = () => resolve('open');
      socket.onerror = () => resolve('failed');
    }));
  }
  if (pathname === '/throw') throw new Error('bad');
  // Both requests wait for each other before they ask.
  if (pathname === '/both') await new Promise((resolve) => setTimeout(resolve, 50));
  const headers = searchParams.has('with') ? { traceparent: searchParams.get('with') } : {};
  const ask = async () => (await fetch(env.UPSTREAM, { headers })).text();
  // What a storage of the guest holds and the request that its work is for do not hide each other.
  const stored = async () => [await ask(), storage.getStore()];
  const [sent, held] = await storage.run(own, stored);
  return Response.json({ own, sent, held });
}, async scheduled(event, env) {
  await env.OTHER.greet('schedule');
  await fetch(env.UPSTREAM);
}, greet: (name) => 'hello ' + name };";

/// Answers each request with the `traceparent` that it has.
async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (reader, mut writer) = stream.into_split();
                let mut lines = BufReader::new(reader).lines();
                let mut parent = String::from("none");
                while let Ok(Some(line)) = lines.next_line().await {
                    if let Some(value) = line.strip_prefix("traceparent: ") {
                        parent = value.to_owned();
                    }
                    if line.is_empty() {
                        break;
                    }
                }
                let length = parent.len();
                let head =
                    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}");
                let _ = writer
                    .write_all(format!("{head}\r\n\r\n{parent}").as_bytes())
                    .await;
            });
        }
    });
    address
}

/// A server with two sites, whose traces go to `collector`.
fn start(collector: SocketAddr, upstream: SocketAddr, tracing: &str, site: &str) -> Server {
    let port = upstream.port();
    let config = format!(
        "{PLAIN}tracing: {{endpoint: \"http://{collector}\"{tracing}}}
instances:
  other: {{code: ./site.js, bindings: {{}}, urls: [other.example]}}
  site:
    code: ./site.js
    urls: [\"/*\"]
    env: {{UPSTREAM: \"http://127.0.0.1:{port}/\"}}
    state: true
    bindings: {{OTHER: {{instance: other}}}}
    data_guard: {{rules: [{{addresses: [127.0.0.1], ports: [{port}]}}], allow_private: [127.0.0.1]}}
{site}"
    );
    Server::start(&config, &[("site.js", SITE)])
}

fn with_parent(path: &str, parent: &str) -> Request<Full<Bytes>> {
    let mut request = get("a.example", path);
    let headers = request.headers_mut();
    headers.insert("traceparent", parent.parse().unwrap());
    headers.insert("tracestate", "vendor=1".parse().unwrap());
    request
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|one| one.key == key);
    match found.and_then(|one| one.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// Spans as they come, until there is one with each of these names.
async fn until(collector: &mut Collector, names: &[&str]) -> BTreeMap<String, Span> {
    let mut found: BTreeMap<String, Span> = BTreeMap::new();
    while !names.iter().all(|name| found.contains_key(*name)) {
        let (_, message) = collector.next().await;
        for span in spans(&message) {
            found.insert(span.name.clone(), span.clone());
        }
    }
    found
}

#[test]
fn trace_of_a_client_goes_through_gateway_guest_fetch_state_and_other_sites() {
    run(async {
        let mut collector = Collector::start(false, Answers::Accepts).await;
        let server = start(
            collector.address,
            upstream().await,
            ", parents: everyone, service_name: shop",
            "",
        );
        let answer = send(server.address(), with_parent("/fetch?secret=1", PARENT)).await;
        let (own, sent) = (answer.json()["own"].clone(), answer.json()["sent"].clone());
        let spans = until(&mut collector, &["GET site", "guest", "GET"]).await;
        let (request, guest, fetch) = (&spans["GET site"], &spans["guest"], &spans["GET"]);
        for span in [request, guest, fetch] {
            assert_eq!(hex(&span.trace_id), PARENT[3..35]);
            assert_eq!(span.trace_state, "vendor=1");
        }
        assert_eq!(hex(&request.parent_span_id), PARENT[36..52]);
        assert_eq!(guest.parent_span_id, request.span_id);
        assert_eq!(fetch.parent_span_id, guest.span_id);
        // The guest has the ids of its own work, and the other server those of the request to it.
        assert_eq!(own, format!("{}{}-01", &PARENT[..36], hex(&guest.span_id)));
        assert_eq!(sent, format!("{}{}-01", &PARENT[..36], hex(&fetch.span_id)));
        assert_eq!(attribute(request, "http.response.status_code"), "200");
        assert_eq!(attribute(request, "url.path"), "/fetch");
        assert_eq!(attribute(guest, "stockade.instance"), "site");
        assert_eq!(attribute(fetch, "server.address"), "127.0.0.1");
        assert_eq!(attribute(fetch, "http.response.status_code"), "200");
        assert!(!format!("{spans:?}").contains("secret"));

        send(server.address(), with_parent("/state", PARENT)).await;
        let spans = until(&mut collector, &["GET site", "STATE.put"]).await;
        assert_eq!(spans["STATE.put"].parent_span_id, spans["guest"].span_id);

        let answer = send(server.address(), with_parent("/other", PARENT)).await;
        let mut all = Vec::new();
        while all.len() < 4 {
            let (_, message) = collector.next().await;
            all.extend(crate::trace_receiver::spans(&message).into_iter().cloned());
        }
        let of = |instance: &str| {
            let found = all.iter().find(|span| {
                span.name == "guest" && attribute(span, "stockade.instance") == instance
            });
            found.unwrap()
        };
        let call = all.iter().find(|span| span.name == "OTHER.fetch").unwrap();
        assert_eq!(call.parent_span_id, of("site").span_id);
        assert_eq!(of("other").parent_span_id, call.span_id);
        let own = answer.json()["own"].clone();
        assert_eq!(
            own,
            format!("{}{}-01", &PARENT[..36], hex(&of("other").span_id))
        );

        send(server.address(), with_parent("/throw", PARENT)).await;
        let spans = until(&mut collector, &["GET site"]).await;
        assert_eq!(spans["GET site"].status.as_ref().unwrap().code, 2);
        assert_eq!(spans["guest"].status.as_ref().unwrap().message, "threw");

        // The line of a request names its trace.
        let line = server.logged(|line| line["event"] == "request");
        assert_eq!(line["trace_id"], PARENT[3..35]);
        server
            .until("stockade_trace_spans_exported_total", |count| count >= 11.0)
            .await;
    });
}

#[test]
fn fetch_has_the_context_of_its_own_request() {
    run(async {
        let collector = Collector::start(false, Answers::Accepts).await;
        let server = start(
            collector.address,
            upstream().await,
            ", parents: everyone",
            "",
        );
        let other = PARENT.replace("4bf92f35", "00000001");
        // At the same time in one mirror.
        let (one, two) = tokio::join!(
            send(server.address(), with_parent("/both", PARENT)),
            send(server.address(), with_parent("/both", &other)),
        );
        for (answer, parent) in [(one, PARENT), (two, &*other)] {
            let sent = answer.json()["sent"].as_str().unwrap().to_owned();
            assert_eq!(answer.json()["held"], answer.json()["own"]);
            assert_eq!(sent[..36], parent[..36]);
        }
        // What the guest chooses itself is its own affair.
        let answer = send(
            server.address(),
            with_parent(&format!("/?with={other}"), PARENT),
        )
        .await;
        assert_eq!(answer.json()["sent"], other);
    });
}

#[test]
fn trace_that_is_not_sampled_records_nothing_and_goes_on() {
    run(async {
        let mut collector = Collector::start(false, Answers::Accepts).await;
        let server = start(
            collector.address,
            upstream().await,
            ", parents: everyone, sampling: 0",
            "",
        );
        let unsampled = PARENT.replace("-01", "-00");
        let answer = send(server.address(), with_parent("/fetch", &unsampled)).await;
        for key in ["own", "sent"] {
            let parent = answer.json()[key].as_str().unwrap().to_owned();
            assert_eq!(parent[..36], PARENT[..36], "{key}");
            assert!(parent.ends_with("-00"), "{key}: {parent}");
        }
        // Without a decision of the client, the ratio decides.
        let answer = server.get("a.example", "/own").await;
        assert!(answer.json()["own"].as_str().unwrap().ends_with("-00"));
        // The first spans that come are those of a client that has decided.
        send(server.address(), with_parent("/own", PARENT)).await;
        let (_, message) = collector.next().await;
        assert_eq!(spans(&message).len(), 2);
    });
}

#[test]
fn context_of_a_client_that_may_not_decide_is_left_out() {
    run(async {
        let collector = Collector::start(false, Answers::Accepts).await;
        let server = start(collector.address, upstream().await, "", "");
        let huge = format!("01{}-{}", &PARENT[2..], "x".repeat(4000));
        for parent in [PARENT, &huge, "nonsense", &"9".repeat(4000)] {
            let answer = send(server.address(), with_parent("/own", parent)).await;
            let own = answer.json()["own"].as_str().unwrap().to_owned();
            assert_eq!(own.len(), 55, "{own}");
            assert_ne!(own[..36], PARENT[..36]);
            assert_eq!(answer.json()["state"], serde_json::Value::Null);
        }
    });
}

#[test]
fn wait_for_a_mirror_and_its_start_are_spans() {
    run(async {
        let mut collector = Collector::start(true, Answers::Accepts).await;
        let site = "    autoscale: {min_instances: 0, max_instances: 1}\n";
        let tracing = ", protocol: grpc";
        let server = start(collector.address, upstream().await, tracing, site);
        assert_eq!(server.get("a.example", "/own").await.status, 200);
        let spans = until(
            &mut collector,
            &["GET site", "queue", "mirror start", "guest"],
        )
        .await;
        let (request, queue) = (&spans["GET site"], &spans["queue"]);
        assert_eq!(queue.parent_span_id, request.span_id);
        assert_eq!(spans["mirror start"].parent_span_id, queue.span_id);
        assert!(queue.end_time_unix_nano >= spans["mirror start"].end_time_unix_nano);
        assert!(spans["guest"].start_time_unix_nano >= queue.end_time_unix_nano);
    });
}

#[test]
fn collector_that_is_gone_stops_no_request_and_a_stop_does_not_wait_for_it() {
    let mut server = run(async {
        let gone = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let server = start(gone, upstream().await, ", queue: 64", "");
        let dropped = "stockade_trace_spans_dropped_total{reason=\"queue_full\"}";
        while server.metric(dropped).await == 0.0 {
            assert_eq!(server.get("a.example", "/own").await.status, 200);
        }
        server
    });
    server.logged(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("spans do not reach the collector")
    });
    server.signal(rustix::process::Signal::TERM);
    assert!(server.ended().success());
}

#[test]
fn without_tracing_the_headers_of_a_client_pass_as_they_are() {
    let server = Server::site(SITE, "");
    run(async {
        let answer = send(server.address(), with_parent("/own", PARENT)).await;
        assert_eq!(answer.json()["own"], PARENT);
        assert_eq!(answer.json()["state"], "vendor=1");
    });
}

/// Spans as they come, until there are as many of this name.
async fn until_all(collector: &mut Collector, name: &str, count: usize) -> Vec<Span> {
    let mut all: Vec<Span> = Vec::new();
    while all.iter().filter(|span| span.name == name).count() < count {
        let (_, message) = collector.next().await;
        all.extend(spans(&message).into_iter().cloned());
    }
    all
}

fn of_instance<'a>(all: &'a [Span], instance: &str) -> &'a Span {
    let mut guests = all.iter().filter(|span| span.name == "guest");
    let found = guests.find(|span| attribute(span, "stockade.instance") == instance);
    found.unwrap()
}

fn named<'a>(all: &'a [Span], name: &str) -> &'a Span {
    all.iter().find(|span| span.name == name).unwrap()
}

#[test]
fn call_of_another_site_and_websocket_are_spans() {
    run(async {
        let mut collector = Collector::start(false, Answers::Accepts).await;
        let sockets = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = sockets.local_addr().unwrap();
        tokio::spawn(async move {
            // The first one is accepted, and the second one is not what the client wants.
            let (stream, _) = sockets.accept().await.unwrap();
            let accepted = tokio_tungstenite::accept_async(stream).await.unwrap();
            let (mut stream, _) = sockets.accept().await.unwrap();
            stream
                .write_all(b"HTTP/1.1 404 Not Found\r\n\r\n")
                .await
                .unwrap();
            drop(accepted);
        });
        let tracing = ", parents: everyone";
        let server = start(collector.address, address, tracing, "");

        let answer = send(server.address(), with_parent("/call", PARENT)).await;
        assert_eq!(answer.text(), "hello you");
        let all = until_all(&mut collector, "GET site", 1).await;
        let call = named(&all, "OTHER.greet");
        assert_eq!(call.parent_span_id, of_instance(&all, "site").span_id);
        assert_eq!(of_instance(&all, "other").parent_span_id, call.span_id);

        for (outcome, failed) in [("open", false), ("failed", true)] {
            let path = format!("/socket?to=ws://{address}/secret");
            let answer = send(server.address(), with_parent(&path, PARENT)).await;
            assert_eq!(answer.text(), outcome);
            let all = until_all(&mut collector, "GET site", 1).await;
            let socket = named(&all, "websocket");
            assert_eq!(socket.parent_span_id, of_instance(&all, "site").span_id);
            assert_eq!(attribute(socket, "server.address"), "127.0.0.1");
            assert_eq!(attribute(socket, "server.port"), address.port().to_string());
            assert_eq!(
                socket
                    .status
                    .as_ref()
                    .is_some_and(|status| status.code == 2),
                failed
            );
            assert!(!format!("{socket:?}").contains("secret"));
        }
    });
}

#[test]
fn scheduled_run_is_a_trace_with_all_that_it_asks_for() {
    // A schedule has minutes.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let test = async {
            let mut collector = Collector::start(false, Answers::Accepts).await;
            let upstream = upstream().await;
            let crons = "    crons: [\"* * * * *\"]\n";
            let _server = start(collector.address, upstream, "", crons);
            let all = until_all(&mut collector, "scheduled site", 1).await;
            let root = named(&all, "scheduled site");
            assert!(root.parent_span_id.is_empty());
            assert_eq!(attribute(root, "stockade.cron"), "* * * * *");
            assert!(root.status.as_ref().is_none_or(|status| status.code != 2));
            let guest = of_instance(&all, "site");
            assert_eq!(guest.parent_span_id, root.span_id);
            let call = named(&all, "OTHER.greet");
            assert_eq!(call.parent_span_id, guest.span_id);
            assert_eq!(of_instance(&all, "other").parent_span_id, call.span_id);
            assert_eq!(named(&all, "GET").parent_span_id, guest.span_id);
            assert!(all.iter().all(|span| span.trace_id == root.trace_id));
        };
        tokio::time::timeout(3 * PATIENCE, test).await.unwrap();
    });
}

/// A method that is called asks for something in turn: of an upstream, of its state, of a third instance.
const CALLED: &str = "import { env } from 'cloudflare:workers';
export default { async fetch(request) {
  const { pathname } = new URL(request.url);
  if (pathname === '/stub') return new Response(await (await env.OTHER.make())());
  if (pathname === '/forged') {
    return new Response(await env.OTHER['relay\\u00001']().catch((error) => error.name));
  }
  return new Response(await env.OTHER.relay());
}, async relay() {
  // Others are called meanwhile.
  await new Promise((resolve) => setTimeout(resolve, 20));
  await env.STATE.put('a', 1);
  await env.OTHER.greet('you');
  return (await fetch(env.UPSTREAM)).text();
}, make: () => async () => (await fetch(env.UPSTREAM)).text(), greet: (name) => 'hello ' + name };";

fn start_called(collector: SocketAddr, upstream: SocketAddr) -> Server {
    let port = upstream.port();
    let rules =
        format!("rules: [{{addresses: [127.0.0.1], ports: [{port}]}}], allow_private: [127.0.0.1]");
    let config = format!(
        "{PLAIN}tracing: {{endpoint: \"http://{collector}\", parents: everyone}}
instances:
  third: {{code: ./site.js, urls: [third.example]}}
  other:
    code: ./site.js
    urls: [other.example]
    env: {{UPSTREAM: \"http://127.0.0.1:{port}/\"}}
    state: true
    bindings: {{OTHER: {{instance: third}}}}
    data_guard: {{{rules}}}
  site: {{code: ./site.js, urls: [\"/*\"], bindings: {{OTHER: {{instance: other}}}}}}
"
    );
    Server::start(&config, &[("site.js", CALLED)])
}

#[test]
fn what_a_called_method_asks_for_in_turn_is_a_child_of_its_own_span() {
    run(async {
        let mut collector = Collector::start(false, Answers::Accepts).await;
        let server = start_called(collector.address, upstream().await);
        let server = &server;

        // A method: state, a third instance and the upstream are asked within its span.
        let answer = send(server.address(), with_parent("/", PARENT))
            .await
            .text();
        let all = until_all(&mut collector, "GET site", 1).await;
        let (first, second) = (named(&all, "OTHER.relay"), named(&all, "OTHER.greet"));
        let other = of_instance(&all, "other");
        assert_eq!(first.parent_span_id, of_instance(&all, "site").span_id);
        assert_eq!(other.parent_span_id, first.span_id);
        for name in ["STATE.put", "OTHER.greet", "GET"] {
            assert_eq!(named(&all, name).parent_span_id, other.span_id, "{name}");
        }
        assert_eq!(of_instance(&all, "third").parent_span_id, second.span_id);
        assert!(all.iter().all(|span| span.trace_id == other.trace_id));
        let sent = format!(
            "00-{}-{}-01",
            hex(&other.trace_id),
            hex(&named(&all, "GET").span_id)
        );
        assert_eq!(answer, sent);

        // A function that was passed on.
        let answer = send(server.address(), with_parent("/stub", PARENT))
            .await
            .text();
        let all = until_all(&mut collector, "GET site", 1).await;
        let stub = named(&all, "stub");
        let mut guests = all.iter().filter(|span| span.name == "guest");
        let called = guests
            .find(|span| span.parent_span_id == stub.span_id)
            .unwrap();
        assert_eq!(named(&all, "GET").parent_span_id, called.span_id);
        assert!(
            answer.contains(&hex(&named(&all, "GET").span_id)),
            "{answer}"
        );

        // Calls at the same time are each in the trace of their own client.
        let ids = ["1", "2", "3"].map(|digit| digit.repeat(32));
        let asked = ids.iter().map(|id| async move {
            let parent = format!("00-{id}-00f067aa0ba902b7-01");
            send(server.address(), with_parent("/", &parent))
                .await
                .text()
        });
        let answers = futures_util::future::join_all(asked).await;
        for (answer, id) in answers.iter().zip(&ids) {
            assert!(answer.starts_with(&format!("00-{id}-")), "{answer}");
        }
        until_all(&mut collector, "GET site", 3).await;

        // No caller chooses to which request the work of another guest belongs.
        let answer = send(server.address(), with_parent("/forged", PARENT)).await;
        assert_eq!(answer.text(), "TypeError");
    });
}
