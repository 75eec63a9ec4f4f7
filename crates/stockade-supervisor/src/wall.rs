//! What a way of running isolates must offer.

use std::sync::Arc;

use crate::end::{Figures, TerminateReason};
use crate::seat::Seat;

/// Runs isolates at one isolation level.
pub trait Wall: Send + Sync {
    /// Takes the seat to somewhere that runs the guest, and returns at once. Whatever runs it calls
    /// [`Seat::started`] when it is ready or has failed.
    ///
    /// # Errors
    /// When nothing could be started; the seat is dropped then.
    fn start(&self, seat: Seat) -> Result<(), StartError>;

    /// Readies `count` isolates that fit these options, in the background.
    fn warm_up(&self, _options: &Arc<stockade_policy::IsolateOptions>, _count: usize) {}
}

/// Reaches into a running isolate from another thread. All methods may be called at any time, also
/// after the isolate is gone.
pub trait Breaker: Send + Sync {
    /// Ends the running JavaScript at the next point where the engine looks. Called again until the isolate's
    /// seat is dropped.
    fn terminate(&self);

    /// Makes the isolate's thread call [`Seat::checkpoint`] at the next point where the engine looks.
    fn interrupt(&self);

    /// What is known of the isolate from outside its process; `None` for one in this process.
    fn outside(&self) -> Option<Outside> {
        None
    }
}

/// What the supervisor knows of an isolate that runs in another process, without asking it.
#[derive(Debug, Clone, Default)]
pub struct Outside {
    /// What it has used.
    pub figures: Figures,
    /// It has work, as far as is known here.
    pub busy: bool,
    /// A limit that it is over although it should have been ended by its own process before.
    pub overrun: Option<(TerminateReason, String)>,
}

/// Why an isolate could not be started.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}\n  checked: {checked}\n  fix: {fix}")]
pub struct StartError {
    /// What failed, in one line.
    pub what: String,
    /// What was looked at.
    pub checked: String,
    /// What to do about it.
    pub fix: String,
}
