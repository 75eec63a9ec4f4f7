//! Passes the frames of one session on, and enforces its limits.
//!
//! Invariants: `owed` is never below the count of `ReadyForQuery` that the server still owes, so a session that looks
//! idle is idle. A frame begins to pass only after its type and its length were checked.

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, split};
use tokio::sync::Notify;

use super::error_response::{ErrorResponse, field};
use super::wire::Connection;
use crate::flow::Flow;
use crate::limits::Limits;
use crate::server::Socket;
use crate::session;
use crate::work_clock::{Expired, WorkClock};

/// Longest error that is read completely, to see why a statement ended.
const MAX_ERROR: usize = 32 << 10;

impl ErrorResponse {
    /// The end of a session by this error.
    fn ends(self) -> Ended {
        Ended::By(Self {
            is_fatal: true,
            ..self
        })
    }
}

/// Why a session ended.
pub(crate) type Ended = session::Ended<ErrorResponse>;

/// A session of a guest on a connection to the server.
pub(crate) struct Session {
    limits: Limits,
    clock: WorkClock,
    progress: Mutex<Progress>,
    over: Notify,
    connection: Connection,
    from_guest: Flow,
    from_server: Flow,
}

/// What passed and what is to come.
#[derive(Debug, Default)]
struct Progress {
    /// `ReadyForQuery` that the server still owes.
    owed: u64,
    /// Whether messages were sent for which no `Sync` followed yet.
    unsynced: bool,
    /// Whether the last `ReadyForQuery` was inside a transaction.
    in_transaction: bool,
    /// A cancellation may still arrive at the server.
    was_cancelled: bool,
    /// Rows of the result that passes.
    rows: u64,
    bytes: u64,
    /// The limit that the result that passes has reached: its rows are left out.
    over: Option<ErrorResponse>,
}

/// What becomes of a frame.
enum Frame {
    Pass,
    LeaveOut,
    /// It is needed completely before that can be said.
    Complete,
    Replace(ErrorResponse),
    End(Ended),
}

impl Session {
    pub(crate) fn new(limits: &Limits, mut connection: Connection) -> Self {
        let from_server = Flow::new(std::mem::take(&mut connection.buffer));
        Self {
            clock: WorkClock::new(limits),
            limits: limits.clone(),
            progress: Mutex::default(),
            over: Notify::new(),
            connection,
            from_guest: Flow::default(),
            from_server,
        }
    }

    /// Runs until one of the sides, or a limit, ends the session. `cancel` cancels the statement on the server.
    pub(crate) async fn run<F: Future<Output = ()>>(
        &mut self,
        guest: &mut impl Socket,
        cancel: impl Fn() -> F,
    ) -> Ended {
        let Self {
            limits,
            clock,
            progress,
            over,
            connection,
            from_guest,
            from_server,
        } = self;
        let passing = Passing {
            limits,
            clock,
            progress,
            over,
        };
        let (from, to_guest) = split(&mut *guest);
        let (from_upstream, to_server) = split(&mut connection.stream);
        tokio::select! {
            ended = passing.requests(from_guest, from, to_server) => ended,
            ended = passing.responses(from_server, from_upstream, to_guest) => ended,
            ended = passing.watch(cancel) => ended,
        }
    }

    /// Whether the server works, or waits for the rest of what it was given.
    pub(crate) fn is_busy(&self) -> bool {
        let progress = self.progress.lock();
        progress.owed > 0 || progress.unsynced || !self.from_guest.is_at_boundary()
    }

    /// Whether a message to the guest would not be in the middle of another one.
    pub(crate) fn is_guest_at_boundary(&self) -> bool {
        self.from_server.is_written_to_boundary()
    }

    /// The connection: `Ok` if it can be reset and used again.
    pub(crate) fn into_connection(self) -> Result<Connection, Connection> {
        let is_busy = self.is_busy();
        let progress = self.progress.into_inner();
        let is_clean = !is_busy
            && !progress.in_transaction
            && !progress.was_cancelled
            && self.from_server.is_at_boundary();
        if is_clean {
            Ok(self.connection)
        } else {
            Err(self.connection)
        }
    }
}

/// What the directions and the clocks share.
struct Passing<'a> {
    limits: &'a Limits,
    clock: &'a WorkClock,
    progress: &'a Mutex<Progress>,
    over: &'a Notify,
}

