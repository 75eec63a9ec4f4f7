//! What the worker does about signals.

use std::mem::MaybeUninit;
use std::ptr;

use crate::outcome::Outcome;

/// What is to happen on a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing.
    Ignore,
    /// A function that returns.
    Return,
}

extern "C" fn come_back(_signal: libc::c_int) {}

/// Sets the action.
pub(crate) fn set_action(signal: i32, action: Action) -> Result<(), i32> {
    let handler = match action {
        Action::Ignore => libc::SIG_IGN,
        Action::Return => come_back as *const () as libc::sighandler_t,
    };
    // SAFETY: all zero bytes are a valid sigaction: no flags, no mask, the default action.
    let mut new: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    new.sa_sigaction = handler;
    // SAFETY: the handler touches nothing.
    match unsafe { libc::sigaction(signal, &raw const new, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
    }
}

/// Blocks every signal that can be blocked, on this thread.
pub(crate) fn block_all() -> Result<(), i32> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is filled by the first call before the second one reads it.
    let result = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(result) }
}

/// Faults, with a handler that returns to the fault: an endless loop through the kernel.
pub(crate) fn fault_forever() -> Outcome {
    if let Err(errno) = set_action(libc::SIGSEGV, Action::Return) {
        return Outcome::Refused(errno);
    }
    super::fault(super::Fault::Segment)
}
