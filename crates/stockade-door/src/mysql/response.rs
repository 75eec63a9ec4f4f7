//! Follows the packets of the answer to one command.
//!
//! | command | answer |
//! |---|---|
//! | most | `OK`, `ERR`, or results: a count, definitions of columns, `EOF`, rows, `EOF` |
//! | `COM_STMT_PREPARE` | `OK` with two counts, definitions of parameters, `EOF`, definitions of columns, `EOF` |
//! | `COM_STMT_FETCH` | rows, `EOF` |
//! | `COM_STATISTICS` | one packet |

use super::packet::{FULL, Parts};

/// Most columns that MySQL and MariaDB have.
pub(super) const MAX_COLUMNS: u64 = 4096;

/// Flags of the server's status.
pub(super) const IN_TRANSACTION: u16 = 1;
pub(super) const MORE_RESULTS: u16 = 8;
pub(super) const HAS_CURSOR: u16 = 0x40;

/// What a command is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Usual,
    Prepared,
    Rows,
    Text,
}

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// It says nothing about where the answer is.
    Other,
    /// A row, the first packet of it.
    Row,
    /// The end of a result, with the server's status; another one follows, or not.
    End { in_transaction: bool, is_last: bool },
    /// An error, which ends the answer.
    Error,
    /// The end of an answer without a status.
    Last,
    /// It does not belong here.
    Forged,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    First,
    Prepared,
    Text,
    /// Definitions that are to come, until `EOF`. Then definitions of columns, or rows, or nothing.
    Definitions {
        left: u64,
        columns: u64,
        has_rows: bool,
    },
    Rows,
    Done,
}

/// Where an answer is.
#[derive(Debug)]
pub(crate) struct Response {
    phase: Phase,
    /// Whether the packet before was full, so that this one continues it.
    is_continued: bool,
}

/// Bytes of a packet's beginning that say what it is.
pub(crate) const LOOK: usize = 24;

impl Response {
    pub(crate) fn to(answer: Answer) -> Self {
        Self {
            phase: match answer {
                Answer::Usual => Phase::First,
                Answer::Prepared => Phase::Prepared,
                Answer::Rows => Phase::Rows,
                Answer::Text => Phase::Text,
            },
            is_continued: false,
        }
    }

    /// Goes on by one packet of `length` bytes, of which `start` are the first [`LOOK`], or all.
    pub(crate) fn packet(&mut self, length: usize, start: &[u8]) -> Part {
        let was_continued = std::mem::replace(&mut self.is_continued, length == FULL);
        if was_continued {
            return Part::Other;
        }
        match (self.phase, start.first()) {
            (Phase::Done, _) | (Phase::First | Phase::Prepared | Phase::Rows, None) => Part::Forged,
            (Phase::Text, _) => {
                self.phase = Phase::Done;
                Part::Last
            }
            (_, Some(0xff)) => {
                self.phase = Phase::Done;
                Part::Error
            }
            // LOCAL INFILE: the server asks for a file.
            (Phase::First, Some(0xfb)) => Part::Forged,
            (Phase::First, Some(0)) => self.ok(start),
            (Phase::First, Some(0xfe)) if length < 9 => self.end(start),
            (Phase::First, _) => match Parts(start).number() {
                Some(columns @ 1..=MAX_COLUMNS) => {
                    self.phase = Phase::Definitions {
                        left: columns,
                        columns: 0,
                        has_rows: true,
                    };
                    Part::Other
                }
                _ => Part::Forged,
            },
            (Phase::Prepared, Some(0)) => self.prepared(start),
            (Phase::Prepared, _) => Part::Forged,
            (
                Phase::Definitions {
                    left: 0,
                    columns,
                    has_rows,
                },
                Some(0xfe),
            ) if length < 9 => self.defined(columns, has_rows, start),
            (Phase::Definitions { left: 0, .. }, _) => Part::Forged,
            (
                Phase::Definitions {
                    left,
                    columns,
                    has_rows,
                },
                _,
            ) => {
                self.phase = Phase::Definitions {
                    left: left - 1,
                    columns,
                    has_rows,
                };
                Part::Other
            }
            (Phase::Rows, Some(0xfe)) if length < 9 => self.end(start),
            (Phase::Rows, _) => Part::Row,
        }
    }

    /// `OK`: two numbers, and the status.
    fn ok(&mut self, start: &[u8]) -> Part {
        let mut parts = Parts(&start[1..]);
        let _ = (parts.number(), parts.number());
        let status = parts.u16();
        self.ended(status)
    }

    /// `EOF`: a count of warnings, and the status.
    fn end(&mut self, start: &[u8]) -> Part {
        let mut parts = Parts(&start[1..]);
        let _ = parts.u16();
        let status = parts.u16();
        self.ended(status)
    }

