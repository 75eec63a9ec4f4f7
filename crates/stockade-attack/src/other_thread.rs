//! A second thread of the worker, which exists before the worker is sealed.

use std::sync::mpsc::{self, SyncSender};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use stockade_jail::JailError;

use crate::outcome::Outcome;
use crate::targets::Targets;

/// Work for the other thread, and where its outcome goes.
type Work = (fn(&Targets) -> Outcome, Targets, SyncSender<Outcome>);

static OTHER: OnceLock<Mutex<SyncSender<Work>>> = OnceLock::new();

/// Tries something on a thread that existed before the worker was sealed.
pub(crate) fn on_other_thread(run: fn(&Targets) -> Outcome, targets: &Targets) -> Outcome {
    let (send, outcome) = mpsc::sync_channel(1);
    start_on_other_thread(run, targets, send);
    outcome
        .recv()
        .unwrap_or(Outcome::Found("the other thread is gone".to_owned()))
}

/// Starts something on a thread that existed before the worker was sealed, and does not wait for it.
pub(crate) fn start_on_other_thread(
    run: fn(&Targets) -> Outcome,
    targets: &Targets,
    outcome: SyncSender<Outcome>,
) {
    if let Some(other) = OTHER.get() {
        let other = other.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = other.send((run, targets.clone(), outcome));
    }
}

/// Starts that thread. To be called before the worker is sealed.
///
/// # Errors
/// When the worker may have no second thread.
pub(crate) fn start_other_thread() -> Result<(), JailError> {
    let (send, work) = mpsc::sync_channel::<Work>(1);
    let (ready, is_ready) = mpsc::sync_channel(1);
    let spawned = thread::Builder::new().stack_size(1 << 20).spawn(move || {
        let _ = ready.send(());
        for (run, targets, outcome) in work {
            let _ = outcome.send(run(&targets));
        }
    });
    if let Err(error) = spawned {
        return Err(JailError {
            layer: "threads".to_owned(),
            what: format!("cannot start a second thread in the worker ({error})"),
            checked: "a thread created before the worker is sealed".to_owned(),
            fix: "raise the limit of threads (ulimit -u)".to_owned(),
        });
    }
    // what a thread does on its way up needs more system calls than a sealed worker may make
    let _ = is_ready.recv();
    let _ = OTHER.set(Mutex::new(send));
    Ok(())
}
