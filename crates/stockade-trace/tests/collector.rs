//! Spans reach collectors over both protocols; collectors that are down, slow or hostile cost a bounded amount.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod receiver;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method};
use prost::Message as _;
use stockade_trace::{
    Protocol, RootSpan, SpanKind, TRACEPARENT, TRACESTATE, TraceCounts, TraceError, TraceOptions,
    Tracing,
};
use tokio::net::TcpListener;

use receiver::{Answers, Collector, spans};

/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

fn options(address: SocketAddr, protocol: Protocol) -> TraceOptions {
    let path = match protocol {
        Protocol::HttpProtobuf => "/v1/traces",
        Protocol::Grpc => "",
    };
    TraceOptions {
        endpoint: format!("http://{address}{path}").parse().unwrap(),
        protocol,
        headers: vec![("x-token".parse().unwrap(), "secret".parse().unwrap())],
        ca: None,
        ratio: 1.0,
        resource: vec![("service.name".to_owned(), "shop".to_owned())],
        timeout: Duration::from_secs(2),
        retry_after: Duration::from_millis(1),
        queue: 64,
    }
}

fn request(name: &str) -> RootSpan {
    RootSpan {
        name: name.to_owned(),
        kind: SpanKind::Server,
        start: SystemTime::now(),
        duration: Duration::from_millis(5),
        failed: true,
        attributes: vec![("http.response.status_code", 500.into())],
    }
}

async fn spans_reach_a_collector(protocol: Protocol, path: &str) {
    let mut collector = Collector::start(protocol == Protocol::Grpc, Answers::Accepts).await;
    let counts = Arc::new(TraceCounts::default());
    let tracing =
        Tracing::start(&options(collector.address, protocol), Arc::clone(&counts)).unwrap();
    let mut headers = HeaderMap::new();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    headers.insert(TRACEPARENT, HeaderValue::from_static(parent));
    headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
    let trace = tracing.begin(Some(&headers));
    let mut child = trace.span("guest", SpanKind::Internal).unwrap();
    child.set("text", "é".repeat(1000));
    for _ in 0..100 {
        child.set("one of many", 1);
    }
    child.fail("it threw");
    let grandchild = child.trace().span("fetch", SpanKind::Client).unwrap();
    grandchild.trace().write(&mut headers);
    drop(grandchild);
    drop(child);
    trace.span("nothing", SpanKind::Internal).unwrap().discard();
    trace.end(request("GET shop"));
    tracing.flush(PATIENCE).await;
    let (head, message) = collector.next().await;

    assert_eq!((head.method, head.uri.path()), (Method::POST, path));
    assert_eq!(head.headers["x-token"], "secret");
    let resource = message.resource_spans[0].resource.as_ref().unwrap();
    assert_eq!(resource.attributes[0].key, "service.name");
    let spans = spans(&message);
    let named = |name: &str| *spans.iter().find(|span| span.name == name).unwrap();
    let (server, guest, fetch) = (named("GET shop"), named("guest"), named("fetch"));
    assert_eq!(spans.len(), 3);
    assert!(spans.iter().all(|span| span.trace_id == server.trace_id));
    assert!(spans.iter().all(|span| span.trace_state == "vendor=1"));
    assert_eq!(
        server.parent_span_id,
        0x00f0_67aa_0ba9_02b7_u64.to_be_bytes()
    );
    assert_eq!(guest.parent_span_id, server.span_id);
    assert_eq!(fetch.parent_span_id, guest.span_id);
    assert_eq!((server.kind, guest.kind, fetch.kind), (2, 1, 3));
    assert_eq!(
        server.end_time_unix_nano - server.start_time_unix_nano,
        5_000_000
    );
    assert_eq!(server.status.as_ref().unwrap().code, 2);
    assert_eq!(guest.status.as_ref().unwrap().message, "it threw");
    // Bounded, whatever is put in.
    assert_eq!(
        (guest.attributes.len(), guest.dropped_attributes_count),
        (32, 69)
    );
    assert!(guest.attributes.iter().all(|one| one.encoded_len() < 300));
    // What goes on to other programs are the ids of the innermost span.
    let sent = headers[TRACEPARENT].to_str().unwrap();
    let id = fetch.span_id.iter().map(|byte| format!("{byte:02x}"));
    assert_eq!(
        sent,
        format!("{}{}-01", &parent[..36], id.collect::<String>())
    );
    assert_eq!(counts.exported(), 3);
}

#[tokio::test]
async fn spans_reach_a_collector_over_http() {
    spans_reach_a_collector(Protocol::HttpProtobuf, "/v1/traces").await;
}

#[tokio::test]
async fn spans_reach_a_collector_over_grpc() {
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    spans_reach_a_collector(Protocol::Grpc, path).await;
}

