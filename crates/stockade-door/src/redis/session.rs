//! Passes the commands and the replies of one session on, and enforces its limits.
//!
//! Invariants: each command that reached the server has its place in `expected` until its reply has begun to pass, so a
//! session that looks idle is idle. A command begins to pass only after its name was checked.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, split};
use tokio::sync::Notify;

use super::commands::{Commands, Kind, Rule, Special, is_of_client};
use super::connect::Connection;
use super::reply::{Replies, Step};
use super::request::{Forged, Head, argument, command, head, whole};
use crate::flow::Flow;
use crate::limits::Limits;
use crate::server::Socket;
use crate::session::{self, allows};
use crate::work_clock::{Expired, WorkClock};

/// Most commands whose replies are still to come. What the server holds for a guest that does not read is limited by
/// this many replies.
const MAX_EXPECTED: usize = 256;
/// A command that no server has: in place of one that is refused, so that it aborts a transaction.
const UNKNOWN: &[u8] = b"stockade.refused";

/// Why a session ended.
pub(crate) type Ended = session::Ended<String>;

/// A session of a guest on a connection to the server.
pub(crate) struct Session {
    limits: Limits,
    clock: WorkClock,
    progress: Mutex<Progress>,
    drained: Notify,
    connection: Connection,
    from_guest: Flow,
    from_server: Flow,
    replies: Replies,
}

/// What is to come.
#[derive(Debug, Default)]
struct Progress {
    expected: VecDeque<Expected>,
    /// Whether the guest has begun a command and not ended it.
    is_sending: bool,
    in_transaction: bool,
    is_resp3: bool,
    subscriptions: Subscriptions,
    /// Bytes of the reply that passes.
    bytes: u64,
}

/// Subscriptions of a session, by the counts in the server's answers.
#[derive(Debug, Default)]
struct Subscriptions {
    channels: u64,
    patterns: u64,
    shards: u64,
}

impl Subscriptions {
    fn of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Channel => self.channels,
            Kind::Pattern => self.patterns,
            Kind::Shard => self.shards,
        }
    }

    fn is_empty(&self) -> bool {
        self.channels + self.patterns + self.shards == 0
    }

    /// Notes the answer to a subscription or its end. Whether `name` is one.
    fn note(&mut self, name: &[u8], total: u64) -> bool {
        match name {
            b"subscribe" | b"unsubscribe" => self.channels = total.saturating_sub(self.patterns),
            b"psubscribe" | b"punsubscribe" => self.patterns = total.saturating_sub(self.channels),
            b"ssubscribe" | b"sunsubscribe" => self.shards = total,
            _ => return false,
        }
        true
    }
}

/// A reply that is to come.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Reply,
    /// The reply of a command that may wait.
    Blocking,
    /// The guest gets this text instead.
    Instead(Vec<u8>),
    /// The reply of `HELLO 3`.
    Resp3,
    /// As many messages, or one error.
    Subscription(u64),
    /// A message for each subscription, or one message if there is none.
    UnsubscribeAll(Kind),
}

/// What becomes of a command.
enum Fate {
    Pass(Expected),
    /// Other bytes pass in its place. Whether it was read completely, and its length.
    Other(Vec<u8>, Expected, Option<usize>),
    Quit,
}

impl Session {
    pub(crate) fn new(limits: &Limits, mut connection: Connection) -> Self {
        let from_server = Flow::new(std::mem::take(&mut connection.buffer));
        Self {
            clock: WorkClock::new(limits),
            limits: limits.clone(),
            progress: Mutex::default(),
            drained: Notify::new(),
            connection,
            from_guest: Flow::default(),
            from_server,
            replies: Replies::default(),
        }
    }

    /// Runs until one of the sides, or a limit, ends the session.
    pub(crate) async fn run(
        &mut self,
        guest: &mut impl Socket,
        commands: &Commands,
        database: &str,
    ) -> Ended {
        let Self {
            limits,
            clock,
            progress,
            drained,
            connection,
            from_guest,
            from_server,
            replies,
        } = self;
        let passing = Passing {
            limits,
            clock,
            progress,
            drained,
            commands,
            database,
        };
        let (from_upstream, to_server) = split(&mut connection.stream);
        let (from, to_guest) = split(&mut *guest);
        tokio::select! {
            ended = passing.requests(from_guest, from, to_server) => ended,
            ended = passing.responses(from_server, replies, from_upstream, to_guest) => ended,
            ended = passing.watch() => ended,
        }
    }

