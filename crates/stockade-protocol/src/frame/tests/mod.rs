use std::io::{self, ErrorKind, Read, Write};

use super::*;
use crate::bounds::{
    MAX_CONSOLE_BYTES, MAX_ERROR_BYTES, MAX_FINDING_BYTES, MAX_MESSAGE_BYTES, MAX_MESSAGE_PARTS,
    MAX_NAME_BYTES, MAX_OPTIONS_BYTES, MAX_REASON_BYTES, MAX_RELATED_ERRORS,
};
use crate::message::{ConsoleLevel, GuestError, Position, Related};
use crate::payload::Payload;
use crate::probe::{Finding, Probe, ProbeOrder};

mod hostile;
mod round_trip;

/// Gives its bytes in pieces of the given sizes, over and over, with a `WouldBlock` after each.
struct Trickle<'a> {
    bytes: &'a [u8],
    sizes: Vec<usize>,
    calls: usize,
}

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.calls.is_multiple_of(2) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let size = self.sizes[self.calls / 2 % self.sizes.len()];
        let count = size.min(self.bytes.len()).min(buffer.len());
        buffer[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        Ok(count)
    }
}

fn bytes(frame: &impl Frame) -> Vec<u8> {
    let mut out = Vec::new();
    encode(frame).write_to(&mut out).unwrap();
    out
}

/// Reads all frames, going on after every `WouldBlock`.
fn read_all<T: Frame>(mut source: impl Read) -> io::Result<Vec<T>> {
    let mut reader = Reader::new();
    let mut frames = Vec::new();
    loop {
        match reader.read_from(&mut source) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return Ok(frames),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn refused<T: Frame>(source: &[u8]) -> FrameError {
    let error = read_all::<T>(source)
        .map(|frames| frames.len())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    let inner = error.into_inner().unwrap();
    *inner.downcast::<FrameError>().unwrap()
}

fn cut_short<T: Frame>(source: &[u8]) {
    let error = read_all::<T>(source)
        .map(|frames| frames.len())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
}

fn payload(json: &str, parts: &[usize]) -> Payload {
    Payload {
        json: json.to_owned(),
        bytes: parts.iter().map(|size| vec![*size as u8; *size]).collect(),
        marked: !parts.is_empty(),
    }
}

fn error(text: &str) -> GuestError {
    let related = |depth, member| Related {
        depth,
        member,
        error: texts(&format!("{text} {depth}")),
    };
    GuestError {
        related: vec![related(1, true), related(2, false), related(1, false)],
        ..texts(text)
    }
}

fn texts(text: &str) -> GuestError {
    GuestError {
        name: text.to_owned(),
        message: format!("{text}é"),
        code: Some(format!("{text}:code")),
        stack: Some(format!("{text}\n  at 1")),
        position: Some(Position {
            source: text.to_owned(),
            line: 7,
            column: u32::MAX,
        }),
        related: Vec::new(),
    }
}

/// Every kind of frame with this name, text and data.
fn every_to_worker(name: &str, text: &str, data: &Payload) -> Vec<ToWorker> {
    let id = u64::MAX - 1;
    let name = || name.to_owned();
    let messages = [
        ToIsolate::Execute {
            code: text.to_owned(),
        },
        ToIsolate::Evaluate {
            id,
            code: text.to_owned(),
        },
        ToIsolate::Ready { id },
        ToIsolate::Call {
            id,
            name: name(),
            args: data.clone(),
        },
        ToIsolate::Event {
            name: name(),
            data: data.clone(),
        },
        ToIsolate::Answer {
            id,
            result: Ok(data.clone()),
        },
        ToIsolate::Answer {
            id: 0,
            result: Err(error(text)),
        },
        ToIsolate::Control {
            name: name(),
            data: data.clone(),
        },
    ];
    let start = ToWorker::Start {
        isolate: 0,
        options: text.to_owned(),
    };
    let message = |message| ToWorker::Message {
        isolate: 300,
        message,
    };
    let end = ToWorker::End { isolate: u32::MAX };
    let order = |order| ToWorker::Probe {
        isolate: 300,
        id: u32::MAX,
        order,
    };
    let orders = [
        ProbeOrder::Start(Probe::CpuProfile),
        ProbeOrder::Start(Probe::HeapSnapshot { more: 1 << 31 }),
        ProbeOrder::Start(Probe::HeapStatistics),
        ProbeOrder::Start(Probe::Debugger),
        ProbeOrder::Stop,
    ];
    std::iter::once(start)
        .chain(messages.into_iter().map(message))
        .chain([end])
        .chain(orders.map(order))
        .chain([ToWorker::Debug {
            isolate: 1,
            id: 2,
            text: text.to_owned(),
        }])
        .collect()
}

fn every_from_worker(name: &str, text: &str, data: &Payload) -> Vec<FromWorker> {
    let (id, isolate) = (1 << 40, u32::MAX);
    let name = || name.to_owned();
    let messages = [
        FromIsolate::Event {
            name: name(),
            data: data.clone(),
        },
        FromIsolate::Request {
            id,
            method: name(),
            data: data.clone(),
        },
        FromIsolate::Reply {
            id,
            result: Ok(data.clone()),
        },
        FromIsolate::Reply {
            id,
            result: Err(error(text)),
        },
        FromIsolate::Reply {
            id,
            result: Err(GuestError::default()),
        },
        FromIsolate::Console {
            level: ConsoleLevel::Warn,
            text: text.to_owned(),
        },
        FromIsolate::Uncaught(error(text)),
        FromIsolate::Control {
            name: name(),
            data: data.clone(),
        },
    ];
    let others = [
        FromWorker::Ready,
        FromWorker::Started {
            isolate,
            problem: None,
        },
        FromWorker::Started {
            isolate,
            problem: Some(StartFailure {
                what: text.to_owned(),
                checked: String::new(),
                fix: "do".to_owned(),
            }),
        },
        FromWorker::Taken {
            isolate: 1,
            messages: 2,
            bytes: u64::MAX,
        },
        FromWorker::State {
            isolate: 128,
            idle: true,
            seen: 9,
            cpu_ns: u64::MAX,
            memory: 1 << 33,
        },
        FromWorker::Ended {
            isolate: 7,
            termination: Termination {
                reason: "crashed".to_owned(),
                detail: text.to_owned(),
                cpu_ns: 1,
                cpu_total_ns: 2,
                wall_ns: 3,
                memory: 4,
            },
        },
        FromWorker::Left { isolate: 0 },
    ];
    let findings = [
        Finding::Piece(text.bytes().take(MAX_FINDING_BYTES).collect()),
        Finding::Message,
        Finding::Done,
        Finding::Failed(text.to_owned()),
    ];
    let findings = findings.map(|finding| FromWorker::Found {
        isolate,
        id: u32::MAX,
        finding,
    });
    let others = others.into_iter().chain(findings);
    let message = |message| FromWorker::Message { isolate, message };
    messages.into_iter().map(message).chain(others).collect()
}

fn shown<T: std::fmt::Debug>(frames: &[T]) -> Vec<String> {
    frames.iter().map(|frame| format!("{frame:?}")).collect()
}

fn event(data: Payload) -> FromWorker {
    FromWorker::Message {
        isolate: 1,
        message: FromIsolate::Event {
            name: "e".to_owned(),
            data,
        },
    }
}
