//! The life of one mirror: created, ready, served, ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use stockade_protocol::GuestError;
use stockade_supervisor::{End, Event, EventQueue, IsolateHandle, ResourceUsage};

use super::Mirror;
use crate::observer::{MirrorEnd, MirrorEndReason};
use crate::pool::Pool;
use crate::wire::{Ready, parse_ready};

/// How long the end of everything that runs in a mirror is waited for.
const LEAVES: Duration = Duration::from_secs(5);

/// How a mirror's life went.
pub(crate) enum Lived {
    /// It was never ready, for this reason.
    NeverReady(String),
    /// It was ready for so long.
    Ready {
        /// How long.
        age: Duration,
        /// The number of requests that it was given.
        served: u64,
        /// It ended by itself or was caught at something, and no one had asked for its end.
        unexpected: bool,
    },
}

/// Creates a mirror, takes it among those that serve, and receives its events until its end.
pub(crate) async fn live(pool: Arc<Pool>, number: u32) -> Lived {
    let queue = EventQueue::new();
    let limit = pool.options.limits.start;
    let (since, began) = (SystemTime::now(), Instant::now());
    let starting = tokio::time::timeout(limit, start(&pool, number, &queue));
    let handle = match starting.await {
        Ok(Ok(handle)) => handle,
        Ok(Err(why)) => return Lived::NeverReady(why),
        Err(_) => {
            return Lived::NeverReady(format!(
                "its code was not ready within {} ms\n  fix: do less at the module's top level, or \
                 raise the limit on starting",
                limit.as_millis()
            ));
        }
    };
    let mirror = Mirror::new(
        number,
        handle.0.clone(),
        Some((since, began.elapsed())),
        Arc::clone(&pool),
    );
    pool.join(&mirror, handle.1);
    let (end, usage) = mirror.receive(&queue).await;
    mirror.close(&end);
    let cpu = mirror.handle.cpu();
    pool.leave(&mirror, cpu);
    settle_when_left(&mirror, cpu);
    let retired = mirror.retiring();
    let ended = ended(&mirror, retired, &end, usage);
    let unexpected = matches!(
        ended.reason,
        MirrorEndReason::Terminated(_) | MirrorEndReason::Misbehaved
    );
    pool.observer.ended(&ended);
    Lived::Ready {
        age: mirror.age(),
        served: mirror.served(),
        unexpected,
    }
}

/// Reports what the mirror used in all, once nothing of it runs any more. `counted` of its CPU time is counted already.
fn settle_when_left(mirror: &Arc<Mirror>, counted: Duration) {
    let mirror = Arc::clone(mirror);
    mirror.pool.settling.fetch_add(1, Ordering::SeqCst);
    tokio::spawn(async move {
        // An isolate that cannot be stopped is given up.
        let _ = tokio::time::timeout(LEAVES, mirror.handle.until_left()).await;
        mirror.settle_last();
        let rest = mirror.handle.cpu().saturating_sub(counted);
        mirror.pool.add_cpu_of_the_gone(rest);
        mirror.pool.settling.fetch_sub(1, Ordering::SeqCst);
    });
}

fn ended(
    mirror: &Mirror,
    retired: Option<MirrorEndReason>,
    end: &End,
    usage: ResourceUsage,
) -> MirrorEnd {
    let (reason, detail) = match (end, retired) {
        (End::Terminated { reason, detail, .. }, _) => {
            (MirrorEndReason::Terminated(*reason), detail.clone())
        }
        (End::Destroyed(_), Some(MirrorEndReason::Misbehaved)) => (
            MirrorEndReason::Misbehaved,
            mirror.offence.lock().clone().unwrap_or_default(),
        ),
        (End::Destroyed(_), Some(reason)) if mirror.is_draining() => (reason, String::new()),
        (End::Destroyed(_), _) => (MirrorEndReason::Shutdown, String::new()),
    };
    MirrorEnd {
        mirror: mirror.number,
        reason,
        detail,
        usage,
        requests: mirror.served(),
        in_flight: mirror.in_flight(),
        age: mirror.age(),
    }
}

/// Ends an isolate that is not wanted any more before it is a mirror.
struct Unready(Option<IsolateHandle>);

impl Drop for Unready {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.destroy();
        }
    }
}

/// Starts an isolate and waits until its code says that it can serve; gives what it handles.
async fn start(
    pool: &Arc<Pool>,
    number: u32,
    queue: &Arc<EventQueue>,
) -> Result<(IsolateHandle, Vec<String>), String> {
    let handle = pool
        .supervisor
        .create(Arc::clone(&pool.options.isolate), queue)
        .await
        .map_err(|error| error.to_string())?;
    let mut unready = Unready(Some(handle.clone()));
    handle.listen();
    loop {
        let (_, events) = queue.events().await;
        for event in events {
            match event {
                Event::Control { name, data }
                    if name == "serve.ready" || name == "serve.failed" =>
                {
                    return match parse_ready(name == "serve.failed", &data) {
                        Ok(Ready::Yes { handlers }) => {
                            unready.0 = None;
                            Ok((handle, handlers))
                        }
                        Ok(Ready::No(error)) => Err(said(error)),
                        Err(malformed) => Err(format!("its start was not understood: {malformed}")),
                    };
                }
                Event::Console { level, text } => pool.observer.console(number, level, &text),
                Event::Uncaught(error) => pool.observer.uncaught(number, &error),
                Event::Destroyed(_) => {
                    let end = handle.end().map_or_else(String::new, |end| end.to_string());
                    return Err(format!("it ended before its code was ready: {end}"));
                }
                // Before it is ready it may ask for nothing.
                Event::Request { id, .. } => {
                    let early = "nothing can be asked of the host while the module is loading: do it \
                                 in a handler";
                    let _ = handle.answer(id, Err(GuestError::new(early)));
                }
                Event::Control { .. } | Event::Message { .. } | Event::Terminated { .. } => {}
            }
        }
    }
}

/// A guest's error as a person reads it: its stack, which begins with its name and message.
fn said(error: GuestError) -> String {
    match &error.stack {
        Some(stack) if !stack.is_empty() => stack.clone(),
        _ => error.to_string(),
    }
}
