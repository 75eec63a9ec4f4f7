//! Workers that are not processes of the jail: what a virtual machine, or a process of another system, has to offer
//! in order to stand at the other end of a connection.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod child;
mod probes;
mod scripted;

use std::sync::Arc;
use std::time::Duration;

use stockade_limits::{IsolateOptions, Isolation, SandboxOptions};
use stockade_supervisor::{
    Event, EventQueue, IsolateHandle, IsolationBackend, Supervisor, WorkerBackend, WorkerLauncher,
};

/// When something that must happen is given up; far above what any of it takes.
const GIVE_UP: Duration = Duration::from_secs(60);

/// A supervisor whose isolates of level `container` run in workers of this launcher.
fn supervisor(launcher: impl WorkerLauncher) -> Supervisor {
    let backend: Arc<dyn IsolationBackend> = Arc::new(WorkerBackend::new(launcher));
    Supervisor::new(SandboxOptions::default(), [(Isolation::Container, backend)])
}

fn options() -> IsolateOptions {
    IsolateOptions {
        isolation: Isolation::Container,
        ..IsolateOptions::default()
    }
}

fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(GIVE_UP, test).await.unwrap() })
}

async fn create(
    supervisor: &Supervisor,
    options: IsolateOptions,
) -> (IsolateHandle, Arc<EventQueue>) {
    let queue = EventQueue::new();
    let handle = supervisor.create(options, &queue).await.unwrap();
    handle.listen();
    (handle, queue)
}

/// All events until the isolate is gone.
async fn until_destroyed(queue: &EventQueue) -> Vec<Event> {
    let mut all = Vec::new();
    while !matches!(all.last(), Some(Event::Destroyed(_))) {
        all.extend(queue.events().await.1);
    }
    all
}
