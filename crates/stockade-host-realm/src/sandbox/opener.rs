//! What opens the grants of isolates, and does their work on a thread of its own: the script may compute for long, and
//! what an isolate holds open is closed meanwhile.

use std::ops::Deref;

use stockade_grants::{GrantError, ProgramGrants};
use tokio::runtime::{Builder, EnterGuard, Runtime};

pub(super) struct Opener {
    program: ProgramGrants,
    /// `None` in the end.
    runtime: Option<Runtime>,
}

impl Opener {
    pub(super) fn new() -> Result<Self, GrantError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("stockade-grants")
            .enable_all()
            .build()
            .map_err(|error| {
                GrantError::Invalid(format!("the thread of grants cannot be made: {error}"))
            })?;
        let within = runtime.enter();
        let program = ProgramGrants::new()?;
        drop(within);
        Ok(Self {
            program,
            runtime: Some(runtime),
        })
    }

    /// What is made before the guard is dropped works on the thread of grants.
    pub(super) fn enter(&self) -> Option<EnterGuard<'_>> {
        self.runtime.as_ref().map(Runtime::enter)
    }
}

impl Deref for Opener {
    type Target = ProgramGrants;

    fn deref(&self) -> &ProgramGrants {
        &self.program
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Within the script's runtime, where waiting for the thread is not allowed.
            runtime.shutdown_background();
        }
    }
}
