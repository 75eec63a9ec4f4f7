//! Traces of requests: spans that are recorded, and their way to a collector by the OpenTelemetry protocol (OTLP).
//!
//! A [`Tracing`] begins a [`Trace`] for each request. The trace passes with the request through the program; each
//! component that takes time on the request opens a [`Span`] of it. Its ids go on to other programs in the headers
//! `traceparent` and `tracestate` (<https://www.w3.org/TR/trace-context/>).
//!
//! Invariants:
//! 1. A trace that is not sampled records nothing: it has ids and opens no spans.
//! 2. Nobody waits for a collector. At most [`TraceOptions::queue`] spans and a batch, of bounded size, wait for it, further spans are
//!    dropped, and [`TraceCounts`] counts them.
//! 3. What a collector answers is bounded, and decides only whether a batch is sent again.
//!
//! Deliberately absent: metrics and logs; the decision whose `traceparent` is believed.

mod context;
mod current;
mod export;
mod options;
mod recorder;
mod span;
mod tracer;

#[doc(hidden)]
pub use context::parse_context;
pub use context::{TRACEPARENT, TRACESTATE, remove_context};
pub use current::{current, within};
pub use options::{Protocol, TraceError, TraceOptions};
pub use recorder::TraceCounts;
pub use span::{RootSpan, Span, SpanKind, Trace, Value};
pub use tracer::Tracing;