#[tokio::test]
async fn sampling_follows_the_ratio_and_the_sender() {
    let collector = Collector::start(false, Answers::Accepts).await;
    let counts = Arc::new(TraceCounts::default());
    for (ratio, least, most) in [(0.0, 0, 0), (0.5, 300, 700), (1.0, 1000, 1000)] {
        let options = TraceOptions {
            ratio,
            ..options(collector.address, Protocol::HttpProtobuf)
        };
        let tracing = Tracing::start(&options, Arc::clone(&counts)).unwrap();
        let begun = (0..1000).map(|_| tracing.begin(None));
        let recorded = begun.filter(|trace| trace.is_recorded()).count();
        assert!((least..=most).contains(&recorded), "{ratio}: {recorded}");
        for (flags, recorded) in [("00", false), ("01", true)] {
            let mut headers = HeaderMap::new();
            let parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
            headers.insert(TRACEPARENT, HeaderValue::try_from(parent).unwrap());
            let trace = tracing.begin(Some(&headers));
            assert_eq!(trace.is_recorded(), recorded);
            assert_eq!(trace.span("child", SpanKind::Internal).is_some(), recorded);
            assert!(trace.traceparent().ends_with(flags));
            assert!(
                trace
                    .traceparent()
                    .contains("4bf92f3577b34da6a3ce929d0e0e4736")
            );
        }
    }
}

/// Ends this many requests, and waits until all of them are counted.
async fn all_are_counted(options: &TraceOptions, spans: u64) -> Arc<TraceCounts> {
    let counts = Arc::new(TraceCounts::default());
    let tracing = Tracing::start(options, Arc::clone(&counts)).unwrap();
    for _ in 0..spans {
        tracing.begin(None).end(request("GET shop"));
    }
    tracing.flush(PATIENCE).await;
    let all = counts.exported() + counts.overflowed() + counts.failed() + counts.rejected();
    assert_eq!(all, spans, "{counts:?}");
    counts
}

#[tokio::test]
async fn collector_that_is_down_costs_spans_and_nothing_else() {
    for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
        // A port at which nobody listens.
        let address = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let counts = all_are_counted(&options(address, protocol), 100).await;
        // Further spans than the queue holds are not waited for.
        assert_eq!(
            (counts.exported(), counts.overflowed(), counts.failed()),
            (0, 36, 64)
        );
    }
}

#[tokio::test]
async fn collector_that_fails_once_gets_the_spans_again() {
    for (protocol, code) in [(Protocol::HttpProtobuf, 503), (Protocol::Grpc, 14)] {
        let mut collector =
            Collector::start(protocol == Protocol::Grpc, Answers::FirstFails(code)).await;
        let counts = all_are_counted(&options(collector.address, protocol), 3).await;
        let (first, second) = (collector.next().await.1, collector.next().await.1);
        assert_eq!(first, second);
        assert_eq!((counts.exported(), counts.failed()), (3, 0));
    }
}

#[tokio::test]
async fn collector_that_refuses_for_good_is_asked_once() {
    for (protocol, code) in [(Protocol::HttpProtobuf, 400), (Protocol::Grpc, 3)] {
        let mut collector =
            Collector::start(protocol == Protocol::Grpc, Answers::Status(code)).await;
        let counts = all_are_counted(&options(collector.address, protocol), 3).await;
        assert_eq!((counts.exported(), counts.failed()), (0, 3));
        collector.next().await;
        assert!(collector.received.try_recv().is_err());
    }
}

#[tokio::test]
async fn rejected_spans_are_counted_whatever_number_the_collector_says() {
    for (said, rejected) in [(2, 2), (i64::MAX, 3), (-1, 0)] {
        let collector = Collector::start(false, Answers::RejectsSome(said)).await;
        let counts = all_are_counted(&options(collector.address, Protocol::HttpProtobuf), 3).await;
        assert_eq!(
            (counts.exported(), counts.rejected()),
            (3 - rejected, rejected)
        );
    }
}

#[tokio::test]
async fn answer_without_an_end_is_not_read() {
    for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
        let collector = Collector::start(protocol == Protocol::Grpc, Answers::Floods).await;
        let counts = all_are_counted(&options(collector.address, protocol), 3).await;
        assert_eq!((counts.exported(), counts.failed()), (0, 3));
    }
}

#[tokio::test]
async fn collector_that_never_answers_stops_nobody() {
    let mut collector = Collector::start(false, Answers::Never).await;
    let counts = Arc::new(TraceCounts::default());
    let options = options(collector.address, Protocol::HttpProtobuf);
    let tracing = Tracing::start(&options, Arc::clone(&counts)).unwrap();
    // Once the collector has a batch, the queue takes its number of spans, and no further one.
    tracing.begin(None).end(request("first"));
    collector.next().await;
    for _ in 0..1000 {
        tracing.begin(None).end(request("GET shop"));
    }
    assert_eq!(counts.overflowed(), 1000 - 64);
}

#[tokio::test]
async fn endpoint_that_cannot_be_used_is_refused() {
    let counts = Arc::new(TraceCounts::default());
    let address = "127.0.0.1:4318".parse().unwrap();
    for endpoint in ["/v1/traces", "ftp://localhost/", "localhost:4317"] {
        let options = TraceOptions {
            endpoint: endpoint.parse().unwrap(),
            ..options(address, Protocol::HttpProtobuf)
        };
        let started = Tracing::start(&options, Arc::clone(&counts));
        assert!(
            matches!(started, Err(TraceError::Endpoint(_))),
            "{endpoint}"
        );
    }
    let options = TraceOptions {
        ca: Some("/dev/null".into()),
        ..options(address, Protocol::Grpc)
    };
    assert!(matches!(
        Tracing::start(&options, counts),
        Err(TraceError::Roots { .. })
    ));
}
