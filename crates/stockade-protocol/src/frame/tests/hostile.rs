//! Every byte of a worker is hostile.

use serde::Serialize;

use super::super::head::{
    DataHead, ErrorHead, FindingHead, FromHead, MAX_HEAD_BYTES, RelatedHead, ResultHead,
    TerminationHead, TextsHead,
};
use super::*;

/// A frame with this header, whatever it says, and this bulk.
fn forged(head: &impl Serialize, bulk: &[u8]) -> Vec<u8> {
    let head = postcard::to_allocvec(head).unwrap();
    let mut bytes = (head.len() as u32).to_le_bytes().to_vec();
    bytes.extend(head);
    bytes.extend(bulk);
    bytes
}

fn data(json: usize, parts: &[u8]) -> DataHead<'_> {
    DataHead {
        json,
        marked: true,
        parts,
    }
}

fn event_head<'a>(name: &'a str, data: DataHead<'a>) -> FromHead<'a> {
    FromHead::Event {
        isolate: 1,
        name,
        data,
    }
}

fn found_head(finding: FindingHead) -> FromHead<'static> {
    FromHead::Found {
        isolate: 1,
        id: 1,
        finding,
    }
}

fn too_large(error: &FrameError, expected: &str) {
    let FrameError::TooLarge { what, size, limit } = error else {
        panic!("{error}");
    };
    assert_eq!(*what, expected);
    assert!(size > limit, "{error}");
}

#[test]
fn frame_cut_short_anywhere_is_an_error() {
    let data = payload("{\"a\":\"é\"}", &[3, 0, 20]);
    for frame in every_from_worker("name", "text", &data) {
        let whole = bytes(&frame);
        for end in 1..whole.len() {
            cut_short::<FromWorker>(&whole[..end]);
        }
    }
    cut_short::<FromWorker>(&bytes(&event(payload("[]", &[100_000])))[..99_000]);
}

#[test]
fn length_of_header_out_of_range_is_refused() {
    for length in [MAX_HEAD_BYTES as u32 + 1, 1 << 31, u32::MAX] {
        too_large(&refused::<FromWorker>(&length.to_le_bytes()), "a header");
    }
    assert!(matches!(
        refused::<FromWorker>(&[0; 4]),
        FrameError::Header(_)
    ));
}

fn error_head(message: usize, related: &[u8]) -> ErrorHead {
    let texts = |message| TextsHead {
        name: 0,
        message,
        code: None,
        stack: None,
        position: None,
    };
    ErrorHead {
        texts: texts(message),
        related: (related.iter())
            .map(|depth| RelatedHead {
                depth: *depth,
                member: false,
                texts: texts(0),
            })
            .collect(),
    }
}

fn uncaught_head(related: &[u8]) -> FromHead<'static> {
    FromHead::Uncaught {
        isolate: 1,
        error: error_head(0, related),
    }
}

#[test]
fn lengths_above_their_bounds_are_refused_before_the_bulk() {
    let big = MAX_MESSAGE_BYTES;
    let part = (big as u32 + 1).to_le_bytes();
    let two = [(big as u32 / 2).to_le_bytes(), (big as u32).to_le_bytes()].concat();
    let many = vec![0; (MAX_MESSAGE_PARTS + 1) * 4];
    let max = [u32::MAX.to_le_bytes(); 4].concat();
    for (head, what) in [
        (event_head("e", data(big + 1, &[])), "JSON text"),
        (event_head("e", data(usize::MAX, &[])), "JSON text"),
        (event_head("e", data(0, &part)), "a binary part"),
        (event_head("e", data(0, &max)), "a binary part"),
        (event_head("e", data(big, &two)), "a message"),
        (event_head("e", data(0, &many)), "a number of binary parts"),
        (
            event_head(&"n".repeat(MAX_NAME_BYTES + 1), data(0, &[])),
            "a name",
        ),
        (
            FromHead::Console {
                isolate: 1,
                level: 0,
                text: MAX_CONSOLE_BYTES + 4,
            },
            "a console line",
        ),
        (
            FromHead::Reply {
                isolate: 1,
                id: 1,
                result: ResultHead::Error(error_head(MAX_ERROR_BYTES + 4, &[])),
            },
            "the message of an error",
        ),
        (
            uncaught_head(&[1; MAX_RELATED_ERRORS + 1]),
            "a number of related errors",
        ),
        (
            FromHead::Ended {
                isolate: 1,
                termination: TerminationHead {
                    reason: MAX_REASON_BYTES + 1,
                    detail: 0,
                    cpu_ns: 0,
                    cpu_total_ns: 0,
                    wall_ns: 0,
                    memory: 0,
                },
            },
            "the reason of a termination",
        ),
        (
            found_head(FindingHead::Piece(MAX_FINDING_BYTES + 1)),
            "a piece of a finding",
        ),
        (
            found_head(FindingHead::Failed(MAX_ERROR_BYTES + 4)),
            "the reason of a probe",
        ),
    ] {
        too_large(&refused::<FromWorker>(&forged(&head, &[])), what);
    }
}

