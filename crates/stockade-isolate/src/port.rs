//! Carries the guest's messages to its seat.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use stockade_policy::ConsoleMode;
use stockade_protocol::bounds::{MAX_CONSOLE_BYTES_PER_SECOND, MAX_CONSOLE_LINES_PER_SECOND};
use stockade_protocol::{ConsoleLevel, FromIsolate, Payload};
use stockade_realm::GuestPort;
use stockade_supervisor::Seat;

use crate::sys::alloc::charge;

/// An event that no handler has taken, and what it holds of the queue.
pub(crate) struct Kept {
    pub(crate) name: String,
    pub(crate) data: Payload,
    pub(crate) size: usize,
}

/// The guest's side of its seat.
pub(crate) struct Port {
    pub(crate) seat: Rc<Seat>,
    /// Events without a handler, by name, in order.
    kept: RefCell<HashMap<String, VecDeque<Kept>>>,
    /// Names for which a handler has come while events were kept.
    heard: RefCell<Vec<String>>,
    console: ConsoleRate,
}

impl Port {
    pub(crate) fn new(seat: Rc<Seat>) -> Self {
        Self {
            seat,
            kept: RefCell::default(),
            heard: RefCell::default(),
            console: ConsoleRate::default(),
        }
    }

    /// Keeps an event until a handler comes.
    pub(crate) fn keep(&self, event: Kept) {
        self.kept
            .borrow_mut()
            .entry(event.name.clone())
            .or_default()
            .push_back(event);
    }

    /// Events of this name are kept: a new one goes behind them.
    pub(crate) fn keeps(&self, name: &str) -> bool {
        let kept = self.kept.borrow();
        !kept.is_empty() && kept.contains_key(name)
    }

    /// Events for which a handler has come since the last call.
    pub(crate) fn take_heard(&self) -> VecDeque<Kept> {
        let names = std::mem::take(&mut *self.heard.borrow_mut());
        let mut kept = self.kept.borrow_mut();
        names
            .iter()
            .filter_map(|name| kept.remove(name))
            .flatten()
            .collect()
    }
}

impl GuestPort for Port {
    fn send(&self, message: FromIsolate) -> Result<(), String> {
        if let FromIsolate::Console { text, .. } = &message {
            if self.seat.options().console == ConsoleMode::Silent {
                return Ok(());
            }
            match self.console.admit(text.len()) {
                Admit::Drop => return Ok(()),
                Admit::Line => {}
                Admit::After(dropped) => {
                    let text =
                        format!("… {dropped} lines of console output were dropped (rate limit)");
                    let note = FromIsolate::Console {
                        level: ConsoleLevel::Warn,
                        text,
                    };
                    self.seat.send(note).map_err(|error| error.to_string())?;
                }
            }
        }
        // The message is the host's from here on.
        charge(-(message.size() as i64));
        self.seat.send(message).map_err(|error| error.to_string())
    }

    fn listen(&self, event: &str) {
        if self.keeps(event) {
            self.heard.borrow_mut().push(event.to_owned());
        }
    }
}

enum Admit {
    Line,
    Drop,
    After(u32),
}

/// Bounds console output by lines and bytes in each second.
struct ConsoleRate {
    since: Cell<Instant>,
    lines: Cell<u32>,
    bytes: Cell<usize>,
    dropped: Cell<u32>,
}

impl Default for ConsoleRate {
    fn default() -> Self {
        Self {
            since: Cell::new(Instant::now()),
            lines: Cell::new(0),
            bytes: Cell::new(0),
            dropped: Cell::new(0),
        }
    }
}

impl ConsoleRate {
    fn admit(&self, bytes: usize) -> Admit {
        if self.since.get().elapsed() >= Duration::from_secs(1) {
            self.since.set(Instant::now());
            self.lines.set(0);
            self.bytes.set(0);
        }
        let lines = self.lines.get() + 1;
        let bytes = self.bytes.get().saturating_add(bytes);
        if lines > MAX_CONSOLE_LINES_PER_SECOND || bytes > MAX_CONSOLE_BYTES_PER_SECOND {
            self.dropped.set(self.dropped.get().saturating_add(1));
            return Admit::Drop;
        }
        self.lines.set(lines);
        self.bytes.set(bytes);
        match self.dropped.take() {
            0 => Admit::Line,
            dropped => Admit::After(dropped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_rate_flood_is_cut_and_counted() {
        let rate = ConsoleRate::default();
        let admitted = (0..MAX_CONSOLE_LINES_PER_SECOND * 2)
            .filter(|_| matches!(rate.admit(10), Admit::Line))
            .count();
        assert_eq!(admitted, MAX_CONSOLE_LINES_PER_SECOND as usize);
        rate.since.set(Instant::now() - Duration::from_secs(2));
        assert!(matches!(
            rate.admit(10),
            Admit::After(MAX_CONSOLE_LINES_PER_SECOND)
        ));
    }
}
