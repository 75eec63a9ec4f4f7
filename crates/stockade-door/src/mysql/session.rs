//! Passes the commands of one session on, one at a time, and enforces its limits.
//!
//! Invariants: the next command passes only when the answer to the one before has passed completely, and while nothing
//! is being killed on the server. A packet begins to pass only after its length was checked.

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, split};
use tokio::sync::Notify;

use super::connect::Connection;
use super::packet::{FULL, Refusal};
use super::response::{Answer, LOOK, Part, Response};
use crate::flow::Flow;
use crate::limits::Limits;
use crate::server::Socket;
use crate::session;
use crate::work_clock::{Expired, WorkClock};

/// Longest error that is read completely, to see why a statement ended.
const MAX_ERROR: usize = 4096;
/// `ER_QUERY_INTERRUPTED`, which `KILL QUERY` causes.
const INTERRUPTED: [u8; 2] = 1317_u16.to_le_bytes();

/// Why a session ended.
pub(crate) type Ended = session::Ended<Refusal>;

/// A session of a guest on a connection to the server.
pub(crate) struct Session {
    limits: Limits,
    clock: WorkClock,
    progress: Mutex<Progress>,
    /// Held while a statement is killed, and while a command begins.
    killing: tokio::sync::Mutex<()>,
    over: Notify,
    connection: Connection,
    from_guest: Flow,
    from_server: Flow,
}

/// What passed and what is to come.
#[derive(Debug, Default)]
struct Progress {
    in_transaction: bool,
    /// A statement was killed, which may still arrive at the server.
    was_killed: bool,
    /// Rows of the result that passes.
    rows: u64,
    bytes: u64,
    /// The limit that the result that passes has reached: its rows are left out.
    over: Option<Refusal>,
    /// The number of the last packet that the guest was sent.
    sequence: u8,
}

/// What a guest asks for.
enum Command {
    /// It passes, and is answered.
    Answered(Answer),
    /// It passes, and is not.
    Silent,
    Refused,
    Quit,
}

fn command(code: u8) -> Command {
    match code {
        0x01 => Command::Quit,
        // INIT_DB, QUERY, PING, STMT_EXECUTE, STMT_RESET, RESET_CONNECTION
        0x02 | 0x03 | 0x0e | 0x17 | 0x1a | 0x1f => Command::Answered(Answer::Usual),
        0x09 => Command::Answered(Answer::Text),
        0x16 => Command::Answered(Answer::Prepared),
        0x1c => Command::Answered(Answer::Rows),
        // STMT_SEND_LONG_DATA, STMT_CLOSE
        0x18 | 0x19 => Command::Silent,
        // What changes the user, the server, or how answers are read; replication.
        _ => Command::Refused,
    }
}

impl Session {
    pub(crate) fn new(limits: &Limits, mut connection: Connection) -> Self {
        let from_server = Flow::new(std::mem::take(&mut connection.buffer));
        Self {
            clock: WorkClock::new(limits),
            limits: limits.clone(),
            progress: Mutex::default(),
            killing: tokio::sync::Mutex::new(()),
            over: Notify::new(),
            connection,
            from_guest: Flow::default(),
            from_server,
        }
    }

    /// Runs until one of the sides, or a limit, ends the session. `kill` ends the statement on the server.
    pub(crate) async fn run<F: Future<Output = ()>>(
        &mut self,
        guest: &mut impl Socket,
        kill: impl Fn() -> F,
    ) -> Ended {
        let Self {
            limits,
            clock,
            progress,
            killing,
            over,
            connection,
            from_guest,
            from_server,
        } = self;
        let passing = Passing {
            limits,
            clock,
            progress,
            killing,
            over,
        };
        let (from_upstream, to_server) = split(&mut connection.stream);
        let (from, to_guest) = split(&mut *guest);
        let mut guest = Side {
            flow: from_guest,
            from,
            to: to_guest,
        };
        let mut server = Side {
            flow: from_server,
            from: from_upstream,
            to: to_server,
        };
        tokio::select! {
            ended = passing.commands(&mut guest, &mut server) => ended,
            ended = passing.watch(kill) => ended,
        }
    }

