//! Messages on their way in: which lengths are legal, and what is made of them.

use super::decode::Bulk;
use super::head::{
    DataHead, ErrorHead, FindingHead, FromHead, Incoming, Piece, ResultHead, TextsHead, ToHead,
    check_name,
};
use super::{FrameError, FromWorker, StartFailure, Termination, ToWorker};
use crate::bounds::{
    MAX_CONSOLE_BYTES, MAX_DEBUG_BYTES, MAX_ERROR_BYTES, MAX_FINDING_BYTES, MAX_MESSAGE_BYTES,
    MAX_OPTIONS_BYTES, MAX_REASON_BYTES,
};
use crate::message::{ConsoleLevel, FromIsolate, GuestError, Position, Related, ToIsolate};
use crate::payload::Payload;
use crate::probe::Finding;

/// What a sender that keeps to a bound may add to show the cut.
const CUT: usize = '…'.len_utf8();

pub(super) const MAX_ERROR_TEXT: usize = MAX_ERROR_BYTES + CUT;
pub(super) const MAX_CONSOLE_TEXT: usize = MAX_CONSOLE_BYTES + CUT;

type Visit<'a> = &'a mut dyn FnMut(Piece) -> Result<(), FrameError>;

impl Incoming for ToWorker {
    type Head<'a> = ToHead<'a>;

    fn pieces(head: &ToHead<'_>, visit: Visit<'_>) -> Result<usize, FrameError> {
        let limit = MAX_MESSAGE_BYTES;
        match head {
            ToHead::Start { options, .. } => {
                let limit = MAX_OPTIONS_BYTES;
                let (what, size) = ("the options of an isolate", *options);
                visit(Piece { what, size, limit })?;
                return Ok(limit);
            }
            ToHead::Execute { code, .. } | ToHead::Evaluate { code, .. } => {
                let (what, size) = ("code", *code);
                visit(Piece { what, size, limit })?;
            }
            ToHead::Call {
                name, args: data, ..
            }
            | ToHead::Event { name, data, .. }
            | ToHead::Control { name, data, .. } => {
                check_name(name)?;
                data.pieces(limit, visit)?;
            }
            ToHead::Answer { result, .. } => match result {
                ResultHead::Value(data) => data.pieces(limit, visit)?,
                ResultHead::Error(error) => error.pieces(limit, visit)?,
            },
            ToHead::Debug { text, .. } => visit(Piece {
                what: "a debugger's message",
                size: *text,
                limit: MAX_DEBUG_BYTES,
            })?,
            ToHead::Ready { .. } | ToHead::End { .. } | ToHead::Probe { .. } => {}
        }
        Ok(limit)
    }

    fn build(head: ToHead<'_>, bulk: &mut Bulk<'_>) -> Result<Self, FrameError> {
        let (isolate, message) = match head {
            ToHead::Start { isolate, options } => {
                let options = bulk.text("the options of an isolate", options)?;
                return Ok(Self::Start { isolate, options });
            }
            ToHead::End { isolate } => return Ok(Self::End { isolate }),
            ToHead::Probe { isolate, id, order } => return Ok(Self::Probe { isolate, id, order }),
            ToHead::Debug { isolate, id, text } => {
                let text = bulk.text("a debugger's message", text)?;
                return Ok(Self::Debug { isolate, id, text });
            }
            ToHead::Execute { isolate, code } => {
                let code = bulk.text("code", code)?;
                (isolate, ToIsolate::Execute { code })
            }
            ToHead::Evaluate { isolate, id, code } => {
                let code = bulk.text("code", code)?;
                (isolate, ToIsolate::Evaluate { id, code })
            }
            ToHead::Ready { isolate, id } => (isolate, ToIsolate::Ready { id }),
            ToHead::Call {
                isolate,
                id,
                name,
                args,
            } => {
                let name = name.to_owned();
                let args = data(&args, bulk)?;
                (isolate, ToIsolate::Call { id, name, args })
            }
            ToHead::Event {
                isolate,
                name,
                data: head,
            } => {
                let name = name.to_owned();
                let data = data(&head, bulk)?;
                (isolate, ToIsolate::Event { name, data })
            }
            ToHead::Answer {
                isolate,
                id,
                result,
            } => {
                let result = match result {
                    ResultHead::Value(head) => Ok(data(&head, bulk)?),
                    ResultHead::Error(head) => Err(error(&head, bulk, Bulk::text)?),
                };
                (isolate, ToIsolate::Answer { id, result })
            }
            ToHead::Control {
                isolate,
                name,
                data: head,
            } => {
                let name = name.to_owned();
                let data = data(&head, bulk)?;
                (isolate, ToIsolate::Control { name, data })
            }
        };
        Ok(Self::Message { isolate, message })
    }
}

