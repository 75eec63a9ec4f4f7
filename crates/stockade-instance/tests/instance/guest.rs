//! A guest that follows a script: Rust code in the place of an isolate.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use serde_json::Value;
use stockade_limits::{Isolation, SandboxOptions};
use stockade_protocol::{FromIsolate, GuestError, Payload, RequestId, ToIsolate};
use stockade_supervisor::{GuestContext, IsolationBackend, NewIsolate, StartError, Supervisor};

/// What a script may do.
pub(crate) struct Guest {
    pub(crate) context: GuestContext,
    /// Counts the guests of one backend, from 0.
    pub(crate) number: u32,
}

/// `http.request`, read.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Body,
    pub(crate) cf: Value,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Bytes(Vec<u8>),
    Stream(u64),
}

impl Request {
    pub(crate) fn path(&self) -> &str {
        let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
        rest.find('/').map_or("/", |at| &rest[at..])
    }
}

/// What a guest receives: the protocol's messages, decoded.
#[derive(Debug)]
pub(crate) enum Received {
    Request(Request),
    Control(String, Payload),
    Event(String, Payload),
    Answer(RequestId, Result<Payload, GuestError>),
    Call(u64, String, Payload),
}

impl Received {
    /// The JSON of a control message of this name.
    pub(crate) fn control(&self, name: &str) -> Option<Value> {
        match self {
            Self::Control(received, data) if received == name => {
                serde_json::from_str(&data.json).ok()
            }
            _ => None,
        }
    }
}

impl Guest {
    pub(crate) fn send(&self, message: FromIsolate) {
        let _ = self.context.send(message);
    }

    pub(crate) fn control(&self, name: &str, json: impl ToString) {
        self.control_with(name, Payload::from_json(json.to_string()));
    }

    pub(crate) fn control_with(&self, name: &str, data: Payload) {
        self.send(FromIsolate::Control {
            name: name.to_owned(),
            data,
        });
    }

    /// A message whose marks stand for these bytes and for streams.
    pub(crate) fn control_marked(&self, name: &str, json: impl ToString, bytes: Vec<Vec<u8>>) {
        let json = json.to_string();
        self.control_with(
            name,
            Payload {
                json,
                bytes,
                marked: true,
            },
        );
    }

    pub(crate) fn ready(&self) {
        self.control(
            "serve.ready",
            r#"{"handlers":["fetch","scheduled"],"exports":["default"]}"#,
        );
    }

    /// A response of text.
    pub(crate) fn respond(&self, id: u64, status: u16, text: &str) {
        let body = Value::from(text);
        self.control(
            "http.response",
            format!("[{id},{status},[\"x-a\",\"1\"],{body},null,false]"),
        );
    }

    /// A response whose body is stream `stream`.
    pub(crate) fn respond_stream(&self, id: u64, headers: &str, stream: u64) {
        self.control_marked(
            "http.response",
            format!("[{id},200,{headers},\"\\u0000s{stream}\",null,false]"),
            Vec::new(),
        );
    }

    pub(crate) fn chunk(&self, stream: u64, bytes: &[u8]) {
        self.control_marked(
            "stream.chunk",
            format!("{{\"id\":{stream},\"chunk\":\"\\u0000b0\"}}"),
            vec![bytes.to_vec()],
        );
    }

    pub(crate) fn end_stream(&self, stream: u64) {
        self.control("stream.end", format!("{{\"id\":{stream}}}"));
    }

    pub(crate) fn ask(&self, id: RequestId, method: &str, json: impl ToString) {
        self.send(FromIsolate::Request {
            id,
            method: method.to_owned(),
            data: Payload::from_json(json.to_string()),
        });
    }

    fn next(&self) -> Option<Received> {
        loop {
            let (message, size) = self.context.try_recv()?;
            self.context.done(size);
            return Some(match message {
                ToIsolate::Control { name, data } if name == "http.request" => {
                    Received::Request(request(&data))
                }
                ToIsolate::Control { name, data } => Received::Control(name, data),
                ToIsolate::Event { name, data } => Received::Event(name, data),
                ToIsolate::Answer { id, result } => Received::Answer(id, result),
                ToIsolate::Call { id, name, args } => Received::Call(id, name, args),
                ToIsolate::Execute { .. }
                | ToIsolate::Evaluate { .. }
                | ToIsolate::Ready { .. } => continue,
            });
        }
    }
}

