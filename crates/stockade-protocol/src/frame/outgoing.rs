//! Messages on their way out.
//!
//! Texts that a worker makes itself, errors and terminations, are cut to their bounds here, so that no
//! error is so long that it cannot be sent.

use super::head::{
    DataHead, ErrorHead, FindingHead, FromHead, Outgoing, PositionHead, ProblemHead, RelatedHead,
    ResultHead, TerminationHead, TextsHead, ToHead,
};
use super::incoming::{MAX_CONSOLE_TEXT, MAX_ERROR_TEXT};
use super::{FromWorker, ToWorker};
use crate::bounds::{MAX_REASON_BYTES, MAX_RELATED_ERRORS};
use crate::message::{ConsoleLevel, FromIsolate, GuestError, ToIsolate};
use crate::payload::Payload;
use crate::probe::Finding;

/// No limit: what the host sends is checked as a whole.
const WHOLE: usize = usize::MAX;

fn put<T: serde::Serialize>(head: &T, out: Vec<u8>) -> Vec<u8> {
    // Writing a header into memory does not fail; if it did, readers would refuse the empty one.
    postcard::to_extend(head, out).unwrap_or_default()
}

fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

fn parts(data: &Payload) -> Vec<u8> {
    let length = |part: &Vec<u8>| u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes();
    data.bytes.iter().flat_map(length).collect()
}

fn data_head<'a>(data: &Payload, parts: &'a [u8]) -> DataHead<'a> {
    DataHead {
        json: data.json.len(),
        marked: data.marked,
        parts,
    }
}

fn data_bulk<'a>(data: &'a Payload, visit: &mut dyn FnMut(&'a [u8])) {
    visit(data.json.as_bytes());
    for part in &data.bytes {
        visit(part);
    }
}

fn error_head(error: &GuestError, max: usize) -> ErrorHead {
    let related = error.related.iter().take(MAX_RELATED_ERRORS);
    ErrorHead {
        texts: texts_head(error, max),
        related: related
            .map(|related| RelatedHead {
                depth: related.depth,
                member: related.member,
                texts: texts_head(&related.error, max),
            })
            .collect(),
    }
}

fn texts_head(error: &GuestError, max: usize) -> TextsHead {
    let size = |text: &String| cut(text, max).len();
    TextsHead {
        name: size(&error.name),
        message: size(&error.message),
        code: error.code.as_ref().map(size),
        stack: error.stack.as_ref().map(size),
        position: error.position.as_ref().map(|position| PositionHead {
            source: size(&position.source),
            line: position.line,
            column: position.column,
        }),
    }
}

fn error_bulk<'a>(error: &'a GuestError, max: usize, visit: &mut dyn FnMut(&'a [u8])) {
    texts_bulk(error, max, visit);
    for related in error.related.iter().take(MAX_RELATED_ERRORS) {
        texts_bulk(&related.error, max, visit);
    }
}

fn texts_bulk<'a>(error: &'a GuestError, max: usize, visit: &mut dyn FnMut(&'a [u8])) {
    let source = error.position.as_ref().map(|position| &position.source);
    let texts = [
        Some(&error.name),
        Some(&error.message),
        error.code.as_ref(),
        error.stack.as_ref(),
        source,
    ];
    for text in texts.into_iter().flatten() {
        visit(cut(text, max).as_bytes());
    }
}

fn result_head<'a>(
    result: &Result<Payload, GuestError>,
    parts: &'a [u8],
    max: usize,
) -> ResultHead<'a> {
    match result {
        Ok(data) => ResultHead::Value(data_head(data, parts)),
        Err(error) => ResultHead::Error(error_head(error, max)),
    }
}

fn result_bulk<'a>(
    result: &'a Result<Payload, GuestError>,
    max: usize,
    visit: &mut dyn FnMut(&'a [u8]),
) {
    match result {
        Ok(data) => data_bulk(data, visit),
        Err(error) => error_bulk(error, max, visit),
    }
}

