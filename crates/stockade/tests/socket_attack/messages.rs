//! Attacks by frames that are well formed and not true.

use std::hint::black_box;

use stockade::{ConsoleLevel, GuestError, Payload};
use stockade_protocol::frame::{FromWorker, Termination, ToWorker};
use stockade_protocol::{Finding, FromIsolate, Position, ToIsolate};

use crate::attack::{Attack, End, Host};
use crate::worker::Forger;

const VIOLATION: &str = "policy_violation";

pub(crate) static ATTACKS: &[Attack] = &[
    Attack::new(
        "isolates_of_others",
        |forger| {
            let own = forger.isolate;
            // The neighbour among them.
            for isolate in (0..own).chain(own + 1..100).chain([u32::MAX]) {
                everything_for(forger, isolate);
            }
            forger.done();
        },
        End::Harmless(0),
    ),
    Attack::new(
        "taken_more_than_sent",
        |forger| {
            let isolate = forger.isolate;
            forger.send(FromWorker::Taken {
                isolate,
                messages: 1_000_000,
                bytes: 0,
            });
        },
        End::Terminated(VIOLATION, "it is done with 1000000 messages"),
    ),
    Attack::new(
        "taken_more_bytes_than_sent",
        |forger| {
            let isolate = forger.isolate;
            forger.send(FromWorker::Taken {
                isolate,
                messages: 0,
                bytes: u64::MAX,
            });
        },
        End::Terminated(
            VIOLATION,
            "it is done with 0 messages (18446744073709551615 bytes)",
        ),
    ),
    Attack::new(
        "found_what_nobody_looked_for",
        |forger| {
            let isolate = forger.isolate;
            forger.send(FromWorker::Found {
                isolate,
                id: 1,
                finding: Finding::Piece(b"{}".to_vec()),
            });
        },
        End::Terminated(VIOLATION, "it answers probe 1, which was never made"),
    ),
    Attack::new(
        "seen_more_than_sent",
        |forger| state(forger, true, u64::MAX, 0),
        End::Terminated(VIOLATION, "it has seen 18446744073709551615 messages"),
    ),
    Attack::new(
        "seen_less_than_before",
        |forger| {
            wait_for_call(forger);
            state(forger, true, 1, 0);
            state(forger, true, 0, 0);
        },
        End::Terminated(VIOLATION, "it has seen 0 messages, after 1"),
    ),
    Attack::new(
        "memory_absurd",
        |forger| {
            state(forger, true, 0, u64::MAX);
            forger.done();
        },
        End::Harmless(0),
    ),
    Attack::new(
        "replies_to_no_call",
        |forger| {
            for id in (50..20_000).chain([u64::MAX]) {
                reply(forger, id, "1");
            }
            forger.done();
        },
        End::Harmless(0),
    ),
    Attack::new(
        "replies_twice",
        |forger| {
            let id = wait_for_call(forger);
            for value in ["\"first\"", "\"second\"", "\"third\""] {
                reply(forger, id, value);
            }
            forger.done();
        },
        End::Harmless(0),
    ),
    Attack::new(
        "reply_is_no_json",
        |forger| {
            let id = wait_for_call(forger);
            reply(forger, id, "{{{");
            forger.done();
        },
        End::Harmless(0),
    ),
    Attack::new(
        "requests_beyond_limit",
        |forger| {
            for id in 0..17 {
                request(forger, id, "nobody");
            }
        },
        End::Terminated(VIOLATION, "too many requests wait for an answer (limit 16)"),
    ),
    Attack::new(
        "requests_of_one_number",
        |forger| {
            for _ in 0..2 {
                request(forger, 1, "nobody");
            }
        },
        End::Terminated(VIOLATION, "the request 1 is open already"),
    ),
    Attack::new(
        "name_too_long",
        |forger| forger.event(&"n".repeat(2000), Payload::default()),
        End::Terminated(VIOLATION, "a name of 2000 is above the limit"),
    ),
    Attack::new(
        "parts_without_marks",
        |forger| {
            forger.event(
                "event",
                Payload {
                    json: "1".to_owned(),
                    bytes: vec![vec![1]],
                    marked: false,
                },
            );
        },
        End::Terminated(VIOLATION, "data without marks has binary parts"),
    ),
    Attack::new(
        "parts_too_many",
        |forger| {
            forger.event(
                "event",
                Payload {
                    json: "1".to_owned(),
                    bytes: vec![Vec::new(); (1 << 14) + 1],
                    marked: true,
                },
            );
        },
        End::Terminated(VIOLATION, "a number of binary parts of 16385"),
    ),
    // One line a millisecond, and the notes about those that were dropped.
    Attack::new(
        "console_flood",
        |forger| {
            for _ in 0..100_000 {
                forger.say(FromIsolate::Console {
                    level: ConsoleLevel::Error,
                    text: "\u{1b}]0;title\u{7}\u{9b}31m\u{202e}\r\nroot@host# ".to_owned(),
                });
            }
            forger.done();
        },
        End::Harmless(50_000),
    ),
    Attack::new(
        "errors_with_escapes",
        |forger| {
            let escape = "\u{1b}[2J\u{202e}".to_owned();
            for _ in 0..100 {
                forger.say(FromIsolate::Uncaught(GuestError {
                    name: escape.clone(),
                    message: escape.clone(),
                    stack: Some(escape.clone()),
                    position: Some(Position {
                        source: escape.clone(),
                        line: u32::MAX,
                        column: 0,
                    }),
                    ..GuestError::default()
                }));
            }
            forger.done();
        },
        End::Harmless(100),
    ),
    Attack::new("controls_forged", controls, End::Harmless(20_000)),
    Attack::new(
        "ended_with_absurd_usage",
        |forger| ended(forger, "cpu_limit_exceeded", "\u{1b}[2Jforged"),
        End::Terminated("cpu_limit_exceeded", "\\u{1b}[2Jforged"),
    ),
    Attack::new(
        "ended_for_no_known_reason",
        |forger| ended(forger, "\u{1b}[2J", ""),
        End::Terminated("crashed", ""),
    ),
    Attack::new(
        "left_without_end",
        |forger| {
            let isolate = forger.isolate;
            forger.send(FromWorker::Left { isolate });
        },
        End::Terminated("crashed", "ended unexpectedly"),
    ),
    Attack::new(
        "started_again_and_again",
        |forger| {
            let isolate = forger.isolate;
            for _ in 0..1000 {
                forger.send(FromWorker::Ready);
                let problem = Some(stockade_protocol::frame::StartFailure::default());
                forger.send(FromWorker::Started { isolate, problem });
                let problem = None;
                forger.send(FromWorker::Started { isolate, problem });
            }
            forger.done();
        },
        End::Harmless(0),
    ),
    Attack {
        host: Host::IsBusy,
        ..Attack::new(
            "events_without_end",
            |forger| {
                let data = Payload::from_json(format!("\"{}\"", "e".repeat(1000)));
                loop {
                    forger.event("event", data.clone());
                }
            },
            End::Destroyed,
        )
    },
    Attack::new(
        "idle_while_it_computes",
        |forger| {
            wait_for_call(forger);
            state(forger, true, 1, 0);
            compute();
        },
        End::Terminated("cpu_limit_exceeded", "by its process as a whole"),
    ),
    Attack::new(
        "idle_now_and_then_while_it_computes",
        |forger| {
            wait_for_call(forger);
            loop {
                state(forger, true, 1, 0);
                for number in 0..10_000_000_u64 {
                    black_box(number);
                }
            }
        },
        End::Terminated("cpu_limit_exceeded", "cpuTotalMs"),
    ),
    Attack::new(
        "computes",
        |_| compute(),
        End::Terminated("cpu_limit_exceeded", "by its process as a whole"),
    ),
];

