//! Traces, and the spans of them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;
use opentelemetry::trace::{SpanContext, SpanId, Status, TraceFlags};
use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::trace::{IdGenerator, SpanData, SpanEvents, SpanLinks};

pub use opentelemetry::Value;
pub use opentelemetry::trace::SpanKind;

use crate::context;
use crate::recorder::Recorder;

/// Bytes of one text in a span; the rest is cut.
const MOST_TEXT: usize = 256;

/// Attributes of one span; further ones are counted.
const MOST_ATTRIBUTES: usize = 32;

/// A span that may have children: the ids that children and other programs continue from. Cheap to clone.
#[derive(Clone)]
pub struct Trace {
    context: SpanContext,
    /// The span that this one is a child of; invalid at the root.
    parent: SpanId,
    /// The parent is another program's.
    remote: bool,
    /// None where the trace is not sampled.
    recorder: Option<Arc<Recorder>>,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.traceparent())
    }
}

/// All of the span that a trace begins with here, when it is over.
pub struct RootSpan {
    /// Of few different values, such as the method and the name of the route.
    pub name: String,
    /// [`SpanKind::Server`] for a request.
    pub kind: SpanKind,
    /// When it began.
    pub start: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// The server failed.
    pub failed: bool,
    /// Names and values.
    pub attributes: Vec<(&'static str, Value)>,
}

impl Trace {
    /// Begins the span of a request.
    pub(crate) fn begin(recorder: &Arc<Recorder>, parent: Option<SpanContext>) -> Self {
        let trace_id = match &parent {
            Some(parent) => parent.trace_id(),
            None => recorder.ids.new_trace_id(),
        };
        let sampled = match &parent {
            Some(parent) => parent.is_sampled(),
            None => recorder.samples(trace_id),
        };
        let flags = TraceFlags::default().with_sampled(sampled);
        let state = parent.as_ref().map(|parent| parent.trace_state().clone());
        let span_id = recorder.ids.new_span_id();
        Self {
            context: SpanContext::new(trace_id, span_id, flags, false, state.unwrap_or_default()),
            parent: parent
                .as_ref()
                .map_or(SpanId::INVALID, SpanContext::span_id),
            remote: parent.is_some(),
            recorder: sampled.then(|| Arc::clone(recorder)),
        }
    }

    /// Whether spans of it are recorded.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.recorder.is_some()
    }

    /// The trace's id: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> impl fmt::Display + use<> {
        self.context.trace_id()
    }

    /// The value of `traceparent`.
    #[must_use]
    pub fn traceparent(&self) -> String {
        context::parent(&self.context)
    }

    /// The value of `tracestate`, where there is one.
    #[must_use]
    pub fn tracestate(&self) -> Option<String> {
        context::state(&self.context)
    }

    /// Writes `traceparent` and `tracestate` in place of those that are there.
    pub fn write(&self, headers: &mut HeaderMap) {
        context::write(&self.context, headers);
    }

    /// Opens a child that begins now. None where nothing is recorded.
    #[must_use]
    pub fn span(&self, name: impl Into<Cow<'static, str>>, kind: SpanKind) -> Option<Span> {
        let recorder = self.recorder.as_ref()?;
        let parent = &self.context;
        let context = SpanContext::new(
            parent.trace_id(),
            recorder.ids.new_span_id(),
            parent.trace_flags(),
            false,
            parent.trace_state().clone(),
        );
        Some(Span {
            trace: Self {
                context,
                parent: parent.span_id(),
                remote: false,
                recorder: Some(Arc::clone(recorder)),
            },
            name: name.into(),
            kind,
            start: SystemTime::now(),
            began: Instant::now(),
            ended: None,
            attributes: Vec::new(),
            left_out: 0,
            status: Status::Unset,
        })
    }

    /// Records the span that [`Tracing::begin`](crate::Tracing::begin) began.
    pub fn end(&self, root: RootSpan) {
        let Some(recorder) = &self.recorder else {
            return;
        };
        let mut attributes = Vec::with_capacity(root.attributes.len());
        let mut left_out = 0;
        for (key, value) in root.attributes {
            push(&mut attributes, &mut left_out, key, value);
        }
        recorder.add(self.data(Finished {
            name: root.name.into(),
            kind: root.kind,
            start: root.start,
            duration: root.duration,
            attributes,
            left_out,
            status: if root.failed {
                Status::error("")
            } else {
                Status::Unset
            },
        }));
    }

    fn data(&self, finished: Finished) -> SpanData {
        SpanData {
            span_context: self.context.clone(),
            parent_span_id: self.parent,
            parent_span_is_remote: self.remote,
            span_kind: finished.kind,
            name: finished.name,
            start_time: finished.start,
            end_time: finished.start + finished.duration,
            attributes: finished.attributes,
            dropped_attributes_count: finished.left_out,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: finished.status,
            instrumentation_scope: self
                .recorder
                .as_ref()
                .map(|recorder| recorder.scope.clone())
                .unwrap_or_default(),
        }
    }
}

/// A span that is over.
struct Finished {
    name: Cow<'static, str>,
    kind: SpanKind,
    start: SystemTime,
    duration: Duration,
    attributes: Vec<KeyValue>,
    left_out: u32,
    status: Status,
}

fn push(attributes: &mut Vec<KeyValue>, left_out: &mut u32, key: &'static str, value: Value) {
    if attributes.len() == MOST_ATTRIBUTES {
        *left_out += 1;
        return;
    }
    let value = match value {
        Value::String(text) => Value::String(cut(text.as_str()).to_owned().into()),
        other => other,
    };
    attributes.push(KeyValue::new(Key::from_static_str(key), value));
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MOST_TEXT)]
}

/// A span that is open. It is recorded when it is dropped.
pub struct Span {
    trace: Trace,
    name: Cow<'static, str>,
    kind: SpanKind,
    start: SystemTime,
    began: Instant,
    ended: Option<Duration>,
    attributes: Vec<KeyValue>,
    left_out: u32,
    status: Status,
}

impl Span {
    /// What children of this span continue from.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Adds an attribute. Texts are cut to 256 bytes.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        push(&mut self.attributes, &mut self.left_out, key, value.into());
    }

    /// What it is about has failed.
    pub fn fail(&mut self, why: &str) {
        self.status = Status::error(cut(why).to_owned());
    }

    /// Moves it to when it really was.
    pub fn happened(&mut self, start: SystemTime, duration: Duration) {
        self.start = start;
        self.ended = Some(duration);
    }

    /// Records nothing.
    pub fn discard(mut self) {
        self.trace.recorder = None;
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(recorder) = self.trace.recorder.clone() else {
            return;
        };
        recorder.add(self.trace.data(Finished {
            name: std::mem::take(&mut self.name),
            kind: self.kind.clone(),
            start: self.start,
            duration: self.ended.unwrap_or_else(|| self.began.elapsed()),
            attributes: std::mem::take(&mut self.attributes),
            left_out: self.left_out,
            status: std::mem::replace(&mut self.status, Status::Unset),
        }));
    }
}