impl Passing<'_> {
    /// From the guest to the server.
    async fn requests<G: AsyncRead, S: AsyncWrite>(
        &self,
        flow: &mut Flow,
        mut guest: ReadHalf<G>,
        mut server: WriteHalf<S>,
    ) -> Ended {
        loop {
            let mut end = None;
            let mut passed = 0;
            while end.is_none() {
                let Some((tag, length)) = next(flow, &mut passed) else {
                    break;
                };
                match self.request(tag, length) {
                    None => flow.rest = length + 1,
                    ended => end = ended,
                }
            }
            if passed > 0 && !flow.write(passed, &mut server).await {
                return Ended::Gone;
            }
            if let Some(end) = end {
                if matches!(end, Ended::Terminated) {
                    flow.buffer.clear();
                }
                return end;
            }
            if !flow.read(&mut guest).await {
                return Ended::Gone;
            }
        }
    }

    /// Checks one message of the guest.
    fn request(&self, tag: u8, length: usize) -> Option<Ended> {
        if length as u64 > self.limits.max_request {
            let most = self.limits.max_request;
            return Some(Ended::By(ErrorResponse::fatal(
                "54000",
                format!("a message of {length} bytes is too long: this grant allows {most}"),
            )));
        }
        let mut progress = self.progress.lock();
        match tag {
            // Query, FunctionCall
            b'Q' | b'F' => progress.owed += 1,
            // Sync
            b'S' => {
                progress.owed += 1;
                progress.unsynced = false;
            }
            // Parse, Bind, Execute, Describe, Close, Flush
            b'P' | b'B' | b'E' | b'D' | b'C' | b'H' => progress.unsynced = true,
            // CopyData, CopyDone, CopyFail
            b'd' | b'c' | b'f' => return None,
            b'X' => return Some(Ended::Terminated),
            _ => {
                let why = format!("a message of the type {tag} is not possible here");
                return Some(Ended::By(ErrorResponse::fatal("08P01", why)));
            }
        }
        drop(progress);
        self.clock.begun();
        None
    }

    /// From the server to the guest.
    async fn responses<S: AsyncRead, G: AsyncWrite>(
        &self,
        flow: &mut Flow,
        mut server: ReadHalf<S>,
        mut guest: WriteHalf<G>,
    ) -> Ended {
        loop {
            let mut passed = 0;
            while let Some((tag, length)) = next(flow, &mut passed) {
                let complete = flow.buffer.get(passed + 5..passed + 1 + length);
                match self.response(tag, length, complete) {
                    Frame::Pass => flow.rest = length + 1,
                    Frame::Complete => break,
                    action => {
                        // What is before the frame goes first.
                        if !flow.write(passed, &mut guest).await {
                            return Ended::Gone;
                        }
                        passed = 0;
                        let inserted = match action {
                            Frame::End(ended) => return ended,
                            Frame::Replace(error) => error.encode(),
                            _ => BytesMut::new(),
                        };
                        flow.left_out = length + 1;
                        if !flow.insert(&inserted, &mut guest).await {
                            return Ended::Gone;
                        }
                    }
                }
            }
            if passed > 0 && !flow.write(passed, &mut guest).await {
                return Ended::Gone;
            }
            if !flow.read(&mut server).await {
                return Ended::Gone;
            }
        }
    }

    /// Checks and counts one message of the server. `complete` is its body, if it is there.
    fn response(&self, tag: u8, length: usize, complete: Option<&[u8]>) -> Frame {
        let mut progress = self.progress.lock();
        let is_row = matches!(tag, b'D' | b'd');
        if length as u64 > self.limits.max_result && !is_row {
            return Frame::End(self.too_long().ends());
        }
        if progress.owed > 0 || progress.unsynced {
            progress.bytes = progress.bytes.saturating_add(length as u64 + 1);
        }
        match tag {
            // DataRow, CopyData
            b'D' | b'd' => {
                progress.rows += 1;
                self.row(&mut progress)
            }
            // CommandComplete, EmptyQueryResponse, PortalSuspended
            b'C' | b'I' | b's' => {
                if let Some(error) = progress.over.take() {
                    return Frame::End(error.ends());
                }
                (progress.rows, progress.bytes) = (0, 0);
                self.clock.next_statement();
                Frame::Pass
            }
            // ReadyForQuery
            b'Z' => match complete {
                Some(&[state]) => self.ready(&mut progress, state),
                None if length == 5 => Frame::Complete,
                _ => forged(),
            },
            // ErrorResponse
            b'E' if progress.over.is_some() || self.clock.is_cancelled() => match complete {
                Some(body) => self.error(&mut progress, body),
                None if length <= MAX_ERROR => {
                    // It is counted when it is complete.
                    progress.bytes = progress.bytes.saturating_sub(length as u64 + 1);
                    Frame::Complete
                }
                None => Frame::Pass,
            },
            // ParseComplete, BindComplete, CloseComplete, NotificationResponse, ErrorResponse, CopyInResponse,
            // CopyOutResponse, NoticeResponse, ParameterStatus, RowDescription, FunctionCallResponse, CopyDone,
            // NoData, ParameterDescription
            b'1' | b'2' | b'3' | b'A' | b'E' | b'G' | b'H' | b'N' | b'S' | b'T' | b'V' | b'c'
            | b'n' | b't' => {
                if progress.bytes > self.limits.max_result {
                    return Frame::End(self.too_long().ends());
                }
                Frame::Pass
            }
            // CopyBothResponse is a replication's; the others belong to a login.
            _ => forged(),
        }
    }

    /// Counts a row.
    fn row(&self, progress: &mut Progress) -> Frame {
        if progress.over.is_some() {
            return Frame::LeaveOut;
        }
        let error = if progress.rows > self.limits.rows {
            ErrorResponse::error("54000", self.limits.too_many_rows())
        } else if progress.bytes > self.limits.max_result {
            self.too_long()
        } else {
            return Frame::Pass;
        };
        progress.over = Some(error);
        progress.was_cancelled = true;
        self.over.notify_one();
        Frame::LeaveOut
    }

    fn too_long(&self) -> ErrorResponse {
        ErrorResponse::error("54000", self.limits.too_many_bytes())
    }

    fn ready(&self, progress: &mut Progress, state: u8) -> Frame {
        if let Some(error) = progress.over.take() {
            return Frame::End(error.ends());
        }
        let Some(owed) = progress.owed.checked_sub(1) else {
            return forged();
        };
        progress.owed = owed;
        progress.in_transaction = state != b'I';
        (progress.rows, progress.bytes) = (0, 0);
        let is_idle = owed == 0 && !progress.unsynced;
        self.clock.answered(progress.in_transaction, is_idle);
        Frame::Pass
    }

    /// An error that ends a statement which was cancelled.
    fn error(&self, progress: &mut Progress, body: &[u8]) -> Frame {
        if let Some(error) = progress.over.take() {
            return Frame::Replace(error);
        }
        if field(body, b'C') != Some(b"57014") {
            return Frame::Pass;
        }
        let why = self.limits.expired(Expired::Statement);
        Frame::Replace(ErrorResponse::error("57014", why))
    }

    /// Cancels statements and ends the session, by the clocks.
    async fn watch<F: Future<Output = ()>>(&self, cancel: impl Fn() -> F) -> Ended {
        loop {
            let expired = tokio::select! {
                expired = self.clock.expired() => expired,
                () = self.over.notified() => Expired::Statement,
            };
            let code = match expired {
                Expired::Statement => {
                    self.progress.lock().was_cancelled = true;
                    self.clock.cancelled();
                    cancel().await;
                    continue;
                }
                Expired::Unresponsive => {
                    let over = self.progress.lock().over.take();
                    if let Some(error) = over {
                        return error.ends();
                    }
                    "57014"
                }
                Expired::Transaction => "25P04",
                Expired::IdleInTransaction => "25P03",
                Expired::Idle => "57P05",
            };
            return Ended::By(ErrorResponse::fatal(code, self.limits.expired(expired)));
        }
    }
}

fn forged() -> Frame {
    Frame::End(Ended::By(ErrorResponse::fatal(
        "08P01",
        "the server sent what a door does not pass on",
    )))
}

/// The type and the length of the next frame of which nothing was passed yet. `None` if they are not there.
fn next(flow: &mut Flow, passed: &mut usize) -> Option<(u8, usize)> {
    let &[tag, a, b, c, d, ..] = flow.next(passed) else {
        return None;
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    // A length counts itself. One that is too short is read as one that is too long for every limit.
    let length = if length < 4 { u32::MAX } else { length };
    Some((tag, length as usize))
}