    /// Whether the server works, or waits for the rest of what it was given.
    pub(crate) fn is_busy(&self) -> bool {
        self.clock.is_busy() || !self.from_guest.is_written_to_boundary()
    }

    pub(crate) fn thread(&self) -> u32 {
        self.connection.greeting.thread
    }

    /// The number of a packet to the guest, if it would not be in the middle of another one.
    pub(crate) fn next_sequence(&self) -> Option<u8> {
        let next = self.progress.lock().sequence.wrapping_add(1);
        let next = if self.clock.is_busy() { next } else { 0 };
        self.from_server.is_written_to_boundary().then_some(next)
    }

    /// The connection, if it can be reset and used again.
    pub(crate) fn into_clean(self) -> Option<Connection> {
        let is_clean = {
            let progress = self.progress.lock();
            !self.is_busy()
                && !progress.in_transaction
                && !progress.was_killed
                && self.from_guest.left_out == 0
                && self.from_server.is_at_boundary()
        };
        is_clean.then_some(self.connection)
    }
}

/// One side of the door, and what comes from it.
struct Side<'a, S> {
    flow: &'a mut Flow,
    from: ReadHalf<S>,
    to: WriteHalf<S>,
}

/// What the two sides and the clocks share.
struct Passing<'a> {
    limits: &'a Limits,
    clock: &'a WorkClock,
    progress: &'a Mutex<Progress>,
    killing: &'a tokio::sync::Mutex<()>,
    over: &'a Notify,
}