impl Incoming for FromWorker {
    type Head<'a> = FromHead<'a>;

    fn pieces(head: &FromHead<'_>, visit: Visit<'_>) -> Result<usize, FrameError> {
        let limit = MAX_ERROR_TEXT;
        match head {
            FromHead::Started {
                problem: Some(problem),
                ..
            } => {
                for size in [problem.what, problem.checked, problem.fix] {
                    let what = "a text about a problem";
                    visit(Piece { what, size, limit })?;
                }
            }
            FromHead::Event { name, data, .. }
            | FromHead::Request {
                method: name, data, ..
            }
            | FromHead::Control { name, data, .. } => {
                check_name(name)?;
                guest_data(data, visit)?;
            }
            FromHead::Reply { result, .. } => match result {
                ResultHead::Value(data) => guest_data(data, visit)?,
                ResultHead::Error(error) => error.pieces(limit, visit)?,
            },
            FromHead::Console { level, text, .. } => {
                if *level > 3 {
                    return Err(FrameError::Level(*level));
                }
                visit(Piece {
                    what: "a console line",
                    size: *text,
                    limit: MAX_CONSOLE_TEXT,
                })?;
            }
            FromHead::Uncaught { error, .. } => error.pieces(limit, visit)?,
            FromHead::Ended { termination, .. } => {
                visit(Piece {
                    what: "the reason of a termination",
                    size: termination.reason,
                    limit: MAX_REASON_BYTES,
                })?;
                visit(Piece {
                    what: "the detail of a termination",
                    size: termination.detail,
                    limit,
                })?;
            }
            FromHead::Found { finding, .. } => match *finding {
                FindingHead::Piece(size) => visit(Piece {
                    what: "a piece of a finding",
                    size,
                    limit: MAX_FINDING_BYTES,
                })?,
                FindingHead::Message | FindingHead::Done => {}
                FindingHead::Failed(size) => visit(Piece {
                    what: "the reason of a probe",
                    size,
                    limit,
                })?,
            },
            FromHead::Ready
            | FromHead::Started { problem: None, .. }
            | FromHead::Taken { .. }
            | FromHead::State { .. }
            | FromHead::Left { .. } => {}
        }
        Ok(MAX_MESSAGE_BYTES)
    }

