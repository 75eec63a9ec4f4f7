//! A run that is under way, from its client's side: console lines that are sent, questions that are asked, and the end.
#![expect(
    deprecated,
    reason = "clients of the versions before 2026-07-28 get the console as log messages"
)]

use std::collections::BTreeMap;

use rmcp::model::{
    ElicitRequest, InputRequest, InputRequests, InputResponses, LoggingLevel,
    LoggingMessageNotificationParam, NumberOrString, ProgressNotificationParam, ProgressToken,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::approval::{self, Asking, Decision, Question};
use crate::bounds::{PROGRESS_TOKEN_BYTES, STREAMED_LINE_BYTES, STREAMED_LINES};
use crate::run::{ConsoleLine, RunOutcome};

/// A run. Dropping it cancels it.
pub(super) struct Running {
    outcome: JoinHandle<RunOutcome>,
    console: mpsc::Receiver<ConsoleLine>,
    questions: mpsc::Receiver<Question>,
    /// Questions that were passed to the client in a result, by their names there.
    passed: BTreeMap<String, oneshot::Sender<Decision>>,
    sent: usize,
    cancel: CancellationToken,
    _cancels: DropGuard,
}

/// Where a run is.
pub(super) enum Step {
    Ended(RunOutcome),
    /// The client is to answer these, and to call again.
    Asks(InputRequests),
    /// The client cancelled the call.
    Cancelled,
    /// The task of the run was lost.
    Lost,
}

/// How a run speaks with its client.
pub(super) struct Line<'a> {
    pub(super) context: &'a RequestContext<RoleServer>,
    pub(super) asking: Asking,
    /// Console lines below this are not sent.
    pub(super) least: LoggingLevel,
}

impl Running {
    pub(super) fn new(
        outcome: JoinHandle<RunOutcome>,
        console: mpsc::Receiver<ConsoleLine>,
        questions: mpsc::Receiver<Question>,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            outcome,
            console,
            questions,
            passed: BTreeMap::new(),
            sent: 0,
            _cancels: cancel.clone().drop_guard(),
            cancel,
        }
    }

    /// Takes what the client answered to questions that were passed to it.
    pub(super) fn answer(&mut self, responses: Option<InputResponses>) {
        let mut responses = responses.unwrap_or_default();
        for (name, reply) in std::mem::take(&mut self.passed) {
            let result = responses
                .remove(&name)
                .and_then(|value| serde_json::from_value(value).ok());
            let decision = match result {
                Some(result) => approval::decision(&result),
                None => Decision::Refused("the client did not answer the question".to_owned()),
            };
            let _ = reply.send(decision);
        }
    }

    /// Serves the run until it ends or needs the client.
    pub(super) async fn step(&mut self, line: &Line<'_>) -> Step {
        loop {
            tokio::select! {
                biased;
                () = line.context.ct.cancelled() => {
                    self.cancel.cancel();
                    return Step::Cancelled;
                }
                Some(of_console) = self.console.recv() => self.send(line, of_console).await,
                Some(question) = self.questions.recv() => match line.asking {
                    Asking::Result => return Step::Asks(self.pass(question)),
                    _ => ask(line, question),
                },
                outcome = &mut self.outcome => {
                    while let Ok(of_console) = self.console.try_recv() {
                        self.send(line, of_console).await;
                    }
                    return outcome.map_or(Step::Lost, Step::Ended);
                }
            }
        }
    }

    /// The question, and others that already wait, as what an incomplete result contains.
    fn pass(&mut self, first: Question) -> InputRequests {
        let mut requests = InputRequests::new();
        let mut next = Some(first);
        while let Some(question) = next {
            let name = format!("approval{}", self.passed.len() + 1);
            match approval::params(&question.text) {
                Ok(params) => {
                    requests.insert(
                        name.clone(),
                        InputRequest::Elicitation(ElicitRequest::new(params)),
                    );
                    self.passed.insert(name, question.reply);
                }
                Err(why) => drop(question.reply.send(Decision::Refused(why))),
            }
            next = self.questions.try_recv().ok();
        }
        requests
    }

    /// Sends a console line as a log message, and as progress where the client wants that.
    async fn send(&mut self, line: &Line<'_>, of_console: ConsoleLine) {
        self.sent += 1;
        if self.sent > STREAMED_LINES {
            return;
        }
        let mut text = of_console.text;
        if text.len() > STREAMED_LINE_BYTES {
            text.truncate(text.floor_char_boundary(STREAMED_LINE_BYTES));
            text.push('…');
        }
        let peer = &line.context.peer;
        let token = line.context.meta.get_progress_token();
        if let Some(token) = token.filter(|token| !is_long(token)) {
            let _ = peer
                .notify_progress(progress(token, self.sent, &text))
                .await;
        }
        let level = level(&of_console.level);
        if rank(level) >= rank(line.least) {
            let message =
                LoggingMessageNotificationParam::new(level, json!(text)).with_logger("console");
            let _ = peer.notify_logging_message(message).await;
        }
    }
}

/// Whether a progress token is one that no message is sent with: each console line would have it.
pub(crate) fn is_long(token: &ProgressToken) -> bool {
    match &token.0 {
        NumberOrString::String(text) => text.len() > PROGRESS_TOKEN_BYTES,
        NumberOrString::Number(_) => false,
    }
}

fn progress(token: ProgressToken, count: usize, text: &str) -> ProgressNotificationParam {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of at most STREAMED_LINES"
    )]
    let count = count as f64;
    ProgressNotificationParam::new(token, count).with_message(text)
}

fn ask(line: &Line<'_>, question: Question) {
    let peer = line.context.peer.clone();
    tokio::spawn(async move {
        let decision = approval::ask(&peer, &question.text).await;
        let _ = question.reply.send(decision);
    });
}

fn level(of_console: &str) -> LoggingLevel {
    match of_console {
        "debug" => LoggingLevel::Debug,
        "warn" => LoggingLevel::Warning,
        "error" => LoggingLevel::Error,
        _ => LoggingLevel::Info,
    }
}

/// The order of levels, from RFC 5424.
pub(super) fn rank(level: LoggingLevel) -> u8 {
    match level {
        LoggingLevel::Debug => 0,
        LoggingLevel::Info => 1,
        LoggingLevel::Notice => 2,
        LoggingLevel::Warning => 3,
        LoggingLevel::Error => 4,
        LoggingLevel::Critical => 5,
        LoggingLevel::Alert => 6,
        LoggingLevel::Emergency => 7,
    }
}
