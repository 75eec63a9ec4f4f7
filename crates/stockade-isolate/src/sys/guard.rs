//! What holds an isolate to its memory, and its thread away from ending the process.
//!
//! Invariant: a thread that V8, or a panic inside V8's frames, would have the process abort for, stops
//! for good instead ([`park`]); its isolate is marked terminated first, so the supervisor reports its end.

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_void};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use deno_core::v8;
use stockade_supervisor::{GuestContext, TerminateReason};

use super::buffers::Buffers;
use super::interrupt::V8InterruptHandle;

/// Heap that an isolate over its limit may still take to get out of what it is doing.
const HEADROOM: usize = 32 << 20;

thread_local! {
    static GUARD: RefCell<Option<Guard>> = const { RefCell::new(None) };
    /// JavaScript has stopped for good and the isolate is being taken apart.
    static WINDING_DOWN: Cell<bool> = const { Cell::new(false) };
}

/// What the callbacks on an isolate's thread need.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) guest: Rc<GuestContext>,
    pub(crate) interrupt: Arc<V8InterruptHandle>,
    pub(crate) buffers: Arc<Buffers>,
    /// Bytes that Rust code and ICU hold for the isolate.
    pub(crate) native: Arc<AtomicI64>,
    /// The guest's realm.
    pub(crate) context: Rc<v8::Global<v8::Context>>,
    /// Takes samples and follows orders of an operator, where JavaScript was interrupted.
    pub(crate) probe: Rc<dyn Fn(&mut v8::Isolate)>,
}

impl Guard {
    /// Makes this the calling thread's guard until dropped.
    pub(crate) fn enter(self) -> Entered {
        WINDING_DOWN.set(false);
        GUARD.with(|guard| *guard.borrow_mut() = Some(self));
        Entered(())
    }
}

/// See [`Guard::enter`].
pub(crate) struct Entered(());

impl Drop for Entered {
    fn drop(&mut self) {
        GUARD.with(|guard| *guard.borrow_mut() = None);
    }
}

fn current() -> Option<Guard> {
    GUARD
        .try_with(|guard| guard.try_borrow().ok()?.clone())
        .ok()
        .flatten()
}

/// Stops the calling thread for good. The isolate is ending by then; a worker process is ended for it.
fn park(guard: Guard) -> ! {
    if guard.guest.is_in_worker() {
        guard.guest.report();
    }
    drop(guard);
    loop {
        std::thread::park();
    }
}

/// Ends the isolate of the calling thread for its memory.
pub(super) fn memory_exceeded() {
    if let Some(guard) = current() {
        guard.guest.memory_exceeded();
    }
}

/// The process has no memory for the isolate of the calling thread. Engine and allocators may break down at
/// that, so a worker ends here, with the exit code by which its supervisor knows the reason. No lock is taken
/// and nothing is reported: the caller may hold any lock, and to report takes memory itself.
pub(super) fn exhausted() {
    if current().is_some_and(|guard| guard.guest.is_in_worker()) {
        stockade_jail::leave(stockade_jail::EXIT_MEMORY);
    }
}

/// Ends the isolate of the calling thread where it is, and notes where that was.
pub(super) fn stop_here(isolate: &mut v8::Isolate) {
    if let Some(guard) = current() {
        guard.interrupt.stop_here(isolate, &guard.context);
    }
}

/// Whether the calling thread's isolate has room for a block of this size in bytes; it is ended if it has not.
/// Once it runs no more JavaScript it has: what is left then is taking it apart.
pub(super) fn has_room(bytes: u64) -> bool {
    let Some(guard) = current().filter(|_| !WINDING_DOWN.get()) else {
        return true;
    };
    let Some(limit) = guard.guest.options().limits.memory else {
        return true;
    };
    let held = (guard.buffers.held()).saturating_add(native(&guard));
    let room = held.saturating_add(bytes) <= limit.saturating_add(slack(limit));
    if !room {
        guard.guest.memory_exceeded();
    }
    room
}

/// Ends the calling thread's isolate if it has no room for a block of this size in bytes, for code that cannot go on
/// without the block. The thread stops for good where the block would be far beyond the limit.
pub(super) fn hold_to_limit(bytes: u64) {
    if has_room(bytes) {
        return;
    }
    let Some(guard) = current() else { return };
    let limit = guard.guest.options().limits.memory.unwrap_or(u64::MAX);
    let held = (guard.buffers.held()).saturating_add(native(&guard));
    if held.saturating_add(bytes) > limit.saturating_add(slack(limit).saturating_mul(4)) {
        tracing::warn!(
            "isolate #{} ran out of memory inside a function of Intl",
            guard.guest.id()
        );
        park(guard);
    }
}

/// How far over its limit an isolate may be for a moment: what it holds may be garbage.
fn slack(limit: u64) -> u64 {
    (limit / 4).max(HEADROOM as u64)
}

/// Measures the isolate's memory, looks for an operator's orders, and lets others have their turn.
pub(super) fn checkpoint(isolate: &mut v8::Isolate) {
    if let Some(guard) = current() {
        guard.interrupt.served();
        judge(&guard, isolate);
        (guard.probe)(isolate);
        guard.guest.checkpoint();
    }
}

/// The isolate of this thread runs no more JavaScript: collecting what it leaves may take memory.
pub(crate) fn wind_down() {
    WINDING_DOWN.set(true);
}

