//! Isolation levels `process` and `container`.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use stockade_jail::{CODE_RANGE, CgroupUse, JailError, JailSpec, Launcher, Level, Role, Wx};
use stockade_policy::{CpuShare, IsolateOptions, Isolation};
use tokio::sync::mpsc::unbounded_channel;

use super::event_loop::event_loop;
use super::link::Link;
use super::task::Task;
use crate::seat::Seat;
use crate::wall::{StartError, Wall};

/// Isolates of one trust group that share a worker at most.
const GROUP_SIZE: usize = 8;

/// How long after a start the pool is refilled: the isolate that was started goes first.
const REFILL_AFTER: Duration = Duration::from_millis(3);

/// Threads that a worker with one isolate makes: main, engine's main, event loop of the isolate, its
/// blocking work, the meter, and the engine's helper; with some to spare.
const THREADS: u32 = 12;

/// Runs each isolate, or each trust group, in a process of its own.
pub struct WorkerWall {
    level: Level,
    /// Where messages are carried; `None` is the [event loop](super::event_loop) of all links.
    carriers: Option<tokio::runtime::Handle>,
    pool: Arc<Mutex<Pool>>,
}

#[derive(Default)]
struct Pool {
    ready: Vec<(JailSpec, Arc<Link>)>,
    /// Workers that are being started for the pool.
    coming: usize,
    groups: HashMap<String, Vec<(JailSpec, Weak<Link>)>>,
}

impl Pool {
    /// A worker that waits for such an isolate, best one that is quite ready.
    fn take_ready(&mut self, spec: &JailSpec) -> Option<Arc<Link>> {
        self.ready.retain(|(_, link)| !link.is_gone());
        let fits = |(with, _): &(JailSpec, Arc<Link>)| with == spec;
        let index = (self.ready.iter())
            .position(|ready| fits(ready) && ready.1.is_ready())
            .or_else(|| self.ready.iter().position(fits))?;
        Some(self.ready.swap_remove(index).1)
    }

    /// A worker of this trust group that has room.
    fn of_group(&mut self, name: &str, spec: &JailSpec) -> Option<Arc<Link>> {
        let links = self.groups.get_mut(name)?;
        links.retain(|(_, link)| link.upgrade().is_some_and(|link| !link.is_gone()));
        if links.is_empty() {
            self.groups.remove(name);
            return None;
        }
        (links.iter().filter(|(with, _)| with == spec))
            .filter_map(|(_, link)| link.upgrade())
            .find(|link| link.members() < GROUP_SIZE)
    }
}

/// Has a worker that was just started run the isolate.
fn give(link: &Arc<Link>, seat: Seat) {
    if let Err(seat) = link.assign(seat) {
        seat.start_failed(link.failure());
    }
}

impl WorkerWall {
    /// A wall of this level. Nothing is started before the first isolate.
    #[must_use]
    pub fn new(level: Level) -> Self {
        Self {
            level,
            carriers: None,
            pool: Arc::default(),
        }
    }

    /// A wall of this level for a host whose own tasks run in `runtime`, which must have its I/O and
    /// time drivers. Messages are carried there, too: no thread has to be woken for one, and those that
    /// tasks send one after the other are written together. For a host that never computes for long.
    #[must_use]
    pub fn carried_by(level: Level, runtime: tokio::runtime::Handle) -> Self {
        Self {
            level,
            carriers: Some(runtime),
            pool: Arc::default(),
        }
    }

    fn isolation(&self) -> Isolation {
        match self.level {
            Level::Process => Isolation::Process,
            Level::Container => Isolation::Container,
        }
    }

    fn spec(&self, options: &IsolateOptions) -> JailSpec {
        let limits = &options.limits;
        let group = options.group.is_some();
        let isolates = if group { GROUP_SIZE as u32 } else { 1 };
        JailSpec {
            level: self.level,
            wx: match options.wx {
                stockade_policy::Wx::Jit => Wx::Jit,
                stockade_policy::Wx::Strict => Wx::Strict,
            },
            role: Role::Isolates,
            memory: limits.memory.map(|memory| together(memory, isolates)),
            cpu_share: (limits.cpu_share < CpuShare::FULL && !group)
                .then(|| limits.cpu_share.fraction()),
            isolates,
            threads: THREADS + 2 * isolates,
            cgroup: match options.cgroup {
                stockade_policy::CgroupUse::Auto => CgroupUse::Auto,
                stockade_policy::CgroupUse::Require => CgroupUse::Require,
            },
        }
    }
}

