//! Memory that Rust code holds for an isolate: blobs, queued port messages, compressors, keys.
//!
//! V8 knows its heap and its buffers; what ops allocate behind them it does not. The program's
//! allocator, [`MeteredAllocator`], counts per thread into the counter of the isolate that the thread
//! works for. [`blocks`](super::blocks) does so for what is not Rust's. Memory that changes hands is moved between counts by [`charge`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;

thread_local! {
    static COUNTER: Cell<*const AtomicI64> = const { Cell::new(std::ptr::null()) };
}

/// An allocator, as a rule the system's, counting what isolates hold outside V8.
///
/// A program that embeds isolates at level `thread` makes it its global allocator, so that memory
/// limits cover this too:
///
/// ```
/// use std::alloc::System;
/// use stockade_isolate::MeteredAllocator;
///
/// #[global_allocator]
/// static ALLOCATOR: MeteredAllocator = MeteredAllocator(System);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct MeteredAllocator<A = System>(pub A);

// SAFETY: every call goes to the inner allocator with the same arguments; counting touches no allocation.
unsafe impl<A: GlobalAlloc> GlobalAlloc for MeteredAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's obligations are those of the inner allocator.
        noted(unsafe { self.0.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's obligations are those of the inner allocator.
        noted(unsafe { self.0.alloc_zeroed(layout) })
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
        sub(layout.size());
        // SAFETY: the caller's obligations are those of the inner allocator.
        unsafe { self.0.dealloc(data, layout) }
    }

    unsafe fn realloc(&self, data: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        sub(layout.size());
        add(size);
        // SAFETY: the caller's obligations are those of the inner allocator.
        noted(unsafe { self.0.realloc(data, layout, size) })
    }
}

/// Passes on what the inner allocator gave; where that is nothing, the isolate of this thread has its end.
fn noted(data: *mut u8) -> *mut u8 {
    if data.is_null() {
        super::guard::exhausted();
    }
    data
}

fn count(bytes: i64) {
    let counter = COUNTER.get();
    if !counter.is_null() {
        // SAFETY: counters live as long as the process, see `UNUSED`.
        unsafe { &*counter }.fetch_add(bytes, Ordering::Relaxed);
    }
}

fn add(bytes: usize) {
    count(bytes as i64);
}

fn sub(bytes: usize) {
    count(-(bytes as i64));
}

/// Memory that this thread's isolate takes over (positive) or hands on (negative).
pub(crate) fn charge(bytes: i64) {
    count(bytes);
}

/// While it lives, what the calling thread allocates and frees is not counted. For what is the operator's: it has to be
/// freed under this, too, or on a thread that does not count.
pub(crate) struct Uncounted(*const AtomicI64);

impl Uncounted {
    pub(crate) fn begin() -> Self {
        Self(COUNTER.replace(std::ptr::null()))
    }
}

impl Drop for Uncounted {
    fn drop(&mut self) {
        COUNTER.set(self.0);
    }
}

/// Gives memory that was freed back to the kernel: as much as the allocator can.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) has no preconditions, and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The counter of the calling thread; null where it has none.
pub(super) fn counter() -> *const AtomicI64 {
    COUNTER.get()
}

/// Counters that no isolate uses. Blocks may outlive the isolate that they are counted for, so its counter goes to
/// another one.
static UNUSED: Mutex<Vec<Arc<AtomicI64>>> = Mutex::new(Vec::new());

/// A counter for the isolates of one thread, which gives it back with [`Charging`].
pub(crate) fn new_counter() -> Arc<AtomicI64> {
    let counter = UNUSED.lock().pop().unwrap_or_default();
    counter.store(0, Ordering::Relaxed);
    counter
}

/// While it lives, what the calling thread allocates counts into `counter`.
pub(crate) struct Charging {
    counter: Arc<AtomicI64>,
}

impl Charging {
    pub(crate) fn to(counter: Arc<AtomicI64>) -> Self {
        COUNTER.set(Arc::as_ptr(&counter));
        Self { counter }
    }
}

impl Drop for Charging {
    fn drop(&mut self) {
        COUNTER.set(std::ptr::null());
        let counter = Arc::clone(&self.counter);
        if counter.load(Ordering::Relaxed) > 0 {
            // Blocks are still counted here, and would be taken off another isolate's count when they are freed.
            std::mem::forget(counter);
        } else {
            UNUSED.lock().push(counter);
        }
    }
}

/// Charges the calling thread to `counter` for the rest of its life.
pub(crate) fn charge_thread(counter: &Arc<AtomicI64>) {
    std::mem::forget(Charging::to(Arc::clone(counter)));
}