impl Outgoing for ToWorker {
    fn head(&self, out: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Start { isolate, options } => put(
                &ToHead::Start {
                    isolate: *isolate,
                    options: options.len(),
                },
                out,
            ),
            Self::Message { isolate, message } => to_isolate_head(*isolate, message, out),
            Self::End { isolate } => put(&ToHead::End { isolate: *isolate }, out),
            Self::Debug { isolate, id, text } => put(
                &ToHead::Debug {
                    isolate: *isolate,
                    id: *id,
                    text: text.len(),
                },
                out,
            ),
            Self::Probe { isolate, id, order } => put(
                &ToHead::Probe {
                    isolate: *isolate,
                    id: *id,
                    order: *order,
                },
                out,
            ),
        }
    }

    fn bulk<'a>(&'a self, visit: &mut dyn FnMut(&'a [u8])) {
        match self {
            Self::Start { options, .. } => visit(options.as_bytes()),
            Self::Message { message, .. } => match message {
                ToIsolate::Execute { code } | ToIsolate::Evaluate { code, .. } => {
                    visit(code.as_bytes());
                }
                ToIsolate::Ready { .. } => {}
                ToIsolate::Call { args: data, .. }
                | ToIsolate::Event { data, .. }
                | ToIsolate::Control { data, .. } => data_bulk(data, visit),
                ToIsolate::Answer { result, .. } => result_bulk(result, WHOLE, visit),
            },
            Self::Debug { text, .. } => visit(text.as_bytes()),
            Self::End { .. } | Self::Probe { .. } => {}
        }
    }
}

fn to_isolate_head(isolate: u32, message: &ToIsolate, out: Vec<u8>) -> Vec<u8> {
    match message {
        ToIsolate::Execute { code } => put(
            &ToHead::Execute {
                isolate,
                code: code.len(),
            },
            out,
        ),
        ToIsolate::Evaluate { id, code } => put(
            &ToHead::Evaluate {
                isolate,
                id: *id,
                code: code.len(),
            },
            out,
        ),
        ToIsolate::Ready { id } => put(&ToHead::Ready { isolate, id: *id }, out),
        ToIsolate::Call { id, name, args } => put(
            &ToHead::Call {
                isolate,
                id: *id,
                name,
                args: data_head(args, &parts(args)),
            },
            out,
        ),
        ToIsolate::Event { name, data } => put(
            &ToHead::Event {
                isolate,
                name,
                data: data_head(data, &parts(data)),
            },
            out,
        ),
        ToIsolate::Answer { id, result } => {
            let parts = result.as_ref().map(parts).unwrap_or_default();
            put(
                &ToHead::Answer {
                    isolate,
                    id: *id,
                    result: result_head(result, &parts, WHOLE),
                },
                out,
            )
        }
        ToIsolate::Control { name, data } => put(
            &ToHead::Control {
                isolate,
                name,
                data: data_head(data, &parts(data)),
            },
            out,
        ),
    }
}

impl Outgoing for FromWorker {
    fn head(&self, out: Vec<u8>) -> Vec<u8> {
        let head = match self {
            Self::Message { isolate, message } => return from_isolate_head(*isolate, message, out),
            Self::Ready => FromHead::Ready,
            Self::Started { isolate, problem } => FromHead::Started {
                isolate: *isolate,
                problem: problem.as_ref().map(|problem| ProblemHead {
                    what: cut(&problem.what, MAX_ERROR_TEXT).len(),
                    checked: cut(&problem.checked, MAX_ERROR_TEXT).len(),
                    fix: cut(&problem.fix, MAX_ERROR_TEXT).len(),
                }),
            },
            Self::Taken {
                isolate,
                messages,
                bytes,
            } => FromHead::Taken {
                isolate: *isolate,
                messages: *messages,
                bytes: *bytes,
            },
            Self::State {
                isolate,
                idle,
                seen,
                cpu_ns,
                memory,
            } => FromHead::State {
                isolate: *isolate,
                idle: *idle,
                seen: *seen,
                cpu_ns: *cpu_ns,
                memory: *memory,
            },
            Self::Ended {
                isolate,
                termination,
            } => FromHead::Ended {
                isolate: *isolate,
                termination: TerminationHead {
                    reason: cut(&termination.reason, MAX_REASON_BYTES).len(),
                    detail: cut(&termination.detail, MAX_ERROR_TEXT).len(),
                    cpu_ns: termination.cpu_ns,
                    cpu_total_ns: termination.cpu_total_ns,
                    wall_ns: termination.wall_ns,
                    memory: termination.memory,
                },
            },
            Self::Left { isolate } => FromHead::Left { isolate: *isolate },
            Self::Found {
                isolate,
                id,
                finding,
            } => FromHead::Found {
                isolate: *isolate,
                id: *id,
                finding: match finding {
                    Finding::Piece(bytes) => FindingHead::Piece(bytes.len()),
                    Finding::Message => FindingHead::Message,
                    Finding::Done => FindingHead::Done,
                    Finding::Failed(why) => FindingHead::Failed(cut(why, MAX_ERROR_TEXT).len()),
                },
            },
        };
        put(&head, out)
    }

