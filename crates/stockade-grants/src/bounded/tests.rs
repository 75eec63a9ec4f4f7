//! Bounds of calls: what floods, is too large or takes too long, each with a harmless control.

use std::num::NonZeroU32;
use std::path::Path;

use futures_util::FutureExt;
use http_body_util::BodyExt;
use stockade_broker::{Broker, BrokerOptions};
use stockade_capability::{HandleCount, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::*;
use crate::approval::Approver;

const KIND: Kind = Kind {
    name: "dns",
    methods: &["echo", "bomb", "stream", "wait", "work", "refuse"],
    every_call: false,
};

/// Does what its methods say.
#[derive(Default)]
struct Subject {
    entered: Arc<Notify>,
    release: Arc<Notify>,
}

impl Capability for Subject {
    fn call(
        &self,
        context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let method = method.to_owned();
        let (entered, release) = (Arc::clone(&self.entered), Arc::clone(&self.release));
        Box::pin(async move {
            match method.as_str() {
                "echo" => {
                    context.notes.add("echoed", 1);
                    for stream in arguments.streams {
                        let collected = stream.collect().await;
                        collected.map_err(|error| GuestError::new(error.to_string()))?;
                    }
                    Reply::plain(&1)
                }
                "bomb" => Reply::plain(&"x".repeat(2000)),
                "stream" => {
                    let mut reply = Reply::default();
                    let mark = reply.stream(stockade_http::full_body(vec![0; 600]));
                    reply.finish(&mark)
                }
                "wait" => {
                    entered.notify_one();
                    release.notified().await;
                    Reply::plain(&2)
                }
                "work" => {
                    // Work of its own, which nobody waits for.
                    let place = context.place;
                    tokio::spawn(async move {
                        entered.notify_one();
                        release.notified().await;
                        drop(place);
                        entered.notify_one();
                    });
                    std::future::pending().await
                }
                _ => {
                    context.notes.refused("policy");
                    Err(ErrorName::Type.error("no"))
                }
            }
        })
    }

    /// A connection on which everything comes back.
    fn open(
        &self,
        _context: CallContext,
        method: &str,
        _arguments: CallPayload,
    ) -> BoxFuture<'static, Result<Pipe, GuestError>> {
        let is_refused = method == "refuse";
        Box::pin(async move {
            if is_refused {
                return Err(ErrorName::Type.error("no"));
            }
            let (guest, ours) = tokio::io::duplex(1000);
            tokio::spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(ours);
                tokio::io::copy(&mut reader, &mut writer).await
            });
            Ok(Pipe::new(guest))
        })
    }
}

/// The records of calls, as words.
#[derive(Default)]
struct Records(Mutex<Vec<String>>);

impl CallAudit for Records {
    fn called(&self, record: &CallRecord<'_>) {
        let reason = record.reason.unwrap_or("");
        let (sent, received) = (record.sent, record.received);
        let words = format!(
            "{} {} {reason} {sent} {received} {:?}",
            record.method,
            record.outcome.as_str(),
            record.notes
        );
        self.0.lock().push(words);
    }
}

struct Bench {
    bounded: Arc<Bounded>,
    subject: Arc<Subject>,
    records: Arc<Records>,
    spent: Arc<Mutex<Spent>>,
    ground: Ground,
}

fn limits(change: impl FnOnce(&mut CallLimits)) -> CallLimits {
    let json = r#"{"A": {"dns": {"names": ["example.com"]}}}"#;
    let grants = stockade_config::parse_grants(json, Path::new("/")).unwrap();
    let mut limits = crate::of(&grants["A"]).limits().clone();
    change(&mut limits);
    limits
}

impl Bench {
    fn new(change: impl FnOnce(&mut CallLimits)) -> Self {
        Self::after(Arc::default(), change)
    }

    fn after(spent: Arc<Mutex<Spent>>, change: impl FnOnce(&mut CallLimits)) -> Self {
        Self::with(spent, None, change)
    }

    fn approved_by(approver: impl Approver) -> Self {
        let approval = Approval {
            name: "guard".into(),
            approver: Arc::new(approver),
            timeout: Duration::from_millis(50),
        };
        Self::with(Arc::default(), Some(approval), |_| ())
    }

