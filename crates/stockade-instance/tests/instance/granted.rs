//! An isolate that is not a mirror and has grants: what it holds ends with it, and its streams are read as they are asked
//! for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Request;
use http_body_util::BodyExt;
use stockade_capability::{
    CallContext, CallPayload, Capability, HandleCount, HandleLimits, HandleTable, Owner, Reply,
};
use stockade_http::{Body, empty_body};
use stockade_instance::{
    FetchError, GrantedGuest, GrantedServices, InstanceLimits, Takes, set_serving,
};
use stockade_limits::IsolateOptions;
use stockade_protocol::{FromIsolate, GuestError, Payload};
use stockade_supervisor::{End, Event, EventQueue, IsolateHandle, TerminateReason};

use crate::guest::{self, Guest, Received};

/// `open` keeps a handle, `read` reads the stream that it is given, and gives how many bytes it had.
struct Subject(Arc<HandleTable<()>>);

impl Capability for Subject {
    fn call(
        &self,
        context: CallContext,
        method: &str,
        mut arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        if method == "open" {
            let opened = self.0.insert(&context.owner, ());
            return Box::pin(async move { Reply::plain(&opened?) });
        }
        Box::pin(async move {
            let stream = arguments.streams.remove(0);
            let read = stream.collect().await;
            let read = read.map_err(|error| GuestError::new(error.to_string()))?;
            Reply::plain(&read.to_bytes().len())
        })
    }

    fn ended(&self, owner: &Owner) {
        self.0.ended(owner);
    }
}

/// Runs a guest with the grant `A` to its end: how it ended, what of it was not the grants', and the handles that
/// are left.
async fn run(
    begin: impl Fn(&Guest) + Send + Sync + Clone + 'static,
    script: impl Fn(&Guest, Received) + Send + Sync + Clone + 'static,
) -> (End, Vec<String>, usize) {
    let count = HandleCount::default();
    let limits = HandleLimits {
        most: 4,
        idle: Duration::from_secs(60),
        life: Duration::from_secs(60),
    };
    let table = Arc::new(HandleTable::new(limits, count.clone()));
    let subject: Arc<dyn Capability> = Arc::new(Subject(table));
    let supervisor = guest::supervisor(move |guest| {
        begin(guest);
        Some(Box::new(script.clone()))
    });
    let queue = EventQueue::new();
    let handle = supervisor.create(IsolateOptions::default(), &queue).await;
    let handle = handle.unwrap();
    handle.listen();
    let services = GrantedServices::new(HashMap::from([("A".to_owned(), subject)]));
    let granted = GrantedGuest::new(
        "a",
        supervisor.clone(),
        handle.clone(),
        Arc::new(services),
        Takes::Bindings,
        InstanceLimits::default(),
    );
    let mut others = Vec::new();
    loop {
        let (_, events) = queue.events().await;
        for event in events {
            match granted.take(event) {
                Some(Event::Request { method, .. }) => others.push(method),
                Some(Event::Control { name, .. }) => others.push(name),
                _ => {}
            }
            // A guest that was ended from outside is not waited for.
            if let Some(end) = handle.end() {
                drop(granted);
                return (end, others, count.open());
            }
        }
    }
}

const OPEN: &str = r#"{"binding":"A","method":"open","args":[]}"#;

fn end(guest: &Guest) {
    guest.context.terminate(TerminateReason::CpuLimit, "test");
}

fn is(end: &End, expected: TerminateReason) -> bool {
    matches!(end, End::Terminated { reason, .. } if *reason == expected)
}

