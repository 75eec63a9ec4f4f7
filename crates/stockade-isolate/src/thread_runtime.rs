//! What a thread needs to run isolates, one after the other.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use parking_lot::Mutex;
use stockade_inspector::Inspector;
use stockade_supervisor::{CpuClock, GuestContext, HelperMark};
use tokio::runtime::{Builder, EnterGuard, Runtime};

use crate::realm::Realm;
use crate::run;
use crate::sys::alloc::{Charging, charge_thread, new_counter};

/// Address space of an isolate's stack. V8 stops JavaScript at about 1 MB of it; the rest is for the
/// native code that JavaScript calls. Memory is taken only as it is used.
pub(crate) const STACK: usize = 4 << 20;

const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// The calling thread's event loop, the thread for its blocking work, and the counter of what both
/// allocate.
pub(crate) struct ThreadRuntime {
    runtime: Runtime,
    native: Arc<AtomicI64>,
    helper: Arc<Mutex<Helper>>,
    _charging: Charging,
}

/// The thread that does blocking work, such as making keys.
#[derive(Default)]
struct Helper {
    clock: Option<CpuClock>,
    /// Reports the thread's CPU clock to the isolate that the thread works for, while there is one.
    report_clock: Option<Box<dyn Fn(CpuClock) + Send>>,
}

impl ThreadRuntime {
    /// For the calling thread; further threads are made when they are needed. Time without I/O needs no
    /// descriptors, so that a thousand isolates of a process take none.
    pub(crate) fn new() -> io::Result<Self> {
        Self::build(Builder::new_current_thread().enable_time())
    }

    /// For the calling thread, with every thread that it will ever need. With `io` its event loop can
    /// wait for descriptors, and has some of its own.
    pub(crate) fn complete(io: bool) -> io::Result<Self> {
        let mut builder = Builder::new_current_thread();
        builder.enable_time().thread_keep_alive(FOR_EVER);
        if io {
            builder.enable_io();
        }
        let place = Self::build(&mut builder)?;
        let started = place.runtime.spawn_blocking(|| ());
        place.runtime.block_on(started).map_err(io::Error::other)?;
        Ok(place)
    }

    fn build(builder: &mut Builder) -> io::Result<Self> {
        let native = new_counter();
        let charging = Charging::to(Arc::clone(&native));
        let helper = Arc::new(Mutex::new(Helper::default()));
        let (helper_native, of_thread) = (Arc::clone(&native), Arc::clone(&helper));
        let runtime = builder
            .max_blocking_threads(1)
            .on_thread_start(move || {
                charge_thread(&helper_native);
                let clock = CpuClock::of_this_thread();
                let mut helper = of_thread.lock();
                helper.clock = Some(clock);
                if let Some(report_clock) = &helper.report_clock {
                    report_clock(clock);
                }
            })
            .build()?;
        Ok(Self {
            runtime,
            native,
            helper,
            _charging: charging,
        })
    }

    /// Runs `work` on this thread's event loop.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// What needs the event loop to be there, without running it.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    /// An isolate whose heap may grow to `memory` bytes.
    pub(crate) fn make_realm(&self, memory: Option<u64>, inspector: bool) -> Result<Realm, String> {
        let _entered = self.enter();
        Realm::new(memory, inspector)
    }

    /// Runs an isolate to its end.
    pub(crate) fn run(
        &self,
        realm: Realm,
        guest: GuestContext,
        inspector: Option<Inspector>,
    ) -> Rc<GuestContext> {
        {
            let report_clock = self.reporter(guest.helper_mark());
            let mut helper = self.helper.lock();
            if let Some(clock) = helper.clock {
                report_clock(clock);
            }
            helper.report_clock = Some(report_clock);
        }
        let guest = Rc::new(guest);
        let native = Arc::clone(&self.native);
        self.block_on(run::run(realm, Rc::clone(&guest), native, inspector));
        // It holds the event loop, which holds it.
        self.helper.lock().report_clock = None;
        guest
    }

    /// Says to an isolate's limits which thread works for it, and lets them ask whether that thread is idle.
    fn reporter(&self, mark: HelperMark) -> Box<dyn Fn(CpuClock) + Send> {
        let handle = self.runtime.handle().clone();
        Box::new(move |clock| {
            let (handle, of_thread) = (handle.clone(), mark.clone());
            let ask = move || {
                let mark = of_thread.clone();
                // It stands behind all that the thread was given before.
                drop(handle.spawn_blocking(move || mark.is_idle()));
            };
            mark.works(clock, Box::new(ask));
        })
    }
}