    fn with(
        spent: Arc<Mutex<Spent>>,
        approval: Option<Approval>,
        change: impl FnOnce(&mut CallLimits),
    ) -> Self {
        let broker = Broker::new(BrokerOptions::default()).unwrap();
        let ground = Ground {
            instance: "shop".into(),
            binding: "A".into(),
            network: broker.network(),
            ways: Default::default(),
            broker,
            handles: HandleCount::default(),
            data: None,
        };
        let (subject, records) = (Arc::new(Subject::default()), Arc::new(Records::default()));
        let limits = limits(change);
        let bounds = Bounds {
            kind: &KIND,
            limits: &limits,
            spent: Arc::clone(&spent),
            audit: Arc::clone(&records) as Arc<dyn CallAudit>,
            approval,
        };
        let inner = Arc::clone(&subject) as Arc<dyn Capability>;
        let bounded = Arc::new(Bounded::new(inner, &ground, bounds));
        Self {
            bounded,
            subject,
            records,
            spent,
            ground,
        }
    }

    fn start(
        &self,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        self.bounded.call(Self::context(), method, arguments)
    }

    fn context() -> CallContext {
        CallContext {
            owner: Owner {
                instance: "shop".into(),
                start: 1,
                mirror: 1,
            },
            notes: CallNotes::default(),
            place: CallPlace::default(),
        }
    }

    async fn open(&self, method: &str) -> Result<Pipe, String> {
        let arguments = CallPayload::default();
        let opened = self.bounded.open(Self::context(), method, arguments);
        opened.await.map_err(|error| error.name)
    }

    /// The name of the error of a call with `size` bytes of arguments, or `ok`.
    async fn call(&self, method: &str, size: usize) -> String {
        let json = format!("[{}]", " ".repeat(size.saturating_sub(2)));
        let payload = stockade_protocol::Payload::from_json(json);
        match self.start(method, payload.into()).await {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.name,
        }
    }

    fn last(&self) -> String {
        self.records.0.lock().last().cloned().unwrap_or_default()
    }
}

