//! What the host's side, the guest's side and the watchdog of one isolate have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stockade_limits::IsolateOptions;
use stockade_protocol::{FIRST_PROBE, Probe, ProbeId, ProbeOrder, RequestId, ToIsolate};

use super::debug_entrance::DebugEntrance;
use super::open_requests::OpenRequests;
use super::probe_orders::ProbeOrders;
use super::queue::Queue;
use super::refusal::GuestSendError;
use super::termination::Termination;
use crate::end::ResourceUsage;
use crate::limits::activity::Activity;
use crate::limits::interrupt::{InterruptHandle, Outside};

/// How often a thread that waits for its rates checks whether its isolate is ending.
const CHECK_END: Duration = Duration::from_millis(20);

pub(crate) struct IsolateState {
    pub(crate) id: u32,
    pub(crate) options: Arc<IsolateOptions>,
    /// How long the isolate may take to stop by itself.
    pub(crate) grace: Duration,
    /// Messages to the guest.
    pub(crate) inbox: Queue<ToIsolate>,
    /// Requests of the guest that the host has not answered.
    pub(crate) requests: Mutex<OpenRequests>,
    /// How debuggers come in, where they may.
    debugger: Mutex<Option<Arc<dyn DebugEntrance>>>,
    /// What an operator wants to know of it.
    pub(crate) probes: ProbeOrders,
    pub(crate) activity: Activity,
    pub(crate) termination: Termination,
    /// Bytes of heap, ArrayBuffers and WebAssembly memory, when last measured.
    memory: AtomicU64,
    /// The most of that, or of what the kernel counted for its worker.
    peak: AtomicU64,
    /// Nanoseconds of CPU time that are known to be used.
    cpu: AtomicU64,
    interrupt: Mutex<Option<Arc<dyn InterruptHandle>>>,
}

impl IsolateState {
    pub(crate) fn new(id: u32, options: Arc<IsolateOptions>, grace: Duration) -> Self {
        let probes = ProbeOrders::default();
        if options.record_cpu {
            probes.push(FIRST_PROBE, ProbeOrder::Start(Probe::CpuProfile));
        }
        Self {
            id,
            grace,
            inbox: Queue::new(),
            requests: Mutex::default(),
            debugger: Mutex::new(None),
            probes,
            activity: Activity::new(options.limits.cpu_share),
            termination: Termination::default(),
            memory: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            cpu: AtomicU64::new(0),
            interrupt: Mutex::new(None),
            options,
        }
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.termination.has_begun()
    }

    /// Notes a request of the guest, or says why there is no room for it.
    pub(crate) fn open_request(&self, id: RequestId, bytes: usize) -> Result<(), GuestSendError> {
        let limit = self.options.limits.pending_requests as usize;
        self.requests.lock().open(id, bytes, limit)
    }

    pub(crate) fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    pub(crate) fn note_memory(&self, bytes: u64) {
        self.memory.store(bytes, Ordering::Relaxed);
        self.note_peak(bytes);
    }

    /// Notes that this much memory was in use at some time.
    pub(crate) fn note_peak(&self, bytes: u64) {
        self.peak.fetch_max(bytes, Ordering::Relaxed);
    }

    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Notes how much CPU time the isolate has used over its life.
    pub(crate) fn note_cpu(&self, cpu: Duration) {
        let cpu = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        self.cpu.fetch_max(cpu, Ordering::Relaxed);
    }

    /// CPU time over its life, now. Never less than before, and after its end what the kernel counted in all.
    pub(crate) fn cpu(&self) -> Duration {
        if let Some(cpu) = self.interrupt_handle().and_then(|handle| handle.cpu()) {
            self.note_cpu(cpu);
        }
        // A clock that is read while an activation ends may be a little ahead of what the activation counts as.
        self.note_cpu(self.activity.cpu().0 + self.activity.helper_cpu());
        Duration::from_nanos(self.cpu.load(Ordering::Relaxed))
    }

    /// What it has used, as far as that is known in this process.
    pub(crate) fn usage(&self) -> ResourceUsage {
        if let Some(outside) = self.outside() {
            self.note_cpu(outside.usage.cpu_total);
            return outside.usage;
        }
        let usage = self.activity.usage();
        let (cpu_total, cpu) = self.activity.cpu();
        let cpu_total = cpu_total + self.activity.helper_cpu();
        ResourceUsage {
            cpu,
            // Of an isolate whose worker has ended.
            cpu_total: cpu_total.max(Duration::from_nanos(self.cpu.load(Ordering::Relaxed))),
            wall: usage.map_or(Duration::ZERO, |usage| usage.elapsed),
            memory: self.memory(),
        }
    }

    /// Gives the isolate's thread an order, whatever it is doing.
    pub(crate) fn order(&self, id: ProbeId, order: ProbeOrder) {
        if let Some(debugger) = self.debugger() {
            match order {
                ProbeOrder::Start(Probe::Debugger) => return debugger.open(id),
                ProbeOrder::Start(_) => {}
                ProbeOrder::Stop => debugger.close(id),
            }
        }
        self.probes.push(id, order);
        if let Some(interrupt) = self.interrupt_handle() {
            interrupt.interrupt();
        }
        self.inbox.wake_consumer();
    }

    /// The way in for debuggers, where there is one.
    pub(crate) fn debugger(&self) -> Option<Arc<dyn DebugEntrance>> {
        self.debugger.lock().clone()
    }

    /// Lets debuggers in, or, as the isolate does when it leaves, no more: the way in leads back to the isolate.
    pub(crate) fn set_debugger(&self, debugger: Option<Arc<dyn DebugEntrance>>) {
        // What was there is dropped without the lock.
        let before = std::mem::replace(&mut *self.debugger.lock(), debugger);
        drop(before);
    }

    /// What is known of an isolate in another process.
    pub(crate) fn outside(&self) -> Option<Outside> {
        self.interrupt_handle()?.outside()
    }

    pub(crate) fn interrupt_handle(&self) -> Option<Arc<dyn InterruptHandle>> {
        self.interrupt.lock().clone()
    }

    pub(crate) fn set_interrupt_handle(&self, handle: Option<Arc<dyn InterruptHandle>>) {
        *self.interrupt.lock() = handle;
    }

    /// Waits on the isolate's own thread, no longer than it has to live.
    pub(crate) fn sleep_unless_ending(&self, wait: Duration) {
        let until = Instant::now() + wait;
        while !self.is_ending() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(CHECK_END));
        }
    }
}