/// Everything that the two runtimes say to each other, for streams and requests of others.
fn controls(forger: &mut Forger) {
    let names = [
        "stream.pull",
        "stream.cancel",
        "stream.chunk",
        "stream.end",
        "stream.error",
        "request.cancel",
        "no such control",
        "__proto__",
        "",
    ];
    let data = [
        "",
        "null",
        "[]",
        "\"text\"",
        "{",
        "{\"id\":{}}",
        "{\"id\":\"__proto__\",\"chunk\":null}",
        "{\"__proto__\":{\"id\":0}}",
    ];
    for name in names {
        for json in data {
            control(forger, name, json);
        }
        for id in 0..50 {
            let json = format!("{{\"id\":{id},\"chunk\":\"forged\",\"message\":\"forged\"}}");
            control(forger, name, &json);
        }
    }
    forger.done();
}

fn control(forger: &mut Forger, name: &str, json: &str) {
    forger.say(FromIsolate::Control {
        name: name.to_owned(),
        data: Payload::from_json(json.to_owned()),
    });
}

fn compute() -> ! {
    let mut number = 0_u64;
    loop {
        number = black_box(number.wrapping_add(1));
    }
}

fn state(forger: &mut Forger, idle: bool, seen: u64, memory: u64) {
    forger.send(FromWorker::State {
        isolate: forger.isolate,
        idle,
        seen,
        cpu_ns: 0,
        memory,
    });
}