#[tokio::test]
async fn call_within_its_bounds_is_made_and_recorded() {
    let bench = Bench::new(|_| ());
    assert_eq!(bench.call("echo", 10).await, "ok");
    assert_eq!(bench.last(), r#"echo ok  10 1 [("echoed", Number(1))]"#);
    assert_eq!(bench.call("refuse", 2).await, "TypeError");
    assert_eq!(bench.last(), "refuse refused policy 2 0 []");
    let long = "m".repeat(10_000);
    assert_eq!(bench.call(&long, 2).await, "TypeError");
    assert_eq!(bench.last(), "unknown refused method 0 0 []");
}

#[tokio::test]
async fn flood_of_calls_is_refused_beyond_the_rate() {
    let bench = Bench::new(|limits| limits.rate = NonZeroU32::new(3).unwrap());
    let mut busy = 0;
    for _ in 0..10 {
        busy += usize::from(bench.call("echo", 2).await == "BusyError");
    }
    assert_eq!(busy, 7);
    assert_eq!(bench.last(), "echo refused rate 0 0 []");
}

#[tokio::test]
async fn arguments_and_results_above_their_bounds_are_refused() {
    let bench = Bench::new(|limits| (limits.max_request, limits.max_result) = (100, 1000));
    assert_eq!(bench.call("echo", 100).await, "ok");
    assert_eq!(bench.call("echo", 101).await, "RangeError");
    assert_eq!(bench.last(), "echo refused request 0 0 []");
    assert_eq!(bench.call("bomb", 2).await, "RangeError");
    assert_eq!(bench.last(), "bomb refused result 2 0 []");
}

#[tokio::test]
async fn streams_count_against_the_bounds_of_a_call() {
    let bench = Bench::new(|limits| (limits.max_request, limits.max_result) = (100, 610));
    for (size, expected) in [(90, true), (110, false)] {
        let arguments = CallPayload {
            payload: stockade_protocol::Payload::from_json("[]".to_owned()),
            streams: vec![stockade_http::full_body(vec![0; size])],
            targets: Vec::new(),
        };
        assert_eq!(
            bench.start("echo", arguments).await.is_ok(),
            expected,
            "{size}"
        );
    }
    // The mark of the stream has ten bytes.
    for (limit, expected) in [(610, true), (609, false)] {
        let bench = Bench::new(|limits| limits.max_result = limit);
        let mut value = bench.start("stream", CallPayload::default()).await.unwrap();
        assert_eq!(bench.records.0.lock().len(), 0, "its stream is open");
        let read = value.streams.remove(0).collect().await;
        assert_eq!(read.is_ok(), expected, "{limit}");
        drop((read, value));
        assert_eq!(bench.records.0.lock().len(), 1);
    }
}

#[tokio::test]
async fn calls_beyond_the_places_and_the_queue_are_refused() {
    let bench = Bench::new(|limits| (limits.concurrent, limits.queue) = (1, 1));
    let entered = Arc::clone(&bench.subject.entered);
    let first = tokio::spawn(bench.start("wait", CallPayload::default()));
    entered.notified().await;
    let mut second = bench.start("wait", CallPayload::default());
    assert!((&mut second).now_or_never().is_none());
    assert_eq!(bench.call("echo", 2).await, "BusyError");
    assert_eq!(bench.last(), "echo refused concurrency 2 0 []");
    bench.subject.release.notify_one();
    assert!(first.await.unwrap().is_ok());
    let second = tokio::spawn(second);
    entered.notified().await;
    bench.subject.release.notify_one();
    assert!(second.await.unwrap().is_ok());
}

#[tokio::test]
async fn call_that_takes_too_long_is_dropped() {
    let bench = Bench::new(|limits| limits.timeout = Duration::from_millis(20));
    assert_eq!(bench.call("wait", 2).await, "TimeoutError");
    assert_eq!(bench.last(), "wait timed_out  2 0 []");
    assert_eq!(bench.call("echo", 2).await, "ok", "its place is free");
}

#[tokio::test]
async fn call_that_is_dropped_is_recorded_and_gives_its_place_back() {
    let bench = Bench::new(|limits| (limits.concurrent, limits.queue) = (1, 0));
    let mut call = bench.start("wait", CallPayload::default());
    assert!((&mut call).now_or_never().is_none());
    assert_eq!(bench.call("echo", 2).await, "BusyError");
    drop(call);
    assert_eq!(bench.last(), "wait cancelled  0 0 []");
    assert_eq!(bench.call("echo", 2).await, "ok");
}

#[tokio::test]
async fn cancelled_call_keeps_its_place_until_its_work_has_ended() {
    let bench = Bench::new(|limits| (limits.concurrent, limits.queue) = (1, 0));
    let entered = Arc::clone(&bench.subject.entered);
    for _ in 0..3 {
        let mut call = bench.start("work", CallPayload::default());
        assert!((&mut call).now_or_never().is_none());
        entered.notified().await;
        drop(call);
        let records = bench.records.0.lock().len();
        assert_eq!(bench.call("echo", 2).await, "BusyError", "the work goes on");
        assert_eq!(bench.records.0.lock().len(), records + 1);
        bench.subject.release.notify_one();
        entered.notified().await;
        assert_eq!(bench.last(), "work cancelled  0 0 []");
        assert_eq!(bench.call("echo", 2).await, "ok");
    }
}

#[test]
fn kinds_that_work_on_a_thread_give_it_the_place_of_the_call() {
    let folder = tempfile::tempdir().unwrap();
    let grants = serde_json::json!({
        "KEY": { "key": {
            "secret": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
            "encoding": "base64", "algorithm": "HS256", "usages": ["sign"],
        } },
        "ME": { "nostr": { "key": "01".repeat(32), "permissions": ["sign_event:1"] } },
        "FILES": { "files": { "path": folder.path() } },
    });
    let grants = stockade_config::parse_grants(&grants.to_string(), Path::new("/")).unwrap();
    // One thread for work that blocks, which is busy until the test says otherwise.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let bench = Bench::new(|_| ());
        for (name, method, argument) in [
            ("KEY", "sign", r#"[{"data":"\u0000b0"}]"#),
            (
                "ME",
                "signEvent",
                r#"[{"kind":1,"createdAt":1,"tags":[],"content":""}]"#,
            ),
            ("FILES", "stat", r#"[{"path":"/a"}]"#),
        ] {
            let capability = crate::of(&grants[name]).open(&bench.ground).unwrap();
            let (go, wait) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || wait.recv());
            let (here, gone) = tokio::sync::oneshot::channel::<()>();
            let context = CallContext {
                place: CallPlace::new(Arc::new(here)),
                ..Bench::context()
            };
            let payload = stockade_protocol::Payload {
                json: argument.to_owned(),
                bytes: vec![vec![1]],
                marked: true,
            };
            let mut call = capability.call(context, method, payload.into());
            assert!((&mut call).now_or_never().is_none(), "{name}");
            drop(call);
            let mut gone = Box::pin(gone);
            assert!((&mut gone).now_or_never().is_none(), "{name} has work");
            go.send(()).unwrap();
            busy.await.unwrap().unwrap();
            assert!(gone.await.is_err(), "{name}: it is dropped with the work");
        }
    });
}

