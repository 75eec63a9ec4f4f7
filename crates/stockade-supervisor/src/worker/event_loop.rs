//! The thread that drives the connections of workers.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle};

use crate::start_error::StartError;

/// The event loop of all connections, on a thread of its own: hosts may be busy for long.
pub(crate) fn event_loop() -> Result<&'static Handle, StartError> {
    static LOOP: OnceLock<Result<Handle, String>> = OnceLock::new();
    LOOP.get_or_init(start)
        .as_ref()
        .map_err(|error| StartError {
            what: format!(
                "cannot start the thread that drives the connections of workers: {error}"
            ),
            checked: "epoll_create(2), pthread_create(3)".to_owned(),
            fix: "raise the limits on descriptors and threads (ulimit -n, -u)".to_owned(),
        })
}

fn start() -> Result<Handle, String> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .thread_name("stockade-start")
        .build()
        .map_err(|error| error.to_string())?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("stockade-conns".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))
        .map_err(|error| error.to_string())?;
    Ok(handle)
}