/// Parses `http.request` as the guest's runtime does.
fn request(data: &Payload) -> Request {
    let list: Vec<Value> = serde_json::from_str(&data.json).expect("http.request is JSON");
    let text = |index: usize| list[index].as_str().unwrap_or_default().to_owned();
    let flat = list[3].as_array().expect("headers");
    let headers = flat.chunks(2).map(|pair| {
        let text = |index: usize| pair[index].as_str().unwrap_or_default().to_owned();
        (text(0), text(1))
    });
    Request {
        id: list[0].as_u64().expect("an id"),
        method: text(1),
        url: text(2),
        headers: headers.collect(),
        body: body(&list[4], data),
        cf: list[5].clone(),
    }
}

/// What a mark in `value` stands for.
pub(crate) fn body(value: &Value, data: &Payload) -> Body {
    let Some(text) = value.as_str() else {
        return Body::None;
    };
    match text.strip_prefix('\0').filter(|_| data.marked) {
        Some(mark) if mark.starts_with('b') => {
            let index: usize = mark[1..].parse().expect("a part");
            Body::Bytes(data.bytes[index].clone())
        }
        Some(mark) => Body::Stream(mark[1..].parse().expect("a stream")),
        None => Body::Bytes(text.as_bytes().to_vec()),
    }
}

type Script = Box<dyn FnMut(&Guest, Received) + Send>;

struct Scripted<F> {
    make: F,
    guests: AtomicU32,
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl<F: Fn(&Guest) -> Option<Script> + Send + Sync + Clone + 'static> IsolationBackend
    for Scripted<F>
{
    fn start(&self, isolate: NewIsolate) -> Result<(), StartError> {
        let number = self.guests.fetch_add(1, Ordering::SeqCst);
        let make = self.make.clone();
        std::thread::spawn(move || {
            let guest = Guest {
                context: isolate.into_guest(),
                number,
            };
            guest.context.started(Ok(()));
            guest.context.begin();
            let script = make(&guest);
            guest.context.end();
            let Some(mut script) = script else {
                return;
            };
            let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
            let mut cx = Context::from_waker(&waker);
            while !guest.context.is_ending() {
                while let Some(received) = guest.next() {
                    guest.context.begin();
                    script(&guest, received);
                    guest.context.end();
                }
                match guest.context.poll_ready(&mut cx) {
                    Poll::Ready(()) => {}
                    Poll::Pending => std::thread::park(),
                }
            }
            guest.context.report();
        });
        Ok(())
    }
}

/// Isolates whose guests follow scripts: `make` is called for each and gives what it does with what it
/// receives; with `None` it fails at its start.
pub(crate) fn supervisor(
    make: impl Fn(&Guest) -> Option<Script> + Send + Sync + Clone + 'static,
) -> Supervisor {
    let backend: Arc<dyn IsolationBackend> = Arc::new(Scripted {
        make,
        guests: AtomicU32::new(0),
    });
    Supervisor::new(SandboxOptions::default(), [(Isolation::Thread, backend)])
}

/// As [`supervisor`]; each guest is ready at once and does `script` with each request.
pub(crate) fn serving(
    script: impl Fn(&Guest, Request) + Send + Sync + Clone + 'static,
) -> Supervisor {
    scripted(move |guest, received| {
        if let Received::Request(request) = received {
            script(guest, request);
        }
    })
}

/// As [`supervisor`]; each guest is ready at once and calls `script` with each message.
pub(crate) fn scripted(
    script: impl Fn(&Guest, Received) + Send + Sync + Clone + 'static,
) -> Supervisor {
    supervisor(move |guest| {
        guest.ready();
        Some(Box::new(script.clone()))
    })
}