#[tokio::test]
async fn budget_that_is_spent_stays_spent_when_the_grant_changes() {
    let bench = Bench::new(|limits| limits.total_requests = Some(2));
    assert_eq!(bench.call("echo", 2).await, "ok");
    let changed = Bench::after(bench.spent, |limits| {
        (limits.total_requests, limits.total_bytes) = (Some(2), Some(1000));
    });
    assert_eq!(changed.call("echo", 2).await, "ok");
    assert_eq!(changed.call("echo", 2).await, "QuotaExceededError");
    assert_eq!(changed.last(), "echo refused budget 0 0 []");
    let bytes = Bench::new(|limits| limits.total_bytes = Some(50));
    assert_eq!(
        bytes.call("echo", 50).await,
        "QuotaExceededError",
        "the result is beyond it"
    );
    assert_eq!(bytes.call("echo", 2).await, "QuotaExceededError");
}

#[tokio::test]
async fn connection_is_a_call_until_it_is_closed() {
    let bench = Bench::new(|limits| (limits.concurrent, limits.queue) = (1, 0));
    let mut pipe = bench.open("echo").await.unwrap();
    pipe.stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    pipe.stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    assert_eq!(bench.open("echo").await.unwrap_err(), "BusyError");
    assert_eq!(bench.records.0.lock().len(), 1, "the first one is open");
    drop(pipe);
    assert_eq!(bench.last(), "echo ok  5 5 []");
    drop(bench.open("echo").await.unwrap());
    assert_eq!(bench.open("refuse").await.unwrap_err(), "TypeError");
    assert_eq!(bench.last(), "refuse error  0 0 []");
    assert_eq!(bench.open("other").await.unwrap_err(), "TypeError");
    assert_eq!(bench.last(), "unknown refused method 0 0 []");
}

#[tokio::test]
async fn connections_count_against_the_rate_and_their_bytes_against_the_budget() {
    let bench = Bench::new(|limits| limits.rate = NonZeroU32::new(2).unwrap());
    for expected in [true, true, false] {
        assert_eq!(bench.open("echo").await.is_ok(), expected);
    }
    let bench = Bench::new(|limits| limits.total_bytes = Some(20));
    let mut pipe = bench.open("echo").await.unwrap();
    pipe.stream.write_all(&[7; 10]).await.unwrap();
    pipe.stream.read_exact(&mut [0; 10]).await.unwrap();
    let error = pipe.stream.write_all(&[7]).await.unwrap_err();
    let error = error.get_ref().unwrap().downcast_ref::<GuestError>();
    assert_eq!(error.unwrap().name, "QuotaExceededError");
    assert_eq!(bench.open("echo").await.unwrap_err(), "QuotaExceededError");
}

/// Answers what the arguments say: `[true]`, `[false]`, `["fail"]`, and nothing at all for anything else.
struct Asks;

impl Approver for Asks {
    fn approve(&self, asked: Asked) -> BoxFuture<'static, Result<bool, String>> {
        assert_eq!((&*asked.instance, &*asked.binding), ("shop", "A"));
        assert_eq!(
            (asked.kind, asked.method, asked.more),
            ("dns", "echo", false)
        );
        Box::pin(async move {
            match asked.arguments.as_str() {
                "[true]" => Ok(true),
                "[false]" => Ok(false),
                "[\"fail\"]" => Err("it broke".to_owned()),
                _ => std::future::pending().await,
            }
        })
    }
}

#[tokio::test]
async fn call_is_made_only_if_its_approver_says_so_in_time() {
    let bench = Bench::approved_by(Asks);
    for (arguments, approved, notes) in [
        (
            "[true]",
            true,
            r#"[("approved", Text("yes")), ("echoed", Number(1))]"#,
        ),
        ("[false]", false, r#"[("approved", Text("no"))]"#),
        (
            "[\"fail\"]",
            false,
            r#"[("approver", Text("it broke")), ("approved", Text("failed"))]"#,
        ),
        ("[1]", false, r#"[("approved", Text("timed out"))]"#),
    ] {
        let payload = stockade_protocol::Payload::from_json(arguments.to_owned());
        let called = bench.start("echo", payload.into()).await;
        assert_eq!(called.is_ok(), approved, "{arguments}");
        let last = bench.last();
        assert!(last.ends_with(notes), "{last}");
        assert_eq!(last.contains("refused approval"), !approved, "{last}");
    }
}

#[test]
fn arguments_that_an_approver_gets_are_bounded() {
    let json = format!("[\"{}\"]", "é".repeat(10_000));
    let payload = stockade_protocol::Payload::from_json(json);
    let (shown, more) = Asked::shown(&payload.into()).unwrap();
    assert!(more && shown.starts_with("[\"é") && shown.len() <= 4 << 10);
    let streams = vec![stockade_http::empty_body()];
    let payload = stockade_protocol::Payload::from_json("[1]".to_owned());
    let (shown, more) = Asked::shown(&CallPayload {
        payload,
        streams,
        targets: Vec::new(),
    })
    .unwrap();
    assert_eq!((shown.as_str(), more), ("[1]", true));
}