    fn bulk<'a>(&'a self, visit: &mut dyn FnMut(&'a [u8])) {
        match self {
            Self::Started {
                problem: Some(problem),
                ..
            } => {
                for text in [&problem.what, &problem.checked, &problem.fix] {
                    visit(cut(text, MAX_ERROR_TEXT).as_bytes());
                }
            }
            Self::Message { message, .. } => match message {
                FromIsolate::Event { data, .. }
                | FromIsolate::Request { data, .. }
                | FromIsolate::Control { data, .. } => data_bulk(data, visit),
                FromIsolate::Reply { result, .. } => result_bulk(result, MAX_ERROR_TEXT, visit),
                FromIsolate::Console { text, .. } => visit(cut(text, MAX_CONSOLE_TEXT).as_bytes()),
                FromIsolate::Uncaught(error) => error_bulk(error, MAX_ERROR_TEXT, visit),
            },
            Self::Ended { termination, .. } => {
                visit(cut(&termination.reason, MAX_REASON_BYTES).as_bytes());
                visit(cut(&termination.detail, MAX_ERROR_TEXT).as_bytes());
            }
            Self::Found { finding, .. } => match finding {
                Finding::Piece(bytes) => visit(bytes),
                Finding::Message | Finding::Done => {}
                Finding::Failed(why) => visit(cut(why, MAX_ERROR_TEXT).as_bytes()),
            },
            Self::Ready
            | Self::Started { problem: None, .. }
            | Self::Taken { .. }
            | Self::State { .. }
            | Self::Left { .. } => {}
        }
    }
}

fn from_isolate_head(isolate: u32, message: &FromIsolate, out: Vec<u8>) -> Vec<u8> {
    match message {
        FromIsolate::Event { name, data } => put(
            &FromHead::Event {
                isolate,
                name,
                data: data_head(data, &parts(data)),
            },
            out,
        ),
        FromIsolate::Request { id, method, data } => put(
            &FromHead::Request {
                isolate,
                id: *id,
                method,
                data: data_head(data, &parts(data)),
            },
            out,
        ),
        FromIsolate::Reply { id, result } => {
            let parts = result.as_ref().map(parts).unwrap_or_default();
            put(
                &FromHead::Reply {
                    isolate,
                    id: *id,
                    result: result_head(result, &parts, MAX_ERROR_TEXT),
                },
                out,
            )
        }
        FromIsolate::Console { level, text } => put(
            &FromHead::Console {
                isolate,
                level: level_number(*level),
                text: cut(text, MAX_CONSOLE_TEXT).len(),
            },
            out,
        ),
        FromIsolate::Uncaught(error) => put(
            &FromHead::Uncaught {
                isolate,
                error: error_head(error, MAX_ERROR_TEXT),
            },
            out,
        ),
        FromIsolate::Control { name, data } => put(
            &FromHead::Control {
                isolate,
                name,
                data: data_head(data, &parts(data)),
            },
            out,
        ),
    }
}

fn level_number(level: ConsoleLevel) -> u8 {
    match level {
        ConsoleLevel::Debug => 0,
        ConsoleLevel::Info => 1,
        ConsoleLevel::Warn => 2,
        ConsoleLevel::Error => 3,
    }
}

/// A control message of an isolate with one binary part, all of it borrowed: [`FromIsolate::Control`] for its reader.
#[derive(Debug, Clone, Copy)]
pub struct BorrowedControl<'a> {
    /// The isolate.
    pub isolate: u32,
    /// What it is about.
    pub name: &'a str,
    /// Its data, with a mark for the part.
    pub json: &'a str,
    /// The part.
    pub bytes: &'a [u8],
}

impl Outgoing for BorrowedControl<'_> {
    fn head(&self, out: Vec<u8>) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let data = DataHead {
            json: self.json.len(),
            marked: true,
            parts: &length.to_le_bytes(),
        };
        put(
            &FromHead::Control {
                isolate: self.isolate,
                name: self.name,
                data,
            },
            out,
        )
    }

    fn bulk<'a>(&'a self, visit: &mut dyn FnMut(&'a [u8])) {
        visit(self.json.as_bytes());
        visit(self.bytes);
    }
}