#[tokio::test]
async fn handles_of_an_isolate_that_is_terminated_are_closed() {
    let (ended, others, open) = run(
        |guest| {
            guest.ask(1, "binding.call", OPEN);
            guest.ask(7, "mine", "1");
            // Of a stream of the isolate's own host.
            guest.control("stream.pull", r#"{"id":0,"n":1}"#);
        },
        |guest, received| {
            if let Received::Answer(1, Ok(_)) = received {
                end(guest);
            }
        },
    )
    .await;
    assert!(is(&ended, TerminateReason::CpuLimit), "{ended:?}");
    assert_eq!(others, ["mine", "stream.pull"]);
    assert_eq!(open, 0);
}

/// Has the host read a stream of the guest.
fn give_stream(guest: &Guest) {
    guest.send(FromIsolate::Request {
        id: 1,
        method: "binding.call".to_owned(),
        data: Payload {
            json: r#"{"binding":"A","method":"read","args":["\u0000s5"]}"#.to_owned(),
            bytes: Vec::new(),
            marked: true,
        },
    });
}

#[tokio::test]
async fn stream_of_an_isolate_is_read_as_it_is_asked_for() {
    let (ended, _, _) = run(give_stream, |guest, received| {
        if received.control("stream.pull").is_some() {
            guest.chunk(5, b"12345");
            guest.end_stream(5);
        }
        if let Received::Answer(1, result) = received {
            assert_eq!(result.unwrap().json, "5");
            end(guest);
        }
    })
    .await;
    assert!(is(&ended, TerminateReason::CpuLimit), "{ended:?}");
}

#[tokio::test]
async fn handles_are_closed_when_the_isolate_ends_though_nobody_takes_its_events() {
    let count = HandleCount::default();
    let limits = HandleLimits {
        most: 4,
        idle: Duration::from_secs(60),
        life: Duration::from_secs(60),
    };
    let table = Arc::new(HandleTable::new(limits, count.clone()));
    let subject: Arc<dyn Capability> = Arc::new(Subject(table));
    let supervisor = guest::supervisor(|guest| {
        guest.ask(1, "binding.call", OPEN);
        Some(Box::new(|_: &Guest, _: Received| {}))
    });
    let queue = EventQueue::new();
    let handle = supervisor.create(IsolateOptions::default(), &queue).await;
    let handle = handle.unwrap();
    handle.listen();
    let granted = GrantedGuest::new(
        "a",
        supervisor.clone(),
        handle.clone(),
        Arc::new(GrantedServices::new(HashMap::from([(
            "A".to_owned(),
            subject,
        )]))),
        Takes::Bindings,
        InstanceLimits::default(),
    );
    let mut is_asked = false;
    while !is_asked {
        for event in queue.events().await.1 {
            is_asked |= granted.take(event).is_none();
        }
    }
    while count.open() == 0 {
        tokio::task::yield_now().await;
    }
    // From here on its host is busy with something else.
    handle.terminate(TerminateReason::CpuLimit, "test");
    while count.open() > 0 {
        tokio::task::yield_now().await;
    }
    drop(granted);
}

/// A guest that answers by `script`, as one that serves or not, with room for one request.
async fn answering(
    serves: bool,
    script: impl Fn(&Guest, Received) + Send + Sync + Clone + 'static,
) -> (GrantedGuest, IsolateHandle, Arc<EventQueue>) {
    let supervisor = guest::supervisor(move |_| Some(Box::new(script.clone())));
    let queue = EventQueue::new();
    let mut options = IsolateOptions::default();
    if serves {
        set_serving(&mut options);
    }
    let handle = supervisor.create(options, &queue).await.unwrap();
    handle.listen();
    let limits = InstanceLimits {
        concurrency: 1,
        ..InstanceLimits::default()
    };
    let granted = GrantedGuest::new(
        "a",
        supervisor.clone(),
        handle.clone(),
        Arc::new(GrantedServices::new(HashMap::new())),
        Takes::Bindings,
        limits,
    );
    (granted, handle, queue)
}

/// Takes a guest's events for as long as the test goes on.
async fn take(granted: &GrantedGuest, queue: &EventQueue) {
    loop {
        let (_, events) = queue.events().await;
        for event in events {
            granted.take(event);
        }
    }
}

fn request(path: &str) -> Request<Body> {
    let mut request = Request::new(empty_body());
    *request.uri_mut() = format!("http://guest{path}").parse().unwrap();
    request
}

#[tokio::test]
async fn guest_that_serves_answers_until_it_ends() {
    let (granted, handle, queue) = answering(true, |guest, received| {
        if let Received::Request(request) = received
            && request.path() == "/hello"
        {
            guest.respond(request.id, 200, "hello");
        }
    })
    .await;
    let handler = granted.fetch_handler().unwrap();
    let asks = async {
        let hello = handler.fetch(request("/hello")).await.unwrap();
        let body = hello.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "hello");
        // One that was given up keeps its place until the guest is done with it.
        drop(tokio::time::timeout(Duration::ZERO, handler.fetch(request("/never"))).await);
        let busy = handler.fetch(request("/hello")).await;
        assert!(matches!(busy, Err(FetchError::Busy { .. })), "{busy:?}");
        handle.destroy();
        handle.until_end().await;
        let ended = handler.fetch(request("/hello")).await;
        assert!(matches!(ended, Err(FetchError::Ended { .. })), "{ended:?}");
    };
    tokio::select! {
        () = asks => {}
        () = take(&granted, &queue) => {}
    }
}

#[tokio::test]
async fn request_is_answered_when_its_guest_ends_though_nobody_takes_its_events() {
    let (granted, _handle, _queue) = answering(true, |guest, received| {
        if let Received::Request(_) = received {
            end(guest);
        }
    })
    .await;
    let handler = granted.fetch_handler().unwrap();
    let ended = handler.fetch(request("/")).await;
    assert!(matches!(ended, Err(FetchError::Ended { .. })), "{ended:?}");
}

#[tokio::test]
async fn guest_that_forges_answers_is_terminated_if_it_serves_and_else_not_listened_to() {
    let forge = |guest: &Guest, received: Received| {
        if received.control("begin").is_some() {
            guest.respond(77, 200, "to nobody");
        }
    };
    let (granted, handle, queue) = answering(true, forge).await;
    handle
        .control("begin", Payload::from_json("0".to_owned()))
        .unwrap();
    tokio::select! {
        () = handle.until_end() => {}
        () = take(&granted, &queue) => {}
    }
    let ended = handle.end().unwrap();
    assert!(is(&ended, TerminateReason::PolicyViolation), "{ended:?}");

    let (granted, handle, queue) = answering(false, forge).await;
    assert!(granted.fetch_handler().is_none());
    handle
        .control("begin", Payload::from_json("0".to_owned()))
        .unwrap();
    let (_, events) = queue.events().await;
    let others: Vec<_> = events
        .into_iter()
        .filter_map(|event| granted.take(event))
        .collect();
    assert!(matches!(&others[..], [Event::Control { name, .. }] if name == "http.response"));
    assert!(handle.end().is_none());
}
