//! The main module of an isolate, from its load to its end, and the host's questions that wait for that end.

use std::pin::Pin;
use std::task::{Context, Poll};

use deno_core::ModuleId;
use deno_core::error::CoreError;
use stockade_protocol::{CallId, FromIsolate, GuestError, Payload};
use stockade_realm::GuestPort;

use super::Isolate;
use crate::error::core_error;
use crate::modules::serves;
use crate::serve;

type Evaluation = Pin<Box<dyn Future<Output = Result<(), CoreError>>>>;

/// The module that was run when the isolate started.
pub(super) struct Main {
    pub(super) id: ModuleId,
    evaluation: Option<Evaluation>,
    /// Its default export answers requests.
    serves: bool,
}

impl Isolate {
    /// Loads the main module, if there is one, and runs it as far as it goes without waiting.
    pub(super) async fn start_main(&mut self) {
        self.evaluate_main().await;
        // A module without top-level `await` is done: callers that wait for it are notified first.
        std::future::poll_fn(|cx| {
            self.guest.begin();
            self.poll_main(cx);
            self.guest.end();
            Poll::Ready(())
        })
        .await;
    }

    async fn evaluate_main(&mut self) {
        let serves = serves(self.guest.options());
        let Some(url) = self.realm.modules.main() else {
            if serves {
                let error = self.realm.modules.no_main();
                self.guest.begin();
                serve::failed(&mut self.realm, &error);
                self.guest.end();
            }
            return self.settle(Ok(()));
        };
        self.guest.begin();
        match self.realm.runtime.load_main_es_module(&url).await {
            Ok(id) => {
                let evaluation = Box::pin(self.realm.runtime.mod_evaluate(id));
                self.main = Some(Main {
                    id,
                    evaluation: Some(evaluation),
                    serves,
                });
            }
            Err(error) => self.main_failed(&error, serves),
        }
        self.guest.end();
    }

    /// Notes the end of the main module, once it is there.
    pub(super) fn poll_main(&mut self, cx: &mut Context<'_>) {
        let Some(main) = &mut self.main else { return };
        let Some(evaluation) = &mut main.evaluation else {
            return;
        };
        let Poll::Ready(result) = evaluation.as_mut().poll(cx) else {
            return;
        };
        main.evaluation = None;
        let (id, serves) = (main.id, main.serves);
        match result {
            Ok(()) if self.guest.is_ending() => {}
            Ok(()) => {
                if serves {
                    serve::evaluated(&mut self.realm, id);
                }
                // The engine says of a module that threw, too, that it has been evaluated. The host learns of it by
                // the rejection that nothing handles.
                let namespace = self.realm.runtime.get_module_namespace(id);
                self.settle(match namespace {
                    Ok(_) => Ok(()),
                    Err(error) => Err(core_error(&error)),
                });
            }
            Err(error) => self.main_failed(&error, serves),
        }
    }

    /// The main module could not be loaded, or could not be run to its end.
    fn main_failed(&mut self, error: &CoreError, serves: bool) {
        if self.guest.is_ending() {
            return;
        }
        let error = core_error(error);
        if serves {
            serve::failed(&mut self.realm, &error);
        } else {
            let _ = self.port.send(FromIsolate::Uncaught(error.clone()));
        }
        self.settle(Err(error));
    }

    /// The main module has come to its end.
    fn settle(&mut self, outcome: Result<(), GuestError>) {
        for id in std::mem::take(&mut self.waiting) {
            self.reply(id, outcome.clone());
        }
        self.outcome = Some(outcome);
    }

    fn reply(&self, id: CallId, result: Result<(), GuestError>) {
        let result = result.map(|()| Payload::default());
        let _ = self.port.send(FromIsolate::Reply { id, result });
    }

    /// Answers the host's question whether the main module has come to its end, now or then.
    pub(super) fn ready(&mut self, id: CallId) {
        match self.outcome.clone() {
            Some(outcome) => self.reply(id, outcome),
            None => self.waiting.push(id),
        }
    }
}