/// Memory of so many isolates with this limit: V8 holds each to its own, the kernel all of them to this.
/// Each has room for machine code of its own, of which a worker's limit counts one.
fn together(memory: u64, isolates: u32) -> u64 {
    let code = (CODE_RANGE as u64).saturating_mul(u64::from(isolates.saturating_sub(1)));
    memory
        .saturating_mul(u64::from(isolates))
        .saturating_add(code)
}

impl Wall for WorkerWall {
    fn start(&self, seat: Seat) -> Result<(), StartError> {
        let spec = self.spec(seat.options());
        let event_loop = event_loop()?;
        let mut seat = seat;
        if let Some(name) = seat.options().group.clone() {
            loop {
                let next = self.pool.lock().of_group(&name, &spec);
                let Some(link) = next else { break };
                match link.assign(seat) {
                    Ok(()) => return Ok(()),
                    Err(back) => seat = back,
                }
            }
            let link = launch(&spec, self.carriers.as_ref())?;
            let known = Arc::downgrade(&link);
            let mut pool = self.pool.lock();
            pool.groups.entry(name).or_default().push((spec, known));
            drop(pool);
            give(&link, seat);
            return Ok(());
        }
        loop {
            let next = self.pool.lock().take_ready(&spec);
            let Some(link) = next else { break };
            match link.assign(seat) {
                Ok(()) => return Ok(()),
                Err(back) => seat = back,
            }
        }
        let carriers = self.carriers.clone();
        event_loop.spawn_blocking(move || match launch(&spec, carriers.as_ref()) {
            Ok(link) => give(&link, seat),
            Err(error) => seat.start_failed(error),
        });
        Ok(())
    }

    fn warm_up(&self, options: &Arc<IsolateOptions>, count: usize) {
        if options.group.is_some() || options.isolation != self.isolation() {
            return;
        }
        let Ok(event_loop) = event_loop() else { return };
        let spec = self.spec(options);
        let missing = {
            let mut pool = self.pool.lock();
            let have = pool
                .ready
                .iter()
                .filter(|(with, link)| *with == spec && !link.is_gone())
                .count();
            let missing = count.saturating_sub(have + pool.coming);
            pool.coming += missing;
            missing
        };
        for _ in 0..missing {
            let (pool, spec) = (Arc::downgrade(&self.pool), spec.clone());
            let carriers = self.carriers.clone();
            event_loop.spawn(async move {
                tokio::time::sleep(REFILL_AFTER).await;
                let launching = move || (launch(&spec, carriers.as_ref()), spec);
                let launched = tokio::task::spawn_blocking(launching).await;
                let Some(pool) = pool.upgrade() else {
                    if let Ok((Ok(link), _)) = launched {
                        link.kill();
                    }
                    return;
                };
                let mut pool = pool.lock();
                pool.coming = pool.coming.saturating_sub(1);
                match launched {
                    Ok((Ok(link), spec)) => pool.ready.push((spec, link)),
                    Ok((Err(error), _)) => log::debug!("no worker kept ready: {error}"),
                    Err(error) => log::debug!("no worker kept ready: {error}"),
                }
            });
        }
    }
}

impl Drop for WorkerWall {
    fn drop(&mut self) {
        for (_, link) in self.pool.lock().ready.drain(..) {
            link.kill();
        }
    }
}

/// Starts a worker and the task that serves it.
fn launch(
    spec: &JailSpec,
    carriers: Option<&tokio::runtime::Handle>,
) -> Result<Arc<Link>, StartError> {
    let gathers = carriers.is_some();
    let event_loop = match carriers {
        Some(carriers) => carriers,
        None => event_loop()?,
    };
    let (sender, events) = unbounded_channel();
    let on_event = Box::new(move |event| {
        // The task is there until the last event.
        let _ = sender.send(event);
    });
    let (worker, socket) = Launcher::get()?.launch(spec, on_event)?;
    let task = {
        let _entered = event_loop.enter();
        rustix::io::ioctl_fionbio(&socket, true)
            .map_err(std::io::Error::from)
            .and_then(|()| Task::new(Link::new(worker, socket, gathers), events))
    };
    let task = task.map_err(|error| StartError {
        what: format!("cannot wait for messages of a worker: {error}"),
        checked: "ioctl(2) FIONBIO, epoll_ctl(2)".to_owned(),
        fix: "raise the limit on descriptors (ulimit -n)".to_owned(),
    })?;
    let link = task.link();
    event_loop.spawn(task);
    Ok(link)
}

impl From<JailError> for StartError {
    fn from(error: JailError) -> Self {
        Self {
            what: error.what,
            checked: error.checked,
            fix: error.fix,
        }
    }
}
