//! A guest that serves, and what a test sends to it and receives from it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::{Map, Value, json};
use stockade_isolate::ThreadBackend;
use stockade_limits::{ConsoleMode, IsolateOptions, Isolation, SandboxOptions};
use stockade_protocol::{GuestError, Payload};
use stockade_supervisor::{Event, EventQueue, IsolateHandle, IsolationBackend, Supervisor};

/// What a test does.
pub(crate) type Work = Pin<Box<dyn Future<Output = Result<(), Failed>>>>;

/// Nothing takes as long as this.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs a test on an event loop of its own.
pub(crate) fn run(work: Work) -> Result<(), Failed> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?
        .block_on(work)
}

/// A guest, and the events it has sent that no test has asked for yet.
pub(crate) struct Guest {
    pub(crate) handle: IsolateHandle,
    queue: Arc<EventQueue>,
    _supervisor: Supervisor,
    events: VecDeque<Event>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.handle.destroy();
    }
}

/// An answer of the guest: `http.response`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) id: u64,
    pub(crate) status: u64,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Content,
    pub(crate) socket: Option<u64>,
    pub(crate) pending: bool,
}

/// The body of an answer.
#[derive(Debug, Default, PartialEq)]
pub(crate) enum Content {
    #[default]
    None,
    Bytes(Vec<u8>),
    Stream(u64),
    /// One of the host's own, given back.
    Returned(u64),
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        match &self.body {
            Content::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => format!("{other:?}"),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// One event of the guest.
#[derive(Debug)]
pub(crate) enum Said {
    Control(String, Payload),
    Request(u64, String, Payload),
    Uncaught(GuestError),
    Console(String),
}

impl Guest {
    /// A guest with this main module, once it has said that it is ready.
    pub(crate) async fn start(code: &str) -> Result<Self, Failed> {
        Self::start_with(code, json!({})).await
    }

    /// The same with further keys of `env`.
    pub(crate) async fn start_with(code: &str, env: Value) -> Result<Self, Failed> {
        let mut guest = Self::create(&[("main.ts", code)], env).await?;
        let (name, data) = guest.control().await?;
        if name != "serve.ready" {
            return Err(format!("{name}: {}", data.json).into());
        }
        Ok(guest)
    }

    /// A guest with this main module and this many bytes of memory, once it has said that it is ready.
    pub(crate) async fn start_within(code: &str, memory: u64) -> Result<Self, Failed> {
        let within = |options: &mut IsolateOptions| options.limits.memory = Some(memory);
        let mut guest = Self::create_with(&[("main.ts", code)], json!({}), within).await?;
        guest.expect("serve.ready").await?;
        Ok(guest)
    }

    /// A guest with these modules.
    pub(crate) async fn create(modules: &[(&str, &str)], env: Value) -> Result<Self, Failed> {
        Self::create_with(modules, env, |_| ()).await
    }

    async fn create_with(
        modules: &[(&str, &str)],
        env: Value,
        change: impl FnOnce(&mut IsolateOptions),
    ) -> Result<Self, Failed> {
        let backend: Arc<dyn IsolationBackend> = Arc::new(ThreadBackend::new());
        let supervisor = Supervisor::new(SandboxOptions::default(), [(Isolation::Thread, backend)]);
        let mut options = IsolateOptions {
            isolation: Isolation::Thread,
            console: ConsoleMode::Event,
            env: env.as_object().cloned().unwrap_or_else(Map::new),
            ..IsolateOptions::default()
        };
        options.env.insert("\0serve".to_owned(), Value::Bool(true));
        for (name, code) in modules {
            options
                .modules
                .insert((*name).to_owned(), (*code).to_owned());
        }
        change(&mut options);
        let queue = EventQueue::new();
        let handle = supervisor.create(options, &queue).await?;
        handle.listen();
        Ok(Self {
            handle,
            queue,
            _supervisor: supervisor,
            events: VecDeque::new(),
        })
    }

    /// What it says next.
    pub(crate) async fn next(&mut self) -> Result<Said, Failed> {
        loop {
            if let Some(event) = self.events.pop_front() {
                match event {
                    Event::Control { name, data } => return Ok(Said::Control(name, data)),
                    Event::Request { id, method, data } => {
                        return Ok(Said::Request(id, method, data));
                    }
                    Event::Uncaught(error) => return Ok(Said::Uncaught(error)),
                    Event::Console { text, .. } => return Ok(Said::Console(text)),
                    Event::Message { name, .. } => return Err(format!("event {name}").into()),
                    Event::Terminated { detail, .. } => {
                        return Err(format!("it was ended: {detail}").into());
                    }
                    Event::Destroyed(reason) => return Err(format!("it ended: {reason:?}").into()),
                }
            }
            let (_, events) = tokio::time::timeout(DEADLINE, self.queue.events())
                .await
                .map_err(|_| "it said nothing")?;
            self.events.extend(events);
        }
    }

    /// The next control message; anything else is an error.
    pub(crate) async fn control(&mut self) -> Result<(String, Payload), Failed> {
        match self.next().await? {
            Said::Control(name, data) => Ok((name, data)),
            other => Err(format!("{other:?}").into()),
        }
    }

    /// The next control message must have this name.
    pub(crate) async fn expect(&mut self, name: &str) -> Result<Payload, Failed> {
        let (said, data) = self.control().await?;
        if said == name {
            Ok(data)
        } else {
            Err(format!("{said} {} instead of {name}", data.json).into())
        }
    }

    /// The next thing must be a request of this method. Gives its data without marks, and its bytes.
    pub(crate) async fn asked(
        &mut self,
        wanted: &str,
    ) -> Result<(u64, Value, Vec<Vec<u8>>), Failed> {
        match self.next().await? {
            Said::Request(id, method, data) if method == wanted => {
                Ok((id, serde_json::from_str(&data.json)?, data.bytes))
            }
            other => Err(format!("{other:?} instead of {wanted}").into()),
        }
    }

    pub(crate) fn answer(&self, id: u64, value: &Value) -> Result<(), Failed> {
        Ok(self.handle.answer(id, Ok(Payload::new(value)?))?)
    }

    /// Marked data: `"\0b0"` in it is `bytes`.
    pub(crate) fn answer_marked(
        &self,
        id: u64,
        value: &Value,
        bytes: Vec<Vec<u8>>,
    ) -> Result<(), Failed> {
        Ok(self.handle.answer(id, Ok(marked(value, bytes)?))?)
    }

    pub(crate) fn send_control(&self, name: &str, value: &Value) -> Result<(), Failed> {
        Ok(self.handle.control(name, Payload::new(value)?)?)
    }

    pub(crate) fn send_control_marked(
        &self,
        name: &str,
        value: &Value,
        bytes: Vec<Vec<u8>>,
    ) -> Result<(), Failed> {
        Ok(self.handle.control(name, marked(value, bytes)?)?)
    }

    /// Sends a request without a body.
    pub(crate) fn get(&self, id: u64, path: &str) -> Result<(), Failed> {
        let url = format!("https://site.example{path}");
        self.send_control("http.request", &json!([id, "GET", url, [], null, null]))
    }

    /// Sends a request with text in its body.
    pub(crate) fn post(&self, id: u64, path: &str, body: &[u8]) -> Result<(), Failed> {
        let url = format!("https://site.example{path}");
        let headers = ["content-type", "text/plain", "x-twice", "a", "x-twice", "b"];
        let request = json!([id, "POST", url, headers, "\0b0", null]);
        self.send_control_marked("http.request", &request, vec![body.to_vec()])
    }

    /// The next control message must be an answer.
    pub(crate) async fn response(&mut self) -> Result<Answer, Failed> {
        let data = self.expect("http.response").await?;
        read_answer(&data)
    }

    /// Sends a request and gives the answer.
    pub(crate) async fn fetch(&mut self, path: &str) -> Result<Answer, Failed> {
        self.get(7, path)?;
        self.response().await
    }

    /// The next control message must be a failure: name and message.
    pub(crate) async fn failure(&mut self) -> Result<(u64, String, String, String), Failed> {
        let data = self.expect("http.failed").await?;
        Ok(data.read()?)
    }

    /// Reads one chunk of a stream of the guest.
    pub(crate) async fn chunk(&mut self, stream: u64) -> Result<Option<Vec<u8>>, Failed> {
        let (name, data) = self.control().await?;
        let value: Value = serde_json::from_str(&data.json)?;
        if value["id"] != stream {
            return Err(format!("{name} {value}").into());
        }
        match name.as_str() {
            "stream.chunk" => Ok(data.bytes.into_iter().next()),
            "stream.end" => Ok(None),
            _ => Err(format!("{name} {value}").into()),
        }
    }
}

pub(crate) fn marked(value: &Value, bytes: Vec<Vec<u8>>) -> Result<Payload, Failed> {
    Ok(Payload {
        bytes,
        marked: true,
        ..Payload::new(value)?
    })
}

fn read_answer(data: &Payload) -> Result<Answer, Failed> {
    type Parts = (u64, u64, Vec<String>, Option<String>, Option<u64>, bool);
    let (id, status, flat, body, socket, pending): Parts = serde_json::from_str(&data.json)?;
    let headers = flat
        .chunks(2)
        .map(|pair| (pair[0].clone(), pair[1].clone()));
    let body = match body.as_deref() {
        None => Content::None,
        Some("\0b0") => Content::Bytes(data.bytes[0].clone()),
        Some(mark) => match (mark.strip_prefix("\0s"), mark.strip_prefix("\0h")) {
            (Some(stream), _) => Content::Stream(stream.parse()?),
            (_, Some(stream)) => Content::Returned(stream.parse()?),
            _ => Content::Bytes(mark.as_bytes().to_vec()),
        },
    };
    Ok(Answer {
        id,
        status,
        headers: headers.collect(),
        body,
        socket,
        pending,
    })
}

/// Fails unless both are the same.
#[macro_export]
macro_rules! same {
    ($left:expr, $right:expr) => {
        match (&$left, &$right) {
            (left, right) if left == right => {}
            (left, right) => {
                return Err(format!("{}:{}: {left:?} is not {right:?}", file!(), line!()).into());
            }
        }
    };
}

/// Fails unless the text holds the other.
#[macro_export]
macro_rules! holds {
    ($text:expr, $part:expr) => {
        match (&$text, &$part) {
            (text, part) if text.contains(*part) => {}
            (text, part) => {
                return Err(format!("{}:{}: {text:?} lacks {part:?}", file!(), line!()).into());
            }
        }
    };
}

/// A case of the table: its function's name, and the function.
#[macro_export]
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[$crate::Case] = &[
            $((stringify!($name), || Box::pin($name()))),*
        ];
    };
}
