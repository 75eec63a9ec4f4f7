//! Systems without these layers: every level is refused, and says so.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::{Denial, JailError, JailEvent, JailSpec, Layer};

/// Exit code of a worker that ran out of memory and said so.
pub const EXIT_MEMORY: i32 = 133;
/// Exit code of a worker that could not be sealed.
pub const EXIT_FAILED: i32 = 135;

/// What would run in a worker.
pub type WorkerMain = fn(Inside);

/// A worker seen from within; there are none.
#[derive(Debug)]
pub enum Inside {}

impl Inside {
    /// What the worker was started with.
    #[must_use]
    pub fn spec(&self) -> &JailSpec {
        match *self {}
    }

    /// Takes the worker's end of the message socket.
    pub fn take_socket(&mut self) -> Option<OwnedFd> {
        match *self {}
    }

    /// Applies the last layer.
    ///
    /// # Errors
    ///
    /// Always: there is no worker to seal.
    pub fn seal(&mut self) -> Result<(), JailError> {
        match *self {}
    }

    /// Notifies the supervisor why this worker cannot run.
    pub fn fail(&mut self, _: &JailError) {
        match *self {}
    }
}

/// The way to the process that makes workers; there is none.
#[derive(Debug)]
pub enum Launcher {}

impl Launcher {
    /// # Errors
    ///
    /// Always: this system has no worker processes.
    pub fn get() -> Result<Arc<Self>, JailError> {
        Err(not_here())
    }

    /// # Errors
    ///
    /// It cannot be called.
    pub fn launch(
        &self,
        _: &JailSpec,
        _: Box<dyn Fn(JailEvent) + Send + Sync>,
    ) -> Result<(Worker, OwnedFd), JailError> {
        match *self {}
    }
}

/// A worker process; there are none.
#[derive(Debug)]
pub enum Worker {}

impl Worker {
    /// The worker's process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        match *self {}
    }

    /// Kills it.
    pub fn kill(&self) {
        match *self {}
    }

    /// Stops all its threads.
    pub fn pause(&self) {
        match *self {}
    }

    /// Has it go on.
    pub fn resume(&self) {
        match *self {}
    }

    /// CPU time of all its threads so far.
    #[must_use]
    pub fn cpu(&self) -> Option<Duration> {
        match *self {}
    }

    /// Sets what the kernel lets it use.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn set_memory(&self, _: Option<u64>) -> Result<(), JailError> {
        match *self {}
    }

    /// Lets it use more memory for now.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn lend_memory(&self) -> Result<u64, JailError> {
        match *self {}
    }

    /// Limits it to its memory again.
    #[must_use]
    pub fn return_memory(&self) -> bool {
        match *self {}
    }

    /// Whether it keeps to its memory.
    #[must_use]
    pub fn keeps_to_memory(&self) -> bool {
        match *self {}
    }
}

/// What would prepare workers.
pub type Template = fn(&JailSpec, Clones) -> JailError;

/// The way to a template's clones; there are none.
#[derive(Debug)]
pub enum Clones {}

/// Does nothing: there are no launchers here.
pub fn run_if_launcher(_: WorkerMain, _: Option<Template>) {}

/// Ends this process at once.
pub fn leave(code: i32) -> ! {
    std::process::exit(code)
}

/// Does nothing: there are no workers here.
pub fn show(_: &str) {}

/// The one layer that is missing: Linux.
#[must_use]
pub fn layers() -> Vec<Layer> {
    let error = not_here();
    vec![Layer {
        name: error.layer,
        needed_by: vec!["process".to_owned(), "container".to_owned()],
        available: false,
        tested: error.checked,
        fix: error.fix,
        kernel: "6.7".to_owned(),
    }]
}

fn not_here() -> JailError {
    JailError::new(
        "linux",
        "this system has no worker processes",
        format!("the program was built for {}", std::env::consts::OS),
        "run on Linux 6.7 or newer, or choose isolation: thread",
    )
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.syscall)
    }
}