    /// Whether a text to the guest would not be in the middle of a reply.
    pub(crate) fn is_guest_at_boundary(&self) -> bool {
        self.replies.is_at_boundary() && self.from_server.is_written_to_boundary()
    }

    /// The connection, if it can be reset and used again.
    pub(crate) fn into_clean(self) -> Option<Connection> {
        let is_clean = {
            let progress = self.progress.lock();
            progress.expected.is_empty()
                && !progress.is_sending
                && self.from_guest.is_written_to_boundary()
                && self.replies.is_at_boundary()
                && self.from_server.is_at_boundary()
        };
        is_clean.then_some(self.connection)
    }
}

/// What the two directions and the clocks share.
struct Passing<'a> {
    limits: &'a Limits,
    clock: &'a WorkClock,
    progress: &'a Mutex<Progress>,
    drained: &'a Notify,
    commands: &'a Commands,
    database: &'a str,
}

impl Passing<'_> {
    /// From the guest to the server.
    async fn requests<G: AsyncRead, S: AsyncWrite>(
        &self,
        flow: &mut Flow,
        mut guest: ReadHalf<G>,
        mut server: WriteHalf<S>,
    ) -> Ended {
        let (mut arguments, mut passes, mut total) = (0, true, 0_u64);
        let (mut passed, mut is_last, mut waits) = (0, false, false);
        loop {
            // 1. As much of the buffer as is there.
            let ended = loop {
                let bytes = flow.next(&mut passed);
                if bytes.is_empty() {
                    break None;
                }
                let (length, size) = if arguments > 0 {
                    // An argument of a command whose name is known.
                    match argument(bytes) {
                        Ok(None) => break None,
                        Err(Forged) => break Some(forged()),
                        Ok(Some((size, line))) => {
                            arguments -= 1;
                            (line + size as usize + 2, size)
                        }
                    }
                } else {
                    waits = self.is_full();
                    if waits {
                        break None;
                    }
                    match self.begin(bytes) {
                        Ok(None) => break None,
                        Err(ended) => break Some(ended),
                        Ok(Some((head, Fate::Pass(expected)))) => {
                            self.expect(expected);
                            (arguments, passes, total) = (head.left, true, 0);
                            (head.length, head.length as u64)
                        }
                        Ok(Some((head, Fate::Other(other, expected, whole)))) => {
                            self.expect(expected);
                            if !flow.write(passed, &mut server).await
                                || !flow.insert(&other, &mut server).await
                            {
                                return Ended::Gone;
                            }
                            passed = 0;
                            arguments = if whole.is_some() { 0 } else { head.left };
                            (passes, total) = (false, 0);
                            (whole.unwrap_or(head.length), head.length as u64)
                        }
                        Ok(Some((_, Fate::Quit))) => {
                            is_last = true;
                            break None;
                        }
                    }
                };
                total += size;
                if total > self.limits.max_request {
                    let most = self.limits.max_request;
                    let why = format!("the command is too long: this grant allows {most} bytes");
                    break Some(Ended::By(why));
                }
                self.progress.lock().is_sending = arguments > 0;
                if passes {
                    flow.rest = length;
                } else {
                    flow.left_out = length;
                }
            };
            if passed > 0 && !flow.write(passed, &mut server).await {
                return Ended::Gone;
            }
            passed = 0;
            if let Some(ended) = ended {
                return ended;
            }
            // 2. Replies, if there are too many to come or all are needed; bytes otherwise.
            if is_last && self.progress.lock().expected.is_empty() {
                flow.buffer.clear();
                return Ended::Terminated;
            }
            if !is_last && !waits {
                if !flow.read(&mut guest).await {
                    return Ended::Gone;
                }
                continue;
            }
            tokio::select! {
                () = self.drained.notified() => {}
                () = flow.gone(&mut guest) => return Ended::Gone,
            }
        }
    }

    fn is_full(&self) -> bool {
        self.progress.lock().expected.len() >= MAX_EXPECTED
    }

    fn expect(&self, expected: Expected) {
        let mut progress = self.progress.lock();
        progress.expected.push_back(expected);
        if !self.is_idle(&progress) {
            self.clock.begun();
        }
    }

    /// Decides about the command that begins `bytes`. `None` if more of it is needed.
    fn begin(&self, bytes: &[u8]) -> Result<Option<(Head, Fate)>, Ended> {
        let Some(head) = head(bytes).map_err(|Forged| forged())? else {
            return Ok(None);
        };
        let mut progress = self.progress.lock();
        let in_transaction = progress.in_transaction;
        let fate = match self.commands.rule(&head.name) {
            Rule::Pass => Fate::Pass(Expected::Reply),
            Rule::Blocking => Fate::Pass(Expected::Blocking),
            Rule::Refuse => refuse(&head.name, None),
            Rule::Subscribe | Rule::Unsubscribe(_) if in_transaction => refuse(&head.name, None),
            Rule::Subscribe if head.left == 0 => Fate::Pass(Expected::Reply),
            Rule::Unsubscribe(kind) if head.left == 0 => Fate::Pass(Expected::UnsubscribeAll(kind)),
            Rule::Subscribe | Rule::Unsubscribe(_) => Fate::Pass(Expected::Subscription(head.left)),
            Rule::Transaction { begins } => {
                progress.in_transaction = begins;
                Fate::Pass(Expected::Reply)
            }
            Rule::Special(special) => {
                let whole = whole(bytes, &head).map_err(|Forged| forged())?;
                let Some((arguments, length)) = whole else {
                    return Ok(None);
                };
                self.special(special, &head, &arguments, length, in_transaction)
            }
        };
        Ok(Some((head, fate)))
    }

    /// Decides about a command whose arguments matter.
    fn special(
        &self,
        special: Special,
        head: &Head,
        arguments: &[Vec<u8>],
        length: usize,
        in_transaction: bool,
    ) -> Fate {
        let upper = |index: usize| {
            let argument = arguments.get(index).map_or(&b""[..], |argument| argument);
            String::from_utf8_lossy(argument).to_ascii_uppercase()
        };
        match special {
            Special::Quit => Fate::Quit,
            Special::Auth if !in_transaction => Fate::Other(
                command(&[b"PING"]),
                Expected::Instead(b"+OK\r\n".to_vec()),
                Some(length),
            ),
            Special::Hello if !in_transaction => {
                let mut passed: Vec<&[u8]> = vec![b"HELLO"];
                passed.extend(arguments.first().map(Vec::as_slice));
                let name = (1..arguments.len()).find(|index| upper(*index) == "SETNAME");
                if let Some(name) = name.and_then(|index| arguments.get(index + 1)) {
                    passed.extend([&b"SETNAME"[..], name]);
                }
                let expected = match arguments.first() {
                    Some(version) if version == b"3" => Expected::Resp3,
                    _ => Expected::Reply,
                };
                Fate::Other(command(&passed), expected, Some(length))
            }
            Special::Client if is_of_client(&upper(0)) => Fate::Pass(Expected::Reply),
            // Its messages must not go to another connection.
            Special::Client if upper(0) == "TRACKING" => {
                match (0..arguments.len()).any(|index| upper(index) == "REDIRECT") {
                    true => refuse("CLIENT TRACKING REDIRECT", Some(length)),
                    false => Fate::Pass(Expected::Reply),
                }
            }
            Special::Client => refuse(&format!("CLIENT {}", upper(0)), Some(length)),
            Special::Select => {
                let database = if self.database.is_empty() {
                    "0"
                } else {
                    self.database
                };
                match upper(0) == database {
                    true => Fate::Pass(Expected::Reply),
                    false => refuse("SELECT of another database", Some(length)),
                }
            }
            // Drivers ask whether the server is loading its data. The rest is the operator's.
            Special::Info => {
                let info = command(&[b"INFO", b"persistence"]);
                Fate::Other(info, Expected::Reply, Some(length))
            }
            Special::Auth | Special::Hello => refuse(&head.name, Some(length)),
        }
    }

    /// From the server to the guest.
    async fn responses<S: AsyncRead, G: AsyncWrite>(
        &self,
        flow: &mut Flow,
        replies: &mut Replies,
        mut server: ReadHalf<S>,
        mut guest: WriteHalf<G>,
    ) -> Ended {
        loop {
            let mut passed = 0;
            let ended = loop {
                let bytes = flow.next(&mut passed);
                if bytes.is_empty() {
                    break None;
                }
                let begins = replies.is_at_boundary();
                if begins && let Some((line, instead)) = self.instead(bytes) {
                    if !flow.write(passed, &mut guest).await
                        || !flow.insert(&instead, &mut guest).await
                    {
                        return Ended::Gone;
                    }
                    passed = 0;
                    flow.left_out = line;
                    continue;
                }
                match replies.step(bytes) {
                    Step::More => break None,
                    Step::Forged => break Some(forged_by_server()),
                    Step::Element { line, body } => {
                        if let Some(ended) = self.count(begins, line, body, replies) {
                            break Some(ended);
                        }
                        flow.rest = line + body as usize;
                    }
                }
            };
            if passed > 0 && !flow.write(passed, &mut guest).await {
                return Ended::Gone;
            }
            if let Some(ended) = ended {
                return ended;
            }
            if !flow.read(&mut server).await {
                return Ended::Gone;
            }
        }
    }

    /// The text in place of the reply that begins `bytes`, and the length of that reply.
    fn instead(&self, bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
        let mut progress = self.progress.lock();
        let is_line = matches!(bytes, [b'+' | b'-', ..]);
        let Some(Expected::Instead(text)) = progress.expected.front() else {
            return None;
        };
        let end = bytes.windows(2).position(|pair| pair == b"\r\n");
        let (end, text) = (end.filter(|_| is_line)?, text.clone());
        self.replied(&mut progress);
        Some((end + 2, text))
    }

    /// Counts an element, and takes note of a complete reply.
    fn count(&self, begins: bool, line: usize, body: u64, replies: &Replies) -> Option<Ended> {
        let mut progress = self.progress.lock();
        if begins {
            progress.bytes = 0;
        }
        progress.bytes = progress
            .bytes
            .saturating_add(body)
            .saturating_add(line as u64);
        let most = self.limits.max_result;
        if progress.bytes > most {
            let why = format!("a reply has more than the {most} bytes that this grant allows");
            return Some(Ended::By(why));
        }
        if !replies.is_at_boundary() {
            return None;
        }
        let is_push = replies.kind == b'>';
        let is_answer = matches!(replies.kind, b'>' | b'*')
            && progress.subscriptions.note(&replies.name, replies.number);
        let is_message = matches!(&replies.name[..], b"message" | b"pmessage" | b"smessage");
        let is_message = is_message && !progress.is_resp3 && !progress.subscriptions.is_empty();
        let subscriptions = match progress.expected.front() {
            Some(Expected::UnsubscribeAll(kind)) => progress.subscriptions.of(*kind),
            _ => 0,
        };
        match progress.expected.front_mut() {
            Some(Expected::Subscription(left)) if is_answer => {
                *left -= 1;
                if *left == 0 {
                    self.replied(&mut progress);
                }
            }
            // What is left after the first answer is what is still subscribed to.
            Some(all @ Expected::UnsubscribeAll(_)) if is_answer => {
                *all = Expected::Subscription(subscriptions);
                if subscriptions == 0 {
                    self.replied(&mut progress);
                }
            }
            _ if is_push || (is_message && replies.kind == b'*') => {
                // Idle subscribers get messages, so they are not idle.
                let is_idle = self.is_idle(&progress);
                self.clock.answered(false, is_idle);
            }
            Some(Expected::Resp3) => {
                progress.is_resp3 |= replies.kind == b'%';
                self.replied(&mut progress);
            }
            Some(_) => self.replied(&mut progress),
            None => return Some(forged_by_server()),
        }
        None
    }

    /// The first of the expected replies has come.
    fn replied(&self, progress: &mut Progress) {
        let was_full = progress.expected.len() >= MAX_EXPECTED;
        progress.expected.pop_front();
        self.clock.answered(false, self.is_idle(progress));
        if was_full || progress.expected.is_empty() {
            self.drained.notify_one();
        }
    }

    /// Whether the server may take its time.
    fn is_idle(&self, progress: &Progress) -> bool {
        matches!(progress.expected.front(), None | Some(Expected::Blocking))
    }

    /// Ends the session, by the clocks.
    async fn watch(&self) -> Ended {
        loop {
            let expired = self.clock.expired().await;
            if expired == Expired::Idle {
                let progress = self.progress.lock();
                if !progress.subscriptions.is_empty() || !progress.expected.is_empty() {
                    self.clock.answered(false, true);
                    continue;
                }
                return Ended::By(self.limits.expired(expired));
            }
            return Ended::By(allows("a command took", &self.limits.statement));
        }
    }
}

/// A command is refused: the server gets one that it does not know, and the guest an error that says so.
fn refuse(name: &str, whole: Option<usize>) -> Fate {
    let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    let error = format!("-NOPERM this grant does not allow the command {name}\r\n");
    Fate::Other(
        command(&[UNKNOWN]),
        Expected::Instead(error.into_bytes()),
        whole,
    )
}

fn forged() -> Ended {
    Ended::By("a command is an array of strings, as RESP has it".to_owned())
}

fn forged_by_server() -> Ended {
    Ended::By("the server sent what a door does not pass on".to_owned())
}
