//! The chain of lines, and the checkpoints in it.

use std::fmt;
use std::time::SystemTime;

use aws_lc_rs::digest;
use serde::Deserialize;

use crate::hex::{from_hex, to_hex};
use crate::key::SigningKey;
use crate::record::Record;

/// The SHA-256 of a line without its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// What the first line of a log names as the line before it.
    pub(crate) const NONE: Self = Self([0; 32]);

    pub(crate) fn of(line: &[u8]) -> Self {
        let mut bytes = [0; 32];
        for (to, from) in bytes
            .iter_mut()
            .zip(digest::digest(&digest::SHA256, line).as_ref())
        {
            *to = *from;
        }
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self(from_hex(text)?.try_into().ok()?))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}

/// The event of a checkpoint.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// The event of lines that were removed because of their age or number.
pub(crate) const RETENTION: &str = "retention";

/// What a checkpoint's signature is of.
pub(crate) fn signed(number: u64, previous: Digest) -> Vec<u8> {
    format!("stockade audit checkpoint 1\n{number}\n{previous}\n").into_bytes()
}

/// What of a line its place in the chain depends on.
#[derive(Debug, Deserialize)]
pub(crate) struct Link {
    pub(crate) n: u64,
    pub(crate) previous: String,
    pub(crate) event: String,
    /// The signature of a checkpoint.
    pub(crate) signature: Option<String>,
    /// For `retention`: the number of the last line removed, and its digest.
    pub(crate) removed_through: Option<u64>,
    pub(crate) removed_digest: Option<String>,
}

/// Where a log ends.
#[derive(Clone, Copy)]
pub(crate) struct Chain {
    /// The number of the next line, from 1.
    pub(crate) next: u64,
    pub(crate) previous: Digest,
    /// Lines since the last checkpoint.
    pub(crate) unsigned: u64,
}

impl Chain {
    pub(crate) const EMPTY: Self = Self {
        next: 1,
        previous: Digest::NONE,
        unsigned: 0,
    };

    /// Appends a record as a line.
    pub(crate) fn push(&mut self, record: &Record, at: SystemTime, to: &mut Vec<u8>) {
        let line = format!(
            "{{\"n\":{},\"at\":\"{}\",\"previous\":\"{}\",{}}}",
            self.next,
            humantime::format_rfc3339_micros(at),
            self.previous,
            record.fields(),
        );
        self.step(Digest::of(line.as_bytes()));
        to.extend_from_slice(line.as_bytes());
        to.push(b'\n');
    }

    /// Appends a checkpoint, if there are lines since the last one.
    pub(crate) fn checkpoint(&mut self, key: &SigningKey, at: SystemTime, to: &mut Vec<u8>) {
        if self.unsigned == 0 {
            return;
        }
        let signature = key.sign(&signed(self.next, self.previous));
        let record = Record::new(CHECKPOINT)
            .text("key", &key.public().id())
            .text("signature", &to_hex(&signature));
        self.push(&record, at, to);
        self.unsigned = 0;
    }

    pub(crate) fn step(&mut self, line: Digest) {
        self.next += 1;
        self.previous = line;
        self.unsigned += 1;
    }
}