impl Passing<'_> {
    async fn commands<G, S>(&self, guest: &mut Side<'_, G>, server: &mut Side<'_, S>) -> Ended
    where
        G: AsyncRead + AsyncWrite,
        S: AsyncRead + AsyncWrite,
    {
        loop {
            // 1. The header and the code of the next command.
            let (length, code) = loop {
                let mut passed = 0;
                match *guest.flow.next(&mut passed) {
                    [0, 0, 0, 0, ..] => return forged("a command has a code"),
                    [a, b, c, 0, code, ..] => break (u32::from_le_bytes([a, b, c, 0]), code),
                    [_, _, _, sequence, ..] if sequence != 0 => {
                        return forged("a command begins with packet 0");
                    }
                    _ => {}
                }
                let is_there = tokio::select! {
                    is_there = guest.flow.read(&mut guest.from) => is_there,
                    // A server that is idle says something only before it closes.
                    is_there = server.flow.read(&mut server.from), if server.flow.buffer.is_empty() => {
                        if is_there {
                            let count = server.flow.buffer.len();
                            server.flow.write(count, &mut guest.to).await;
                        }
                        return Ended::Gone;
                    }
                };
                if !is_there {
                    return Ended::Gone;
                }
            };
            // 2. The command passes.
            let command = command(code);
            let answer = match command {
                Command::Quit => {
                    guest.flow.buffer.clear();
                    return Ended::Terminated;
                }
                Command::Refused => {
                    let why = format!("a door does not pass the command {code} on");
                    let refusal = Refusal::new(1047, "08S01", why).encode(1);
                    guest.flow.left_out = length as usize + 4;
                    if length as usize == FULL {
                        return forged("the command is too long");
                    }
                    if !server.flow.insert(&refusal, &mut guest.to).await {
                        return Ended::Gone;
                    }
                    continue;
                }
                Command::Silent => None,
                Command::Answered(answer) => Some(answer),
            };
            if answer.is_some() {
                let _not_while_killing = self.killing.lock().await;
                self.clock.begun();
            }
            if let Some(ended) = self.pass(guest, server).await {
                return ended;
            }
            // 3. The answer passes, while the guest may go away.
            let Some(answer) = answer else { continue };
            let ended = tokio::select! {
                ended = self.answer(Response::to(answer), server, &mut guest.to) => ended,
                () = guest.flow.gone(&mut guest.from) => Some(Ended::Gone),
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// Passes the packets of one command on.
    async fn pass<G: AsyncRead, S: AsyncWrite>(
        &self,
        guest: &mut Side<'_, G>,
        server: &mut Side<'_, S>,
    ) -> Option<Ended> {
        let (mut total, mut is_continued) = (0_u64, true);
        loop {
            let mut passed = 0;
            while is_continued {
                let &[a, b, c, _, ..] = guest.flow.next(&mut passed) else {
                    break;
                };
                let length = u32::from_le_bytes([a, b, c, 0]) as usize;
                total += length as u64;
                let most = self.limits.max_request;
                if total > most {
                    let why = format!("the command is too long: this grant allows {most} bytes");
                    return Some(Ended::By(Refusal::new(1153, "08S01", why)));
                }
                is_continued = length == FULL;
                guest.flow.rest = length + 4;
            }
            if !is_continued {
                // Up to the end of the last packet, and not further.
                let here = guest.flow.rest.min(guest.flow.buffer.len() - passed);
                guest.flow.rest -= here;
                passed += here;
            }
            if !guest.flow.write(passed, &mut server.to).await {
                return Some(Ended::Gone);
            }
            if !is_continued && guest.flow.rest == 0 {
                return None;
            }
            if !guest.flow.read(&mut guest.from).await {
                return Some(Ended::Gone);
            }
        }
    }

    /// Passes the answer to one command on.
    async fn answer<S: AsyncRead, G: AsyncWrite>(
        &self,
        mut response: Response,
        server: &mut Side<'_, S>,
        guest: &mut WriteHalf<G>,
    ) -> Option<Ended> {
        {
            let mut progress = self.progress.lock();
            (progress.rows, progress.bytes, progress.sequence) = (0, 0, 0);
        }
        loop {
            let (mut passed, mut is_done) = (0, false);
            while !is_done {
                let bytes = server.flow.next(&mut passed);
                let Some((&[a, b, c, sequence], payload)) = bytes.split_first_chunk() else {
                    break;
                };
                let length = u32::from_le_bytes([a, b, c, 0]) as usize;
                let needed = self.needed(length, payload);
                let Some(start) = payload.get(..needed) else {
                    break;
                };
                let action = self.packet(&mut response, length, start, sequence);
                if matches!(action, Action::Pass { .. }) {
                    server.flow.rest = length + 4;
                } else {
                    // What is before the packet goes first.
                    if !server.flow.write(passed, guest).await {
                        return Some(Ended::Gone);
                    }
                    passed = 0;
                    server.flow.left_out = length + 4;
                }
                match action {
                    Action::Pass { is_last } => is_done = is_last,
                    Action::LeaveOut => {}
                    Action::Replace(refusal) => {
                        let sequence = self.progress.lock().sequence.wrapping_add(1);
                        if !server.flow.insert(&refusal.encode(sequence), guest).await {
                            return Some(Ended::Gone);
                        }
                        is_done = true;
                    }
                    Action::End(ended) => return Some(ended),
                }
            }
            if is_done {
                // The last packet is short, so it is in the buffer as far as it is needed.
                while server.flow.rest > 0 || server.flow.left_out > 0 {
                    server.flow.next(&mut passed);
                    if server.flow.rest == 0 && server.flow.left_out == 0 {
                        break;
                    }
                    if !server.flow.write(passed, guest).await
                        || !server.flow.read(&mut server.from).await
                    {
                        return Some(Ended::Gone);
                    }
                    passed = 0;
                }
                let is_written = server.flow.write(passed, guest).await;
                self.clock
                    .answered(self.progress.lock().in_transaction, true);
                return (!is_written).then_some(Ended::Gone);
            }
            if passed > 0 && !server.flow.write(passed, guest).await {
                return Some(Ended::Gone);
            }
            if !server.flow.read(&mut server.from).await {
                return Some(Ended::Gone);
            }
        }
    }

    /// Bytes of a packet that are needed to see what it is.
    fn needed(&self, length: usize, payload: &[u8]) -> usize {
        let is_error = payload.first() == Some(&0xff);
        let most = if is_error { MAX_ERROR } else { LOOK };
        length.min(most)
    }

    /// Checks and counts one packet of the server.
    fn packet(&self, response: &mut Response, length: usize, start: &[u8], sequence: u8) -> Action {
        let mut progress = self.progress.lock();
        progress.bytes = progress.bytes.saturating_add(length as u64 + 4);
        let part = response.packet(length, start);
        if part == Part::Row {
            progress.rows += 1;
        }
        if let Some(over) = self.over(&progress, part)
            && progress.over.is_none()
        {
            progress.over = Some(over);
            progress.was_killed = true;
            self.over.notify_one();
        }
        let over = progress.over.clone();
        let action = match (part, over) {
            (Part::Forged, _) => {
                let why = "the server sent what a door does not pass on";
                Action::End(Ended::By(Refusal::new(1047, "08S01", why)))
            }
            (Part::Row | Part::Other, Some(_)) => Action::LeaveOut,
            (Part::Row | Part::Other, None) => Action::Pass { is_last: false },
            (Part::Error, Some(over)) => Action::Replace(over),
            (Part::End { is_last: true, .. } | Part::Last, Some(over)) => Action::Replace(over),
            (Part::End { .. }, Some(over)) => Action::End(Ended::By(over)),
            (Part::Error, None) => self.error(start),
            (Part::Last, None) => Action::Pass { is_last: true },
            (Part::End { is_last, .. }, None) => {
                (progress.rows, progress.bytes) = (0, 0);
                Action::Pass { is_last }
            }
        };
        if let Part::End { in_transaction, .. } = part {
            progress.in_transaction = in_transaction;
        }
        match action {
            Action::Pass { .. } => progress.sequence = sequence,
            Action::Replace(_) => progress.over = None,
            _ => {}
        }
        action
    }

    /// The limit that a result is over.
    fn over(&self, progress: &Progress, part: Part) -> Option<Refusal> {
        let why = if progress.rows > self.limits.rows {
            self.limits.too_many_rows()
        } else if progress.bytes > self.limits.max_result && part != Part::Error {
            self.limits.too_many_bytes()
        } else {
            return None;
        };
        Some(Refusal::new(1104, "42000", why))
    }

    /// An error that ends a statement, which may have been killed.
    fn error(&self, start: &[u8]) -> Action {
        if self.clock.is_cancelled() && start.get(1..3) == Some(&INTERRUPTED) {
            return Action::Replace(self.too_long());
        }
        Action::Pass { is_last: true }
    }

    fn too_long(&self) -> Refusal {
        Refusal::new(3024, "HY000", self.limits.expired(Expired::Statement))
    }

    /// Kills statements and ends the session, by the clocks.
    async fn watch<F: Future<Output = ()>>(&self, kill: impl Fn() -> F) -> Ended {
        loop {
            let (expired, by_clock) = tokio::select! {
                expired = self.clock.expired() => (expired, true),
                () = self.over.notified() => (Expired::Statement, false),
            };
            match expired {
                Expired::Statement => {
                    let _no_command_begins = self.killing.lock().await;
                    // A result may have ended meanwhile.
                    let is_over = self.progress.lock().over.is_some();
                    if self.clock.is_busy() && (by_clock || is_over) {
                        self.progress.lock().was_killed = true;
                        self.clock.cancelled();
                        kill().await;
                    }
                    continue;
                }
                Expired::Unresponsive => {
                    let over = self.progress.lock().over.take();
                    return Ended::By(over.unwrap_or_else(|| self.too_long()));
                }
                Expired::Transaction | Expired::IdleInTransaction | Expired::Idle => {}
            }
            // ER_CLIENT_INTERACTION_TIMEOUT
            return Ended::By(Refusal::new(4031, "HY000", self.limits.expired(expired)));
        }
    }
}

/// What becomes of a packet.
enum Action {
    Pass {
        is_last: bool,
    },
    LeaveOut,
    /// It is the last one, and another one goes in its place.
    Replace(Refusal),
    End(Ended),
}

fn forged(why: &str) -> Ended {
    Ended::By(Refusal::new(1047, "08S01", why))
}
