//! The worker's side of its own jail: from the outer layers until it is sealed.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd, RawFd};

use crate::launcher::message::{self, Report};
use crate::spec::{FILES, Wx};
use crate::{JailError, JailSpec, descriptors, executable, seccomp, sys};

/// Exit code of a worker that ran out of memory and said so.
pub const EXIT_MEMORY: i32 = 133;
/// Exit code of a worker that aborted; its supervisor sees it as the signal SIGABRT.
pub(crate) const EXIT_ABORT: i32 = 134;
/// Exit code of a worker that could not be sealed.
pub const EXIT_FAILED: i32 = 135;

/// What runs in a worker. It is called on a thread of its own in a process that has all layers except seccomp.
/// It makes all threads that it will ever need, calls [`Inside::seal`], and does not return before
/// the worker's end: returning ends the worker with exit code 0.
pub type WorkerMain = fn(Inside);

/// A worker, seen from within.
#[derive(Debug)]
pub struct Inside {
    pub(crate) spec: JailSpec,
    pub(crate) socket: Option<OwnedFd>,
    pub(crate) setup: Option<OwnedFd>,
    pub(crate) maps: Option<File>,
    pub(crate) filters: &'static seccomp::Filters,
}

impl Inside {
    /// What the worker was started with.
    #[must_use]
    pub fn spec(&self) -> &JailSpec {
        &self.spec
    }

    /// Takes the worker's end of the message socket, descriptor 3; `None` when it has been taken.
    pub fn take_socket(&mut self) -> Option<OwnedFd> {
        self.socket.take()
    }

    /// The numbers of the files that a worker of the role [`Role::Database`](crate::Role::Database) has open,
    /// in the order that it was given them.
    #[must_use]
    pub fn files(&self) -> [RawFd; FILES] {
        descriptors::DATABASE
    }

    /// Applies the last layer and notifies the supervisor. From here on the process has the descriptors 0 to
    /// 3, those of [`Inside::files`] if it was given any, and 5 to 10 if they are an event loop's (epoll instances, eventfds, pairs of sockets of its own);
    /// it may make no call outside the rules, and no thread.
    ///
    /// # Errors
    ///
    /// Something is not as it should be, or a layer cannot be applied. The supervisor has been notified; the
    /// caller ends the process with [`EXIT_FAILED`].
    pub fn seal(&mut self) -> Result<(), JailError> {
        let closed = self.close();
        if let Err(error) = &closed {
            self.fail(error);
        }
        closed
    }

    fn close(&mut self) -> Result<(), JailError> {
        let Some(maps) = self.maps.take() else {
            return Err(twice());
        };
        executable::check_maps(maps, self.spec.wx)?;
        descriptors::check(self.spec.role)?;
        let listener = seccomp::install(self.filters)?;
        seccomp::self_test()?;
        let Some(setup) = self.setup.take() else {
            return Err(twice());
        };
        if let Err(error) = message::send(&setup, &Report::Closed, &[listener.as_fd()]) {
            self.setup = Some(setup);
            return Err(JailError::new(
                "seccomp",
                format!("handing the listener to the supervisor failed: {error}"),
                "sendmsg over the setup socket",
                "report this as a defect",
            ));
        }
        Ok(())
    }

    /// Notifies the supervisor why this worker cannot run, while it is not sealed yet. The caller then
    /// ends the process with [`EXIT_FAILED`].
    pub fn fail(&mut self, error: &JailError) {
        if let Some(setup) = self.setup.take() {
            report_failure(&setup, error);
        }
    }
}

/// Shows a worker's guests after its name where processes are listed, as ps(1) does: as much of it as fits,
/// in printable ASCII. Needs no system call and may be called at any time.
pub fn show(guests: &str) {
    match guests {
        "" => sys::title::show("stockade-worker"),
        guests => sys::title::show(&format!("stockade-worker {guests}")),
    }
}

/// Longest text in a report, in bytes.
const MOST_TEXT: usize = 2_000;

/// Sends a failure, cut to what fits.
pub(crate) fn report_failure(setup: &OwnedFd, error: &JailError) {
    let cut = |text: &str| {
        let mut end = text.len().min(MOST_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text[..end].to_owned()
    };
    let error = JailError {
        layer: cut(&error.layer),
        what: cut(&error.what),
        checked: cut(&error.checked),
        fix: cut(&error.fix),
    };
    // There is nothing to notify if this fails; the supervisor sees the exit code.
    let _ = message::send(setup, &Report::Failed(error), &[]);
}

fn twice() -> JailError {
    JailError::new(
        "seccomp",
        "this worker was sealed before, or sealing failed",
        "a second call of the function that seals the worker",
        "report this as a defect",
    )
}

/// Whether this worker's memory is never both written and executed.
pub(crate) fn is_strict(spec: &JailSpec) -> bool {
    spec.wx == Wx::Strict
}

/// Ends this process at once: no destructors, no handlers of exit(3), no buffers written. For a worker
/// that has nobody left to work for.
pub fn leave(code: i32) -> ! {
    sys::process::exit_now(code)
}