    fn build(head: FromHead<'_>, bulk: &mut Bulk<'_>) -> Result<Self, FrameError> {
        let (isolate, message) = match head {
            FromHead::Ready => return Ok(Self::Ready),
            FromHead::Started { isolate, problem } => {
                let mut text = |size| error_text(bulk, "a text about a problem", size);
                let problem = match problem {
                    None => None,
                    Some(head) => Some(StartFailure {
                        what: text(head.what)?,
                        checked: text(head.checked)?,
                        fix: text(head.fix)?,
                    }),
                };
                return Ok(Self::Started { isolate, problem });
            }
            FromHead::Taken {
                isolate,
                messages,
                bytes,
            } => {
                return Ok(Self::Taken {
                    isolate,
                    messages,
                    bytes,
                });
            }
            FromHead::State {
                isolate,
                idle,
                seen,
                cpu_ns,
                memory,
            } => {
                return Ok(Self::State {
                    isolate,
                    idle,
                    seen,
                    cpu_ns,
                    memory,
                });
            }
            FromHead::Ended {
                isolate,
                termination,
            } => {
                let termination = Termination {
                    reason: bulk.harmless(
                        "the reason of a termination",
                        termination.reason,
                        MAX_REASON_BYTES,
                    )?,
                    detail: error_text(bulk, "the detail of a termination", termination.detail)?,
                    cpu_ns: termination.cpu_ns,
                    cpu_total_ns: termination.cpu_total_ns,
                    wall_ns: termination.wall_ns,
                    memory: termination.memory,
                };
                return Ok(Self::Ended {
                    isolate,
                    termination,
                });
            }
            FromHead::Left { isolate } => return Ok(Self::Left { isolate }),
            FromHead::Found {
                isolate,
                id,
                finding,
            } => {
                let finding = match finding {
                    FindingHead::Piece(size) => {
                        Finding::Piece(bulk.bytes("a piece of a finding", size)?)
                    }
                    FindingHead::Message => Finding::Message,
                    FindingHead::Done => Finding::Done,
                    FindingHead::Failed(size) => {
                        Finding::Failed(error_text(bulk, "the reason of a probe", size)?)
                    }
                };
                return Ok(Self::Found {
                    isolate,
                    id,
                    finding,
                });
            }
            FromHead::Event {
                isolate,
                name,
                data: head,
            } => {
                let name = name.to_owned();
                let data = data(&head, bulk)?;
                (isolate, FromIsolate::Event { name, data })
            }
            FromHead::Request {
                isolate,
                id,
                method,
                data: head,
            } => {
                let method = method.to_owned();
                let data = data(&head, bulk)?;
                (isolate, FromIsolate::Request { id, method, data })
            }
            FromHead::Reply {
                isolate,
                id,
                result,
            } => {
                let result = match result {
                    ResultHead::Value(head) => Ok(data(&head, bulk)?),
                    ResultHead::Error(head) => Err(error(&head, bulk, error_text)?),
                };
                (isolate, FromIsolate::Reply { id, result })
            }
            FromHead::Console {
                isolate,
                level,
                text,
            } => {
                let level = ConsoleLevel::from_number(level.into());
                let text = bulk.harmless("a console line", text, MAX_CONSOLE_BYTES)?;
                (isolate, FromIsolate::Console { level, text })
            }
            FromHead::Uncaught {
                isolate,
                error: head,
            } => {
                let error = error(&head, bulk, error_text)?;
                (isolate, FromIsolate::Uncaught(error))
            }
            FromHead::Control {
                isolate,
                name,
                data: head,
            } => {
                let name = name.to_owned();
                let data = data(&head, bulk)?;
                (isolate, FromIsolate::Control { name, data })
            }
        };
        Ok(Self::Message { isolate, message })
    }
}

/// A guest's runtime sends binary parts only where marks in the text stand for them.
fn guest_data(data: &DataHead<'_>, visit: Visit<'_>) -> Result<(), FrameError> {
    if !data.marked && !data.parts.is_empty() {
        return Err(FrameError::Unmarked);
    }
    data.pieces(MAX_MESSAGE_BYTES, visit)
}

fn data(head: &DataHead<'_>, bulk: &mut Bulk<'_>) -> Result<Payload, FrameError> {
    Ok(Payload {
        json: bulk.text("JSON text", head.json)?,
        bytes: head
            .parts()
            .map(|size| bulk.bytes("a binary part", size))
            .collect::<Result<_, _>>()?,
        marked: head.marked,
    })
}

fn error_text(bulk: &mut Bulk<'_>, what: &'static str, size: usize) -> Result<String, FrameError> {
    bulk.harmless(what, size, MAX_ERROR_BYTES)
}

fn error<'a>(
    head: &ErrorHead,
    bulk: &mut Bulk<'a>,
    text: impl Fn(&mut Bulk<'a>, &'static str, usize) -> Result<String, FrameError>,
) -> Result<GuestError, FrameError> {
    let mut error = texts(&head.texts, bulk, &text)?;
    for related in &head.related {
        error.related.push(Related {
            depth: related.depth,
            member: related.member,
            error: texts(&related.texts, bulk, &text)?,
        });
    }
    Ok(error)
}

fn texts<'a>(
    head: &TextsHead,
    bulk: &mut Bulk<'a>,
    text: impl Fn(&mut Bulk<'a>, &'static str, usize) -> Result<String, FrameError>,
) -> Result<GuestError, FrameError> {
    Ok(GuestError {
        name: text(bulk, "the name of an error", head.name)?,
        message: text(bulk, "the message of an error", head.message)?,
        code: match head.code {
            Some(size) => Some(text(bulk, "the code of an error", size)?),
            None => None,
        },
        stack: match head.stack {
            Some(size) => Some(text(bulk, "the stack of an error", size)?),
            None => None,
        },
        position: match &head.position {
            Some(position) => Some(Position {
                source: text(bulk, "the source of an error", position.source)?,
                line: position.line,
                column: position.column,
            }),
            None => None,
        },
        related: Vec::new(),
    })
}
