//! The allocator of ArrayBuffers: counts them and refuses what goes over the budget.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use deno_core::v8;

/// Bytes of one isolate's ArrayBuffers, and how many it may have.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    bytes: AtomicU64,
    /// 0: no limit.
    limit: AtomicU64,
    /// Bytes of the JavaScript heap, when last measured.
    heap: AtomicU64,
    /// Full garbage collections so far.
    collections: AtomicU32,
    /// `collections + 1` at the first refusal since something was granted; 0: none.
    refused_at: AtomicU32,
}

impl Buffers {
    /// Sets how many bytes heap and buffers may hold together.
    pub(crate) fn set_limit(&self, limit: Option<u64>) {
        self.limit.store(limit.unwrap_or(0), Ordering::Relaxed);
    }

    /// Notes the size of the heap.
    pub(crate) fn note_heap(&self, bytes: u64) {
        self.heap.store(bytes, Ordering::Relaxed);
    }

    /// Notes that a full garbage collection took place.
    pub(crate) fn note_collection(&self) {
        self.collections.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes of buffers and heap together, the heap when last measured.
    pub(crate) fn held(&self) -> u64 {
        self.bytes()
            .saturating_add(self.heap.load(Ordering::Relaxed))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes `len` bytes out of the budget; false when it does not hold them.
    fn take(&self, len: u64) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let held = self.bytes.fetch_add(len, Ordering::Relaxed);
        let total = held
            .saturating_add(len)
            .saturating_add(self.heap.load(Ordering::Relaxed));
        if limit == 0 || total <= limit {
            self.refused_at.store(0, Ordering::Relaxed);
            return true;
        }
        self.bytes.fetch_sub(len, Ordering::Relaxed);
        let now = self.collections.load(Ordering::Relaxed) + 1;
        let first = self.refused_at.load(Ordering::Relaxed);
        if first == 0 {
            self.refused_at.store(now, Ordering::Relaxed);
        }
        // V8 collects garbage and asks again: a refusal after that is for want of memory.
        if len > limit || (first != 0 && first < now) {
            super::guard::memory_exceeded();
        }
        false
    }

    fn give_back(&self, len: u64) {
        self.bytes.fetch_sub(len, Ordering::Relaxed);
    }
}

/// An allocator that counts into `buffers`.
pub(crate) fn allocator(buffers: &Arc<Buffers>) -> v8::UniqueRef<v8::Allocator> {
    const VTABLE: &v8::RustAllocatorVtable<Buffers> = &v8::RustAllocatorVtable {
        allocate,
        allocate_uninitialized,
        free,
        drop: release,
    };
    // SAFETY: the handle comes from `Arc::into_raw` and each function of the table takes it as the
    // `Buffers` it is; `release` gives the reference back.
    unsafe { v8::new_rust_allocator(Arc::into_raw(Arc::clone(buffers)), VTABLE) }
}

unsafe extern "C" fn allocate(buffers: &Buffers, len: usize) -> *mut c_void {
    if !buffers.take(len as u64) {
        return std::ptr::null_mut();
    }
    // SAFETY: calloc(3) takes any sizes; at least one byte is asked for, so null means failure.
    let data = unsafe { libc::calloc(len.max(1), 1) };
    if data.is_null() {
        buffers.give_back(len as u64);
    }
    data
}

unsafe extern "C" fn allocate_uninitialized(buffers: &Buffers, len: usize) -> *mut c_void {
    // Zeroed all the same: fresh memory may hold what another isolate left.
    // SAFETY: the same contract as `allocate`.
    unsafe { allocate(buffers, len) }
}

unsafe extern "C" fn free(buffers: &Buffers, data: *mut c_void, len: usize) {
    buffers.give_back(len as u64);
    // SAFETY: V8 frees what `allocate` gave it, once.
    unsafe { libc::free(data) };
}

unsafe extern "C" fn release(buffers: *const Buffers) {
    // SAFETY: the pointer came from `Arc::into_raw` in `allocator`, and V8 drops it once.
    drop(unsafe { Arc::from_raw(buffers) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_over_limit_are_refused_and_given_back() {
        let buffers = Buffers::default();
        buffers.set_limit(Some(100));
        buffers.note_heap(40);
        assert!(buffers.take(60));
        assert!(!buffers.take(1));
        assert_eq!(buffers.bytes(), 60);
        buffers.give_back(60);
        assert!(buffers.take(60));
    }

    #[test]
    fn buffers_without_limit_are_granted() {
        let buffers = Buffers::default();
        assert!(buffers.take(u64::MAX / 2));
    }
}