    fn ended(&mut self, status: Option<u16>) -> Part {
        let Some(status) = status else {
            return Part::Forged;
        };
        let is_last = status & MORE_RESULTS == 0;
        self.phase = if is_last { Phase::Done } else { Phase::First };
        Part::End {
            in_transaction: status & IN_TRANSACTION != 0,
            is_last,
        }
    }

    fn prepared(&mut self, start: &[u8]) -> Part {
        let mut parts = Parts(&start[1..]);
        let _ = parts.u32();
        let (Some(columns), Some(parameters)) = (parts.u16(), parts.u16()) else {
            return Part::Forged;
        };
        let (columns, parameters) = (u64::from(columns), u64::from(parameters));
        let (left, columns) = if parameters > 0 {
            (parameters, columns)
        } else {
            (columns, 0)
        };
        self.define(left, columns)
    }

    /// Waits for definitions, or is done if there are none.
    fn define(&mut self, left: u64, columns: u64) -> Part {
        if left == 0 {
            self.phase = Phase::Done;
            return Part::Last;
        }
        self.phase = Phase::Definitions {
            left,
            columns,
            has_rows: false,
        };
        Part::Other
    }

    /// `EOF` after definitions.
    fn defined(&mut self, columns: u64, has_rows: bool, start: &[u8]) -> Part {
        if !has_rows {
            return self.define(columns, 0);
        }
        let mut parts = Parts(&start[1..]);
        let _ = parts.u16();
        match parts.u16() {
            // The rows are fetched by later commands.
            Some(status) if status & HAS_CURSOR != 0 => self.ended(Some(status)),
            Some(_) => {
                self.phase = Phase::Rows;
                Part::Other
            }
            None => Part::Forged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
    const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];
    const END: Part = Part::End {
        in_transaction: false,
        is_last: true,
    };

    fn check(answer: Answer, packets: &[&[u8]], expected: &[Part]) {
        let mut response = Response::to(answer);
        let parts: Vec<Part> = packets
            .iter()
            .map(|packet| response.packet(packet.len(), packet))
            .collect();
        assert_eq!(parts, expected);
    }

    #[test]
    fn response_is_followed_to_its_end() {
        use Part::{Forged, Last, Other, Row};
        check(Answer::Usual, &[OK, OK], &[END, Forged]);
        check(Answer::Usual, &[&[0xff, 1, 2]], &[Part::Error]);
        let row: &[u8] = &[1, b'a'];
        check(
            Answer::Usual,
            &[&[2], row, row, EOF, row, EOF],
            &[Other, Other, Other, Other, Row, END],
        );
        // A second result, in a transaction.
        let more: &[u8] = &[0xfe, 0, 0, 9, 0];
        let middle = Part::End {
            in_transaction: true,
            is_last: false,
        };
        check(
            Answer::Usual,
            &[&[1], row, EOF, more, OK],
            &[Other, Other, Other, middle, END],
        );
        check(
            Answer::Usual,
            &[&[1], row, EOF, &[0xff]],
            &[Other, Other, Other, Part::Error],
        );
        // A cursor.
        check(
            Answer::Usual,
            &[&[1], row, &[0xfe, 0, 0, 0x42, 0]],
            &[Other, Other, END],
        );
        check(Answer::Rows, &[row, EOF], &[Row, END]);
        check(Answer::Text, &[b"Uptime"], &[Last]);
        let prepared: &[u8] = &[0, 1, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0];
        check(
            Answer::Prepared,
            &[prepared, row, row, EOF, row, EOF],
            &[Other, Other, Other, Other, Other, Last],
        );
        check(
            Answer::Prepared,
            &[&[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
            &[Last],
        );
        // A row of more than 16 MiB, which begins like an EOF or an error.
        let mut response = Response::to(Answer::Rows);
        assert_eq!(response.packet(FULL, &[0xfe, 1]), Row);
        assert_eq!(response.packet(3, &[0xff, 1, 1]), Other);
        assert_eq!(response.packet(2, &[1, 1]), Row);
    }

    #[test]
    fn response_that_asks_for_a_file_or_is_forged_is_reported() {
        let forged: [&[u8]; 5] = [b"\xfb/etc/passwd", b"", &[0], &[0xfd, 0, 0, 1], &[0xfe, 0]];
        for packet in forged {
            check(Answer::Usual, &[packet], &[Part::Forged]);
        }
        check(Answer::Prepared, &[&[1]], &[Part::Forged]);
        check(Answer::Prepared, &[&[0, 1]], &[Part::Forged]);
    }
}