#[test]
fn related_error_that_belongs_to_none_is_refused() {
    for (depths, bad) in [
        (&[0][..], 0),
        (&[1, 3], 3),
        (&[1, 2, 3, 4, 5, 6, 7, 8, 9], 9),
        (&[u8::MAX], u8::MAX),
    ] {
        let error = refused::<FromWorker>(&forged(&uncaught_head(depths), &[]));
        assert!(
            matches!(error, FrameError::Depth(depth) if depth == bad),
            "{error}"
        );
    }
}

#[test]
fn claimed_size_costs_nothing_until_bytes_come() {
    let head = event_head("e", data(MAX_MESSAGE_BYTES, &[]));
    let stream = forged(&head, &[b'x'; 100]);
    let source = &mut Trickle {
        bytes: &stream,
        sizes: vec![50],
        calls: 0,
    };
    let mut reader = Reader::<FromWorker>::new();
    for _ in 0..2 {
        let error = reader.read_from(source).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
    assert!(reader.memory() < 600 << 10, "{}", reader.memory());
}

#[test]
fn header_that_is_not_one_is_refused() {
    let kind = forged(&99_u32, &[]);
    assert!(matches!(
        refused::<FromWorker>(&kind),
        FrameError::Header(_)
    ));
    let mut rest = forged(&FromHead::Ready, &[7]);
    rest[0] += 1;
    assert_eq!(refused::<FromWorker>(&rest), FrameError::Rest(1));
    let odd = forged(&event_head("e", data(0, &[1, 2, 3])), &[0; 8]);
    assert_eq!(refused::<FromWorker>(&odd), FrameError::Rest(3));
    let level = FromHead::Console {
        isolate: 1,
        level: 4,
        text: 0,
    };
    assert_eq!(
        refused::<FromWorker>(&forged(&level, &[])),
        FrameError::Level(4)
    );
    let mut unmarked = data(0, &[0; 4]);
    unmarked.marked = false;
    assert_eq!(
        refused::<FromWorker>(&forged(&event_head("e", unmarked), &[])),
        FrameError::Unmarked
    );
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let json = forged(&event_head("e", data(2, &[])), b"\xff\xfe");
    assert_eq!(
        refused::<FromWorker>(&json),
        FrameError::NotUtf8("JSON text")
    );
    let mut name = bytes(&event(payload("", &[])));
    let at = name.iter().position(|byte| *byte == b'e').unwrap();
    name[at] = 0xff;
    assert!(matches!(
        refused::<FromWorker>(&name),
        FrameError::Header(_)
    ));
}

#[test]
fn stream_is_not_trusted_again_after_a_violation() {
    let stream = [vec![0; 4], bytes(&FromWorker::Ready)].concat();
    let mut reader = Reader::<FromWorker>::new();
    let mut source = &stream[..];
    for _ in 0..3 {
        let error = reader.read_from(&mut source).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }
}

#[test]
fn garbage_never_panics() {
    let mut state = 0x0123_4567_89ab_cdef_u64;
    for round in 0..20_000 {
        let mut stream = Vec::new();
        for _ in 0..64 {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            stream.extend_from_slice(&state.to_le_bytes());
        }
        // A plausible length and kind get garbage past the first checks.
        stream[..4].copy_from_slice(&(round % 60_u32).to_le_bytes());
        stream[4] = (round % 13) as u8;
        let _ = read_all::<FromWorker>(&stream[..]);
        let _ = read_all::<ToWorker>(&stream[..]);
    }
}

#[test]
fn texts_of_a_worker_are_harmless_on_arrival() {
    let (hostile, harmless) = ("\u{1b}[2J\u{202e}\n", "\\u{1b}[2J\\u{202e}\n");
    let frames = every_from_worker("name", hostile, &Payload::default());
    let stream: Vec<u8> = frames.iter().flat_map(bytes).collect();
    let mut texts = Vec::new();
    for frame in read_all::<FromWorker>(&stream[..]).unwrap() {
        match frame {
            FromWorker::Message { message, .. } => match message {
                FromIsolate::Console { text, .. } => texts.push(text),
                FromIsolate::Uncaught(error)
                | FromIsolate::Reply {
                    result: Err(error), ..
                } => {
                    let related = error.related.clone();
                    let related = related.into_iter().map(|related| related.error);
                    for error in std::iter::once(error).chain(related) {
                        texts.extend([error.name, error.message]);
                        texts.extend(error.stack);
                        texts.extend(error.position.map(|position| position.source));
                    }
                }
                _ => {}
            },
            FromWorker::Started { problem, .. } => {
                texts.extend(problem.map(|problem| problem.what));
            }
            FromWorker::Ended { termination, .. } => texts.push(termination.detail),
            _ => {}
        }
    }
    texts.retain(|text| !text.is_empty());
    assert_eq!(texts.len(), 35);
    for text in texts {
        assert!(text.starts_with(harmless), "{text:?}");
    }
}

#[test]
fn texts_at_their_bounds_arrive_and_longer_ones_are_cut_by_the_sender() {
    let kept = crate::text::harmless(&"é".repeat(MAX_ERROR_BYTES), MAX_ERROR_BYTES);
    let long = "é".repeat(MAX_ERROR_BYTES);
    for (sent, expected) in [(&kept, &kept), (&long, &kept)] {
        let frame = FromWorker::Message {
            isolate: 1,
            message: FromIsolate::Uncaught(GuestError::new(sent)),
        };
        check(&frame).unwrap();
        let frames = read_all::<FromWorker>(&bytes(&frame)[..]).unwrap();
        let FromWorker::Message {
            message: FromIsolate::Uncaught(back),
            ..
        } = &frames[0]
        else {
            panic!("{frames:?}");
        };
        assert!(back.message == *expected);
    }
    let host = ToWorker::Message {
        isolate: 1,
        message: ToIsolate::Answer {
            id: 1,
            result: Err(GuestError::new(long.clone())),
        },
    };
    let back = shown(&read_all::<ToWorker>(&bytes(&host)[..]).unwrap());
    assert!(back[0].contains(&long), "a host's own texts are not cut");
}

#[test]
fn check_names_what_the_reader_would_refuse() {
    let large = event(payload(&"j".repeat(MAX_MESSAGE_BYTES), &[1]));
    too_large(&check(&large).unwrap_err(), "a message");
    let many = event(payload("", &vec![0; MAX_MESSAGE_PARTS + 1]));
    too_large(&check(&many).unwrap_err(), "a number of binary parts");
    let start = ToWorker::Start {
        isolate: 1,
        options: " ".repeat(MAX_OPTIONS_BYTES + 1),
    };
    too_large(&check(&start).unwrap_err(), "the options of an isolate");
    let most = event(payload(&"j".repeat(MAX_MESSAGE_BYTES), &[]));
    check(&most).unwrap();
    assert_eq!(read_all::<FromWorker>(&bytes(&most)[..]).unwrap().len(), 1);
}