fn reply(forger: &mut Forger, id: u64, json: &str) {
    let result = Ok(Payload::from_json(json.to_owned()));
    forger.say(FromIsolate::Reply { id, result });
}

fn request(forger: &mut Forger, id: u64, method: &str) {
    forger.say(FromIsolate::Request {
        id,
        method: method.to_owned(),
        data: Payload::default(),
    });
}

fn ended(forger: &mut Forger, reason: &str, detail: &str) {
    forger.send(FromWorker::Ended {
        isolate: forger.isolate,
        termination: Termination {
            reason: reason.to_owned(),
            detail: detail.to_owned(),
            cpu_ns: u64::MAX,
            cpu_total_ns: u64::MAX,
            wall_ns: u64::MAX,
            memory: u64::MAX,
        },
    });
}

/// The number of the host's call.
fn wait_for_call(forger: &mut Forger) -> u64 {
    loop {
        if let ToWorker::Message {
            message: ToIsolate::Evaluate { id, .. },
            ..
        } = forger.next()
        {
            return id;
        }
    }
}

/// Every frame about an isolate that this worker does not have.
fn everything_for(forger: &mut Forger, isolate: u32) {
    let payload = || Payload::from_json("1".to_owned());
    let name = || "forged".to_owned();
    let messages = [
        FromIsolate::Event {
            name: name(),
            data: payload(),
        },
        FromIsolate::Request {
            id: 1,
            method: name(),
            data: payload(),
        },
        FromIsolate::Reply {
            id: 0,
            result: Ok(payload()),
        },
        FromIsolate::Reply {
            id: 1,
            result: Ok(payload()),
        },
        FromIsolate::Console {
            level: ConsoleLevel::Info,
            text: name(),
        },
        FromIsolate::Uncaught(GuestError::new("forged")),
        FromIsolate::Control {
            name: "stream.end".to_owned(),
            data: payload(),
        },
    ];
    for message in messages {
        forger.send(FromWorker::Message { isolate, message });
    }
    let termination = Termination {
        reason: "crashed".to_owned(),
        ..Termination::default()
    };
    let problem = None;
    for frame in [
        FromWorker::Started { isolate, problem },
        FromWorker::Taken {
            isolate,
            messages: 1,
            bytes: 1,
        },
        FromWorker::State {
            isolate,
            idle: true,
            seen: 1,
            cpu_ns: 0,
            memory: 0,
        },
        FromWorker::Ended {
            isolate,
            termination,
        },
        FromWorker::Found {
            isolate,
            id: 1,
            finding: Finding::Piece(vec![b'{'; 1000]),
        },
        FromWorker::Left { isolate },
    ] {
        forger.send(frame);
    }
}
