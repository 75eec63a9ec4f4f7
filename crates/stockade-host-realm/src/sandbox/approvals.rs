//! Functions of the host script that approve the calls of a grant: what is asked waits here until the script takes it,
//! and until it has answered.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use stockade_grants::{Approval, Approver, Asked};
use tokio::sync::{Mutex, mpsc, oneshot};

/// How long a function may take to decide.
const TIMEOUT: Duration = Duration::from_secs(30);

type Question = (Asked, oneshot::Sender<bool>);

/// What is asked about the calls of one isolate. A question waits no longer than its call, and each call has a place
/// among those of its grant, so there are never many.
///
/// The senders are those of the grants: when these are closed, no more questions come.
pub(crate) struct Approvals {
    questions: Mutex<mpsc::UnboundedReceiver<Question>>,
    /// The questions that the script has, by their numbers.
    open: RefCell<HashMap<u32, oneshot::Sender<bool>>>,
    next: Cell<u32>,
}

struct ScriptApprover(mpsc::UnboundedSender<Question>);

impl Approver for ScriptApprover {
    fn approve(&self, asked: Asked) -> BoxFuture<'static, Result<bool, String>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.0.send((asked, answer)).is_ok();
        Box::pin(async move {
            let gone = "the isolate has ended";
            match sent {
                true => answered.await.map_err(|_| gone.to_owned()),
                false => Err(gone.to_owned()),
            }
        })
    }
}

impl Approvals {
    /// Has the script asked about the calls of the grants with these names.
    pub(crate) fn of(names: Vec<String>) -> (Self, HashMap<String, Approval>) {
        let (sender, questions) = mpsc::unbounded_channel();
        let approval = |name: String| {
            let approval = Approval {
                name: "the host script".into(),
                approver: Arc::new(ScriptApprover(sender.clone())) as Arc<dyn Approver>,
                timeout: TIMEOUT,
            };
            (name, approval)
        };
        let all = names.into_iter().map(approval).collect();
        let approvals = Self {
            questions: Mutex::new(questions),
            open: RefCell::default(),
            next: Cell::new(0),
        };
        (approvals, all)
    }

    /// The next question; `None` when no more come.
    pub(crate) async fn next(&self) -> Option<ForScript> {
        let mut questions = self.questions.lock().await;
        loop {
            let (asked, answer) = questions.recv().await?;
            // One whose call has been given up is not asked.
            if answer.is_closed() {
                continue;
            }
            let number = self.next.get();
            self.next.set(number.wrapping_add(1));
            let mut open = self.open.borrow_mut();
            open.retain(|_, answer| !answer.is_closed());
            open.insert(number, answer);
            return Some(ForScript { number, asked });
        }
    }

    /// Passes on what the script has decided.
    pub(crate) fn decide(&self, number: u32, approved: bool) {
        if let Some(answer) = self.open.borrow_mut().remove(&number) {
            // The call may have been given up.
            let _ = answer.send(approved);
        }
    }
}

/// A question, as the script gets it.
#[derive(Serialize)]
pub(crate) struct ForScript {
    number: u32,
    asked: Asked,
}