/// Measures the memory of the isolate and ends it when it is over the limit; true if garbage was collected.
pub(crate) fn measure_memory(isolate: &mut v8::Isolate) -> bool {
    current().is_some_and(|guard| judge(&guard, isolate))
}

/// Measures the memory of the isolate: bytes that it holds, garbage included.
pub(crate) fn held_memory(isolate: &mut v8::Isolate) -> u64 {
    current().map_or(0, |guard| measure(&guard, isolate).total)
}

/// What is over the limit may be garbage: it is collected before the isolate is judged by it, unless
/// the engine's own part is far over. True if garbage was collected.
fn judge(guard: &Guard, isolate: &mut v8::Isolate) -> bool {
    let Some(limit) = guard.guest.options().limits.memory else {
        measure(guard, isolate);
        return false;
    };
    let before = measure(guard, isolate);
    if before.engine > limit.saturating_add(slack(limit)) {
        guard.guest.memory_exceeded();
    } else if before.total > limit {
        isolate.low_memory_notification();
        if measure(guard, isolate).total > limit {
            guard.guest.memory_exceeded();
        }
        return true;
    }
    false
}

/// Bytes that an isolate holds, garbage included.
struct Held {
    /// In the heap, buffers and WebAssembly memory.
    engine: u64,
    /// The heap and what Rust code and ICU hold for it.
    total: u64,
}

fn measure(guard: &Guard, isolate: &mut v8::Isolate) -> Held {
    let heap = isolate.get_heap_statistics().used_heap_size() as u64;
    guard.buffers.note_heap(heap);
    // A change of 0 gives the sum of everything V8 knows outside its heap, WebAssembly memory included
    // (`external_memory` of the statistics lacks that). The allocator also knows buffers in the making.
    let external = isolate.adjust_amount_of_external_allocated_memory(0);
    let external = u64::try_from(external)
        .unwrap_or(0)
        .max(guard.buffers.bytes());
    let engine = heap.saturating_add(external);
    let total = engine.saturating_add(native(guard));
    guard.guest.note_memory(total);
    Held { engine, total }
}

/// Bytes that Rust code and ICU hold for the isolate.
fn native(guard: &Guard) -> u64 {
    u64::try_from(guard.native.load(Ordering::Relaxed)).unwrap_or(0)
}

/// Holds an isolate to its memory from now on.
pub(crate) fn watch_memory(isolate: &mut v8::Isolate) {
    isolate.add_near_heap_limit_callback(near_heap_limit, std::ptr::null_mut());
    isolate.add_gc_epilogue_callback(collected, std::ptr::null_mut(), v8::GCType::kGCTypeAll);
    isolate.set_oom_error_handler(out_of_memory);
}

/// V8 is about to run out of heap; the answer is the new limit.
unsafe extern "C" fn near_heap_limit(
    _data: *mut c_void,
    current_limit: usize,
    initial: usize,
) -> usize {
    let Some(guard) = current() else {
        return current_limit + HEADROOM;
    };
    guard.guest.memory_exceeded();
    if current_limit >= initial + HEADROOM && !WINDING_DOWN.get() {
        // Still allocating after its termination was requested: it is inside code that does not check for that. To
        // return the same limit would have V8 abort the process.
        tracing::warn!(
            "isolate #{} ran out of memory inside a built-in function",
            guard.guest.id()
        );
        park(guard);
    }
    current_limit + HEADROOM
}

unsafe extern "C" fn collected(
    isolate: v8::UnsafeRawIsolatePtr,
    kind: v8::GCType,
    _flags: v8::GCCallbackFlags,
    _data: *mut c_void,
) {
    if let Some(guard) = current() {
        // SAFETY: V8 passes the isolate whose collection just ended, alive during the callback.
        let mut isolate = unsafe { v8::Isolate::from_raw_isolate_ptr(isolate) };
        let held = measure(&guard, &mut isolate);
        if kind == v8::GCType::kGCTypeMarkSweepCompact {
            guard.buffers.note_collection();
            // What a full collection leaves of the engine's own is alive. What garbage held elsewhere is given
            // back only after this callback.
            if guard
                .guest
                .options()
                .limits
                .memory
                .is_some_and(|limit| held.engine > limit)
            {
                guard.guest.memory_exceeded();
            }
        }
    }
}

/// V8 cannot go on without memory and would abort the process when this returns.
unsafe extern "C" fn out_of_memory(_location: *const c_char, _details: &v8::OomDetails) {
    if let Some(guard) = current() {
        guard.guest.memory_exceeded();
        tracing::warn!(
            "isolate #{} ran out of memory where V8 cannot recover",
            guard.guest.id()
        );
        park(guard);
    }
}

/// Turns a panic on an isolate's thread into the end of that isolate.
///
/// A panic inside a callback from V8 would abort the process, for it cannot unwind through C++. The
/// thread stops inside the hook instead, before unwinding begins.
pub(crate) fn install_panic_hook() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let Some(guard) = current() else {
            return previous(info);
        };
        tracing::error!("isolate #{}: {info}", guard.guest.id());
        guard.guest.terminate(
            TerminateReason::Crashed,
            "the runtime failed inside the isolate",
        );
        park(guard);
    }));
}
